"""Notebooks run in kernels, several at the same time; `somlib reproduce` calls this."""

import importlib.util
import logging
import math
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import papermill
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbconvert import HTMLExporter

from somlib import files
from somlib.companion import queue as queues
from somlib.companion.report import index, records

FIRST = ("03_desom", "04_dc_somrl")
"""Notebooks that take longest: they start first where no last time is known."""

LAST = ("06_results",)
"""Notebooks that read what the others have made."""

STATUS_SECONDS = 2.0
"""How often a terminal shows what is running."""

PROGRESS_SECONDS = 60.0
"""How often the page of progress is written."""


class Job(NamedTuple):
    """A notebook and what is passed to it."""

    notebook: Path
    parameters: dict[str, Any]


class Outcome(NamedTuple):
    """How a notebook ended; memory in MB, None where it is unknown."""

    notebook: str
    status: str
    seconds: float
    figures: int
    tables: int
    memory: int | None
    gpu_memory: int | None


@contextmanager
def kernel_settings(output: Path, threads: int | None) -> Iterator[None]:
    """Set the environment of the kernels that start inside a `with`.

    SOMLIB_OUTPUT names their output folder. The user's settings of Jupyter, IPython and matplotlib
    would decide what figures look like, whether they are shown, and what runs before a notebook
    does. Nothing is written into the user's folders either, which may be read-only.
    """
    before = dict(os.environ)
    for name in ("MPLBACKEND", "PYTHONSTARTUP", "JUPYTER_PATH"):
        os.environ.pop(name, None)
    os.environ["SOMLIB_OUTPUT"] = str(output)
    if threads:
        os.environ |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "OPENBLAS", "MKL")}
    if matplotlib := importlib.util.find_spec("matplotlib"):  # not imported: it would read them
        own = Path(str(matplotlib.origin)).parent / "mpl-data" / "matplotlibrc"
        os.environ["MATPLOTLIBRC"] = str(own)
    # if the home folder is read-only, matplotlib warns and chooses another folder
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


