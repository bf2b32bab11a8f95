"""The book: its pages are put together from book/, executed notebooks and records, and built.

`assemble` writes the source of the book into a folder, from which `build` makes HTML by Sphinx.
Nothing in it is copied by hand: the pages of the notebooks come from their executed copies, see
`pages`; the results, the gallery and the benchmarks from figures/; the lists of the reference from
the public names of the package; the changelog is the project's.
"""

import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from PIL import Image

import somlib
from somlib.companion import pages, report
from somlib.companion.pages import NotReadyError as NotReadyError
from somlib.files import replacing

THUMBNAIL = 360
"""Width of a picture of the gallery, in pixels."""

_NOT_SOURCES = ("_build", "__pycache__", "_generated")


def build(profile: str, output: Path, folder: Path) -> Path:
    """Build the book and return its first page.

    Parameters
    ----------
    profile : {"quick", "full"}
        The run whose executed notebooks are shown.
    output : pathlib.Path
        The folder of runs/ and figures/.
    folder : pathlib.Path
        Receives `source`, `doctrees` and `html`.

    Returns
    -------
    pathlib.Path
        html/index.html in the folder.

    Raises
    ------
    NotReadyError
        When a notebook has not been executed as it is, a figure, its record or its text description
        is missing, Sphinx is not installed, or Sphinx warns about anything.
    """
    if importlib.util.find_spec("sphinx") is None:
        raise NotReadyError(
            "Sphinx, which builds the book, is not installed; run `make book`, or `pip install "
            '--constraint constraints.txt --editable ".[book]"`'
        )
    assemble(profile, output, folder / "source")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--jobs", "auto"]
    command += ["-b", "html", "-d", str(folder / "doctrees")]
    command += [str(folder / "source"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReadyError(f"Sphinx refuses the book in {folder / 'source'}:\n{done.stderr}")
    return folder / "html" / "index.html"


def assemble(profile: str, output: Path, folder: Path) -> None:
    """Write the source of the book; parameters and errors are those of `build`."""
    root = report.project_root()
    shelf = _shelf(profile, output)
    notebooks = executed(profile, output)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root / "book", folder, ignore=shutil.ignore_patterns(*_NOT_SOURCES))
    _write_pieces(notebooks, shelf, output / "figures" / profile, folder / "_static" / "pieces")
    for page in folder.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        if (filled := _filled(text, page, folder, shelf)) != text:
            _write(page, filled)
    for name, notebook in notebooks.items():
        content = pages.page(notebook, name, shelf)
        _write(folder / "notebooks" / f"{name}.ipynb", json.dumps(content, ensure_ascii=False))
        (folder / "downloads").mkdir(exist_ok=True)
        shutil.copy(root / "notebooks" / f"{name}.ipynb", folder / "downloads")
    _copy_figures(profile, output, folder / "figures")
    for source in (root / "figures" / "benchmarks").glob("*"):
        _copy(source, folder / "figures" / "benchmarks" / source.name)
    for name, text in {**_results(root), **_gallery(root, folder), **_reference()}.items():
        _write(folder / f"{name}.md", text)
    _write(folder / "benchmarks.md", _benchmarks(root, folder / "benchmarks.md"))
    _write(folder / "changelog.md", (root / "CHANGELOG.md").read_text(encoding="utf-8"))


def missing(profile: str, output: Path) -> list[str]:
    """Return the names of the notebooks that have not been executed as they are now."""
    names = []
    for notebook in report.notebooks()[0]:
        try:
            _executed(notebook, profile, output)
        except NotReadyError:
            names.append(notebook.stem)
    return names


def executed(profile: str, output: Path) -> dict[str, dict[str, Any]]:
    """Return the executed copies of all notebooks by name, or refuse the first that has none."""
    return {path.stem: _executed(path, profile, output) for path in report.notebooks()[0]}


def _executed(notebook: Path, profile: str, output: Path) -> dict[str, Any]:
    path, name = output / "runs" / profile / notebook.name, notebook.stem
    remedy = f"run `somlib reproduce --profile {profile} --only {name[:2]}`"
    try:
        copy: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise NotReadyError(
            f"{name} has not been executed in the {profile} profile: {path} is missing; {remedy}"
        ) from error
    except ValueError as error:
        raise NotReadyError(f"{path} cannot be read ({error}); {remedy}") from error
    current: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8-sig"))
    ran = [c for c in copy["cells"] if "injected-parameters" not in c["metadata"].get("tags", ())]
    if list(map(_source, ran)) != list(map(_source, current["cells"])):
        raise NotReadyError(f"{path} was made by another version of {name}; {remedy}")
    results = ("outputs", "execution_count")
    for cell, done in zip(current["cells"], ran, strict=True):
        cell.update({key: done[key] for key in results if key in done})
    return current


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


# ---------------------------------------------------------------- what the pages draw on


def _shelf(profile: str, output: Path) -> pages.Shelf:
    full = report.project_root() / "figures" / "full"
    made = _records(output / "figures" / profile)
    return pages.Shelf(
        made=made,
        full={} if profile == "full" else _records(full),
        profile=profile,
        notebooks={path.stem[:2]: path.stem for path in report.notebooks()[0]},
        papers=papers(report.project_root() / "book" / "references.bib"),
    )


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a folder by id; a record whose picture is missing is refused."""
    found = {record["id"]: record for record in report.records(folder)}
    for name, record in found.items():
        picture = folder / f"{name}.png"
        if record["kind"] != "table" and not picture.exists():
            raise NotReadyError(
                f"the picture of {name} is missing: {picture}; run `somlib reproduce --profile "
                f"{folder.name} --only {record['notebook'][:2]}` again"
            )
    return found


def papers(bibliography: Path) -> dict[str, str]:
    """Return the keys of a BibTeX file by plain title, see `pages.plain_title`."""
    found = {}
    for entry in re.split(r"^@\w+\{", bibliography.read_text(encoding="utf-8"), flags=re.M)[1:]:
        key = entry.partition(",")[0]
        for title in re.findall(r"^\s*(?:title|alias)\s*=\s*\{(.*)\},?$", entry, flags=re.M):
            found[pages.plain_title(title)] = key
    return found


def _copy_figures(profile: str, output: Path, folder: Path) -> None:
    full = report.project_root() / "figures" / "full"
    for source in {full, output / "figures" / profile}:
        for path in source.rglob("*"):
            if path.suffix in (".png", ".csv"):
                _copy(path, folder / source.name / path.relative_to(source))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


_MARK = re.compile(r"^<!-- (full|table|piece): ([\w-]+)(?:, or ([\w-]+))? -->$", re.M)
"""What a page says where a figure or table of the full run or an interactive piece shall stand."""


def _write_pieces(
    notebooks: dict[str, dict[str, Any]], shelf: pages.Shelf, figures: Path, folder: Path
) -> None:
    """Write each interactive piece as a script that hands it over, and its picture."""
    for notebook in notebooks.values():
        for name, fragment in pages.fragments(notebook).items():
            if shelf.made.get(name, {}).get("kind") == "interactive":
                handing_over = f"somlibPieces[{json.dumps(name)}] = {json.dumps(fragment)};\n"
                _write(folder / f"{name}.js", handing_over)
                _copy(figures / f"{name}.png", folder / f"{name}.png")


def _filled(text: str, page: Path, folder: Path, shelf: pages.Shelf) -> str:
    """Return a page of book/ with its marks replaced by what they name, or refuse by name."""
    full = report.project_root() / "figures" / "full"
    records = _records(full)
    up = "../" * (len(page.relative_to(folder).parts) - 1)

    def fill(mark: re.Match[str]) -> str:
        kind, name, other = mark.groups()
        if kind == "piece":
            if (folder / "_static" / "pieces" / f"{name}.js").exists():
                return pages.place_of_piece(shelf.made[name], up)
            name = other
        if name not in records:
            raise NotReadyError(f"{page.name}: the committed full run has no {name}")
        if kind == "table":
            return (full / f"{name}.md").read_text(encoding="utf-8")
        return pages.directive(records[name], f"{up}figures/full")

    return _MARK.sub(fill, text)


# ---------------------------------------------------------------- results, gallery, benchmarks


def _results(root: Path) -> dict[str, str]:
    """Return a page per notebook: what the committed full run has made."""
    text = (root / "figures" / "full" / "README.md").read_text(encoding="utf-8")
    made, titles = {}, _titles()
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, rest = section.partition("\n")
        name = name.strip()
        rest = re.sub(r"^### ([\w-]+)(?:: )?(.*)$", _headed, rest, flags=re.M)
        rest = re.sub(
            r"^!\[(.*)\]\(([\w.-]+)\)$",
            lambda found: pages.image(
                f"../figures/full/{found[2]}", re.sub(r"\\(.)", r"\1", found[1])
            ),
            rest,
            flags=re.M,
        )
        rest = re.sub(r"\]\((?!https?:|#)([^)]+)\)", r"](../figures/full/\1)", rest)
        rest = re.sub(r"\.csv\?plain=1#L[\d-]+(L\d+)?\)", ".csv)", rest)
        rest = re.sub(r"^<sub>(.*)</sub>$", _FOLDED, rest, flags=re.M)
        made[f"results/{name}"] = f"# {titles.get(name, name)}: the full run\n{rest}"
    return made


def _headed(found: re.Match[str]) -> str:
    """Return the heading of a figure: its title, where it has one, at which links by id arrive."""
    return f"(full-{found[1]})=\n\n## {found[2] or found[1]}"


def _titles() -> dict[str, str]:
    """Return the titles of the notebooks by name, up to a colon: "01 · The self-organizing map"."""
    found = {}
    for path in report.notebooks()[0]:
        first = json.loads(path.read_text(encoding="utf-8-sig"))["cells"][0]
        found[path.stem] = _source(first).partition("\n")[0].removeprefix("# ").partition(":")[0]
    return found


_FOLDED = r"<details><summary>How it was made</summary>\n\n\1\n\n</details>"


def _gallery(root: Path, folder: Path) -> dict[str, str]:
    """Return a page of all figures of the committed full run, as small pictures."""
    lines = ["# Gallery", "", "All figures of the committed full run. Each leads to its caption."]
    known, full = report.registry(), root / "figures" / "full"
    records = {r["id"]: r for r in report.records(full) if r["kind"] == "figure"}
    for notebook in dict.fromkeys(r["notebook"] for r in records.values()):
        heading = _titles().get(notebook, notebook)
        lines += ["", f"## {heading}", "", "::::{grid} 1 2 3 3", ":gutter: 2"]
        for name, record in records.items():
            if record["notebook"] == notebook:
                _thumbnail(full / f"{name}.png", folder / "thumbnails" / f"{name}.png")
                title = known.title.get(name, name)
                lines += _card(name, title, record)
        lines.append("::::")
    return {"gallery": "\n".join(lines) + "\n"}


def _card(name: str, title: str, record: dict[str, Any]) -> Iterator[str]:
    yield from ("", ":::{grid-item-card}", f":img-top: thumbnails/{name}.png")
    yield f":img-alt: {json.dumps(' '.join(record['alt'].split()), ensure_ascii=False)}"
    yield from (f"[{title}](#full-{name})", ":::")


def _thumbnail(picture: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with Image.open(picture) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.quantize(128).save(target, optimize=True)


def _benchmarks(root: Path, page: Path) -> str:
    """Return the page of benchmarks: its introduction, then each report of figures/benchmarks."""
    text = page.read_text(encoding="utf-8")
    found = (root / "figures" / "benchmarks").glob("*.md")
    for path in sorted(found, key=lambda path: (path.stem != "som", path.stem)):
        body = path.read_text(encoding="utf-8")
        body = re.sub(r"^(#+) ", r"#\1 ", body, flags=re.M)
        text += "\n" + re.sub(r"\]\((?!https?:|#|/)([^)]+)\)", r"](figures/benchmarks/\1)", body)
    return text


# ---------------------------------------------------------------- the reference

_MODULES = {
    "Spaces": ("somlib.spaces",),
    "Data": ("somlib.data",),
    "Metrics": ("somlib.metrics",),
    "Plots": ("somlib.plots", "somlib.diagrams"),
    "Training": ("somlib.training", "somlib.schedules", "somlib.layers"),
    "Building blocks": ("somlib.kohonen", "somlib.clustering", "somlib.boltzmann"),
    "Companion": ("somlib.report", "somlib.cache"),
}
"""The pages of the reference for modules, and which modules each has."""


def _reference() -> dict[str, str]:
    """Return the pages of the reference, a list of public names each."""
    spaces = public_names(somlib.spaces)
    own = [name for name in sorted(somlib.NAMES, key=str.lower) if name not in spaces]
    listed = {"Models": {"somlib": own}}
    for title, modules in _MODULES.items():
        names = {module: public_names(_module(module)) for module in modules}
        listed[title] = {m: [n for n in found if n not in own] for m, found in names.items()}
    return {f"api/{_file(title)}": _list(title, names) for title, names in listed.items()}


def _file(title: str) -> str:
    return title.lower().replace(" ", "-")


def _module(name: str) -> ModuleType:
    module: ModuleType = getattr(somlib, name.removeprefix("somlib."))
    return module


def public_names(module: ModuleType) -> list[str]:
    """Return the functions and classes of a module that are its own or in its `__all__`."""
    declared = getattr(module, "__all__", None)
    return [
        name
        for name, thing in inspect.getmembers(module)
        if (inspect.isfunction(thing) or inspect.isclass(thing))
        and (name in declared if declared is not None else thing.__module__ == module.__name__)
        and not name.startswith("_")
    ]


def _list(title: str, modules: dict[str, list[str]]) -> str:
    lines = [f"# {title}"]
    for module, names in modules.items():
        if len(modules) > 1:
            lines += ["", f"## {module}"]
        lines += ["", "```{eval-rst}"]
        if module != "somlib":
            lines += [f".. currentmodule:: {_module(module).__name__}", ""]
            lines += [f"Import it by ``from somlib import {module.partition('.')[2]}``.", ""]
        else:
            lines += [".. currentmodule:: somlib", ""]
        lines += [".. autosummary::", "   :toctree: generated", ""]
        lines += [f"   {name}" for name in names]
        lines.append("```")
    return "\n".join(lines) + "\n"
