"""Seeds as a batch dimension, interrupts, checkpoints and bad input: what all deep models share."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from somlib.models.autoencoders import Autoencoder, PlainNetwork
from somlib.models.desom import DESOM, DESOMNetwork
from somlib.models.soae import SOAE
from somlib.models.som import SOM
from somlib.models.vae import VAE
from somlib.training import DeepEstimator, Network, Noise, ensembles, fit_seeds, loop
from somlib.training.adam import Adam
from somlib.training.network import NoiseSource, hyperparameter, load_state
from somlib.training.step import deferred_interrupts

rng = np.random.default_rng(42)
X = rng.random((103, 12))
SMALL = {"hidden": (16, 9), "latent_dim": 2, "batch_size": 25}


def autoencoder(n_iter=60, **params):
    return Autoencoder(n_iter=n_iter, **SMALL | params)


def desom(n_iter=60, **params):
    return DESOM((2, 3), n_iter=n_iter, **SMALL | {"gamma": 0.1} | params)


CONV = {"architecture": "conv", "image_shape": (4, 3)}
MODELS = {
    "autoencoder": autoencoder(300),
    "autoencoder in file order": autoencoder(300, shuffle=False),
    "convolutional autoencoder": autoencoder(60, **CONV),
    "desom": desom(300),
    "shuffled desom": desom(300, shuffle=True),
    "convolutional desom": desom(60, **CONV),
    "pre-trained desom": desom(100, pretrain_epochs=5),
}


def assert_same(one, other, atol=0.0):
    assert one.parameters_.keys() == other.parameters_.keys()
    assert one.history_.keys() == other.history_.keys()
    for name, value in (one.parameters_ | one.history_).items():
        theirs = (other.parameters_ | other.history_)[name]
        np.testing.assert_allclose(theirs, value, rtol=0, atol=atol, err_msg=name)


@contextmanager
def interrupted_at(model, iteration, error=KeyboardInterrupt):
    """Raise inside the losses of one iteration, counted from entering the `with`."""
    cls = type(model._build(12, torch.Generator()))
    losses, calls = cls.losses, iter(range(10**9))

    def break_off(self, *args, **arguments):
        if next(calls) == iteration:
            raise error
        return losses(self, *args, **arguments)

    cls.losses = break_off
    try:
        yield
    finally:
        cls.losses = losses


# ---------------------------------------------------------------- seeds as a batch dimension


@pytest.mark.parametrize("name", MODELS)
def test_the_result_of_a_seed_is_independent_of_the_ensemble(name):
    model = MODELS[name]
    (alone,) = fit_seeds(model, X, [3])
    among = fit_seeds(model, X, range(10))
    assert_same(alone, among[3], atol=1e-10)
    assert_same(clone(model).set_params(random_state=3).fit(X), alone)
    assert [m.random_state for m in among] == [m.seed_ for m in among] == list(range(10))
    weight = "encoder.layers.0.weight" if "conv" not in name else "encoder.0.weights.0"
    assert len({m.parameters_[weight].tobytes() for m in among}) == 10
    assert model.random_state is None  # the model that was given stays as it was
    assert not hasattr(model, "parameters_")


@pytest.mark.parametrize("name", ["autoencoder", "desom", "convolutional desom"])
def test_in_single_precision_results_agree_initially(name):
    model = clone(MODELS[name]).set_params(n_iter=10)
    single = X.astype(np.float32)
    (alone,), (_, among) = fit_seeds(model, single, [3]), fit_seeds(model, single, [1, 3])
    assert {value.dtype for value in alone.parameters_.values()} == {single.dtype}
    assert_same(alone, among, atol=1e-4)


def test_each_model_starts_from_its_start_model():
    starts = fit_seeds(autoencoder(20), X, range(4))
    (alone,) = fit_seeds(desom(100), X, [3], start=starts[3:])
    among = fit_seeds(desom(100), X, range(4), start=starts)
    assert_same(alone, among[3], atol=1e-10)
    assert_same(desom(100, random_state=3).fit(X, start=starts[3]), alone)
    # so little is learned in one tiny step that the start is still to be seen
    still = fit_seeds(desom(1, learning_rate=1e-30), X, range(4), start=starts)
    for begun, model in zip(starts, still, strict=True):
        for name, value in begun.parameters_.items():
            np.testing.assert_allclose(model.parameters_[name], value, atol=1e-20)
        codes = begun.transform(X)  # and the first prototypes are codes of K samples
        nearest = np.abs(codes[:, None] - model.prototypes_).max(2)
        assert (nearest.min(0) < 1e-12).all()
        assert len(set(nearest.argmin(0))) == 6


def test_pre_training_is_the_autoencoder_of_that_seed_and_a_start_replaces_it():
    changed = {"learning_rate": 0.004, "batch_size": 40, **CONV}
    pretrained = fit_seeds(autoencoder(n_iter=None, n_epochs=5, **changed), X, range(2))
    (ours,) = fit_seeds(desom(30, pretrain_epochs=5, **changed), X, [1])
    assert_same(ours, fit_seeds(desom(30, **changed), X, range(2), start=pretrained)[1], 1e-10)
    assert_same(
        *fit_seeds(desom(30, pretrain_epochs=5, **changed), X, [1], start=pretrained[:1]),
        *fit_seeds(desom(30, **changed), X, [1], start=pretrained[:1]),
    )


class WatchingNetwork(PlainNetwork):
    def updates(self, x, rows, **arguments):
        assert torch.equal(x, torch.from_numpy(X)[rows])
        Watching.seen.append(rows.numpy())
        return super().updates(x, rows, **arguments)


class Watching(Autoencoder):
    """Keeps the samples that each iteration is given."""

    seen: list

    def _build(self, d, generator):
        return WatchingNetwork(self, d, generator)


def rows_of(seeds, shuffle):
    Watching.seen = []
    fit_seeds(Watching(**SMALL, n_epochs=3, shuffle=shuffle), X, seeds)
    return Watching.seen


def test_batches_are_in_order_and_the_last_may_be_smaller():
    seen = rows_of([0, 1], shuffle=False)
    assert [len(rows) for rows in seen] == 3 * [25, 25, 25, 25, 3]
    np.testing.assert_array_equal(np.concatenate(seen), np.tile(np.arange(103), 3))


def test_shuffled_batches_have_every_sample_once_per_epoch_and_seed():
    seen = rows_of([4, 2], shuffle=True)
    assert [rows.shape for rows in seen] == 3 * [(2, 25), (2, 25), (2, 25), (2, 25), (2, 3)]
    orders = [np.concatenate(seen[5 * e : 5 * e + 5], 1)[s] for e in range(3) for s in range(2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(103))
    assert len({order.tobytes() for order in orders}) == 6
    alone = np.concatenate(rows_of([2], shuffle=True))
    np.testing.assert_array_equal(alone, np.concatenate(orders[1::2]))


def test_seeds_may_be_an_iterable_and_data_a_frame():
    frame = pd.DataFrame(X.astype(np.float32), columns=[f"p{i}" for i in range(12)])
    models = fit_seeds(desom(2), frame, (s for s in (5, 1)))
    assert [m.seed_ for m in models] == [5, 1]
    for model in models:
        assert list(model.feature_names_in_) == list(frame.columns)
        np.testing.assert_array_equal(model.labels_, model.predict(frame))


def test_samples_are_stored_once_for_all_seeds(monkeypatch):
    made = []
    valid = DeepEstimator._valid
    monkeypatch.setattr(
        DeepEstimator, "_valid", lambda *a, **k: made.append(valid(*a, **k)) or made[-1]
    )
    fit_seeds(autoencoder(2), X.tolist(), range(5))
    assert len(made) == 1


# ---------------------------------------------------------------- hooks, history, callbacks


class OffsetsNetwork(Network):
    """One point that learns the mean of the samples, and counts how often it is prepared."""

    def __init__(self, d):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(1, d))
        self.register_buffer("asked", torch.zeros((), dtype=torch.int64))

    def initialize(self, X, generator):
        self.mean.copy_(torch.rand(1, X.shape[1], generator=generator))

    def prepare(self, X, i, **arguments):
        assert not torch.is_grad_enabled()
        self.asked += i

    def schedules(self, n_iter):
        return {"weight": np.linspace(1, 0.5, n_iter)}

    def losses(self, x, weight):
        distance = ((x - self.mean) ** 2).mean((-2, -1))
        return {"loss": weight * distance, "distance": distance}


class Offsets(DeepEstimator):
    """Learns the mean of the samples."""

    learning_rate, shuffle, precision, device, progress = 0.1, False, "highest", "auto", False

    def __init__(self, n_iter=10, batch_size=20, random_state=None):
        self.n_iter, self.batch_size, self.random_state = n_iter, batch_size, random_state

    def _build(self, d, generator):
        return OffsetsNetwork(d)

    def _finish(self, X):
        self.samples_ = len(X)


def test_a_model_is_its_network_and_a_thin_estimator():
    models = fit_seeds(Offsets(200, batch_size=103), X, [3, 8])
    for model in models:
        np.testing.assert_allclose(model.parameters_["mean"][0], X.mean(0), atol=1e-2)
        assert model.parameters_["asked"] == sum(range(200))
        assert model.samples_ == 103
        history = model.history_
        assert history.keys() == {"loss", "distance", "weight"}
        np.testing.assert_array_equal(history["weight"], np.linspace(1, 0.5, 200))
        np.testing.assert_allclose(history["loss"], history["distance"] * history["weight"])
        first = torch.rand(1, 12, generator=torch.Generator().manual_seed(model.seed_)).numpy()
        # the loss of an iteration is the one before its step
        np.testing.assert_allclose(history["distance"][0], ((X - first) ** 2).mean())


class PursuitNetwork(Network):
    """Two points in turn: the first learns the mean of the samples, the second the first's place.

    Two steps of the one for one of the other, on samples that it draws itself.
    """

    STEPS = 2

    def __init__(self, d, batch_size):
        super().__init__()
        self.first = torch.nn.Parameter(torch.zeros(1, d))
        self.second = torch.nn.Parameter(torch.ones(1, d))
        self.batch_size = batch_size

    def noise(self, batch_size):
        return {"drawn": Noise((self.STEPS * batch_size,), "uniform")}

    def prepare(self, X, i, drawn):
        assert not torch.is_grad_enabled()
        return (drawn * len(X)).long() if i % 3 else None

    def updates(self, x, rows, drawn):
        for batch in torch.split(x, self.batch_size, dim=-2):
            distance = ((batch - self.first) ** 2).mean((-2, -1))
            yield {"loss": distance, "first": distance}, [self.first]
        distance = (self.first - self.second).abs().mean((-2, -1))  # the first as it is by now
        yield {"loss": distance, "second": distance}, [self.second]


class Pursuit(Offsets):
    def _build(self, d, generator):
        return PursuitNetwork(d, self.batch_size)

    @property
    def _samples_per_iteration(self):
        return PursuitNetwork.STEPS * self.batch_size


def literal_pursuit(seed, n_iter, B):
    points = [torch.zeros(1, 12, dtype=torch.float64), torch.ones(1, 12, dtype=torch.float64)]
    adams = [torch.optim.Adam([point], 0.1, eps=1e-7) for point in points]
    history = []
    for i in range(n_iter):
        if i % 3:
            u = np.random.default_rng([seed, 2, i // 64]).random((64, 2 * B))[i % 64]
            rows = [int(number * len(X)) for number in u]
        else:  # all in turn: what is left at the end of an epoch is less
            turn = i % -(-len(X) // (2 * B))
            rows = range(len(X))[2 * B * turn : 2 * B * (turn + 1)]
        for first in range(0, len(rows), B):
            batch = torch.from_numpy(X[rows[first : first + B]])
            points[0].grad = 2 * (points[0] - batch).mean(0, keepdim=True) / 12
            far = ((batch - points[0]) ** 2).mean().item()
            adams[0].step()
        apart = points[1] - points[0]
        points[1].grad = apart.sign() / 12
        history.append([apart.abs().mean().item(), far, apart.abs().mean().item()])
        adams[1].step()
    return points, np.transpose(history)


@pytest.mark.parametrize("seeds", [[3], [8, 3, 1]])
def test_an_iteration_may_have_several_steps_each_for_its_own_parameters(seeds):
    for model in fit_seeds(Pursuit(70, batch_size=20), X, seeds):
        points, history = literal_pursuit(model.seed_, 70, 20)
        for name, point in zip(("first", "second"), points, strict=True):
            np.testing.assert_allclose(model.parameters_[name], point, rtol=0, atol=1e-12)
        for name, values in zip(("loss", "first", "second"), history, strict=True):
            np.testing.assert_allclose(model.history_[name], values, rtol=1e-11)


def test_parameters_without_update_and_their_moments_do_not_change(monkeypatch):
    step, seen = Adam.step, []

    def state(adam):
        moments = [adam.moments.get(k, {}).values() for k in range(len(adam.parameters))]
        return [
            [p.detach().clone(), *map(torch.clone, own)]
            for p, own in zip(adam.parameters, moments, strict=True)
        ]

    def watch(adam):
        before = state(adam)
        step(adam)
        moved = [len(a) != len(b) or not all(map(torch.equal, a, b))
                 for a, b in zip(before, state(adam), strict=True)]  # fmt: skip
        seen.append(moved)

    monkeypatch.setattr(Adam, "step", watch)
    Pursuit(2, batch_size=20).fit(X)
    assert seen == 2 * [[True, False], [True, False], [False, True]]


def test_a_model_may_learn_without_gradients():
    class RunningMeanNetwork(OffsetsNetwork):
        def updates(self, x, rows, **arguments):
            losses = self.losses(x, **arguments)
            with torch.no_grad():
                self.mean += (x.mean(-2, keepdim=True) - self.mean) / 4
            yield losses, []

    class RunningMean(Offsets):
        def _build(self, d, generator):
            return RunningMeanNetwork(d)

    model = RunningMean(30, random_state=0).fit(X)
    mean = torch.rand(1, 12, generator=torch.Generator().manual_seed(0)).numpy()
    batches = np.split(X, range(20, len(X), 20))
    for i in range(30):
        x = batches[i % len(batches)]
        assert model.history_["distance"][i] == pytest.approx(((x - mean) ** 2).mean())
        mean = mean + (x.mean(0) - mean) / 4
    np.testing.assert_allclose(model.parameters_["mean"], mean, rtol=1e-6)


def test_prepare_chooses_the_samples_of_an_iteration():
    seen = []

    class DrawingNetwork(OffsetsNetwork):
        def prepare(self, X, i, **arguments):
            return None if i % 2 else torch.full((len(self.mean), 4), i)

        def updates(self, x, rows, **arguments):
            assert torch.equal(x, torch.from_numpy(X)[rows])
            seen.append(rows.tolist())
            return super().updates(x, rows, **arguments)

    class Drawing(Offsets):
        def _build(self, d, generator):
            return DrawingNetwork(d)

    fit_seeds(Drawing(5), X, [0, 1])
    assert seen[::2] == [[[i] * 4] * 2 for i in (0, 2, 4)]
    assert seen[1::2] == [list(range(20 * i, 20 * i + 20)) for i in (1, 3)]


# ---------------------------------------------------------------- random numbers for iterations


def source(seeds, kind, dtype=torch.float64):
    return NoiseSource({"some": kind}, seeds, torch.zeros((), dtype=dtype))


METHODS = {"normal": "standard_normal", "uniform": "random"}


@pytest.mark.parametrize(("kind", "stream"), [("normal", 2), ("uniform", 3)])
def test_noise_depends_on_seed_and_iteration_alone(kind, stream):
    noise = Noise((3, 2), kind, stream)
    some = source([5, 2], noise)
    for i in (0, 1, 63, 64, 200, 7, 65, 64, 127, 128):  # a resumed training begins anywhere
        found = some(i)["some"]
        assert found.shape == (2, 3, 2)
        for s, seed in enumerate((5, 2)):
            rng_of_block = np.random.default_rng([seed, stream, i // 64])
            block = getattr(rng_of_block, METHODS[kind])((64, 3, 2))
            np.testing.assert_array_equal(found[s], block[i % 64])
            np.testing.assert_array_equal(found[s], source([seed], noise)(i)["some"])


def test_noise_differs_between_seeds_and_iterations():
    numbers = [
        some(i)["some"].flatten().tolist()
        for some in (
            source([0, 1], Noise((3, 2))),
            source([0, 1], Noise((3, 2), stream=3)),
            source([2, 2**40], Noise((3, 2))),
        )
        for i in range(130)
    ]
    assert len({number for one in numbers for number in one}) == 3 * 130 * 2 * 6


def test_noise_has_the_dtype_of_the_samples_unless_it_declares_one():
    exact = source([0, 1], Noise((3, 2)))(0)["some"]
    rounded = source([0, 1], Noise((3, 2)), torch.float32)(0)["some"]
    assert (exact.dtype, rounded.dtype) == (torch.float64, torch.float32)
    assert torch.equal(exact.float(), rounded)
    asked = source([0, 1], Noise((3, 2), dtype=torch.float64), torch.float32)(0)["some"]
    assert torch.equal(exact, asked)


def test_logs_are_means_over_iterations_and_seeds_and_callbacks_see_the_model():
    seen = []

    def look(i, logs):
        seen.append((i, logs, model.transform(X), model.n_iter_, len(model.history_["loss"])))

    model = autoencoder(120, random_state=0)
    model.fit(X, callbacks=[look])
    assert [i for i, *_ in seen] == [49, 99, 119]
    for (i, logs, _, done, length), first in zip(seen, (0, 50, 100), strict=True):
        assert done == length == i + 1
        assert logs["loss"] == pytest.approx(model.history_["loss"][first : i + 1].mean())
    assert_same(model, autoencoder(120, random_state=0).fit(X))  # looking changes nothing
    np.testing.assert_array_equal(seen[0][2], autoencoder(50, random_state=0).fit(X).transform(X))
    logs = []
    pair = fit_seeds(autoencoder(50), X, [0, 1], callbacks=[lambda i, log: logs.append(log)])
    mean = np.mean([m.history_["loss"] for m in pair])
    assert logs[0]["loss"] == pytest.approx(mean)


@pytest.mark.parametrize("true", [True, np.True_])
def test_a_callback_that_returns_true_ends_the_training(true):
    model = desom(200).fit(X, callbacks=[lambda i, logs: i == 99 and true])
    assert model.n_iter_ == 100
    assert {len(values) for values in model.history_.values()} == {100}
    np.testing.assert_array_equal(model.labels_, model.predict(X))


def test_epochs_are_passes_over_the_data():
    assert autoencoder(n_iter=None, n_epochs=3).fit(X).n_iter_ == 3 * 5


# ---------------------------------------------------------------- interrupts and checkpoints

BROKEN = {  # ITERATIONS_PER_LOG is 50: the first, the last, within a chunk and at its borders
    "autoencoder": (autoencoder(130), [77]),
    "convolutional autoencoder": (autoencoder(60, **CONV), [55]),
    "desom": (desom(130), [0, 1, 49, 50, 77, 100, 101, 129]),
    "pre-trained, shuffled desom": (desom(130, shuffle=True, pretrain_epochs=1), [77]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", BROKEN)
def test_an_ensemble_interrupted_inside_a_step_resumes_bit_for_bit(tmp_path, name, dtype):
    model, iterations = BROKEN[name]
    data = X.astype(dtype)
    undisturbed = fit_seeds(model, data, range(3))
    for iteration in iterations:
        file = tmp_path / f"{iteration}.checkpoint"
        with pytest.raises(KeyboardInterrupt), interrupted_at(model, iteration):
            fit_seeds(model, data, range(3), checkpoint=file)
        resumed = fit_seeds(model, data, range(3), checkpoint=file)
        for one, other in zip(undisturbed, resumed, strict=True):
            assert_same(one, other)
            assert other.n_iter_ == model.n_iter
            assert len(other.history_["loss"]) == model.n_iter


@pytest.mark.parametrize("last", [49, 99, 119])
def test_an_ensemble_stopped_by_a_callback_resumes_bit_for_bit(tmp_path, last):
    file, model = tmp_path / "stack.checkpoint", desom(120)

    def interrupt(i, logs):
        if i == last:
            raise KeyboardInterrupt

    undisturbed = fit_seeds(model, X, range(3))
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, range(3), callbacks=[interrupt], checkpoint=file)
    seen = []
    resumed = fit_seeds(
        model, X, range(3), callbacks=[lambda i, logs: seen.append((i, *logs))], checkpoint=file
    )
    names = ("loss", "reconstruction", "som", "temperature")
    assert seen == [(i, *names) for i in (49, 99, 119) if i > last]
    for one, other in zip(undisturbed, resumed, strict=True):
        assert_same(one, other)
        np.testing.assert_array_equal(one.labels_, other.labels_)


def test_a_long_training_writes_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(time, "monotonic", iter(range(10**6)).__next__)  # each look: a second later
    file, model = tmp_path / "stack.checkpoint", desom(200)
    # an error other than an interrupt writes nothing more: what was there is gone on from
    with pytest.raises(OSError, match="gone"), interrupted_at(model, 170, OSError("gone")):
        fit_seeds(model, X, range(3), checkpoint=file)
    first = []
    resumed = fit_seeds(
        model, X, range(3), callbacks=[lambda i, _: first.append(i)], checkpoint=file
    )
    assert first[0] > 49  # it did not begin again
    for one, other in zip(fit_seeds(model, X, range(3)), resumed, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("iteration", [0, 1, 60])
def test_an_interrupted_model_is_usable_as_of_its_last_iteration(iteration):
    model = desom(130, random_state=0, decay="constant", temperature=(2.0, 2.0))
    with pytest.raises(KeyboardInterrupt), interrupted_at(model, iteration):
        model.fit(X)
    assert model.n_iter_ == iteration
    np.testing.assert_array_equal(model.labels_, model.predict(X))
    assert model.decoded_prototypes_.shape == (6, 12)
    if iteration:  # T is constant: a shorter training takes the same steps
        assert_same(model, clone(model).set_params(n_iter=iteration).fit(X))


def test_an_interrupted_pre_training_resumes(tmp_path):
    file, model = tmp_path / "one.checkpoint", desom(random_state=0, pretrain_epochs=30)
    undisturbed = clone(model).fit(X)
    with pytest.raises(KeyboardInterrupt), interrupted_at(autoencoder(), 120):
        model.fit(X, checkpoint=file)
    assert file.with_suffix(".pretraining").exists()
    with interrupted_at(autoencoder(), 31):  # of the 150 only 30 are left to do
        assert_same(model.fit(X, checkpoint=file), undisturbed)
    assert not file.with_suffix(".pretraining").exists()


@pytest.fixture
def python_answers_ctrl_c():
    """Whatever shell the tests were started from: in the background Ctrl-C is ignored."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.signal(signal.SIGINT, usual) is signal.default_int_handler


