"""Cached results go to another machine as they are; whatever does not fit is refused by name."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from somlib import SOM, cache, data, report
from somlib.companion import cli, results
from somlib.models.autoencoders import Autoencoder
from somlib.training import ensembles, estimator

X = np.random.default_rng(0).random((40, 6)).astype(np.float32)
SMALL = {"hidden": (5,), "latent_dim": 2, "n_iter": 4, "batch_size": 8, "device": "cpu"}


def fill(seeds=(0, 1), samples=X):
    """Train a few models into the cache, and call a function."""
    cache.fit_seeds(Autoencoder(**SMALL), samples, seeds)
    cache.call(np.cumsum, samples)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Switch between machines, each with a cache of its own."""
    monkeypatch.setenv("SOMLIB_DATA", str(tmp_path))  # only the embedded digits are at hand

    def switch(name):
        monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path / name))
        return tmp_path / name / "runs" / "cache"

    switch("one")
    return switch


def somlib(*arguments):
    return cli.main(["results", *map(str, arguments)])


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


@given(st.binary(max_size=500))
def test_packing_loses_nothing(content):
    assert results.unpack(results.pack(content)) == content


def test_weights_take_less_room():
    weights = np.random.default_rng(0).normal(size=20_000).astype(np.float32).tobytes()
    assert len(results.pack(weights)) < 0.9 * len(weights)


def test_what_was_exported_is_imported_byte_for_byte_and_once(machine, tmp_path, capsys):
    one = machine("one")
    fill()
    assert somlib("export", tmp_path / "out") == 0
    assert re.search(r"^3 results exported, 0\.\d MB; 0 were in .*, 0 left out$",
                     capsys.readouterr().out, re.M)  # fmt: skip
    two = machine("two")
    assert somlib("import", tmp_path / "out") == 0
    assert "3 results imported" in capsys.readouterr().out
    assert contents(two) == contents(one)
    assert somlib("import", tmp_path / "out") == 0
    assert re.search(r"^0 results imported, 0.0 MB; 3 were in", capsys.readouterr().out, re.M)


