"""The runner: refuses early, runs each notebook in a kernel of its own, survives everything."""

import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
from helpers import PARAMETERS, make_project, write_notebook
from kill_runner import PACKAGE, kill_and_compare
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell

from somlib import SOM, files, report
from somlib.companion import cli, runner

TOY = (
    """\
import numpy as np, pandas as pd
from matplotlib.figure import Figure
from somlib import cache, report
run = report.start("01_toy", profile=profile, device=device, seeds=n_seeds, n_points=n_points)""",
    """\
def walk(n, seed):
    return np.random.default_rng(seed).normal(size=(n, 2)).cumsum(axis=0)
walks = [cache.call(walk, n_points, seed) for seed in run.seeds]""",
    """\
fig = Figure(figsize=(4, 3))
ax = fig.subplots()
for path in walks:
    ax.plot(*path.T)
run.save_figure(fig, "toy-walk", caption="Random walks.", alt="Two jagged lines.")""",
    """\
ends = pd.DataFrame([path[-1] for path in walks], columns=["x", "y"])
run.save_table(ends, "toy-ends", caption="Where they end.")""",
    """\
import os, sys
print("facts", sys.executable, os.getcwd(), repr((rate, fast, name)))""",
)

SHOWN = """\
import matplotlib.pyplot as plt
plt.plot([1, 2]);"""  # inside the executed notebook alone

START = (
    'from somlib import report\nreport.start("{}", profile=profile, device=device, seeds=n_seeds)'
)