@pytest.mark.usefixtures("python_answers_ctrl_c")
def test_a_real_ctrl_c_waits_for_the_end_of_the_iteration(tmp_path, monkeypatch):
    file, model = tmp_path / "stack.checkpoint", desom(120)
    undisturbed = fit_seeds(model, X, range(3))
    step, calls = Adam.step, iter(range(10**6))

    def press(adam):
        """Press Ctrl-C when Adam has changed the weights and the training does not yet know."""
        step(adam)
        if next(calls) == 70:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Adam, "step", press)
    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, range(3), checkpoint=file)
    with np.load(file) as saved:
        assert saved["adam 0 step"] == 71
        assert saved["history loss"].shape == (71, 3)
    resumed = fit_seeds(model, X, range(3), checkpoint=file)
    for one, other in zip(undisturbed, resumed, strict=True):
        assert_same(one, other)


@pytest.mark.usefixtures("python_answers_ctrl_c")
def test_deferred_interrupts_are_raised_at_the_end():
    reached = []

    def work(error):
        with deferred_interrupts() as waiting:
            assert not waiting
            os.kill(os.getpid(), signal.SIGINT)
            while not waiting:
                time.sleep(0.001)
            reached.append(error)
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        work(None)
    with pytest.raises(ZeroDivisionError):  # what went wrong is told rather than that it was ended
        work(ZeroDivisionError)
    assert reached == [None, ZeroDivisionError]


