"""Slides show what a lecture needs, fit on the screen, and load nothing from elsewhere."""

import re

import nbformat
import numpy as np
import pytest
from helpers import make_project
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from somlib import interactive
from somlib.companion import cli, slides


def picture():
    return new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "<Figure>"})


def text_of(cells):
    return "\n".join(cell.source for cell in cells if "transient" not in cell.metadata)


def kinds(*cells):
    made = slides.arranged(new_notebook(cells=list(cells)))
    return [cell.metadata.slideshow.slide_type for cell in made.cells]


def test_headings_begin_slides_and_text_follows_them():
    assert kinds(
        new_markdown_cell("# Maps\n\nA map.\n\n## Why?"),
        new_markdown_cell("Because."),
        new_markdown_cell("### How?\n\nSo."),
    ) == ["slide", "-", "slide", "-", "subslide", "-"]


def test_what_does_not_fit_goes_to_the_next_slide_but_no_heading_stands_alone():
    long = " ".join(["word"] * (slides.LINES * slides.WIDTH // 8))
    assert kinds(new_markdown_cell("## A"), new_markdown_cell(f"{long}\n\n{long}\n\nshort")) == [
        "slide",
        "-",
        "subslide",
        "-",
    ]
    very_long = " ".join(["word"] * (2 * slides.LINES * slides.WIDTH // 5))
    assert kinds(new_markdown_cell(f"## A\n\n{very_long}")) == ["slide", "-"]


def test_a_caption_stays_with_its_figure():
    caption = new_output("display_data", {"text/markdown": "**map.** " + "What. " * 90})
    cells = (
        new_markdown_cell("## A" + "\n\nShort." * 6),
        new_code_cell("plt.plot()", outputs=[picture()]),
        new_code_cell("run.save_figure(fig, 'map')", outputs=[caption]),
    )
    assert kinds(*cells) == ["slide", *"------", "subslide", "-"]


def test_an_equation_inside_a_list_is_not_torn_from_it():
    made = slides.arranged(
        new_notebook(cells=[new_markdown_cell("1. Move:\n\n   $$x$$\n\n2. Go.")])
    )
    assert [cell.source for cell in made.cells] == ["1. Move:\n\n   $$x$$", "2. Go."]


@pytest.mark.parametrize("tag", sorted(slides.LEFT_OUT))
def test_solutions_and_parameters_are_left_out(tag):
    cells = [
        new_markdown_cell("## A"),
        new_code_cell("secret = 1", metadata={"tags": [tag]}, outputs=[picture()]),
        new_markdown_cell("secret", metadata={"tags": [tag]}),
    ]
    made = slides.arranged(new_notebook(cells=cells))
    assert [cell.source for cell in made.cells] == ["## A"]


def test_code_that_a_lesson_reads_is_shown_and_plumbing_is_not():
    echo = new_output("execute_result", {"text/plain": "('quick', 'cpu')"})
    cells = [
        new_code_cell("run = report.start()", metadata={"tags": ["hide-input"]}, outputs=[echo]),
        new_code_cell("def updated(m, x):\n    return m + (x - m) / 2"),
        new_code_cell("fig, ax = plt.subplots()", outputs=[picture()]),
        new_code_cell("1 + 1", outputs=[new_output("execute_result", {"text/plain": "2"})]),
    ]
    made = slides.arranged(new_notebook(cells=cells))
    assert [cell.source for cell in made.cells] == [cell.source for cell in cells[1:]]
    assert text_of(made.cells) == "def updated(m, x):\n    return m + (x - m) / 2\n1 + 1"
    assert made.cells[1].outputs[0].data["image/png"]


def test_a_notebook_of_which_nothing_is_left_is_refused():
    with pytest.raises(ValueError, match="no cell is left"):
        slides.arranged(new_notebook(cells=[]))


# ------------------------------------------------------------------ the command


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A project with a notebook that has been executed and one that has not."""
    project = make_project(tmp_path, _01_toy=("a = 1",), _02_toy=("b = 2",))
    cells = [
        new_markdown_cell("# 01 · A map\n\nWith $x^2$ and a tail: $$\\sum_i x_i$$"),
        new_markdown_cell("## Question\n\nWhy?"),
        new_code_cell("the_answer()", metadata={"tags": ["solution"]}),
    ]
    piece = interactive.frames({"k": [1, 2, 3]}, np.zeros((3, 8, 8)))
    html = piece.fragment(piece.picture, "Squares")
    cells.insert(
        2, new_code_cell("piece", outputs=[new_output("display_data", {"text/html": html})])
    )
    executed = project / "runs" / "quick" / "01_toy.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells), executed)
    monkeypatch.chdir(project)
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    return project


@pytest.fixture
def scripts(tmp_path_factory):
    """Skip where reveal.js and MathJax are not installed."""
    try:
        slides.copy_scripts(tmp_path_factory.mktemp("scripts"))
    except slides.NotInstalledError as missing:
        pytest.skip(str(missing))


def test_what_has_not_been_executed_is_refused_by_name(lesson, capsys):
    assert cli.main(["slides"]) == 2
    said = capsys.readouterr().err
    assert "02_toy" in said
    assert "somlib reproduce --profile quick --only 02_toy" in said
    assert not (lesson / "slides").exists()


def test_a_missing_package_is_named(lesson, monkeypatch, capsys):
    monkeypatch.setattr(slides, "BUNDLED", {"reveal": ("no-such-package", "x", ())})
    assert cli.main(["slides", "--only", "01"]) == 2
    assert "pip install no-such-package" in capsys.readouterr().err


def test_slides_load_only_what_lies_beside_them(lesson, scripts):
    assert cli.main(["slides", "--only", "01", "--output", "talk"]) == 0
    page = (lesson / "talk" / "01_toy.html").read_text(encoding="utf-8")
    assert "the_answer" not in page
    loaded = re.findall(r'<(?:script|link)\b[^>]*?(?:src|href)="([^"]+)"', page)
    assert loaded
    assert all((lesson / "talk" / name).is_file() for name in loaded)
    assert not re.search(r"""(url\(|import\s*\(?)["']?https?:""", page)


def test_slides_work_in_a_browser_without_a_network(lesson, scripts, tab):
    assert cli.main(["slides", "--only", "01"]) == 0
    tab.goto((lesson / "slides" / "01_toy.html").as_uri())
    tab.wait_for_selector("section.present mjx-container svg")
    assert tab.locator("section.present h1").is_visible()
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("location.hash.startsWith('#/1')")
    assert tab.locator("section.present h2").inner_text().startswith("Question")


def test_keys_on_an_interactive_piece_turn_no_page(lesson, scripts, tab):
    assert cli.main(["slides", "--only", "01"]) == 0
    tab.goto((lesson / "slides" / "01_toy.html").as_uri() + "#/1")
    slider = tab.locator("section.present input[type=range]")
    slider.focus()
    before = slider.input_value()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("ArrowRight")
    assert slider.input_value() != before
    assert tab.evaluate("location.hash") == "#/1"
