"""The benchmarks on toy sizes: whether everybody does the work that they are timed for."""

import contextlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import common, desom, soae, somrl
from benchmarks import som as bench
from somlib import report

TOYS = {case.name: bench.toy(case) for case in bench.CASES}
MAPS = [library for library in bench.LIBRARIES if library.is_map]
FLOAT64 = next(library for library in MAPS if library.name == "somlib, float64")


@pytest.fixture(autouse=True)
def _own_run(monkeypatch):
    monkeypatch.setattr(report, "_run", None)  # the record of the machine opens one
    monkeypatch.setattr(desom, "all_cores", contextlib.nullcontext)  # nobody times tests


@pytest.mark.parametrize("library", MAPS, ids=lambda library: library.name)
def test_the_work_is_equal_unless_the_table_says_why(library):
    if library.absent:
        pytest.skip(f"{library.name}: {library.absent}")
    table = bench.agreement([library])
    assert list(table.training) == [case.mode for case in bench.AGREEMENT if library.takes(case)]
    expected = bench.DIFFERS if library.differs else "equal to rounding"
    assert set(table.verdict) == {expected}, table


def test_a_run_writes_table_figure_and_record(tmp_path):
    cases = [TOYS["batch-10k"], TOYS["online-10k"]]
    missing = replace(bench.OURS, name="nobody", package="no-such-package", differs="nothing")
    libraries = [*bench.LIBRARIES, missing]
    times = bench.run(cases, libraries, 1, (), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"som.{x}" for x in ("csv", "md", "png", "json")
    }
    for case in cases:
        rows = times[times.case == case.name].set_index("library")
        assert list(rows.index) == [library.name for library in libraries if library.takes(case)]
        assert rows.note["nobody"] == "not installed"
        assert rows["× ours"]["somlib"] == 1
        ran = rows[rows.note == ""]
        assert (ran.seconds > 0).all()
        maps = ran[~ran.index.str.startswith("bare")]
        assert maps[["QE", "TE"]].notna().all(axis=None)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "som.csv", keep_default_na=False, na_values=[""])[
            ["case", "seconds"]
        ],
        times[["case", "seconds"]],
    )
    record = json.loads((tmp_path / "som.json").read_text(encoding="utf-8"))
    assert {"processor", "threads", "versions", "commit", "date"} <= set(record)
    page = (tmp_path / "som.md").read_text(encoding="utf-8")
    assert "nobody: nothing" not in page  # who did not take part needs no note
    assert str(tmp_path) not in page + json.dumps(record)


def test_what_takes_too_long_is_not_run_and_what_fails_is_reported(monkeypatch):
    def fails(case, X, start):
        raise ArithmeticError("no")

    case = TOYS["batch-small"]
    broken = replace(bench.OURS, name="broken", batch=fails)
    assert bench.measure(case, [broken], 1).note[0] == "does not run: ArithmeticError('no')"
    monkeypatch.setattr(bench, "LIMIT", 0.0)
    row = bench.measure(case, [bench.OURS], 1).loc[0]
    assert row.note == "not run: estimated 0 s, limit 0 s"
    assert row.runs == 0
    assert np.isnan(row.seconds)


def test_bare_products_are_a_search_more_than_passes(monkeypatch):
    case = TOYS["batch-10k"]
    X, shapes = case.samples("float32"), []

    def product(a, b, out=None):
        if out is not None:
            shapes.append(tuple(a.shape))
        return torch.mm(a, b, out=out)

    bench._products(case, torch.from_numpy(X), torch.from_numpy(case.start(X)), product)()
    assert shapes.count(X.shape) == case.n_passes + 1
    assert shapes.count((case.grid.n_units,) * 2) == case.n_passes


def test_memory_is_that_of_a_fresh_process_beyond_the_data():
    case = replace(TOYS["batch-10k"], n=4000, d=500, rows=40, cols=40, n_passes=1)
    used = bench.memory(case, [FLOAT64])["MB above data"]
    weights = 1600 * 500 * 8 / 1e6
    assert 2 * weights < used[0] < 200  # those that it began with, and those that it made


def test_only_a_complete_run_replaces_the_committed_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    monkeypatch.setattr(bench, "LIBRARIES", (bench.OURS,))
    bench.main(["--quick", "--cases", "online-small", "--repeats", "1"])
    assert (tmp_path / "runs" / "benchmarks" / "som.csv").exists()
    assert not (tmp_path / "figures").exists()
    assert "online-small, somlib" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        bench.main(["--repeats", "0"])
    assert "--repeats: '0'" in capsys.readouterr().err


# ---------------------------------------------------------------- DESOM

DEEP = {case.name: desom.toy(case) for case in desom.CASES}
CPU = torch.device("cpu")