@pytest.mark.usefixtures("python_answers_ctrl_c")
def test_another_handler_of_ctrl_c_is_not_replaced():
    seen = []
    usual = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    with deferred_interrupts() as waiting:
        signal.raise_signal(signal.SIGINT)
        assert seen == [signal.SIGINT]
        assert not waiting
    signal.signal(signal.SIGINT, usual)


def test_training_outside_the_main_thread_works():
    models = []
    thread = threading.Thread(target=lambda: models.extend(fit_seeds(desom(60), X, [3])))
    thread.start()
    thread.join()
    assert_same(*models, *fit_seeds(desom(60), X, [3]))


@pytest.fixture
def kept(tmp_path):
    file = tmp_path / "stack.checkpoint"
    with pytest.raises(KeyboardInterrupt), interrupted_at(desom(), 30):
        fit_seeds(desom(), X, [0, 1], checkpoint=file)
    return file


@pytest.mark.parametrize(("model", "data", "seeds"), [
    (desom(), X + 1, [0, 1]),
    (desom(), X.astype(np.float32), [0, 1]),
    (desom(gamma=0.2), X, [0, 1]),
    (desom(61), X, [0, 1]),
    (desom(), X, [0, 2]),
    (desom(), X, [1, 0]),
    (desom(), X, [0]),
    (autoencoder(), X, [0, 1]),
])  # fmt: skip
def test_a_checkpoint_of_another_training_is_refused(kept, model, data, seeds):
    before = kept.read_bytes()
    with pytest.raises(ValueError, match=r"stack\.checkpoint was made with other data, parameters"):
        fit_seeds(model, data, seeds, checkpoint=kept)
    assert kept.read_bytes() == before


