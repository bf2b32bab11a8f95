"""The benchmarks on toy sizes: whether all libraries do the work that is timed."""

import contextlib
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from test_estimators import MatrixUnits, matrix_units  # noqa: F401 - a fixture
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    compare,
    desom,
    harness,
    networks,
    processors,
    rounding,
    search,
    soae,
    somrl,
    worker,
)
from benchmarks import som as bench
from benchmarks.harness import Aim, Entrant
from somlib.search.products import products

MAPS = [library for library in bench.LIBRARIES if library.is_map]
FLOAT64 = next(library for library in MAPS if library.name == "somlib, float64")
CPU = torch.device("cpu")
SUBJECTS = {x.SUBJECT.name: x.SUBJECT for x in (bench, search, desom, soae, somrl)}
DEEP = ["desom", "soae", "somrl"]


@pytest.fixture(autouse=True)
def _quick_turns(monkeypatch):
    monkeypatch.setattr(harness, "all_cores", contextlib.nullcontext)  # nothing is timed here
    monkeypatch.setattr(harness, "TURN_SECONDS", 0.0)


def toys(name):
    return {case.name: SUBJECTS[name].toy(case) for case in SUBJECTS[name].cases}


def measured(case, repeats=1):
    return harness.measure(case.name, networks.entrants(case, gpu=True), repeats)


# ---------------------------------------------------------------- the harness


def clocked(name, *seconds):
    """An entrant whose turns take these seconds; one that is an error is raised."""
    left = iter(seconds)

    def clock():
        taken = next(left)
        if isinstance(taken, Exception):
            raise taken
        return taken

    return Entrant(name, "float32", lambda: clock)


def test_who_fails_does_not_cost_the_measurements_of_others():
    broken = clocked("broken", 1.0, ArithmeticError("no"))
    absent = replace(clocked("absent"), absent="not installed")
    refuses = clocked("refuses", harness.NotRun("not run: too long"))
    table = harness.measure("case", [broken, absent, refuses, clocked("ours", 1.0, 3.0)], 2)
    assert table.note.to_list() == [
        "does not run: ArithmeticError('no')", "not installed", "not run: too long", "",
    ]  # fmt: skip
    assert table.runs.to_list() == [1, 0, 0, 2]
    assert table.seconds.isna().to_list() == [False, True, True, False]
    assert table.seconds[3] == 2.0


def test_ratios_are_of_the_same_turns_and_so_outlive_a_busy_moment():
    table = harness.measure(
        "case", [clocked("ours", 1.0, 9.0, 1.0), clocked("theirs", 2.0, 18.0, 2.0)], 3
    )
    assert table["× first row"].to_list() == [1.0, 2.0]
    busy = harness.measure(
        "case", [clocked("ours", 1.0, 4.0, 1.0), clocked("theirs", 2.0, 8.0, 20.0)], 3
    )
    assert busy["× first row"][1] == 2.0
    assert busy.seconds[1] / busy.seconds[0] == 8.0


def test_what_takes_long_is_timed_less_often_and_what_takes_no_time_more_often(monkeypatch):
    long = clocked("long", 20.0, 20.0, 20.0)
    assert harness.measure("case", [long], 3).runs[0] == 2
    assert harness.measure("case", [clocked("longest", 1e3)], 3).runs[0] == 1
    monkeypatch.setattr(harness, "TURN_SECONDS", 0.5)
    short = harness.measure("case", [clocked("short", 0.1, 0.3, 0.2, 0.3, 0.3)], 1)
    assert short.turns[0] == [0.3]  # five trainings, one turn


def test_aims_are_met_missed_or_not_run():
    ours, theirs = clocked("ours", 1.2, 1.2), clocked("theirs", 1.0, 1.0)
    absent = replace(clocked("absent"), absent="not installed")
    times = harness.measure("full", [ours, theirs, absent], 2)
    used = pd.DataFrame([{"case": "full", "library": "ours", "MB above data": 1200.0}])
    aims = [
        Aim("full", "ours", "theirs", "≤", 1.25),
        Aim("full", "ours", "theirs", "≤", 1.1),
        Aim("full", "theirs", "ours", "≥", None),
        Aim("full", "ours", None, "≤", 60),
        Aim("full", "absent", "ours", "≥", 2),
        Aim("full", "ours", "absent", "≤", 2),
        Aim("full", "ours", None, "≤", 1000, "MB above data"),
        Aim("full", "ours", "not in the table", "≤", 2),
        Aim("another", "ours", "theirs", "≤", 2),
    ]
    table = harness.against_aims(aims, times, used)
    assert table.drop(columns="aim").to_numpy().tolist() == [
        ["≤ 1.25 ×", "1.20 ×", "met"],
        ["≤ 1.1 ×", "1.20 ×", "missed"],
        ["–", "0.83 ×", "–"],
        ["≤ 60 s", "1.2 s", "met"],
        ["≥ 2 ×", "not installed", "–"],
        ["≤ 2 ×", "not installed", "–"],
        ["≤ 1000 MB", "1200 MB", "missed"],
    ]
    assert table.aim[0] == "full: time of ours / theirs"