def test_the_folder_of_a_run_is_named_as_for_the_run_itself(machine, tmp_path, capsys):
    fill()
    machine("elsewhere")
    assert somlib("export", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert f"no results in {tmp_path / 'elsewhere' / 'runs' / 'cache'}; run `somlib" in told
    assert "--output DIR" in told
    assert not (tmp_path / "out").exists()
    assert somlib("export", tmp_path / "out", "--output", tmp_path / "one") == 0
    assert somlib("import", tmp_path / "out", "--output", tmp_path / "two") == 0
    assert contents(machine("two")) == contents(machine("one"))
    assert not (tmp_path / "elsewhere").exists()


def test_results_of_a_device_that_is_not_here_are_not_taken_in_silence(
    machine, tmp_path, monkeypatch, capsys
):
    fill(seeds=[0])
    (path,) = cache.folder().glob("Autoencoder-*.json")
    described = json.loads(path.read_text())
    described["made_from"]["params"]["device"] = described["made_on"]["device"] = "cuda:7"
    new = path.with_name(f"Autoencoder-{cache.key_of(described['made_from'])}.json")
    path.with_suffix(".npz").rename(new.with_suffix(".npz"))
    path.unlink()
    new.write_text(json.dumps(described))
    results.export(tmp_path / "out")
    machine("two")
    sentence = "without --other-machines, results computed on cuda:7 are not used here\n"
    for _ in range(2):  # also when they are there already
        assert somlib("import", tmp_path / "out") == 0
        assert sentence in capsys.readouterr().out
    assert somlib("import", tmp_path / "out", "--other-machines", "--device", "cpu") == 0
    assert "on cuda:7" not in capsys.readouterr().out


def test_an_export_that_does_not_exist_is_refused(tmp_path, machine, capsys):
    assert somlib("import", tmp_path / "none") == 2
    told = capsys.readouterr().err
    assert told == (f"somlib: FOLDER {tmp_path / 'none'}: it does not exist; expected what `somlib "
                    "results export` has written\n")  # fmt: skip


def test_an_imported_result_is_not_computed_again(machine, tmp_path, monkeypatch):
    fill()
    results.export(tmp_path / "out")
    machine("two")
    results.import_from([tmp_path / "out"])
    monkeypatch.setattr("somlib.training.estimator.train", None)
    models = cache.fit_seeds(Autoencoder(**SMALL), X, [1, 0])
    assert [model.random_state for model in models] == [1, 0]


def test_an_export_grows_and_two_are_joined(machine, tmp_path):
    fill(seeds=[0])
    results.export(tmp_path / "out")
    before = contents(tmp_path / "out")
    fill(seeds=[0, 1])
    made = results.export(tmp_path / "out")
    assert (len(made.taken), len(made.there)) == (1, 2)
    after = contents(tmp_path / "out")
    assert {
        name: after[name] for name in before if name != "results.json"
    }.items() <= before.items()
    machine("two")
    fill(seeds=[2])
    results.export(tmp_path / "more")
    cache_of_three = machine("three")
    made = results.import_from([tmp_path / "out", tmp_path / "more"])
    assert (len(made.taken), made.refused) == (4, [])
    assert len(list(cache_of_three.glob("*.npz"))) == 4


def test_a_limit_takes_what_took_longest_per_byte(machine, tmp_path):
    here = machine("one")
    fill(seeds=range(3))
    slow = sorted(here.glob("Autoencoder-*.json"))[1]
    slow.write_text(json.dumps(json.loads(slow.read_text()) | {"seconds": 1e6}, indent=1))
    size = len(results.pack(slow.with_suffix(".npz").read_bytes())) / 1e6
    made = results.export(tmp_path / "out", limit=1.01 * size)
    assert made.taken[0] == slow.stem
    assert made.megabytes <= 1.01 * size
    assert len(contents(tmp_path / "out")) == 2 * len(made.taken) + 1


# --- what is refused --------------------------------------------------------------------------


@pytest.fixture
def exported(machine, tmp_path):
    """An export of one machine, looked at from another."""
    fill()
    results.export(tmp_path / "out")
    machine("two")
    return tmp_path / "out"


def refused(*folders):
    made = results.import_from(folders)
    return made.refused


def named(folder, kind="Autoencoder"):
    return sorted(path.stem for path in folder.glob(f"{kind}-*.json"))


def test_results_of_other_code_are_refused_by_the_module(exported, monkeypatch, capsys):
    monkeypatch.setitem(cache.SOURCE, "models.autoencoders", b"# edited")
    assert somlib("import", exported) == 1
    told = capsys.readouterr().out
    for name in named(exported):
        assert f"refused: {exported / name}: it was made by other code: models.autoencoders" in told
    assert "1 results imported" in told  # that of NumPy's function


def test_results_of_another_format_are_refused(exported, monkeypatch):
    monkeypatch.setitem(cache.SOURCE, "companion.cache", b"# edited")
    (sentence,) = refused(exported)
    assert sentence.startswith(str(exported / named(exported, "cumsum")[0]))
    assert "companion.cache or training.saving differ" in sentence


def test_results_of_other_versions_are_refused(exported, monkeypatch):
    ours = results.report.versions()
    monkeypatch.setattr(results.report, "versions", lambda: ours | {"torch": "9.9"})
    assert len(refused(exported)) == 3
    assert all(f"torch {ours['torch']}, here 9.9" in s for s in refused(exported))


def test_results_from_another_data_file_are_refused(machine, tmp_path, monkeypatch):
    digits = data.load("digits")
    fill(samples=digits.X)
    fill(samples=digits.X[:100])
    results.export(tmp_path / "out")
    listed = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
    assert (
        sorted(list(known["data"]) for known in listed.values()) == [[]] * 3 + [["digits all"]] * 3
    )
    machine("two")
    X, y, origin = data.SOURCES["digits"].read("all")
    other = type(data.SOURCES["digits"])(
        lambda split: (X + 1, y, origin), (8, 8), tuple("0123456789")
    )
    monkeypatch.setitem(data.SOURCES, "digits", other)
    sentences = refused(tmp_path / "out")
    assert len(sentences) == 3
    assert all("it was computed from another digits all than the one here" in s for s in sentences)


def damaged(path, content):
    assert content != path.read_bytes()
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".json", ".npz.z"])
@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: b"", lambda c: c[:50] + b"??" + c[52:]]
)
def test_a_truncated_or_damaged_result_is_refused_and_the_others_are_taken(
    exported, suffix, change
):
    name = named(exported)[0]
    path = exported / (name + suffix)
    damaged(path, change(path.read_bytes()))
    made = results.import_from([exported])
    (sentence,) = made.refused
    assert sentence.startswith(f"{exported / name}: it is ")
    assert "damaged" in sentence
    assert len(made.taken) == 2


