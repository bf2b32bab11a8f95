"""`somlib reproduce` runs the notebooks, `somlib report` builds the page of what they made.

`somlib fit` trains one model, also in several processes, which `torchrun` starts, on one machine
or on many. Everything that can be refused is refused before a notebook or a training starts. Heavy
imports wait until they are needed: a refusal or `--help` takes no time.
"""

import argparse
import ast
import importlib.util
import io
import itertools
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import somlib
from somlib import __version__, files

COMMON = ("profile", "device", "n_seeds")
"""The parameters that every notebook has, and their options here set."""

FULL_SEEDS = 10
"""The papers report ten runs; the quick profile leaves it to the notebook."""


class Refused(Exception):  # noqa: N818 - it is an answer, not an error of the program
    """A request that cannot be met, in words for the user; exit code 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done. 1: a notebook or a training failed. 2: refused, nothing was run. 130: stopped by
    Ctrl-C. What is printed decides nothing: characters that the terminal's encoding lacks are
    written as escapes, and what a closed pipe or a full disk does not take is dropped.

    Examples
    --------
    >>> main(["reproduce", "--only", "99_nothing"])  # in a project: names those that there are
    2
    """
    with _printing():
        options = _parser().parse_args(arguments)
        if options.output:
            os.environ["SOMLIB_OUTPUT"] = str(Path(options.output).expanduser().absolute())
        try:
            return int(options.command(options))
        except Refused as refusal:
            print(f"somlib: {refusal}", file=sys.stderr)
            return 2


class _Lenient(io.FileIO):
    """A file that loses what it cannot take."""

    def write(self, data: Any) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


@contextmanager
def _printing() -> Iterator[None]:
    """Let nothing that is printed inside a `with`, a progress bar included, raise an error."""
    before = sys.stdout, sys.stderr
    try:
        for name, original in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
            stream = getattr(sys, name)
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            # a terminal takes all; on Windows it is more than a file
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
    run.set_defaults(command=reproduce)
    page = commands.add_parser("report", help="build the page of figures and tables of a profile")
    page.set_defaults(command=build_report)
    train = commands.add_parser("fit", help="train one model and save it")
    train.set_defaults(command=fit, output=None)
    train.add_argument("model", metavar="MODEL", help=f"one of {_list(somlib.TRAINED)}")
    train.add_argument(
        "--data", required=True, metavar="NAME", help="a data set, or a FILE.npy of samples by rows"
    )
    train.add_argument("--split", choices=("all", "train", "test"), default="all")
    # as texts: a path would lose the slash that makes a folder of a name
    train.add_argument(
        "--output", dest="file", type=os.path.expanduser, required=True, metavar="FILE.npz",
        help="where the trained model goes; somlib.load reads it",
    )  # fmt: skip
    train.add_argument(
        "--checkpoint", type=os.path.expanduser, metavar="FILE",
        help="keeps the state every few seconds; the same command again then goes on from there",
    )  # fmt: skip
    for command in (run, page):
        command.add_argument("--profile", choices=("quick", "full"), default="quick")
        command.add_argument(
            "--output", metavar="DIR", help="where figures/ and runs/ go (default: the project)"
        )
    run.add_argument("--only", nargs="+", metavar="NN", help="notebooks, as 01 or 01_som")
    run.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto")
    run.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help=f"runs per result (default: the notebook's own, {FULL_SEEDS} in the full profile)",
    )
    run.add_argument(
        "--deterministic",
        action="store_true",
        help="let a GPU repeat itself bit for bit, or fail; processors always do",
    )
    for command, what in (
        (run, "set a notebook's own parameter, in every selected notebook that has it"),
        (train, "set a parameter of the model, such as hidden=(64,) or init=sample"),
    ):
        command.add_argument(
            "-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help=what
        )
    return parser


# ---------------------------------------------------------------- what to run, or why not


class Job(NamedTuple):
    """A notebook and what is passed to it."""

    notebook: Path
    parameters: dict[str, Any]


def plan(options: argparse.Namespace) -> list[Job]:
    """Return the notebooks to run with their parameters, or raise `Refused`."""
    notebooks = _select(options.only)
    if options.seeds is not None and options.seeds < 1:
        raise Refused(f"--seeds {options.seeds}: expected a whole number of at least 1")
    common = {"profile": options.profile, "device": options.device}
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
    return [
        Job(
            notebook,
            common | {n: _typed(n, given[n], types[n], notebook) for n in given if n in types},
        )
        for notebook, types in declared.items()
    ]


