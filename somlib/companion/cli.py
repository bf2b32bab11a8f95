"""`somlib reproduce` runs the notebooks, `somlib report` builds the page of figures and tables.

`somlib handout` writes the notebooks without the answers to their exercises, `somlib slides` the
executed ones as slides, and `somlib book` builds the book from them. `somlib pretrain` trains the
small models of the package again. `somlib results` carries cached results to another machine.
`somlib fit` trains one model, also in several processes started by `torchrun`, on one machine or on
many. All requests are checked before a notebook or a training starts. Slow imports wait until they
are needed: a refusal or `--help` takes no time.
"""

import argparse
import ast
import io
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import somlib
from somlib import __version__, files

if TYPE_CHECKING:
    from somlib.companion.runner import Job

COMMON = ("profile", "device", "n_seeds", "deterministic")
"""The parameters that every notebook has; each is set by an option of its own."""

FULL_SEEDS = 10
"""The papers report ten runs; the quick profile uses the notebook's own number."""


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """A request that cannot be met; the text tells the user why. Exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a notebook or a training failed. 2: refused, nothing was run. 130: stopped by
    Ctrl-C. Printing never fails: characters that the terminal's encoding lacks are written as
    escapes, and output that a closed pipe or a full disk does not accept is dropped.

    Examples
    --------
    >>> main(["reproduce", "--only", "99_nothing"])  # prints which notebooks the project has
    2
    """
    with _printing():
        options = _parser().parse_args(arguments)
        try:
            return int(options.command(options))
        except Refused as refusal:
            print(f"somlib: {refusal}", file=sys.stderr)
            return 2