@pytest.mark.parametrize("suffix", [".json", ".npz.z"])
def test_a_missing_file_is_named(exported, suffix):
    path = exported / (named(exported)[0] + suffix)
    path.unlink()
    assert refused(exported) == [
        f"{exported / named(exported)[0] if suffix == '.npz.z' else exported / path.stem}: "
        f"{path} is missing: the export is truncated"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing: the export was not finished, or this is none"),
        (b"", "cannot be read"),
        (b'{"format": 1, "resu', "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"format": 1}', "cannot be read"),
        (b'{"format": 2, "results": {}}', "has format 2, this version reads 1"),
        (b'{"format": 1, "results": {"a": {"sha256": "1"}}}', "its entry 'a' has other fields"),
        (b'{"format": 1, "results": {"a": []}}', "cannot be read"),
    ],
)
def test_an_export_without_its_list_is_refused_as_a_whole(exported, content, message, capsys):
    path = exported / "results.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert somlib("import", exported) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"somlib: FOLDER {exported}: {path} ")
    assert message in told
    assert not list(cache.folder().glob("*.npz"))


def other_result(folder, name):
    """Let an export hold other bytes under the same name, all hashes as they must be."""
    packed = results.pack(results.unpack((folder / f"{name}.npz.z").read_bytes()) + b"?")
    content = results.unpack(packed)
    described = json.loads((folder / f"{name}.json").read_text())
    described["sha256"] = cache.sha256(content)
    text = json.dumps(described, indent=1).encode()
    (folder / f"{name}.json").write_bytes(text)
    (folder / f"{name}.npz.z").write_bytes(packed)
    listed = json.loads((folder / "results.json").read_text())
    listed["results"][name] |= {
        "sha256": described["sha256"], "described": cache.sha256(text), "bytes": len(packed)
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(listed))


def test_of_two_exports_that_disagree_neither_is_taken(machine, exported, tmp_path):
    machine("three")
    results.import_from([exported])
    results.export(tmp_path / "other")
    machine("four")
    name = named(exported)[1]
    other_result(tmp_path / "other", name)
    made = results.import_from([exported, tmp_path / "other"])
    assert made.refused == [
        f"{name}: {exported} and {tmp_path / 'other'} disagree about {name}: the same code, data "
        "and seed gave different bytes"
    ]
    assert len(made.taken) == 2
    assert not (cache.folder() / f"{name}.npz").exists()


def test_a_result_that_differs_from_ours_is_refused_and_ours_is_kept(exported, machine, capsys):
    fill()
    before = contents(cache.folder())
    name = named(exported)[0]
    other_result(exported, name)
    assert somlib("import", exported) == 1
    told = capsys.readouterr().out
    assert f"refused: {exported / name}: it and the cache disagree about {name}" in told
    assert contents(cache.folder()) == before
    assert somlib("export", exported) == 2
    assert f"{exported} and the cache disagree about {name}" in capsys.readouterr().err


def test_a_damaged_result_of_ours_is_replaced(exported):
    fill()
    path = cache.folder() / f"{named(exported)[0]}.npz"
    path.write_bytes(b"")
    assert results.import_from([exported]).taken == [path.stem]
    assert path.stat().st_size > 0


def test_a_result_under_another_name_is_refused(exported):
    name = named(exported)[0]
    text = (exported / "results.json").read_text()
    for there in exported.glob(f"{name}*"):
        there.rename(there.with_name(there.name.replace(name, "Autoencoder-0123")))
    (exported / "results.json").write_text(text.replace(name, "Autoencoder-0123"))
    (sentence,) = refused(exported)
    assert sentence.endswith("its name is not that of what it was made from")


def test_a_name_that_leads_out_of_the_folder_is_refused(exported):
    text = (exported / "results.json").read_text()
    name = named(exported)[0]
    (exported / "results.json").write_text(text.replace(name, f"../out/{name}"))
    (sentence,) = refused(exported)
    assert sentence.endswith("its name leads out of the folder")


