"""The small models of the package give the numbers of their records, and can be made again."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from helpers import make_project
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.base import clone

import somlib
from somlib import SOAE, SOM, data, load_pretrained, report
from somlib.companion import cli, pretraining
from somlib.models import pretrained
from somlib.training.saving import read_arrays, write_arrays

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in report.notebooks()[0]}
RECORDS = {name: pretrained.record(name) for name in pretrained.names()}
each_model = pytest.mark.parametrize("name", RECORDS)

SHARES = ("accuracy", "purity", "NMI", "topographic")
"""Measures that count images: in those, one image that changes sides is seen."""


@pytest.fixture(scope="module")
def sample():
    return data.load("mnist-sample")


# ------------------------------------------------------------------ the models of the package


def test_they_are_those_that_are_promised_and_take_little():
    assert {name: record["class"] for name, record in RECORDS.items()} == {
        "ae-mnist": "Autoencoder",
        "dcsomrl-mnist": "DCSOMRL",
        "desom-mnist": "DESOM",
        "soae-torus-mnist": "SOAE",
        "som-mnist": "SOM",
        "vae-mnist": "VAE",
        "vae-mnist-high-beta": "VAE",
        "vae-mnist-low-beta": "VAE",
    }
    files = list(pretrained.FOLDER.iterdir())
    assert {path.stem for path in files} == set(RECORDS)
    assert sum(path.stat().st_size for path in files) <= pretrained.LIMIT


@each_model
def test_a_record_says_what_was_trained_where_and_how_well(name):
    record = RECORDS[name]
    assert record["name"] == name
    assert record["notebook"] in NOTEBOOKS
    assert record["model"].startswith(record["class"] + "(")
    assert record["trained on"] == "the 60000 training images of MNIST"
    assert set(record["metrics"]) == {"test images", "sample", "sample, before rounding"}
    assert {"commit", "platform", "versions", "date", "seed", "device", "seconds"} <= set(record)
    path = pretrained.FOLDER / f"{name}.npz"
    assert record["bytes"] == path.stat().st_size
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def measures(tmp_path_factory):
    """Return what each model is measured by: the function in its notebook."""
    found = {}

    def note(run, name, train, measure):
        found[name] = measure
        return load_pretrained(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report.Run, "pretrained", note)
        for notebook in sorted({record["notebook"] for record in RECORDS.values()}):
            part = pretraining.part(json.loads(NOTEBOOKS[notebook].read_text(encoding="utf-8")))
            scope = {}
            for cell in part["cells"]:
                exec("".join(cell["source"]), scope)
    plt.close("all")
    return found


@each_model
def test_it_gives_the_numbers_of_its_record(name, sample, measures):
    """Other processors add in another order: sums agree to 1e-4, and few images change sides."""
    found, recorded = measures[name](load_pretrained(name), sample), RECORDS[name]["metrics"]
    assert found.keys() == recorded["sample"].keys() == recorded["test images"].keys()
    for what, value in found.items():
        share = any(word in what for word in SHARES)
        how = {"abs": 0.004} if share else {"rel": 1e-4}
        assert value == pytest.approx(recorded["sample"][what], **how), what


@each_model
def test_rounding_to_eight_bits_changes_its_measures_little(name):
    metrics = RECORDS[name]["metrics"]
    for what, before in metrics["sample, before rounding"].items():
        share = any(word in what for word in SHARES)
        how = {"abs": 0.015} if share else {"rel": 0.01}
        assert metrics["sample"][what] == pytest.approx(before, **how), what


@each_model
def test_the_sample_is_like_all_test_images(name):
    """1000 images are a small sample: their measures may differ, but not by a fifth."""
    metrics = RECORDS[name]["metrics"]
    for what, value in metrics["test images"].items():
        assert metrics["sample"][what] == pytest.approx(value, rel=0.2), what


def test_a_larger_beta_gives_less_divergence_and_more_error():
    names = ("vae-mnist-low-beta", "vae-mnist", "vae-mnist-high-beta")
    rows = [RECORDS[name]["metrics"]["test images"] for name in names]
    low, one, high = rows
    assert low["divergence"] > one["divergence"] > high["divergence"] > 0
    assert low["MSE per pixel"] < one["MSE per pixel"] < high["MSE per pixel"]
    assert one["ELBO"] > max(low["ELBO"], high["ELBO"])  # the others maximize something else


@each_model
def test_it_is_an_ordinary_estimator_on_the_cpu(name, sample, tmp_path):
    model = load_pretrained(name)
    assert type(model) is getattr(somlib, RECORDS[name]["class"])
    assert model.device == "cpu"
    assert model.n_features_in_ == 784
    assert not hasattr(model, "labels_")
    codes = model.transform(sample.X)
    assert np.isfinite(codes).all()
    model.save(tmp_path / "again.npz")
    again = somlib.load(tmp_path / "again.npz")
    np.testing.assert_array_equal(again.transform(sample.X), codes)
    assert not hasattr(clone(model), "n_features_in_")


# ------------------------------------------------------------------ rounding

matrices = hnp.arrays(np.float32, st.tuples(st.just(2), st.integers(2048, 2050)),
                      elements=st.floats(-1e3, 1e3, width=32))  # fmt: skip


@given(matrices)
def test_a_weight_changes_by_at_most_half_a_step_of_its_row(W):
    both = pretrained.rounded({"W": W, "b": W[0, :4]})
    assert both["W"].dtype == np.int8
    assert both["b"].dtype == np.float32
    step = np.abs(W).max(1, keepdims=True) / 127
    error = np.abs(pretrained.expanded(both)["W"] - W)
    assert (error <= step / 2 * (1 + 1e-4) + 1e-30).all()
    assert not error[W == 0].any()


def test_small_matrices_whole_numbers_and_double_precision_stay_as_they_are():
    arrays = {
        "small": np.ones((63, 65), np.float32),
        "units": np.ones((64, 64), np.int64),
        "double": np.ones((64, 64)),
        "large": np.ones((64, 64), np.float32),
    }
    assert set(pretrained.rounded(arrays)) == {*arrays, "large.scale"}


# ------------------------------------------------------------------ files that are refused


@pytest.fixture
def folder(tmp_path):
    """A folder with one model, as `write` leaves it."""
    X = np.random.default_rng(0).random((60, 64), dtype=np.float32)
    som = SOM((8, 8), n_epochs=1, random_state=0).fit(X)
    facts = {"name": "toy", "metrics": {"sample": {}}}
    pretrained.write("toy", som, facts, tmp_path)
    np.testing.assert_allclose(pretrained.read("toy", tmp_path).weights_, som.weights_, atol=0.01)
    return tmp_path


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown model 'soae'; choose one of ae-mnist, .+"):
        load_pretrained("soae")
    with pytest.raises(ValueError, match=r"unknown model '\.\./weights/ae-mnist'"):
        load_pretrained("../weights/ae-mnist")


def test_a_damaged_or_missing_file_is_refused_by_name(folder):
    path = folder / "toy.npz"
    whole = path.read_bytes()
    for damaged in (whole[:-7], whole[:900] + bytes([whole[900] ^ 1]) + whole[901:], b""):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"toy\.npz is damaged: its SHA-256 .+ somlib again"):
            pretrained.read("toy", folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"toy\.npz cannot be read"):
        pretrained.read("toy", folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"sha256": ""}', '{"metrics": 3, "sha256": ""}'])
def test_a_damaged_record_is_refused_by_name(folder, text):
    (folder / "toy.json").write_text(text)
    with pytest.raises(ValueError, match=r"toy\.json is no record of a model"):
        pretrained.read("toy", folder)


def forge(folder, change):
    """Change arrays and facts of a model, and make its record fit."""
    path = folder / "toy.npz"
    arrays, facts = read_arrays(path)
    change(arrays, facts)
    write_arrays(path, arrays, facts)
    record = json.loads((folder / "toy.json").read_text())
    record["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "toy.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda a, _: a.update({f"{n}.scale": a[n][:1] for n in a if "." in n}),
            "no rounded matrix",
        ),
        (lambda a, _: a.update({n: a[n][:9] for n in a if ".scale" in n}), r"expected \(64, 1\)"),
        (lambda a, _: a.update({n: a[n].T for n in a if ".scale" in n}), r"expected \(64, 1\)"),
        (lambda a, _: [a.pop(n) for n in [*a] if ".scale" in n], "expected an array of kind f"),
        (lambda _, facts: facts.update({"class": "os.system"}), "does not know"),
        (lambda _, facts: facts.pop("content"), "holds no model"),
    ],
)
def test_a_file_is_read_by_the_same_door_as_saved_models(folder, change, reason):
    forge(folder, change)
    with pytest.raises(ValueError, match=rf"toy\.npz .*{reason}"):
        pretrained.read("toy", folder)


def test_models_over_the_limit_are_refused_by_name_and_nothing_changes(folder, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    size = sum(map(len, before.values()))
    som = pretrained.read("toy", folder)
    monkeypatch.setattr(pretrained, "LIMIT", 2 * size - 1)
    for _ in range(2):  # a model that is replaced does not count
        pretrained.write("toy", som, {"name": "toy", "metrics": {"sample": {}}}, folder)
    with pytest.raises(ValueError, match=rf"^twin takes \d+ bytes, .* {2 * size - 1}.* toy\.npz$"):
        pretrained.write("twin", som, {"name": "twin", "metrics": {"sample": {}}}, folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        pretrained.write("toy", som, {"metrics": {"sample": {"MSE": np.nan}}}, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ------------------------------------------------------------------ `somlib pretrain`

SET_UP = """\
import numpy as np
from somlib import SOM, data, metrics, report
from somlib.data.dataset import Source
def images(split):
    X = np.random.default_rng(0).random((90, 784), dtype=np.float32)
    return X, np.arange(90) % 3, "a random generator"
