"""Several processes train what one process trains, and end together."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

import somlib
from somlib import (
    DESOM,
    RBM,
    SOAE,
    SOM,
    SOMRL,
    VAE,
    Autoencoder,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    Grid,
    SparseAutoencoder,
)
from somlib.companion import cli
from somlib.models.baselines import DEC
from somlib.training import loop
from somlib.training import processes as distributed
from somlib.training.saving import read_arrays

PACKAGE = Path(somlib.__file__).parents[1]
X = np.random.default_rng(0).random((101, 6))  # one sample is left of batches of 25 or 4
GAPS = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
GAPS[30:] = X[30:]  # the first process alone sees any

SHAPE = {"hidden": (5,), "n_iter": 37, "batch_size": 25, "random_state": 3}
MODELS = {
    "som": (SOM((4, 5), n_epochs=6), X, {}),
    "hexagons": (SOM(Grid(4, 5, "hex"), n_epochs=6, init="sample", random_state=3), X, {}),
    "weights": (SOM((4, 5), n_epochs=6), X, {"sample_weight": np.arange(101) % 3}),
    "gaps": (SOM((4, 5), n_epochs=6, init="sample", random_state=3, allow_missing=True), GAPS, {}),
    "desom": (DESOM((3, 4), latent_dim=2, pretrain_epochs=2, shuffle=True, **SHAPE), X, {}),
    "autoencoder": (Autoencoder(latent_dim=2, **SHAPE), X, {}),
    "denoising": (DenoisingAutoencoder(latent_dim=2, **SHAPE), X, {}),
    "sparse": (SparseAutoencoder(latent_dim=4, sparsity="l1", **SHAPE), X, {}),
    "contractive": (ContractiveAutoencoder(latent_dim=2, **SHAPE), X, {}),
    "rbm": (RBM(4, n_iter=37, batch_size=25, random_state=3), X, {}),
    "vae": (VAE(likelihood="bernoulli", binarize=True, **SHAPE), X, {}),
    "soae": (SOAE(encoder_steps=3, decoder_steps=2, **SHAPE | {"batch_size": 4}), X, {}),
    "joint": (SOAE(training="joint", distance="l1", **SHAPE), X, {}),
}
REFUSED = (
    (SOM(mode="online"), "mode='online' is sequential .* in 2 processes"),
    (SOM(mode="sgd"), "mode='sgd'"),
    (SOMRL(), r"SOMRL\(\) needs undivided batches, .* but there are 2 processes"),
    (DEC(), r"DEC\(\) needs undivided batches"),
    (SOAE(importance_sampling=True), r"SOAE\(importance_sampling=True\) needs"),
    (SparseAutoencoder(latent_dim=2), r"SparseAutoencoder\(latent_dim=2\) needs"),
    (Autoencoder(latent_dim=2, batch_size=1), "batch_size=1 leaves some of 2 processes without"),
    (SOM(init=X[:3]), r"init has shape \(3, "),  # found out by the first alone
)


# ------------------------------------------------------------------ what torchrun starts


def train_all(folder):
    """Train every model in the group and save it; tell why the others were refused."""
    with distributed.group(loop.resolve_device("cpu")):
        for name, (model, data, more) in MODELS.items():
            model.fit(data, **more)
            if distributed.rank() == 0:
                model.save(folder / f"{name}.npz")
        reasons = []
        for model, _ in REFUSED:
            try:
                model.fit(X)
                reasons.append("it was not refused")
            except ValueError as error:
                reasons.append(str(error))
        alike = SOM(n_epochs=1, init="sample").fit(X)  # a seed that was drawn, not given
        (folder / f"{distributed.rank()}.json").write_text(json.dumps([reasons, alike.seed_]))
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name]  # they could abort an exiting Python


def die_in_the_middle(folder):
    """Run the command; the second process is killed after 250 exchanges."""
    loop.CHECKPOINT_SECONDS = 0
    exchanges, total = [], distributed.total

    def counted(*tensors):
        exchanges.append(1)
        if len(exchanges) == 250 and distributed.rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return total(*tensors)

    distributed.total = counted
    sys.exit(cli.main(command(folder)))


def command(folder):
    np.save(folder / "data.npy", X)
    options = "-p hidden=(5,) -p latent_dim=2 -p n_iter=400 -p batch_size=25 -p random_state=3"
    files = ("--data", "data.npy", "--output", "model.npz", "--checkpoint", "checkpoint")
    paths = [name if name[:2] == "--" else str(folder / name) for name in files]
    return ["fit", "DESOM", *options.split(), "-p", "grid=(3, 4)", *paths]


# ------------------------------------------------------------------ what starts torchrun


def start(*arguments, **environment):
    inherited = os.environ | {"PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=inherited | environment, **pipes)


def torchrun(n, *arguments):
    many = ("--standalone", f"--nproc-per-node={n}")
    process = start("-m", "torch.distributed.run", *many, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module", params=[2, 3])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    code, out, err = torchrun(request.param, __file__, "train_all", str(folder))
    assert code == 0, out + err
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_several_processes_train_what_one_trains(trained, name):
    model, data, more = MODELS[name]
    one, several = model.fit(data, **more), somlib.load(trained / f"{name}.npz")
    for attribute in ("weights_", "parameters_", "history_", "labels_", "quantization_error_"):
        expected = getattr(one, attribute, {})
        found = getattr(several, attribute, {})
        if not isinstance(expected, dict):
            expected, found = {attribute: expected}, {attribute: found}
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, 1e-9, 1e-9, err_msg=f"{attribute} {key}")


def test_models_that_cannot_be_divided_raise_the_same_error_in_all_processes(trained):
    told = [json.loads(path.read_text()) for path in sorted(trained.glob("*.json"))]
    assert all(one == told[0] for one in told)
    for reason, (_, expected) in zip(told[0][0], REFUSED, strict=True):
        assert re.search(expected.replace("2 processes", f"{len(told)} processes"), reason)


def test_a_killed_process_ends_all_and_the_same_command_resumes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    first, second = (  # as on two machines
        start(__file__, "die_in_the_middle", str(tmp_path), RANK=rank, **where) for rank in "01"
    )
    second.communicate(timeout=60)
    assert second.returncode == -signal.SIGKILL
    died = time.monotonic()
    _, err = first.communicate(timeout=60)
    assert time.monotonic() - died < 10
    assert first.returncode == 1
    assert "somlib: another process of the training has ended or does not respond" in err
    assert not (tmp_path / "model.npz").exists()
    assert 0 < read_arrays(tmp_path / "checkpoint")[1]["done"] < 400

    code, out, err = torchrun(2, "-m", "somlib", *command(tmp_path))
    assert code == 0, err
    assert out.count("DESOM trained and saved") == 1
    several = somlib.load(tmp_path / "model.npz")
    one = DESOM((3, 4), latent_dim=2, **SHAPE | {"n_iter": 400}).fit(X)
    assert several.n_iter_ == 400
    for part in ("parameters_", "history_"):
        for name, expected in getattr(one, part).items():
            np.testing.assert_allclose(getattr(several, part)[name], expected, 1e-8, 1e-8)


# ------------------------------------------------------------------ the command, in one process


def test_the_command_trains_in_one_process_too(tmp_path, capsys):
    assert cli.main(command(tmp_path)) == 0
    assert "DESOM trained and saved" in capsys.readouterr().out
    model = somlib.load(tmp_path / "model.npz")
    expected = DESOM((3, 4), latent_dim=2, **SHAPE | {"n_iter": 400}).fit(X)
    np.testing.assert_array_equal(model.prototypes_, expected.prototypes_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("ZOM --data digits", "unknown model 'ZOM'; there are .*, DESOM, .*, SOM, "),
        ("SOM --data digits -p epochs=3", "unknown parameter 'epochs'; SOM has .*, n_epochs, "),
        ("SOM --data digits -p n_epochs", "'n_epochs': expected NAME=VALUE"),
        ("SOM --data digits -p n_epochs=few", "-p n_epochs='few' must be a whole number"),
        ("SOM --data digits -p n_epochs=0", "n_epochs=0 must be a whole number of at least 1"),
        (
            "SOM --data digits -p init=sideways",
            "init='sideways' must be 'pca', 'sample'",
        ),
        ("SOM --data digits -p device=tpu", "-p device='tpu' must be"),
        ("SOM --data numbers", "unknown data set 'numbers'"),
        ("SOM --data none.npy", "No such file.*none.npy"),
        ("SOM --data none.npy --split test", "--split test: none.npy has no parts"),
        ("SOM --data digits --checkpoint .", r"cannot write to \.: it is a folder; name a file"),
        ("SOM --data digits --checkpoint file/x", "cannot write to .*file: .*"),
    ],
)
def test_the_command_prints_errors(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert cli.main(["fit", *options.split(), "--output", "model.npz"]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------ data larger than the memory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit what is anonymous")
def test_a_map_of_a_file_needs_a_part_of_its_size(tmp_path):
    from benchmarks import memory  # not for the processes above: it imports much

    memory.write(tmp_path / "x.npy", "float32", 400)
    used, _, note = memory.alone(tmp_path / "x.npy", "SOM.fit", limit=160)
    assert used < 160, note
    assert "MemoryError" in memory.alone(tmp_path / "x.npy", "SOM.fit, in memory", 160)[2]


def test_a_file_of_the_other_precision_is_converted_as_it_is_read(tmp_path):
    for dtype, other in ((np.float32, np.float64), (np.float64, np.float32)):
        np.save(tmp_path / "x.npy", X.astype(dtype))
        file = np.load(tmp_path / "x.npy", mmap_mode="r")
        som = SOM((3, 4), random_state=0).fit(X.astype(other))
        for method in (som.predict, som.transform):
            found, expected = method(file), method(np.array(file))
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        going_on = deepcopy(som).partial_fit(file), som.partial_fit(np.array(file))
        np.testing.assert_allclose(*(map.weights_ for map in going_on), rtol=1e-6)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
