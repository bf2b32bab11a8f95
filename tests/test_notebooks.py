"""Every notebook keeps the contract, and runs from top to bottom at its quick size."""

import ast
import json
import re
import statistics
from pathlib import Path

import pandas as pd
import pytest

from somlib import report

ROOT = Path(__file__).parents[1]
NOTEBOOKS, BESIDE = report.notebooks()
ids = [path.stem for path in NOTEBOOKS]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=ids)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell):
    return "".join(cell["source"])


def cells(path, kind):
    return [cell for cell in read(path)["cells"] if cell["cell_type"] == kind]


def tagged(path, tag):
    return [c for c in cells(path, "code") if tag in c["metadata"].get("tags", [])]


def test_there_are_notebooks_and_they_are_numbered():
    assert ids
    assert not BESIDE, "neither in figures/registry.csv nor run"
    assert all(re.fullmatch(r"\d\d_[a-z_]+", name) for name in ids)


@each_notebook
def test_it_is_committed_clean(path):
    notebook = read(path)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@each_notebook
def test_code_cells_are_short(path):
    lengths = [len(source(cell).splitlines()) for cell in cells(path, "code")]
    assert statistics.median(lengths) <= 5
    assert max(lengths) <= 25


@each_notebook
def test_one_parameters_cell_declares_and_explains_each_parameter(path):
    (cell,) = tagged(path, "parameters")
    lines = source(cell).splitlines()
    assert all(re.fullmatch(r"\w+: \w+ = .+  # .+", line) for line in lines)
    names = [line.split(":")[0] for line in lines]
    assert names[:4] == ["profile", "device", "n_seeds", "deterministic"]
    assert len(names) <= 9
    declared = {
        node.target.id: ast.literal_eval(node.value) for node in ast.parse(source(cell)).body
    }
    assert declared["profile"] == "quick"
    assert declared["device"] == "auto"


@each_notebook
def test_it_opens_with_what_is_learnt_and_ends_as_all_do(path):
    texts = [source(cell) for cell in cells(path, "markdown")]
    assert texts[0].startswith(f"# {path.stem[:2]} · ")
    assert "You will learn" in texts[0]
    assert "Time" in texts[0]
    headings = re.findall(r"^## (.+)$", "\n".join(texts), flags=re.M)
    ending = ["Summary", "Deviations from the paper", "Limits", "Exercises", "References", "Next"]
    lesson = [heading for heading in headings if not heading.startswith("Appendix")]
    assert lesson[-len(ending) :] == ending
    assert headings[: len(lesson)] == lesson  # appendices come last


def is_solution(cell):
    return "solution" in cell["metadata"].get("tags", [])


ANSWER_LIKE = re.compile(r"\*[^*].*[^*]\*$|\W*(answer|solution)s?\b", flags=re.I | re.S)
"""A paragraph in italics, or one that begins with the word."""


def without_answers(cells):
    """Return what is wrong with a section of exercises: answers that a handout would keep."""
    problems = []
    number, answers = 0, 1
    for cell in cells:
        before, heading, after = source(cell).partition("## Exercises")
        text = after if heading else before
        starts = [int(n) for n in re.findall(r"^\*\*(\d+)\. ", text, flags=re.M)]
        if is_solution(cell):
            answers += 1
            headings = cell["cell_type"] == "markdown" and re.search(r"^#+ ", text, flags=re.M)
            if starts or headings:
                problems.append(f"a solution holds what a student needs: {text[:50]!r}")
            continue
        if not heading and not re.match(r"\*\*\d+\. ", text):
            problems.append(f"no question begins here, and no tag says solution: {text[:50]!r}")
        if any(map(ANSWER_LIKE.match, re.split(r"\n\s*\n", text.strip()))):
            problems.append(f"reads like an answer: {text[:50]!r}")
        if not starts and heading:
            continue  # some words on all of them
        if starts != [number + 1] or not answers:
            problems.append(f"expected question {number + 1} after an answer: {text[:50]!r}")
        number, answers = number + 1, 0
    if not answers or not number:
        problems.append("the last question has no answer, or there is none")
    return problems


def exercises(path):
    """Return the cells from the heading "Exercises" to the next heading of that level."""
    found = []
    for cell in read(path)["cells"]:
        heads = re.findall(r"^## (.+)$", source(cell), flags=re.M)
        if cell["cell_type"] == "markdown" and heads:
            if "Exercises" in heads:
                assert heads[-1] == "Exercises", "the heading after the exercises needs its cell"
                found = [cell]
                continue
            if found:
                return found
        if found:
            found.append(cell)
    return found


@each_notebook
def test_without_its_solutions_it_answers_no_exercise(path):
    assert without_answers(exercises(path)) == []


def markdown_cell(text, *tags):
    return {"cell_type": "markdown", "metadata": {"tags": list(tags)}, "source": text}


