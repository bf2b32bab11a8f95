"""SOMRL and DC-SOMRL against a literal transcription of algorithm 1 and of its training."""

import math
import re
import time
from contextlib import contextmanager
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import somlib
from somlib.models.autoencoders import Autoencoder, PlainNetwork
from somlib.models.somrl import (
    DCSOMRL,
    EPSILON,
    SOMRL,
    DCSOMRLNetwork,
    Nodes,
    Rule,
    SOMRLNetwork,
    activation,
    relevances,
    repulsion,
    weighted_distance,
)
from somlib.training import estimator, fit_seeds, loop
from somlib.training.network import stacked

rng = np.random.default_rng(42)
X = rng.random((53, 9))
REPEL = ["signed", "literal", None]
LIFE = ["batch", "update"]
RULE = {"a_t": 0.93, "lr": 0.2, "rho": 0.3, "ld": 0.3, "beta": 0.1, "gamma": 1.5, "s": 0.4}
PARAMETER = {
    "a_t": "activation_threshold",
    "lr": "node_rate",
    "rho": "repel_rate",
    "ld": "life_decay",
    "beta": "relevance_rate",
    "gamma": "neighborhood_decay",
    "s": "relevance_smoothness",
}


def somrl(**params):
    rule = {PARAMETER[symbol]: value for symbol, value in RULE.items()}
    return SOMRL(**rule | {"batch_size": 20, "n_epochs": 4, "max_nodes": 60} | params)


def dcsomrl(n_iter=12, **params):
    small = {"latent_dim": 3, "hidden": (8, 6), "batch_size": 20, "learning_rate": 0.01,
             "alpha": 2.0, "max_nodes": 100}  # fmt: skip
    rule = {PARAMETER[symbol]: value for symbol, value in RULE.items()}
    return DCSOMRL(n_iter=n_iter, **rule | small | {"activation_threshold": 0.995} | params)


def assert_same(one, other, atol=0.0):
    assert one.parameters_.keys() == other.parameters_.keys()
    assert one.history_.keys() == other.history_.keys()
    for name, value in (one.parameters_ | one.history_).items():
        theirs = (other.parameters_ | other.history_)[name]
        np.testing.assert_allclose(theirs, value, rtol=0, atol=atol, err_msg=name)
    np.testing.assert_array_equal(one.labels_, other.labels_)


# ---------------------------------------------------------------- algorithm 1, as one reads it


def ac(x, node):  # (1) and (2)
    D = sum(w * (xi - ci) ** 2 for w, xi, ci in zip(node["omega"], x, node["c"], strict=True))
    total = sum(node["omega"])
    return total / (total + D + 1e-7)


def fresh(x):
    return {"c": x.copy(), "omega": np.ones_like(x), "delta": np.zeros_like(x), "life": 1.0}


def literal_relevances(delta, s):  # (6), with the sign of the text
    if delta.max() == delta.min():
        return np.ones_like(delta)
    spread = s * (delta.max() - delta.min())
    return np.array([1 / (1 + math.exp((d - delta.mean()) / spread)) for d in delta])


def literal_repulsion(d, repel):  # (4), and its readings
    if repel is None:
        return np.zeros_like(d)
    if repel == "literal":
        return np.array([max(1 - 2 * di, 0) for di in d])
    return np.array([math.copysign(max(1 - 2 * abs(di), 0), di) if di else 0.0 for di in d])


def literal_batch(slots, X, rule, repel, room, life_rule="batch"):
    """Take one batch; `slots` maps a place to the node there. Return what happened to nodes.

    These are the places where one was inserted and where one was removed, and how many samples
    could not be placed.
    """
    if not slots:  # lines 2 and 3
        slots[0] = fresh(X.mean(0))
        return {0}, set(), 0
    free = [place for place in range(room) if place not in slots]
    assigned = {True: {}, False: {}}  # whether accepted: which samples each node won
    for x in X:
        activations = {k: ac(x, node) for k, node in slots.items()}
        winner = max(activations, key=activations.get)
        assigned[activations[winner] >= rule["a_t"]].setdefault(winner, []).append(x)
    accepted = {j: np.mean(samples, 0) for j, samples in sorted(assigned[True].items())}

    pulls = {k: [] for k in slots}  # lines 10 to 12
    for j, x in accepted.items():
        activations = {k: ac(x, node) for k, node in slots.items()}
        order = [j, *sorted((k for k in slots if k != j), key=lambda k: -activations[k])]
        for r, k in enumerate(order):
            if activations[k] >= rule["a_t"]:
                pulls[k].append((rule["lr"] * math.exp(-r / rule["gamma"]), x))
    center = np.mean([node["c"] for node in slots.values()], 0)
    for k, own in pulls.items():  # lines 13 to 15, (5) being told c(n + 1)
        if not own:
            continue
        node = slots[k]
        lr = 1 - math.prod(1 - lr for lr, _ in own)
        x = sum(lr * x for lr, x in own) / sum(lr for lr, _ in own)
        push = literal_repulsion(center - node["c"], repel)
        node["c"] = node["c"] + lr * ((x - node["c"]) - rule["rho"] * push)  # (3)
        beta = rule["beta"] * lr
        node["delta"] = (1 - beta) * node["delta"] + beta * abs(x - node["c"])  # (5)
        node["omega"] = literal_relevances(node["delta"], rule["s"])

    for j, node in slots.items():  # line 16
        if life_rule == "batch":
            won = j in assigned[True] or j in assigned[False]
            node["life"] = 1.0 if won else node["life"] - rule["ld"]
        else:
            for _ in accepted:
                node["life"] = 1.0 if j in accepted else node["life"] - rule["ld"]
    removed = {j for j, node in slots.items() if node["life"] < -1e-12}  # 0 up to rounding lives
    for j in removed:  # line 17
        del slots[j]
    # lines 7 to 9: while places are free, those of most samples first
    groups = sorted(sorted(assigned[False].items()), key=lambda group: -len(group[1]))
    for place, (_, samples) in zip(free, groups, strict=False):
        slots[place] = fresh(np.mean(samples, 0))
    unplaced = sum(len(samples) for _, samples in groups[len(free) :])
    return set(free[: len(groups)]), removed, unplaced


DECAY = {"batch": 0.3, "update": 0.09}  # which leaves some alive