def test_a_plain_desom_ends_with_our_weights_and_only_with_the_same_loss(monkeypatch):
    assert desom.agreement() < 1e-12
    ours = desom.Case.model
    monkeypatch.setattr(desom.Case, "model", lambda *a, **k: ours(*a, **k).set_params(gamma=2e-3))
    assert desom.agreement() > 1e-6


def test_training_begins_with_the_first_weights():
    case = replace(DEEP["full"], d=64, source="digits")
    X = common.samples("digits", case.n, 64)[0]
    first = desom.first_weights(case, X)
    bound = np.sqrt(6 / (64 + 8))
    W = first["encoder.layers.0.weight"]
    assert W.shape == (64, 8)
    assert bound * 0.9 < np.abs(W).max() <= bound  # Glorot's, untouched
    assert not first["encoder.layers.0.bias"].any()


def flops(prepare, case):
    X = common.samples(case.source, case.n, case.d)[0]
    train = prepare(case, "highest", X)
    with FlopCounterMode(display=False) as counter:
        train(1)
    return counter.get_total_flops()


def test_bare_products_are_those_of_training():
    case = DEEP["full"]
    assert flops(desom.bare, case) == flops(desom.plain, case)
    layers = 2 * (12 * 8 + 8 * 6 + 6 * 3)
    assert flops(desom.bare, case) == 2 * 32 * (3 * layers - 12 * 8)
    three = DEEP["full-3-seeds"]
    assert (
        flops(desom.bare_stacked, three) == flops(desom.bare, three) == 3 * flops(desom.bare, case)
    )


def test_the_clock_leaves_out_what_happens_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(desom.time, "perf_counter", lambda: now[0])

    def train(n):
        now[0] += 7 + 2 * n

    case = replace(DEEP["full"], iterations=10, whole=False)
    assert desom.clock(case, train) == 20
    assert desom.clock(replace(case, whole=True), train) == 27


def test_a_deep_run_writes_table_figure_and_record(tmp_path):
    cases = [DEEP["full"], DEEP["digits-10-seeds"], DEEP["gpu-10-seeds"]]
    times = desom.run(cases, [], 1, CPU, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"desom.{x}" for x in ("csv", "md", "png", "json")
    }
    for case in cases:
        rows = times[times.case == case.name].set_index("library")
        assert list(rows.index) == [entrant.name for entrant in case.entrants]
        if case.device == "cuda":
            assert set(rows.note) == {desom.NO_GPU}
            assert rows.seconds.isna().all()
        else:
            assert set(rows.note) == {""}
            assert (rows.seconds > 0).all()
            assert rows["× first row"].iloc[0] == 1
    record = json.loads((tmp_path / "desom.json").read_text(encoding="utf-8"))
    assert {"processor", "threads", "versions", "commit", "date", "agreement"} <= set(record)
    page = (tmp_path / "desom.md").read_text(encoding="utf-8")
    assert "not run: no GPU" in page
    assert "Against the aims" not in page  # toys have none
    assert str(tmp_path) not in page + json.dumps(record)


@pytest.mark.parametrize("name", ["gpu-10-seeds", "gpu-steps"])
def test_what_runs_on_a_gpu_runs(name):
    table = desom.measure(replace(DEEP[name], device="cpu"), 1)
    extrapolated = table.note.str.startswith("extrapolated: 3 times")
    assert list(table.library[extrapolated]) == ["somlib, in turn"] * (name == "gpu-10-seeds")
    assert (table.note[~extrapolated] == "").all()
    assert (table.seconds > 0).all()


def test_who_fails_does_not_cost_the_measurements_of_others():
    def fails(case, precision, X):
        return lambda n: 1 / (n - 10)  # not in the warm-up, but in the turn that follows

    case = DEEP["full"]
    table = desom.measure(
        replace(case, entrants=(desom.Entrant("broken", fails), *case.entrants[:1])), 1
    )
    assert "ZeroDivisionError" in table.note[0]
    assert table.runs.to_list() == [0, 1]


def test_aims_are_met_missed_or_not_run():
    table = pd.concat(desom.measure(replace(x, device="cuda"), 1) for x in DEEP.values())
    table.loc[table.case == "full", "seconds"] = [1.2, 1.3, 2.0, 1.0, 1.0, 1.5]
    aims = desom.against_aims(desom.CASES, table).set_index("aim")
    one = aims.loc["full: time of somlib / bare products"]
    assert one.to_list() == ["≤ 1.25 ×", "1.20 ×", "met"]
    usual = aims.loc["full: time of somlib / bare products, PyTorch's own"]
    assert usual.to_list() == ["≤ 1.25 ×", "0.80 ×", "met"]
    medium = aims.loc["full: time of somlib, medium / bare products, medium"]
    assert medium.to_list() == ["≤ 1.25 ×", "1.30 ×", "missed"]
    peer = aims.loc["full: time of plain PyTorch / somlib"]
    assert peer.to_list() == ["–", "1.67 ×", "–"]
    gpu = aims.loc["gpu-10-seeds: somlib, stacked"]
    assert gpu.to_list() == ["≤ 60 s", "not run: no GPU", "–"]