def gpu_column(seconds, code=None, processor="a GPU"):
    code = processors._code() if code is None else code
    facts = {"processor": processor, "threads": None, "commit": "0123456789", "code": code}
    return facts | {"seconds": [["gpu", library, taken] for library, taken in seconds.items()]}


def test_aims_of_a_gpu_that_is_not_here_are_judged_from_its_column():
    here = [replace(clocked(x), absent="not run: no GPU") for x in ("ours", "theirs", "third")]
    times = harness.measure("gpu", here, 1)
    aims = [
        Aim("gpu", "theirs", "ours", "≥", 5),
        Aim("gpu", "theirs", "ours", "≥", 7),
        Aim("gpu", "ours", None, "≤", 60),
        Aim("gpu", "theirs", "ours", "≥", None),
        Aim("gpu", "theirs", "third", "≥", 2),
    ]
    measured = {"ours": 2.0, "theirs": 12.0}
    cpu = gpu_column(measured | {"third": 1.0}) | {"threads": 2}  # says nothing about a GPU
    earlier = gpu_column({"ours": 1.0, "theirs": 1.0}, processor="an earlier one")
    table = harness.against_aims(aims, times, pd.DataFrame(), [earlier, gpu_column(measured), cpu])
    assert table.drop(columns="aim").to_numpy().tolist() == [
        ["≥ 5 ×", "6.00 × on a GPU", "met"],
        ["≥ 7 ×", "6.00 × on a GPU", "missed"],
        ["≤ 60 s", "2.0 s on a GPU", "met"],
        ["–", "6.00 × on a GPU", "–"],
        ["≥ 2 ×", "not run: no GPU", "–"],
    ]
    outdated = [gpu_column(measured, code="of earlier code")]
    table = harness.against_aims(aims[:1], times, pd.DataFrame(), outdated)
    assert table.measured.to_list() == ["(6.00 × on a GPU)"]
    assert harness.against_aims(aims[:1], times, pd.DataFrame()).verdict.to_list() == ["–"]
    own = harness.measure("gpu", [clocked("ours", 1.0), clocked("theirs", 8.0)], 1)
    table = harness.against_aims(aims[:1], own, pd.DataFrame(), [gpu_column(measured)])
    assert table.measured.to_list() == ["8.00 ×"]  # measured here


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_aim_names_entrants_that_take_part(name):
    subject = SUBJECTS[name]
    trained = {(case.name, x.name) for case in subject.cases for x in subject.entrants(case, False)}
    for aim in subject.aims:
        assert {(aim.case, aim.library), (aim.case, aim.beside or aim.library)} <= trained


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_run_writes_table_figure_and_record(name, tmp_path):
    subject, cases = SUBJECTS[name], list(toys(name).values())
    if name == "som":  # the others of its cases differ in nothing that matters here
        cases = [case for case in cases if case.name in ("batch-10k", "online-10k")]
    times = harness.run(subject, cases, [], 1, CPU, tmp_path)
    suffixes = ("csv", "md", "png", "json")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.{x}" for x in suffixes}
    for case in cases:
        rows = times[times.case == case.name].set_index("library")
        entrants = subject.entrants(case, False)
        assert list(rows.index) == [entrant.name for entrant in entrants]
        absent = {entrant.name: entrant.absent for entrant in entrants}
        assert rows.note.to_dict() == absent
        ran = rows[rows.note == ""]
        assert (ran.seconds > 0).all()
        assert rows.seconds[rows.note != ""].isna().all()
        if len(ran):
            assert ran["× first row"].iloc[0] == 1
        if name == "som":
            maps = ran[~ran.index.str.startswith("bare")]
            assert maps[["QE", "TE"]].notna().all(axis=None)
        if subject.on_gpu(case):
            assert set(rows.note) == {harness.NO_GPU}
    columns = ["case", "library", "precision", "seconds"]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / f"{name}.csv")[columns], times[columns])
    record = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert {"processor", "threads", "versions", "commit", "date", "agreement", "turns"} <= set(
        record
    )
    page = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    assert "Against the aims" not in page  # toys have none
    assert str(tmp_path) not in page + json.dumps(record)