class _Lenient(io.FileIO):
    """A file that drops what cannot be written."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


@contextmanager
def _printing() -> Iterator[None]:
    """Make sure that printing, also by a progress bar, raises no error inside a `with`."""
    before = sys.stdout, sys.stderr
    try:
        for name, original in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
            stream = getattr(sys, name)
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            # a terminal accepts all; on Windows it is more than a file
            if stream is None or stream is not original or original.isatty():
                continue
            lenient = io.TextIOWrapper(
                io.BufferedWriter(_Lenient(original.fileno(), "w", closefd=False)),
                original.encoding,
                "backslashreplace",
                line_buffering=original.line_buffering,
            )
            setattr(sys, name, lenient)
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="somlib", description=__doc__)
    parser.add_argument("--version", action="version", version=f"somlib {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    run = commands.add_parser("reproduce", help="run notebooks, regenerate figures and tables")
    page = commands.add_parser("report", help="build the page of figures and tables of a profile")
    students = commands.add_parser("handout", help="write the notebooks without their solutions")
    lecture = commands.add_parser("slides", help="write executed notebooks as slides")
    whole = commands.add_parser("book", help="build the book from executed notebooks")
    small = commands.add_parser("pretrain", help="train the small models of the package again")
    train = commands.add_parser("fit", help="train one model and save it")
    _add_fit(train)
    _add_results(commands.add_parser("results", help="carry cached results to another machine"))
    page.set_defaults(command=build_report)
    for command in (run, page, lecture, whole):
        command.add_argument(
            "--profile", choices=("quick", "full"), default="quick",
            help="quick: small sizes, in minutes; full: the papers' protocol (default: quick)",
        )  # fmt: skip
    for command in (run, page, whole):
        _add_output(command)
    _add_reproduce(run)
    whole.set_defaults(command=make_book)
    students.set_defaults(command=handout)
    lecture.set_defaults(command=make_slides)
    small.set_defaults(command=pretrain)
    for command, made, default in (
        (students, "copies", "handout/ of the project"),
        (lecture, "slides", "slides/ of the project"),
        (small, "weights and records", "that of the package"),
    ):
        command.add_argument(
            "--output", dest="folder", metavar="DIR",
            help=f"folder of the {made} (default: {default})",
        )  # fmt: skip
    for command in (run, small):
        _add_device(command)
    for command in (run, students, lecture, small):
        command.add_argument("--only", nargs="+", metavar="NN", help="notebooks, as 01 or 01_som")
    for command, what in (
        (run, "set a notebook's own parameter, in every selected notebook that has it"),
        (train, "set a parameter of the model, such as hidden=(64,) or init=sample"),
    ):
        command.add_argument(
            "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help=what
        )
    return parser


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--output", dest="folder", metavar="DIR",
        help="folder of figures/ and runs/ (default: SOMLIB_OUTPUT, or else the project)",
    )  # fmt: skip


def _add_device(command: argparse.ArgumentParser, use: str = "where to compute") -> None:
    command.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), default="auto",
        help=f"{use} (default: a CUDA GPU if there is one, else the CPU)",
    )  # fmt: skip


def _add_reproduce(run: argparse.ArgumentParser) -> None:
    run.set_defaults(command=reproduce)
    run.add_argument(
        "--seeds", type=int, metavar="N",
        help=f"runs per result (default: the notebook's own, {FULL_SEEDS} in the full profile)",
    )  # fmt: skip
    run.add_argument(
        "--jobs", type=int, metavar="N",
        help="notebooks that run at the same time (default: one per processor core in the quick "
        "profile, where each has one thread; 1 in the full profile, where N share the cores)",
    )  # fmt: skip
    run.add_argument(
        "--deterministic", action="store_true",
        help="compute the same bits each time on a GPU too, or fail; a CPU always does",
    )  # fmt: skip


def _add_fit(train: argparse.ArgumentParser) -> None:
    train.set_defaults(command=fit)
    train.add_argument("model", metavar="MODEL", help=f"one of {_list(somlib.TRAINED)}")
    train.add_argument(
        "--data", required=True, metavar="NAME", help="a data set, or a FILE.npy of samples by rows"
    )
    train.add_argument(
        "--split", choices=("all", "train", "test"), default="all",
        help="part of the data set (default: all)",
    )  # fmt: skip
    # as strings: a Path would lose the slash that makes a folder of a name
    train.add_argument(
        "--output", dest="file", type=os.path.expanduser, required=True, metavar="FILE.npz",
        help="file of the trained model; somlib.load reads it",
    )  # fmt: skip
    train.add_argument(
        "--checkpoint", type=os.path.expanduser, metavar="FILE",
        help="file of the state of the training, written every few seconds; if the training is "
        "interrupted, the same command resumes it",
    )  # fmt: skip


def _add_results(results: argparse.ArgumentParser) -> None:
    ways = results.add_subparsers(required=True, metavar="way")
    out = ways.add_parser("export", help="write the results of the present code to a folder")
    back = ways.add_parser("import", help="put exported results into the cache")
    out.set_defaults(command=export_results)
    back.set_defaults(command=import_results)
    for command in (out, back):
        _add_output(command)
    out.add_argument(
        "export", metavar="FOLDER",
        help="created if it does not exist; an earlier export there is added to",
    )  # fmt: skip
    out.add_argument(
        "--limit", metavar="MB",
        help="write at most so much, first what took longest per megabyte (default: all)",
    )  # fmt: skip
    back.add_argument(
        "exports", metavar="FOLDER", nargs="+", help="written by `somlib results export`"
    )
    back.add_argument(
        "--other-machines", action="store_true",
        help="also take results of the same code and data from other devices and versions, as if "
        "they had been computed here; figures made with them name their origin",
    )  # fmt: skip
    _add_device(back, "with --other-machines: the device they are taken for")


# ---------------------------------------------------------------- what to run, or why not


def plan(options: argparse.Namespace) -> "list[Job]":
    """Return the notebooks to run with their parameters, or raise `Refused`."""
    from somlib import checks

    notebooks = _select(options.only)
    for name in ("seeds", "jobs"):
        if (value := getattr(options, name)) is not None:
            with _refusing():
                checks.require(f"--{name}", value, checks.Count)
    names = ("profile", "device", "deterministic")
    common = {name: getattr(options, name) for name in names}
    if seeds := options.seeds or (options.profile == "full" and FULL_SEEDS):
        common["n_seeds"] = seeds
    given = dict(_assignment(text) for text in options.parameters)
    declared = {notebook: _declared(notebook) for notebook in notebooks}
    known = {name for types in declared.values() for name in types} - set(COMMON)
    for name in given:
        if name in COMMON:
            raise Refused(f"-p {name}: use --{name.removeprefix('n_')}")
        if name not in known:
            raise Refused(f"unknown parameter {name!r}; the notebooks have {_list(known)}")
    if options.device not in ("auto", "cpu"):
        _require_device(options.device)
    parameters = {
        notebook: common | {n: _typed(n, given[n], types[n], notebook) for n in given if n in types}
        for notebook, types in declared.items()
    }
    from somlib.companion.runner import Job

    return [Job(notebook, own) for notebook, own in parameters.items()]


def _select(only: list[str] | None) -> list[Path]:
    from somlib.companion.report import notebooks, project_root

    paths, others = notebooks()
    found = {path.stem: path for path in paths}
    if not found:
        folder = project_root() / "notebooks"
        raise Refused(f"no notebooks in {folder}; run this in the project's folder")
    skipped = f"not in figures/registry.csv: {_list(path.name for path in others)}"
    for wanted in only or ():
        if wanted not in found and wanted not in [stem[:2] for stem in found]:
            known = f"{_list(found)} ({skipped})" if others else _list(found)
            raise Refused(f"unknown notebook {wanted!r}; there are {known}")
    if others and not only:
        print(f"skipped, because {skipped}", flush=True)
    return [p for stem, p in found.items() if not only or stem in only or stem[:2] in only]


def _declared(notebook: Path) -> dict[str, str]:
    """Return the parameters that a notebook declares, `name: type = value`, and their types.

    The cell is parsed as Python, because papermill's own inspection overlooks lines whose comment
    holds an equals sign.
    """
    try:
        cells = _content(notebook)["cells"]
        (cell,) = [c for c in cells if "parameters" in c["metadata"].get("tags", ())]
        lines = ast.parse("".join(cell["source"])).body
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise Refused(
            f"{notebook.name} cannot be read ({error}); expected a notebook with one cell tagged "
            "'parameters'"
        ) from error
    types = {
        ast.unparse(x.target): ast.unparse(x.annotation)
        for x in lines
        if isinstance(x, ast.AnnAssign)
    }
    if missing := set(COMMON) - set(types):
        raise Refused(f"{notebook.name} must declare, with their types, {_list(missing)}")
    return types


def _content(notebook: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8-sig"))
    return content


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Refused(f"-p {text!r}: expected NAME=VALUE")
    return name, value


def _typed(name: str, text: str, kind: str, notebook: Path) -> Any:
    """Return what `text` means as a parameter of type `kind`."""
    from somlib import checks

    types: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool}
    if kind not in types:
        raise Refused(f"parameter {name}: a {kind} cannot be given here; edit {notebook.name}")
    words = {"true": True, "false": False}
    value = text if kind == "str" else words.get(text.lower(), _literal(text))
    with _refusing("-p "):
        checks.require(name, value, types[kind])
    return float(value) if kind == "float" else value


def _literal(text: str) -> Any:
    """Return the value of a Python literal, or else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