def test_a_checkpoint_with_another_start_is_refused(kept):
    with pytest.raises(ValueError, match=r"stack\.checkpoint was made with other data"):
        fit_seeds(desom(), X, [0, 1], start=fit_seeds(autoencoder(2), X, [0, 1]), checkpoint=kept)


def test_a_damaged_checkpoint_is_named(kept):
    kept.write_bytes(kept.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"stack\.checkpoint is damaged"):
        fit_seeds(desom(), X, [0, 1], checkpoint=kept)


def test_a_random_seed_is_chosen_once(tmp_path):
    file, model = tmp_path / "one.checkpoint", desom()
    with pytest.raises(KeyboardInterrupt), interrupted_at(model, 30):
        model.fit(X, checkpoint=file)
    drawn = model.seed_
    resumed = desom().fit(X, checkpoint=file)
    assert resumed.seed_ == drawn
    assert_same(resumed, desom(random_state=drawn).fit(X))


def test_a_generator_s_training_could_not_be_resumed(tmp_path):
    model = desom(random_state=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"random_state=.*give a whole number"):
        model.fit(X, checkpoint=tmp_path / "one.checkpoint")


# ---------------------------------------------------------------- a loss that is no number


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_not_finite_names_its_seed_and_iteration():
    starts = fit_seeds(autoencoder(1), X.astype(np.float32), [0, 1, 2])
    for value in starts[1].parameters_.values():
        value *= np.float32(1e12)  # this one's reconstruction is beyond float32
    with pytest.raises(FloatingPointError) as error:
        fit_seeds(desom(90), X.astype(np.float32), [10, 11, 12], start=starts)
    assert str(error.value) == (
        "the loss of seed 11 is not finite at iteration 0 of 90; "
        "lower learning_rate=0.001, or check the scale of X"
    )