def test_a_page_has_a_column_for_each_processor_that_was_measured(tmp_path, monkeypatch):
    times = pd.DataFrame({"case": ["a", "a"], "library": ["x", "y"], "seconds": [1.5, np.nan]})
    runs = []
    for name, code in (("old", b"1"), ("other", b"2"), ("old", b"2"), ("new", b"3")):
        monkeypatch.setattr(processors, "SOURCE", {"models.som": code, "companion.report": b"?"})
        record = {"processor": name, "threads": 2, "commit": "0123456789"}
        runs = processors.by_processor(tmp_path / "x.json", record, times)
        (tmp_path / "x.json").write_text(json.dumps({"by processor": runs}), encoding="utf-8")
        times.seconds += 1
    table = processors.table(runs, ["a"])
    assert list(table.columns) == ["case", "library"] + [
        f"{name}, 2 threads, 0123456" for name in ("other", "old", "new")
    ]  # the first of the old processor was replaced
    assert table.iloc[0].to_list() == ["a", "x", "(2.5)", "(3.5)", "4.5"]  # code has changed


# ---------------------------------------------------------------- columns of other processors

GPU = "NVIDIA H100 80GB HBM3"


GPU_CASES = ["gpu-10-seeds", "gpu-steps"]


def measured_there(monkeypatch, folder, cases=GPU_CASES, processor="another"):
    """Return the record of a run on a machine with a GPU, in toy sizes that count as the real."""
    chosen = [replace(toys("desom")[name], device="cpu") for name in cases]
    subject = replace(SUBJECTS["desom"], on_gpu=lambda case: case.name in GPU_CASES)
    facts = harness.machine()
    monkeypatch.setattr(harness, "machine", lambda *a: facts | {"processor": processor, "gpu": GPU})
    harness.run(subject, chosen, [], 1, torch.device("cuda"), folder)
    path = folder / "desom.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    real = {case.name: case.description for case in SUBJECTS["desom"].cases}
    record["cases"] = {name: real[name] for name in record["cases"]}
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A folder of figures with the committed page, whose record has no columns."""
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    folder = tmp_path / "figures" / "benchmarks"
    folder.mkdir(parents=True)
    times = pd.DataFrame(
        {"case": ["full", "gpu-steps"], "library": ["somlib"] * 2, "seconds": [2, np.nan]}
    )
    times.to_csv(folder / "desom.csv", index=False)
    record = {"processor": "this", "threads": 2, "commit": "0123456789", "agreement": 0.0}
    (folder / "desom.json").write_text(json.dumps(record), encoding="utf-8")
    page = "# Title\n\nText.\n\n## full\n\n| a |\n\n## Against the aims\n\n| b |\n"
    (folder / "desom.md").write_text(page, encoding="utf-8")
    return folder


def test_what_a_gpu_computes_is_in_a_column_of_its_own(tmp_path, monkeypatch):
    path = measured_there(monkeypatch, tmp_path, ["full", *GPU_CASES])
    processor, gpu = json.loads(path.read_text(encoding="utf-8"))["by processor"]
    assert (processor["processor"], gpu["processor"]) == ("another", GPU)
    assert gpu["threads"] is None
    assert {case for case, *_ in processor["seconds"]} == {"full"}
    assert {case for case, *_ in gpu["seconds"]} == set(GPU_CASES)
    titles = list(processors.table([processor, gpu], ["full", *GPU_CASES]).columns[2:])
    assert titles[0].startswith(f"another, {processor['threads']} threads, ")
    assert titles[1].startswith(f"{GPU}, ")
    assert "threads" not in titles[1]


def test_columns_of_another_machine_are_taken_into_the_committed_page(
    tmp_path, monkeypatch, committed, capsys
):
    there = measured_there(monkeypatch, tmp_path)
    before = (committed / "desom.md").read_text(encoding="utf-8")
    others = {x.name: x.read_bytes() for x in committed.glob("*.csv")}
    for _ in range(2):  # taken again, it replaces itself
        desom.main(["--merge", str(there)])
        page = (committed / "desom.md").read_text(encoding="utf-8")
        begin, end = page.index("## By processor"), page.index("## Against the aims")
        assert page[:begin] + page[end:] == before
        head, _, *rows = page[begin:end].strip().splitlines()[4:]
        assert f"| {GPU}, " in head
        assert head.endswith("| this, 2 threads, 0123456 |")
        assert rows[0].replace(" ", "") == "|full|somlib|–|(2)|"  # by code that nothing tells
        assert len(rows) == 7
        assert all("(" not in row and row.endswith("| – |") for row in rows[1:])
    assert GPU in capsys.readouterr().out
    assert others == {x.name: x.read_bytes() for x in committed.glob("*.csv")}
    record = json.loads((committed / "desom.json").read_text(encoding="utf-8"))
    assert (record["processor"], record["agreement"]) == ("this", 0.0)
    times = pd.DataFrame({"case": ["full"], "library": ["somlib"], "seconds": [1.0]})
    later = processors.by_processor(committed / "desom.json", record | {"gpu": None}, times)
    assert [x["processor"] for x in later] == [GPU, "this"]
    assert later[1]["seconds"] == [["full", "somlib", 1.0]]
    assert processors.on_page(page, later[1:], ["full"]) == before  # a single column is no table


def test_columns_taken_into_a_page_decide_its_aims_about_a_gpu(tmp_path, monkeypatch, committed):
    there = measured_there(monkeypatch, tmp_path)
    path, absent = committed / "desom.md", "not run: no GPU | – |"
    stacked, steps = "gpu-10-seeds: time of somlib, in turn / somlib, stacked", "gpu-steps: another"
    rows = ["| full: time of somlib / bare products | ≤ 1.25 × | 1.37 × | missed |",
            f"| {stacked} | ≥ 5 × | {absent}", f"| {steps} | – | {absent}"]  # fmt: skip
    path.write_text(path.read_text(encoding="utf-8").replace("| b |", "\n".join(rows)), "utf-8")
    desom.main(["--merge", str(there)])
    page = path.read_text(encoding="utf-8")
    assert rows[0] in page
    assert rows[2] in page
    columns = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["by processor"]
    seconds = {(case, library): taken for case, library, taken in columns[0]["seconds"]}
    names = [("gpu-10-seeds", f"somlib, {how}") for how in ("in turn", "stacked")]
    ratio = seconds[names[0]] / seconds[names[1]]
    verdict = "met" if ratio >= 5 else "missed"
    assert f"| {stacked} | ≥ 5 × | {ratio:.2f} × on {GPU} | {verdict} |" in page
    assert "Aims of cases for a GPU are judged from these medians" in page


def test_own_aims_about_a_gpu_are_kept_when_columns_of_another_are_taken(
    tmp_path, monkeypatch, committed
):
    there = measured_there(monkeypatch, tmp_path)
    record = json.loads((committed / "desom.json").read_text(encoding="utf-8"))
    (committed / "desom.json").write_text(json.dumps(record | {"gpu": "ours"}), encoding="utf-8")
    row = "| gpu-10-seeds: somlib, stacked | ≤ 60 s | 9.0 s | met |"
    page = (committed / "desom.md").read_text(encoding="utf-8").replace("| b |", row)
    (committed / "desom.md").write_text(page, encoding="utf-8")
    desom.main(["--merge", str(there)])
    assert row in (committed / "desom.md").read_text(encoding="utf-8")


def test_a_section_of_columns_may_be_the_last():
    columns = [
        {"processor": x, "threads": 1, "commit": None, "code": None, "seconds": [["a", "b", 1.0]]}
        for x in ("one", "two")
    ]
    page = processors.on_page("# Title\n\n## a\n\nText.\n", columns, ["a"])
    assert page.startswith("# Title\n\n## a\n\nText.\n\n## By processor\n\nSeconds;")
    assert page.endswith("| a | b | (1) | (1) |\n")
    assert "| one, 1 threads | two, 1 threads |" in page


@pytest.mark.parametrize(("change", "reason"), [
    (lambda record: [record], "is a list; expected the record"),
    (lambda record: {"processor": "this"}, "is a record of 'no benchmark'"),
    (lambda record: record | {"benchmark": "soae"}, "is a record of 'soae'; expected one of 'des"),
    (lambda record: record | {"by processor": None}, "has no columns by processor"),
    (lambda record: record | {"by processor": [{"processor": "x"}]}, "has no columns by processor"),
    (lambda record: record | {"cases": {"gpu-steps": "toy"}}, "'gpu-steps' is 'toy'; expected"),
    (lambda record: record | {"by processor": []}, "no column of another processor than this"),
])  # fmt: skip
def test_what_is_no_record_of_the_benchmark_is_refused(change, reason, tmp_path, committed, capsys):
    files = {x.name: x.read_bytes() for x in committed.iterdir()}
    there, times = tmp_path / "desom.json", pd.DataFrame(columns=["case", "library", "seconds"])
    columns = [processors._column(harness.machine() | {"processor": GPU}, times, None)]
    record = {"benchmark": "desom", "cases": {}, "by processor": columns}
    there.write_text(json.dumps(change(record)), encoding="utf-8")
    with pytest.raises(SystemExit):
        desom.main(["--merge", str(there)])
    assert f"{there}" in (message := capsys.readouterr().err)
    assert reason in message
    assert files == {x.name: x.read_bytes() for x in committed.iterdir()}


def test_a_file_that_is_no_record_is_refused_by_name(tmp_path, committed, capsys):
    (tmp_path / "text").write_text("text")
    for name, reason in (("nowhere", "does not exist"), ("text", "is not JSON")):
        with pytest.raises(SystemExit):
            desom.main(["--merge", str(tmp_path / name)])
        assert f"{tmp_path / name} {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "case"), [(bench, "online-small"), (desom, "full-3-seeds"), (somrl, "layer")]
)
def test_only_a_complete_run_replaces_the_committed_table(
    module, case, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    module.main(["--quick", "--cases", case, "--repeats", "1"])
    assert (tmp_path / "runs" / "benchmarks" / f"{module.SUBJECT.name}.csv").exists()
    assert not (tmp_path / "figures").exists()
    assert f"{case}, somlib" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        module.main(["--repeats", "0"])
    assert "--repeats: '0'" in capsys.readouterr().err


# ---------------------------------------------------------------- SOM

TOYS = toys("som")


@pytest.mark.parametrize("library", MAPS, ids=lambda library: library.name)
def test_the_work_is_equal_unless_the_table_says_why(library):
    if library.absent:
        pytest.skip(f"{library.name}: {library.absent}")
    table = bench.agreement([library])
    assert list(table.training) == [case.mode for case in bench.AGREEMENT if library.takes(case)]
    expected = bench.DIFFERS if library.differs else "equal to rounding"
    assert set(table.verdict) == {expected}, table


def test_a_library_that_fails_is_absent_or_slow_is_reported(monkeypatch):
    def fails(case, X, start):
        raise ArithmeticError("no")

    case = TOYS["batch-small"]
    broken = replace(bench.OURS, name="broken", batch=fails)
    missing = replace(bench.OURS, name="missing", package="no-such-package")
    entrants = partial(bench.entrants, case, libraries=[broken, missing, bench.OURS])
    notes = ["does not run: ArithmeticError('no')", "not installed"]
    assert harness.measure(case.name, entrants(), 1).note.to_list() == [*notes, ""]
    monkeypatch.setattr(bench, "LIMIT_SECONDS", 0.0)
    row = harness.measure(case.name, entrants(), 1).loc[2]
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
    (row,) = bench.memory(case, [FLOAT64])
    weights = 1600 * 500 * 8 / 1e6
    assert 2 * weights < row["MB above data"] < 200  # those at its start, and those that it made


# ---------------------------------------------------------------- deep models


@pytest.mark.parametrize("module", [desom, soae, somrl])
def test_plain_versions_end_where_ours_do(module):
    assert module.agreement() < 1e-12


@pytest.mark.parametrize(("module", "other"), [
    (desom, {"gamma": 2e-3}), (desom, {"temperature": (10.0, 0.2)}),
    (soae, {"sigma": (1.5, 0.06)}), (soae, {"neighborhood": "gaussian"}),
    (soae, {"training": "joint"}),
    (soae, {"random_state": 1}),  # the same weights to begin with on both sides, but other noise
    (somrl, {"alpha": 0.2}), (somrl, {"repel": "literal"}), (somrl, {"life_rule": "update"}),
    (somrl, {"life_decay": 0.3}), (somrl, {"neighborhood_decay": 1.0}),
], ids=lambda x: x.__name__ if x in (desom, soae, somrl) else str(x))  # fmt: skip
def test_plain_versions_end_where_ours_do_only_by_the_same_rule(monkeypatch, module, other):
    ours = networks.Case.estimator

    def changed(case, *arguments):
        model = ours(case, *arguments)
        known = {k: v for k, v in other.items() if k in model.get_params()}
        return model.set_params(**known)

    monkeypatch.setattr(networks.Case, "estimator", changed)
    assert module.agreement() > 1e-6


def test_maps_agree_on_nodes_that_were_inserted_and_removed():
    for case in somrl.AGREEMENT:
        model = case.estimator(case.iterations).fit(case.samples)
        assert model.n_nodes_ > 10
        assert (np.diff(model.history_["nodes"]) < 0).any()


def test_training_begins_with_the_first_weights():
    case = replace(toys("desom")["full"], d=64, source="digits")
    first = networks.first_weights(case, case.samples)
    bound = np.sqrt(6 / (64 + 8))
    W = first["encoder.layers.0.weight"]
    assert W.shape == (64, 8)
    assert bound * 0.9 < np.abs(W).max() <= bound  # Glorot's, untouched
    assert not first["encoder.layers.0.bias"].any()


def flops(case, name):
    (trainer,) = (x for x in case.trainers if x.name == name)
    train = trainer.prepare(case, "highest", case.samples)
    with FlopCounterMode(display=False) as counter:
        train(1)
    return counter.get_total_flops()


@pytest.mark.parametrize("name", DEEP)
def test_bare_products_are_those_of_training(name):
    one, three = toys(name)["full"], toys(name)["digits-10-seeds"]
    needed = flops(one, "bare products")
    assert needed == flops(one, "bare products, PyTorch's own")
    if name == "soae":  # the others compute labels, with products of their own
        assert needed == flops(one, "somlib")
        assert flops(three, "bare products, stacked") == flops(three, "somlib, stacked")
    assert flops(three, "bare products, stacked") == flops(three, "bare products, in turn")
    layers = 2 * (12 * 8 + 8 * 6 + 6 * 3)
    # DESOM's: forwards, and both gradients but that of the first input
    if name == "desom":
        assert needed == flops(one, "plain PyTorch") == 2 * 32 * (3 * layers - 12 * 8)
        assert flops(three, "bare products, stacked") == 3 * needed
    elif name == "somrl":
        assert needed == flops(one, "plain PyTorch") == flops(one, "somlib, Autoencoder")
    else:  # its plain version computes gradients of the decoder's weights in both steps
        extra = 2 * 32 * (4 * 6 + 6 * 8 + 8 * 12)
        assert flops(one, "plain PyTorch") - needed == extra


@pytest.mark.parametrize(("name", "code"), [("soae", "linear"), ("somrl", "sigmoid")])
def test_the_twin_has_the_same_networks(name, code):
    case = toys(name)["full"]
    other = networks.twin(case, code)
    ours, twins = (x.estimator(1).fit(case.samples).parameters_ for x in (case, other))
    assert {k: v.shape for k, v in ours.items() if "layers" in k} == {
        k: v.shape for k, v in twins.items()
    }
    codes = other.estimator(1).fit(case.samples).transform(case.samples)
    assert (0 <= codes.min() <= codes.max() <= 1) == (code == "sigmoid")


def test_the_clock_leaves_out_what_happens_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(networks.time, "perf_counter", lambda: now[0])

    def train(n):
        now[0] += 7 + 2 * n

    case = replace(toys("desom")["full"], iterations=10, whole=False)
    assert networks.clock(case, train) == 20
    assert networks.clock(replace(case, whole=True), train) == 27


@pytest.mark.parametrize("name", DEEP)
def test_what_runs_on_a_gpu_runs(name):
    for case in toys(name).values():
        if case.device == "cuda":
            table = measured(replace(case, device="cpu"))
            extrapolated = [x.name for x in case.trainers if x.extrapolated]
            assert list(table.library[table.note != ""]) == extrapolated
            assert table.note[table.note != ""].str.startswith("extrapolated: 3 times").all()
            assert (table.seconds > 0).all()
            assert table["milliseconds per iteration"].equals(100 * table.seconds)


def test_a_step_that_is_not_captured_is_taken_as_it_is(monkeypatch):
    seen = []
    monkeypatch.setattr(desom, "stacked", lambda *a: lambda n: seen.append(
        desom.ensembles.CapturedStep(len, 3)))  # fmt: skip
    desom.launched(toys("desom")["gpu-steps"], "highest", None)(1)
    assert seen == [len]


def test_memory_of_a_stack_is_at_least_its_parameters_and_moments():
    case = toys("desom")["full"]
    model = case.estimator(1).set_params(hidden=(600, 500))
    (row,) = networks.memory(replace(case, model=model, n_seeds=2))
    assert row["parameters and Adam, MB"] == pytest.approx(20.0, abs=0.5)
    assert row["parameters and Adam, MB"] < row["MB above data"] < 200


# ---------------------------------------------------------------- two revisions


def test_a_ratio_is_certain_when_all_turns_agree_and_not_from_a_single_one():
    before, after = [1.0, 2.0, 4.0, 3.0], [1.2, 2.4, 4.8, 3.6]
    assert compare.paired(before, after) == pytest.approx((1.2, 1.2, 1.2))
    ratio = compare.paired(before, [1.3, 2.0, 4.9, 3.1])
    assert ratio.low < 1 < ratio.estimate < ratio.high
    logs = np.log([1.3, 1.0, 4.9 / 4, 3.1 / 3])
    expected = stats.ttest_1samp(logs, 0).confidence_interval(0.95)
    assert ratio[1:] == pytest.approx(np.exp(expected))
    assert compare.paired([1.0], [2.0]) == (2.0, 0.0, np.inf)
    assert compare.paired([1.0, 1.0, 1.0], [2.0, -1.0, 2.0]) == pytest.approx((2, 2, 2))


def test_slower_is_what_takes_time_and_is_certainly_longer():
    longer, perhaps, equal = (compare.Ratio(1.2, low, 1.3) for low in (1.06, 1.04, 0.9))
    assert compare.is_slower(0.2, longer)
    assert compare.is_slower(0.2, equal, longer)
    assert not compare.is_slower(0.04, longer)
    assert not compare.is_slower(0.2, perhaps, equal)


def test_a_parameter_goes_by_the_name_that_a_revision_has():
    assert worker.dcsomrl((8,), 3).get_params()["learning_rate"] == 1e-3
    older = worker.estimator("SOMRL", {"no_such_rate": 0.3}, {"node_rate": 0.2}, max_nodes=9)
    assert (older.node_rate, older.max_nodes) == (0.2, 9)
    with pytest.raises(TypeError, match="no_such_rate"):
        worker.estimator("SOMRL", {"no_such_rate": 0.3})


@pytest.mark.parametrize("name", worker.CASES)
def test_all_cases_of_a_comparison_train(name, monkeypatch):
    case = worker.CASES[name]
    model = case.make()
    small = {"hidden": (8,), "latent_dim": 3, "batch_size": 64, "grid": (3, 3), "n_clusters": 3}
    model.set_params(**{k: v for k, v in small.items() if k in model.get_params()})
    X = harness.samples("digits", 128, 64)[0]
    few = replace(case, make=lambda: model, seeds=min(case.seeds, 2))
    worker.fit(few, X, 2)
    assert 0 < case.few < case.many


FAKE = """
import time
now = 0.0
time.perf_counter = lambda: now
fit_seeds = None
class SOM:
    def __init__(self, **parameters):
        pass
    def set_params(self, n_epochs):
        self.n = n_epochs
        return self
    def fit(self, X):
        global now
        now += 5 + {seconds} * self.n