def batches(n=32, size=30, m=4, seed=0):
    """Return samples of three clusters out of nine, then of others."""
    rng = np.random.default_rng(seed)
    centers = rng.random((9, m))
    now = (rng.integers(3, size=(n, size)) + 3 * (np.arange(n)[:, None] // 4)) % 9
    return (centers[now] + 0.1 * rng.standard_normal((n, size, m))).clip(0, 1)


def ruled(*rules, repel="signed", life_rule="batch", dtype=torch.float64):
    """Return one rule, or those of a stack, as `Nodes.learn` takes them."""
    return stacked([Rule(**rule, repel=repel, life_rule=life_rule).to(dtype) for rule in rules])


def assert_nodes(nodes, slots, s=...):
    alive = nodes.alive[s].nonzero()[:, 0].tolist()
    assert alive == sorted(slots)
    for name, ours in {
        "c": nodes.centers, "delta": nodes.distances, "omega": nodes.relevances, "life": nodes.life
    }.items():  # fmt: skip
        theirs = np.stack([slots[j][name] for j in alive])
        np.testing.assert_allclose(ours[s][alive], theirs, atol=1e-9, err_msg=name)
    assert (nodes.life[s][~nodes.alive[s]] == -1).all()


@pytest.mark.parametrize("room", [5, 12, 40])
@pytest.mark.parametrize("repel", REPEL)
@pytest.mark.parametrize("change", [{}, {"ld": 2.0}, {"a_t": 0.96}, {"gamma": 0.3}], ids=str)
@pytest.mark.parametrize("life_rule", LIFE)
def test_a_map_learns_as_the_algorithm_reads(room, repel, change, life_rule):
    rule, slots = RULE | change | {"ld": DECAY[life_rule] * change.get("ld", 1)}, {}
    nodes, ours = Nodes(room, 4).double(), ruled(rule, repel=repel, life_rule=life_rule)
    inserted, removed, reused, unplaced, largest, used = 0, 0, 0, 0, 0, set()
    for batch in batches():
        nodes.learn(torch.from_numpy(batch), ours)
        new, gone, rest = literal_batch(slots, batch, rule, repel, room, life_rule)
        assert_nodes(nodes, slots)
        inserted, removed, unplaced = inserted + len(new), removed + len(gone), unplaced + rest
        reused, largest = reused + len(new & used), max(largest, len(slots))
        used |= new
        assert nodes.unplaced.item() == unplaced
    assert inserted > room if room == 5 else inserted > 12
    assert removed > 0
    assert reused > 0  # a slot that became free is taken
    if room == 5:
        assert largest == room
        assert unplaced > 5
    if room == 40:
        assert largest < room
        assert unplaced == 0


def test_without_repulsion_or_neighbors_an_update_is_equations_3_5_and_6():
    nodes, rule = Nodes(3, 4).double(), ruled(RULE | {"rho": 0.0, "gamma": 1e-3})
    x, lr, beta = X[0, :4], RULE["lr"], RULE["beta"]
    c, delta = x + 0.02, np.zeros(4)
    nodes.learn(torch.from_numpy(c)[None], rule)  # the first node lies there
    for _ in range(5):
        nodes.learn(torch.from_numpy(x)[None], rule)
        c = c + lr * (x - c)
        delta = (1 - beta * lr) * delta + beta * lr * abs(x - c)
        np.testing.assert_allclose(nodes.centers[0], c, rtol=1e-14)
        np.testing.assert_allclose(nodes.distances[0], delta, rtol=1e-12)
    assert nodes.alive.tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_life_that_loses_a_tenth_at_a_time_lasts_ten_lost_batches(dtype):
    nodes = Nodes(2, 1).to(dtype)
    nodes.centers[:, 0], nodes.relevances[:] = torch.tensor([0.2, 0.8]), 1.0
    nodes.life[:] = 1.0
    near_the_first = torch.full((5, 1), 0.2, dtype=dtype)
    rule = ruled(RULE | {"a_t": 0.9, "ld": 0.1}, repel=None, dtype=dtype)
    for lost in range(1, 12):
        nodes.learn(near_the_first, rule)
        assert nodes.alive.tolist() == [True, lost <= 10]


@pytest.mark.parametrize("repel", REPEL)
@pytest.mark.parametrize("life_rule", LIFE)
def test_maps_of_different_rules_in_a_stack_are_the_same_maps_alone(repel, life_rule):
    rules = [
        RULE | {"ld": DECAY[life_rule]},
        {"a_t": 0.97, "lr": 0.05, "rho": 0.9, "ld": 0.03, "beta": 0.4, "gamma": 4.0, "s": 0.1},
        {"a_t": 0.9, "lr": 0.5, "rho": 0.0, "ld": 0.011, "beta": 0.0, "gamma": 0.2, "s": 0.7},
    ]
    how = {"repel": repel, "life_rule": life_rule}
    stack = stacked([Nodes(9, 4).double() for _ in rules])
    alone = [Nodes(9, 4).double() for _ in rules]
    rule_of_all, rule_of_each = ruled(*rules, **how), [ruled(rule, **how) for rule in rules]
    slots = [{}, {}, {}]
    for several in zip(*(batches(20, seed=seed) for seed in range(3)), strict=True):
        stack.learn(torch.from_numpy(np.stack(several)), rule_of_all)
        for s, (batch, rule) in enumerate(zip(several, rules, strict=True)):
            alone[s].learn(torch.from_numpy(batch), rule_of_each[s])
            literal_batch(slots[s], batch, rule, repel, 9, life_rule)
            assert_nodes(stack, slots[s], s)
            for name, value in alone[s].state_dict().items():
                np.testing.assert_allclose(stack.state_dict()[name][s], value, atol=1e-11)
    assert len({len(nodes) for nodes in slots}) > 1
    assert stack.unplaced[1] > 0


@pytest.mark.parametrize("life_rule", LIFE)
def test_maps_of_a_stack_may_share_their_batches(life_rule):
    rules = [RULE | {"ld": 0.05}, RULE | {"ld": 0.05, "a_t": 0.96}]
    rule = ruled(*rules, life_rule=life_rule)
    shared, repeated = (stacked([Nodes(9, 4).double() for _ in rules]) for _ in "12")
    for batch in map(torch.from_numpy, batches(20)):
        shared.learn(batch, rule)
        repeated.learn(batch.expand(2, *batch.shape), rule)
        for name, value in repeated.state_dict().items():
            np.testing.assert_allclose(shared.state_dict()[name], value, atol=1e-11, err_msg=name)
        for one, other in zip(shared.nearest(batch), repeated.nearest(batch.expand(2, -1, -1)),
                              strict=True):  # fmt: skip
            assert one.shape == (2, *batch.shape)
            np.testing.assert_allclose(one, other, atol=1e-11)
    assert not torch.equal(shared.centers[0], shared.centers[1])


RULES = st.fixed_dictionaries({
    "a_t": st.floats(0.5, 0.9999), "lr": st.floats(0, 1), "rho": st.floats(0, 1),
    "ld": st.floats(0, 1), "beta": st.floats(0, 1), "gamma": st.floats(0.01, 20),
    "s": st.floats(0.001, 2),
})  # fmt: skip


@given(
    data=st.data(), room=st.integers(1, 6), rules=st.lists(RULES, min_size=1, max_size=3),
    repel=st.sampled_from(REPEL), life_rule=st.sampled_from(LIFE),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_a_map_that_has_seen_a_batch_is_never_empty_and_stays_within_bounds(
    data, room, rules, repel, life_rule, dtype
):
    S, B, m = len(rules), data.draw(st.integers(1, 6)), data.draw(st.integers(1, 4))
    nodes = stacked([Nodes(room, m).to(dtype) for _ in rules])
    rule = ruled(*rules, repel=repel, life_rule=life_rule, dtype=dtype)
    assert not nodes.alive.any()
    shape = (4, B, m) if S == 1 else (4, S, B, m)
    some = arrays(np.float64, shape, elements=st.floats(0, 1))
    for x in torch.from_numpy(data.draw(some)).to(dtype):
        before = nodes.unplaced.clone()
        nodes.learn(x, rule)
        alive, life, omega = nodes.alive, nodes.life, nodes.relevances
        assert alive.any(-1).all()
        assert (life[alive] <= 1).all()
        assert (life[~alive] == -1).all()
        assert ((omega >= 0) & (omega <= 1)).all()
        assert (omega[alive].sum(-1) > 0).all()  # so that (1) is one
        assert (nodes.distances >= 0).all()
        assert all(value.isfinite().all() for value in nodes.buffers())
        unplaced = nodes.unplaced - before
        assert ((unplaced >= 0) & (unplaced <= B)).all()
        found, activations = nodes.nearest(x)[0], nodes.activations(x)
        assert ((activations > 0) == alive[..., None, :]).all()
        assert (activations <= 1).all()
        for s in range(S) if S > 1 else [...]:  # the nearest is a node
            assert (found[s][:, None] == nodes.centers[s][alive[s]]).all(-1).any(-1).all()
        if repel is None:  # means of what lies there
            assert nodes.centers.min() >= -1e-6
            assert nodes.centers.max() <= 1 + 1e-6


# ---------------------------------------------------------------- the formulas


@given(
    data=st.data(), S=st.integers(1, 3), B=st.integers(1, 5), K=st.integers(1, 4),
    m=st.integers(1, 6),
)  # fmt: skip
def test_activation_and_weighted_distance_are_their_literal_sums(data, S, B, K, m):
    unit = st.floats(0, 1)
    x = data.draw(arrays(np.float64, (S, B, m), elements=unit))
    c = data.draw(arrays(np.float64, (S, K, m), elements=unit))
    omega = data.draw(arrays(np.float64, (S, K, m), elements=st.floats(0.01, 1)))
    tensors = [torch.from_numpy(a) for a in (x, c, omega)]
    D, ours = weighted_distance(*tensors), activation(*tensors)
    assert D.shape == ours.shape == (S, B, K)
    alone = activation(*(tensor[0] for tensor in tensors))
    np.testing.assert_allclose(alone, ours[0], rtol=1e-12)
    for s, i, j in np.ndindex(S, B, K):
        literal = sum(omega[s, j, n] * (x[s, i, n] - c[s, j, n]) ** 2 for n in range(m))  # (2)
        assert D[s, i, j].item() == pytest.approx(literal, abs=1e-13)
        total = sum(omega[s, j, n] for n in range(m))
        expected = total / (total + literal + 1e-7)  # (1)
        assert ours[s, i, j].item() == pytest.approx(expected, rel=1e-12)
        assert 0 < ours[s, i, j] < 1


def test_in_single_precision_no_distance_is_below_zero_and_no_activation_above_one():
    x = torch.rand(1, 500, 22, generator=torch.Generator().manual_seed(0))
    omega = torch.rand(1, 500, 22, generator=torch.Generator().manual_seed(1))
    squares = x.square() @ omega.mT - 2 * x @ (omega * x).mT + (omega * x.square()).sum(-1)[:, None]
    assert squares.diagonal(dim1=1, dim2=2).min() < 0  # as it would be
    D = weighted_distance(x, x, omega)
    assert D.min() == 0
    assert D.diagonal(dim1=1, dim2=2).max() < 2e-5
    assert activation(x, x, omega).max() <= 1
    assert EPSILON == 1e-7


def test_an_irrelevant_dimension_does_not_count():
    x, c = (torch.from_numpy(X[None, i : i + 4, :3].copy()) for i in (0, 4))
    omega = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64).expand(1, 4, 3)
    far = x.clone()
    far[..., 2] = 0.77
    assert torch.equal(activation(x, c, omega), activation(far, c, omega))
    assert not torch.equal(activation(x, c, omega.flip(-1)), activation(far, c, omega.flip(-1)))


@pytest.mark.parametrize("repel", REPEL)
def test_repulsion_is_equation_4_and_its_readings(repel):
    d = np.linspace(-1, 1, 41).reshape(1, 1, 41)
    found = repulsion(torch.from_numpy(d), repel)
    np.testing.assert_allclose(found[0, 0], literal_repulsion(d[0, 0], repel), atol=1e-15)


def test_signed_repulsion_is_away_from_the_center_and_the_printed_one_down():
    d = torch.arange(-100, 101, dtype=torch.float64) / 100  # c̄ − c
    moved = {kind: -repulsion(d, kind) for kind in REPEL}  # (3) subtracts it
    near = d.abs() < 0.499
    away = near & (d != 0)
    assert torch.equal(moved["signed"][away].sign(), -d[away].sign())  # that is c − c̄
    np.testing.assert_allclose(moved["signed"], -moved["signed"].flip(0), atol=1e-15)
    assert (moved["signed"][d.abs() > 0.501] == 0).all()  # "after a certain distance" no more
    assert (moved["literal"][d < 0.499] < 0).all()  # also towards the center, and from afar
    assert (moved["literal"] <= 0).all()
    assert (moved["literal"][0], moved["literal"][-1]) == (-3, 0)
    assert not moved[None].any()
    assert repulsion(torch.zeros(1)).item() == 0  # the center itself stays


def test_signed_repulsion_separates_nodes_and_the_printed_one_moves_them_down():
    start = torch.tensor([[0.45, 0.45], [0.55, 0.55]], dtype=torch.float64)
    rule = RULE | {"rho": 0.1, "gamma": 1e-3, "a_t": 0.999999}

    def moved(repel):
        nodes = Nodes(2, 2).double()
        nodes.centers[:], nodes.relevances[:], nodes.life[:] = start, 1.0, 1.0
        for _ in range(3):
            nodes.learn(nodes.centers.clone(), ruled(rule, repel=repel))  # each wins its center
        return nodes.centers - start

    assert not moved(None).any()
    np.testing.assert_allclose(moved("signed")[0], -moved("signed")[1], rtol=1e-9)
    assert (moved("signed")[1] > 0.01).all()
    assert (moved("literal") < -0.01).all()


@given(
    delta=arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(1, 6)),
                 elements=st.floats(0, 1)),
    s=st.floats(0.01, 2),
)  # fmt: skip
def test_relevances_are_the_logistic_function_of_the_text(delta, s):
    found = relevances(torch.from_numpy(delta), s)
    assert ((found >= 0) & (found <= 1)).all()  # never NaN
    for row, omega in zip(delta, found.numpy(), strict=True):
        if row.max() == row.min():
            np.testing.assert_array_equal(omega, 1)
        elif np.ptp(row) > 1e-100:
            np.testing.assert_allclose(omega, literal_relevances(row, s), atol=1e-10)
            assert omega[row.argmax()] < 0.5 < omega[row.argmin()]


