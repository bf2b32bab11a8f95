"""An executed notebook becomes a page of the book.

The page is a notebook again, for MyST-NB. Each figure that the run has saved stands in a directive
of its own, with number, caption and text description, beside that of the committed full run; what
was shown as Markdown is text; plumbing is folded and solutions are behind a click; other notebooks
and papers are linked. No cell is written by hand.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from somlib.companion import address

Cell = dict[str, Any]
Record = dict[str, Any]

LEFT_OUT = {"injected-parameters", "remove-cell"}
"""Tags of cells that a page does not show."""

PIECE = 'class="somlib-piece"'
"""What tells an interactive piece from other HTML."""

_CAPTION = re.compile(r"\*\*([a-z0-9-]+)(, full run)?\.\*\* (.+)", re.S)
_NO_KERNEL = "*What stands here needs a running kernel: open the notebook in JupyterLab.*"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_PROTECTED = re.compile(  # code, formulas, links and headings stay as they are
    r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\[[^\]]*\]\([^)]*\)|^#.*?$", re.S | re.M
)


class NotReadyError(ValueError):
    """Something that a page needs is missing; the text names it and the remedy."""


@dataclass(frozen=True)
class Shelf:
    """What the pages of a book draw on.

    Attributes
    ----------
    made, full : dict of str to dict
        The records of the profile that is shown and of the committed full run, by id. If the full
        profile is shown, the second is empty.
    profile : str
        The profile that is shown.
    notebooks : dict of str to str
        The names of all notebooks by their number: {"01": "01_som", ...}.
    papers : dict of str to str
        The keys of the papers in the bibliography, by title as `plain_title` returns it.
    """

    made: Mapping[str, Record]
    full: Mapping[str, Record]
    profile: str
    notebooks: Mapping[str, str]
    papers: Mapping[str, str]


@dataclass
class Part:
    """A piece of a page.

    Attributes
    ----------
    kind : str
        "text": Markdown; "code": source and outputs; "picture": an output without its caption;
        "figure": one that the run has saved; "caption": of a figure whose picture is not found yet.
    text : str
        Markdown, source, or the id of a figure.
    tags : frozenset of str
        Those of the cell.
    cell : str
        The id of the cell, for messages.
    outputs : list of dict
        Outputs of code.
    """

    kind: str
    text: str
    tags: frozenset[str]
    cell: str
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def folded(self) -> bool:
        """Whether its source is plumbing."""
        return self.kind == "code" and bool(self.tags & {"hide-input", "parameters"})


def page(notebook: dict[str, Any], name: str, shelf: Shelf) -> dict[str, Any]:
    """Return the page of an executed notebook, in the form of a notebook.

    Parameters
    ----------
    notebook : dict
        The executed notebook, as JSON.
    name : str
        Its name, "01_som".
    shelf : Shelf
        Where its figures, other notebooks and papers are found.

    Raises
    ------
    NotReadyError
        When a cell has not been executed, a picture has no caption or no text description.
    """
    parts: list[Part] = []
    for part in _parts(notebook, name):
        _add(parts, part, shelf, name)
    for part in parts:
        if part.kind == "picture" and not part.text:
            raise NotReadyError(
                f"{name}, cell {part.cell}: a picture has no text description; save it by "
                "run.save_figure(..., caption=..., alt=...), or give the cell's metadata an 'alt'."
            )
    cells = list(_cells(_joined(parts), name, shelf))
    cells = [{"id": f"part-{number}"} | cell for number, cell in enumerate(cells)]
    metadata = {k: v for k, v in notebook["metadata"].items() if k in ("kernelspec",)}
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def fragments(notebook: dict[str, Any]) -> dict[str, str]:
    """Return the HTML of the interactive pieces that an executed notebook shows, by id."""
    found, shown = {}, ""
    for output in (o for cell in notebook["cells"] for o in cell.get("outputs", ())):
        data = output.get("data", {})
        caption = _CAPTION.fullmatch("".join(data.get("text/markdown", "")))
        if caption and shown:
            found[caption[1]], shown = shown, ""
        elif PIECE in (shown_now := "".join(data.get("text/html", ""))):
            shown = shown_now
    return found


def plain_title(title: str) -> str:
    """Return the letters and digits of a title, by which notebook and bibliography agree.

    Examples
    --------
    >>> plain_title("Deep Embedded {SOM}: Joint …") == plain_title("Deep embedded SOM, joint")
    True
    """
    return re.sub(r"[\W_]+", "", title).lower()


# ---------------------------------------------------------------- from cells to parts


def _parts(notebook: dict[str, Any], name: str) -> Iterator[Part]:
    """Yield the pieces of a notebook in their order; outputs follow their source."""
    for number, cell in enumerate(notebook["cells"]):
        tags = frozenset(cell["metadata"].get("tags", ()))
        label, source = cell.get("id", str(number)), "".join(cell["source"])
        if tags & LEFT_OUT:
            continue
        if cell["cell_type"] == "markdown":
            yield Part("text", source, tags, label)
        elif cell["cell_type"] == "code" and source.strip():
            if cell["execution_count"] is None:
                raise NotReadyError(
                    f"{name}, cell {label}, has not been executed; run `somlib reproduce --only "
                    f"{name[:2]}` first."
                )
            yield Part("code", source, tags, label)
            for output in cell["outputs"]:
                yield _shown(output, tags, label, cell["metadata"].get("alt", ""))


def _shown(output: dict[str, Any], tags: frozenset[str], label: str, alt: str) -> Part:
    """Return the part of one output of a cell; `alt` describes a picture that does not itself."""
    data = output.get("data", {})
    if "image/png" in data:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", alt)
        return Part("picture", alt, tags, label, [output])
    if _WIDGET in data:
        return Part("text", _NO_KERNEL, tags, label)
    if "text/markdown" in data:
        text = "".join(data["text/markdown"])
        return Part("caption" if _CAPTION.fullmatch(text) else "text", text, tags, label)
    return Part("code", "", tags, label, [output])


def _add(parts: list[Part], part: Part, shelf: Shelf, name: str) -> None:
    """Append a part; join outputs with their source, and a caption with its picture."""
    if part.kind == "code" and not part.text and parts and parts[-1].kind == "code":
        parts[-1].outputs += part.outputs
    elif part.kind == "caption":
        _add_caption(parts, part, shelf, name)
    else:
        parts.append(part)


def _add_caption(parts: list[Part], part: Part, shelf: Shelf, name: str) -> None:
    """Put a figure where its picture was shown; any other caption is text."""
    found = _CAPTION.fullmatch(part.text)
    assert found
    figure, of_full, words = found.groups()
    record = (shelf.full if of_full else shelf.made).get(figure)
    if record is None:
        raise NotReadyError(
            f"{name} shows {figure}{of_full or ''}, but there is no record of it; run `somlib "
            f"reproduce --profile {shelf.profile} --only {name[:2]}` again."
        )
    if record["kind"] != "table" and not record.get("alt", "").strip():
        raise NotReadyError(f"{figure} of {name} has no text description (alt).")
    if record["kind"] == "interactive":
        _drop_fallback(parts)
        _replace_piece(parts, record, name)
    if record["kind"] != "figure":
        target = f"({figure}{'-full' if of_full else ''})="
        if record["kind"] == "interactive":
            target = "::::{div} caption-text"
            words += "\n::::"
        parts.append(Part("text", f"{target}\n{words}", part.tags, part.cell))
        return
    made = Part("figure", f"{figure}{of_full or ''}", part.tags, part.cell)
    shown = [i for i, earlier in enumerate(parts) if earlier.kind == "picture"]
    if shown:
        parts[shown[-1]] = made
    else:
        parts.append(made)


def _drop_fallback(parts: list[Part]) -> None:
    """Remove the picture that the cells just before a piece have drawn; the piece holds it."""
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].kind == "picture" and not parts[place].text:
            del parts[place]
        elif parts[place].kind != "code":
            return


def _replace_piece(parts: list[Part], record: Record, name: str) -> None:
    """Put a place for a piece, which is loaded when a reader comes near, where it was shown."""
    for part in reversed(parts):
        for output in reversed(part.outputs):
            if PIECE in "".join(output.get("data", {}).get("text/html", "")):
                output["data"] = {"text/html": place_of_piece(record, "../", record["id"])}
                return
    raise NotReadyError(f"{name} has the caption of {record['id']}, but not the piece itself.")


def place_of_piece(record: Record, root: str, anchor: str = "") -> str:
    """Return HTML with the picture of a piece; _static/book.js replaces it by the piece.

    `root` leads from the page to the root of the book; at `anchor` links to the piece arrive.
    """
    here = f"{root}_static/pieces/{record['id']}"
    name, alt = record["id"], html.escape(" ".join(record["alt"].split()))
    own = f' id="{anchor}"' if anchor else ""
    return (
        f'<div class="piece"{own} data-piece="{here}.js" data-name="{name}">'
        f'<img src="{here}.png" alt="{alt}" loading="lazy"></div>'
    )


def _joined(parts: Iterable[Part]) -> list[Part]:
    """Return the parts with neighboring folded cells in one; figures may stand between them."""
    done: list[Part] = []
    for part in parts:
        before = next((p for p in reversed(done) if p.kind != "figure"), None)
        if (
            before is not None
            and before.folded
            and part.folded
            and ("solution" in before.tags) == ("solution" in part.tags)
            and (done[-1] is before or not part.outputs)
            and not (before.outputs and part.outputs)
        ):
            before.text += f"\n\n{part.text}"
            before.outputs += part.outputs
        else:
            done.append(part)
    return done


# ---------------------------------------------------------------- from parts to the page


def _cells(parts: list[Part], name: str, shelf: Shelf) -> Iterator[Cell]:
    """Yield the cells of the page; consecutive solutions are behind one click."""
    first, solving, references = True, False, False
    for part in parts:
        solution = "solution" in part.tags
        if solution != solving:
            yield _markdown(_SOLUTION if solution else "</details>")
        solving = solution
        if part.kind == "text":
            headings = re.findall(r"^## (.+)$", part.text, flags=re.M)
            references = headings[-1] == "References" if headings else references
            text = linked(part.text, name, shelf)
            if "References" in headings or references:
                text = cited(text, shelf.papers)
            yield _markdown(_with_note(text, name, shelf) if first else text)
            first = False
        elif part.kind == "figure":
            yield _markdown(_figure(part.text, shelf))
        else:
            yield _code(part)
    if solving:
        yield _markdown("</details>")


_SOLUTION = '<details class="solution">\n<summary>Solution</summary>\n'


def _markdown(text: str) -> Cell:
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def _code(part: Part) -> Cell:
    """Return a cell of code; one without source shows its outputs only."""
    metadata: dict[str, Any] = {"tags": ["remove-input"]}
    if part.kind == "picture":
        metadata["mystnb"] = {"image": {"alt": part.text}}
    elif part.text:
        metadata["tags"] = ["hide-input"] if part.folded else []
    outputs = [_readable(output) for output in part.outputs]
    return {
        "cell_type": "code",
        "metadata": metadata,
        "source": part.text if part.kind == "code" else "",
        "execution_count": None,
        "outputs": outputs,
    }


def _readable(output: dict[str, Any]) -> dict[str, Any]:
    """Return an output whose tables scroll by themselves and carry no style of their own."""
    table = "".join(output.get("data", {}).get("text/html", ""))
    if 'class="dataframe"' not in table:
        return output
    table = re.sub(r"<style scoped>.*?</style>", "", table, flags=re.S)
    table = re.sub(r'border="1" (class="dataframe)', r"\1", table)
    data = output["data"] | {"text/html": f'<div class="table-scroll" tabindex="0">{table}</div>'}
    return output | {"data": data}


def _with_note(text: str, name: str, shelf: Shelf) -> str:
    """Return the first text of a page with a note below its title: what the page was made of."""
    title, _, rest = text.partition("\n")
    of_full = (
        "Beside each figure stands that of the full run, where there is one (tab *full run*); "
        f"[all results of the full run](../results/{name}.md)."
        if shelf.full
        else "This is the full run, with the papers' data and sizes."
    )
    note = (
        f":::{{note}}\nThis page is the notebook {{download}}`{name}.ipynb "
        f"<../downloads/{name}.ipynb>`, executed in the *{shelf.profile}* profile. {of_full} "
        f"{address.buttons(name)}\n:::"
    )
    return f"{title}\n\n{note}\n{rest}"


def _figure(shown: str, shelf: Shelf) -> str:
    """Return the directive of a figure, in tabs if the full run has it too."""
    figure, _, of_full = shown.partition(", ")
    if of_full:
        return directive(shelf.full[figure], "../figures/full", f"{figure}-full")
    mine = directive(shelf.made[figure], f"../figures/{shelf.profile}", figure)
    if figure not in shelf.full:
        return mine
    theirs = _plain(shelf.full[figure])
    return (
        f"::::::{{tab-set}}\n:::::{{tab-item}} Quick run\n:sync: quick\n{mine}\n:::::\n"
        f":::::{{tab-item}} Full run\n:sync: full\n{theirs}\n:::::\n::::::"
    )


def directive(record: Record, folder: str, label: str = "") -> str:
    """Return a figure in MyST's form: number, caption and text description."""
    name = f":name: {label}\n" if label else ""
    return (
        f"::::{{figure}} {folder}/{record['id']}.png\n{name}:alt: {_quoted(record['alt'])}\n"
        f":loading: lazy\n\n{record['caption']}\n::::"
    )