def test_memory_of_a_stack_is_at_least_its_parameters_and_moments():
    case = replace(DEEP["full"], hidden=(600, 500), n_seeds=2)
    row = desom.memory([case]).loc[0]
    assert row["parameters and Adam, MB"] == pytest.approx(20.0, abs=0.5)
    assert row["parameters and Adam, MB"] < row["MB above data"] < 200


def test_only_a_complete_deep_run_replaces_the_committed_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    desom.main(["--quick", "--cases", "full-3-seeds", "--repeats", "1", "--device", "cpu"])
    assert (tmp_path / "runs" / "benchmarks" / "desom.csv").exists()
    assert not (tmp_path / "figures").exists()


# ---------------------------------------------------------------- SOAE

TORI = {case.name: desom.toy(case) for case in soae.CASES}


@pytest.mark.parametrize("other", [
    {"sigma": (1.5, 0.06)}, {"neighborhood": "gaussian"}, {"training": "joint"},
    {"random_state": 1},  # the same weights to begin with on both sides, but other noise
], ids=str)  # fmt: skip
def test_a_plain_soae_ends_with_our_weights_and_only_with_the_same_steps(monkeypatch, other):
    assert soae.agreement() < 1e-12
    ours = soae.Case.model
    monkeypatch.setattr(soae.Case, "model", lambda *a, **k: ours(*a, **k).set_params(**other))
    assert soae.agreement() > 1e-6


def test_bare_products_are_those_of_waking_and_sleeping():
    case = TORI["full"]
    assert flops(soae.plain, case) - flops(desom.bare, case) == 2 * 32 * (6 * 6 + 6 * 8 + 8 * 12)
    assert flops(desom.bare, case) == flops(desom.one_seed, case)
    assert flops(desom.bare_as_usual, case) == flops(desom.one_seed, case)
    three = TORI["digits-10-seeds"]
    assert flops(desom.bare_stacked, three) == flops(desom.stacked, three)


def test_the_twin_has_the_same_networks():
    case = TORI["full"]
    X = common.samples(case.source, case.n, case.d)[0]
    ours, twins = (f(case, "highest", X)(1).parameters_ for f in (desom.one_seed, soae.twin))
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in twins.items()}


def test_a_run_over_tori_writes_table_figure_and_record(tmp_path):
    times = soae.run(list(TORI.values()), 1, CPU, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"soae.{x}" for x in ("csv", "md", "png", "json")
    }
    on_gpu = times.case == "gpu-10-seeds"
    assert set(times.note[on_gpu]) == {desom.NO_GPU}
    assert set(times.note[~on_gpu]) == {""}
    assert (times.seconds[~on_gpu] > 0).all()
    record = json.loads((tmp_path / "soae.json").read_text(encoding="utf-8"))
    assert {"processor", "versions", "commit", "date", "agreement", "duration"} <= set(record)
    page = (tmp_path / "soae.md").read_text(encoding="utf-8")
    assert "torus of 3 circles" in page
    assert "Against the aims" not in page  # toys have none
    assert str(tmp_path) not in page + json.dumps(record)


def test_ten_on_a_gpu_are_compared_with_one_that_is_really_trained():
    table = desom.measure(replace(TORI["gpu-10-seeds"], device="cpu"), 1)
    assert list(table.library) == ["somlib, stacked", "somlib, one seed"]
    assert set(table.note) == {""}


def test_a_long_case_is_timed_less_often():
    whole = next(case for case in soae.CASES if case.name == "whole")
    assert (whole.whole, whole.n, whole.iterations) == (True, 60_000, 4000)
    assert desom.measure(TORI["whole"], 3).runs.to_list() == [2]
    assert desom.measure(TORI["whole"], 1).runs.to_list() == [1]


def test_aims_of_a_whole_training_and_of_ten():
    table = pd.concat(desom.measure(replace(x, device="cuda"), 1) for x in TORI.values())
    table.loc[table.case == "whole", "seconds"] = 61.0
    table.loc[table.case == "gpu-10-seeds", "seconds"] = [30.0, 20.0]
    aims = desom.against_aims(soae.CASES, table, soae.AIMS, soae.LIMIT).set_index("aim")
    assert len(aims) == len(soae.AIMS) + 1
    assert aims.loc["whole: somlib"].to_list() == ["≤ 60 s", "61.0 s", "missed"]
    ten = aims.loc["gpu-10-seeds: time of somlib, stacked / somlib, one seed"]
    assert ten.to_list() == ["≤ 2 ×", "1.50 ×", "met"]


