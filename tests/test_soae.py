"""SOAE against a literal transcription of algorithm 2, closed forms, and its interface."""

import math
import signal
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import in_words
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import somlib
from somlib import soae as soae_module
from somlib.models.autoencoders import Autoencoder
from somlib.models.soae import SOAE, SOAENetwork, distance, gradient_norms, importance, train_soae
from somlib.models.som import SOM
from somlib.spaces import Euclidean, Grid, Sphere, Torus
from somlib.training import estimator, fit_seeds, loop
from somlib.training.adam import Adam
from somlib.training.network import NoiseSource, stacked

rng = np.random.default_rng(42)
X = rng.random((53, 9))
SPACES = {"plane": Euclidean(2), "torus": Torus(2), "sphere": Sphere(3)}
HISTORY = ("loss", "sleep", "wake", "sigma")


def three_halves(x, y):
    """A user's distance: between l1 and l2."""
    return ((x - y).abs() ** 1.5).sum(-1)


DISTANCES = {"l2": "l2", "l1": "l1", "callable": three_halves}


def soae(n_iter=12, **params):
    small = {"hidden": (8, 6), "batch_size": 12, "sigma": (1.5, 0.2), "learning_rate": 0.01}
    return SOAE(n_iter=n_iter, **small | params)


def assert_same(one, other, atol=0.0):
    assert one.parameters_.keys() == other.parameters_.keys()
    assert one.history_.keys() == other.history_.keys()
    for name, value in (one.parameters_ | one.history_).items():
        theirs = (other.parameters_ | other.history_)[name]
        np.testing.assert_allclose(theirs, value, rtol=0, atol=atol, err_msg=name)


# ---------------------------------------------------------------- algorithm 2, literally


def through(weights, part, h):
    """Return a network's output for each row, layer by layer."""
    depth = sum(name.startswith(part) and name.endswith("weight") for name in weights)
    for layer in range(depth):
        W, b = (weights[f"{part}.layers.{layer}.{kind}"] for kind in ("weight", "bias"))
        h = h @ W + b[0]
        if layer < depth - 1:
            h = torch.relu(h)
    return h


def literal_code(space, raw):
    if isinstance(space, Torus):
        return torch.atan2(raw[:, space.m :], raw[:, : space.m])
    return raw / raw.norm(dim=1, keepdim=True) if isinstance(space, Sphere) else raw


def literal_embedding(space, z):
    if isinstance(space, Torus):
        return torch.cat([torch.cos(z), torch.sin(z)], 1)  # equation 10
    return z / z.norm(dim=1, keepdim=True) if isinstance(space, Sphere) else z  # equation 11


def literal_neighbor(space, z, sigma, normals, kind):
    """Return z ~ h(C(x), ·): displaced by normals, or by a normal length in their direction."""
    arrow, radius = normals[:, : space.m], normals[:, space.m :].abs()
    if isinstance(space, Sphere):  # what is left of it in the tangent plane
        arrow = arrow - (arrow * z).sum(1, keepdim=True) * z
    norm = arrow.norm(dim=1, keepdim=True)
    length = sigma * (radius if kind == "radius" else norm)
    if isinstance(space, Sphere):
        return torch.cos(length) * z + torch.sin(length) * arrow / norm
    return z + length * arrow / norm


def literal_distance(kind, x, y):
    if kind == "l2":
        return ((x - y) ** 2).sum(1)
    return (x - y).abs().sum(1) if kind == "l1" else kind(x, y)


def literal_losses(weights, model, x, sigma=None, normals=None):
    """Return d(x, G(C(x))) of each sample, or with a σ d(x, G(z)), z being a neighbor of C(x)."""
    z = literal_code(model.space, through(weights, "encoder", x))
    if sigma is not None:
        if model.training == "wake-sleep":
            z = z.detach()
        z = literal_neighbor(model.space, z, sigma, normals, model.neighborhood)
    drawn = through(weights, "decoder", literal_embedding(model.space, z))
    return literal_distance(model.distance, x, drawn)