@contextmanager
def _refusing(option: str = "") -> Iterator[None]:
    """Turn a ValueError about an argument into a refusal."""
    try:
        yield
    except ValueError as error:
        raise Refused(f"{option}{error}") from error


def _require_device(device: str, option: str = "--device ") -> None:
    from somlib.training.loop import resolve_device

    try:
        resolve_device(device)
    except (RuntimeError, ValueError) as error:
        raise Refused(f"{option}{device}: {error}") from error


def _require_writable(folder: Path, remedy: str = "choose --output DIR") -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror}; {remedy}") from error


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


# ---------------------------------------------------------------- running


def reproduce(options: argparse.Namespace) -> int:
    """Run the selected notebooks, several at the same time, then build the page of the profile."""
    jobs, output, began = plan(options), _output_folder(options), time.monotonic()
    copies, page = output / "runs" / options.profile, output / "figures" / options.profile
    places = (copies, page, output / "runs" / "cache")
    for folder in places:
        _require_writable(folder)
    from somlib.companion import report, runner

    with ExitStack() as stack:
        claims = {job.notebook: stack.enter_context(ExitStack()) for job in jobs}
        for notebook, claim in claims.items():
            _claim(copies / notebook.name, claim)
        for folder in places:
            files.remove_partials(folder)
            # again at the end: of a killed run, a kernel may live for another second
            stack.callback(files.remove_partials, folder)
        at_once, threads = _shares(options)
        in_rounds = options.profile == "full"
        running = runner.Runner(jobs, copies, page, at_once, claims, in_rounds=in_rounds)
        try:
            with runner.kernel_settings(output, threads), chdir(report.project_root()):
                running.run()
        except KeyboardInterrupt:
            finished = _list(o.notebook for o in running.outcomes if o.status == "done")
            runner.say(
                f"stopped\nFinished: {finished}. Run the same command again to resume: results "
                "computed until now are read from the cache."
            )
            return 130
    runner.print_summary(running.outcomes, time.monotonic() - began)
    print(f"Figures and tables: {report.index(page)}\nExecuted notebooks: {copies}")
    return 1 if any(outcome.status == "failed" for outcome in running.outcomes) else 0


