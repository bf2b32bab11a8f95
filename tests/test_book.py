"""Executed notebooks become pages of the book; what is missing is refused by name."""

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

import somlib
from somlib import report
from somlib.companion import book, cli, pages

ROOT = Path(__file__).parents[1]
DRAG = f"<div {pages.PIECE}>drag</div>"
PNG = {"image/png": "aGVsbG8=", "text/plain": "<Figure>"}


def record(name, kind="figure", **changes):
    made = {"id": name, "kind": kind, "notebook": "01_tiny", "alt": f"Alt of {name}."}
    return made | {"caption": f"Caption of {name}."} | changes


MADE = {
    r["id"]: r
    for r in [record("a-map"), record("a-table", "table"), record("piece", "interactive")]
}
SHELF = pages.Shelf(
    made=MADE,
    full={"a-map": record("a-map", caption="The full map.")},
    profile="quick",
    notebooks={"00": "00_first", "01": "01_tiny"},
    papers={"theselforganizingmap": "kohonen1998"},
)


def text(source, *tags):
    return {"cell_type": "markdown", "id": "m", "metadata": {"tags": list(tags)}, "source": source}


def code(source, *outputs, tags=(), count=1, **metadata):
    return {
        "cell_type": "code",
        "id": "c",
        "metadata": {"tags": list(tags), **metadata},
        "source": source,
        "execution_count": count,
        "outputs": list(outputs),
    }


def shown(data, **metadata):
    return {"output_type": "display_data", "data": data, "metadata": metadata}


def words(markdown):
    return shown({"text/markdown": markdown, "text/plain": markdown})


TITLE = text("# 01 · Tiny\n\nA lesson.")
DRAWN = code("draw()", shown(PNG), tags=["hide-input"])


def saved(name):
    return code(f"save({name})", words(f"**{name}.** Caption of {name}."), tags=["hide-input"])


def page(*cells):
    made = pages.page({"cells": [TITLE, *cells], "metadata": {}}, "01_tiny", SHELF)
    return made["cells"]


def sources(*cells):
    return [cell["source"] for cell in page(*cells)]


# ---------------------------------------------------------------- figures


def test_a_saved_figure_stands_where_it_was_drawn_with_caption_and_alt_beside_the_full_one():
    (_, plumbing, figure, after) = page(DRAWN, saved("a-map"), text("After."))
    assert plumbing["source"] == "draw()\n\nsave(a-map)"  # one fold for both
    assert plumbing["metadata"]["tags"] == ["hide-input"]
    assert "../figures/quick/a-map.png" in figure["source"]
    assert ':alt: "Alt of a-map."' in figure["source"]
    assert "Caption of a-map." in figure["source"]
    assert "../figures/full/a-map.png" in figure["source"]
    assert "The full map." in figure["source"]
    assert after["source"] == "After."


def test_a_figure_that_the_full_run_lacks_stands_alone():
    shelf = pages.Shelf(MADE, {}, "quick", {}, {})
    notebook = {"cells": [TITLE, DRAWN, saved("a-map")], "metadata": {}}
    figure = pages.page(notebook, "01_tiny", shelf)["cells"][2]["source"]
    assert "tab-set" not in figure
    assert ":name: a-map" in figure


def test_a_figure_of_the_full_run_that_a_quick_notebook_shows_has_a_label_of_its_own():
    show_full = code("run.show_full('a-map')", shown(PNG), words("**a-map, full run.** Text."))
    figure = sources(show_full)[2]
    assert ":name: a-map-full" in figure
    assert "../figures/full/a-map.png" in figure


def test_captions_of_tables_and_pieces_can_be_linked():
    table = code("t", shown({"text/html": "<table></table>"}), words("**a-table.** A table."))
    assert sources(table)[-1] == "(a-table)=\nA table."
    (_, drawn, caption) = page(piece())
    assert 'id="piece"' in drawn["outputs"][0]["data"]["text/html"]
    assert "Drag it." in caption["source"]


def piece():
    return code("p", shown({"text/html": DRAG}), words("**piece.** Drag it."))


def test_a_piece_is_loaded_later_and_its_picture_stands_there_until_then():
    (_, drawn, _) = page(piece())
    (place,) = (output["data"]["text/html"] for output in drawn["outputs"])
    assert 'data-piece="../_static/pieces/piece.js"' in place
    assert '<img src="../_static/pieces/piece.png" alt="Alt of piece."' in place