def literal_rows(model, seed, i, last_seen):
    """Return the samples of iteration i and their weights."""
    n, count = len(X), model.encoder_steps * model.batch_size
    if model.importance_sampling:
        p = 0.9 * last_seen / last_seen.sum() + 0.1 / n
        uniform = np.random.default_rng([seed, 3, i // 64]).random((64, count))[i % 64]
        up_to = np.cumsum(p)
        rows = np.array([next(k for k in range(n) if u < up_to[k]) for u in uniform])
        return rows, 1 / (n * p[rows])
    epoch, turn = divmod(i, math.ceil(n / count))
    order = np.random.default_rng([seed, 1, epoch]).permutation(n)
    rows = (order if model.shuffle else np.arange(n))[turn * count : (turn + 1) * count]
    return rows, np.ones(len(rows))


def literal_training(first, model, seed):
    """Train as algorithm 2 says; return weights, history and the losses when last seen."""
    weights = {k: torch.from_numpy(v.copy()).requires_grad_(True) for k, v in first.items()}
    parts = {p: [v for k, v in weights.items() if k.startswith(p)] for p in ("encoder", "decoder")}
    parts["both"] = parts["encoder"] + parts["decoder"]
    adams = {k: torch.optim.Adam(v, model.learning_rate, eps=1e-7) for k, v in parts.items()}

    def learn(part, loss):
        gradients = torch.autograd.grad(loss, parts[part])
        for value, gradient in zip(parts[part], gradients, strict=True):
            value.grad = gradient
        adams[part].step()
        return loss.item()

    B, T2, m = model.batch_size, model.decoder_steps, model.space.m
    last_seen = literal_losses(weights, model, torch.from_numpy(X)).detach().numpy()
    history = []
    start, end = model.sigma
    for i in range(model.n_iter):
        sigma = start * (end / start) ** (i / (model.n_iter - 1))
        normals = torch.from_numpy(
            np.random.default_rng([seed, 2, i // 64]).standard_normal((64, T2, B, m + 1))[i % 64]
        )
        rows, w = literal_rows(model, seed, i, last_seen)
        x, w = torch.from_numpy(X[rows]), torch.from_numpy(w)
        if model.training == "joint":
            d = literal_losses(weights, model, x, sigma, normals[0, : len(x)])
            L = learn("both", (w * d).mean())
            history.append([L, L, sigma])
            continue
        for t1 in range(0, len(x), B):  # each step a new batch; the rest of an epoch has fewer
            batch = slice(t1, t1 + B)
            d = literal_losses(weights, model, x[batch])
            last_seen[rows[batch]] = d.detach().numpy()
            sleep = learn("encoder", (w[batch] * d).mean())
        for t2 in range(T2):  # the last of these batches, new codes
            d = literal_losses(weights, model, x[batch], sigma, normals[t2, : len(x[batch])])
            wake = learn("decoder", (w[batch] * d).mean())
        history.append([wake, sleep, wake, sigma])
    return {k: v.detach().numpy() for k, v in weights.items()}, np.array(history).T, last_seen


def stack_of(model, x, seeds, sigma=1.0):
    """Return the initialized network of some seeds, and the arguments of its first iteration."""
    networks = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        networks.append(model._build(x.shape[1], generator).double())
        with torch.no_grad():
            networks[-1].initialize(x, generator)
    network = stacked(networks)
    noise = NoiseSource(network.noise(model.batch_size), seeds, x)
    return network, {"sigma": torch.tensor(sigma, dtype=torch.float64), **noise(0)}


class Recorded(SOAE):
    """Keeps the first weights of its networks, and the network that is trained."""

    first: list
    network: SOAENetwork

    def _build(self, d, generator):
        return RecordedNetwork(self, d, generator)


class RecordedNetwork(SOAENetwork):
    def initialize(self, X, generator):
        super().initialize(X, generator)
        Recorded.first.append({k: v.detach().clone().numpy() for k, v in self.named_parameters()})

    def updates(self, *args, **arguments):
        Recorded.network = self
        return super().updates(*args, **arguments)


def assert_literal(model, seeds=(1, 5)):
    Recorded.first = []
    model = Recorded(**model.get_params())
    names = ("loss", "wake", "sigma") if model.training == "joint" else HISTORY
    for s, ours in enumerate(fit_seeds(model, X, seeds)):
        first = Recorded.first[s]
        weights, history, last_seen = literal_training(first, model, seeds[s])
        assert weights.keys() == ours.parameters_.keys()
        for name, value in weights.items():
            np.testing.assert_allclose(ours.parameters_[name], value, rtol=0, atol=1e-12)
            assert np.abs(value - first[name]).max() > 1e-3, name
        assert tuple(ours.history_) == names
        for name, values in zip(names, history, strict=True):
            np.testing.assert_allclose(ours.history_[name], values, rtol=1e-12)
        if model.importance_sampling:
            np.testing.assert_allclose(Recorded.network.last_seen[s], last_seen, rtol=1e-11)


@pytest.mark.parametrize("steps", [(1, 1), (3, 2)], ids=["one step each", "three and two"])
@pytest.mark.parametrize("kind", DISTANCES)
@pytest.mark.parametrize("neighborhood", ["radius", "gaussian"])
@pytest.mark.parametrize("space", SPACES)
def test_training_is_algorithm_2(space, neighborhood, kind, steps):
    T1, T2 = steps
    assert len(X) % (12 * T1) in (5, 17)  # an epoch ends with a smaller batch
    assert_literal(
        soae(
            4, space=SPACES[space], neighborhood=neighborhood, distance=DISTANCES[kind],
            encoder_steps=T1, decoder_steps=T2,
        )
    )  # fmt: skip


@pytest.mark.parametrize("params", [
    {"shuffle": False},
    {"importance_sampling": True},
    {"importance_sampling": True, "encoder_steps": 3, "decoder_steps": 2, "distance": "l1"},
    {"training": "joint"},
    {"training": "joint", "space": Sphere(3), "neighborhood": "gaussian"},
    {"training": "joint", "space": Euclidean(3), "distance": "l1", "shuffle": False},
    {"space": Torus(1), "hidden": ()},
    {"space": Sphere(2), "hidden": (7, 9, 8)},
], ids=str)  # fmt: skip
def test_so_are_its_variants(params):
    assert_literal(soae(6, **params))


@pytest.mark.parametrize(("space", "code"), [(Torus(2), [0, 0]), (Sphere(3), [1, 0, 0])])
def test_where_the_encoder_gives_zeros_there_is_a_code_but_no_gradient(space, code):
    raw = torch.zeros(1, space.n_embedded, dtype=torch.float64, requires_grad=True)
    z = space.project(raw)
    assert z.tolist() == [code]
    (gradient,) = torch.autograd.grad((z * torch.arange(1.0, space.m + 1)).sum(), raw)
    assert gradient.tolist() == [[0] * space.n_embedded]


def test_a_long_training_too():
    assert_literal(soae(70, learning_rate=1e-3))  # beyond one block of its noise


@pytest.mark.parametrize(("params", "n"), [
    ({}, 53),  # the last batch of an epoch has 5 samples
    ({"space": Sphere(3), "neighborhood": "gaussian"}, 53),
    ({"space": Euclidean(2), "distance": "l1", "decoder_steps": 3}, 53),
    ({"encoder_steps": 2, "decoder_steps": 2, "batch_size": 9}, 53),  # 8 samples
    ({"encoder_steps": 3, "distance": three_halves}, 36),
    ({"architecture": "conv", "image_shape": (3, 3), "learning_rate": 0.003}, 53),
], ids=in_words)  # fmt: skip
def test_fit_equals_algorithm_2_as_the_paper_states_it(params, n):
    model, x = soae(70, shuffle=False, random_state=4, **params), torch.from_numpy(X[:n])
    network = model._build(9, torch.Generator().manual_seed(4)).double()
    noise = NoiseSource(network.noise(model.batch_size), [4], x)
    normals = torch.stack([noise(t)["normals"] for t in range(model.n_iter)])
    train_soae(network, x, normals, model.batch_size)
    ours = model.fit(X[:n]).parameters_
    assert ours.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        np.testing.assert_allclose(ours[name], value, rtol=0, atol=1e-9, err_msg=name)


def test_sleep_steps_update_the_encoder_only_and_wake_steps_the_decoder(monkeypatch):
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
        seen.append((before, state(adam)))

    monkeypatch.setattr(Adam, "step", watch)
    model = soae(4, encoder_steps=2, decoder_steps=3)
    fit_seeds(model, X[:48], [0, 1])
    names = [name for name, _ in model._build(9, torch.Generator()).named_parameters()]
    iteration = ["encoder", "encoder", "decoder", "decoder", "decoder"]
    assert len(seen) == 4 * len(iteration)
    for (before, after), part in zip(seen, 4 * iteration, strict=True):
        for name, old, new in zip(names, before, after, strict=True):
            same = len(old) == len(new) and all(map(torch.equal, old, new))
            assert same == (not name.startswith(part))
    steps = {name: int(new[1]) for name, new in zip(names, seen[-1][1], strict=True)}
    assert steps == {name: 8 if name.startswith("encoder") else 12 for name in names}


@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize(("training", "index", "reached"), [
    ("wake-sleep", 0, {"encoder", "decoder"}),  # (5): the update leaves out G
    ("wake-sleep", 1, {"decoder"}),  # (9)
    ("joint", 0, {"encoder", "decoder"}),
])  # fmt: skip
def test_each_loss_has_gradients_for_its_networks(training, index, reached, architecture):
    model = soae(training=training, architecture=architecture, image_shape=(3, 3))
    x = torch.from_numpy(X)
    network, arguments = stack_of(model, x, (0, 1))
    losses, taught = list(network.updates(x[:12], torch.arange(12), **arguments))[index]
    assert losses["loss"].shape == (2,)
    found = torch.autograd.grad(losses["loss"].sum(), network.parameters(), allow_unused=True)
    named = zip(network.named_parameters(), found, strict=True)
    assert {n.split(".")[0] for (n, _), g in named if g is not None and g.any()} == reached
    expected = {("wake-sleep", 0): network.encoder, ("wake-sleep", 1): network.decoder}
    modules = expected.get((training, index), network)
    assert list(map(id, taught)) == list(map(id, modules.parameters()))


# ---------------------------------------------------------------- the deep version is SOM

GRIDS = [
    Grid(3, 5),
    Grid(5, 3, "hex"),
    Grid(4, 6, "hex", wrap=True),
    Grid(3, 7, wrap=(False, True)),
    Grid(1, 8),
]


def table_of(prototypes):
    """Return G(z) = m_z as a linear layer on one-hot rows."""
    table = torch.nn.Linear(len(prototypes), prototypes.shape[1], bias=False)
    table.weight.data = torch.from_numpy(prototypes.T.copy())
    return table


def one_step(table, grid, x, sigma, alpha):
    """Take one step of SGD on equation 7 over a finite space, C(x) being the exact arg-min."""
    z = torch.from_numpy(grid.coords)
    drawn = table(grid.embed(z))
    c = grid.project(-distance(x, drawn))
    h = grid.log_density(z, c, sigma).exp()
    assert h.sum().item() == pytest.approx(1)  # equation 6
    peak = grid.log_density(c, c, sigma).exp().item()  # where the SOM's kernel is 1
    sgd = torch.optim.SGD([table.weight], lr=alpha / peak)
    (h * distance(x, drawn)).sum().div(2).backward()
    sgd.step()
    sgd.zero_grad()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_with_a_finite_grid_a_table_and_an_exact_arg_min_one_step_is_the_soms(grid):
    m = rng.random((grid.n_units, 9))
    for x, sigma, alpha in zip(X, (0.3, 1.0, 2.5), (0.5, 0.1, 0.01), strict=False):
        table = table_of(m)
        one_step(table, grid, torch.from_numpy(x), sigma, alpha)
        c = min(range(grid.n_units), key=lambda i: ((x - m[i]) ** 2).sum())  # equation 1
        literal = [
            m[i] + alpha * math.exp(-(grid.distances[c, i] ** 2) / (2 * sigma**2)) * (x - m[i])
            for i in range(grid.n_units)
        ]
        np.testing.assert_allclose(table.weight.detach().T, literal, rtol=0, atol=1e-14)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_and_so_is_a_whole_training(grid):
    sigmas, alphas = np.geomspace(2, 0.4, len(X)), np.geomspace(0.5, 0.02, len(X))
    first = rng.random((grid.n_units, 9))
    som = SOM(
        grid, "online", n_epochs=1, sigma=(2, 0.4), learning_rate=(0.5, 0.02), init=first,
        shuffle=False,
    ).fit(X)  # fmt: skip
    table = table_of(first)
    for x, sigma, alpha in zip(torch.from_numpy(X), sigmas, alphas, strict=True):
        one_step(table, grid, x, float(sigma), alpha)
    np.testing.assert_allclose(table.weight.detach().T, som.weights_, rtol=0, atol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_mean_of_sampled_steps_goes_to_the_kernel_weighted_one(grid):
    m, x, sigma = rng.random((grid.n_units, 9)), torch.from_numpy(X[0]), 1.2
    table = table_of(m)
    c = grid.project(-distance(x, torch.from_numpy(m)))
    p = grid.log_density(torch.from_numpy(grid.coords), c, sigma).exp().numpy()
    exact = p[:, None] * (m - X[0])  # the gradient of equation 8, halved as equation 4 is
    for n in (100, 2_000, 40_000):
        z = grid.perturb(c.expand(n, 2), sigma, np.random.default_rng(n))
        (gradient,) = torch.autograd.grad(
            distance(x, table(grid.embed(z))).mean() / 2, table.weight
        )
        error = np.linalg.norm(gradient.numpy().T - exact)
        expected = ((p * (1 - p))[:, None] * (m - X[0]) ** 2).sum() / n
        assert error < 2.5 * expected**0.5
    assert error < 0.03 * np.linalg.norm(exact)


# ---------------------------------------------------------------- what the decoder learns


def cell_of(space, z, n=12):
    """Return the number of the piece of the latent space that each code lies in."""
    reach = np.pi if isinstance(space, Torus) else 2.0
    at = np.floor((np.asarray(z) + reach) / (2 * reach) * n).clip(0, n - 1).astype(int)
    return at @ (n ** np.arange(space.m))


class Known(torch.nn.Module):
    """A fixed encoder of plane data: x itself is the code, or the pair whose angle is."""

    def forward(self, x):
        return x


class Pieces(torch.nn.Module):
    """A decoder without constraints: one output for each piece of the latent space."""

    def __init__(self, space):
        super().__init__()
        self.space, self.table = space, torch.nn.Parameter(torch.zeros(12**space.m, 2))

    def forward(self, embedded):
        z = self.space.project(embedded.detach())
        return self.table[cell_of(self.space, z)]


class Awake(SOAE):
    """Only the decoder learns; its mean over the last half of the training is kept."""

    mean: np.ndarray

    def _build(self, d, generator):
        return AwakeNetwork(self, d, generator)


class AwakeNetwork(SOAENetwork):
    def __init__(self, config, n_features, generator):
        super().__init__(config, n_features, generator)
        self.encoder, self.decoder = Known(), Pieces(self.space)

    def initialize(self, X, generator):
        Awake.mean, self.done = 0.0, 0

    def updates(self, *args, **arguments):
        for losses, taught in super().updates(*args, **arguments):
            if "wake" in losses:
                yield losses, taught
        self.done += 1
        first = self.config.n_iter // 2
        if self.done > first:
            share = 1 / (self.done - first)
            Awake.mean = (1 - share) * Awake.mean + share * self.decoder.table.detach()


def skewed_plane(n):
    """Return plane data that lie denser inside and to one side, so that mean and median differ."""
    some = np.random.default_rng(3)
    angle = some.vonmises(0.6, 0.8, n)
    radius = 0.1 + some.exponential(0.7, n)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def around(space, code, sigma):
    """Return codes around a code, as (n, m), and the volume that each stands for."""
    reach = 6 * sigma  # beyond lies nothing
    if isinstance(space, Torus):
        z = np.linspace(-np.pi, np.pi, 3000, endpoint=False)[:, None]
        return z, np.full(len(z), 2 * np.pi / len(z))
    r, angle = (np.arange(60) + 0.5) / 60 * reach, np.arange(48) / 48 * 2 * np.pi
    ways = r[:, None, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return code + ways.reshape(-1, 2), np.repeat(r * reach / 60 * 2 * np.pi / 48, 48)


def closed_form(space, points, sigma, kind, neighborhood):
    """Return the minimizer of equation 7 on each piece, and the kernel's weight that it has.

    The weight h of each sample in each piece is a quadrature; then G is Σ h x / Σ h, or the value
    on either side of which lies half of Σ h.
    """
    codes = np.arctan2(points[:, 1:], points[:, :1]) if isinstance(space, Torus) else points
    h = np.empty((len(points), 12**space.m))
    for row, code in zip(h, codes, strict=True):
        z, volume = around(space, code, sigma)
        density = np.exp(space.log_density(z, code, sigma, neighborhood))
        row[:] = np.bincount(cell_of(space, z), density * volume, len(row))
    np.testing.assert_allclose(h.sum(1), 1, atol=1e-3)  # equation 6
    weight = h.sum(0)
    if kind == "l2":
        return h.T @ points / weight[:, None].clip(min=1e-9), weight
    G = np.empty((len(weight), 2))
    for j in range(2):
        order = points[:, j].argsort()
        half = h[order].cumsum(0) >= weight / 2
        G[:, j] = points[order[half.argmax(0)], j]
    return G, weight


def error_of(space, sigma, kind, neighborhood, n_iter=350):
    """Return how far, on average over where it is asked, a trained decoder is from each form."""
    points = skewed_plane(250)
    points = points[(np.abs(points) < 1.9).all(1)]
    model = Awake(
        space, sigma=(sigma, sigma), decay="constant", distance=kind, neighborhood=neighborhood,
        n_iter=n_iter, batch_size=len(points), learning_rate=0.02, random_state=0, shuffle=False,
    ).fit(points)  # fmt: skip
    assert model.transform(points).shape == (len(points), space.m)
    errors = {}
    for form in ("l2", "l1"):
        G, weight = closed_form(space, points, sigma, form, neighborhood)
        often = weight > 0.5  # in every second iteration at least
        apart = np.abs(np.asarray(Awake.mean) - G).mean(1)
        errors[form] = np.average(apart[often], weights=weight[often])
        assert weight[often].sum() > 0.9 * len(points)
    return errors


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.4, 0.8, 1.6])
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_the_decoder_learns_the_kernel_weighted_mean_or_median(kind, sigma):
    other = {"l2": "l1", "l1": "l2"}[kind]
    errors = error_of(Torus(1), sigma, kind, "gaussian")
    assert errors[kind] < 0.015
    assert errors[other] > 0.04


@pytest.mark.parametrize("neighborhood", ["gaussian", "radius"])
@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_in_the_plane_too_with_either_kernel(kind, neighborhood):
    assert error_of(Euclidean(2), 0.6, kind, neighborhood, 300)[kind] < 0.03


# ---------------------------------------------------------------- d


@pytest.mark.parametrize("S", [1, 3])
@pytest.mark.parametrize("kind", DISTANCES)
def test_a_distance_is_a_sum_over_features(kind, S):
    x, y = torch.from_numpy(X[:5]), torch.from_numpy(rng.random((S, 5, 9)))
    power = {"l2": 2, "l1": 1, "callable": 1.5}[kind]
    literal = [
        [sum(abs(y[s, i, j] - x[i, j]).item() ** power for j in range(9)) for i in range(5)]
        for s in range(S)
    ]
    np.testing.assert_allclose(distance(x, y, DISTANCES[kind]), literal, rtol=1e-13)
    each = distance(x.expand(S, 5, 9).flip(1), y, DISTANCES[kind])  # samples of each seed's own
    np.testing.assert_allclose(each, distance(x.flip(0), y, DISTANCES[kind]), rtol=1e-13)


def test_a_callable_sees_pairs_of_samples_whatever_the_seeds():
    def seen(x, y):
        assert x.shape == y.shape == (24, 9)
        return (x - y).square().sum(1)

    models = fit_seeds(soae(3, distance=seen, shuffle=False, batch_size=12), X[:24], [0, 1])
    for ours, theirs in zip(models, fit_seeds(soae(3, shuffle=False), X[:24], [0, 1]), strict=True):
        assert_same(ours, theirs, atol=1e-12)


@pytest.mark.parametrize(("kind", "message"), [
    (lambda x, y: (x - y).sum(), r"returned \(\) for 12 pairs of samples; it must return a tensor "
                                 r"of shape \(12,\), one distance for each row"),
    (lambda x, y: x - y, r"returned \(12, 9\) for 12 pairs of samples"),
    (lambda x, y: (x - y).square().sum(1, keepdim=True), r"returned \(12, 1\) for 12 pairs"),
    (lambda x, y: 0.0, "returned a float for 12 pairs of samples"),
    (lambda x, y: (x - y).detach().numpy().sum(1), "returned a ndarray for 12 pairs"),
    (lambda x, y: -(x - y).square().sum(1), "returned the negative number -.*; a distance must "
                                            "be at least 0, with its minimum where the two"),
])  # fmt: skip
@pytest.mark.parametrize("importance_sampling", [False, True])
def test_an_invalid_distance_raises_an_error(kind, message, importance_sampling):
    if importance_sampling:
        message = message.replace("12", "53")  # all are looked at before the first step
    model = soae(distance=kind, importance_sampling=importance_sampling)
    with pytest.raises(ValueError, match=f"^distance=<function .* {message}"):
        model.fit(X)


def test_an_invalid_distance_keeps_an_earlier_fit():
    model = soae(random_state=0).fit(X)
    before = clone(model).fit(X)
    with pytest.raises(ValueError, match="negative"):
        model.set_params(distance=lambda x, y: -(x - y).square().sum(1)).fit(X)
    assert_same(model, before)
    fresh = soae(distance=lambda x, y: (x - y).sum())
    with pytest.raises(ValueError, match="pairs of samples"):
        fresh.fit(X)
    assert not hasattr(fresh, "parameters_")


# ---------------------------------------------------------------- importance sampling


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30))
def test_probabilities_follow_the_losses_and_no_weight_exceeds_ten(losses):
    last_seen = torch.tensor([losses], dtype=torch.float64)
    p = importance(last_seen)[0]
    assert p.sum().item() == pytest.approx(1)
    assert (1 / (len(losses) * p)).max() <= 10 + 1e-9
    if sum(losses) > 1e-6:
        literal = [0.9 * loss / sum(losses) + 0.1 / len(losses) for loss in losses]
        np.testing.assert_allclose(p, literal, rtol=1e-12)


def drawn(network, x, u):
    """Return the rows that the uniform numbers u lead to."""
    network.weight = torch.ones(())
    with torch.no_grad():
        return network.prepare(x, 0, uniform=u.double())


def test_samples_come_with_their_probability():
    model, x = soae(importance_sampling=True), torch.from_numpy(X[:7])
    network, _ = stack_of(model, x, (4, 9))
    with torch.no_grad():
        np.testing.assert_allclose(network.last_seen, network.sleep(x))
    network.last_seen[0, 2] = 0.0  # still seen now and then
    network.last_seen[1, 5] = 50.0
    n = 10_000
    u = ((torch.arange(n) + 0.5) / n).expand(2, n)  # every number between 0 and 1 as often
    rows = drawn(network, x, u)
    assert rows.shape == network.weight.shape == (2, n)
    for s in range(2):
        d = network.last_seen[s]
        p = (0.9 * d / d.sum() + 0.1 / 7).numpy()
        found = np.bincount(rows[s], minlength=7) / n
        np.testing.assert_allclose(found, p, atol=2 / n)
        np.testing.assert_allclose(network.weight[s], 1 / (7 * p[rows[s]]), rtol=1e-12)
    assert drawn(network, x, torch.tensor([[1.0], [1.0 - 1e-16]])).max() == 6


@pytest.mark.parametrize(("training", "encoder_steps", "space"), [
    ("wake-sleep", 1, "plane"),
    ("wake-sleep", 1, "sphere"),
    ("wake-sleep", 2, "torus"),
    ("joint", 1, "torus"),
])  # fmt: skip
def test_weights_make_loss_and_gradient_right_on_average(training, encoder_steps, space):
    x = torch.from_numpy(X[:3])
    model = soae(
        space=SPACES[space], importance_sampling=True, training=training, batch_size=2,
        encoder_steps=encoder_steps,
    )  # fmt: skip
    network, arguments = stack_of(model, x, [4], sigma=0.7)
    network.last_seen = torch.tensor([0.3, 2.0, 0.0], dtype=torch.float64)
    p = importance(network.last_seen)
    assert p.max() > 10 * p.min()
    middle = p.cumsum(0) - p / 2  # the uniform number in the middle of each sample's

    def measured(rows):
        """Return loss and gradient of each step in one row, nothing being moved."""
        before = network.last_seen.clone()
        found = []
        for losses, taught in network.updates(x[rows], rows, **arguments):
            gradients = torch.autograd.grad(losses["loss"].sum(), list(taught))
            found += [losses["loss"].detach()[None], *map(torch.flatten, gradients)]
        network.last_seen = before
        return torch.cat(found).numpy()

    count = 2 * encoder_steps
    expected = 0.0
    for outcome in np.ndindex(*[3] * count):  # every one, with its probability
        rows = drawn(network, x, middle[list(outcome)])
        assert tuple(rows.tolist()) == outcome
        expected += p[list(outcome)].prod().item() * measured(rows)
    # the mean over all samples: each at each position of the batch, for positions have their noise
    network.weight = torch.ones(count, dtype=torch.float64)
    mean = sum(measured(torch.full((count,), k)) for k in range(3)) / 3
    np.testing.assert_allclose(expected, mean, rtol=0, atol=1e-13)
    parameters = {part: sum(v.numel() for v in getattr(network, part).parameters())
                  for part in ("encoder", "decoder")}  # fmt: skip
    each = [parameters["encoder"]] * encoder_steps + [parameters["decoder"]]
    assert len(mean) == sum(1 + k for k in each) - (training == "joint")
    assert (mean != 0).mean() > 0.5


@pytest.mark.parametrize("training", ["wake-sleep", "joint"])
def test_a_loss_is_remembered_when_its_sample_is_seen(training):
    model, x = soae(importance_sampling=True, training=training), torch.from_numpy(X[:30])
    network, arguments = stack_of(model, x, (4, 9), sigma=0.5)
    with torch.no_grad():
        rows = network.prepare(x, 0, **arguments)
    network.last_seen[:] = -1
    losses = list(network.updates(x[rows], rows, **arguments))
    for s in range(2):
        seen = np.isin(np.arange(30), rows[s])
        assert 0 < seen.sum() < 30
        assert (network.last_seen[s, ~seen] == -1).all()
        assert (network.last_seen[s, seen] > 0).all()
        d = network.last_seen.gather(1, rows)[s]
        if training == "wake-sleep":
            np.testing.assert_allclose(
                (network.weight[s] * d).mean(), losses[0][0]["sleep"][s].item()
            )


def test_losses_when_last_seen_are_in_the_checkpoint_and_not_in_the_model(tmp_path):
    file, model = tmp_path / "one.checkpoint", soae(20, importance_sampling=True, random_state=0)
    with pytest.raises(KeyboardInterrupt), interrupted_at(8):
        model.fit(X, checkpoint=file)
    with np.load(file) as saved:
        assert saved["stack last_seen"].shape == (53,)
    parts = {name.split(".")[0] for name in model.parameters_}
    assert parts == {"encoder", "decoder"}
    assert model.parameters_.keys() == soae(1).fit(X).parameters_.keys()


def test_samples_with_large_losses_are_chosen_more_often(monkeypatch):
    hard = X.copy()
    hard[:5] *= 4
    rows_seen = []

    class Watching(SOAENetwork):
        def updates(self, x, rows, **arguments):
            assert torch.equal(x, torch.from_numpy(hard)[rows])
            rows_seen.append(rows.numpy().copy())
            return super().updates(x, rows, **arguments)

    monkeypatch.setattr(soae_module, "SOAENetwork", Watching)
    soae(100, importance_sampling=True, random_state=0).fit(hard)
    counts = np.bincount(np.concatenate(rows_seen, None), minlength=53)
    assert counts.min() > 0
    assert counts[:5].mean() > 4 * counts[5:].mean()


# ---------------------------------------------------------------- gradient norms


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("kind", DISTANCES)
@pytest.mark.parametrize("space", SPACES)
def test_gradient_norms_are_those_of_a_loop_over_samples(space, kind, part):
    model = soae(space=SPACES[space], distance=DISTANCES[kind], random_state=0).fit(X)
    weights = {k: torch.from_numpy(v).requires_grad_() for k, v in model.parameters_.items()}
    theirs = [v for k, v in weights.items() if k.startswith(part)]
    more = np.concatenate([X, rng.random((100, 9))])  # more than one block
    literal = []
    for x in torch.from_numpy(more):
        loss = literal_losses(weights, model, x[None]).sum()
        gradients = torch.autograd.grad(loss, theirs)
        literal.append(sum((g**2).sum().item() for g in gradients) ** 0.5)
    np.testing.assert_allclose(gradient_norms(model, more, part), literal, rtol=1e-10)


def test_gradient_norms_of_images_and_in_single_precision():
    model = soae(architecture="conv", hidden=(2, 3), random_state=0).fit(X.astype(np.float32))
    norms = gradient_norms(model, X)
    assert norms.dtype == np.float32
    alone = [gradient_norms(model, X[i : i + 1])[0] for i in range(len(X))]
    np.testing.assert_allclose(norms, alone, rtol=1e-4)
    assert np.isfinite(norms).all()
    assert norms.std() > 0


def test_invalid_arguments_of_gradient_norms_raise_errors():
    with pytest.raises(NotFittedError, match="SOAE instance is not fitted yet"):
        gradient_norms(SOAE(), X)
    model = soae(2).fit(X)
    with pytest.raises(ValueError, match="X has 8 features, but SOAE is expecting 9"):
        gradient_norms(model, X[:, 1:])
    with pytest.raises(
        ValueError, match=r"part='both' is unknown; choose one of \['encoder', 'decoder'\]"
    ):
        gradient_norms(model, X, "both")


# ---------------------------------------------------------------- seeds, interrupts, checkpoints

CONV = {"architecture": "conv", "image_shape": (3, 3)}
MODELS = {
    "torus": soae(55),
    "sphere in file order": soae(55, space=Sphere(3), shuffle=False),
    "plane, joint": soae(55, space=Euclidean(2), training="joint"),
    "importance": soae(55, importance_sampling=True),
    "importance on a sphere": soae(55, importance_sampling=True, space=Sphere(4), distance="l1"),
    "several steps": soae(55, encoder_steps=3, decoder_steps=2, neighborhood="gaussian"),
    "several steps, importance": soae(
        55, encoder_steps=2, decoder_steps=3, importance_sampling=True
    ),
    "convolutions": soae(20, **CONV),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_result_of_a_seed_is_independent_of_the_ensemble(name):
    model = MODELS[name]
    (alone,) = fit_seeds(model, X, [3])
    among = fit_seeds(model, X, range(4))
    assert_same(alone, among[3], atol=1e-9)
    assert_same(clone(model).set_params(random_state=3).fit(X), alone)
    assert len({m.parameters_[next(iter(m.parameters_))].tobytes() for m in among}) == 4


@pytest.mark.parametrize(
    "space", [Torus(2), Sphere(3), Euclidean(2)], ids=lambda space: type(space).__name__
)
@pytest.mark.parametrize("neighborhood", ["radius", "gaussian"])
def test_maps_of_a_stack_may_differ_in_the_width_of_their_kernel(tmp_path, space, neighborhood):
    model = soae(55, space=space, neighborhood=neighborhood)
    widths, file = [(1.5, 0.05), (0.4, 0.4), (1.5, 0.05)], tmp_path / "widths.checkpoint"
    settings = [{"sigma": sigma} for sigma in widths]
    with pytest.raises(KeyboardInterrupt), interrupted_at(52):
        fit_seeds(model, X, [3, 3, 4], settings=settings, checkpoint=file)
    together = fit_seeds(model, X, [3, 3, 4], settings=settings, checkpoint=file)
    for sigma, seed, one in zip(widths, [3, 3, 4], together, strict=True):
        alone = clone(model).set_params(sigma=sigma, random_state=seed).fit(X)
        assert_same(one, alone, atol=1e-9)
        np.testing.assert_array_equal(one.history_["sigma"], alone.history_["sigma"])
    with pytest.raises(ValueError, match=r"sigma=\(1, 0\)"):
        fit_seeds(model, X, [0, 1], settings=[{}, {"sigma": (1, 0)}])


@contextmanager
def interrupted_at(iteration, error=KeyboardInterrupt):
    """Raise before the steps of one iteration, counted from entering the `with`."""
    updates, calls = SOAENetwork.updates, iter(range(10**9))

    def break_off(self, *args, **arguments):
        if next(calls) == iteration:
            raise error
        return updates(self, *args, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SOAENetwork, "updates", break_off)
        yield


@pytest.mark.parametrize(("name", "iterations", "dtype"), [
    ("torus", [0, 1, 49, 50, 54], np.float64),
    ("torus", [33], np.float32),
    ("importance", [0, 50, 53], np.float64),
    ("importance", [33], np.float32),
    ("several steps, importance", [31], np.float64),
    ("sphere in file order", [52], np.float64),
    ("plane, joint", [20], np.float64),
    ("convolutions", [17], np.float32),
])  # fmt: skip
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, name, iterations, dtype):
    model, data = MODELS[name], X.astype(dtype)
    undisturbed = fit_seeds(model, data, [2, 5])
    for iteration in iterations:
        file = tmp_path / f"{iteration}.checkpoint"
        with pytest.raises(KeyboardInterrupt), interrupted_at(iteration):
            fit_seeds(model, data, [2, 5], checkpoint=file)
        resumed = fit_seeds(model, data, [2, 5], checkpoint=file)
        for one, other in zip(undisturbed, resumed, strict=True):
            assert_same(one, other)
            assert len(other.history_["loss"]) == other.n_iter_ == model.n_iter
            np.testing.assert_array_equal(one.transform(data), other.transform(data))
            assert one.space_ == other.space_


@pytest.mark.parametrize("importance_sampling", [False, True])
def test_a_killed_training_resumes_bit_for_bit(tmp_path, monkeypatch, importance_sampling):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(time, "monotonic", iter(range(10**6)).__next__)  # each look: a second later
    file, model = tmp_path / "one.checkpoint", soae(120, importance_sampling=importance_sampling)
    with pytest.raises(OSError, match="gone"), interrupted_at(110, OSError("gone")):
        fit_seeds(model, X, [2, 5], checkpoint=file)  # nothing is written at the end
    first = []
    resumed = fit_seeds(model, X, [2, 5], checkpoint=file, callbacks=[lambda i, _: first.append(i)])
    assert first[0] > 49  # it did not begin again
    for one, other in zip(fit_seeds(model, X, [2, 5]), resumed, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("importance_sampling", [False, True])
def test_ctrl_c_between_sleep_and_wake_waits_for_the_end_of_the_iteration(
    tmp_path, monkeypatch, importance_sampling
):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    file = tmp_path / "one.checkpoint"
    model = soae(70, importance_sampling=importance_sampling, random_state=1)
    undisturbed = clone(model).fit(X)
    wake, calls = SOAENetwork.wake, iter(range(10**6))

    def press(self, *args):
        if next(calls) == 60:
            signal.raise_signal(signal.SIGINT)
        return wake(self, *args)

    monkeypatch.setattr(SOAENetwork, "wake", press)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, checkpoint=file)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert model.n_iter_ == 61
    with np.load(file) as saved:
        steps = {int(saved[name]) for name in saved.files if name.endswith(" step")}
    assert steps == {61}
    assert_same(model.fit(X, checkpoint=file), undisturbed)


def test_same_seed_same_map_other_seed_another():
    one, same, other = (soae(random_state=seed).fit(X) for seed in (3, 3, 4))
    assert_same(one, same)
    np.testing.assert_array_equal(one.sample(4, 1), same.sample(4, 1))
    assert all((one.history_[name] != other.history_[name]).all() for name in ("sleep", "wake"))
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    soae(3, importance_sampling=True).fit(X).sample(3)
    assert torch.equal(torch.get_rng_state(), state[0])  # nothing global is drawn from
    assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002


def test_training_starts_from_a_plain_autoencoder():
    twin = Autoencoder(
        hidden=(8, 6), latent_dim=4, n_iter=20, batch_size=12, random_state=0
    ).fit(X)  # fmt: skip
    still = soae(1, learning_rate=1e-30, random_state=1).fit(X, start=twin)
    for name, value in twin.parameters_.items():
        np.testing.assert_allclose(still.parameters_[name], value, atol=1e-20)
    again = soae(1, learning_rate=1e-30).fit(X, start=still)
    assert again.parameters_.keys() == twin.parameters_.keys()


# ---------------------------------------------------------------- what it has learned


@pytest.fixture(scope="module", params=SPACES)
def fitted(request):
    return soae(80, space=SPACES[request.param], random_state=0).fit(X)


def literal_through(model, data):
    weights = {k: torch.from_numpy(v) for k, v in model.parameters_.items()}
    z = literal_code(model.space, through(weights, "encoder", torch.from_numpy(data)))
    return z.numpy(), through(weights, "decoder", literal_embedding(model.space, z)).numpy()


def test_transform_encodes_and_inverse_transform_decodes(fitted):
    z, decoded = literal_through(fitted, X)
    np.testing.assert_allclose(fitted.transform(X), z, atol=1e-13)
    np.testing.assert_allclose(fitted.inverse_transform(z), decoded, atol=1e-13)
    if isinstance(fitted.space, Torus):  # angles go round
        np.testing.assert_allclose(fitted.inverse_transform(z - 2 * np.pi), decoded, atol=1e-12)
    if isinstance(fitted.space, Sphere):  # and vectors have a direction only
        np.testing.assert_allclose(fitted.inverse_transform(3 * z), decoded, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
@pytest.mark.parametrize("space", SPACES)
def test_shapes_precision_and_range(space, architecture, dtype, monkeypatch):
    monkeypatch.setattr(soae_module, "ROWS_AT_ONCE", 20)
    monkeypatch.setattr(estimator, "ROWS_AT_ONCE", 20)
    model = soae(
        space=SPACES[space], architecture=architecture, image_shape=(3, 3), random_state=0,
        importance_sampling=True,
    ).fit(X.astype(dtype))  # fmt: skip
    m = model.space.m
    Z = model.transform(X)
    everything = {
        "codes": (Z, (53, m)),
        "decoded codes": (model.inverse_transform(Z), (53, 9)),
        "samples": (model.sample(7, random_state=0), (7, 9)),
        "one sample": (model.sample(), (1, 9)),
        "grid": (model.decode_grid(5), (5, 10 if space == "sphere" else 5, 9)),
        "geodesics": (model.interpolate(X[:3], X[3:6], 4), (3, 4, 9)),
    }
    for name, (array, shape) in everything.items():
        assert type(array) is np.ndarray, name
        assert (array.shape, array.dtype) == (shape, np.dtype(dtype)), name
        assert np.isfinite(array).all()
    assert {value.dtype for value in model.parameters_.values()} == {np.dtype(dtype)}
    assert type(model.score(X)) is float
    if space == "torus":
        assert (np.abs(Z) <= dtype(np.pi)).all()
        assert np.ptp(Z) > 1
    if space == "sphere":
        np.testing.assert_allclose(np.linalg.norm(Z, axis=1), 1, rtol=1e-6)
    assert (model.n_iter_, model.seed_) == (12, 0)
    assert tuple(model.history_) == HISTORY
    assert {len(values) for values in model.history_.values()} == {12}
    np.testing.assert_array_equal(model.history_["loss"], model.history_["wake"])
    np.testing.assert_allclose(model.history_["sigma"], np.geomspace(1.5, 0.2, 12), rtol=1e-6)


@pytest.mark.parametrize("kind", DISTANCES)
def test_its_score_is_minus_the_distance_per_feature(kind, monkeypatch):
    monkeypatch.setattr(estimator, "ROWS_AT_ONCE", 20)  # several blocks and a rest
    model = soae(distance=DISTANCES[kind], random_state=0).fit(X)
    again = model.inverse_transform(model.transform(X))
    power = {"l2": 2, "l1": 1, "callable": 1.5}[kind]
    assert model.score(X) == pytest.approx(-(np.abs(again - X) ** power).mean(), rel=1e-12)
    assert model.score(X[:1]) != pytest.approx(model.score(X))
    assert model.score(X, np.arange(53)) == model.score(X)


def test_samples_are_uniform_codes_decoded(fitted):
    samples = fitted.sample(6, random_state=5)
    codes = fitted.space_.sample(6, np.random.default_rng(5))
    np.testing.assert_array_equal(samples, fitted.inverse_transform(codes))
    np.testing.assert_array_equal(samples, fitted.sample(6, random_state=5))
    assert (samples != fitted.sample(6, random_state=6)).any()
    assert (fitted.sample(6) != fitted.sample(6)).any()


def test_the_plane_has_a_box_around_its_codes(monkeypatch):
    model = soae(80, space=Euclidean(2, low=-5, high=7), random_state=0).fit(X)
    codes = model.transform(X)
    np.testing.assert_array_equal(model.space_.low, codes.min(0))
    np.testing.assert_array_equal(model.space_.high, codes.max(0))
    assert model.space == Euclidean(2, low=-5, high=7)  # parameters stay as they are given
    assert soae(1).fit(X).space_ == Torus(2)
    monkeypatch.setattr(SOAE, "inverse_transform", lambda self, Z: Z)
    samples = model.sample(500, random_state=0)
    assert (samples >= codes.min(0)).all()
    assert (samples <= codes.max(0)).all()
    assert (np.ptp(samples, axis=0) > 0.95 * np.ptp(codes, axis=0)).all()
    corners = model.decode_grid(4)[[0, -1], [0, -1]]
    np.testing.assert_array_equal(corners, [codes.min(0), codes.max(0)])


def test_equal_codes_have_a_box_too():
    model = soae(3, space=Euclidean(1), hidden=()).fit(np.zeros((20, 9)))
    assert model.space_.low < model.space_.high
    assert np.isfinite(model.decode_grid(3)).all()


def test_a_decoded_grid_is_the_spaces_mesh_decoded(fitted):
    grid, mesh = fitted.decode_grid(6), fitted.space_.mesh(6)
    for row in range(6):
        for col in range(mesh.shape[1]):
            one = fitted.inverse_transform(mesh[row, col][None])[0]
            np.testing.assert_allclose(grid[row, col], one, atol=1e-13)
    assert fitted.decode_grid().shape[0] == 15


def test_interpolations_start_and_end_at_reconstructions(fitted):
    between = fitted.interpolate(X[:4], X[4:8], 5)
    for end, samples in ((0, X[:4]), (-1, X[4:8])):
        reconstructed = fitted.inverse_transform(fitted.transform(samples))
        np.testing.assert_allclose(between[:, end], reconstructed, atol=1e-12)
    assert fitted.interpolate(X[:2], X[2:4]).shape == (2, 10, 9)


def test_interpolations_follow_geodesics_in_even_steps(fitted, monkeypatch):
    space = fitted.space
    a, b = (space.sample(20, np.random.default_rng(seed)) for seed in (1, 2))
    monkeypatch.setattr(SOAE, "transform", lambda self, Z: Z)
    monkeypatch.setattr(SOAE, "inverse_transform", lambda self, Z: Z)
    codes = fitted.interpolate(a, b, 9)
    steps = space.distance(codes[:, :-1], codes[:, 1:])
    np.testing.assert_allclose(steps, np.tile(space.distance(a, b)[:, None] / 8, 8), atol=1e-9)
    if isinstance(space, Torus):  # from 3 to -3 is across π, not through 0
        (one,) = fitted.interpolate(np.array([[3.0, 0.0]]), np.array([[-3.0, 1.0]]), 5)
        assert (np.abs(one[:, 0]) >= 3 - 1e-12).all()
        np.testing.assert_allclose(one[:, 1], np.linspace(0, 1, 5), atol=1e-12)
    if isinstance(space, Sphere):
        np.testing.assert_allclose(np.linalg.norm(codes, axis=-1), 1)


def test_it_unfolds_a_ring():
    angle = np.random.default_rng(0).uniform(-np.pi, np.pi, 200)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) @ [[1, 2, 0, 1], [2, -1, 1, 0]]
    model = SOAE(
        Torus(1), (32,), n_iter=300, batch_size=100, learning_rate=5e-3, sigma=(1.5, 0.1)
    )  # fmt: skip
    for trained in fit_seeds(model, ring, range(3)):
        code = trained.transform(ring)[:, 0]
        once_round = [abs(np.exp(1j * (code - sign * angle)).mean()) for sign in (1, -1)]
        assert max(once_round) > 0.95  # in order, either way round
        assert -trained.score(ring) < 0.02 * ring.var(0).mean()


# ---------------------------------------------------------------- as a scikit-learn estimator


def test_as_a_scikit_learn_estimator():
    model = SOAE(Sphere(4), hidden=(6,), sigma=(1.0, 0.3), distance=three_halves)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(space=Torus(3)).space == Torus(3)
    assert clone(SOAE()).space == Torus(2)
    pipe = make_pipeline(MinMaxScaler(), soae(space=Sphere(3), random_state=0))
    pipe.fit(X)
    assert pipe.transform(X).shape == (53, 3)
    assert list(pipe.get_feature_names_out()) == ["soae0", "soae1", "soae2"]
    assert pipe.inverse_transform(pipe.transform(X)).shape == X.shape
    assert pipe.score(X) == pipe[-1].score(pipe[0].transform(X))
    for y in (None, np.arange(53), np.arange(3)):
        assert_same(soae(random_state=0).fit(X, y), soae(random_state=0).fit(X))


@pytest.mark.parametrize("params", [
    {"space": Torus(2)},
    {"space": Sphere(3), "distance": "l1", "hidden": [5]},
    {"space": Euclidean(2, low=(-1.0, 0.0), high=2.0), "importance_sampling": True},
    {"space": Torus(1), "random_state": 3, **CONV},
], ids=str)  # fmt: skip
def test_a_saved_map_is_loaded_unchanged(tmp_path, params):
    frame = pd.DataFrame(X, columns=list("abcdefghi"))
    model = soae(**params).fit(frame)
    model.save(tmp_path / "map.npz")
    back = SOAE.load(tmp_path / "map.npz")
    assert type(somlib.load(tmp_path / "map.npz")) is SOAE
    assert (back.space, back.space_) == (model.space, model.space_)
    assert str(back) == str(model)
    assert back.get_params() == model.get_params()
    assert_same(back, model)
    np.testing.assert_array_equal(back.transform(frame), model.transform(frame))
    np.testing.assert_array_equal(back.sample(5, 0), model.sample(5, 0))
    np.testing.assert_array_equal(back.decode_grid(3), model.decode_grid(3))
    assert back.score(frame) == model.score(frame)
    assert clone(back).fit(frame, start=back).n_iter_ == 12


def test_a_function_cannot_be_saved(tmp_path):
    model = soae(distance=three_halves).fit(X)
    message = "<function three_halves at .*> cannot be saved; only data, spaces and arrays"
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "map.npz")
    with pytest.raises(TypeError, match=message):
        model.fit(X, checkpoint=tmp_path / "one.checkpoint")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- bad input

NAN, INF = X.copy(), X.copy()
NAN[3, 2], INF[5, 1] = np.nan, np.inf


@pytest.mark.parametrize(("params", "message"), [
    ({"sigma": (0, 0.1)}, r"sigma=\(0, 0.1\): the schedule's start is 0, but must be a positive, "
                          "finite number: with a width or rate of zero nothing is learned"),
    ({"sigma": (1, 0)}, r"sigma=\(1, 0\): the schedule's end is 0, but must be a positive, finite"),
    ({"sigma": (0.1, 1)}, r"sigma=\(0.1, 1\): the schedule ends at 1 above its start 0.1; it must "
                          "decrease: swap the two"),
    ({"sigma": (1, float("nan"))}, r"sigma=\(1, nan\): the schedule's end is nan"),
    ({"sigma": (-1, -2)}, r"sigma=\(-1, -2\): the schedule's start is -1"),
    ({"sigma": 1.5}, "sigma=1.5: "),
    ({"sigma": (1.5,)}, r"sigma=\(1.5,\): "),
    ({"decay": "constant"}, r"sigma=\(1.5, 0.2\): decay='constant' cannot go from 1.5 to 0.2"),
    ({"decay": "cosine"}, "decay='cosine' is unknown; choose one of"),
    ({"encoder_steps": 0}, "encoder_steps=0 must be a whole number of at least 1"),
    ({"decoder_steps": 0}, "decoder_steps=0 must be a whole number of at least 1"),
    ({"encoder_steps": 1.5}, "encoder_steps=1.5 must be a whole number of at least 1"),
    ({"decoder_steps": True}, "decoder_steps=True must be a whole number"),
    ({"encoder_steps": 5}, "encoder_steps=5 batches of 12 are more than the 53 samples; choose "
                           "fewer steps or a smaller batch_size"),
    ({"distance": "l3"}, "distance='l3' must be 'l2', 'l1' or a function"),
    ({"distance": None}, "distance=None must be"),
    ({"neighborhood": "bubble"}, r"neighborhood='bubble' is unknown; choose one of \['gaussian', "
                                 r"'radius'\]"),
    ({"training": "dream"}, r"training='dream' is unknown; choose one of \['wake-sleep', "
                            r"'joint'\]"),
    ({"training": "joint", "encoder_steps": 2}, "training='joint' takes one step for both "
     "networks, but encoder_steps=2 and decoder_steps=1; set both to 1"),
    ({"training": "joint", "decoder_steps": 3}, "training='joint' .* decoder_steps=3; set both"),
    ({"space": "torus"}, r"space='torus' must be a continuous space: Euclidean\(m\), "
                         r"Torus\(m\) or Sphere\(m\) \(on a Grid, SOM is this model\)"),
    ({"space": Grid(3, 4)}, r"space=Grid\(rows=3, .* must be a continuous space"),
    ({"space": Torus}, "space=<class .*Torus'> must be a continuous space"),
    ({"space": (8, 8)}, r"space=\(8, 8\) must be a continuous space"),
    ({"space": None}, "space=None must be a continuous space"),
    ({"space": Torus(10)}, r"space=Torus\(m=10\) has more dimensions than the 9 features of X, "
                           "so the code would not compress; choose at most 9"),
    ({"space": Sphere(11)}, r"space=Sphere\(m=11\) has more dimensions than the 9 features"),
    ({"batch_size": 54}, "batch_size=54 is larger than the data set of 53 samples"),
    ({"n_iter": 0}, "n_iter=0 must be a whole number of at least 1"),
    ({"n_iter": None}, "n_iter=None must be a whole number of at least 1"),
    ({"hidden": 6}, "hidden=6 must be a sequence, each entry a whole number"),
    ({"hidden": (6, 0)}, r"hidden=\(6, 0\) must be a sequence, each entry a whole"),
    ({"architecture": "conv", "image_shape": (2, 4)}, r"image_shape=\(2, 4\) does not fit 9"),
    ({"learning_rate": 0}, "learning_rate=0 must be a positive number"),
    ({"precision": "half"}, r"precision='half' is unknown; choose one of \['highest', 'high'"),
    ({"device": "tpu"}, "device='tpu' must be 'auto'"),
])  # fmt: skip
def test_invalid_arguments_of_fit_raise_errors(params, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        soae(2).set_params(**params).fit(X)
    with pytest.raises(ValueError, match=f"^{message}"):
        fit_seeds(soae(2).set_params(**params), X, range(3))


def test_parameters_are_only_stored_before_fit():
    assert soae(sigma=(0, 1), space="torus", training="dream").sigma == (0, 1)
    with pytest.raises(ValueError, match="m=1 must be a whole number of at least 2 for a Sphere"):
        SOAE(Sphere(1))


@pytest.mark.parametrize("params", [{"space": Sphere(10)}, {"space": Torus(9)}])
def test_as_many_dimensions_as_features_are_fine(params):
    assert soae(1, **params).fit(X).transform(X).shape == (53, params["space"].m)


@pytest.mark.parametrize(("data", "message"), [
    (NAN, "contains NaN in row"),
    (INF, "contains infinity"),
    (X[0], "Reshape your data"),
    (X[:1], r"X has 1 sample\(s\) .* while a minimum of 2 is required"),
    (X[:, :0], r"has 0 feature\(s\)"),
])  # fmt: skip
def test_invalid_data_raise_errors(data, message):
    with pytest.raises(ValueError, match=message):
        soae().fit(data)
    model = soae(2).fit(X)
    uses = [model.transform, model.score, lambda Y: model.interpolate(Y, Y)]
    for use in uses if len(data) != 1 else []:
        with pytest.raises(ValueError, match=message.split(" (")[0].split(r" \(")[0]):
            use(data)


def test_invalid_arguments_of_a_fitted_model_raise_errors(fitted):
    m = fitted.space.m
    for use in (fitted.transform, fitted.score, lambda Y: fitted.interpolate(Y, Y)):
        with pytest.raises(ValueError, match="X has 8 features, but SOAE is expecting 9 features"):
            use(X[:, 1:])
    for Z in (X[0, :m], X[:, : m + 1], NAN[3:5, 2 : 2 + m], INF[5:, 1 : 1 + m]):
        with pytest.raises(ValueError, match=r"^Z (has shape|contains)"):
            fitted.inverse_transform(Z)
    if isinstance(fitted.space, Sphere):
        with pytest.raises(ValueError, match="a zero vector has no direction, hence no place on"):
            fitted.inverse_transform(np.array([[0.0, 1, 0], [0, 0, 0]]))
    with pytest.raises(ValueError, match="a has 2 samples, b 3; give as many of each"):
        fitted.interpolate(X[:2], X[:3])
    with pytest.raises(ValueError, match="a has 1 samples, b 3; give as many of each"):
        fitted.interpolate(X[:1], X[:3])
    for use in (fitted.sample, fitted.decode_grid, lambda n: fitted.interpolate(X, X, n)):
        for n in (0, -1, 2.5, True):
            with pytest.raises(ValueError, match=f"n={n} must be a whole number of at least 1"):
                use(n)
    with pytest.raises(ValueError, match="random_state=-1 must be None, a whole number"):
        fitted.sample(2, random_state=-1)


def test_nothing_is_used_before_it_is_fitted(tmp_path):
    model = soae()
    for use in (
        lambda: model.transform(X),
        lambda: model.inverse_transform(X[:, :2]),
        lambda: model.sample(2),
        lambda: model.decode_grid(2),
        lambda: model.interpolate(X, X),
        lambda: model.score(X),
        lambda: model.save(tmp_path / "map.npz"),
    ):
        with pytest.raises(NotFittedError, match="This SOAE instance is not fitted yet"):
            use()


def test_zeros_on_the_sphere_do_not_disturb_training():
    data = X.copy()
    data[:3] = 0  # with no biases yet, the encoder has no direction for these
    model = soae(space=Sphere(3), random_state=0).fit(data)
    assert np.isfinite(model.transform(data)).all()
    assert all(np.isfinite(value).all() for value in model.parameters_.values())


# ---------------------------------------------------------------- a loss that is no number


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("importance_sampling", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_a_diverging_training_names_iteration_and_remedy(space, importance_sampling):
    params = {"space": SPACES[space], "importance_sampling": importance_sampling}
    model = soae(random_state=7, learning_rate=1e200, **params)
    message = (
        r"^the loss of seed 7 is not finite at iteration [01] of 12; "
        r"lower learning_rate=1e\+200, or check the scale of X$"
    )
    with pytest.raises(FloatingPointError, match=message):
        model.fit(X)
    assert not hasattr(model, "parameters_")  # there are no good weights yet
    before = clone(model).set_params(learning_rate=0.01).fit(X)
    model.set_params(learning_rate=0.01).fit(X)
    with pytest.raises(FloatingPointError, match=message):
        model.set_params(learning_rate=1e200).fit(X)
    assert_same(model, before)


@pytest.mark.parametrize(("when", "space"), [
    ("sleep", "torus"), ("wake", "plane"), ("wake", "sphere"),
])  # fmt: skip
def test_the_parameters_of_the_last_finite_losses_are_kept(space, when, monkeypatch):
    params = {"space": SPACES[space], "sigma": (0.5, 0.5), "decay": "constant"}
    model = soae(120, random_state=0, **params)
    loss, calls = getattr(SOAENetwork, when), iter(range(10**6))

    def poisoned(self, *args):
        return loss(self, *args) * (np.nan if next(calls) == 107 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(SOAENetwork, when, poisoned)
        with pytest.raises(
            FloatingPointError, match="the loss of seed 0 is not finite at iteration 107 of"
        ):
            model.fit(X)
    good = clone(model).set_params(n_iter=100).fit(X)  # σ is constant: the same steps
    assert model.n_iter_ == 100
    assert_same(model, good)
    assert model.space_ == good.space_
    assert model.score(X) == good.score(X)
    assert np.isfinite(model.sample(3)).all()
