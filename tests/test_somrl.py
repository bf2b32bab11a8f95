import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somlib import somrl
from somlib.somrl import DCSOMRL, SOMRL, Nodes, activation, relevances, repulsion
from somlib.training import fit_seeds

SYMBOLS = ("a_t", "lr", "rho", "ld", "beta", "gamma", "s")
RULE = dict(zip(SYMBOLS, (0.93, 0.2, 0.3, 0.3, 0.1, 1.5, 0.4), strict=True))


# ---------------------------------------------------------------- algorithm 1, as one reads it


def ac(x, node):  # (1) and (2)
    D = sum(w * (xi - ci) ** 2 for w, xi, ci in zip(node["omega"], x, node["c"], strict=True))
    return node["omega"].sum() / (node["omega"].sum() + D + 1e-7)


def fresh(x):
    return {"c": x.copy(), "omega": np.ones_like(x), "delta": np.zeros_like(x), "life": 1.0}


def literal_relevance(delta, s):  # (6), with the sign of the text
    if delta.max() == delta.min():
        return np.ones_like(delta)
    return 1 / (1 + np.exp((delta - delta.mean()) / (s * (delta.max() - delta.min()))))


def literal_batch(slots, X, rule, repel, room):
    """Take one batch; `slots` maps a place to the node there."""
    if not slots:
        slots[0] = fresh(X.mean(0))
        return
    free = [place for place in range(room) if place not in slots]
    winner = [max(slots, key=lambda j: ac(x, slots[j])) for x in X]
    near = [ac(x, slots[j]) >= rule["a_t"] for x, j in zip(X, winner, strict=True)]
    groups = {
        hit: {
            j: X[[i for i in range(len(X)) if winner[i] == j and near[i] == hit]].mean(0)
            for j in sorted(slots)
            if any(winner[i] == j and near[i] == hit for i in range(len(X)))
        }
        for hit in (True, False)
    }
    pulls = {k: [] for k in slots}
    for j, x in groups[True].items():
        answers = {k: ac(x, node) for k, node in slots.items()}
        order = [j, *sorted((k for k in slots if k != j), key=lambda k: -answers[k])]
        for r, k in enumerate(order):
            if answers[k] >= rule["a_t"]:
                pulls[k].append((rule["lr"] * np.exp(-r / rule["gamma"]), x))
    middle = np.mean([node["c"] for node in slots.values()], 0)
    for k, heard in pulls.items():
        if not heard:
            continue
        node, total = slots[k], sum(lr for lr, _ in heard)
        lr = 1 - np.prod([1 - lr for lr, _ in heard])
        x = sum(lr * x for lr, x in heard) / total
        d = middle - node["c"]
        push = {
            "signed": np.sign(d) * np.maximum(1 - 2 * abs(d), 0),
            "literal": np.maximum(1 - 2 * d, 0),
            None: 0 * d,
        }[repel]
        node["c"] = node["c"] + lr * ((x - node["c"]) - rule["rho"] * push)  # (3)
        beta = rule["beta"] * lr
        node["delta"] = (1 - beta) * node["delta"] + beta * abs(x - node["c"])  # (5)
        node["omega"] = literal_relevance(node["delta"], rule["s"])
    for j in list(slots):
        slots[j]["life"] = 1.0 if j in winner else slots[j]["life"] - rule["ld"]
        if slots[j]["life"] < 0:
            del slots[j]
    size = {j: sum(winner[i] == j and not near[i] for i in range(len(X))) for j in groups[False]}
    for place, j in zip(free, sorted(size, key=lambda j: -size[j]), strict=False):
        slots[place] = fresh(groups[False][j])


def batches(n=40, size=30, m=4, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.random((7, m))
    X = centers[rng.integers(7, size=(n, size))] + 0.1 * rng.standard_normal((n, size, m))
    return X.clip(0, 1)


def learned(X, rule, repel, room, S=1):
    nodes = Nodes(S, room, X.shape[-1]).double()
    tensors = {k: torch.full((S, 1, 1), v, dtype=torch.float64) for k, v in rule.items()}
    for batch in X:
        nodes.learn(torch.tensor(batch).expand(S, *batch.shape), tensors, repel)
        yield nodes


@pytest.mark.parametrize("room", [5, 12, 40])
@pytest.mark.parametrize("repel", ["signed", "literal", None])
@pytest.mark.parametrize("change", [{}, {"ld": 0.6}, {"a_t": 0.98}, {"gamma": 0.3}])
def test_a_map_learns_as_the_algorithm_reads(room, repel, change):
    X, rule, slots, removed = batches(), RULE | change, {}, 0
    for batch, nodes in zip(X, learned(X, rule, repel, room), strict=True):
        before = set(slots)
        literal_batch(slots, batch, rule, repel, room)
        removed += len(before - set(slots))
        alive = nodes.alive[0].nonzero()[:, 0].tolist()
        assert alive == sorted(slots)
        for name, ours in (("c", nodes.centers), ("delta", nodes.distances), ("omega", nodes.relevances)):
            theirs = np.stack([slots[j][name] for j in alive])
            np.testing.assert_allclose(ours[0, alive], theirs, atol=1e-9)
    assert len(slots) > 1
