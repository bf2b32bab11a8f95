"""A run of the full profile: its order, its estimate and its page, stopped or not."""

import json
import re
from contextlib import ExitStack

import pandas as pd
import pytest
from test_cli import command, finished, make_project

from somlib import cache, report
from somlib.companion import queue, runner


def jobs(folder, *names, seeds=10):
    parameters = {"profile": "full", "n_seeds": seeds}
    return [runner.Job(folder / f"{name}.ipynb", parameters) for name in names]


def took(*seconds, others=0.0):
    return queue.Measured(dict(enumerate(seconds)), others)


@pytest.fixture
def registered(monkeypatch):
    """Four notebooks: two with published tables, one with figures alone, one that reads them."""
    rows = [
        ("desom-table2", "table", "03_desom", "desom-slides", "table 2"),
        ("desom-fig6", "figure", "03_desom", "desom-slides", "figure 6"),
        ("somrl-table1", "table", "04_somrl", "dc-somrl", "table 1"),
        ("som-sheet", "figure", "01_som", "", ""),
        ("results-runs", "table", "06_results", "", ""),
    ]
    columns = ["id", "kind", "notebook", "paper", "number"]
    known = pd.DataFrame(rows, columns=columns).set_index("id")
    monkeypatch.setattr(report, "registry", lambda: known)


NAMES = ("01_som", "03_desom", "04_somrl", "06_results")


def order(queued):
    return [(job.notebook.stem[:2], job.parameters["n_seeds"]) for job in queued]


def test_a_notebook_settles_the_numbers_of_its_papers_tables(registered):
    printed = pd.read_csv(report.project_root() / "data" / "published.csv")
    numbers = ((printed.paper == "desom-slides") & (printed.table == "table2")).sum()
    assert queue.settled("03_desom") == (numbers, 2)
    assert queue.settled("01_som") == (0, 1)
    assert queue.gain("03_desom", 0, 1) == numbers + 2
    assert queue.gain("03_desom", 1, 4) == numbers / 2
    assert queue.gain("01_som", 1, 10) == 0


def test_rounds_of_seeds_and_what_reads_the_others_last_in_each(registered, tmp_path):
    queued = queue.ordered(jobs(tmp_path, *NAMES), {}, ("06_results",))
    names = ["03", "04", "01", "06"]  # by how many published numbers, then figures
    assert order(queued) == [(name, seeds) for seeds in (1, 3, 10) for name in names]
    assert order(queue.ordered(jobs(tmp_path, "01_som", seeds=1), {}, ())) == [("01", 1)]
    assert order(queue.ordered(jobs(tmp_path, "01_som", seeds=2), {}, ())) == [("01", 1), ("01", 2)]


def test_what_settles_most_per_minute_comes_first(registered, tmp_path):
    known = {"03_desom": took(36_000.0), "04_somrl": took(60.0), "01_som": took(10.0)}
    queued = queue.ordered(jobs(tmp_path, *NAMES), known, ("06_results",))
    assert order(queued)[4:8] == [("04", 3), ("03", 3), ("01", 3), ("06", 3)]
    del known["04_somrl"]  # what has not been measured is measured first
    known["03_desom"] = took(60.0)
    queued = queue.ordered(jobs(tmp_path, *NAMES), known, ("06_results",))
    assert order(queued)[4:8] == [("04", 3), ("03", 3), ("01", 3), ("06", 3)]


def test_each_further_seed_is_taken_to_last_as_long_as_the_last():
    measured = took(100.0, 40.0, 30.0, others=7.0)  # the first seeds are used for more
    assert (measured.seeds, measured.total) == (3, 177.0)
    assert measured.left(10) == 7 * 30.0
    assert measured.left(3) == measured.left(2) == 0
    assert queue.Measured().left(10) is None
    gap = queue.Measured({0: 5.0, 2: 9.0})  # the seed between has failed
    assert (gap.seeds, gap.left(3)) == (1, 10.0)


def test_the_estimate_says_what_it_does_not_know(tmp_path):
    queued = queue.ordered(jobs(tmp_path, "01_a", "02_b"), {}, ())
    assert queue.estimate({}, queued) == "not measured before the first seed: 01_a, 02_b"
    known = {"01_a": took(1200.0)}
    assert queue.estimate(known, queued) == (
        "trainings left: about 3.0 h; not measured before the first seed: 02_b"
    )
    known["02_b"] = took(*[1.0] * 10)
    assert queue.estimate(known, queued) == "trainings left: about 3.0 h"


def test_figures_of_a_clone_are_no_measure_of_trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    for name in ("01_a", "06_results"):
        own = report.start(name, profile="full", device="cpu", seeds=3)
        own.save_table(pd.DataFrame({"n": [3]}), f"toy-{name[:2]}", caption="Seeds.")
    known = queue.measured(cache.folder(), tmp_path / "figures" / "full", ("06_results",))
    queued = queue.ordered(jobs(tmp_path, "01_a", "06_results"), known, ("06_results",))
    assert queue.estimate(known, queued) == (
        "trainings left: about 0 s; not measured before the first seed: 01_a"
    )


def test_the_seeds_of_a_round_count_when_it_is_done(tmp_path, monkeypatch):
    """Their first model is in the cache long before their last."""
    monkeypatch.setattr(queue, "measured", lambda *_: {"01_a": took(20.0, 1.0, 1.0)})
    (job,) = jobs(tmp_path, "01_a")
    running = runner.Runner([job], tmp_path, tmp_path / "figures" / "full", 1, {}, in_rounds=True)
    running.running[job.notebook] = None, 0.0
    for before, left in ((0, None), (1, 9 * 20.0)):
        running.seeds_before = {"01_a": before}
        own = running._measured()["01_a"]
        assert (own.seeds, own.left(10), own.total) == (before, left, 22.0)
    del running.running[job.notebook]
    assert running._measured()["01_a"].seeds == 3


