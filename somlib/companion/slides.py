"""Executed notebooks as slides for a browser; `somlib slides` calls this.

A slide begins at each heading, and wherever the next paragraph, table or picture would not fit
below what stands there; the notebooks hold no marks for slides. Solutions are left out, and so is
code that sets up a run, or makes a figure or a table: of the latter the result is shown. reveal.js
and MathJax are copied from installed packages, so that the slides need no network.
"""

import math
import re
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from somlib import files

jupyter: Any = nbformat  # its functions carry no types

LINES, WIDTH = 25, 88
"""How many lines of text a slide holds, and about how many characters a line."""

PICTURE, PIECE, EQUATION = 15, 22, 2
"""The heights, in lines, of a picture with its caption and of an interactive piece, and how much an
equation that stands by itself is higher than a line."""

LEFT_OUT = {"solution", "parameters", "injected-parameters", "remove-cell"}
"""Tags of cells that no slide shows."""

WORK = re.compile(r"\b(plt|fig|ax|axes)\b|\bcache\.|\brun\.(seeds|values|claims?|compared|save_)")
"""What tells code that makes, draws or keeps results from code that a lesson reads."""

BUNDLED = {
    "reveal": (
        "sphinx-revealjs",
        "sphinx_revealjs/_static/revealjs",
        ("LICENSE", "dist/reveal.js", "dist/reveal.css", "dist/theme/white.css",
         "dist/theme/fonts/source-sans-pro"),
    ),
    "mathjax": ("sphinx-mathjax-offline", "sphinx-mathjax-offline/static/mathjax", ("tex-svg.js",)),
}  # fmt: skip
"""By folder beside the slides: the package that holds its files, where, and which."""

TEMPLATE = r"""
{%- extends 'reveal/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}
<script>
MathJax = {tex: {inlineMath: [["$", "$"], ["\\(", "\\)"]], processEscapes: true}};
</script>
<script src="mathjax/tex-svg.js"></script>
<style>
:root { --jp-code-font-size: 16px; }
.reveal { font-size: 21px; }
.reveal .slides section section { text-align: left; max-height: 700px; overflow-y: auto; }
.reveal .slides :is(h1, h2, h3) { text-transform: none; font-size: 1.6em; }
.reveal .slides img { max-height: 430px; max-width: 100%; margin: 0; background: #fff; }
.reveal .slides table { font-size: 0.8em; margin: 0; }
.jp-Cell { padding: 4px; }
</style>
{%- endblock -%}
{%- block footer_js -%}
<script src="reveal/dist/reveal.js"></script>
<script>
Reveal.initialize({
  hash: true, slideNumber: "c/t", transition: "none", center: false,
  width: 1100, height: 730, margin: 0.03,
  // keys that are meant for an interactive piece turn no page
  keyboardCondition: (event) => event.composedPath()[0] === event.target,
});
</script>
{%- endblock -%}
"""


class NotInstalledError(Exception):
    """A package that holds a script of the slides is missing; the text says which."""


class Block(NamedTuple):
    """A cell, or a part of one, that stays on one slide.

    `lines` is its height, `heading` the level of the heading that it begins with, 0 for none.
    """

    cell: NotebookNode
    lines: int
    heading: int = 0