def test_a_loss_that_is_not_finite_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    file, model = tmp_path / "stack.checkpoint", desom(120)
    with pytest.raises(KeyboardInterrupt), interrupted_at(model, 60):
        fit_seeds(model, X, range(3), checkpoint=file)
    before, losses, calls = file.read_bytes(), DESOMNetwork.losses, iter(range(10**6))
    poison = torch.tensor([1.0, 1.0, np.nan])

    def poisoned(self, *args, **arguments):
        found = losses(self, *args, **arguments)
        return found | {"loss": found["loss"] * poison} if next(calls) == 12 else found

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DESOMNetwork, "losses", poisoned)
        with pytest.raises(FloatingPointError, match=r"loss of seed 2 .* at iteration 72 of 120"):
            fit_seeds(model, X, range(3), checkpoint=file)
    assert file.read_bytes() == before
    resumed = fit_seeds(model, X, range(3), checkpoint=file)
    for one, other in zip(fit_seeds(model, X, range(3)), resumed, strict=True):
        assert_same(one, other)


@contextmanager
def poisoned(cls, iteration, name="loss", value=np.nan):
    """Let one loss of one iteration, counted from entering the `with`, be no number."""
    losses, calls = cls.losses, iter(range(10**6))

    def found(self, *args, **arguments):
        good = losses(self, *args, **arguments)
        return good | {name: good[name] * value} if next(calls) == iteration else good

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, "losses", found)
        yield