def _select(only: list[str] | None) -> list[Path]:
    from somlib.companion.report import notebooks, project_root

    paths, others = notebooks()
    found = {path.stem: path for path in paths}
    if not found:
        folder = project_root() / "notebooks"
        raise Refused(f"no notebooks in {folder}; run this in the project's folder")
    passed_over = f"not in figures/registry.csv: {_list(path.name for path in others)}"
    for wanted in only or ():
        if wanted not in found and wanted not in [stem[:2] for stem in found]:
            known = f"{_list(found)} ({passed_over})" if others else _list(found)
            raise Refused(f"unknown notebook {wanted!r}; there are {known}")
    if others and not only:
        print(f"passed over, because {passed_over}", flush=True)
    return [p for stem, p in found.items() if not only or stem in only or stem[:2] in only]


def _declared(notebook: Path) -> dict[str, str]:
    """Return the parameters that a notebook declares, `name: type = value`, and their types.

    Papermill's own inspection overlooks lines whose comment holds an equals sign, so the cell is
    parsed as the Python that it is.
    """
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8-sig"))["cells"]
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


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Refused(f"-p {text!r}: expected NAME=VALUE")
    return name, value


def _typed(name: str, text: str, kind: str, notebook: Path) -> Any:
    """Return what `text` means as a parameter of type `kind`."""
    readers: dict[str, Callable[[str], Any]] = {
        "str": str,
        "int": int,
        "float": float,
        "bool": lambda text: {"true": True, "false": False}[text.lower()],
    }
    if kind not in readers:
        raise Refused(f"parameter {name}: a {kind} cannot be given here; edit {notebook.name}")
    try:
        return readers[kind](text)
    except (ValueError, KeyError):
        expected = "true or false" if kind == "bool" else f"a value of type {kind}"
        raise Refused(f"parameter {name} = {text!r}: {notebook.stem} expects {expected}") from None


def _require_device(device: str, option: str = "--device ") -> None:
    from somlib.training.loop import resolve_device

    try:
        resolve_device(device)
    except (RuntimeError, ValueError) as error:
        raise Refused(f"{option}{device}: {error}") from error


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused(f"cannot write to {folder}: {error.strerror}; choose --output DIR") from error


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


# ---------------------------------------------------------------- running


class Outcome(NamedTuple):
    """How a notebook ended; memory in MB, None where that cannot be told."""

    notebook: str
    status: str
    seconds: float
    figures: int
    tables: int
    memory: int | None
    gpu_memory: int | None


def reproduce(options: argparse.Namespace) -> int:
    """Run the selected notebooks one after another, then build the page of the profile."""
    with _own_settings(), ExitStack() as claims:
        return _reproduce(plan(options), options, claims)


@contextmanager
def _own_settings() -> Iterator[None]:
    """Let kernels that start inside a `with` see no settings of the user's.

    Those of Jupyter, IPython and matplotlib decide what figures look like, whether they are
    shown, and what runs before a notebook does. Nothing is written into the user's folders
    either, which need not be writable.
    """
    before = dict(os.environ)
    for name in ("MPLBACKEND", "PYTHONSTARTUP", "JUPYTER_PATH"):
        os.environ.pop(name, None)
    if matplotlib := importlib.util.find_spec("matplotlib"):  # not imported: it would read them
        own = Path(str(matplotlib.origin)).parent / "mpl-data" / "matplotlibrc"
        os.environ["MATPLOTLIBRC"] = str(own)
    # where the home cannot be written to, matplotlib says so and finds a folder itself
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory(prefix="somlib-", ignore_cleanup_errors=True) as folder:
            os.environ["IPYTHONDIR"] = str(Path(folder, "ipython"))
            for kind in ("CONFIG", "DATA", "RUNTIME"):
                os.environ[f"JUPYTER_{kind}_DIR"] = str(Path(folder, kind.lower()))
            yield
    finally:
        os.environ.clear()
        os.environ |= before


