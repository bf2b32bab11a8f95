"""The notes for teachers agree with the notebooks: paths, times, exercises."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from somlib import report

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "book" / "teaching"
NOTEBOOKS = {path.stem: path for path in report.notebooks()[0]}
PAGES = {path.stem: path for path in FOLDER.glob("[0-9]*.md")}
SECTIONS = [
    "The path in 50 minutes",
    "Prepare",
    "On the board",
    "Misconceptions",
    "Three questions",
    "Exercises",
    "Project",
]
each_page = pytest.mark.parametrize("name", sorted(PAGES))


def sections(name):
    """Return the text of each section of a page, by heading."""
    parts = re.split(r"^## (.+)\n", PAGES[name].read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def prose(name):
    cells = json.loads(NOTEBOOKS[name].read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def rows(text):
    """Return the rows of the first table in a text, without its heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[part.strip() for part in line.strip("|").split(" | ")] for line in lines][2:]


def minutes(name):
    """Return the minutes of each section as the notebook's first cell states them."""
    opening = prose(name).partition("\n\n## ")[0]
    return {row[0]: int(row[1]) for row in rows(opening) if row[1].isdigit()}


def exercises(text):
    """Return (number, title, stars) of the exercises of a notebook or of a page."""
    found = re.findall(r"^\*\*(\d+)\. (.+?)\*\*(.*)$", text, flags=re.M)
    return {
        (int(number), bare(title), (title + rest.split(".")[0]).count("★"))
        for number, title, rest in found
    }


def bare(title):
    """Return a title without its stars and what stands in brackets with them."""
    return re.sub(r"\(★[^)]*\)|★", "", title).strip().rstrip(".").strip()


def test_every_notebook_has_its_page_and_the_course_leads_to_each():
    assert PAGES.keys() == NOTEBOOKS.keys()
    course = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\((\d\d_\w+)\.md\)", course)) == PAGES.keys()


@each_page
def test_a_page_has_the_sections_of_all_pages(name):
    assert PAGES[name].read_text(encoding="utf-8").startswith(f"# {name[:2]} · ")
    assert list(sections(name)) == SECTIONS


@each_page
def test_the_path_takes_50_minutes_within_the_times_of_the_notebook(name):
    path = {row[0]: int(row[1]) for row in rows(sections(name)["The path in 50 minutes"])}
    assert sum(path.values()) == 50
    stated = minutes(name)
    if stated:
        assert path.keys() <= stated.keys()
        assert all(time <= stated[section] for section, time in path.items())
    else:
        assert path.keys() <= set(re.findall(r"^## (.+)$", prose(name), flags=re.M))


@each_page
def test_three_questions_have_folded_answers(name):
    parts = re.split(r"^\*\*(\d)\.\*\* ", sections(name)["Three questions"], flags=re.M)
    assert parts[1::2] == ["1", "2", "3"]
    for part in parts[2::2]:
        question, fold, answer = part.partition("<details>\n<summary>Answer</summary>\n\n")
        assert question.rstrip().endswith("?")
        assert fold
        assert len(answer.partition("\n\n</details>")[0].split()) > 15


@each_page
def test_misconceptions_are_answered(name):
    found = re.findall(r'^\*\*"(.+?)"\*\* (.+)', sections(name)["Misconceptions"], flags=re.M)
    assert len(found) >= 5


@each_page
def test_exercises_are_those_of_the_notebook_from_easy_to_hard(name):
    table = rows(sections(name)["Exercises"])
    listed = [(*re.fullmatch(r"(\d+)\. (.+)", row[1]).groups(), len(row[0])) for row in table]
    given = {(int(number), bare(title), level) for number, title, level in listed}
    theirs = exercises(prose(name))
    assert given <= theirs, given - theirs
    assert {level for *_, level in theirs} == {level for *_, level in given} == {1, 2, 3}
    assert [level for *_, level in listed] == sorted(level for *_, level in listed)


@each_page
def test_claims_and_figures_that_a_page_names_exist(name):
    notebook = NOTEBOOKS[name].read_text(encoding="utf-8")
    prefix = {"foundations", "som", "soae", "desom", "somrl", "vae", "results"}
    for word in re.findall(r"`([a-z]+-[a-z0-9-]+)`", PAGES[name].read_text(encoding="utf-8")):
        if word.partition("-")[0] in prefix:
            assert f'\\"{word}\\"' in notebook, word


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_links_and_pictures_of_the_notes_exist_and_have_texts(path):
    for text, target in re.findall(r"\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        assert text
        assert (path.parent / target).is_file(), target


@pytest.mark.parametrize("path", sorted(FOLDER.glob("boards/*.svg")), ids=lambda path: path.stem)
def test_sketches_are_drawings_with_a_title_that_load_nothing(path):
    root = ET.parse(path).getroot()
    assert root.findtext("{*}title")
    text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "http" not in text
    assert "href" not in text
