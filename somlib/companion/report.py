"""Figures, tables, claims and values of a notebook, with records of how they were made.

`start` returns a `Run`, whose methods `save_figure`, `save_table` and `save_interactive` write
files and records, `claim` decides a statement and `values` keeps what every seed gave; `index`
turns the records of a profile into one page. A record is written after the files that it describes,
so that whatever has a record is complete.
"""

import ast
import functools
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from somlib import __version__
from somlib.companion import display, evidence, pictures, verdicts
from somlib.companion.comparison import compared as compared
from somlib.companion.comparison import printed as printed
from somlib.companion.comparison import published as published
from somlib.companion.comparison import versus_published as versus_published
from somlib.companion.folders import output_folder as output_folder
from somlib.companion.folders import project_root as project_root
from somlib.companion.verdicts import significance as significance
from somlib.data import Dataset
from somlib.evaluation.interactive import Piece, close, page
from somlib.files import replacing

PROFILES = ("quick", "full")
"""The sizes of a run: minutes on embedded data, or the papers' own protocol."""

PNG_LIMIT = 200_000
"""Maximal size of a PNG in bytes; those of the full profile are under version control."""

_TEXTS = ("id", "kind", "notebook", "caption", "profile", "device", "platform", "date")
_RECORD: dict[str, type] = dict.fromkeys(_TEXTS, str) | {
    **{"order": int, "seeds": list, "parameters": dict, "versions": dict, "duration": float},
    "commit": object,
}
"""Required fields of a record, and their types."""
_FILES = {"figure": (".png",), "table": (".csv", ".md"), "interactive": (".png",)}
"""Required files. The page of an interactive piece is not under version control."""
RUNS = "runs.csv"
"""All values of all notebooks of a profile, which notebook 06 collects; it has no record."""


# ---------------------------------------------------------------- folders


def notebooks() -> tuple[list[Path], list[Path]]:
    """Return the project's notebooks, sorted by name, and all other notebooks in their folder.

    The project's notebooks are those in figures/registry.csv; if it has none, those with a name
    like 01_som.ipynb. Copies and drafts beside them are neither run nor reported on.
    """
    registered = set(registry().notebook)
    own: list[Path] = []
    others: list[Path] = []
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        known = path.stem in registered if registered else re.fullmatch(r"\d\d_\w+", path.stem)
        (own if known else others).append(path)
    return own, others


# ---------------------------------------------------------------- a run