def _reproduce(jobs: list[Job], options: argparse.Namespace, claims: ExitStack) -> int:
    from somlib.companion import report

    if options.deterministic:  # read where the device is chosen; cuBLAS asks for its part at once
        os.environ |= {"SOMLIB_DETERMINISTIC": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    copies = report.output_folder("runs", options.profile)
    places = (
        copies,
        report.output_folder("figures", options.profile),
        report.output_folder("runs", "cache"),
    )
    for folder in places:
        _require_writable(folder)
    own = [claims.enter_context(ExitStack()) for _ in jobs]  # each is released when it has run
    for job, claim in zip(jobs, own, strict=True):
        _claim(copies / job.notebook.name, claim)
    for folder in places:
        files.remove_partials(folder)
    outcomes: list[Outcome] = []
    usual = _usual_seconds(report.records(options.profile))
    try:
        for number, job in enumerate(jobs, start=1):
            name, began = job.notebook.stem, time.time()
            left = [usual.get(later.notebook.stem) for later in jobs[number - 1 :]]
            print(f"[{number}/{len(jobs)}] {name}{_foretold(left)} ... ", end="", flush=True)
            with own[number - 1]:
                problem = run(job, copies)
            seconds = time.time() - began
            print(f"{seconds:.0f} s" if problem is None else f"failed\n{problem}", flush=True)
            made = [r for r in report.records(options.profile) if r["notebook"] == name]
            kinds = [r["kind"] for r in made]
            latest = max(made, key=lambda r: (str(r.get("date")), r["order"]), default={})
            memory = latest.get("peak memory", {})
            outcomes.append(
                Outcome(
                    name,
                    "failed" if problem else "done",
                    seconds,
                    kinds.count("figure"),
                    kinds.count("table"),
                    memory.get("MB"),
                    memory.get("GPU MB"),
                )
            )
    except KeyboardInterrupt:
        finished = _list(o.notebook for o in outcomes if o.status == "done")
        print(
            f"stopped\nFinished: {finished}. Run the same command again to go on: what was "
            "trained or computed until now is read from the cache."
        )
        return 130
    page = report.index(options.profile)
    _print_summary(outcomes)
    print(f"Figures and tables: {page}\nExecuted notebooks: {copies}")
    return 1 if any(o.status == "failed" for o in outcomes) else 0


def _claim(file: Path, claims: ExitStack) -> None:
    """Have a file for this process alone until `claims` is closed."""
    try:
        claims.enter_context(files.claimed(file))
    except files.InUseError as error:
        raise Refused(error.strerror) from error


def run(job: Job, folder: Path) -> str | None:
    """Execute a notebook into `folder`; return None, or in a few lines what went wrong.

    The executed copy and its HTML get their names once they are whole; of a failed notebook the
    part until the error is kept as NN_name.failed.ipynb.
    """
    done = folder / job.notebook.name
    failed = done.with_suffix(".failed.ipynb")
    try:
        with files.replacing(done) as partial:
            if problem := _execute(job, partial, done.with_suffix(".html")):
                raise _FailedError(problem, partial.read_bytes())
        failed.unlink(missing_ok=True)
        return None
    except OSError as error:  # a full disk's: the other notebooks still run
        return f"    {error.strerror or error}"
    except _FailedError as failure:
        problem, until_there = failure.args
    try:
        with files.replacing(failed) as partial:
            partial.write_bytes(until_there)
        return f"    {problem}\n    up to there: {failed}"
    except OSError as error:
        return f"    {problem}\n    {error.strerror or error}"


class _FailedError(Exception):
    """A notebook has failed, and the executed copy of an earlier run stays."""


def _execute(job: Job, partial: Path, page_path: Path) -> str | None:
    """Execute a notebook into the file `partial` and write its HTML; return what went wrong."""
    import papermill
    from nbconvert import HTMLExporter

    from somlib.companion.report import project_root

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says is said here
    try:
        # papermill reads no byte-order mark
        partial.write_text(job.notebook.read_text(encoding="utf-8-sig"), encoding="utf-8")
        notebook = papermill.execute_notebook(
            _literal(partial),
            _literal(partial),
            job.parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=_own_kernel(),
            progress_bar=False,
            start_timeout=120,
            shutdown_kernel="immediate",  # what it makes is whole already
            cwd=project_root(),
        )
        exporter: Any = HTMLExporter
        page, _ = exporter().from_notebook_node(notebook)
        with files.replacing(page_path) as whole:
            whole.write_text(page, encoding="utf-8")
        return None
    except Exception as error:  # a cell's, a dead kernel's, a full disk's: the others still run
        if isinstance(error, papermill.PapermillExecutionError):
            what = f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}"
        else:
            what = f"{type(error).__name__}: {error}"
        return what.strip()[:600]


def _literal(path: Path) -> str:
    """Return a path as papermill takes it, which fills in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _own_kernel() -> type[Any]:
    """Return a kernel manager for which "python3" is the interpreter that runs this.

    A kernelspec of that name in the user's folder or in JUPYTER_PATH, which other managers
    prefer, would run the notebooks in another environment.
    """
    import zmq
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    class OwnKernel(AsyncKernelManager):
        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # leaves ipykernel's own

        def _transport_encryption_default(self) -> str:  # without it the kernel warns each time
            return "auto" if zmq.has("curve") else "disabled"

    return OwnKernel


def _usual_seconds(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return how long each notebook took when it last ran, as far as that is recorded."""
    seconds: dict[str, float] = {}
    for record in records:
        name = record["notebook"]
        seconds[name] = max(seconds.get(name, 0.0), record.get("duration", 0.0))
    return seconds