class Runner:
    """Runs notebooks, several at the same time, each watched by a thread.

    Parameters
    ----------
    jobs : list of Job
        The notebooks. Those that took longest the last time start first, or of unknown time those
        in `FIRST`; those in `LAST` last. The full profile runs in rounds of seeds, see `queue`; a
        notebook that fails is left out of the later ones.
    copies, page : pathlib.Path
        The folders of the executed copies and of the figures.
    at_once : int
        How many run at the same time.
    claims : dict
        What to close when a notebook has ended.
    in_rounds : bool, default=False
        Whether the jobs are rounds of seeds.
    """

    def __init__(
        self,
        jobs: list[Job],
        copies: Path,
        page: Path,
        at_once: int,
        claims: dict[Path, ExitStack],
        in_rounds: bool = False,
    ) -> None:
        self.copies, self.page, self.at_once, self.claims = copies, page, at_once, claims
        self.running: dict[Path, tuple[threading.Thread, float]] = {}
        usual = self.usual = usual_seconds(records(page))

        def turn(job: Job) -> tuple[bool, float, bool]:
            name = job.notebook.stem
            return name in LAST, -usual.get(name, math.inf), name not in FIRST

        self.waiting = sorted(jobs, key=turn)
        self.in_rounds = in_rounds and bool(jobs)
        if self.in_rounds:
            self.waiting = queues.ordered(jobs, self._measured(), LAST)
        self.all_rounds, self.states, self.left = list(self.waiting), dict[str, str](), ""
        self.seeds_before: dict[str, int] = {}
        self.ended: queue.SimpleQueue[tuple[Path, str | None]] = queue.SimpleQueue()
        self.outcomes: list[Outcome] = []
        self.kernels = own_kernel()

    def run(self) -> None:
        """Run all notebooks and tell when each starts and ends; an interrupt stops them all."""
        self._write_progress()
        if self.in_rounds:
            say(self.left)
        shown = time.monotonic()
        try:
            while self.waiting or self.running:
                while self.waiting and len(self.running) < self.at_once:
                    following = self.waiting[0].notebook
                    if self.running and (following.stem in LAST or following in self.running):
                        break
                    self._start(self.waiting.pop(0))
                if time.monotonic() - shown > PROGRESS_SECONDS:
                    shown = time.monotonic()
                    self._write_progress()
                try:
                    self._end(*self.ended.get(timeout=STATUS_SECONDS))
                except queue.Empty:
                    say(self._state("running"), passing=True)
        finally:
            while any(thread.is_alive() for thread, _ in self.running.values()):
                with suppress(KeyboardInterrupt):  # the second one; it takes only a second
                    self.kernels.stop()
                    time.sleep(0.1)
            for notebook in self.running:
                self.states[notebook.stem] += ", stopped"
            self._write_progress()

    def _measured(self) -> dict[str, queues.Measured]:
        """Return what is known of the trainings of a run in rounds."""
        known = queues.measured(self.page.parents[1] / "runs" / "cache", self.page, LAST)
        for notebook in self.running:  # of whose last seed there are only some results
            if own := known.get(notebook.stem):
                own.most = self.seeds_before[notebook.stem]
        return known

    def _write_progress(self) -> None:
        """Write the page of progress of a run in rounds, and note what is left."""
        if self.in_rounds:
            known = self._measured()
            self.left = queues.estimate(known, self.all_rounds)
            with suppress(OSError):  # of a full disk: the trainings go on as far as they can
                queues.write_page(self.page, known, self.all_rounds, self.states)

    def _start(self, job: Job) -> None:
        if self.in_rounds:
            known = self._measured().get(job.notebook.stem, queues.Measured())
            self.seeds_before[job.notebook.stem] = known.seeds
        seeds = job.parameters.get("n_seeds")
        self.states[job.notebook.stem] = f"running with {seeds} seed{'s' if seeds != 1 else ''}"
        usual = self.usual.get(job.notebook.stem)
        say(f"{job.notebook.stem} started" + (f"; last time {usual:.0f} s" if usual else ""))
        thread = threading.Thread(target=self._watch, args=(job,))
        self.running[job.notebook] = thread, time.monotonic()
        thread.start()

    def _watch(self, job: Job) -> None:
        try:
            problem = run(job, self.copies, self.kernels)
        except BaseException as error:  # a bug in the runner: the other notebooks still run
            problem = f"    {error!r}"
        self.ended.put((job.notebook, problem))

    def _end(self, notebook: Path, problem: str | None) -> None:
        thread, began = self.running.pop(notebook)
        thread.join()
        if problem:  # so it would in a later round
            self.waiting = [job for job in self.waiting if job.notebook != notebook]
        if all(job.notebook != notebook for job in self.waiting):
            self.claims[notebook].close()
        status, seconds = "failed" if problem else "done", time.monotonic() - began
        made = [record for record in records(self.page) if record["notebook"] == notebook.stem]
        kinds = [record["kind"] for record in made]
        latest = max(made, key=lambda r: (str(r.get("date")), r["order"]), default={})
        memory = latest.get("peak memory", {})
        counts = kinds.count("figure"), kinds.count("table")
        sizes = memory.get("MB"), memory.get("GPU MB")
        self.states[notebook.stem] = self.states[notebook.stem].replace("running", status)
        self.outcomes.append(Outcome(notebook.stem, status, seconds, *counts, *sizes))
        if self.in_rounds:  # the pages are complete whenever the run is stopped
            with suppress(OSError):
                index(self.page)
            self._write_progress()
        say(self._state(f"{notebook.stem} {status}, {seconds:.0f} s"))
        if problem:
            say(problem)

    def _state(self, news: str) -> str:
        """Return the news, with what is running and the time left, estimated from the last run."""
        now = time.monotonic()
        elapsed = {notebook.stem: now - began for notebook, (_, began) in self.running.items()}
        ahead = elapsed | {job.notebook.stem: 0.0 for job in self.waiting}
        parts = [news]
        if news == "running":
            parts = [f"{name} {seconds:.0f} s" for name, seconds in elapsed.items()]
        if self.in_rounds:
            parts.append(self.left)
        elif ahead and ahead.keys() <= self.usual.keys():
            left = [max(0.0, self.usual[name] - seconds) for name, seconds in ahead.items()]
            parts.append(f"about {max(*left, sum(left) / self.at_once):.0f} s left")
        total = len(self.outcomes) + len(self.running) + len(self.waiting)
        return f"[{len(self.outcomes)}/{total}] {'; '.join(parts)}"


def say(text: str, *, passing: bool = False) -> None:
    """Print a line; a passing one, on a terminal only, is overwritten by the next."""
    width = shutil.get_terminal_size().columns - 1
    if sys.stdout and sys.stdout.isatty():
        print(f"\r{'':{width}}\r", end="")
    elif passing:
        return
    print(text[:width] if passing else text, end="" if passing else "\n", flush=True)