@dataclass(frozen=True, eq=False)
class Run:
    """One execution of one notebook, as `start` returns it.

    Attributes
    ----------
    notebook, profile : str
        Name and size of the notebook.
    device : str
        The device that is used: "auto" has been resolved.
    deterministic : bool
        Whether a GPU is limited to operations that give the same bits each time.
    seeds : range
        The seeds to run, 0 to n - 1.
    parameters : dict
        Everything else that was set.
    made_by : dict
        Versions, commit, platform and date: the part that all records have in common.
    """

    notebook: str
    profile: str
    device: str
    deterministic: bool
    seeds: range
    parameters: dict[str, Any]
    made_by: dict[str, Any]
    _saved: list[str] = field(default_factory=list, repr=False)
    _claims: dict[str, evidence.Claim] = field(default_factory=dict, repr=False)
    _values: dict[tuple[Any, ...], dict[str, Any]] = field(default_factory=dict, repr=False)
    _origins: set[str] = field(default_factory=set, repr=False)
    _cells: dict[Any, int | None] = field(default_factory=dict, repr=False)
    _clock: float = field(default_factory=time.perf_counter, repr=False)

    @property
    def quick(self) -> bool:
        """Whether this is the small run."""
        return self.profile == "quick"

    @property
    def figures(self) -> Path:
        """The folder that figures and tables go to."""
        return output_folder("figures", self.profile)

    def save_figure(self, fig: Figure, name: str, *, caption: str, alt: str) -> Path:
        """Write a figure as PNG and SVG, with its record, and show its caption.

        Equal figures give equal bytes. In a notebook the caption is shown below the figure, also
        where the figure was drawn in the same cell.

        Parameters
        ----------
        fig : matplotlib.figure.Figure
            The figure; not changed. In the quick profile the files are marked "quick".
        name : str
            Id in lower-case-kebab-case, with the paper's own number where there is one. Unique
            among the notebooks of a profile.
        caption : str
            What is shown and what to conclude from it.
        alt : str
            Alternative text: what can be seen, for readers who cannot see it.

        Returns
        -------
        pathlib.Path
            The PNG, of at most `PNG_LIMIT` bytes: the resolution is lowered until it fits.

        Raises
        ------
        ValueError
            When the name is malformed or taken, or a text is empty.
        """
        record = self._record("figure", name, caption=caption, alt=alt)
        path = self.figures / f"{name}.png"
        with self._drawn(fig) as box:
            _write(path, _png(fig, box, name))
            with replacing(path.with_suffix(".svg")) as partial:
                pictures.svg(fig, box, partial, name)
        self._write_record(record)
        display.show_drawn(fig)
        display.show(f"**{name}.** {record['caption']}")
        return path

    def save_interactive(
        self,
        piece: Piece,
        name: str,
        *,
        caption: str,
        alt: str,
        fallback: Figure | None = None,
    ) -> Path:
        """Write an interactive piece and its fallback picture, with its record, and show it.

        Equal content gives equal bytes. In a notebook the piece is shown with its caption below.

        Parameters
        ----------
        piece : somlib.interactive.Piece
            Made by `interactive.frames` or `interactive.program`.
        name, caption, alt
            As for `save_figure`; `alt` describes the fallback picture, and names the piece.
        fallback : matplotlib.figure.Figure, optional
            What is shown where no script runs, and in print; closed, so that the notebook does not
            show it as well. Frames have one, the picture at their start.

        Returns
        -------
        pathlib.Path
            The page NAME.html, with the piece and its caption; beside it lies the picture NAME.png.

        Raises
        ------
        ValueError
            When there is no fallback, the piece is larger than `interactive.LIMIT`, or as for
            `save_figure`.
        """
        record = self._record("interactive", name, caption=caption, alt=alt)
        if fallback is not None:
            with self._drawn(fallback) as box:
                picture = _png(fallback, box, name)
            close(fallback)
        elif piece.picture is not None:
            picture = piece.picture
        else:
            raise ValueError(
                f"interactive {name!r} needs fallback: a figure that is shown where no script runs"
            )
        try:
            fragment = piece.fragment(picture, record["alt"])
        except ValueError as error:
            raise ValueError(f"interactive {name!r}: {error}") from error
        path = self.figures / f"{name}.html"
        _write(path.with_suffix(".png"), picture)
        _write(path, page(fragment, title=name, caption=record["caption"]))
        self._write_record(record)
        display.show_html(fragment, record["alt"])
        display.show(f"**{name}.** {record['caption']}")
        return path

    def save_table(self, table: pd.DataFrame, name: str, *, caption: str) -> Path:
        """Write a table as CSV, with all digits, and as Markdown, rounded; show its caption.

        Parameters
        ----------
        table : pandas.DataFrame
            The table; an index other than 0, 1, 2, ... becomes its first columns.
        name, caption : str
            As for `save_figure`.

        Returns
        -------
        pathlib.Path
            The CSV file.

        Raises
        ------
        ValueError
            As for `save_figure`.
        """
        record = self._record("table", name, caption=caption)
        path = self.figures / f"{name}.csv"
        table = table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
        with replacing(path) as partial:
            table.to_csv(partial, index=False, lineterminator="\n")
        _write(path.with_suffix(".md"), f"{record['caption']}\n\n{markdown(table)}\n")
        self._write_record(record)
        display.show(f"**{name}.** {record['caption']}")
        return path

    def show_full(self, name: str) -> None:
        """Show, in the quick profile, a figure or table of the committed full run.

        For what a quick run is too small to show. In the full profile nothing is shown, because
        the notebook has just made it; where the committed run has none, a sentence says so.

        Parameters
        ----------
        name : str
            Its id.
        """
        if not self.quick:
            return
        folder = project_root() / "figures" / "full"
        record = _read(folder / f"{name}.json")
        if record is None:
            display.show(f"*The committed full run has no {name}.*")
            return
        title = f"**{name}, full run.** {record['caption']}"
        if record["kind"] == "table":
            text = (folder / f"{name}.md").read_text(encoding="utf-8")
            display.show(f"{title}\n\n{text.partition(record['caption'])[2].strip()}")
        else:
            display.show_picture(folder / f"{name}.png", record.get("alt", ""))
            display.show(title)

    def pretrained(
        self,
        name: str,
        train: Callable[[Dataset], Any],
        measure: Callable[[Any, Dataset], Mapping[str, float]],
    ) -> Any:
        """Return a small model of the package, and show how good it is.

        Where `somlib pretrain` runs the cell, the model is trained on MNIST's training images,
        measured, and written with its record. Everywhere else, in both profiles, it is loaded. Its
        measures on "mnist-sample" are computed in any case and shown beside the recorded ones.

        Parameters
        ----------
        name : str
            Its name for `somlib.load_pretrained`.
        train : callable
            train(images) returns the fitted estimator, given a data set.
        measure : callable
            measure(model, images) returns its measures by name, finite numbers.

        Returns
        -------
        estimator
            Fitted; its large matrices are rounded to 8 bits.

        Raises
        ------
        ValueError
            When the name is malformed, there is no model of that name, or a file is damaged; in
            `somlib pretrain` also when the models would take too much together.
        """
        from somlib.companion import pretraining  # imports torch, which takes seconds

        _require_kebab("model", name)
        return pretraining.model(self, name, train, measure)

    def claim(
        self,
        name: str,
        sentence: str,
        difference: ArrayLike,
        *,
        against: ArrayLike | None = None,
        kind: verdicts.Kind = "greater",
        margin: float = 0.0,
        over: str = "seeds",
        unit: str = "",
    ) -> evidence.Claim:
        """Decide a statement that this run can contradict; show it with its verdict, and keep it.

        Parameters
        ----------
        name : str
            Id in lower-case-kebab-case with the notebook's prefix, as of a figure.
        sentence : str
            The statement, in the positive: "A SOAE on the torus keeps neighbors better than an
            autoencoder on the torus."
        difference : array-like of shape (n,)
            One value per replicate, paired, in the direction of the sentence: positive supports it.
            With a single one the claim is undecided, because nothing tells its spread.
        against : array-like of shape (m,), optional
            Values of the other group. Then `difference` has those of the first, the samples are
            independent, and Welch's interval is used.
        kind : {"greater", "equal"}, default="greater"
            "greater": the mean difference exceeds the margin. It holds if the 95 % interval is
            above the margin, and does not hold if the interval is below. "equal": it is within
            ± margin. It holds if two one-sided tests pass (the 90 % interval is inside), and does
            not hold if the 95 % interval is outside. All else is undecided.
        margin : float, default=0.0
            See `kind`; above 0 for "equal".
        over : str, default="seeds"
            What the replicates are, in the plural.
        unit : str, default=""
            The unit of the difference.

        Returns
        -------
        evidence.Claim
            The numbers and the verdict.

        Raises
        ------
        ValueError
            Without values, with several that have no spread, with a value or margin that is not
            finite, or a name that is malformed or stands twice.
        """
        _require_kebab("claim", name)
        made = evidence.make_claim(
            name, sentence, difference,
            against=against, kind=kind, margin=margin, over=over, unit=unit,
        )  # fmt: skip
        before = self._claims.get(name)
        if before and (before.sentence != made.sentence or not self._cell_again(name)):
            raise ValueError(
                f"claim {name!r} stands twice in {self.notebook}; choose another id, or begin anew "
                "with the cell of report.start."
            )
        self._cells[name] = display.cell_number()
        self._claims[name] = made
        table = evidence.claims_table(self._claims.values())
        self._keep("claims", table.assign(commit=self.made_by["commit"] or ""))
        display.show(made.line)
        return made

    def claims(self) -> pd.DataFrame:
        """Return the claims made so far, with verdicts corrected for their number.

        Returns
        -------
        pandas.DataFrame
            Columns `claim`, `sentence`, `difference`, `low` and `high` (the raw 95 % interval),
            `replicates`, `alone` (the raw verdict), `p (Holm)` and `verdict`, by Holm's procedure
            over all claims of the notebook.
        """
        return evidence.claims_shown(self._claims.values())

    def values(
        self,
        experiment: str,
        method: str,
        data: str,
        metrics: Mapping[str, ArrayLike],
        *,
        seeds: Sequence[int],
        changed: str = "",
        protocol: str = "",
    ) -> None:
        """Keep the values of every seed, for tables, verdicts and notebook 06.

        Parameters
        ----------
        experiment : str
            The paper's table or figure, such as "desom table 2", or a name of ours.
        method, data : str
            As `data/published.csv` names them, where they are there.
        metrics : mapping of str to array-like
            One value per seed for each metric: "purity", "accuracy", "nmi (arithmetic)".
        seeds : sequence of int
            The seeds, in the order of the values.
        changed : str, default=""
            What differs from the paper, in words and numbers: "2000 iterations instead of
            10 000". Shown beside the number wherever it is printed.
        protocol : str, default=""
            The images that are judged: "all images", "test images".

        Raises
        ------
        ValueError
            When a metric has not one finite value per seed, an NMI names no average, a name is
            empty, or a value has been kept already.
        """
        rows = evidence.long_format(
            experiment, method, data, metrics, seeds=seeds, changed=changed, protocol=protocol
        )
        for row in rows:
            key = tuple(row[column] for column in evidence.KEY)
            if key in self._values and not self._cell_again(key):
                raise ValueError(
                    f"{row['metric']} of {method!r} on {data!r} in {experiment!r}, seed "
                    f"{row['seed']}, is kept already; if the two differ, say how in `changed`."
                )
            self._cells[key] = display.cell_number()
            self._values[key] = row | {"commit": self.made_by["commit"] or ""}
        self._keep("values", self.kept)

    @property
    def kept(self) -> pd.DataFrame:
        """All values that this run has kept, in long format."""
        return evidence.values_table(self._values.values())

    def compared(self, experiment: str) -> pd.DataFrame:
        """Return a table of a paper beside the values that this run has kept for it.

        Parameters
        ----------
        experiment : str
            The paper's table, such as "desom table 2".

        Returns
        -------
        pandas.DataFrame
            As of `compared`. The full profile has a row for every printed number, the quick one
            for those of data sets that it uses.
        """
        stated, kept = printed(experiment), self.kept
        kept = kept[kept["experiment"] == experiment]
        return compared(kept, stated[stated["data"].isin(kept["data"])] if self.quick else stated)

    def note_origin(self, made_on: Mapping[str, Any]) -> None:
        """Note where a cached result was made; records say so if it was not made by this machine.

        Parameters
        ----------
        made_on : mapping
            Its `device`, `versions` and, if known, `platform`, as in the description of the result.
        """
        if origin := _origin(made_on, {"device": self.device} | self.made_by):
            self._origins.add(origin)

    @contextmanager
    def _drawn(self, fig: Figure) -> Iterator[Bbox]:
        """Lay a figure out inside a `with`, in the quick profile marked so; yield its box."""
        mark = "quick" if self.quick else ""
        with pictures.laid_out(fig) as box, pictures.marked(fig, box, mark) as whole:
            yield pictures.framed(whole)

    def _keep(self, what: str, table: pd.DataFrame) -> None:
        folder = self.figures / what
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{self.notebook}.csv") as partial:
            table.to_csv(partial, index=False, lineterminator="\n")

    def _cell_again(self, key: Any) -> bool:
        """Whether a notebook's reader has run the cell again that kept this."""
        return display.cell_number() is not None and display.cell_number() != self._cells.get(key)

    def _record(self, kind: str, name: str, **texts: str) -> dict[str, Any]:
        """Return the beginning of a record, once name and texts have been checked."""
        _require_kebab(kind, name)
        for what, text in texts.items():
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"{kind} {name!r} needs {what}: a sentence, found {text!r}")
        path = self.figures / f"{name}.json"
        other = _read(path) or {}
        owner = (other.get("kind", kind), other.get("notebook", self.notebook))
        if owner != (kind, self.notebook):
            raise ValueError(
                f"{kind} id {name!r} of {self.notebook} is taken by the {owner[0]} of {owner[1]}; "
                f"choose another id, or delete {path} if that {owner[0]} is no longer made."
            )
        tidy = {what: " ".join(text.split()) for what, text in texts.items()}
        return {"id": name, "kind": kind, "notebook": self.notebook, **tidy}

    def _write_record(self, record: dict[str, Any]) -> None:
        if record["id"] not in self._saved:
            self._saved.append(record["id"])
        made = {
            "order": self._saved.index(record["id"]) + 1,
            "profile": self.profile,
            "device": self.device,
            "deterministic": self.deterministic,
            "seeds": list(self.seeds),
            "parameters": self.parameters,
            "duration": round(time.perf_counter() - self._clock, 1),
            "peak memory": _peak_memory(self.device),
        }
        if self._origins:
            made["results of"] = sorted(self._origins)
        text = json.dumps(record | made | self.made_by, indent=2, ensure_ascii=False, default=str)
        _write(self.figures / f"{record['id']}.json", text + "\n")