def _plain(record: Record) -> str:
    """Return a figure without a number, which only the first of two has."""
    shown = image(f"../figures/full/{record['id']}.png", record["alt"])
    return f"{shown}\n\n::::{{div}} caption-text\n{record['caption']}\n::::"


def image(path: str, alt: str) -> str:
    """Return a picture in MyST's form; it is loaded when a reader comes near."""
    return f"::::{{image}} {path}\n:alt: {_quoted(alt)}\n:loading: lazy\n::::"


def _quoted(text: str) -> str:
    """Return an option's value on one line."""
    return json.dumps(" ".join(text.split()), ensure_ascii=False)


# ---------------------------------------------------------------- links


def linked(text: str, name: str, shelf: Shelf) -> str:
    """Return Markdown in which "notebook 02" leads there, unless that is the page itself."""

    def link(found: re.Match[str]) -> str:
        target = shelf.notebooks.get(found[2])
        if target is None or target == name:
            return found[0]
        return f"[{found[1]}{found[2]}]({target}.ipynb)"

    pattern = r"\b([Nn]otebooks?\s|(?<=\d\d\sand\s)|(?<=\d\d,\s))(\d\d)\b(?!\.\d)"
    return _outside(text, lambda plain: re.sub(pattern, link, plain))


def _outside(text: str, change: Any) -> str:
    """Return a text changed outside its code, formulas, links and headings."""
    done, end = [], 0
    for kept in _PROTECTED.finditer(text):
        done += [change(text[end : kept.start()]), kept[0]]
        end = kept.end()
    return "".join([*done, change(text[end:])])


def cited(text: str, papers: Mapping[str, str]) -> str:
    """Return a list of references in which each title is followed by its entry in the bibliography.

    A title stands between asterisks. It may be shorter than in the bibliography, if it is the
    beginning or another part of one title only.
    """

    def cite(found: re.Match[str]) -> str:
        wanted = plain_title(found[1])
        keys = [papers[wanted]] if wanted in papers else []
        keys = keys or [key for title, key in papers.items() if wanted in title]
        return f"{found[0]} {{cite:p}}`{keys[0]}`" if len(keys) == 1 else found[0]

    before, heading, after = text.partition("## References")
    listed = after.partition("\n## ")
    if not heading:
        before, heading, listed = "", "", (text, "", "")
    entries = re.sub(r"(?<!\*)\*([^*]+)\*(?!\*)", cite, listed[0])
    return before + heading + entries + "".join(listed[1:])
