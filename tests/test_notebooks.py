"""Every notebook keeps the contract, and runs from top to bottom at its quick size."""

import ast
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

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
    assert headings[-len(ending) :] == ending


@each_notebook
def test_exercises_have_solutions(path):
    texts = "\n".join(source(cell) for cell in cells(path, "markdown"))
    exercises = re.findall(r"^\*\*\d+\. ", texts.split("## Exercises")[1], flags=re.M)
    assert len(exercises) == len(tagged(path, "solution")) > 0


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
        wanted = {"caption", "alt"} if call.func.attr == "save_figure" else {"caption"}
        assert {keyword.arg for keyword in call.keywords} == wanted


def test_the_registry_has_what_the_notebooks_save_and_nothing_else():
    registered = report.registry()
    saved = {}
    for path in NOTEBOOKS:
        code = "\n".join(source(cell) for cell in cells(path, "code"))
        for kind, name in re.findall(r'run\.save_(figure|table)\(\s*[\w.\[\]]+,\s*"([^"]+)"', code):
            assert name not in saved, f"{name} of {path.stem} is {saved[name]} already"
            saved[name] = (kind, path.stem)
    assert saved == {row.Index: (row.kind, row.notebook) for row in registered.itertuples()}
    assert registered.index.is_unique
    assert (registered.title != "").all()
    printed = registered.index[registered.index.str.contains(r"-(?:fig|table)\d")]
    assert (registered.loc[printed, "number"] != "").all()


def test_the_readme_shows_the_gallery():
    assert report.gallery() in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run all notebooks headlessly, once, as `make figures` does, into a folder of their own."""
    folder = tmp_path_factory.mktemp("output")
    command = [sys.executable, "-m", "somlib.companion.cli", "reproduce", "--output", str(folder)]
    environment = os.environ | {"PYTHONWARNINGS": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done, folder


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
    names = re.findall(r'run\.save_(figure|table)\(\s*[\w.\[\]]+,\s*"([\w-]+)"', code)
    index = (folder / "figures" / "quick" / "README.md").read_text(encoding="utf-8")
    assert names
    for kind, name in names:
        record = json.loads((folder / "figures" / "quick" / f"{name}.json").read_text())
        assert record["notebook"] == path.stem
        suffixes = (".png", ".svg") if kind == "figure" else (".csv", ".md")
        for suffix in suffixes:
            file = folder / "figures" / "quick" / f"{name}{suffix}"
            if kind == "figure":
                assert file.stat().st_size > 1000
            else:  # a heading and something under it
                assert len(file.read_text(encoding="utf-8").split("\n")) > 2
        assert name in index


@each_notebook
def test_nothing_is_warned_about_and_no_cell_prints_noise(finished, path):
    _, folder = finished
    executed = read(folder / "runs" / "quick" / path.name)
    for cell in executed["cells"]:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", output.get("text")