def _foretold(seconds: list[float | None]) -> str:
    """Return in words how long this notebook and all that are left took the last time."""
    known = [s for s in seconds if s is not None]
    if len(known) < len(seconds):
        return ""
    return f" (last time {known[0]:.0f} s; {sum(known):.0f} s with all that follow)"


def _print_summary(outcomes: list[Outcome]) -> None:
    on_gpu = any(outcome.gpu_memory for outcome in outcomes)
    titles = f"{'notebook':<20}{'status':<8}{'seconds':>8}{'figures':>9}{'tables':>8}{'MB':>8}"
    print(f"\n{titles}" + (f"{'GPU MB':>8}" if on_gpu else ""))
    for name, status, seconds, figures, tables, memory, gpu_memory in outcomes:
        line = f"{name:<20}{status:<8}{seconds:>8.0f}{figures:>9}{tables:>8}{memory or '–':>8}"
        print(line + (f"{gpu_memory or '–':>8}" if on_gpu else ""))
    if len(outcomes) > 1:
        print(f"{'all':<28}{sum(outcome.seconds for outcome in outcomes):>8.0f}")


def build_report(options: argparse.Namespace) -> int:
    """Build the page of a profile from what is there."""
    from somlib.companion import report

    folder = report.output_folder("figures", options.profile)
    if not report.records(options.profile):
        raise Refused(f"nothing recorded in {folder}; run `somlib reproduce` first")
    _require_writable(folder)
    print(report.index(options.profile))
    return 0


# ---------------------------------------------------------------- training one model


def fit(options: argparse.Namespace) -> int:
    """Train one model, in one process or in all that `torchrun` started, and save it."""
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
                processes.from_first(lambda: len(_samples(options)))  # downloads once
            model.fit(_samples(options), checkpoint=options.checkpoint)
            if processes.rank() == 0:
                model.save(options.file)
                print(f"{options.model} trained and saved: {options.file}")
        return 0
    except KeyboardInterrupt:
        again = "run the same command again to go on" if options.checkpoint else "nothing was kept"
        print(f"stopped; {again}", file=sys.stderr)
        return 130
    except (ValueError, MemoryError) as error:
        raise Refused(error) from error
    except (processes.ProcessLostError, FloatingPointError, OSError) as error:
        print(f"somlib: {error}", file=sys.stderr)
        return 1


def _outputs(options: argparse.Namespace) -> list[Path]:
    """Return the files that a training writes, once it is certain that it may write them."""
    if not options.file.lower().endswith(".npz"):
        raise Refused(f"--output {options.file}: expected a name that ends in .npz")
    named = {"--output": options.file, "--checkpoint": options.checkpoint}
    written = {option: path for option, path in named.items() if path is not None}
    read = {"--data": options.data} if options.data.endswith(".npy") else {}
    for (a, one), (b, other) in itertools.combinations((written | read).items(), 2):
        if files.same(one, other):
            raise Refused(f"{a} {one} and {b} {other} are one file; expected one for each")
    try:
        outputs = [files.destination(path) for path in written.values()]
    except OSError as error:
        raise Refused(error.strerror) from error
    for path in outputs:
        _require_writable(path.absolute().parent)
    return outputs


def _model(name: str, given: dict[str, str]) -> Any:
    """Return a model with parameters as the command line gave them."""
    made = getattr(somlib, name)()
    known = made.get_params(deep=False)
    parameters: dict[str, Any] = {"progress": True}
    for parameter, text in given.items():
        if parameter not in known:
            raise Refused(f"unknown parameter {parameter!r}; {name} has {_list(known)}")
        try:
            parameters[parameter] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            parameters[parameter] = text
            if not isinstance(known[parameter], str | None):
                raise Refused(
                    f"parameter {parameter} = {text!r}: {name} expects something like "
                    f"{known[parameter]!r}, as it is written in Python"
                ) from None
    return made.set_params(**parameters)


def _samples(options: argparse.Namespace) -> Any:
    """Return the samples of a data set, or of a file, which is then read as needed."""
    import numpy as np

    from somlib import data

    if options.split != "all" and options.data.endswith(".npy"):
        raise Refused(f"--split {options.split}: {options.data} has no parts; leave it out")
    try:
        if options.data.endswith(".npy"):
            return np.load(options.data, mmap_mode="r")
        return data.load(options.data, options.split).X
    except OSError as error:
        raise Refused(error) from error


if __name__ == "__main__":
    sys.exit(main())