STEADY = {"decay": "constant", "temperature": (2.0, 2.0), "random_state": 0}  # T at any n_iter


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["loss", "reconstruction", "som"])
@pytest.mark.parametrize(
    ("iteration", "good"), [(50, 50), (77, 50), (99, 50), (100, 100), (129, 100)]
)
def test_the_parameters_of_the_last_finite_losses_are_kept(iteration, good, name, value):
    model = desom(130, **STEADY)
    with (
        poisoned(DESOMNetwork, iteration, name, value),
        pytest.raises(FloatingPointError, match=f"not finite at iteration {iteration} of"),
    ):
        model.fit(X)
    assert model.n_iter_ == good
    assert {len(values) for values in model.history_.values()} == {good}
    shorter = desom(good, **STEADY).fit(X)
    assert_same(model, shorter)
    np.testing.assert_array_equal(model.labels_, shorter.labels_)
    np.testing.assert_array_equal(model.labels_, model.predict(X))


def test_they_are_those_after_the_last_step_of_a_buffer_too():
    model = Offsets(120, batch_size=103, random_state=0)
    with poisoned(OffsetsNetwork, 110, "distance"), pytest.raises(FloatingPointError):
        model.fit(X)
    assert model.parameters_["asked"] == sum(range(100))
    assert model.history_.keys() == {"loss", "distance", "weight"}
    assert {len(values) for values in model.history_.values()} == {100}
    assert (model.n_iter_, model.samples_) == (100, 103)


@pytest.mark.parametrize("iteration", [0, 1, 49])
def test_before_the_first_finite_losses_there_is_no_model(iteration):
    model = desom(130, **STEADY)
    for _ in range(2):
        with poisoned(DESOMNetwork, iteration), pytest.raises(FloatingPointError):
            model.fit(X)
        assert not [name for name in vars(model) if name in ("parameters_", "history_", "n_iter_")]
    before = desom(130, **STEADY).fit(X)
    model.fit(X)
    with poisoned(DESOMNetwork, iteration), pytest.raises(FloatingPointError):
        model.fit(X)  # an earlier fit stays in place
    assert_same(model, before)
    assert model.n_iter_ == 130


@pytest.mark.parametrize(
    ("iteration", "name"), [(0, "loss"), (12, "loss"), (12, "som"), (45, "som")]
)
def test_a_resumed_training_rolls_back_to_finite_losses(tmp_path, iteration, name):
    file, model = tmp_path / "one.checkpoint", desom(130, **STEADY)
    with pytest.raises(KeyboardInterrupt), interrupted_at(model, 60):
        model.fit(X, checkpoint=file)
    fresh, good = clone(model), 60 if iteration < 40 else 100
    with (
        poisoned(DESOMNetwork, iteration, name),
        pytest.raises(FloatingPointError, match=f"at iteration {60 + iteration} of 130"),
    ):
        fresh.fit(X, checkpoint=file)
    assert fresh.n_iter_ == good
    assert {len(values) for values in fresh.history_.values()} == {good}
    assert_same(fresh, desom(good, **STEADY).fit(X))


def test_an_error_other_than_that_before_the_first_step_leaves_a_model_as_it_was():
    model = desom(random_state=0).fit(X)
    before = clone(model).fit(X)
    with pytest.raises(OSError, match="gone"), interrupted_at(model, 0, OSError("gone")):
        model.set_params(gamma=0.5).fit(X)
    assert_same(model, before)


def test_a_model_is_not_replaced_by_one_that_failed():
    model = desom(random_state=0).fit(X)
    before = clone(model).fit(X)
    with pytest.raises(FloatingPointError):
        model.set_params(learning_rate=1e200).fit(X)
    assert_same(model, before)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(("dtype", "fit_in"), [(np.float32, 5), (np.float64, 2)])
