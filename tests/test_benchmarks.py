"""The benchmarks on toy sizes: whether every adapter does the work that it is timed for."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import som as bench
from somlib import report

TOYS = {case.name: bench.toy(case) for case in bench.CASES}
MAPS = [library for library in bench.LIBRARIES if library.is_map]
FLOAT64 = next(library for library in MAPS if library.name == "somlib, float64")


@pytest.fixture(autouse=True)
def _own_run(monkeypatch):
    monkeypatch.setattr(report, "_run", None)  # the record of the machine opens one


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
    assert "--repeats 0" in capsys.readouterr().err