def test_the_printed_sign_would_make_large_distances_relevant():
    delta, s = np.array([0.01, 0.02, 0.3, 0.4, 0.1]), 0.1
    mean, most, least = delta.mean(), delta.max(), delta.min()
    printed = 1 / (1 + np.exp((mean - delta) / (s * (most - least))))
    ours = relevances(torch.from_numpy(delta), s).numpy()
    np.testing.assert_allclose(ours, 1 - printed)
    assert (np.diff(ours[delta.argsort()]) < 0).all()
    # "the relevances go to zero for dimensions with distances close to the maximum"
    assert ours[delta.argmax()] < 0.01
    assert printed[delta.argmax()] > 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.0, 1e-30, 0.3, 1.0])
@pytest.mark.parametrize("s", [1e-6, 0.4, 3.0])
def test_all_equal_distances_give_one_and_no_nan(level, s, dtype):
    delta = torch.full((2, 3, 5), level, dtype=dtype, requires_grad=True)
    found = relevances(delta, torch.full((2, 1, 1), s, dtype=dtype))
    assert (found == 1).all()
    (gradient,) = torch.autograd.grad(found.sum(), delta)
    assert not gradient.isnan().any()


def test_a_small_slope_decides_a_large_one_does_not():
    delta = torch.tensor([0.1, 0.2, 0.35, 0.4], dtype=torch.float64)
    np.testing.assert_allclose(relevances(delta, 1e-3), [1, 1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(relevances(delta, 100.0), 0.5, atol=0.01)


# ---------------------------------------------------------------- the map alone


def subspaces(seed=0, n=300, width=0.03):
    """Return three clusters in nine dimensions, each narrow in three of its own, labels, truth."""
    some = np.random.default_rng(seed)
    data, y, truth = some.random((3 * n, 9)), np.repeat(range(3), n), np.zeros((3, 9), bool)
    for j in range(3):
        own = slice(3 * j, 3 * j + 3)
        data[y == j, own] = some.uniform(0.2, 0.8, 3) + width * some.standard_normal((n, 3))
        truth[j, own] = True
    return data.clip(0, 1), y, truth


def recovery(model, y, truth):
    """Return purity, and precision and recall of ω > 0.5, each sample asking its node."""
    labels = model.labels_
    majority = {j: np.bincount(y[labels == j]).argmax() for j in set(labels.tolist())}
    purity = np.mean([majority[label] == yi for label, yi in zip(labels, y, strict=True)])
    found, true = model.relevances_[labels] > 0.5, truth[y]
    return purity, (found & true).sum() / found.sum(), (found & true).sum() / true.sum()


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_subspaces_that_clusters_lie_in(seed):
    data, y, truth = subspaces(seed)
    model = SOMRL(
        0.91, life_decay=0.5, relevance_rate=0.1, relevance_smoothness=0.1, max_nodes=60,
        n_epochs=20, batch_size=100,
    )  # fmt: skip
    with_, without = (
        fit_seeds(model.set_params(relevance_rate=beta), data, range(5)) for beta in (0.1, 0.0)
    )
    purity, precision, recall = np.mean([recovery(m, y, truth) for m in with_], 0)
    assert purity > 0.9
    assert precision > 0.75  # measured: .81 to .86; a third of all dimensions are relevant
    assert recall > 0.9  # measured: .94 to .97
    assert np.mean([m.n_nodes_ for m in with_]) < 7
    purity, precision, recall = np.mean([recovery(m, y, truth) for m in without], 0)
    assert purity < 0.75
    assert (precision, recall) == (pytest.approx(1 / 3), 1)  # everything is
    assert np.mean([m.n_nodes_ for m in without]) > 15


def literal_map(model, data, room):
    """Train as the algorithm reads, in file order; return nodes and samples without room."""
    rule = {symbol: getattr(model, name) for symbol, name in PARAMETER.items()}
    slots, refused = {}, 0
    for _ in range(model.n_epochs):
        for batch in np.split(data, range(model.batch_size, len(data), model.batch_size)):
            refused += literal_batch(slots, batch, rule, model.repel, room, model.life_rule)[2]
    return [slots[j] for j in sorted(slots)], refused


@pytest.mark.parametrize("repel", REPEL)
@pytest.mark.parametrize("life_rule", LIFE)
def test_a_fitted_map_is_the_literal_one(repel, life_rule):
    data = np.concatenate(batches(9))
    model = somrl(
        repel=repel, life_rule=life_rule, life_decay=DECAY[life_rule], batch_size=50, shuffle=False
    ).fit(data)  # fmt: skip
    assert len(data) % 50 == 20  # an epoch ends with a smaller batch
    nodes, refused = literal_map(model, data, 60)
    assert model.n_nodes_ == len(nodes) > 2
    assert refused == model.unplaced_ == 0
    for name, ours in {
        "c": model.centers_, "omega": model.relevances_, "delta": model.distances_
    }.items():  # fmt: skip
        assert ours.shape == (len(nodes), 4)
        np.testing.assert_allclose(ours, [node[name] for node in nodes], atol=1e-9)
    assert model.n_iter_ == 24
    assert model.history_["nodes"][-1] == len(nodes)
    winner = [max(nodes, key=lambda node: ac(x, node)) for x in data[250:]]
    D = [
        (node["omega"] * (x - node["c"]) ** 2).sum()
        for x, node in zip(data[250:], winner, strict=True)
    ]
    assert model.history_["loss"][-1] == pytest.approx(np.mean(D))


def test_constant_dimensions_are_relevant():
    data = X.copy()
    data[:, 2], data[:, 5] = 0.0, 0.7
    model = somrl(activation_threshold=0.9, relevance_smoothness=0.1, random_state=0).fit(data)
    assert np.isfinite(model.relevances_).all()
    moved = model.distances_.any(1)
    assert moved.sum() > 2
    assert (model.relevances_[moved][:, [2, 5]] > 0.9).all()
    np.testing.assert_allclose(model.centers_[:, [2, 5]], [[0.0, 0.7]] * model.n_nodes_)
    assert (model.relevances_[moved] < 0.1).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [1.0, 0.5, 0.0], [0.1, 0.2, 0.7]])
def test_of_equal_samples_every_dimension_is_relevant(row, dtype):
    data = np.tile(np.array(row, dtype), (50, 1))
    model = somrl(random_state=0).fit(data)
    np.testing.assert_allclose(model.centers_, [row], rtol=1e-6)
    np.testing.assert_array_equal(model.relevances_, 1)


# ---------------------------------------------------------------- in the autoencoder


def through(weights, part, h):
    """Return what a network makes of each row, layer by layer."""
    depth = sum(name.startswith(part) and name.endswith("weight") for name in weights)
    for layer in range(depth):
        W, b = (weights[f"{part}.layers.{layer}.{kind}"] for kind in ("weight", "bias"))
        h = h @ W + b[0]
        if layer < depth - 1:
            h = torch.relu(h)
    return torch.sigmoid(h) if part == "encoder" else h