def test_only_a_complete_run_over_tori_replaces_the_committed_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    soae.main(["--quick", "--cases", "whole", "--repeats", "1", "--device", "cpu"])
    assert (tmp_path / "runs" / "benchmarks" / "soae.csv").exists()
    assert not (tmp_path / "figures").exists()


# ---------------------------------------------------------------- DC-SOMRL

NODES = {case.name: desom.toy(case) for case in somrl.CASES}


@pytest.mark.parametrize(("who", "other"), [
    ("Case", {"alpha": 0.2}), ("Case", {"repel": "literal"}), ("Case", {"life_rule": "update"}),
    ("Layer", {"life_decay": 0.3}), ("Layer", {"neighborhood_decay": 1.0}),
], ids=str)  # fmt: skip
def test_plain_nodes_end_where_ours_do_and_only_by_the_same_rule(monkeypatch, who, other):
    assert somrl.agreement() < 1e-12
    ours = getattr(somrl, who).model
    monkeypatch.setattr(
        getattr(somrl, who), "model", lambda *a, **k: ours(*a, **k).set_params(**other)
    )
    assert somrl.agreement() > 1e-6


def test_maps_agree_on_nodes_that_came_and_went():
    for case in (somrl.AGREEMENT, somrl.AGREEMENT_ALONE):
        X = common.samples(case.source, case.n, case.d)[0]
        model = case.model("highest", case.iterations).fit(X)
        assert model.n_nodes_ > 10
        assert (np.diff(model.history_["nodes"]) < 0).any()


def test_twin_and_plain_nodes_do_the_bare_products():
    case = NODES["full"]
    assert flops(somrl.plain, case) == flops(somrl.twin, case) == flops(desom.bare, case)


def test_the_twin_has_the_networks_of_the_nodes():
    case = NODES["full"]
    X = common.samples(case.source, case.n, case.d)[0]
    ours, twins = (f(case, "highest", X)(1).parameters_ for f in (desom.one_seed, somrl.twin))
    assert {k: v.shape for k, v in ours.items() if "layers" in k} == {
        k: v.shape for k, v in twins.items()
    }
    model = somrl.Twin(**vars(case)).model("highest", 1).fit(X)
    codes = model.transform(X)
    assert 0 <= codes.min() <= codes.max() <= 1


def test_a_run_over_nodes_writes_table_figure_and_record(tmp_path):
    times = somrl.run(list(NODES.values()), 1, CPU, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"somrl.{x}" for x in ("csv", "md", "png", "json")
    }
    on_gpu = times.case == "gpu-10-seeds"
    assert set(times.note[on_gpu]) == {desom.NO_GPU}
    assert set(times.note[~on_gpu]) == {""}
    assert (times.seconds[~on_gpu] > 0).all()
    record = json.loads((tmp_path / "somrl.json").read_text(encoding="utf-8"))
    assert {"processor", "versions", "commit", "date", "agreement", "duration"} <= set(record)
    page = (tmp_path / "somrl.md").read_text(encoding="utf-8")
    assert "map alone, 12 dimensions, room for 200 nodes" in page
    assert "Against the aims" not in page  # toys have none
    assert str(tmp_path) not in page + json.dumps(record)


def test_aims_of_an_epoch_and_of_nodes_alone():
    table = pd.concat(desom.measure(replace(x, device="cpu"), 1) for x in NODES.values())
    assert set(table.note) == {""}
    table.loc[table.case == "epoch", "seconds"] = [13.2, 11.0]
    table.loc[table.case == "layer", "seconds"] = [0.1, 0.5, 10.0]
    aims = desom.against_aims(somrl.CASES, table, somrl.AIMS, somrl.NO_LIMIT).set_index("aim")
    assert len(aims) == len(somrl.AIMS)
    epoch = aims.loc["epoch: time of somlib / somlib, Autoencoder"]
    assert epoch.to_list() == ["≤ 1.3 ×", "1.20 ×", "met"]
    assert aims.loc["layer: time of one by one / somlib", "measured"] == "100.00 ×"


def test_only_a_complete_run_over_nodes_replaces_the_committed_table(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    somrl.main(["--quick", "--cases", "layer", "--repeats", "1", "--device", "cpu"])
    assert (tmp_path / "runs" / "benchmarks" / "somrl.csv").exists()
    assert not (tmp_path / "figures").exists()