def run(job: Job, folder: Path, kernels: Any) -> str | None:
    """Execute a notebook into `folder`; return None, or in a few lines what went wrong.

    The executed copy and its HTML get their names once they are complete; of a failed notebook the
    part up to the error is kept as NN_name.failed.ipynb (without outputs where a kernel died in the
    quick profile, which does not save after each cell).
    """
    done = folder / job.notebook.name
    failed = done.with_suffix(".failed.ipynb")
    try:
        with files.replacing(done) as partial:
            if problem := _execute(job, partial, done.with_suffix(".html"), kernels):
                raise _FailedError(problem, partial.read_bytes())
        failed.unlink(missing_ok=True)
        return None
    except OSError as error:  # of a full disk, for example: the other notebooks still run
        return f"    {error.strerror or error}"
    except _FailedError as failure:
        problem, until_there = failure.args
    if kernels.stopped:
        return f"    {problem}"
    try:
        with files.replacing(failed) as partial:
            partial.write_bytes(until_there)
        return f"    {problem}\n    up to there: {failed}"
    except OSError as error:
        return f"    {problem}\n    {error.strerror or error}"


class _FailedError(Exception):
    """A notebook has failed; the executed copy of an earlier run is kept."""


def _execute(job: Job, partial: Path, page_path: Path, kernels: Any) -> str | None:
    """Execute a notebook into the file `partial` and write its HTML; return what went wrong."""
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its messages are printed here
    try:
        # papermill reads no byte-order mark
        partial.write_text(job.notebook.read_text(encoding="utf-8-sig"), encoding="utf-8")
        notebook = papermill.execute_notebook(
            _literal(partial),
            _literal(partial),
            job.parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=kernels,
            progress_bar=False,
            start_timeout=120,
            # else before and after each cell, of 200, which takes as long as many a quick notebook
            request_save_on_cell_execute=job.parameters.get("profile") != "quick",
            shutdown_kernel="immediate",  # its files are complete already
        )
        exporter: Any = HTMLExporter
        # of code only, whose characters the highlighting has escaped; it takes a third of the time
        page, _ = exporter(filters={"clean_html": _unchanged}).from_notebook_node(notebook)
        with files.replacing(page_path) as whole:
            whole.write_text(page, encoding="utf-8")
        return None
    except Exception as error:  # of a cell, a dead kernel or a full disk: the others still run
        if isinstance(error, papermill.PapermillExecutionError):
            what = f"cell [{error.exec_count}] raised {error.ename}: {error.evalue}"
        else:
            what = f"{type(error).__name__}: {error}"
        return what.strip()[:600]


def _unchanged(html: str) -> str:
    return html


def _literal(path: Path) -> str:
    """Return a path for papermill, which replaces names in single braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def own_kernel() -> type[Any]:
    """Return a kernel manager whose kernel "python3" is the interpreter that runs this.

    Other managers prefer a kernelspec of that name in the user's folder or in JUPYTER_PATH, which
    would run the notebooks in another environment. `stop` kills all kernels of the class.
    """

    class OwnKernel(AsyncKernelManager):
        started: ClassVar[list[Any]] = []
        stopped: ClassVar[bool] = False

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.started.append(self)

        def _kernel_spec_manager_default(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # ipykernel's own is left

        def _transport_encryption_default(self) -> str:  # without it the kernel warns each time
            return "auto" if zmq.has("curve") else "disabled"

        @classmethod
        def stop(cls) -> None:
            cls.stopped = True
            for kernel in cls.started:
                if process := getattr(kernel.provisioner, "process", None):
                    process.kill()

    return OwnKernel


def usual_seconds(records: list[dict[str, Any]]) -> dict[str, float]:
    """Return how long each notebook took the last time, if that is recorded."""
    seconds: dict[str, float] = {}
    for record in records:
        name = record["notebook"]
        seconds[name] = max(seconds.get(name, 0.0), record.get("duration", 0.0))
    return seconds


def print_summary(outcomes: list[Outcome], seconds: float) -> None:
    """Print a table with a row for each notebook."""
    on_gpu = any(outcome.gpu_memory for outcome in outcomes)
    titles = f"{'notebook':<20}{'status':<8}{'seconds':>8}{'figures':>9}{'tables':>8}{'MB':>8}"
    print(f"\n{titles}" + (f"{'GPU MB':>8}" if on_gpu else ""))
    for name, status, took, figures, tables, memory, gpu_memory in sorted(outcomes):
        line = f"{name:<20}{status:<8}{took:>8.0f}{figures:>9}{tables:>8}{memory or '–':>8}"
        print(line + (f"{gpu_memory or '–':>8}" if on_gpu else ""))
    print(f"{'all, start to end':<28}{seconds:>8.0f}")