def literal_training(first, model, seed, shift, scale):
    """Train as the paper says, with autograd and PyTorch's Adam; return weights, nodes, history."""
    weights = {k: torch.from_numpy(v.copy()).requires_grad_(True) for k, v in first.items()}
    adam = torch.optim.Adam(list(weights.values()), model.learning_rate, eps=1e-7)
    rule = {symbol: getattr(model, name) for symbol, name in PARAMETER.items()}
    slots, history = {}, []
    for i in range(model.n_iter):
        epoch, batch = divmod(i, math.ceil(len(X) / model.batch_size))
        order = np.random.default_rng([seed, 1, epoch]).permutation(len(X))
        rows = order if model.shuffle else np.arange(len(X))
        rows = rows[batch * model.batch_size : (batch + 1) * model.batch_size]
        x = (torch.from_numpy(X[rows]) - shift) / scale
        z = through(weights, "encoder", x)
        codes = z.detach().numpy()
        literal_batch(slots, codes, rule, model.repel, model.max_nodes, model.life_rule)
        L_r = L_c = 0.0
        for sample, code in zip(x, z, strict=True):
            L_r = L_r + ((sample - through(weights, "decoder", code)) ** 2).sum()
            activations = [(ac(code.detach().numpy(), slots[j]), j) for j in sorted(slots)]
            node = slots[max(activations)[1]]
            c, omega = torch.from_numpy(node["c"]), torch.from_numpy(node["omega"])
            L_c = L_c + (omega * (code - c) ** 2).sum()
        L_r, L_c = L_r / len(x), L_c / len(x)
        loss = L_r + model.alpha * L_c  # (7)
        history.append([loss.item(), L_r.item(), L_c.item(), len(slots)])
        adam.zero_grad()
        loss.backward()
        adam.step()
    return {k: v.detach().numpy() for k, v in weights.items()}, slots, np.array(history).T


class RecordedNetwork(DCSOMRLNetwork):
    def initialize(self, X, generator):
        super().initialize(X, generator)
        Recorded.first.append({k: v.detach().clone().numpy() for k, v in self.named_parameters()})


class Recorded(DCSOMRL):
    """Keeps the weights that each of its networks begins with."""

    first: ClassVar[list] = []

    def _build(self, d, generator):
        return RecordedNetwork(self, d, generator)


HISTORY = ("loss", "reconstruction", "clustering", "nodes")


def assert_literal(model, seeds=(1, 5), shift=None, scale=None):
    model = Recorded(**model.get_params())
    Recorded.first.clear()
    shift, scale = (X.mean(), X.std(ddof=1)) if shift is None else (shift, scale)
    nodes_seen = []
    for s, ours in enumerate(fit_seeds(model, X, seeds)):
        first = Recorded.first[s]
        weights, slots, history = literal_training(first, model, seeds[s], shift, scale)
        for name, value in weights.items():
            np.testing.assert_allclose(ours.parameters_[name], value, rtol=0, atol=1e-11)
            assert np.abs(value - first[name]).max() > 1e-3, name
        assert tuple(ours.history_) == HISTORY
        for name, values in zip(HISTORY, history, strict=True):
            np.testing.assert_allclose(ours.history_[name], values, rtol=1e-10, err_msg=name)
        for name, found in {
            "c": ours.centers_, "omega": ours.relevances_, "delta": ours.distances_
        }.items():  # fmt: skip
            np.testing.assert_allclose(found, [slots[j][name] for j in sorted(slots)], atol=1e-9)
        nodes_seen += [len(slots)]
    return nodes_seen


@pytest.mark.parametrize("n_iter", [1, 2, 3])
@pytest.mark.parametrize("seeds", [[4], [1, 3, 5]], ids=["alone", "in a stack"])
def test_the_first_iterations_are_their_literal_transcription(n_iter, seeds):
    assert_literal(dcsomrl(n_iter), seeds)