def start(
    notebook: str,
    *,
    profile: str,
    device: str,
    seeds: int,
    deterministic: bool = False,
    **parameters: Any,
) -> Run:
    """Return the run that saves the notebook's figures and tables; called in its second cell.

    Figures then look the same whatever the user's settings: matplotlib's parameters are reset to
    their defaults, and a kernel draws into the notebook even if MPLBACKEND names another backend.
    Sentences in tables are shown whole.

    Parameters
    ----------
    notebook : str
        Name of the notebook's file without suffix, such as "01_som".
    profile : {"quick", "full"}
        Size of the run.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute; kept resolved in `Run.device`.
    seeds : int
        How many seeds to run.
    deterministic : bool, default=False
        Let PyTorch use on a GPU only operations that give the same bits each time, and raise an
        error where it has none; on the CPU all of them do. Call before anything is computed.
    **parameters
        The notebook's own parameters, for the record.

    Raises
    ------
    ValueError
        When a value is not of its type. Given with papermill's own `-p`, `false` and `1e-3`
        arrive as text, and the text "false" is true.
    RuntimeError
        When the device is not available.
    """
    _expect(re.fullmatch(r"\d\d_\w+", str(notebook)), "notebook", notebook, "a name like '01_som'")
    _expect(profile in PROFILES, "profile", profile, "'quick' or 'full'")
    _expect(isinstance(device, str), "device", device, "'auto', 'cpu', 'cuda' or 'mps'")
    _expect(type(seeds) is int and seeds > 0, "seeds", seeds, "a whole number of at least 1")
    _expect(type(deterministic) is bool, "deterministic", deterministic, "True or False")
    for name, value in parameters.items():
        _expect(not _spells_a_value(value), name, value, "the value itself, not its spelling")
    if device != "cpu":  # the CPU is always there; torch takes seconds to import
        from somlib.training.loop import resolve_device

        device = str(resolve_device(device))
    if device != "cpu":
        import torch

        if deterministic:  # PyTorch demands this of cuBLAS, which reads it when CUDA starts
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(deterministic)
    _reset_matplotlib()
    display.lay_out_once()
    pd.set_option("display.max_colwidth", None)
    made_by = provenance(device)
    return Run(notebook, profile, device, deterministic, range(seeds), parameters, made_by)