# --- a whole run ------------------------------------------------------------------------------

START = """\
from somlib import cache, report
import pandas as pd
run = report.start("{name}", profile=profile, device=device, seeds=n_seeds)"""

TRAINS = """\
def trained(seed):
    if {fails} and seed == 2:
        raise FloatingPointError("seed 2 diverges")
    return seed + 0.5
found = [cache.call(trained, seed) for seed in run.seeds]"""

SAVES = """\
run.save_table(pd.DataFrame({{"found": found}}), "{id}", caption="Found.")"""


def toy(name, number, fails=False):
    cells = (START.format(name=name), TRAINS.format(fails=fails), SAVES.format(id=f"toy-{number}"))
    return {f"_{name}": cells}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of three notebooks with four seeds; in one of them the third seed fails."""
    folder = tmp_path_factory.mktemp("made")
    notebooks = toy("01_good", 1) | toy("02_bad", 2, fails=True) | toy("06_results", 6)
    project = make_project(folder, **notebooks)
    options = ("reproduce", "--profile", "full", "--seeds", "4", "--device", "cpu")
    return project, finished(command(project, *options)), options


def test_each_round_runs_and_a_failure_stops_nothing_but_its_own_next_round(made):
    _, result, _ = made
    assert result.code == 1
    ended = re.findall(r"^\[\d/\d\] (\w+) (done|failed), ", result.out, re.M)
    assert ended == [
        ("01_good", "done"), ("02_bad", "done"), ("06_results", "done"),
        ("01_good", "done"), ("02_bad", "failed"), ("06_results", "done"),
        ("01_good", "done"), ("06_results", "done"),
    ]  # fmt: skip
    assert result.out.startswith("not measured before the first seed: 01_good, 02_bad, 06_results")


def test_the_page_of_progress_lists_what_is_done_left_and_failed(made):
    project, _, _ = made
    text = (project / "figures" / "full" / "progress.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()
            if line.startswith("| 0")]  # fmt: skip
    assert [row[:4] for row in rows] == [
        ["01_good", "done with 4 seeds", "4 of 4", "4"],
        ["02_bad", "failed with 3 seeds", "2 of 4", "2"],
        ["06_results", "done with 4 seeds", "4 of 4", "0"],  # 01 has computed what it asks for
    ]
    assert rows[0][5] == rows[2][5] == "0 s"
    (failed,) = re.findall(r"^- (trained-\w+): FloatingPointError: seed 2 diverges$", text, re.M)
    assert (project / "runs" / "cache" / f"{failed}.failed").exists()


def test_what_the_failed_notebook_made_in_an_earlier_round_is_on_the_page(made):
    project, _, _ = made
    page = (project / "figures" / "full" / "README.md").read_text()
    assert "### toy-2" in page
    assert len(pd.read_csv(project / "figures" / "full" / "toy-2.csv")) == 1
    assert len(pd.read_csv(project / "figures" / "full" / "toy-1.csv")) == 4


def test_a_second_run_is_estimated_before_it_starts(made):
    project, _, options = made
    notebook = project / "notebooks" / "02_bad.ipynb"
    notebook.unlink()
    more = [{"4": "6"}.get(option, option) for option in options]
    result = finished(command(project, *more))
    assert result.code == 0
    assert result.out.startswith("trainings left: about 0 s")


def test_a_run_that_is_stopped_leaves_complete_pages(tmp_path, monkeypatch):
    """Ctrl-C in the second round: the pages hold the first."""
    page = tmp_path / "figures" / "full"
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    done = []

    def run(job, *_):
        seeds = job.parameters["n_seeds"]
        if seeds > 1:
            raise AssertionError
        own = report.start(job.notebook.stem, profile="full", device="cpu", seeds=seeds)
        own.save_table(pd.DataFrame({"n": [seeds]}), f"toy-{len(done)}", caption="Seeds.")
        done.append(job.notebook.stem)

    def stop(self, job):
        if job.parameters["n_seeds"] > 1:
            self.states[job.notebook.stem] = "running with 3 seeds"
            raise KeyboardInterrupt
        return start(self, job)

    start = runner.Runner._start
    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(runner.Runner, "_start", stop)
    planned = jobs(tmp_path / "notebooks", "01_a", "02_b")
    claims = {job.notebook: ExitStack() for job in planned}
    running = runner.Runner(planned, tmp_path, page, 1, claims, in_rounds=True)
    with pytest.raises(KeyboardInterrupt):
        running.run()
    assert len(done) == 2
    text = (page / "README.md").read_text()
    assert "### toy-0" in text
    assert "### toy-1" in text
    assert "running with 3 seeds" in (page / "progress.md").read_text()


def test_results_of_other_code_or_another_profile_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    cache.call(abs, -1)
    (path,) = cache.folder().glob("*.json")
    facts = json.loads(path.read_text()) | {"notebook": "01_a", "profile": "full"}
    path.write_text(json.dumps(facts))
    assert queue.measured(cache.folder(), tmp_path / "full")["01_a"].number == 1
    assert queue.measured(cache.folder(), tmp_path / "quick") == {}
    facts["made_from"]["versions"]["numpy"] = "0"
    path.write_text(json.dumps(facts))
    (path.with_name("half.json")).write_text("{")
    assert queue.measured(cache.folder(), tmp_path / "full") == {}