def command(project, *options, **environment):
    """Start the runner as a user would, in the project's folder."""
    inherited = {k: v for k, v in os.environ.items() if k != "SOMLIB_OUTPUT"}
    return subprocess.Popen(
        [sys.executable, "-m", "somlib.companion.cli", *options],
        cwd=project,
        env=inherited | {"PYTHONPATH": str(PACKAGE)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, err = process.communicate(timeout=120)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


# ------------------------------------------------------------------ a whole run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One run of a notebook that works, one that fails and one whose kernel dies."""
    folder = tmp_path_factory.mktemp("made") / "{a} folder"  # papermill fills in braces
    project = make_project(
        folder,
        _01_toy=(TOY[0], SHOWN, *TOY[1:]),
        _02_bad=(START.format("02_bad"), "1 / 0", "never = 'reached'"),
        _03_dead=(START.format("03_dead"), "import os\nos._exit(1)"),
    )
    # a python3 of the user's that is not ours: it must not be taken
    spec = project / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    false = {"argv": ["/bin/false"], "display_name": "Another Python", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(false))
    toy = project / "notebooks" / "01_toy.ipynb"
    toy.write_bytes(b"\xef\xbb\xbf" + toy.read_bytes())
    write_notebook(toy.with_name("01_toy-Copy1.ipynb"), "1 / 0")
    left = project / "figures" / "quick" / ".partial-1-left.png"
    left.parent.mkdir(parents=True)
    left.touch()
    settings = ("--device", "cpu", "-p", "rate=1e-3", "-p", "fast=TRUE", "-p", "name=false")
    environment = settings_of_a_user(project) | {"JUPYTER_PATH": str(project / "jupyter")}
    result = finished(command(project, "reproduce", *settings, **environment))
    return SimpleNamespace(project=project, **vars(result))


def settings_of_a_user(project):
    """Write settings that change figures or stop a kernel; return the environment with them."""
    (project / "matplotlibrc").write_text("lines.linewidth: 9\nsavefig.facecolor: red\n")
    own = project / "settings"
    startup = own / "ipython" / "profile_default" / "startup" / "00.py"
    startup.parent.mkdir(parents=True)
    startup.write_text("import os\nos._exit(1)")
    (own / "matplotlibrc").write_text("backend: TkAgg\nfont.size: 30\ntext.usetex: True\n")
    return {
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": str(own),
        "IPYTHONDIR": str(own / "ipython"),
        "PYTHONSTARTUP": str(startup),
        "JUPYTER_CONFIG_DIR": str(own / "nowhere"),
    }


def test_each_notebook_has_its_line_and_the_table_sums_up(whole):
    starts = re.findall(r"^(\w+) started$", whole.out, re.MULTILINE)
    ends = re.findall(r"^\[(\d)/3\] (\w+) (done|failed), \d+ s$", whole.out, re.MULTILINE)
    assert starts == ["01_toy", "02_bad", "03_dead"]
    assert [number for number, *_ in ends] == ["1", "2", "3"]
    expected = [("01_toy", "done"), ("02_bad", "failed"), ("03_dead", "failed")]
    assert sorted((name, status) for _, name, status in ends) == expected
    memory = r"\d\d+" if importlib.util.find_spec("resource") else "–"  # in MB, where it is told
    assert re.search(rf"^01_toy +done +\d+ +1 +1 +{memory}$", whole.out, re.MULTILINE)
    assert re.search(r"^02_bad +failed +\d+ +0 +0 +–$", whole.out, re.MULTILINE)
    assert re.search(r"^all, start to end +\d+$", whole.out, re.MULTILINE)
    assert whole.code == 1


def test_settings_of_the_user_do_not_reach_the_kernel(whole, tmp_path, monkeypatch):
    copy = nbformat.read(whole.project / "runs" / "quick" / "01_toy.ipynb", as_version=4)
    shown = [
        o
        for cell in copy.cells
        for o in cell.get("outputs", ())
        if "image/png" in o.get("data", ())
    ]
    assert len(shown) == 1
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    names = {"profile": "quick", "device": "cpu", "n_seeds": 2, "n_points": 40}
    exec("\n".join(TOY[:3]), names)  # here, where there are none
    for suffix in (".png", ".svg"):
        made = whole.project / "figures" / "quick" / f"toy-walk{suffix}"
        assert made.read_bytes() == (tmp_path / "figures/quick" / made.name).read_bytes()


def test_notebooks_beside_the_registered_are_skipped_and_a_byte_order_mark_is_read(whole):
    line, first, *_ = whole.out.splitlines()
    assert line.startswith("skipped, because not in figures/registry.csv: ")
    assert line.endswith(" 01_toy-Copy1.ipynb")
    assert first == "01_toy started"
    assert not list((whole.project / "runs").rglob("*Copy*"))
    assert "Copy" not in (whole.project / "figures/quick/README.md").read_text()


def planned_runner(folder, at_once, *names):
    jobs = [runner.Job(folder / f"{name}.ipynb", {}) for name in names]
    return runner.Runner(jobs, folder, folder, at_once, {j.notebook: ExitStack() for j in jobs})


@pytest.mark.parametrize(
    ("at_once", "usual", "text"),
    [
        (1, {"01_toy": 3.4, "02_bad": 4.0}, "[0/2] news; about 7 s left"),
        (2, {"01_toy": 3.4, "02_bad": 4.0}, "[0/2] news; about 4 s left"),
        (2, {"01_toy": 3.4}, "[0/2] news"),
    ],
)
def test_the_time_left_is_told_if_all_that_is_left_has_run_before(tmp_path, at_once, usual, text):
    running = planned_runner(tmp_path, at_once, "01_toy", "02_bad")
    running.usual = usual
    assert running._state("news") == text


def test_the_last_time_of_a_notebook_is_its_longest_duration():
    records = [{"notebook": "01_toy", "duration": seconds} for seconds in (0.4, 3.4, 1.0)]
    usual = runner.usual_seconds([*records, {"notebook": "02_bad", "duration": 4.0}])
    assert usual == {"01_toy": 3.4, "02_bad": 4.0}


def test_without_last_times_the_notebooks_that_are_known_to_be_long_start_first(tmp_path):
    names = ["00_a", "01_b", "03_desom", "04_dc_somrl", "05_c", "06_results"]
    order = [job.notebook.stem for job in planned_runner(tmp_path, 2, *names).waiting]
    assert order == ["03_desom", "04_dc_somrl", "00_a", "01_b", "05_c", "06_results"]


def test_the_longest_start_first_and_what_reads_the_others_runs_last_and_alone(
    tmp_path, monkeypatch
):
    usual = {"01_a": 1.0, "03_c": 9.0, "06_results": 99.0}
    together, started, ended = threading.Barrier(2, timeout=30), [], []

    def run(job, *_):
        name = job.notebook.stem
        started.append(name)
        if name in ("02_b", "03_c"):
            together.wait()  # for the other, which must run at the same time
        if name == "06_results":
            assert sorted(ended) == ["01_a", "02_b", "03_c"]
        ended.append(name)

    monkeypatch.setattr(runner, "usual_seconds", lambda _: usual)
    monkeypatch.setattr(runner, "run", run)
    running = planned_runner(tmp_path, 2, "01_a", "02_b", "03_c", "06_results")
    running.run()
    assert sorted(started[:2]) == ["02_b", "03_c"]
    assert started[2:] == ["01_a", "06_results"]
    assert {outcome.status for outcome in running.outcomes} == {"done"}


def test_a_bug_in_the_thread_of_one_notebook_fails_that_notebook_alone(
    tmp_path, monkeypatch, capsys
):
    def run(job, *_):
        if job.notebook.stem == "01_a":
            raise SystemExit

    monkeypatch.setattr(runner, "run", run)
    running = planned_runner(tmp_path, 2, "01_a", "02_b")
    running.run()
    assert {o.notebook: o.status for o in running.outcomes} == {"01_a": "failed", "02_b": "done"}
    assert "SystemExit()" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_status_is_shown_on_a_terminal_alone_and_is_overwritten(monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    blank = f"\r{'':9}\r"
    on_terminal = f"{blank}a\n{blank}running f{blank}b\n"
    for stream, expected in ((io.StringIO(), "a\nb\n"), (Terminal(), on_terminal)):
        monkeypatch.setattr(sys, "stdout", stream)
        runner.say("a")
        runner.say("running for long", passing=True)
        runner.say("b")
        assert stream.getvalue() == expected


def test_a_gpus_memory_has_a_column_where_there_is_one(capsys):
    ran = runner.Outcome("01_toy", "done", 3.2, 1, 2, 512, 4096)
    runner.print_summary([ran._replace(notebook="02_bad", gpu_memory=None), ran], 4.4)
    *_, titles, first, second, total = capsys.readouterr().out.splitlines()
    assert titles.split()[-3:] == ["MB", "GPU", "MB"]
    assert first.split() == ["01_toy", "done", "3", "1", "2", "512", "4096"]
    assert (second.split()[-1], total.split()[-1]) == ("–", "4")


def test_nothing_is_said_that_is_not_ours(whole):
    assert whole.err == ""


def test_a_failing_cell_is_shown_and_the_part_until_there_is_kept(whole):
    failed = whole.project / "runs" / "quick" / "02_bad.failed.ipynb"
    assert "cell [4] raised ZeroDivisionError: division by zero" in whole.out
    assert f"up to there: {failed}" in whole.out
    cells = nbformat.read(failed, as_version=4).cells
    assert cells[-1].source == "never = 'reached'"
    assert cells[-1].outputs == []
    assert not failed.with_name("02_bad.ipynb").exists()


def test_a_dead_kernel_fails_one_notebook(whole):
    assert "DeadKernelError" in whole.out
    assert (whole.project / "runs" / "quick" / "03_dead.failed.ipynb").exists()


def test_executed_copies_figures_and_page_are_there(whole):
    made = {str(path.relative_to(whole.project)) for path in whole.project.rglob("*.*")}
    assert {"runs/quick/01_toy.ipynb", "runs/quick/01_toy.html"} <= made
    assert {f"figures/quick/toy-walk{suffix}" for suffix in (".png", ".svg", ".json")} <= made
    assert "![Two jagged lines.]" in (whole.project / "figures/quick/README.md").read_text()
    assert not [name for name in made if ".partial-" in name]


def test_the_html_of_a_copy_is_the_one_of_nbconvert(whole):
    copy = whole.project / "runs" / "quick" / "01_toy.ipynb"
    expected, _ = HTMLExporter().from_notebook_node(nbformat.read(copy, as_version=4))
    assert copy.with_suffix(".html").read_text(encoding="utf-8") == expected


def test_parameters_arrive_typed_and_the_kernel_is_this_interpreter(whole):
    copy = nbformat.read(whole.project / "runs" / "quick" / "01_toy.ipynb", as_version=4)
    printed = copy.cells[-1].outputs[0].text
    assert printed == f"facts {sys.executable} {whole.project} (0.001, True, 'false')\n"


def test_a_success_takes_away_the_failed_copy(whole):
    asked = "print(deterministic)"
    write_notebook(whole.project / "notebooks" / "02_bad.ipynb", START.format("02_bad"), asked)
    again = ("reproduce", "--only", "02", "--device", "cpu", "--deterministic")
    result = finished(command(whole.project, *again))
    assert (result.code, result.err) == (0, "")
    copy = nbformat.read(whole.project / "runs" / "quick" / "02_bad.ipynb", as_version=4)
    assert copy.cells[-1].outputs[0].text == "True\n"
    names = {path.name for path in (whole.project / "runs" / "quick").iterdir()}
    assert {"02_bad.ipynb", "02_bad.html"} <= names
    assert "02_bad.failed.ipynb" not in names
    assert "01_toy.ipynb" in names  # --only leaves the others alone


# ------------------------------------------------------------------ refusals


@pytest.fixture
def project(tmp_path, monkeypatch):
    make_project(tmp_path / "project", _01_toy=TOY, _02_walk=TOY)
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    monkeypatch.setattr(runner, "run", lambda *_: pytest.fail("something was run"))
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--only 07", r"unknown notebook '07'; there are 01_toy, 02_walk"),
        ("--only 01 toy", r"unknown notebook 'toy'"),
        ("--seeds 0", r"--seeds=0 must be a whole number of at least 1"),
        ("--jobs 0", r"--jobs=0 must be a whole number of at least 1"),
        ("-p deterministic=true", r"-p deterministic: use --deterministic"),
        ("-p n_point=3", r"unknown parameter 'n_point'; the notebooks have .*n_points"),
        ("-p n_points", r"'n_points': expected NAME=VALUE"),
        ("-p n_points=1e3", r"-p n_points=1000.0 must be a whole number"),
        ("-p rate=fast", r"-p rate='fast' must be a finite number"),
        ("-p fast=1", r"-p fast=1 must be True or False"),
        ("-p sizes=[2]", r"parameter sizes: a list\[int\] cannot be given here"),
        ("-p profile=full", r"-p profile: use --profile"),
        ("-p n_seeds=3", r"-p n_seeds: use --seeds"),
        ("--output pyproject.toml", r"cannot write to .*pyproject.toml/runs/quick: .*--output"),
    ],
)
def test_refused_by_name_before_anything_runs(project, options, message, capsys):
    before = sorted(project.rglob("*"))
    assert cli.main(["reproduce", *options.split()]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert sorted(project.rglob("*")) == before


@pytest.mark.parametrize(("option", "value"), [("--profile", "tiny"), ("--device", "tpu")])
def test_unknown_choices_are_refused_by_name(project, option, value, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["reproduce", option, value])
    assert f"argument {option}: invalid choice: '{value}'" in capsys.readouterr().err


def test_an_absent_device_is_refused(project, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    assert cli.main(["reproduce", "--device", "cuda"]) == 2
    assert "--device cuda" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not a notebook", "01_toy.ipynb cannot be read"),
        (None, "01_toy.ipynb must declare, with their types, deterministic, device, n_seeds"),
    ],
)
def test_a_notebook_without_its_parameters_is_refused(project, content, message, capsys):
    path = project / "notebooks" / "01_toy.ipynb"
    write_notebook(path, parameters='profile: str = "quick"')
    if content:
        path.write_text(content)
    assert cli.main(["reproduce"]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_notebooks_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce"]) == 2
    assert "no notebooks in" in capsys.readouterr().err


def test_a_report_of_nothing_is_refused(project, capsys):
    assert cli.main(["report"]) == 2
    assert "nothing recorded in" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["report", "reproduce --only 01"])
def test_the_output_folder_is_an_argument_not_a_change_of_the_environment(
    project, command, monkeypatch, capsys
):
    before = dict(os.environ)
    there = project / "elsewhere" / "figures" / "quick"
    run = report.start("01_toy", profile="quick", device="cpu", seeds=1)
    with monkeypatch.context() as patch:
        patch.setenv("SOMLIB_OUTPUT", str(project / "elsewhere"))
        run.save_table(pd.DataFrame({"x": [1]}), "toy-table", caption="One.")
    monkeypatch.setattr(runner, "run", lambda *_: None)
    assert cli.main([*command.split(), "--output", "elsewhere"]) == 0
    assert str(there / "README.md") in capsys.readouterr().out
    assert (there / "README.md").exists()
    assert not (project / "figures").exists()
    assert dict(os.environ) == before


# ------------------------------------------------------------------ where a model goes


@pytest.fixture
def before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(SOM, "fit", lambda *_, **__: pytest.fail("something was trained"))
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.eye(4))
    Path("hard.npz").hardlink_to("x.npy")
    Path("soft.npz").symlink_to("x.npy")
    Path("state").touch()
    Path("state.npz").symlink_to("state")
    Path("later.npz").symlink_to("not-yet")
    os.mkfifo("pipe.npz")
    return tmp_path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--output x.npy", r"--output x.npy: expected a name that ends in .npz"),
        ("--output map", r"--output map: expected a name that ends in .npz"),
        ("--output hard.npz", r"--output hard.npz and --data \./x.npy are one file"),
        ("--output soft.npz", r"--output soft.npz and --data \./x.npy are one file"),
        ("--output a.npz --checkpoint x.npy", r"--checkpoint x.npy and --data \./x.npy are one"),
        (
            "--output a.npz --checkpoint ./a.npz",
            r"--output a.npz and --checkpoint \./a.npz are one",
        ),
        ("--output state.npz --checkpoint state", r"--output .* and --checkpoint .* are one file"),
        (
            "--output later.npz --checkpoint not-yet",
            r"--output .* and --checkpoint .* are one file",
        ),
        ("--output pipe.npz", r"cannot write to pipe.npz: it is a pipe or a device"),
        ("--output a.npz --checkpoint pipe.npz", r"to pipe.npz: it is a pipe or a device"),
        ("--output a.npz --checkpoint folder/", r"cannot write to folder/: it is a folder"),
    ],
)
def test_outputs_onto_inputs_or_what_is_no_file_are_refused_before_training(
    before_training, options, message, capsys
):
    before = [(path, os.lstat(path).st_ino) for path in sorted(before_training.iterdir())]
    assert cli.main(["fit", "SOM", "--data", "./x.npy", *options.split()]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert before == [(path, os.lstat(path).st_ino) for path in sorted(before_training.iterdir())]
    np.testing.assert_array_equal(np.load("x.npy"), np.eye(4))


@pytest.mark.parametrize("busy", ["map.npz", "map.checkpoint"])
def test_of_two_trainings_into_one_file_the_second_says_who_is_running(
    busy, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with files.claimed(busy):
        into = ["--output", "map.npz", "--checkpoint", "map.checkpoint"]
        assert cli.main(["fit", "SOM", "--data", "digits", *into]) == 2
    assert f"{busy} is being made by process {os.getpid()} on " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ what cannot be printed

SAYING = """\
import sys
from somlib.companion import cli
def saying(options):
    for stream in (sys.stdout, sys.stderr):
        for _ in range(3000):
            print("trained and saved: \\xf6\\u2013\\udcff.npz", file=stream, flush=True)
    return 0
cli.fit = saying
sys.exit(cli.main(["fit", "SOM", "--data", "digits", "--output", "map.npz"]))
"""


def saying(**options):
    return subprocess.run([sys.executable, "-c", SAYING], check=False, timeout=60, **options)


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp932", "cp949", "utf-8"])
def test_what_an_encoding_lacks_is_printed_as_escapes(encoding):
    environment = os.environ | {"PYTHONPATH": str(PACKAGE), "PYTHONIOENCODING": encoding}
    done = saying(env=environment, capture_output=True)
    assert done.returncode == 0
    for printed in (done.stdout, done.stderr):
        assert len(printed.splitlines()) == 3000
        assert printed.decode(encoding).startswith("trained and saved: ")


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(closed_pipe, id="a closed pipe"),
        pytest.param(
            lambda: os.open("/dev/full", os.O_WRONLY),
            id="a full disk",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="is not there"),
        ),
    ],
)
def test_where_nothing_can_be_printed_success_is_success(target):
    descriptor = target()
    environment = os.environ | {"PYTHONPATH": str(PACKAGE)}
    assert saying(env=environment, stdout=descriptor, stderr=descriptor).returncode == 0
    os.close(descriptor)