def test_the_fallback_of_a_piece_is_not_shown_above_it():
    (_, drawn, _) = page(code("fallback()", shown(PNG), tags=["hide-input"]), piece())[:3]
    assert drawn["outputs"] == []
    assert not [cell for cell in page(DRAWN, piece()) if "{figure}" in cell["source"]]


def test_a_picture_that_is_not_saved_is_described_by_its_cell():
    (_, drawn, picture) = page(code("draw()", shown(PNG), alt="Two dots."))
    assert drawn["outputs"] == []
    assert picture["metadata"]["mystnb"]["image"]["alt"] == "Two dots."


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        ([DRAWN], r"01_tiny, cell c: a picture has no text description"),
        ([code("x", count=None)], r"01_tiny, cell c, has not been executed"),
        ([saved("lost")], r"01_tiny shows lost, but there is no record of it"),
        ([saved("piece")], r"01_tiny has the caption of piece, but not the piece itself"),
        ([code("x", words("**lost, full run.** Words."))], r"lost, full run, but there is no rec"),
    ],
)
def test_what_is_missing_is_refused_by_name(cells, problem):
    with pytest.raises(pages.NotReadyError, match=problem):
        page(*cells)


@pytest.mark.parametrize("kind", ["figure", "interactive"])
def test_a_record_without_text_description_is_refused_by_name(kind):
    shelf = pages.Shelf({"dumb": record("dumb", kind, alt=" ")}, {}, "quick", {}, {})
    notebook = {"cells": [TITLE, saved("dumb")], "metadata": {}}
    with pytest.raises(pages.NotReadyError, match=r"dumb of 01_tiny has no text description"):
        pages.page(notebook, "01_tiny", shelf)


# ---------------------------------------------------------------- cells


def test_plumbing_is_folded_and_what_no_reader_needs_is_left_out():
    hidden = [code("a", tags=["hide-input"]), code("b: int = 1  # c", tags=["parameters"])]
    left_out = [code("p", tags=["injected-parameters"]), code("q", tags=["remove-cell"])]
    (_, plumbing, lesson) = page(*hidden, *left_out, code("taught()"))
    assert plumbing["source"] == "a\n\nb: int = 1  # c"
    assert plumbing["metadata"]["tags"] == ["hide-input"]
    assert lesson["metadata"]["tags"] == []


def test_folded_cells_keep_their_outputs_in_order():
    one, two = (code(s, words(s.upper()), tags=["hide-input"]) for s in "ab")
    assert sources(one, two)[1:] == ["a", "A", "b", "B"]


def test_all_cells_of_a_solution_are_behind_one_click():
    solution = [code("x", tags=["solution"]), text("*So.*", "solution")]
    found = sources(text("**1. Why?**"), *solution, text("**2. How?**"), *solution)
    opened = [i for i, s in enumerate(found) if s.startswith('<details class="solution">')]
    closed = [i for i, s in enumerate(found) if s == "</details>"]
    assert [found[a + 1 : b] for a, b in zip(opened, closed, strict=True)] == [["x", "*So.*"]] * 2


def test_tables_scroll_and_carry_no_style_of_their_own():
    html = (
        '<div>\n<style scoped>\nth {}\n</style>\n<table border="1" class="dataframe"></table></div>'
    )
    (_, cell) = page(code("t", shown({"text/html": html})))
    table = cell["outputs"][0]["data"]["text/html"]
    assert "<style" not in table
    assert "border=" not in table
    assert table.startswith('<div class="table-scroll" tabindex="0">')


def test_a_widget_without_a_kernel_says_so():
    widget = {"application/vnd.jupyter.widget-view+json": {}, "text/plain": "interactive(...)"}
    assert "needs a running kernel" in sources(code("w", shown(widget)))[-1]


def test_the_first_cell_says_what_the_page_was_made_of():
    (first,) = sources()
    assert first.startswith("# 01 · Tiny\n")
    assert "../downloads/01_tiny.ipynb" in first
    assert "*quick* profile" in first
    assert first.endswith("A lesson.")


# ---------------------------------------------------------------- links


@pytest.mark.parametrize(
    ("written", "linked"),
    [
        ("See notebook 00.", "See [notebook 00](00_first.ipynb)."),
        ("Notebooks 00 and 02", "[Notebooks 00](00_first.ipynb) and 02"),
        ("notebook 01", "notebook 01"),  # the page itself
        ("notebook 09", "notebook 09"),
        ("`notebook 00`, $notebook 00$", "`notebook 00`, $notebook 00$"),
        ("# After notebook 00", "# After notebook 00"),
        ("[notebook 00](elsewhere.md)", "[notebook 00](elsewhere.md)"),
    ],
)
def test_other_notebooks_are_linked_in_prose_only(written, linked):
    assert pages.linked(written, "01_tiny", SHELF) == linked