@pytest.mark.parametrize("params", [
    {},
    {"repel": "literal", "alpha": 0.3},
    {"repel": None, "life_rule": "update", "life_decay": 0.05},
    {"max_nodes": 3, "repel": None},
    {"shuffle": False, "alpha": 0},
    {"hidden": (), "activation_threshold": 0.999, "max_nodes": 99},
    {"hidden": (7, 9, 8), "input_scaling": (0.5, 0.5)},
    {"input_scaling": None, "relevance_rate": 1.0, "node_rate": 1.0},
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore:no node was inserted")
def test_so_is_a_whole_training_and_its_variants(params):
    given_ = {(0.5, 0.5): (0.5, 0.5), None: (0.0, 1.0)}
    shift, scale = given_.get(params.get("input_scaling", ""), (None, None))
    nodes = assert_literal(dcsomrl(12, **params), shift=shift, scale=scale)
    assert max(nodes) > 1


def first_losses(alpha, **params):
    model = dcsomrl(alpha=alpha, **params)
    generators = [torch.Generator().manual_seed(s) for s in range(2)]
    networks = [model._build(9, generator).double() for generator in generators]
    x = torch.from_numpy(X)
    with torch.no_grad():
        for network, generator in zip(networks, generators, strict=True):
            network.initialize(x, generator)
    stack = stacked(networks)
    stack.nodes.learn(torch.rand(2, 30, 3, generator=generators[0]).double(), stack.rule)
    ((losses, moved),) = stack.updates(x, torch.arange(53))
    assert list(map(id, moved)) == list(map(id, stack.parameters()))
    return stack, losses


def test_each_loss_term_has_gradients_for_its_networks():
    stack, losses = first_losses(2.0)
    assert {name.split(".")[0] for name, _ in stack.named_parameters()} == {"encoder", "decoder"}
    assert not any(buffer.requires_grad for buffer in stack.nodes.buffers())  # they have a rule
    for term, reached in {
        "clustering": {"encoder"},
        "reconstruction": {"encoder", "decoder"},
        "loss": {"encoder", "decoder"},
    }.items():
        found = torch.autograd.grad(
            losses[term].sum(), stack.parameters(), allow_unused=True, retain_graph=True
        )
        named = zip(stack.named_parameters(), found, strict=True)
        assert {n.split(".")[0] for (n, _), g in named if g is not None and g.any()} == reached


def test_the_decoders_gradient_is_the_same_whatever_alpha_the_encoders_is_not():
    gradients = {}
    for alpha in (0.0, 2.0):
        stack, losses = first_losses(alpha)
        losses["loss"].sum().backward()
        gradients[alpha] = {name: p.grad for name, p in stack.named_parameters()}
    for name, plain in gradients[0.0].items():
        assert torch.equal(plain, gradients[2.0][name]) == name.startswith("decoder")


def test_nodes_learn_before_the_loss_is_taken():
    model = Recorded(**dcsomrl(1, shuffle=False, batch_size=53).get_params())
    (trained,) = fit_seeds(model, X, [0])
    weights = {k: torch.from_numpy(v) for k, v in Recorded.first[-1].items()}
    x = (X - X.mean()) / X.std(ddof=1)
    z = through(weights, "encoder", torch.from_numpy(x)).numpy()
    # the map was empty: its first node is the mean of the codes, and wins all samples
    assert trained.history_["nodes"].tolist() == [1]
    assert trained.history_["clustering"][0] == pytest.approx(((z - z.mean(0)) ** 2).sum(1).mean())
    np.testing.assert_allclose(trained.centers_, [z.mean(0)])
    drawn = through(weights, "decoder", torch.from_numpy(z)).numpy()
    summed = ((drawn - x) ** 2).sum(1).mean()  # over features, a mean over samples
    assert trained.history_["reconstruction"][0] == pytest.approx(summed)


def test_without_its_clustering_loss_it_is_the_autoencoder():
    (trained,) = fit_seeds(dcsomrl(alpha=0, input_scaling=None, activation_threshold=0.5), X, [4])

    class SummedNetwork(PlainNetwork):
        def losses(self, x):
            return {"loss": 9 * super().losses(x)["loss"]}

    class Summed(Autoencoder):
        def _build(self, d, generator):
            return SummedNetwork(self, d, generator)

    params = {"latent_dim": 3, "hidden": (8, 6), "batch_size": 20, "learning_rate": 0.01}
    (plain,) = fit_seeds(Summed(n_iter=12, code="sigmoid", **params), X, [4])
    np.testing.assert_allclose(trained.transform(X), plain.transform(X), atol=1e-9)
    np.testing.assert_allclose(trained.history_["reconstruction"], plain.history_["loss"])


SCALING = {
    "standardize": (X.mean(), X.std(ddof=1)),
    (0.5, 0.25): (0.5, 0.25),
    None: (0.0, 1.0),
}


@pytest.mark.parametrize("scaling", SCALING, ids=str)
def test_a_model_that_scales_is_one_of_scaled_samples(scaling):
    shift, scale = SCALING[scaling]
    model = dcsomrl(input_scaling=scaling, random_state=0).fit(X)
    scaled = dcsomrl(input_scaling=None, random_state=0).fit((X - shift) / scale)
    for name in ("loss", "reconstruction", "clustering", "nodes"):
        np.testing.assert_allclose(model.history_[name], scaled.history_[name], rtol=1e-9)
    Y = rng.random((7, 9))
    Z = model.transform(Y)
    np.testing.assert_allclose(Z, scaled.transform((Y - shift) / scale), atol=1e-10)
    np.testing.assert_array_equal(model.predict(X), scaled.predict((X - shift) / scale))
    drawn = model.inverse_transform(Z)
    np.testing.assert_allclose(drawn, scaled.inverse_transform(Z) * scale + shift, atol=1e-9)
    assert float(model.parameters_["shift"].item()) == pytest.approx(shift)
    assert float(model.parameters_["scale"].item()) == pytest.approx(scale)


def test_reconstructions_are_in_the_units_of_the_data():
    data = 200 + 50 * X  # far from where a network would begin
    model = dcsomrl(600, alpha=0.1, random_state=0).fit(data)
    again = model.inverse_transform(model.transform(data))
    assert ((again - data) ** 2).mean() < 0.8 * data.var(0).mean()
    np.testing.assert_allclose(again.mean(), data.mean(), rtol=0.01)
    assert (np.abs(model.decoded_centers_ - 225) < 60).all()
    np.testing.assert_array_equal(model.decoded_centers_, model.inverse_transform(model.centers_))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_data_can_be_scaled(dtype):
    model = dcsomrl(random_state=0).fit(np.full((53, 9), 0.3, dtype))
    assert all(np.isfinite(value).all() for value in model.parameters_.values())
    np.testing.assert_allclose(model.decoded_centers_, 0.3, atol=1e-5)


# ---------------------------------------------------------------- using the map


def literal_activations(model, Z):
    nodes = [
        {"c": c, "omega": omega}
        for c, omega in zip(
            model.centers_.astype(float), model.relevances_.astype(float), strict=True
        )
    ]
    return np.array([[ac(z, node) for node in nodes] for z in Z.astype(float)])


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def data(request):
    return np.concatenate(batches(5, 20, 9, seed=2)).astype(request.param)


@pytest.fixture(scope="module", params=["SOMRL", "DCSOMRL"])
def fitted(request, data):
    if request.param == "SOMRL":
        model = somrl(activation_threshold=0.95, life_decay=0.1, random_state=0)
    else:
        model = dcsomrl(60, activation_threshold=0.998, life_decay=0.1, random_state=0)
    return model.fit(data)


def points(model, data):
    return model.transform(data) if isinstance(model, DCSOMRL) else data


def test_a_sample_belongs_to_the_most_active_node(fitted, data):
    activations = literal_activations(fitted, points(fitted, data))
    labels = fitted.predict(data)
    np.testing.assert_array_equal(labels, activations.argmax(1))
    np.testing.assert_array_equal(fitted.labels_, labels)
    assert labels.dtype == np.int64
    assert len(set(labels.tolist())) > 2
    a_t = fitted.activation_threshold
    np.testing.assert_array_equal(fitted.memberships(data), activations >= a_t)
    assert fitted.memberships(data).dtype == bool
    far = np.concatenate([data, 1 - data, data.round()])
    best = literal_activations(fitted, points(fitted, far))
    np.testing.assert_array_equal(
        fitted.predict(far, noise=True), np.where(best.max(1) >= a_t, best.argmax(1), -1)
    )
    assert 0.05 < (best.max(1) < a_t).mean() < 0.95


def test_clusters_overlap_where_the_threshold_is_low(fitted, data):
    wide = clone(fitted)
    wide.__dict__ |= fitted.__dict__ | {"activation_threshold": 0.9}
    several = wide.memberships(data).sum(1)
    assert several.max() > 1
    assert (several >= fitted.memberships(data).sum(1)).all()
    assert (wide.predict(1 - data, noise=True) >= fitted.predict(1 - data, noise=True)).all()


def test_connections_are_mutual(fitted, monkeypatch):
    K, seen = fitted.n_nodes_, []
    between = literal_activations(fitted, fitted.centers_)
    for a_t in (0.5, 0.9, 0.97, 0.99, 0.995, 0.998, 0.99999):
        monkeypatch.setattr(fitted, "activation_threshold", a_t)
        found, active = fitted.connections_, between >= a_t
        assert found.shape == (K, K)
        assert found.dtype == bool
        assert (found == found.T).all()
        assert not found.diagonal().any()
        for i in range(K):
            for j in range(K):
                mutual = i != j and active[i, j] and active[j, i]
                assert found[i, j] == mutual
        seen.append((found.sum(), (active & ~active.T).sum()))
    assert seen[0][0] == K * (K - 1)
    assert seen[-1][0] == 0
    assert any(one_sided for _, one_sided in seen)  # of which no connection is made


def test_shapes_precision_and_range(fitted, data):
    m, K = (3 if isinstance(fitted, DCSOMRL) else 9), fitted.n_nodes_
    assert type(K) is int
    assert 2 < K < fitted.max_nodes
    for array in (fitted.centers_, fitted.relevances_, fitted.distances_):
        assert array.shape == (K, m)
    arrays_ = [fitted.centers_, fitted.relevances_, fitted.distances_, fitted.transform(data)]
    arrays_ += list(fitted.parameters_.values())
    if isinstance(fitted, DCSOMRL):
        assert fitted.decoded_centers_.shape == (K, 9)
        arrays_.append(fitted.decoded_centers_)
        assert fitted.transform(data).shape == (100, 3)
    else:
        assert fitted.transform(data).shape == (100, K)
    assert {array.dtype for array in arrays_} == {data.dtype}
    assert all(np.isfinite(array).all() for array in arrays_)
    assert ((fitted.relevances_ >= 0) & (fitted.relevances_ <= 1)).all()
    assert (fitted.transform(data) > 0).all()
    assert (fitted.transform(data) < 1).all()
    assert fitted.unplaced_ == 0
    assert {len(values) for values in fitted.history_.values()} == {fitted.n_iter_}
    assert fitted.history_["nodes"][-1] == K
    expected = ("loss", "nodes") if isinstance(fitted, SOMRL) else HISTORY
    assert tuple(fitted.history_) == expected
    if isinstance(fitted, DCSOMRL):
        parts = fitted.history_["reconstruction"] + 2 * fitted.history_["clustering"]
        np.testing.assert_allclose(fitted.history_["loss"], parts, rtol=1e-6)


def test_somrl_transforms_into_activations(data):
    model = somrl(random_state=0).fit(data)
    np.testing.assert_allclose(model.transform(data), literal_activations(model, data), rtol=1e-5)
    with pytest.raises(
        AttributeError, match=r"^SOMRL has no decoder; its prototypes are centers_$"
    ):
        model.inverse_transform(model.transform(data))


def test_large_data_are_processed_in_blocks(fitted, data, monkeypatch):
    def used():
        return [fitted.predict(data), fitted.predict(data, noise=True), fitted.memberships(data),
                fitted.transform(data), fitted.connections_]  # fmt: skip

    whole, sizes, activations = used(), [], Nodes.activations
    monkeypatch.setattr(estimator, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(
        Nodes, "activations", lambda nodes, x: (sizes.append(len(x)), activations(nodes, x))[1]
    )
    for one, other in zip(whole, used(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert max(sizes) == 7
    assert sizes.count(100 % 7) >= 3
    assert sum(sizes) >= 3 * 100


# ---------------------------------------------------------------- seeds, interrupts, checkpoints

MODELS = {
    "somrl": somrl(n_iter=55),
    "somrl as listed": somrl(n_iter=55, life_rule="update", life_decay=0.05, repel="literal"),
    "somrl in file order": somrl(n_iter=55, shuffle=False, repel=None),
    "dcsomrl": dcsomrl(55),
    "dcsomrl as listed": dcsomrl(55, life_rule="update", life_decay=0.05, input_scaling=None),
    "dcsomrl in file order": dcsomrl(55, shuffle=False, repel="literal"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_result_of_a_seed_is_independent_of_the_ensemble(name):
    model = MODELS[name]
    (alone,) = fit_seeds(model, X, [3])
    among = fit_seeds(model, X, range(4))
    assert_same(alone, among[3], atol=1e-9)
    assert_same(clone(model).set_params(random_state=3).fit(X), alone)
    learned = {m.parameters_["nodes.centers"].tobytes() for m in among}
    assert len(learned) == (1 if name == "somrl in file order" else 4)


SETTINGS = [
    {"activation_threshold": 0.9, "life_decay": 0.11, "repel_rate": 0.0},
    {"activation_threshold": 0.97, "node_rate": 0.05, "relevance_rate": 0.5},
    {"neighborhood_decay": 0.2, "relevance_smoothness": 0.05, "repel_rate": 1.0},
    {},
]


@pytest.mark.parametrize("name", MODELS)
def test_models_of_different_settings_are_the_same_alone_and_in_a_stack(name):
    model, settings = MODELS[name], SETTINGS
    if isinstance(model, DCSOMRL):
        settings = [setting | {"alpha": 0.5 * s} for s, setting in enumerate(settings)]
    models = fit_seeds(model, X, [2] * 4, settings=settings)
    for setting, ours in zip(settings, models, strict=True):
        alone = clone(model).set_params(**setting, random_state=2).fit(X)
        assert_same(ours, alone, atol=1e-9)
        assert ours.get_params() == alone.get_params()
        assert ours.unplaced_ == alone.unplaced_
        np.testing.assert_array_equal(ours.predict(X, noise=True), alone.predict(X, noise=True))
    assert len({m.parameters_["nodes.centers"].tobytes() for m in models}) == 4
    assert len({m.n_nodes_ for m in models}) > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rule_has_the_precision_of_the_samples(dtype):
    samples = X.astype(dtype)
    for make in (somrl, dcsomrl):
        model = make(activation_threshold=0.99425, n_iter=2)
        built = model._build(9, torch.Generator()).to(torch.from_numpy(samples))
        restored = model.fit(samples)._network(torch.device("cpu"))
        for network in (built, restored):
            assert network.rule.a_t.shape == (1, 1)
            assert network.rule.a_t.numpy().item() == dtype(0.99425)
            assert {buffer.numpy().dtype for buffer in network.buffers()} == {np.dtype(dtype)}


def test_what_may_differ_and_what_may_not():
    assert set(SOMRL._may_differ) == set(PARAMETER.values())
    assert set(DCSOMRL._may_differ) == {*PARAMETER.values(), "alpha"}
    for model in (somrl(), dcsomrl()):
        for name in ("max_nodes", "repel", "life_rule", "batch_size"):
            with pytest.raises(ValueError, match=f"'{name}' cannot differ within an ensemble of"):
                fit_seeds(model, X, [0], settings=[{name: 3}])
        with pytest.raises(ValueError, match=r"^relevance_rate=2 must be a number from 0 to 1$"):
            fit_seeds(model, X, [0, 1], settings=[{}, {"relevance_rate": 2}])


NETWORKS = {SOMRL: SOMRLNetwork, DCSOMRL: DCSOMRLNetwork}


@contextmanager
def interrupted_at(model, iteration, error=KeyboardInterrupt):
    """Raise before one iteration, counted from entering the `with`."""
    network = NETWORKS[type(model)]
    updates, calls = network.updates, iter(range(10**9))

    def break_off(self, *args, **arguments):
        if next(calls) == iteration:
            raise error
        return updates(self, *args, **arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "updates", break_off)
        yield


@pytest.mark.parametrize(("name", "dtype"), [
    ("somrl", np.float64),
    ("somrl as listed", np.float32),
    ("somrl in file order", np.float64),
    ("dcsomrl", np.float64),
    ("dcsomrl as listed", np.float32),
])  # fmt: skip
def test_an_interrupted_training_resumes_bit_for_bit(tmp_path, name, dtype):
    model, samples = MODELS[name], X.astype(dtype)
    given_ = {"settings": [{}, {"activation_threshold": 0.96}]}
    undisturbed = fit_seeds(model, samples, [2, 5], **given_)
    for iteration in (1, 50, 53):
        file = tmp_path / f"{iteration}.checkpoint"
        with pytest.raises(KeyboardInterrupt), interrupted_at(model, iteration):
            fit_seeds(model, samples, [2, 5], checkpoint=file, **given_)
        resumed = fit_seeds(model, samples, [2, 5], checkpoint=file, **given_)
        for one, other in zip(undisturbed, resumed, strict=True):
            assert_same(one, other)
            assert len(other.history_["loss"]) == other.n_iter_ == 55
            assert one.unplaced_ == other.unplaced_
    with pytest.raises(ValueError, match="was made with other data, parameters or another"):
        fit_seeds(
            model, samples, [2, 5], checkpoint=file, settings=[{}, {"activation_threshold": 0.97}]
        )


@pytest.mark.parametrize("model", [somrl(n_iter=120), dcsomrl(120)], ids=["SOMRL", "DCSOMRL"])
def test_a_killed_training_resumes_bit_for_bit(tmp_path, monkeypatch, model):
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(time, "monotonic", iter(range(10**6)).__next__)  # each look: a second later
    file = tmp_path / "one.checkpoint"
    with pytest.raises(OSError, match="gone"), interrupted_at(model, 110, OSError("gone")):
        fit_seeds(model, X, [2, 5], checkpoint=file)  # nothing is written at the end
    first = []
    resumed = fit_seeds(model, X, [2, 5], checkpoint=file, callbacks=[lambda i, _: first.append(i)])
    assert first[0] > 49  # it did not begin again
    for one, other in zip(fit_seeds(model, X, [2, 5]), resumed, strict=True):
        assert_same(one, other)


def test_an_interrupted_map_is_usable_as_of_then():
    for model in (somrl(n_iter=55, random_state=1), dcsomrl(55, random_state=1)):
        with pytest.raises(KeyboardInterrupt), interrupted_at(model, 30):
            model.fit(X)
        assert_same(model, clone(model).set_params(n_iter=30).fit(X))


@pytest.mark.parametrize("model", [somrl(n_iter=5), dcsomrl(5)], ids=["SOMRL", "DCSOMRL"])
def test_an_interrupt_before_the_first_batch_is_passed_on(tmp_path, model):
    file = tmp_path / "one.checkpoint"
    try:
        with pytest.raises(KeyboardInterrupt), interrupted_at(model, 0):
            fit_seeds(model, X, [2], checkpoint=file)
        assert_same(*fit_seeds(model, X, [2], checkpoint=file), *fit_seeds(model, X, [2]))
    finally:
        torch.set_grad_enabled(True)  # so that a failure stays this test's own


def test_computing_activations_does_not_disable_gradients():
    activations = somrl(random_state=0).fit(X)._activations(X)
    next(activations)
    try:
        assert torch.is_grad_enabled()  # whenever the reading stops
    finally:
        activations.close()
        torch.set_grad_enabled(True)


def test_nodes_are_rolled_back_to_the_last_finite_loss(monkeypatch):
    model, updates = dcsomrl(120, random_state=0), DCSOMRLNetwork.updates
    calls = iter(range(10**6))

    def poisoned(self, *args, **arguments):
        ((losses, moved),) = updates(self, *args, **arguments)
        bad = np.nan if next(calls) == 107 else 1.0
        yield {name: loss * bad for name, loss in losses.items()}, moved

    with monkeypatch.context() as patch:
        patch.setattr(DCSOMRLNetwork, "updates", poisoned)
        with pytest.raises(FloatingPointError, match="not finite at iteration 107 of 120"):
            model.fit(X)
    assert_same(model, clone(model).set_params(n_iter=100).fit(X))


def test_a_step_too_large_names_the_rate_that_made_it():
    model = dcsomrl(5, learning_rate=1e200, random_state=7)
    message = r"^the loss of seed 7 is not finite .*; lower learning_rate=1e\+200"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(X)


def test_training_starts_from_a_start_model():
    twin = dcsomrl(20, random_state=0).fit(X)
    still = dcsomrl(1, learning_rate=1e-30, random_state=1).fit(X, start=twin)
    for name, value in twin.parameters_.items():
        if name.startswith(("encoder", "decoder")):
            np.testing.assert_allclose(still.parameters_[name], value, atol=1e-20)
    assert still.n_nodes_ == 1 < twin.n_nodes_  # nodes are its own
    plain = Autoencoder(hidden=(8, 6), latent_dim=3, n_iter=3, batch_size=20).fit(X)
    assert dcsomrl(1, hidden=(8, 6)).fit(X, start=plain).n_iter_ == 1


# ---------------------------------------------------------------- partial_fit


def in_order(**params):
    return somrl(shuffle=False, random_state=0, **params)


@pytest.mark.parametrize("life_rule", LIFE)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_batches_give_the_same_map(dtype, life_rule):
    samples = X.astype(dtype)
    model = in_order(n_epochs=1, life_rule=life_rule).fit(samples)
    once = in_order(life_rule=life_rule).partial_fit(samples)
    assert_same(model, once)
    assert once.n_iter_ == model.n_iter_ == 3
    assert once.seed_ == model.seed_ == 0
    assert once.unplaced_ == model.unplaced_
    assert once.parameters_["nodes.centers"].dtype == dtype
    assert once.history_["loss"].dtype == model.history_["loss"].dtype == dtype
    pieces = in_order(life_rule=life_rule).partial_fit(samples[:20])
    assert pieces.n_iter_ == 1
    pieces.partial_fit(samples[20:40]).partial_fit(samples[40:])
    np.testing.assert_array_equal(pieces.labels_, model.labels_[40:])
    assert_same(pieces.partial_fit(samples), in_order(n_epochs=2, life_rule=life_rule).fit(samples))


def test_partial_fit_continues_after_fit_and_after_loading(tmp_path):
    model = in_order(n_epochs=2).fit(X)
    model.save(tmp_path / "map.npz")
    back = SOMRL.load(tmp_path / "map.npz").partial_fit(X)
    assert_same(model.partial_fit(X), back)
    assert_same(back, in_order(n_epochs=3).fit(X))
    assert back.n_iter_ == 9
    assert_same(back.fit(X), in_order(n_epochs=2).fit(X))  # while fit begins anew


def test_a_fitted_map_takes_a_single_sample():
    model = in_order().partial_fit(X)
    before = model.n_nodes_
    model.partial_fit(X[:1])
    assert (model.n_iter_, len(model.labels_)) == (4, 1)
    model.partial_fit(1 - X[:1].round())  # as far away as can be
    assert model.n_nodes_ >= before
    assert model.activation_threshold <= model.transform(1 - X[:1].round()).max()


def test_partial_fit_raises_errors_for_other_features():
    model = in_order().partial_fit(X)
    with pytest.raises(ValueError, match="X has 8 features, but SOMRL is expecting 9 features"):
        model.partial_fit(X[:, 1:])
    with pytest.raises(ValueError, match=r"but SOMRL takes data in \[0, 1\]"):
        model.partial_fit(X + 1)
    assert_same(model, in_order(n_epochs=1).fit(X))
    assert not hasattr(dcsomrl(), "partial_fit")


@pytest.mark.parametrize(("params", "message"), [
    ({"activation_threshold": 1.0}, "activation_threshold=1.0 must be a number between 0 and 1"),
    ({"max_nodes": 0}, "max_nodes=0 must be a whole number of at least 1"),
    ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
    ({"batch_size": 1.5}, "batch_size=1.5 must be a whole number of at least 1"),
    ({"precision": "half"}, r"precision='half' is unknown; choose one of \['highest', 'high'"),
    ({"node_rate": 0}, "node_rate=0 must be a number above 0, up to 1"),
])  # fmt: skip
def test_partial_fit_raises_the_errors_of_fit(params, message):
    for use in (SOMRL.fit, SOMRL.partial_fit):
        with pytest.raises(ValueError, match=f"^{message}"):
            use(somrl(**params), X)


# ---------------------------------------------------------------- a full map


def refused(model, samples):
    return literal_map(model, samples, model.max_nodes)[1]


def test_a_full_map_warns_once_with_how_many_samples_were_not_placed():
    model = in_order(max_nodes=3, n_epochs=5)
    count = refused(model, X)
    assert count > 20
    message = (
        f"^no node was inserted for {count} samples below activation_threshold=0.93, because all "
        "max_nodes=3 were in use; raise max_nodes, or lower activation_threshold$"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        model.fit(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert model.unplaced_ == count
    assert model.n_nodes_ <= 3
    assert (model.history_["nodes"] <= 3).all()
    assert len(model.parameters_["nodes.life"]) == 3


def test_each_model_of_a_stack_warns_of_its_own():
    settings = [{"activation_threshold": a_t} for a_t in (0.5, 0.93, 0.99)]
    with pytest.warns(UserWarning, match="no node was inserted for") as caught:
        models = fit_seeds(in_order(max_nodes=3), X, range(3), settings=settings)
    texts = [str(warning.message) for warning in caught]
    assert [m.unplaced_ for m in models] == [refused(m, X) for m in models]
    assert models[0].unplaced_ == 0
    expected = [f".* for {m.unplaced_} samples .*={m.activation_threshold}, " for m in models[1:]]
    assert len(texts) == 2
    for text, pattern in zip(texts, expected, strict=True):
        assert re.match(pattern, text)
    assert {warning.filename for warning in caught} == {__file__}


def test_dc_somrl_warns_too():
    with pytest.warns(UserWarning, match="because all max_nodes=2 were in use") as caught:
        model = dcsomrl(max_nodes=2, activation_threshold=0.999).fit(X)
    assert len(caught) == 1
    assert model.n_nodes_ <= 2
    assert model.unplaced_ > 0


def test_partial_fit_warns_of_new_samples_at_its_caller():
    model = in_order(max_nodes=3)
    with pytest.warns(UserWarning, match="no node was inserted for") as caught:
        model.partial_fit(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    count = model.unplaced_
    model.partial_fit(model.centers_)  # none below the threshold: a warning would be an error
    assert model.unplaced_ == count


def test_max_nodes_can_be_raised_as_the_warning_says():
    model = in_order(max_nodes=3)
    with pytest.warns(UserWarning, match="raise max_nodes"):
        model.fit(X)
    labels = model.labels_
    np.testing.assert_array_equal(model.set_params(max_nodes=50).predict(X), labels)
    model.partial_fit(X)
    assert model.n_nodes_ > 3


# ---------------------------------------------------------------- as a scikit-learn estimator


def test_as_a_scikit_learn_estimator():
    for model in (somrl(repel=None, life_rule="update"), dcsomrl(input_scaling=(0.1, 0.3))):
        assert clone(model).get_params() == model.get_params()
        assert model.set_params(max_nodes=7, repel="literal").get_params()["max_nodes"] == 7
        for y in (None, np.arange(53), np.arange(3)):
            one, other = (clone(model).set_params(max_nodes=99, random_state=0) for _ in range(2))
            assert_same(one.fit(X, y), other.fit(X))
        np.testing.assert_array_equal(clone(one).fit_predict(X), one.labels_)
    pipe = make_pipeline(MinMaxScaler(clip=True), somrl(random_state=0))
    np.testing.assert_array_equal(pipe.fit_predict(7 * X - 3), pipe.predict(7 * X - 3))
    assert list(pipe.get_feature_names_out()) == [f"somrl{j}" for j in range(pipe[-1].n_nodes_)]
    assert pipe.transform(100 * X).shape == (53, pipe[-1].n_nodes_)  # clipped: never outside
    code = dcsomrl(random_state=0).fit(pd.DataFrame(X, columns=list("abcdefghi")))
    assert list(code.get_feature_names_out()) == ["dcsomrl0", "dcsomrl1", "dcsomrl2"]
    frame = code.set_output(transform="pandas").transform(
        pd.DataFrame(X, columns=list("abcdefghi"))
    )
    assert list(frame.columns) == ["dcsomrl0", "dcsomrl1", "dcsomrl2"]


@pytest.mark.parametrize("make", [somrl, dcsomrl])
@pytest.mark.parametrize(("given_dtype", "computed"), [
    ("float64", np.float64), ("float32", np.float32), ("float16", np.float32),
    ("int64", np.float32), ("bool", np.float32),
])  # fmt: skip
def test_double_precision_is_computed_in_double_all_else_in_single(make, given_dtype, computed):
    samples = (X if "float" in given_dtype else X.round()).astype(given_dtype)
    model = make(random_state=0, activation_threshold=0.8).fit(samples)
    assert {value.dtype for value in model.parameters_.values()} == {np.dtype(computed)}
    assert model.transform(samples).dtype == model.centers_.dtype == computed


@pytest.mark.parametrize("make", [somrl, dcsomrl])
def test_tensors_are_samples_too(make):
    model = make(random_state=0).fit(torch.from_numpy(X))
    assert_same(model, make(random_state=0).fit(X))
    tensor = torch.from_numpy(X).requires_grad_(True)
    np.testing.assert_array_equal(model.transform(tensor), model.transform(X))
    np.testing.assert_array_equal(model.predict(tensor), model.predict(X))
    np.testing.assert_array_equal(model.memberships(tensor), model.memberships(X))


def test_same_seed_same_map_other_seed_another():
    for make in (somrl, dcsomrl):
        one, same, other = (make(random_state=seed).fit(X) for seed in (3, 3, 4))
        assert_same(one, same)
        assert (one.history_["loss"] != other.history_["loss"]).any()
        assert one.seed_ == 3
        state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        make().fit(X)
        assert torch.equal(torch.get_rng_state(), state[0])  # nothing global is drawn from
        assert (np.random.get_state()[1] == state[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("model", [
    somrl(),
    somrl(repel=None, life_rule="update", n_iter=7, random_state=3),
    dcsomrl(),
    dcsomrl(repel="literal", hidden=[5], input_scaling=(0.5, 0.25), random_state=3),
    dcsomrl(input_scaling=None),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_saved_map_is_loaded_unchanged(tmp_path, model, dtype):
    frame = X.astype(dtype)
    if dtype == np.float32:
        frame = pd.DataFrame(frame, columns=list("abcdefghi"))
    model = clone(model).fit(frame)
    model.save(tmp_path / "map.npz")
    back = type(model).load(tmp_path / "map.npz")
    assert type(somlib.load(tmp_path / "map.npz")) is type(model)
    assert str(back) == str(model)
    assert back.get_params() == model.get_params()
    assert_same(back, model)
    assert back.parameters_["nodes.centers"].dtype == dtype
    assert (back.unplaced_, back.n_iter_, back.seed_) == (
        model.unplaced_,
        model.n_iter_,
        model.seed_,
    )
    names = ["n_nodes_", "centers_", "relevances_", "distances_", "connections_"]
    for name in names + ["decoded_centers_"] * isinstance(model, DCSOMRL):
        np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
    frame = 0.9 * frame
    for use in ("predict", "memberships", "transform"):
        np.testing.assert_array_equal(getattr(back, use)(frame), getattr(model, use)(frame))
    again = (clone(m).set_params(random_state=3).fit(frame) for m in (back, model))
    assert_same(*again)


# ---------------------------------------------------------------- bad input

COMMON = [
    ({"activation_threshold": 0}, "activation_threshold=0 must be a number between 0 and 1, both "
                                  "excluded"),
    ({"activation_threshold": 1.0}, "activation_threshold=1.0 must be a number between 0 and 1"),
    ({"activation_threshold": -0.5}, "activation_threshold=-0.5 must be a number between 0 and 1"),
    ({"activation_threshold": float("nan")}, "activation_threshold=nan must be a number between"),
    ({"activation_threshold": "high"}, "activation_threshold='high' must be a number between"),
    ({"node_rate": 1.5}, "node_rate=1.5 must be a number above 0, up to 1"),
    ({"node_rate": 0}, "node_rate=0 must be a number above 0, up to 1"),
    ({"node_rate": float("nan")}, "node_rate=nan must be a number above 0"),
    ({"repel_rate": -0.1}, "repel_rate=-0.1 must be a number from 0 to 1"),
    ({"repel_rate": 1.1}, "repel_rate=1.1 must be a number from 0 to 1"),
    ({"life_decay": -1e-9}, "life_decay=-1e-09 must be a number from 0 to 1"),
    ({"life_decay": float("inf")}, "life_decay=inf must be a number from 0 to 1"),
    ({"relevance_rate": 2}, "relevance_rate=2 must be a number from 0 to 1"),
    ({"relevance_rate": float("nan")}, "relevance_rate=nan must be a number from 0 to 1"),
    ({"neighborhood_decay": 0}, "neighborhood_decay=0 must be a positive number"),
    ({"neighborhood_decay": -1.0}, "neighborhood_decay=-1.0 must be a positive number"),
    ({"neighborhood_decay": float("nan")}, "neighborhood_decay=nan must be a positive number"),
    ({"relevance_smoothness": 0.0}, "relevance_smoothness=0.0 must be a positive number"),
    ({"relevance_smoothness": -0.1}, "relevance_smoothness=-0.1 must be a positive number"),
    ({"relevance_smoothness": float("inf")}, "relevance_smoothness=inf must be a positive number"),
    ({"relevance_smoothness": float("nan")}, "relevance_smoothness=nan must be a positive number"),
    ({"repel": "away"}, r"repel='away' is unknown; choose one of \['signed', 'literal', None\]"),
    ({"repel": False}, r"repel=False is unknown; choose one of \['signed', 'literal', None\]"),
    ({"life_rule": "epoch"}, r"life_rule='epoch' is unknown; choose one of \['batch', 'update'\]"),
    ({"life_rule": None}, r"life_rule=None is unknown; choose one of \['batch', 'update'\]"),
    ({"max_nodes": 0}, "max_nodes=0 must be a whole number of at least 1"),
    ({"max_nodes": True}, "max_nodes=True must be a whole number of at least 1"),
    ({"max_nodes": 1.5}, "max_nodes=1.5 must be a whole number of at least 1"),
    ({"batch_size": 54}, "batch_size=54 is larger than the data set of 53 samples; choose at most"),
    ({"batch_size": 0}, "batch_size=0 must be a whole number of at least 1"),
    ({"n_iter": 0}, "n_iter=0 must be a whole number of at least 1"),
    ({"n_iter": None, "n_epochs": 0}, "n_epochs=0 must be a whole number of at least 1"),
    ({"precision": "half"}, r"precision='half' is unknown; choose one of \['highest', 'high'"),
    ({"random_state": -1}, "random_state=-1 must be None, a whole number"),
    ({"device": "tpu"}, "device='tpu' must be 'auto', 'cpu', 'cuda'"),
]  # fmt: skip
SCALINGS = " must be 'standardize', (a finite number, a positive number) or None"
DEEP = [
    ({"latent_dim": 10}, "latent_dim=10 is more than the 9 features of X"),
    ({"latent_dim": 0}, "latent_dim=0 must be a whole number of at least 1"),
    ({"hidden": 6}, "hidden=6 must be a sequence, each entry a whole number"),
    ({"hidden": (6, 0)}, r"hidden=\(6, 0\) must be a sequence, each entry a whole"),
    ({"alpha": -1e-3}, "alpha=-0.001 must be a finite number of at least 0"),
    ({"alpha": float("nan")}, "alpha=nan must be a finite number of at least 0"),
    ({"alpha": float("inf")}, "alpha=inf must be a finite number of at least 0"),
    ({"learning_rate": 0}, "learning_rate=0 must be a positive number"),
    ({"learning_rate": -1e-3}, "learning_rate=-0.001 must be a positive number"),
    ({"learning_rate": float("nan")}, "learning_rate=nan must be a positive number"),
    *(
        ({"input_scaling": bad}, re.escape(f"input_scaling={bad!r}{SCALINGS}"))
        for bad in ("minmax", 0.5, (0.5,), (0.5, 0), (0.5, -1.0), (float("nan"), 1.0), True, (),
                    (0.5, float("inf")), (0.5, 0.5, 0.5), [[0.5, 0.5]], ("a", 1), {"a": 1})
    ),
]  # fmt: skip


@pytest.mark.parametrize(("params", "message"), COMMON)
@pytest.mark.parametrize("make", [somrl, dcsomrl])
def test_invalid_arguments_of_fit_raise_errors(make, params, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make().set_params(**params).fit(X)
    if "random_state" not in params:
        with pytest.raises(ValueError, match=f"^{message}"):
            fit_seeds(make().set_params(**params), X, range(3))


@pytest.mark.parametrize(("params", "message"), DEEP)
def test_fitting_an_autoencoder_says_more(params, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        dcsomrl().set_params(**params).fit(X)


@pytest.mark.parametrize("scaling", [(0.5, 0.25), [0.5, 0.25], np.array([0.5, 0.25])], ids=repr)
def test_two_numbers_are_a_scaling_however_they_are_held(scaling):
    expected = dcsomrl(input_scaling=(0.5, 0.25), random_state=0).fit(X)
    assert_same(dcsomrl(input_scaling=scaling, random_state=0).fit(X), expected)


@pytest.mark.parametrize("ends", [
    {"repel_rate": 0, "life_decay": 0, "relevance_rate": 0},
    {"repel_rate": 1, "life_decay": 1, "relevance_rate": 1, "node_rate": 1},
    {"max_nodes": 1, "activation_threshold": 1e-9},
])  # fmt: skip
@pytest.mark.parametrize("make", [somrl, dcsomrl])
def test_the_ends_of_the_ranges_are_fine(make, ends):
    model = make(**ends).fit(X)
    assert model.n_nodes_ >= 1
    assert all(np.isfinite(value).all() for value in model.parameters_.values())


def test_as_many_dimensions_as_features_are_fine():
    assert dcsomrl(1, latent_dim=9, alpha=0, input_scaling=None).fit(X).centers_.shape == (1, 9)


def test_parameters_are_only_stored_before_fit():
    assert somrl(activation_threshold=7, repel="x").activation_threshold == 7
    assert dcsomrl(input_scaling="nonsense").input_scaling == "nonsense"


NAN, INF = X.copy(), X.copy()
NAN[3, 2], INF[5, 1] = np.nan, np.inf


@pytest.mark.parametrize(("samples", "message"), [
    (NAN, "X contains NaN in row"),
    (INF, "X contains infinity"),
    (X[0], "Reshape your data"),
    (X[:1], r"X has 1 sample\(s\) .* while a minimum of 2 is required"),
    (X[:, :0], r"X has 0 feature\(s\)"),
])  # fmt: skip
@pytest.mark.parametrize("make", [somrl, dcsomrl])
def test_invalid_data_raise_errors(make, samples, message):
    with pytest.raises(ValueError, match=message):
        make().fit(samples)
    model = make().fit(X)
    if len(samples) != 1:
        for use in (model.predict, model.memberships, model.transform):
            with pytest.raises(ValueError, match=message):
                use(samples)


@pytest.mark.parametrize(("change", "low", "high"), [
    (lambda x: x * 255, "1.", "25"),
    (lambda x: x - 0.5, "-0.4", "0.4"),
    (lambda x: np.where(x == x.max(), 1.0001, x), "0.0", "1"),
    (lambda x: np.where(x == x.min(), -1e-3, x), "-0.001", "0.9"),
])  # fmt: skip
def test_data_outside_the_unit_interval_name_the_scaler(change, low, high):
    message = (
        rf"^X lies within \[{low}.*, {high}.*\], but SOMRL takes data in \[0, 1\]; scale them, "
        r"for example with MinMaxScaler\(clip=True\) of scikit-learn$"
    )
    fitted_one = somrl(random_state=0).fit(X)
    for use in (
        somrl().fit, somrl().partial_fit, somrl().fit_predict, fitted_one.partial_fit,
        fitted_one.predict, fitted_one.memberships, fitted_one.transform,
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            use(change(X))
    assert_same(fitted_one, somrl(random_state=0).fit(X))  # what was learned stays
    dcsomrl().fit(change(X))  # which scales by itself


def test_invalid_arguments_of_a_fitted_model_raise_errors():
    for model in (somrl().fit(X), dcsomrl().fit(X)):
        name = type(model).__name__
        for use in (model.predict, model.memberships, model.transform):
            with pytest.raises(ValueError, match=f"X has 8 features, but {name} is expecting 9"):
                use(X[:, 1:])
    for Z in (X[0, :3], X[:, :4], NAN[3:5, 2:5], INF[5:, 1:4]):
        with pytest.raises(ValueError, match=r"^Z (has shape|contains)"):
            model.inverse_transform(Z)


@pytest.mark.parametrize("model", [somrl(), dcsomrl()], ids=["SOMRL", "DCSOMRL"])
def test_nothing_is_used_before_it_is_fitted(tmp_path, model):
    names = ["n_nodes_", "centers_", "relevances_", "distances_", "connections_"]
    uses = [model.predict, model.memberships, model.transform]
    uses += [lambda _: model.save(tmp_path / "map.npz")]
    if isinstance(model, DCSOMRL):
        names, uses = [*names, "decoded_centers_"], [*uses, model.inverse_transform]
    uses += [lambda _, name=name: getattr(model, name) for name in names]
    for use in uses:
        with pytest.raises(NotFittedError, match=f"This {type(model).__name__} instance is not "):
            use(X)


def test_an_absent_device_is_an_error_and_never_a_fallback(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    fitted_ones = [somrl(device="cpu").fit(X), dcsomrl(device="cpu").fit(X)]
    for device in ("cuda", "cuda:1", "mps"):
        uses = [somrl(device=device).fit, somrl(device=device).partial_fit]
        uses += [dcsomrl(device=device).fit]
        uses += [model.set_params(device=device).predict for model in fitted_ones]
        for use in uses:
            with pytest.raises(RuntimeError, match=f"device='{device}' was asked for.*use device="):
                use(X)