# ------------------------------------------------------------------ what is run


def planned(*options):
    return cli.plan(cli._parser().parse_args(["reproduce", *options]))


def test_only_selects_by_number_or_name(project):
    names = [job.notebook.stem for job in planned("--only", "02", "01_toy")]
    assert names == ["01_toy", "02_walk"]
    assert [job.notebook.stem for job in planned("--only", "02_walk")] == ["02_walk"]


def test_the_full_profile_runs_ten_seeds(project):
    assert "n_seeds" not in planned()[0].parameters
    assert planned("--profile", "full")[0].parameters["n_seeds"] == 10
    assert planned("--profile", "full", "--seeds", "2")[0].parameters["n_seeds"] == 2


@pytest.mark.parametrize(
    ("options", "cores", "expected"),
    [
        ("", 4, (4, 1)),
        ("--jobs 2", 4, (2, 1)),
        ("--jobs 9", 4, (9, 1)),
        ("--profile full", 4, (1, None)),
        ("--profile full --jobs 2", 4, (2, 2)),
        ("--profile full --jobs 9", 4, (9, 1)),
    ],
)
def test_kernels_share_the_cores_and_have_one_thread_in_the_quick_profile(
    options, cores, expected, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert cli._shares(cli._parser().parse_args(["reproduce", *options.split()])) == expected


@pytest.mark.parametrize(("threads", "expected"), [(3, "3"), (None, "7")])
def test_a_kernel_is_told_its_folder_and_its_threads(tmp_path, monkeypatch, threads, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    before = dict(os.environ)
    with runner.kernel_settings(tmp_path, threads):
        assert os.environ["OMP_NUM_THREADS"] == expected
        assert os.environ["SOMLIB_OUTPUT"] == str(tmp_path)
    assert dict(os.environ) == before


def test_a_parameter_goes_to_the_notebooks_that_have_it(project):
    own = PARAMETERS.replace("rate", "speed")
    write_notebook(project / "notebooks" / "02_walk.ipynb", parameters=own)
    first, second = planned("-p", "speed=2", "-p", "n_points=5")
    assert (first.parameters.get("speed"), second.parameters["speed"]) == (None, 2.0)
    assert first.parameters["n_points"] == second.parameters["n_points"] == 5


def test_help_and_refusals_need_nothing_heavy():
    code = (
        "import sys\nfrom somlib.companion import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'papermill', 'nbconvert', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE, capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("set()\n")


# ------------------------------------------------------------------ handouts


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A project with a notebook of two exercises, as the working directory."""
    project = make_project(tmp_path, _01_toy=("a = 1",), _02_toy=("b = 2",))
    path = project / "notebooks" / "01_toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    tags = {"tags": ["solution", "hide-input"]}
    notebook.cells += [
        new_markdown_cell("**1. Why?** Gründe.", id="question"),
        new_markdown_cell("*Because.*", metadata=tags, id="prose"),
        new_code_cell("42", metadata=tags, id="code"),
        new_markdown_cell("## References", id="rest"),
    ]
    nbformat.write(notebook, path)
    monkeypatch.chdir(project)
    return project


def test_a_handout_has_everything_but_the_solutions(lesson, capsys):
    assert cli.main(["handout", "--only", "01"]) == 0
    made = lesson / "handout" / "01_toy.ipynb"
    original = nbformat.read(lesson / "notebooks" / "01_toy.ipynb", as_version=4)
    copy = nbformat.read(made, as_version=4)
    nbformat.validate(copy)
    ids = [cell.id for cell in original.cells]
    assert [cell.id for cell in copy.cells] == [i for i in ids if i not in ("prose", "code")]
    assert "Gründe" in made.read_text(encoding="utf-8")
    assert copy.metadata == original.metadata
    assert "2 cells left out" in capsys.readouterr().out
    assert [path.name for path in (lesson / "handout").iterdir()] == ["01_toy.ipynb"]


def test_handouts_go_where_they_are_wanted_but_never_over_the_notebooks(lesson, capsys):
    assert cli.main(["handout", "--output", "for students"]) == 0
    names = sorted(path.name for path in (lesson / "for students").iterdir())
    assert names == ["01_toy.ipynb", "02_toy.ipynb"]
    before = (lesson / "notebooks" / "01_toy.ipynb").read_bytes()
    assert cli.main(["handout", "--output", "notebooks"]) == 2
    assert "choose another DIR" in capsys.readouterr().err
    assert (lesson / "notebooks" / "01_toy.ipynb").read_bytes() == before
    assert cli.main(["handout", "--only", "07"]) == 2
    (lesson / "notebooks" / "02_toy.ipynb").write_text("[]")
    assert cli.main(["handout"]) == 2
    assert "02_toy.ipynb cannot be read" in capsys.readouterr().err


# ------------------------------------------------------------------ stopped from outside


def test_of_two_runs_of_one_notebook_the_second_says_who_is_running(tmp_path):
    mark = tmp_path / "mark"
    wait = f"""\
import pathlib, time
mark = pathlib.Path({str(mark)!r})
mark.touch()
while mark.exists(): time.sleep(0.02)"""
    project = make_project(tmp_path / "project", _01_toy=(*TOY, wait), _02_toy=("walks = 2",))
    first = command(project, "reproduce", "--device", "cpu", "--only", "01")
    while not mark.exists():
        assert first.poll() is None
        time.sleep(0.02)
    second = finished(command(project, "reproduce", "--device", "cpu"))
    assert (second.code, second.out) == (2, "")
    assert f"01_toy.ipynb is being made by process {first.pid} on " in second.err
    other = finished(command(project, "reproduce", "--device", "cpu", "--only", "02"))
    assert (other.code, other.err) == (0, "")
    mark.unlink()
    result = finished(first)
    assert (result.code, result.err) == (0, "")
    made = {path.name for path in (project / "runs" / "quick").iterdir()}
    assert made == {f"0{n}_toy.{suffix}" for n in (1, 2) for suffix in ("html", "ipynb")}


def test_ctrl_c_stops_all_kernels_and_says_how_to_resume(tmp_path):
    mark = tmp_path / "mark"
    mark.mkdir()
    wait = f"import os, pathlib, time\npathlib.Path({str(mark)!r}, str(os.getpid())).touch()"
    waiting = (wait, "time.sleep(60)")
    project = make_project(
        tmp_path / "project", _01_toy=TOY, _02_wait=waiting, _03_wait=waiting, _04_never=waiting
    )
    process = command(project, "reproduce", "--device", "cpu", "--jobs", "2")
    while len(list(mark.iterdir())) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    kernels = psutil.Process(process.pid).children(recursive=True)
    assert len(kernels) == 2
    process.send_signal(signal.SIGINT)
    result = finished(process)
    assert (result.code, result.err) == (130, "")
    assert "Finished: 01_toy. Run the same command again" in result.out
    assert "04_never started" not in result.out
    assert not psutil.wait_procs(kernels, timeout=5)[1]
    assert not list(Path(project).rglob(".partial-*"))
    assert not list(Path(project).rglob("*.failed.ipynb"))


def test_killed_twenty_times_the_results_are_those_of_an_undisturbed_run(tmp_path):
    # many results, so that most kills come while some are still to be made
    slow = """\
def slow_walk(n, seed):
    time.sleep(0.02)
    return walk(n, seed)
long = [cache.call(slow_walk, 20_000, seed) for seed in range(16)]"""
    cells = (f"import time\n{TOY[0]}", TOY[1], slow, *TOY[2:])
    project = make_project(tmp_path / "project", _01_toy=cells)
    outcome = kill_and_compare(project, tmp_path / "runs", times=20, options=["--device", "cpu"])
    assert outcome.kills == {"01_toy": 20}
    assert (outcome.differences, outcome.orphans, outcome.partials) == ([], [], [])