def test_references_lead_to_the_bibliography():
    title = "*The\n  self-organizing map*"
    elsewhere = "*The self-organizing map*"
    listed = text(
        f"## Summary\n\n{elsewhere}\n\n## References\n\n- T. Kohonen, {title}, 1998. *Unknown*.\n\n"
        f"## Next\n\n{elsewhere}"
    )
    assert sources(listed)[1].count("{cite:p}`kohonen1998`") == 1
    assert (
        "*The\n  self-organizing map* {cite:p}`kohonen1998`, 1998. *Unknown*." in sources(listed)[1]
    )


def references(path):
    """Return the titles in a notebook's list of references."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    whole = "\n\n".join(
        "".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown"
    )
    listed = whole.split("\n## References\n")[1].split("\n## ")[0]
    return re.findall(r"\*([^*]+)\*", re.sub(r"\bin \*[^*]+\*", "", listed))  # not the volumes


@pytest.mark.parametrize("path", report.notebooks()[0], ids=lambda path: path.stem)
def test_every_title_in_a_list_of_references_is_in_the_bibliography(path):
    papers = book.papers(ROOT / "book" / "references.bib")
    titles = references(path)
    assert titles
    for title in titles:
        assert "{cite:p}" in pages.cited(f"## References\n\n*{title}*", papers), title


def test_the_bibliography_has_each_paper_once():
    text = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([\w-]+),", text, flags=re.M)
    assert len(set(keys)) == len(keys)
    assert set(book.papers(ROOT / "book" / "references.bib").values()) == set(keys)


# ---------------------------------------------------------------- the source of the book


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one executed notebook, a full figure, and a page that shows it."""
    notebook = {"cells": [TITLE, code("x = 1", count=None)], "metadata": {}, "nbformat": 4}
    ran = {"cells": [TITLE, code("profile = 1", tags=["injected-parameters"]), code("x = 1")]}
    pages_of_book = {
        "index.md": "# Book\n\n<!-- full: a-map -->\n",
        "benchmarks.md": "# Benchmarks\n",
    }
    files = {
        "pyproject.toml": "",
        "CHANGELOG.md": "# Changelog\n",
        "figures/full/README.md": "# Full\n\n## 01_tiny\n\n### a-map: A map\n\n![A](a-map.png)\n",
        "notebooks/01_tiny.ipynb": json.dumps(notebook),
        "runs/quick/01_tiny.ipynb": json.dumps(notebook | ran),
        "book/references.bib": "",
        "book/_build/old.md": "",
    }
    files |= {f"book/{name}": content for name, content in pages_of_book.items()}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    committed = ROOT / "figures" / "full" / "som-one-pull.json"
    full = json.loads(committed.read_text()) | record("a-map")
    (tmp_path / "figures" / "full" / "a-map.json").write_text(json.dumps(full))
    Image.new("L", (600, 300), 255).save(tmp_path / "figures" / "full" / "a-map.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    return tmp_path


def test_the_source_is_put_together_from_book_notebooks_and_records(project):
    book.assemble("quick", project, project / "out")
    made = {path.relative_to(project / "out").as_posix() for path in (project / "out").rglob("*")}
    wanted = {"index.md", "benchmarks.md", "changelog.md", "gallery.md", "results/01_tiny.md"}
    wanted |= {"notebooks/01_tiny.ipynb", "downloads/01_tiny.ipynb", "figures/full/a-map.png"}
    assert wanted <= made
    assert "_build/old.md" not in made
    index = (project / "out" / "index.md").read_text()
    assert "{figure} figures/full/a-map.png" in index
    assert "(full-a-map)=" in (project / "out" / "results" / "01_tiny.md").read_text()
    with Image.open(project / "out" / "thumbnails" / "a-map.png") as small:
        assert small.width == book.THUMBNAIL


def test_a_piece_that_no_notebook_has_gives_way_to_its_picture(project):
    mark = "<!-- piece: trainer, or a-map -->"
    (project / "book" / "index.md").write_text(mark)
    book.assemble("quick", project, project / "out")
    assert "{figure}" in (project / "out" / "index.md").read_text()


def test_a_piece_of_a_notebook_stands_on_a_page_that_wants_it(project):
    (project / "book" / "index.md").write_text("<!-- piece: piece, or a-map -->")
    path = project / "runs" / "quick" / "01_tiny.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][-1]["outputs"] = [shown({"text/html": DRAG}), words("**piece.** It.")]
    path.write_text(json.dumps(notebook))
    quick = project / "figures" / "quick"
    quick.mkdir()
    full = json.loads((project / "figures" / "full" / "a-map.json").read_text())
    (quick / "piece.json").write_text(json.dumps(full | record("piece", "interactive")))
    shutil.copy(project / "figures" / "full" / "a-map.png", quick / "piece.png")
    book.assemble("quick", project, project / "out")
    assert 'data-piece="_static/pieces/piece.js"' in (project / "out" / "index.md").read_text()
    handed_over = (project / "out" / "_static" / "pieces" / "piece.js").read_text()
    assert handed_over == f'somlibPieces["piece"] = {json.dumps(DRAG)};\n'


def test_a_notebook_that_has_not_been_executed_as_it_is_is_refused_by_name(project):
    assert book.missing("quick", project) == []
    assert book.missing("full", project) == ["01_tiny"]
    with pytest.raises(book.NotReadyError, match=r"01_tiny has not been executed in the full prof"):
        book.executed("full", project)
    path = project / "notebooks" / "01_tiny.ipynb"
    path.write_text(path.read_text().replace("x = 1", "x = 2"))
    with pytest.raises(
        book.NotReadyError, match=r"made by another version of 01_tiny; run `somlib"
    ):
        book.assemble("quick", project, project / "out")
    (project / "runs" / "quick" / "01_tiny.ipynb").write_text("{")
    with pytest.raises(book.NotReadyError, match=r"01_tiny.ipynb cannot be read"):
        book.executed("quick", project)


def test_a_full_figure_that_is_missing_is_refused_by_name(project):
    (project / "figures" / "full" / "a-map.png").unlink()
    with pytest.raises(book.NotReadyError, match=r"the picture of a-map is missing"):
        book.assemble("quick", project, project / "out")


def test_a_page_that_wants_what_the_full_run_has_not_made_is_refused_by_name(project):
    (project / "book" / "index.md").write_text("<!-- full: no-map -->")
    with pytest.raises(book.NotReadyError, match=r"index.md: the committed full run has no no-map"):
        book.assemble("quick", project, project / "out")


def test_the_command_runs_what_is_missing_and_refuses_what_cannot_be_built(
    project, monkeypatch, capsys
):
    ran = []
    monkeypatch.setattr(cli, "reproduce", lambda options: ran.append(options.only) or 0)
    shutil.rmtree(project / "runs" / "quick")
    assert cli.main(["book"]) == 2
    assert ran == [["01_tiny"]]
    assert "01_tiny has not been executed" in capsys.readouterr().err
    monkeypatch.setattr(cli, "reproduce", lambda options: 1)
    assert cli.main(["book"]) == 1  # a notebook has failed


def test_without_sphinx_the_remedy_is_named(project, monkeypatch):
    monkeypatch.setattr(book.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(book.NotReadyError, match="Sphinx, which builds the book, is not installed"):
        book.build("quick", project, project / "out")


def test_a_warning_of_sphinx_is_refused_in_its_words(project, monkeypatch):
    pytest.importorskip("myst_parser", reason="the packages of the extra book are not installed")

    def dead_link(profile, output, folder):
        folder.mkdir(parents=True)
        (folder / "conf.py").write_text("extensions = ['myst_parser']")
        (folder / "index.md").write_text("# Book\n\n[away](nowhere.md)\n")

    monkeypatch.setattr(book, "assemble", dead_link)
    with pytest.raises(book.NotReadyError, match=r"nowhere\.md"):
        book.build("quick", project, project / "out")


# ---------------------------------------------------------------- the reference


def test_the_reference_lists_all_public_names_once():
    listed = book._reference()
    names = re.findall(r"^   (\w+)$", "\n".join(listed.values()), flags=re.M)
    assert set(somlib.NAMES) <= set(names)
    for module in ("metrics", "plots", "data", "spaces"):
        public = book.public_names(getattr(somlib, module))
        assert public
        assert set(public) <= set(names)
    assert names.count("SOM") == names.count("Grid") == names.count("VaDE") == 1
    assert names.count("load") == 2  # somlib.load and data.load