def test_an_ensemble_too_large_for_memory_says_how_many_seeds_fit(monkeypatch, dtype, fit_in):
    layers = [(12, 16), (16, 9), (9, 2), (2, 9), (9, 16), (16, 12)]
    numbers = sum(a * b + b for a, b in layers) + 6 * 2  # and the prototypes
    # weights, gradients, two moments; activations of weights, biases, prototypes, each twice
    bytes_each = 4 * (4 * numbers + 2 * 25 * (2 * sum(b for _, b in layers) + 2))
    sizes = {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": int(5.5 * bytes_each)}
    data, model = X.astype(dtype), desom(2, device="cpu")
    monkeypatch.setattr(ensembles.os, "sysconf", sizes.__getitem__)
    fit_seeds(model, data, range(fit_in))
    with pytest.raises(MemoryError, match=rf"^{fit_in + 1} seeds .*: {fit_in} would fit; train"):
        fit_seeds(model, data, range(fit_in + 1))


def test_memory_and_parameters_are_checked_before_training(monkeypatch):
    monkeypatch.setattr(PlainNetwork, "losses", None)  # pre-training would call it
    for params in ({"grid_distance": "miles"}, {"gamma": -1}, {"decay": "slow"}):
        with pytest.raises(ValueError, match=next(iter(params))):
            desom(pretrain_epochs=1, **params).fit(X)
    monkeypatch.setattr(ensembles.os, "sysconf", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 9}.get)
    with pytest.raises(MemoryError, match=r"1 seeds of this network .*: 0 would fit"):
        desom(pretrain_epochs=1, device="cpu").fit(X)


# ---------------------------------------------------------------- bad input

NAN, INF = X.copy(), X.copy()
NAN[3, 2], INF[5, 1] = np.nan, np.inf


@pytest.mark.parametrize("make", [autoencoder, desom])
@pytest.mark.parametrize(("params", "data", "message"), [
    ({"batch_size": 104}, X, "batch_size=104 is larger than the data set of 103 samples; choose at "
                             "most 103"),
    ({"batch_size": 0}, X, "batch_size=0 must be a whole number of at least 1"),
    ({"batch_size": 2.5}, X, "batch_size=2.5 must be a whole number"),
    ({"n_iter": 0}, X, "n_iter=0 must be a whole number of at least 1"),
    ({"n_iter": True}, X, "n_iter=True must be a whole number"),
    ({"latent_dim": 13}, X, "latent_dim=13 is more than the 12 features of X"),
    ({"latent_dim": 0}, X, "latent_dim=0 must be a whole number of at least 1"),
    ({"hidden": (6, 0)}, X, r"hidden=\(6, 0\) must be a sequence, each entry a whole"),
    ({"hidden": 6}, X, "hidden=6 must be a sequence, each entry a whole number"),
    ({"hidden": (), **CONV}, X, r"hidden=\(\) has no layer, but architecture='conv' needs one"),
    ({"architecture": "rnn"}, X, "architecture='rnn' is unknown; choose one of"),
    ({"architecture": "conv"}, X, "image_shape=None does not fit 12 features; "),
    ({"architecture": "conv", "image_shape": (3, 5)}, X, r"image_shape=\(3, 5\) does not fit 12"),
    ({"architecture": "conv", "image_shape": (-3, -4)}, X, r"image_shape=\(-3, -4\) must be \(a"),
    ({"architecture": "conv", "image_shape": 12}, X, r"image_shape=12 must be \(a whole number"),
    ({"precision": "half"}, X, r"precision='half' is unknown; choose one of \['highest', 'high'"),
    ({"device": "tpu"}, X, "device='tpu' must be 'auto', 'cpu', 'cuda'"),
    ({"learning_rate": 0}, X, "learning_rate=0 must be a positive number"),
    ({"learning_rate": float("nan")}, X, "learning_rate=nan must be a positive number"),
    ({"random_state": -1}, X, "random_state=-1 must be None, a whole number of at least 0"),
    ({}, NAN, "X contains NaN in row"),
    ({}, INF, "X contains infinity"),
    ({}, X[0], "Reshape your data"),
    ({}, X[None], "Reshape your data"),
    ({}, X[:1], r"X has 1 sample\(s\) .* while a minimum of 2 is required"),
    ({}, X[:, :0], r"X has 0 feature\(s\)"),
])  # fmt: skip
def test_invalid_arguments_of_fit_raise_errors(make, params, data, message):
    with pytest.raises(ValueError, match=message):
        make(2).set_params(**params).fit(data)


def test_parameters_are_only_stored_before_fit():
    assert desom(-3, gamma=-1, grid_distance="miles").gamma == -1


@pytest.mark.parametrize("make", [autoencoder, desom])
def test_invalid_arguments_of_a_fitted_model_raise_errors(make):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        make().transform(X)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        make().inverse_transform(X[:, :2])
    model = make(2).fit(X)
    with pytest.raises(ValueError, match=r"X has 11 features, but .* is expecting 12 features"):
        model.transform(X[:, 1:])
    with pytest.raises(ValueError, match="X contains NaN in row"):
        model.transform(NAN)
    for Z in (X[0, :2], X[:, :3], NAN[3:5, 1:3]):
        with pytest.raises(ValueError, match=r"^Z (has shape|contains)"):
            model.inverse_transform(Z)


def test_invalid_arguments_of_fit_seeds_raise_errors():
    fitted = fit_seeds(autoencoder(2), X, range(2))
    with pytest.raises(ValueError, match=r"seeds=\[\] is empty; give at least one whole number"):
        fit_seeds(desom(), X, [])
    with pytest.raises(TypeError, match="SOM cannot be trained as an ensemble; call fit per seed"):
        fit_seeds(SOM(), X, [0])
    with pytest.raises(ValueError, match="start has 2 models for 3 seeds; give one each"):
        fit_seeds(desom(), X, range(3), start=fitted)
    with pytest.raises(NotFittedError, match="Autoencoder instance is not fitted yet"):
        desom().fit(X, start=autoencoder())
    with pytest.raises(ValueError, match=r"start does not fit: .*0\.weight needs shape \(12, 7\)"):
        desom(hidden=(7, 9)).fit(X, start=fitted[0])
    with pytest.raises(ValueError, match=r"3\.weight needs [\s\S]* has none; give a model of"):
        desom(hidden=(16, 9, 2)).fit(X, start=fitted[0])


# ---------------------------------------------------------------- precision