def write(executed: Path, folder: Path) -> Path:
    """Write the slides of an executed notebook.

    Parameters
    ----------
    executed : pathlib.Path
        The notebook with its outputs.
    folder : pathlib.Path
        Where the page is written; `copy_scripts` writes what it loads.

    Returns
    -------
    pathlib.Path
        The page, `NN_name.html`.

    Raises
    ------
    ValueError
        When the file is no notebook, or nothing is left of it.
    """
    notebook = arranged(jupyter.read(executed, as_version=4))
    notebook.metadata["title"] = executed.stem
    exporter: Any = SlidesExporter
    made = exporter(
        raw_template=TEMPLATE,
        reveal_url_prefix="reveal",
        reveal_theme="white",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    page, _ = made.from_notebook_node(notebook)
    path = folder / f"{executed.stem}.html"
    with files.replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def copy_scripts(folder: Path) -> None:
    """Copy reveal.js and MathJax from the packages that hold them.

    Raises
    ------
    NotInstalledError
        When a package is not installed.
    """
    for name, (package, inside, wanted) in BUNDLED.items():
        try:
            source = Path(str(metadata.distribution(package).locate_file(inside)))
        except metadata.PackageNotFoundError as error:
            raise NotInstalledError(
                f"slides need the package {package}, which is not installed; run "
                f"`pip install {' '.join(package for package, _, _ in BUNDLED.values())}`"
            ) from error
        for item in wanted:
            target = folder / name / item
            target.parent.mkdir(parents=True, exist_ok=True)
            if (source / item).is_dir():
                shutil.copytree(source / item, target, dirs_exist_ok=True)
            else:
                shutil.copyfile(source / item, target)


def arranged(notebook: NotebookNode) -> NotebookNode:
    r"""Return the notebook in blocks that carry nbconvert's marks of slides.

    Examples
    --------
    >>> cells = [nbformat.v4.new_markdown_cell("# Maps\n\nA map."),
    ...          nbformat.v4.new_code_cell("1 + 1"),
    ...          nbformat.v4.new_markdown_cell("## Why?")]
    >>> slides = arranged(nbformat.v4.new_notebook(cells=cells))
    >>> [cell.metadata.slideshow.slide_type for cell in slides.cells]
    ['slide', '-', '-', 'slide']
    """
    cells, used, only_headings = list[NotebookNode](), 0, True
    for block in blocks(notebook):
        begins = not cells or 0 < block.heading < 3
        follows = block.heading >= 3 or (used + block.lines > LINES and not only_headings)
        kind = "slide" if begins else "subslide" if follows else "-"
        if kind != "-":
            used, only_headings = 0, True
        used += block.lines
        only_headings &= block.heading > 0
        block.cell.metadata["slideshow"] = {"slide_type": kind}
        cells.append(block.cell)
    if not cells:
        raise ValueError("no cell is left for a slide; expected text, figures or tables")
    made: NotebookNode = jupyter.v4.new_notebook(cells=cells, metadata=dict(notebook.metadata))
    return made


def blocks(notebook: NotebookNode) -> Iterator[Block]:
    """Yield what the slides show, in its order."""
    for cell in notebook.cells:
        if LEFT_OUT & set(cell.metadata.get("tags", ())):
            continue
        yield from _texts(cell) if cell.cell_type == "markdown" else _results(cell)


def _texts(cell: NotebookNode) -> Iterator[Block]:
    """Yield the paragraphs of a Markdown cell; one that is indented belongs to the one before."""
    for part in re.split(r"\n\s*\n(?! )", cell.source.strip()):
        heading = re.match(r"(#+) ", part)
        level = len(heading[1]) if heading else 0
        lines = sum(math.ceil(len(line) / WIDTH) for line in _rows(part)) + 1
        lines += EQUATION * part.count("$$") // 2
        yield Block(jupyter.v4.new_markdown_cell(part), lines, level)


def _rows(text: str) -> list[str]:
    """Return the lines of a paragraph: a browser keeps them in lists and tables only."""
    kept = re.match(r"\s*([-*|>]|\d+\.|```)", text)
    return text.splitlines() if kept else [" ".join(text.split())]


def _results(cell: NotebookNode) -> Iterator[Block]:
    """Yield a code cell: what it shows, and its code where a lesson reads it."""
    tables = any("text/html" in output.get("data", {}) for output in cell.outputs)
    folded = "hide-input" in cell.metadata.get("tags", ())
    hidden = tables or folded or bool(WORK.search(cell.source))
    outputs = [output for output in cell.outputs if _is_shown(output, hidden)]
    if hidden and not outputs:
        return
    made = jupyter.v4.new_code_cell(cell.source, outputs=outputs)
    if hidden:
        made.metadata["transient"] = {"remove_source": True}
    lines = 0 if hidden else len(cell.source.splitlines()) + 2  # with its frame
    yield Block(made, lines + sum(map(_height, outputs)))


def _is_shown(output: Any, hidden: bool) -> bool:
    echo = set(output.get("data", {})) == {"text/plain"}  # of a set-up, for example
    return not (hidden and echo) and output.get("name") != "stderr"


def _height(output: Any) -> int:
    """Return the height of an output in lines; a caption stays with its figure and counts none."""
    data = output.get("data", {})
    if any(kind.startswith("image/") for kind in data):
        return PICTURE
    if "text/markdown" in data:
        return 0
    if "text/html" in data:
        rows = data["text/html"].count("<tr")  # a row of a table takes more than a line
        return PIECE if "<script" in data["text/html"] else math.ceil(1.3 * rows) + 1
    return len(str(output.get("text", data.get("text/plain", ""))).splitlines())