data.SOURCES["mnist"] = Source(images, (28, 28), tuple("012"))
run = report.start("01_toy", profile=profile, device=device, seeds=n_seeds)"""
NOT_RUN = "raise RuntimeError('this cell is not part of it')"
TRAIN = """\
def train(images):
    assert not run.quick and len(images) == 90
    return SOM((3, 3), n_epochs=1, random_state=0).fit(images.X)
def measure(model, images):
    return {"QE": metrics.quantization_error(images.X, model.weights_)}
model = run.pretrained("toy-a", train, measure)"""
FAIL = """\
def fail(images): raise ZeroDivisionError("in the training")
run.pretrained("toy-b", fail, measure)"""


@pytest.fixture
def lesson(tmp_path):
    """A project of two notebooks, one of which trains two models; the second training fails."""
    project = make_project(tmp_path, _01_toy=(SET_UP, NOT_RUN, TRAIN, FAIL), _02_plain=("1",))
    path = project / "notebooks" / "01_toy.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"][-2:]:
        cell["metadata"]["tags"] = ["pretrained", "hide-input"]
    heading = notebook["cells"][0] | {"id": "heading", "source": "## A section\n\nText."}
    notebook["cells"].insert(3, heading)
    path.write_text(json.dumps(notebook))
    return project


def pretrain(project, *options):
    environment = {k: v for k, v in os.environ.items() if k not in ("SOMLIB_OUTPUT", "SOMLIB_DATA")}
    command = [sys.executable, "-m", "somlib.companion.cli", "pretrain", *options]
    return subprocess.run(
        command,
        cwd=project,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_pretrain_runs_the_set_up_and_the_tagged_cells_and_keeps_what_succeeded(lesson):
    done = pretrain(lesson, "--output", "weights", "--device", "cpu")
    assert (done.returncode, done.stderr) == (1, "")
    assert "ZeroDivisionError: in the training" in done.stdout
    assert "not part of it" not in done.stdout
    weights = lesson / "weights"
    assert sorted(path.name for path in weights.iterdir()) == ["toy-a.json", "toy-a.npz"]
    record = pretrained.record("toy-a", weights)
    assert record["notebook"] == "01_toy"
    assert record["trained on"] == "the 90 training images of MNIST"
    assert record["metrics"].keys() == {"test images", "sample", "sample, before rounding"}
    assert f"| toy-a | {record['bytes'] / 1000:.0f} |" in done.stdout
    som = pretrained.read("toy-a", weights)
    assert som.weights_.shape == (9, 784)
    assert not (lesson / "figures").exists()
    executed = json.loads((lesson / "runs" / "pretrain" / "01_toy.failed.ipynb").read_text())
    assert NOT_RUN not in ["".join(cell["source"]) for cell in executed["cells"]]


def test_pretrain_refuses_before_it_trains(lesson, monkeypatch, capsys):
    monkeypatch.chdir(lesson)
    assert cli.main(["pretrain", "--only", "02"]) == 2
    assert "02_plain.ipynb has no cell tagged 'pretrained'" in capsys.readouterr().err
    (lesson / "notebooks" / "01_toy.ipynb").unlink()
    assert cli.main(["pretrain"]) == 2
    assert "no notebook has a cell tagged" in capsys.readouterr().err
    (lesson / "a file").touch()
    assert cli.main(["pretrain", "--output", "a file"]) == 2
    assert "a file: " in capsys.readouterr().err


def test_elsewhere_a_run_loads_the_model_and_shows_both_records(monkeypatch, sample):
    shown = []
    monkeypatch.setattr(pretraining.display, "show", shown.append)
    run = report.start("02_soae", profile="full", device="cpu", seeds=1)

    def train(images):
        raise AssertionError("nothing is trained")

    def measure(model, images):
        assert len(images) == 1000
        return {"MSE per pixel": 0.25, "10-NN accuracy of codes": 0.5}

    model = run.pretrained("soae-torus-mnist", train, measure)
    assert isinstance(model, SOAE)
    recorded = RECORDS["soae-torus-mnist"]["metrics"]["test images"]["MSE per pixel"]
    (text,) = shown
    assert f"| MSE per pixel | {recorded:.5g} |" in text
    assert text.splitlines()[2].endswith("| 0.25 |")
    assert "**soae-torus-mnist.** `SOAE(" in text
    with pytest.raises(ValueError, match="lower-case-kebab-case"):
        run.pretrained("SOAE", train, measure)


# ------------------------------------------------------------------ in the wheel


def test_the_package_contains_weights_records_and_sample():
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = settings["package-data"]["somlib"]
    packed = {path for pattern in patterns for path in (ROOT / "somlib").glob(pattern)}
    assert set(pretrained.FOLDER.iterdir()) <= packed
    assert set((ROOT / "somlib" / "data" / "mnist-sample").iterdir()) <= packed