def _reset_matplotlib() -> None:
    matplotlib.rcdefaults()
    outside = os.environ.get("MPLBACKEND", "")
    in_kernel = "ipykernel.kernelapp" in sys.modules
    if not in_kernel or "inline" in outside:
        return
    if matplotlib.get_backend().lower() == outside.lower():  # else a cell has chosen another
        matplotlib.use("inline")


def _require_kebab(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"{kind} id {name!r} must be lower-case-kebab-case, as 'som-digits-sheet'")


def _expect(holds: object, name: str, found: object, expected: str) -> None:
    if not holds:
        raise ValueError(
            f"parameter {name} = {found!r} ({type(found).__name__}); expected {expected}. "
            "On the command line, `somlib reproduce -p name=value` reads values by their type."
        )


def _spells_a_value(value: object) -> bool:
    """Return whether a string is the spelling of a number, truth value, None or list."""
    if not isinstance(value, str):
        return False
    try:
        return not isinstance(ast.literal_eval(value), str)
    except (ValueError, SyntaxError):
        return value.lower() in ("true", "false", "null")


def provenance(device: str) -> dict[str, Any]:
    """Return how a result was computed: platform, versions, commit and date."""
    return {
        "platform": platform_of(device),
        "versions": versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Return the versions that a result may depend on; None for packages not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "somlib": __version__}
    return found | {n: _version(n) for n in ("torch", "numpy", "scikit-learn", "matplotlib")}