def test_results_of_other_code_or_damaged_ones_are_left_out_of_an_export(machine, tmp_path, capsys):
    fill()
    path = sorted(cache.folder().glob("Autoencoder-*.npz"))[0]
    path.write_bytes(b"?")
    old = sorted(cache.folder().glob("Autoencoder-*.json"))[1]
    described = json.loads(old.read_text())
    described["made_from"]["class"]["source"]["models.autoencoders"] = "0" * 16
    new = old.with_name(f"Autoencoder-{cache.key_of(described['made_from'])}.json")
    old.with_suffix(".npz").rename(new.with_suffix(".npz"))
    old.unlink()
    new.write_text(json.dumps(described))
    assert somlib("export", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert f"left out: {path.stem}: it is damaged" in told
    assert f"left out: {new.stem}: it was made by other code: models.autoencoders" in told
    assert "1 results exported" in told


@pytest.mark.parametrize("limit", ["0", "-1", "nan"])
def test_a_limit_of_nothing_is_refused(machine, tmp_path, limit, capsys):
    assert somlib("export", tmp_path / "out", "--limit", limit) == 2
    assert "expected a number of megabytes above 0" in capsys.readouterr().err


# --- from another machine -----------------------------------------------------------------------

H100 = "Linux x86_64, 26 processor cores, NVIDIA H100 80GB HBM3"


def error_of(model, samples):
    return float(np.mean((model.inverse_transform(model.transform(samples)) - samples) ** 2))


def train(device):
    """Train a map, and networks that start from others; measure one of these."""
    how = SMALL | {"device": device}
    plain = cache.fit_seeds(Autoencoder(**how), X, [0, 1])
    started = cache.fit_seeds(Autoencoder(**how | {"n_iter": 6}), X, [0, 1], start=plain)
    som = cache.fit(SOM((2, 2), n_epochs=2, random_state=0, device=device), X)
    return [*started, som], cache.call(error_of, started[0], X)


def where(device, settings):
    return device


def begin(monkeypatch, device="cpu"):
    """Begin a run, as a notebook does."""
    run = report.start("01_toy", profile="quick", device="cpu", seeds=2)
    run = replace(run, device=device, made_by=report.provenance(device))
    monkeypatch.setattr(sys.modules["__main__"], "run", run, raising=False)
    return run


@pytest.fixture
def gpu(machine, monkeypatch):
    """Go to a machine with a GPU, which in truth is this processor; `leave` it."""
    ours = report.versions()
    machine("gpu")
    with monkeypatch.context() as there:
        there.setattr(report, "versions", lambda: ours | {"torch": "2.11.0+cu130"})
        there.setattr(report, "platform_of", lambda device: H100)
        for module in (ensembles, estimator, sys.modules[SOM.__module__]):
            there.setattr(module, "resolve_device", lambda device: torch.device("cpu"))
        begin(there, "cuda")

        def leave():
            there.undo()
            machine("here")

        yield leave


@pytest.fixture
def from_gpu(gpu, tmp_path):
    """Results of a machine with a GPU, looked at from here."""
    train("cuda")
    assert len(results.export(tmp_path / "gpu").taken) == 6
    gpu()
    return tmp_path / "gpu"


def nothing_is_trained(monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError("something is trained")

    monkeypatch.setattr(estimator, "train", fail)
    monkeypatch.setattr(SOM, "fit", fail)


def test_results_from_a_gpu_are_taken_only_when_other_machines_are_allowed(from_gpu, capsys):
    assert somlib("import", from_gpu) == 1
    told = capsys.readouterr().out
    assert told.count("it was made by other versions: torch 2.11.0+cu130, here ") == 6
    assert "with --other-machines, results of other versions are taken too" in told
    assert somlib("import", from_gpu, "--other-machines", "--device", "cpu") == 0
    assert "6 results imported" in capsys.readouterr().out
    assert somlib("import", from_gpu, "--other-machines", "--device", "cpu") == 0
    assert "0 results imported, 0.0 MB; 6 were in" in capsys.readouterr().out


def test_what_a_gpu_has_trained_is_found_here_and_computes_here(from_gpu, monkeypatch):
    assert len(results.import_from([from_gpu], "cpu").taken) == 6
    nothing_is_trained(monkeypatch)
    models, error = train("cpu")
    assert [model.device for model in models] == ["cpu"] * 3
    assert error_of(models[0], X) == pytest.approx(error)
    assert models[-1].predict(X).shape == (40,)


def test_a_model_from_a_gpu_gets_the_device_that_is_asked_for(from_gpu):
    for described in from_gpu.glob("SOM-*.json"):
        assert json.loads(described.read_text())["made_from"]["params"]["device"] == "cuda"
    results.import_from([from_gpu], "cpu")
    (path,) = cache.folder().glob("SOM-*.npz")
    assert SOM.load(path).device == "cuda"  # the file is as it was
    assert cache.fit(SOM((2, 2), n_epochs=2, random_state=0, device="cpu"), X).device == "cpu"


def test_where_a_result_was_made_is_kept_and_carried_on(from_gpu, machine, tmp_path):
    results.import_from([from_gpu], "cpu")
    before = contents(cache.folder())
    for described in cache.folder().glob("*.json"):
        facts = json.loads(described.read_text())
        made_on = facts["made_on"]
        assert (made_on["device"], made_on["platform"]) == ("cuda", H100)
        assert made_on["versions"]["torch"] == "2.11.0+cu130"
        assert facts["made_from"]["versions"] == report.versions()
    results.export(tmp_path / "again")
    third = machine("third")
    assert results.import_from([tmp_path / "again"]).refused == []
    assert contents(third) == before


def test_figures_name_the_machine_of_the_results_that_they_show(from_gpu, monkeypatch):
    results.import_from([from_gpu], "cpu")
    run = begin(monkeypatch)
    cache.call(np.cumsum, X)
    before, after = run.figures / "before.json", run.figures / "after.json"
    for record in (before, after):
        run.save_figure(Figure(figsize=(2, 2)), record.stem, caption="A.", alt="A.")
        train("cpu")
    assert "results of" not in json.loads(before.read_text())
    origin = "NVIDIA H100 80GB HBM3, torch 2.11.0+cu130"
    assert json.loads(after.read_text())["results of"] == [origin]
    page = report.index(run.figures).read_text(encoding="utf-8")
    assert page.count(f"with results of: {origin}</sub>") == 1


def test_results_of_this_machine_are_not_named(machine, monkeypatch):
    run = begin(monkeypatch)
    train("cpu")
    train("cpu")
    path = run.save_figure(Figure(figsize=(2, 2)), "own", caption="A.", alt="A.")
    assert "results of" not in json.loads(path.with_suffix(".json").read_text())


def test_other_code_is_refused_also_from_other_machines(from_gpu, monkeypatch, capsys):
    monkeypatch.setitem(cache.SOURCE, "models.som", b"# edited")
    assert somlib("import", from_gpu, "--other-machines") == 1
    told = capsys.readouterr().out
    (som,) = named(from_gpu, "SOM")
    assert f"refused: {from_gpu / som}: it was made by other code: models.som" in told
    monkeypatch.setitem(cache.SOURCE, "companion.cache", b"# edited")
    (of_call,) = (s for s in results.import_from([from_gpu], "cpu").refused if "error_of" in s)
    assert "it was made by other code" in of_call


def test_a_result_of_ours_is_kept_instead_of_one_from_another_machine(from_gpu):
    train("cpu")
    before = contents(cache.folder())
    made = results.import_from([from_gpu], "cpu")
    assert (made.taken, len(made.there), made.refused) == ([], 6, [])
    assert contents(cache.folder()) == before


def test_older_results_are_known_by_what_their_key_names(gpu, tmp_path, monkeypatch):
    train("cuda")
    for described in cache.folder().glob("*.json"):
        facts = json.loads(described.read_text())
        del facts["made_on"]
        described.write_text(json.dumps(facts))
    results.export(tmp_path / "old")
    gpu()
    results.import_from([tmp_path / "old"], "cpu")
    run = begin(monkeypatch)
    nothing_is_trained(monkeypatch)
    train("cpu")
    path = run.save_figure(Figure(figsize=(2, 2)), "old", caption="A.", alt="A.")
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["results of"] == ["cuda, torch 2.11.0+cu130"]


def test_an_older_result_of_this_cache_is_read_without_an_origin(machine, monkeypatch):
    cache.call(np.cumsum, X)
    (described,) = cache.folder().glob("*.json")
    facts = json.loads(described.read_text())
    del facts["made_on"]
    described.write_text(json.dumps(facts))
    run = begin(monkeypatch)
    cache.call(np.cumsum, X)  # no warning
    path = run.save_figure(Figure(figsize=(2, 2)), "own", caption="A.", alt="A.")
    assert "results of" not in json.loads(path.with_suffix(".json").read_text())


def test_only_the_device_of_the_run_is_replaced(gpu, tmp_path):
    for device in ("cuda", "cpu", "auto", "a name"):
        cache.call(where, device, {"inner__device": device, "name": "cuda"})
    results.export(tmp_path / "out")
    gpu()
    results.import_from([tmp_path / "out"], "mps")
    given = [
        json.loads(path.read_text())["made_from"]["arguments"]
        for path in cache.folder().glob("where-*.json")
    ]
    assert sorted(arguments["device"] for arguments in given) == ["a name", "auto", "cpu", "mps"]
    for arguments in given:
        assert arguments["settings"] == {"inner__device": arguments["device"], "name": "cuda"}


def test_a_gpu_limited_to_repeatable_operations_is_no_other_result_on_a_processor(gpu, tmp_path):
    torch.use_deterministic_algorithms(True)
    try:
        cache.call(where, "cuda", {})
    finally:
        torch.use_deterministic_algorithms(False)
    results.export(tmp_path / "out")
    gpu()
    results.import_from([tmp_path / "out"], "cpu")
    assert cache.call(where, "cpu", {}) == "cuda"  # what was returned there


def test_a_device_is_refused_where_nothing_is_taken_for_it(from_gpu, capsys):
    assert somlib("import", from_gpu, "--device", "cpu") == 2
    assert "--device cpu: expected together with --other-machines" in capsys.readouterr().err


# --- two clones -------------------------------------------------------------------------------

NOTEBOOK = """\
from matplotlib.figure import Figure
import pandas as pd
from somlib import DESOM, Autoencoder, cache, data, metrics, report
run = report.start("01_toy", profile=profile, device=device, seeds=n_seeds)
ds = data.load("digits")
net = {"hidden": (16,), "latent_dim": 3, "batch_size": 128, "device": run.device}
plain = cache.fit_seeds(Autoencoder(n_iter=20, **net), ds.X, run.seeds)
maps = cache.fit_seeds(DESOM((3, 3), n_iter=20, **net), ds.X, run.seeds, start=plain)
purity = [metrics.purity(ds.y, map.predict(ds.X)) for map in maps]
table = pd.DataFrame({"seed": run.seeds, "purity": purity})
run.save_table(table, "toy-purity", caption="Purity.")
fig = Figure(figsize=(3, 2))
fig.subplots().plot(maps[0].history_["loss"])
run.save_figure(fig, "toy-loss", caption="Loss.", alt="A curve.")
"""

TRAINS_NOTHING = """\
from somlib.training import estimator
def fail(*arguments, **options):
    raise AssertionError("something is trained")
estimator.train = fail
"""


def clone_of_the_project(folder, *cells):
    from test_cli import write_notebook

    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    write_notebook(folder / "notebooks" / "01_toy.ipynb", *cells)
    return folder


def run_in(project, *arguments):
    """Run the command line in a clone, as a user would."""
    environment = {k: v for k, v in os.environ.items() if k not in ("SOMLIB_OUTPUT", "SOMLIB_DATA")}
    environment["PYTHONPATH"] = str(Path(cli.__file__).parents[2])
    command = [sys.executable, "-m", "somlib.companion.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_second_clone_trains_nothing_and_makes_the_same_bytes(tmp_path):
    first = clone_of_the_project(tmp_path / "first", NOTEBOOK)
    second = clone_of_the_project(tmp_path / "second", TRAINS_NOTHING, NOTEBOOK)
    run_in(first, "reproduce", "--device", "cpu")
    assert "4 results exported" in run_in(first, "results", "export", tmp_path / "carried")
    assert "4 results imported" in run_in(second, "results", "import", tmp_path / "carried")
    run_in(second, "reproduce", "--device", "cpu")
    made = [contents(project / "figures" / "quick") for project in (first, second)]
    assert made[0].keys() == made[1].keys() >= {"toy-loss.png", "toy-loss.svg", "toy-purity.csv"}
    for name, content in made[0].items():
        if Path(name).suffix not in (".json", ".md") or name == "toy-purity.md":
            assert made[1][name] == content, name
    caches = [contents(project / "runs" / "cache") for project in (first, second)]
    assert caches[0] == caches[1]