def test_training_restores_the_precision_setting():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision
    model = desom(60, precision="medium")
    with pytest.raises(KeyboardInterrupt), interrupted_at(model, 55):
        model.fit(X)
    assert setting.fp32_precision == before


@pytest.mark.parametrize("name", ["desom", "convolutional desom"])
def test_medium_is_close_to_highest_and_does_not_change_double_precision(name):
    slow = clone(MODELS[name]).set_params(n_iter=20, random_state=0)
    fast = clone(slow).set_params(precision="medium")
    assert_same(clone(slow).fit(X), clone(fast).fit(X))
    single = X.astype(np.float32)
    slow.fit(single), fast.fit(single)
    for loss in ("loss", "reconstruction", "som"):
        np.testing.assert_allclose(fast.history_[loss], slow.history_[loss], rtol=0.03)
    np.testing.assert_allclose(fast.transform(single), slow.transform(single), atol=0.05)


# ---------------------------------------------------------------- models that differ in a stack


class ShrinkingNetwork(PlainNetwork):
    def __init__(self, config, d, generator):
        super().__init__(config, d, generator)
        self.register_buffer("weight", hyperparameter(config.weight), persistent=False)

    def losses(self, x):
        z = self.encode(x)
        error = (self.decode(z) - x).square().mean((-2, -1))
        return {"loss": error + self.weight * z.square().mean((-2, -1))}


class Shrinking(Autoencoder):
    """An autoencoder with a penalty on large codes, whose weight may differ."""

    _may_differ = ("weight",)

    def __init__(self, weight=0.0, n_iter=60, random_state=None, device="cpu"):
        super().__init__((9,), 2, n_iter=n_iter, batch_size=25, random_state=random_state)
        self.weight, self.device = weight, device

    def _build(self, d, generator):
        return ShrinkingNetwork(self, d, generator)


def test_settings_of_an_ensemble_give_the_results_of_single_models():
    settings = [{"weight": 0.0}, {"weight": 3.0}, {"weight": 3.0}]
    together = fit_seeds(Shrinking(), X, [0, 0, 1], settings=settings)
    for setting, seed, model in zip(settings, [0, 0, 1], together, strict=True):
        assert (model.weight, model.random_state) == (setting["weight"], seed)
        assert_same(model, Shrinking(**setting, random_state=seed).fit(X), atol=1e-9)
    free, small, _ = (abs(model.transform(X)).mean() for model in together)
    assert small < 0.8 * free


@pytest.mark.parametrize("model", [Autoencoder((9,), 2), VAE(hidden=(9,)), SOAE(hidden=(9,))])
def test_learning_rates_of_an_ensemble_give_the_results_of_single_models(tmp_path, model):
    model.set_params(n_iter=110, batch_size=25, device="cpu")
    rates, seeds, file = (0.03, 0.001, 0.004), [0, 0, 1], tmp_path / "rates.checkpoint"
    settings = [{"learning_rate": rate} for rate in rates]

    def stop(i, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_seeds(model, X, seeds, settings=settings, checkpoint=file, callbacks=[stop])
    together = fit_seeds(model, X, seeds, settings=settings, checkpoint=file)
    for rate, seed, one in zip(rates, seeds, together, strict=True):
        alone = clone(model).set_params(learning_rate=rate, random_state=seed)
        assert_same(one, alone.fit(X), atol=1e-9)
    fast, slow, _ = (one.history_["loss"][-10:].mean() for one in together)
    assert fast < slow


def test_a_bad_learning_rate_among_others_is_named():
    settings = [{"learning_rate": rate} for rate in (1e-3, -1.0)]
    model = autoencoder()
    with pytest.raises(ValueError, match=r"learning_rate=-1.0 must be a positive number"):
        fit_seeds(model, X, [0, 1], settings=settings)


def test_a_learning_rate_that_is_too_large_is_named():
    settings = [{"learning_rate": rate} for rate in (1e-3, 1e30)]
    model = autoencoder()
    with pytest.raises(FloatingPointError, match=r"lower learning_rate=1e\+30"):
        fit_seeds(model, X, [0, 1], settings=settings)


def test_a_checkpoint_depends_on_the_settings_of_the_ensemble(tmp_path):
    file = tmp_path / "stack.checkpoint"
    with pytest.raises(KeyboardInterrupt), interrupted_at(Shrinking(), 55):
        fit_seeds(Shrinking(), X, [0, 1], settings=[{"weight": 1.0}, {}], checkpoint=file)
    with pytest.raises(ValueError, match="other data, parameters"):
        fit_seeds(Shrinking(), X, [0, 1], settings=[{"weight": 2.0}, {}], checkpoint=file)


def test_invalid_settings_raise_errors():
    with pytest.raises(ValueError, match=r"settings has 1 dicts for 2 seeds; give one for each"):
        fit_seeds(Shrinking(), X, [0, 1], settings=[{}])
    message = r"'n_iter' cannot differ within an ensemble of Shrinking; these can: \['weight'\]"
    with pytest.raises(ValueError, match=message):
        fit_seeds(Shrinking(), X, [0, 1], settings=[{}, {"n_iter": 3}])


# ---------------------------------------------------------------- loading


def test_buffers_take_the_shape_that_was_saved_and_parameters_keep_theirs():
    def stack(room):
        module = torch.nn.Module()
        module.inner = torch.nn.Linear(2, 3)
        module.inner.register_buffer("places", None if room is None else torch.zeros(room))
        return module

    saved = {name: value + 1 for name, value in stack(5).state_dict().items()}
    for room in (None, 2, 5):
        module = stack(room)
        load_state(module, saved)
        for name, value in saved.items():
            torch.testing.assert_close(module.state_dict()[name], value)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_state(stack(5), saved | {"inner.weight": torch.zeros(3, 4)})