@functools.cache  # each cached result asks, and each answer reads a long file
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def platform_of(device: str) -> str:
    """Return system, processor and, if one is there and used, the name of the GPU."""
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processor cores"
    if not device.startswith("cuda"):
        return machine
    import torch

    if not torch.cuda.is_available():  # a model from elsewhere may still name the device
        return machine
    return f"{machine}, {torch.cuda.get_device_name(device)}"


def _origin(made_on: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Return in short what differs between the machine of a result and this one; else "".

    Examples
    --------
    >>> here = {"device": "cpu", "platform": "Linux x86_64, 2 processor cores",
    ...         "versions": {"torch": "2.11.0+cpu"}}
    >>> gpu = "Linux x86_64, 26 processor cores, NVIDIA H100 80GB HBM3"
    >>> _origin({"device": "cuda", "platform": gpu, "versions": {"torch": "2.11.0+cu130"}}, here)
    'NVIDIA H100 80GB HBM3, torch 2.11.0+cu130'
    """
    place = "platform" if "platform" in made_on else "device"  # older results name only a device
    parts = [] if made_on[place] == here[place] else [made_on[place].split("cores, ")[-1]]
    for name, version in made_on["versions"].items():
        if version != here["versions"].get(name):
            parts.append(f"{name} {version or 'missing'}")
    return ", ".join(parts)


def _commit() -> str | None:
    """Return the commit of the project, marked "-dirty" if files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(project_root()), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        # these are committed, and what a run writes does not change what it computes
        written = [f":(exclude){folder}" for folder in ("figures", "somlib/models/weights")]
        changed = git("status", "--porcelain", "-uno", "--", ".", *written)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


# ---------------------------------------------------------------- the registry


def registry() -> pd.DataFrame:
    """Return the figures and tables that notebooks must make, from figures/registry.csv.

    Returns
    -------
    pandas.DataFrame
        By id: `kind` ("figure", "table" or "interactive"), `notebook`, `paper` and `number` of what
        it repeats, if anything, `title`, and whether it is in the README's `gallery`. Empty if the
        file does not exist, because this is not a checkout of the project.

    Examples
    --------
    >>> registry().loc["desom-table2", "title"]
    'Purity and NMI beside the published'
    """
    columns = ["id", "kind", "notebook", "paper", "number", "title", "gallery"]
    path = project_root() / "figures" / "registry.csv"
    rows = pd.read_csv(path, dtype=str) if path.exists() else pd.DataFrame(columns=columns)
    if list(rows.columns) != columns:
        raise ValueError(f"{path} has the columns {list(rows.columns)}; expected {columns}")
    return rows.fillna("").set_index("id")


def gallery() -> str:
    """Return the README's gallery: one committed figure per notebook, two in a row."""
    cells = []
    for name, row in registry().query("gallery != ''").iterrows():
        record = _read(project_root() / "figures" / "full" / f"{name}.json")
        if record is not None:  # it has been made in the full profile
            notebook = f"[{row.notebook}](notebooks/{row.notebook}.ipynb)"
            picture = f"![{_alt(record)}](figures/full/{name}.png)"
            cells.append(f"{picture}<br>*{row.title}* ({notebook})")
    if len(cells) % 2:
        cells.append("")
    rows = [f"| {a} | {b} |" for a, b in zip(cells[::2], cells[1::2], strict=True)]
    return "\n".join(["| | |", "| --- | --- |", *rows])


# ---------------------------------------------------------------- figures and tables


def _png(fig: Figure, box: Bbox, name: str) -> bytes:
    """Return a figure as PNG of at most `PNG_LIMIT` bytes."""
    try:
        return pictures.png(fig, box, PNG_LIMIT)
    except ValueError as error:
        raise ValueError(f"figure {name!r} {error}") from error


def markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown; a column `± sd` is joined with the column before it.

    Examples
    --------
    >>> print(markdown(pd.DataFrame({"map": ["8×8"], "QE": [1.23456], "± sd": [0.0123]})))
    | map | QE ± sd |
    | :--- | ---: |
    | 8×8 | 1.235 ± 0.012 |
    """
    heads: list[str] = []
    rules: list[str] = []
    columns: list[list[str]] = []
    for position, head in enumerate(map(str, table.columns)):
        values = table.iloc[:, position]
        numeric = pd.api.types.is_numeric_dtype(values)
        # a missing value turns integers into floats
        whole = pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all()
        cells = [_cell(int(v) if whole and not pd.isna(v) else v) for v in values]
        if head.startswith("±") and columns:
            heads[-1] += f" {head}"
            columns[-1] = [f"{a} ± {b}" for a, b in zip(columns[-1], cells, strict=True)]
        else:
            heads.append(head)
            rules.append("---:" if numeric else ":---")
            columns.append(cells)
    rows = [heads, rules, *zip(*columns, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "–"
    if not isinstance(value, float | np.floating):
        return str(value).replace("|", "\\|").replace("\n", " ")
    size = abs(float(value))
    if 0 < size < 5e-4:
        return f"{value:.2g}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.{1 if size >= 10 else 3}f}"


# ---------------------------------------------------------------- records and their index


def _peak_memory(device: str) -> dict[str, int | None]:
    """Return the peak memory of this process in MB and, if one is used, of the GPU."""
    try:
        import resource
    except ImportError:  # Windows
        peak = None
    else:
        unit = 1 if platform.system() == "Darwin" else 1024
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
    found: dict[str, int | None] = {"MB": peak}
    if device.startswith("cuda"):
        import torch

        found["GPU MB"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return found


def _write(path: Path, content: str | bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _read(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if it is malformed or has the id of another file."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        sound = all(isinstance(record[name], sort) for name, sort in _RECORD.items())
        sound = sound and record["kind"] in _FILES and record["id"] == path.stem
        sound = sound and isinstance(record.get("peak memory", {}), dict)
        sound = sound and isinstance(record.get("results of", []), list)
        return record if sound and isinstance(record.get("alt", ""), str) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def records(folder: Path) -> list[dict[str, Any]]:
    """Return the records in a folder such as figures/quick: by notebook, in the order of saving."""
    found = [_read(path) for path in folder.glob("*.json")]
    return sorted(filter(None, found), key=lambda r: (r["notebook"], r["order"], r["id"]))


def collect_runs(folder: Path) -> pd.DataFrame:
    """Write `RUNS` of a folder figures/<profile>: the values that all notebooks have kept.

    Returns
    -------
    pandas.DataFrame
        The rows of that file, by notebook and in the order in which they were kept: columns
        `notebook` and `evidence.VALUES`. Empty, and no file is written, if no notebook kept any.
    """
    table = evidence.read(folder / "values")
    if table.empty:
        return pd.DataFrame(columns=["notebook", *evidence.VALUES])
    with replacing(folder / RUNS) as partial:
        table.to_csv(partial, index=False, lineterminator="\n")
    return table


def index(folder: Path) -> Path:
    """Write the page of a folder figures/<profile>, its README.md, from the records there.

    Returns
    -------
    pathlib.Path
        The page: all figures and tables by notebook, how each was made, and what is missing.
    """
    found, known = records(folder), registry()
    lines = [
        f"# Figures and tables: {folder.name}",
        "",
        f"Made by `somlib reproduce --profile {folder.name}`.",
    ]
    if problems := _problems(folder, found, known):
        lines += ["", "Not complete:", "", *(f"- {problem}" for problem in problems)]
    notebook = None
    for record in found:
        if record["notebook"] != notebook:
            notebook = record["notebook"]
            lines += ["", f"## {notebook}", *_kept(folder, record["notebook"])]
        lines += ["", f"### {record['id']}{_of(known, record)}", ""]
        lines += [*_shown(folder, record), "", _how(record)]
    _write(folder / "README.md", "\n".join(lines) + "\n")
    return folder / "README.md"


def _kept(folder: Path, notebook: str) -> list[str]:
    """Return lines about a notebook's claims and values."""
    lines = []
    if (folder / "claims" / f"{notebook}.csv").exists():
        table = pd.read_csv(folder / "claims" / f"{notebook}.csv")
        columns = ["sentence", "difference", "low", "high", "alone", "verdict"]
        lines += [
            "",
            f"Its claims, with 95 % intervals; `verdict` is corrected for their number ([all "
            f"columns](claims/{notebook}.csv)):",
            "",
            markdown(table[columns]),
        ]
    if (folder / "values" / f"{notebook}.csv").exists():
        lines += ["", f"What every seed gave: [values/{notebook}.csv](values/{notebook}.csv)."]
    return lines


def _of(known: pd.DataFrame, record: dict[str, Any]) -> str:
    """Return title, paper and number, if the registry has them."""
    if record["id"] not in known.index:
        return ""
    row = known.loc[record["id"]]
    return f": {row.title}" + (f" ({row.paper}, {row.number})" if row.paper else "")


def _alt(record: dict[str, Any]) -> str:
    return re.sub(r"([\[\]])", r"\\\1", record.get("alt", ""))


def _shown(folder: Path, record: dict[str, Any]) -> list[str]:
    if record["kind"] == "table":
        table = folder / f"{record['id']}.md"
        return [table.read_text(encoding="utf-8").strip() if table.exists() else record["caption"]]
    lines = [f"![{_alt(record)}]({record['id']}.png)", "", record["caption"]]
    if record["kind"] == "interactive":
        lines += [
            "",
            f"The piece itself is in the executed notebook and in `{record['id']}.html`, which a "
            "run leaves in this folder.",
        ]
    return lines


def _how(record: dict[str, Any]) -> str:
    used = ", ".join(f"{name} {version or '?'}" for name, version in record["versions"].items())
    seeds = len(record["seeds"])
    fewer = any(k.endswith("_seeds") and v != seeds for k, v in record["parameters"].items())
    parts = [
        record["profile"],
        record["device"] + (", deterministic" if record.get("deterministic") else ""),
        f"{seeds} seeds, of some results as its parameters say" if fewer else f"{seeds} seeds",
        *(f"{name} = {value}" for name, value in record["parameters"].items()),
        f"{record['duration']} s after the start",
        *(f"at most {n} {unit}" for unit, n in record.get("peak memory", {}).items() if n),
        record["platform"],
        used,
        f"commit {record['commit'] or 'unknown'}",
    ]
    if origins := record.get("results of"):
        parts.append(f"with results of: {'; '.join(map(str, origins))}")
    return f"<sub>{' · '.join(parts)}</sub>"


def _problems(folder: Path, found: list[dict[str, Any]], known: pd.DataFrame) -> list[str]:
    """Return sentences about files that are missing, damaged, unknown or from an earlier run."""
    made = {record["id"] for record in found}
    latest = {
        record["notebook"]: record["date"] for record in sorted(found, key=lambda r: r["date"])
    }
    problems = []
    for record in found:
        missing = [s for s in _FILES[record["kind"]] if not (folder / (record["id"] + s)).exists()]
        problems += [f"`{record['id']}{suffix}` is missing" for suffix in missing]
        if record["date"] != latest[record["notebook"]]:
            problems.append(
                f"`{record['id']}` is from an earlier run of {record['notebook']} than the others"
            )
    for path in sorted(folder.glob("[!.]*.*")):
        if path.name == RUNS:
            continue
        if path.suffix in (".png", ".csv", ".json") and path.stem not in made:
            problems.append(f"`{path.name}` has no readable record")
    for path in notebooks()[0]:
        if path.stem not in latest:
            problems.append(f"nothing from {path.stem} yet")
    due = known[known.notebook.isin(latest)]
    problems += [
        f"`{name}` of {due.notebook[name]} was not made" for name in due.index.difference(made)
    ]
    if len(known):
        problems += [f"`{name}` is not in the registry" for name in sorted(made - set(known.index))]
    return problems