"""


def test_two_processes_take_turns_and_the_slower_one_is_found(tmp_path):
    trees = {}
    for name, text in {
        "old": FAKE.format(seconds=1),
        "new": FAKE.format(seconds=2),
        "another": FAKE.format(seconds=1) + "__file__ = '/elsewhere/somlib/__init__.py'",
        "broken": "raise ValueError('no luck')",
    }.items():
        trees[name] = tmp_path / name
        (trees[name] / "somlib").mkdir(parents=True)
        (trees[name] / "somlib" / "__init__.py").write_text(text)
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    files = [tmp_path / "x.npy"] * 2
    row = compare.compared("SOM batch, digits", (trees["old"], trees["new"]), files, 2)
    assert row["ratio of iterations"] == "2.000 [2.000, 2.000]"
    assert row["ratio of fits"] == f"{89 / 47:.3f} [{89 / 47:.3f}, {89 / 47:.3f}]"
    assert (row["iteration before, ms"], row["iteration after, ms"]) == ("1e+03", "2e+03")
    assert row["verdict"] == "slower"
    row = compare.compared("SOM batch, digits", (trees["new"], trees["old"]), files, 2)
    assert row["verdict"] == ""
    with pytest.raises(RuntimeError, match=r"^/elsewhere/.* which is not of .*another$"):
        compare.compared("SOM batch, digits", (trees["another"], trees["old"]), files, 1)
    with pytest.raises(RuntimeError, match="no luck"):
        compare.compared("SOM batch, digits", (trees["old"], trees["broken"]), files, 1)


# ---------------------------------------------------------------- rounded products


def test_what_rounding_changes_is_judged_seed_by_seed():
    exact = np.array([0.80, 0.70, 0.90])
    noise = np.array([0.001, -0.002, 0.001])
    found = {
        shift: rounding.verdict("purity", exact, exact + shift + noise) for shift in (0.0, 0.1)
    }
    assert [x["verdict"] for x in found.values()] == ["agrees", "differs"]
    for shift, x in found.items():  # Student's t of two degrees of freedom
        half = 4.303 * noise.std(ddof=1) / 3**0.5
        assert (x["low"], x["difference"], x["high"]) == pytest.approx(
            (shift - half, shift, shift + half), abs=1e-5
        )
    assert rounding.verdict("purity", exact, exact + 30 * noise)["verdict"] == "undecided"


def test_an_error_is_compared_by_its_ratio():
    exact = np.array([20.0, 30.0, 50.0])
    noise = np.array([1.0, 1.001, 0.999])
    assert rounding.verdict(rounding.MSE, exact, exact * noise)["verdict"] == "agrees"
    found = rounding.verdict(rounding.MSE, exact, exact * noise * 1.05)
    assert found["verdict"] == "differs"
    assert found["difference"] == pytest.approx(0.05)


def test_without_spread_the_difference_decides():
    exact = np.array([0.5, 0.5])
    for shift, said in ((0.0, "agrees"), (0.25, "differs")):
        found = rounding.verdict("NMI", exact, exact + shift)
        assert found == {"difference": shift, "low": shift, "high": shift, "verdict": said}


def test_rounding_is_told_from_no_rounding(monkeypatch):
    monkeypatch.setattr(rounding, "products", lambda *a: contextlib.nullcontext())
    assert rounding.rounding(CPU) == ""
    with MatrixUnits(), products("medium", CPU):
        assert rounding.rounding(CPU) == "bfloat16"


def test_a_processor_that_does_not_round_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    monkeypatch.setattr(rounding, "products", lambda *a: contextlib.nullcontext())
    with pytest.raises(SystemExit):
        rounding.main(["--quick", "--device", "cpu"])
    assert "--device: cpu computes in float32 at precision 'medium' too" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("matrix_units")
def test_rounded_and_exact_trainings_are_compared_and_a_failure_is_reported(tmp_path, monkeypatch):
    def fails(model, judged):
        raise ArithmeticError("no")

    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    monkeypatch.setattr(rounding, "EXPERIMENTS", tuple(
        replace(x, measure=fails) if x.name == "VAE" else x for x in rounding.EXPERIMENTS
    ))  # fmt: skip
    rounding.main(["--quick", "--device", "cpu"])
    assert not (tmp_path / "figures").exists()
    folder = tmp_path / "runs" / "benchmarks"
    assert {x.name for x in folder.iterdir()} == {f"rounding.{x}" for x in ("csv", "json", "md")}
    table = pd.read_csv(folder / "rounding.csv")
    assert list(table) == rounding.COLUMNS
    ran = table[table.model != "VAE"]
    assert ran.groupby("model").size().to_dict() == {"DESOM": 3, "SOAE": 3, "DC-SOMRL": 3}
    assert set(ran.verdict) <= {"agrees", "differs", "undecided"}
    assert ran.notna().all(axis=None)
    errors = ran[ran.measure == rounding.MSE]
    assert (errors.highest != errors.medium).all()  # factors were rounded
    np.testing.assert_allclose(errors.highest, errors.medium, rtol=0.1)
    (failed,) = table[table.model == "VAE"].verdict
    assert failed == "does not run: ArithmeticError('no')"
    record = json.loads((folder / "rounding.json").read_text(encoding="utf-8"))
    assert {"processor", "gpu", "versions", "commit", "date"} <= set(record)
    assert record["format"] == "bfloat16"
    purities = [x["purity"] for x in record["experiments"][0]["values"]["medium"]]
    assert np.mean(purities) == pytest.approx(ran.medium.iloc[1])
    page = (folder / "rounding.md").read_text(encoding="utf-8")
    assert "to bfloat16; sums" in page
    assert f"| VAE | digits | – | – ± – | – ± – | – | {failed} |" in page
    assert page.count("| agrees |") == (ran.verdict == "agrees").sum()


def test_only_all_models_on_all_data_replace_the_committed_page(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    monkeypatch.setattr(rounding, "rounding", lambda device: "bfloat16")
    monkeypatch.setattr(rounding, "run", lambda chosen, device, folder: folders.append(
        (len(chosen), folder.parent.name)))  # fmt: skip
    for at_hand in (True, False):
        monkeypatch.setattr(harness, "mnist_is_at_hand", lambda at_hand=at_hand: at_hand)
        rounding.main(["--device", "cpu"])
        rounding.main(["--device", "cpu", "--models", "desom"])
        rounding.main(["--device", "cpu", "--quick"])
    assert folders == [(8, "figures"), (2, "runs"), (4, "runs"),
                       (4, "runs"), (1, "runs"), (4, "runs")]  # fmt: skip