QUESTION, NEXT = markdown_cell("## Exercises\n\n**1. Why?** Say it."), markdown_cell("**2. How?**")
ANSWER = markdown_cell("*Because.*", "solution")


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([QUESTION, ANSWER, NEXT, ANSWER, ANSWER], None),
        ([QUESTION, NEXT, ANSWER], "expected question 2 after an answer"),
        ([QUESTION, ANSWER, NEXT], "the last question has no answer"),
        ([QUESTION, markdown_cell("*Because.*"), NEXT, ANSWER], "no question begins here"),
        ([QUESTION, ANSWER, markdown_cell("*So.*\n\n**2. How?**"), ANSWER], "no question begins"),
        ([QUESTION, ANSWER, markdown_cell("**2. How?**\n\n*So.*"), ANSWER], "like an answer"),
        ([markdown_cell("## Exercises\n\n**1. Why?**\n\n**2. How?**"), ANSWER], "question 1"),
        ([QUESTION, markdown_cell("*So.*\n\n**2. How?**", "solution")], "a student needs"),
        ([QUESTION, ANSWER, markdown_cell("Answer: so."), NEXT, ANSWER], "like an answer"),
    ],
)
def test_answers_that_a_handout_would_keep_are_found(cells, problem):
    problems = without_answers(cells)
    assert any(problem in found for found in problems) if problem else not problems


CLAIMED = re.compile(r'run\.claim\(\s*"([^"]+)"')


def claims_of(path):
    return CLAIMED.findall("\n".join(source(cell) for cell in cells(path, "code")))


def test_an_id_of_a_claim_stands_once_in_all_notebooks():
    names = [name for path in NOTEBOOKS for name in claims_of(path)]
    assert len(names) == len(set(names))


@each_notebook
def test_prose_leans_on_claims_that_the_committed_full_run_bears_out(path):
    """Of a claim that the committed run has not made, only id and word are checked."""
    record = ROOT / "figures" / "full" / "claims" / path.name.replace(".ipynb", ".csv")
    found = pd.read_csv(record).set_index("name")["verdict"] if record.exists() else {}
    for cell in read(path)["cells"]:
        for name, presumed in cell["metadata"].get("claims", {}).items():
            assert name in claims_of(path), f"{name} is claimed nowhere in {path.stem}"
            assert presumed in ("holds", "does not hold", "undecided")
            assert found.get(name, presumed) == presumed, source(cell)


@each_notebook
def test_every_figure_and_table_is_saved_by_the_run_with_texts(path):
    code = "\n".join(source(cell) for cell in cells(path, "code"))
    assert "savefig" not in code
    assert "to_csv" not in code
    calls = [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "").startswith("save_")
    ]
    assert {call.func.value.id for call in calls} == {"run"}
    names = [call.args[1].value for call in calls]
    assert len(names) == len(set(names))
    for call in calls:
        wanted = {"caption"} if call.func.attr == "save_table" else {"caption", "alt"}
        given = {keyword.arg for keyword in call.keywords}
        # an interactive piece has a picture for pages without scripts; that of frames is its own
        assert given - ({"fallback"} if call.func.attr == "save_interactive" else set()) == wanted


LEFT = {"figure": (".png", ".svg"), "table": (".csv", ".md"), "interactive": (".html", ".png")}
SAVED = re.compile(r'run\.save_(figure|table|interactive)\(\s*[\w.\[\]]+,\s*"([^"]+)"')


def saved_in(code):
    """Return kind and id of everything that a notebook's code saves."""
    return SAVED.findall(code)


def test_the_registry_has_what_the_notebooks_save_and_nothing_else():
    registered = report.registry()
    saved = {}
    for path in NOTEBOOKS:
        code = "\n".join(source(cell) for cell in cells(path, "code"))
        for kind, name in saved_in(code):
            assert name not in saved, f"{name} of {path.stem} is {saved[name]} already"
            saved[name] = (kind, path.stem)
    assert saved == {row.Index: (row.kind, row.notebook) for row in registered.itertuples()}
    assert registered.index.is_unique
    assert (registered.title != "").all()
    printed = registered.index[registered.index.str.contains(r"-(?:fig|table)\d")]
    assert (registered.loc[printed, "number"] != "").all()


def test_the_readme_shows_the_gallery():
    assert report.gallery() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_all_of_them_run_headlessly(finished):
    done, folder = finished
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ids:
        assert (folder / "runs" / "quick" / f"{name}.ipynb").exists()
        assert (folder / "runs" / "quick" / f"{name}.html").exists()


@each_notebook
def test_each_leaves_every_figure_and_table_that_it_names(finished, path):
    _, folder = finished
    code = "\n".join(source(cell) for cell in cells(path, "code"))
    names = saved_in(code)
    index = (folder / "figures" / "quick" / "README.md").read_text(encoding="utf-8")
    assert names
    for kind, name in names:
        record = json.loads((folder / "figures" / "quick" / f"{name}.json").read_text())
        assert record["notebook"] == path.stem
        for suffix in LEFT[kind]:
            file = folder / "figures" / "quick" / f"{name}{suffix}"
            if kind == "table":  # a heading and something under it
                assert len(file.read_text(encoding="utf-8").split("\n")) > 2
            else:
                assert file.stat().st_size > 1000
        assert name in index


@each_notebook
def test_nothing_is_warned_about_and_no_cell_prints_noise(finished, path):
    _, folder = finished
    executed = read(folder / "runs" / "quick" / path.name)
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.get("text")