def _claim(file: Path, claims: ExitStack) -> None:
    """Reserve a file for this process until `claims` is closed."""
    try:
        claims.enter_context(files.claimed(file))
    except files.InUseError as error:
        raise Refused(error.strerror) from error


def _output_folder(options: argparse.Namespace) -> Path:
    from somlib.companion.report import output_folder

    return Path(options.folder).expanduser().absolute() if options.folder else output_folder()


def _shares(options: argparse.Namespace) -> tuple[int, int | None]:
    """Return how many notebooks run at the same time, and with how many threads, None for all.

    In the quick profile each has one thread, so that results do not depend on `--jobs`.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    if options.profile == "quick":
        return options.jobs or cores, 1
    at_once = options.jobs or 1
    return at_once, max(1, cores // at_once) if at_once > 1 else None


def build_report(options: argparse.Namespace) -> int:
    """Build the page of a profile from the figures and tables that exist."""
    from somlib.companion import report

    folder = _output_folder(options) / "figures" / options.profile
    if not report.records(folder):
        raise Refused(f"nothing recorded in {folder}; run `somlib reproduce` first")
    _require_writable(folder)
    print(report.index(folder))
    return 0


def handout(options: argparse.Namespace) -> int:
    """Write copies of the notebooks without the cells tagged `solution`."""
    from somlib.companion.report import project_root

    selected = _select(options.only)
    folder = Path(options.folder).expanduser() if options.folder else project_root() / "handout"
    if any(files.same(notebook, folder / notebook.name) for notebook in selected):
        raise Refused(f"--output {folder}: the notebooks themselves are there; choose another DIR")
    _require_writable(folder)
    for notebook in selected:
        try:
            content = _content(notebook)
            cells = content["cells"]
            content["cells"] = [c for c in cells if "solution" not in c["metadata"].get("tags", ())]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Refused(f"{notebook.name} cannot be read ({error})") from error
        with files.replacing(folder / notebook.name) as partial:
            text = json.dumps(content, indent=1, ensure_ascii=False)
            partial.write_text(text + "\n", encoding="utf-8")
        print(f"{folder / notebook.name}: {len(cells) - len(content['cells'])} cells left out")
    return 0


def make_slides(options: argparse.Namespace) -> int:
    """Write the executed notebooks of a profile as slides, with all that they load."""
    from somlib.companion.report import output_folder, project_root

    selected = _select(options.only)
    runs = output_folder("runs", options.profile)
    waiting = [notebook.stem for notebook in selected if not (runs / notebook.name).is_file()]
    if waiting:
        raise Refused(
            f"not executed in the {options.profile} profile: {_list(waiting)}; first run "
            f"`somlib reproduce --profile {options.profile} --only {' '.join(waiting)}`"
        )
    folder = Path(options.folder).expanduser() if options.folder else project_root() / "slides"
    _require_writable(folder)
    from somlib.companion import slides

    try:
        slides.copy_scripts(folder)
    except slides.NotInstalledError as error:
        raise Refused(str(error)) from error
    for notebook in selected:
        try:
            print(slides.write(runs / notebook.name, folder))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise Refused(f"{runs / notebook.name} cannot be read ({error})") from error
    return 0


def make_book(options: argparse.Namespace) -> int:
    """Build the book; notebooks that have not been executed as they are now run first."""
    from somlib.companion import book
    from somlib.companion.report import project_root

    output = _output_folder(options)
    folder = (output if options.folder else project_root()) / "book" / "_build"
    _require_writable(folder)
    if waiting := book.missing(options.profile, output):
        own = ["--profile", options.profile, "--only", *waiting, "--output", str(output)]
        if failed := reproduce(_parser().parse_args(["reproduce", *own])):
            return failed
    try:
        print(book.build(options.profile, output, folder))
    except book.NotReadyError as error:
        raise Refused(str(error)) from error
    return 0


# ---------------------------------------------------------------- small models of the package


def pretrain(options: argparse.Namespace) -> int:
    """Train the small models of the package in the cells of the notebooks that are tagged so.

    Each model is written with its record when it has been trained: an interrupted command leaves
    the others as they were.
    """
    from somlib.companion import pretraining, report, runner
    from somlib.models import pretrained

    if options.device not in ("auto", "cpu"):
        _require_device(options.device)
    folder = Path(options.folder).expanduser().absolute() if options.folder else pretrained.FOLDER
    copies = report.output_folder("runs", "pretrain")
    for place in (folder, copies):
        _require_writable(place)
        files.remove_partials(place)
    parameters = {"profile": "full", "device": options.device}
    with tempfile.TemporaryDirectory(prefix="somlib-") as parts, ExitStack() as stack:
        jobs = [runner.Job(path, parameters) for path in _training_parts(options.only, Path(parts))]
        claims = {job.notebook: stack.enter_context(ExitStack()) for job in jobs}
        for notebook, claim in claims.items():
            _claim(copies / notebook.name, claim)
        running = runner.Runner(jobs, copies, copies, 1, claims)
        try:
            with (
                runner.kernel_settings(report.output_folder(), None),
                pretraining.writing(folder),
                chdir(report.project_root()),
            ):
                running.run()
        except KeyboardInterrupt:
            runner.say(f"stopped\nThe models in {folder} are complete, some of them from before.")
            return 130
    print(pretraining.summary(folder))
    return 1 if any(outcome.status == "failed" for outcome in running.outcomes) else 0


def _training_parts(only: list[str] | None, folder: Path) -> list[Path]:
    """Write the parts of the selected notebooks that train small models; return their paths."""
    from somlib.companion import pretraining

    parts = []
    for notebook in _select(only):
        _declared(notebook)
        part = pretraining.part(_content(notebook))
        if part is None:
            if only:
                raise Refused(f"{notebook.name} has no cell tagged {pretraining.TAG!r}")
            continue
        parts.append(folder / notebook.name)
        parts[-1].write_text(json.dumps(part), encoding="utf-8")
    if not parts:
        raise Refused(f"no notebook has a cell tagged {pretraining.TAG!r}")
    return parts


# ---------------------------------------------------------------- carrying results along


def export_results(options: argparse.Namespace) -> int:
    """Write the results in the cache to a folder; print what was left out, and why."""
    from somlib.companion import results

    if not options.export:
        raise Refused("FOLDER '': expected the name of a folder")
    limit = None if options.limit is None else _megabytes(options.limit)
    with _cache_of(options) as folder:
        try:
            empty = not any(folder.glob("*.json"))
        except OSError as error:
            raise Refused(f"--output {options.folder}: {error.strerror}") from error
        if empty:
            raise Refused(
                f"no results in {folder}; run `somlib reproduce` first, or give the --output DIR "
                "of the run here too"
            )
        _require_writable(Path(options.export), "choose another FOLDER")
        try:
            made = results.export(Path(options.export), limit)
        except (results.RefusedError, OSError) as error:
            raise Refused(f"FOLDER {options.export}: {error}") from error
    for sentence in made.refused:
        print(f"left out: {sentence}")
    print(
        f"{len(made.taken)} results exported, {made.megabytes:.1f} MB; {len(made.there)} were in "
        f"{options.export} already, {len(made.refused)} left out"
    )
    return 0


@contextmanager
def _cache_of(options: argparse.Namespace) -> Iterator[Path]:
    """Use the cache of the folder that `--output` names inside a `with`."""
    from somlib.companion import cache

    with patch.dict(os.environ, SOMLIB_OUTPUT=str(_output_folder(options))):
        yield cache.folder()


def _megabytes(text: str) -> float:
    from somlib import checks

    value = _literal(text)
    if not (checks.is_number(value) and value > 0):
        raise Refused(f"--limit {text}: expected a number of megabytes above 0")
    return float(value)


def import_results(options: argparse.Namespace) -> int:
    """Put exported results into the cache; exit code 1 if some are refused."""
    from somlib.companion import results

    if options.device != "auto":
        if not options.other_machines:
            raise Refused(f"--device {options.device}: expected together with --other-machines")
        _require_device(options.device)
    from somlib.training.loop import resolve_device

    device = str(resolve_device(options.device)) if options.other_machines else None
    with _cache_of(options) as folder:
        _require_writable(folder)
        try:
            made = results.import_from([Path(name) for name in options.exports], device)
        except (results.RefusedError, OSError) as error:
            raise Refused(f"FOLDER {', '.join(options.exports)}: {error}") from error
        used = results.devices([*made.taken, *made.there]) - {"auto", "cpu"}
    for sentence in made.refused:
        print(f"refused: {sentence}")
    if any("made by other versions" in sentence for sentence in made.refused):
        print("with --other-machines, results of other versions are taken too")
    for name in sorted(used):
        try:
            resolve_device(name)
        except (RuntimeError, ValueError):
            print(f"without --other-machines, results computed on {name} are not used here")
    print(
        f"{len(made.taken)} results imported, {made.megabytes:.1f} MB; {len(made.there)} were in "
        f"{folder} already, {len(made.refused)} refused"
    )
    return 1 if made.refused else 0


# ---------------------------------------------------------------- training one model


def fit(options: argparse.Namespace) -> int:
    """Train one model, in one process or in all those started by `torchrun`, and save it."""
    if options.model not in somlib.TRAINED:
        raise Refused(f"unknown model {options.model!r}; there are {_list(somlib.TRAINED)}")
    outputs = _outputs(options)
    model = _model(options.model, dict(_assignment(text) for text in options.parameters))
    _require_device(model.device, "-p device=")
    from somlib.training import processes
    from somlib.training.loop import resolve_device

    try:
        with processes.group(resolve_device(model.device)), ExitStack() as claims:
            if processes.rank() == 0:
                for file in outputs:
                    _claim(file, claims)
            if processes.size() > 1:
                processes.from_first(lambda: len(_samples(options)))  # one download
            model.fit(_samples(options), checkpoint=options.checkpoint)
            if processes.rank() == 0:
                model.save(options.file)
                print(f"{options.model} trained and saved: {options.file}")
        return 0
    except KeyboardInterrupt:
        again = "run the same command again to resume" if options.checkpoint else "nothing is kept"
        print(f"stopped; {again}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, MemoryError) as error:
        raise Refused(f"{options.model} on {options.data}: {error}") from error
    except (processes.ProcessLostError, FloatingPointError, OSError) as error:
        print(f"somlib: {error}", file=sys.stderr)
        return 1


def _outputs(options: argparse.Namespace) -> list[Path]:
    """Return the files that a training writes, after checking that it may write them."""
    if not options.file.lower().endswith(".npz"):
        raise Refused(f"--output {options.file}: expected a name that ends in .npz")
    named = {"--output": options.file, "--checkpoint": options.checkpoint}
    written = {option: path for option, path in named.items() if path is not None}
    read = {"--data": options.data} if _is_npy(options.data) else {}
    for (a, one), (b, other) in itertools.combinations((written | read).items(), 2):
        if files.same(one, other):
            raise Refused(f"{a} {one} and {b} {other} are one file; expected one for each")
    return [_written_file(option, path) for option, path in written.items()]


def _written_file(option: str, path: str) -> Path:
    """Return the file that writing to the path of an option changes, after checking it."""
    from somlib import checks

    try:
        file = files.destination(path)
    except OSError as error:
        raise Refused(f"{option}: {error.strerror}") from error
    with _refusing():
        checks.require(option, path, checks.FilePath)
    _require_writable(file.absolute().parent, f"choose another {option}")
    return file


def _model(name: str, given: dict[str, str]) -> Any:
    """Return a model with the parameters of the command line."""
    from somlib import checks

    made = getattr(somlib, name)()
    known = made.get_params(deep=False)
    parameters: dict[str, Any] = {"progress": True}
    for parameter, text in given.items():
        if parameter not in known:
            raise Refused(f"unknown parameter {parameter!r}; {name} has {_list(known)}")
        parameters[parameter] = _literal(text)
    with _refusing("-p "):
        checks.parameters(made.set_params(**parameters))
    return made


def _samples(options: argparse.Namespace) -> Any:
    """Return the samples of a data set, or of a file, which is memory-mapped."""
    import numpy as np

    from somlib import data

    is_file = _is_npy(options.data)
    if options.split != "all" and is_file:
        raise Refused(f"--split {options.split}: {options.data} has no parts; leave it out")
    try:
        return (
            np.load(options.data, mmap_mode="r")
            if is_file
            else data.load(options.data, options.split).X
        )
    except (OSError, ValueError, EOFError) as error:
        raise Refused(
            f"--data {options.data}: {error}" + ("; expected an .npy file of numbers" * is_file)
        ) from error


def _is_npy(path: str) -> bool:
    return path.lower().endswith(".npy")


if __name__ == "__main__":
    sys.exit(main())
