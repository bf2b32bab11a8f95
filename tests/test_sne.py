"""The three objectives against literal double loops and scikit-learn; traps of floating point."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.spatial.distance import pdist, squareform
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.manifold._t_sne import _joint_probabilities
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from somlib import data
from somlib.evaluation.metrics import trustworthiness
from somlib.models.sne import (
    SNE,
    conditional_probabilities,
    divergence,
    gradient,
    joint_probabilities,
    map_probabilities,
)

KINDS = ["sne", "symmetric", "t"]
rng = np.random.default_rng(42)
X = rng.normal(size=(60, 4))
DIGITS = data.load("digits").X


def log_perplexity(P):
    return -np.where(P > 0, P * np.log(np.where(P > 0, P, 1)), 0).sum(1)


def dense_and_thin(ratio):
    """Return two clusters, one of them `ratio` times as wide as the other, 5 or more apart."""
    return np.concatenate([X[:30], 10 + ratio * X[30:]])


def other_than(i, n):
    return np.arange(n) != i


# ---------------------------------------------------------------- probabilities of the data


@pytest.mark.parametrize("perplexity", [1.01, 2, 5.5, 10, 30, 58, 58.99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_every_point_has_the_given_perplexity(perplexity, dtype, scale):
    P = conditional_probabilities((scale * X).astype(dtype), perplexity)
    assert P.dtype == np.float64
    assert np.abs(log_perplexity(P) - math.log(perplexity)).max() <= 1e-5
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-13)
    assert (np.diag(P) == 0).all()
    assert (P >= 0).all()


@pytest.mark.parametrize("ratio", [1e-1, 1e-3, 1e-6, 1e-8, 1e3, 1e6])
@pytest.mark.parametrize("perplexity", [3, 20])
def test_every_point_has_its_perplexity_in_dense_places_and_in_thin_ones(ratio, perplexity):
    P = conditional_probabilities(dense_and_thin(ratio), perplexity)
    assert np.abs(log_perplexity(P) - math.log(perplexity)).max() <= 1e-5


def test_the_tolerance_is_what_it_says():
    for tol in (1e-1, 1e-3, 1e-9):
        missed = np.abs(log_perplexity(conditional_probabilities(X, 10, tol)) - math.log(10)).max()
        assert missed <= tol
        assert tol < 1e-6 or missed > tol / 1e3  # and it is not finer than need be
    rough = log_perplexity(conditional_probabilities(X, 10, max_steps=2))
    assert np.abs(rough - math.log(10)).max() > 1e-3


def one_point_at_a_time(Z, perplexity):
    """Return p_{j|i} by the bisection of van der Maaten's `x2p`, point by point."""
    n = len(Z)
    P = np.zeros((n, n))
    for i in range(n):
        D = np.array([((Z[i] - Z[j]) ** 2).sum() for j in range(n) if j != i])
        beta, low, high = 1.0, -math.inf, math.inf
        for _ in range(300):
            p = np.exp(-beta * (D - D.min()))
            p = p / p.sum()
            miss = -sum(q * math.log(q) for q in p if q > 0) - math.log(perplexity)
            if abs(miss) < 1e-11:
                break
            if miss > 0:
                low, beta = beta, 2 * beta if high == math.inf else (beta + high) / 2
            else:
                high, beta = beta, beta / 2 if low == -math.inf else (beta + low) / 2
        P[i, other_than(i, n)] = p
    return P


@pytest.mark.parametrize("Z", [
    X, X.astype(np.float32), 1e-6 * X, 1e6 * X, dense_and_thin(1e-2), dense_and_thin(1e-6), X[:, :1]
], ids=["normal", "float32", "small", "large", "dense", "very dense", "line"])  # fmt: skip
@pytest.mark.parametrize("perplexity", [2, 15])
def test_all_points_at_once_are_the_loop_over_points(Z, perplexity):
    expected = one_point_at_a_time(Z.astype(np.float64), perplexity)
    P = conditional_probabilities(Z, perplexity, tol=1e-11)
    np.testing.assert_allclose(P, expected, atol=1e-9)
    np.testing.assert_allclose(conditional_probabilities(Z, perplexity), expected, atol=1e-4)


def test_the_precision_solves_the_equation_that_defines_it():
    P = conditional_probabilities(X, 12, tol=1e-13)
    for i in (0, 17, 59):
        D = ((X[i] - X[other_than(i, 60)]) ** 2).sum(1)

        def miss(beta, D=D):
            p = np.exp(-beta * D) / np.exp(-beta * D).sum()
            return math.exp(-(p * np.log(p)).sum()) - 12

        beta = brentq(miss, 1e-3, 10, xtol=1e-15)
        p = np.exp(-beta * D) / np.exp(-beta * D).sum()
        np.testing.assert_allclose(P[i, other_than(i, 60)], p, atol=1e-11)


@pytest.mark.parametrize("Z", [X, DIGITS[:200]], ids=["normal", "digits"])
@pytest.mark.parametrize("perplexity", [5, 30])
def test_joint_probabilities_are_those_of_scikit_learn(Z, perplexity):
    D = squareform(pdist(Z.astype(np.float64), "sqeuclidean")).astype(np.float32)
    expected = squareform(_joint_probabilities(D, perplexity, 0))
    found = joint_probabilities(conditional_probabilities(Z, perplexity))
    # both stop within 1e-5 of log perplexity, but not at the same place
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 / len(Z))


# ---------------------------------------------------------------- where floating point is a trap

LATTICE = np.round(X * 1024) / 1024  # so that adding a whole number of up to 1e9 rounds nothing


@pytest.mark.parametrize("shift", [1, -1e3, 1e5, 1e6, 1e7, 1e9])
def test_only_differences_of_points_count_however_far_they_are_from_the_origin(shift):
    expected = conditional_probabilities(LATTICE, 10, tol=1e-10)
    found = conditional_probabilities(LATTICE + shift, 10, tol=1e-10)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("shift", [1e2, 1e4])
def test_float32_points_far_from_the_origin_are_worth_what_rounding_left_of_them(shift):
    rounded = (X + shift).astype(np.float32)
    expected = one_point_at_a_time(rounded.astype(np.float64) - shift, 10)
    np.testing.assert_allclose(conditional_probabilities(rounded, 10, 1e-9), expected, atol=1e-6)


@pytest.mark.parametrize("d", [2, 13, 64, 101])
@pytest.mark.parametrize("n", [3, 12])
def test_a_point_with_more_copies_than_perplexity_ends_with_its_copies_alike(n, d):
    places = np.random.default_rng(0).normal(size=(n, d))
    which = np.random.default_rng(1).permutation(np.repeat(np.arange(n), 5))
    P = conditional_probabilities(places[which], 2)
    copies = (which[:, None] == which) & ~np.eye(5 * n, dtype=bool)
    np.testing.assert_allclose(P[copies], 1 / 4, rtol=1e-12)
    np.testing.assert_allclose(P[~copies], 0, atol=1e-12)


def test_fewer_copies_than_perplexity_leave_it_what_it_is():
    places = np.random.default_rng(0).normal(size=(12, 13))
    P = conditional_probabilities(np.repeat(places, 5, 0), 7)
    assert np.abs(log_perplexity(P) - math.log(7)).max() <= 1e-5
    assert P[0, 1:5].min() > P[0, 5:].max()


def test_duplicates_do_not_change_other_points():
    Z = np.concatenate([np.tile(10 + X[0], (20, 1)), X[1:41], [[9, 9, 9, 9]]])
    P = conditional_probabilities(Z, 4)
    np.testing.assert_allclose(P[:20, :20], (1 - np.eye(20)) / 19, atol=1e-12)
    assert np.abs(log_perplexity(P)[20:60] - math.log(4)).max() <= 1e-5
    np.testing.assert_allclose(P[60, :20], 1 / 20, atol=1e-12)  # whose nearest they are, all alike


STAR = np.concatenate([np.zeros((1, 4)), np.eye(4), -np.eye(4)])


@pytest.mark.parametrize("Z", [np.ones((8, 2)), np.eye(8), 1e-3 * np.eye(8)],
                         ids=["all equal", "one-hot", "small"])  # fmt: skip
def test_points_that_are_all_equally_near_pick_each_other_alike(Z):
    np.testing.assert_allclose(conditional_probabilities(Z, 3), (1 - np.eye(8)) / 7, rtol=1e-12)


def test_a_point_amid_equally_near_ones_does_not_spoil_the_rest():
    P = conditional_probabilities(STAR, 3)
    np.testing.assert_allclose(P[0, 1:], 1 / 8, rtol=1e-12)
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-12)


def test_points_of_a_lattice_pick_their_nearest_when_these_are_more_than_perplexity():
    Z = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(25, 2)
    P = conditional_probabilities(Z, 1.5)
    nearest = np.abs(Z[12] - Z).sum(1) == 1
    np.testing.assert_allclose(P[12], nearest / 4, atol=1e-12)


@pytest.fixture
def _torch_warns_each_time():
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.mark.usefixtures("_torch_warns_each_time")
@pytest.mark.parametrize("how", ["locked", "reversed", "other bytes", "columns", "list", "frame"])
def test_points_may_have_any_memory_layout(how):
    locked = X.copy()
    locked.flags.writeable = False
    Z = {
        "locked": locked,
        "reversed": np.ascontiguousarray(X[::-1])[::-1],
        "other bytes": X.astype(X.dtype.newbyteorder()),
        "columns": np.asfortranarray(X),
        "list": X.tolist(),
        "frame": pd.DataFrame(X),
    }[how]
    expected = conditional_probabilities(X, 9)
    np.testing.assert_allclose(conditional_probabilities(Z, 9), expected, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, bool])
def test_small_and_whole_numbers_do_not_overflow(dtype):
    Z = np.round(50 * np.abs(X)).astype(dtype)
    expected = conditional_probabilities(Z.astype(np.float64), 9)
    np.testing.assert_allclose(conditional_probabilities(Z, 9), expected, rtol=1e-10)


# ---------------------------------------------------------------- pairs


@given(st.integers(4, 30), st.floats(0.05, 0.95), st.integers(0, 2**20))
def test_joint_probabilities_are_symmetric_and_positive(n, share, seed):
    Z = np.random.default_rng(seed).standard_cauchy((n, 3))  # with outliers
    P = conditional_probabilities(Z, 1 + share * (n - 2))
    joint = joint_probabilities(P)
    np.testing.assert_array_equal(joint, joint.T)
    assert joint.sum() == pytest.approx(1, rel=1e-12)
    assert (np.diag(joint) == 0).all()
    assert joint.sum(1).min() >= 1 / (2 * n) * (1 - 1e-12)


def test_every_point_has_more_than_its_share_and_pairs_are_means():
    Z = np.concatenate([X, [[4, 4, 4, 4]]])
    P = conditional_probabilities(Z, 10)
    joint = joint_probabilities(P)
    assert (joint.sum(1) > 1 / (2 * 61)).all()
    for i, j in ((0, 1), (7, 60), (60, 7)):
        assert joint[i, j] == pytest.approx((P[i, j] + P[j, i]) / (2 * 61), rel=1e-14)
    np.testing.assert_array_equal(joint_probabilities(P.tolist()), joint)


@given(st.integers(0, 2**20), st.integers(-20, 20), st.floats(-30, 30))
def test_probabilities_know_neither_order_nor_place_nor_scale(seed, power, shift):
    order = np.random.default_rng(seed).permutation(60)
    P = conditional_probabilities(X, 8, tol=1e-11)
    moved = conditional_probabilities(2.0**power * (X[order] + shift), 8, tol=1e-11)
    np.testing.assert_allclose(moved, P[np.ix_(order, order)], atol=1e-8)


# ---------------------------------------------------------------- the three objectives


def literal_q(Y, kind):
    """Return q_{j|i} or q_ij, a quotient for each pair."""
    n = len(Y)

    def kernel(i, j):
        d = sum((a - b) ** 2 for a, b in zip(Y[i], Y[j], strict=True))
        return 1 / (1 + d) if kind == "t" else math.exp(-d)

    q = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j and kind == "sne":
                q[i, j] = kernel(i, j) / sum(kernel(i, k) for k in range(n) if k != i)
            elif i != j:
                q[i, j] = kernel(i, j)
    return q if kind == "sne" else q / q.sum()


def literal_divergence(Y, P, kind):
    q, n = literal_q(Y, kind), len(Y)
    return sum(
        P[i, j] * math.log(P[i, j] / q[i, j])
        for i in range(n)
        for j in range(n)
        if i != j and P[i, j] > 0
    )


def literal_gradient(Y, P, kind):
    """Return the gradient as the papers print it, pair by pair."""
    q, n = literal_q(Y, kind), len(Y)
    slope = np.zeros_like(Y)
    for i in range(n):
        for j in range(n):
            away = Y[i] - Y[j]
            if kind == "sne":
                slope[i] += 2 * (P[i, j] - q[i, j] + P[j, i] - q[j, i]) * away
            elif kind == "symmetric":
                slope[i] += 4 * (P[i, j] - q[i, j]) * away
            else:
                slope[i] += 4 * (P[i, j] - q[i, j]) * away / (1 + (away**2).sum())
    return slope


def probabilities(kind, n=14, perplexity=4):
    P = conditional_probabilities(X[:n], perplexity)
    return P if kind == "sne" else joint_probabilities(P)


def a_map(m=2, n=14, seed=0, spread=1.0):
    return spread * np.random.default_rng(seed).normal(size=(n, m))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("spread", [1e-4, 1, 3])
def test_objectives_and_gradients_are_the_double_loops_of_the_papers(kind, m, spread):
    Y, P = a_map(m, spread=spread), probabilities(kind)
    tensors = torch.from_numpy(Y), torch.from_numpy(P)
    q = map_probabilities(tensors[0], kind).numpy()
    np.testing.assert_allclose(q, literal_q(Y, kind), rtol=1e-9, atol=1e-300)
    assert float(divergence(*tensors, kind)) == pytest.approx(
        literal_divergence(Y, P, kind), rel=1e-9
    )
    expected = literal_gradient(Y, P, kind)
    np.testing.assert_allclose(
        gradient(*tensors, kind), expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max()
    )


def test_student_s_kernel_is_the_default():
    Y, P = torch.from_numpy(a_map()), torch.from_numpy(probabilities("t"))
    assert divergence(Y, P) == divergence(Y, P, "t")
    torch.testing.assert_close(gradient(Y, P), gradient(Y, P, "t"), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 2, 3])
@pytest.mark.parametrize("spread", [0.1, 1, 2])
def test_gradients_are_finite_differences_of_the_objectives(kind, m, spread):
    Y, P = torch.from_numpy(a_map(m, spread=spread)), torch.from_numpy(probabilities(kind))
    slope, h = torch.zeros_like(Y), 1e-5
    for place in np.ndindex(*Y.shape):
        above, below = Y.clone(), Y.clone()
        above[place] += h
        below[place] -= h
        slope[place] = (divergence(above, P, kind) - divergence(below, P, kind)) / (2 * h)
    found = gradient(Y, P, kind)
    assert (found - slope).norm() <= 1e-6 * slope.norm()
    assert slope.norm() > 0.01


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1, 12])
def test_gradients_are_those_of_autograd(kind, factor):
    Y, P = torch.from_numpy(a_map()).requires_grad_(True), torch.from_numpy(probabilities(kind))
    (slope,) = torch.autograd.grad(divergence(Y, P, kind), Y)
    torch.testing.assert_close(gradient(Y.detach(), P, kind), slope, rtol=1e-10, atol=1e-12)
    exaggerated = gradient(Y.detach(), factor * P, kind)
    assert (exaggerated.norm() > 2 * slope.norm()) == (factor > 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_zero_where_the_probabilities_are_equal(kind):
    Y = torch.from_numpy(a_map())
    P = map_probabilities(Y, kind)
    assert P.sum() == pytest.approx(14 if kind == "sne" else 1, rel=1e-12)
    assert (P.diag() == 0).all()
    assert float(divergence(Y, P, kind)) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gradient(Y, P, kind), 0, atol=1e-12)


@pytest.mark.parametrize("kind", ["sne", "symmetric"])
def test_gaussians_of_maps_so_wide_that_they_vanish_still_have_logarithms(kind):
    Y, P = a_map(spread=60), probabilities(kind)
    log_q = -squareform(pdist(Y, "sqeuclidean"))
    np.fill_diagonal(log_q, -np.inf)
    log_q = log_q - logsumexp(log_q, 1 if kind == "sne" else None, keepdims=True)
    assert np.exp(log_q[log_q > -np.inf]).min() == 0
    there = P > 0
    expected = (P[there] * (np.log(P[there]) - log_q[there])).sum()
    found = divergence(torch.from_numpy(Y), torch.from_numpy(P), kind)
    assert float(found) == pytest.approx(expected, rel=1e-10)
    assert gradient(torch.from_numpy(Y), torch.from_numpy(P), kind).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_with_no_probability_at_all_cost_nothing(kind):
    P = probabilities(kind)
    P[3, 5] = P[5, 3] = 0
    found = divergence(torch.from_numpy(a_map()), torch.from_numpy(P), kind)
    assert float(found) == pytest.approx(literal_divergence(a_map(), P, kind), rel=1e-9)


@given(
    st.sampled_from(KINDS),
    st.integers(0, 2**20),
    st.floats(-math.pi, math.pi),
    st.booleans(),
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_a_map_may_be_moved_turned_mirrored_and_renumbered(kind, seed, angle, mirrored, shift):
    Y, P = torch.from_numpy(a_map(seed=seed)), torch.from_numpy(probabilities(kind))
    c, s = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[c, -s], [s, c]], dtype=Y.dtype)
    turn = turn @ torch.diag(torch.tensor([1.0, -1 if mirrored else 1], dtype=Y.dtype))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(Y)))
    moved = (Y @ turn + torch.tensor(shift, dtype=Y.dtype))[order]
    shuffled = P[order][:, order]
    loss, slope = divergence(Y, P, kind), gradient(Y, P, kind)
    assert loss >= -1e-12 or kind == "t"
    assert float(divergence(moved, shuffled, kind)) == pytest.approx(float(loss), rel=1e-8)
    torch.testing.assert_close(
        gradient(moved, shuffled, kind), (slope @ turn)[order], rtol=1e-7, atol=1e-9
    )
    np.testing.assert_allclose(slope.sum(0), 0, atol=1e-11)  # the map as a whole stays


@pytest.mark.parametrize("kind", KINDS)
def test_a_float32_map_far_from_the_origin_keeps_its_distances(kind):
    Y = torch.from_numpy(np.round(64 * a_map()) / 64).float()
    P = torch.from_numpy(probabilities(kind)).float()
    moved = Y + 8192  # rounds nothing
    torch.testing.assert_close(
        divergence(moved, P, kind), divergence(Y, P, kind), rtol=1e-4, atol=0
    )
    # not closer than coordinates of 8192 in float32 allow sums of forces to be
    torch.testing.assert_close(gradient(moved, P, kind), gradient(Y, P, kind), rtol=0, atol=0.02)


@pytest.mark.parametrize("function", [
    lambda Y, P, kind: map_probabilities(Y, kind), divergence, gradient
], ids=["probabilities", "divergence", "gradient"])  # fmt: skip
def test_an_unknown_objective_is_not_taken_for_another(function):
    with pytest.raises(ValueError, match="kind='tsne' is unknown"):
        function(torch.from_numpy(a_map()), torch.from_numpy(probabilities("t")), "tsne")


# ---------------------------------------------------------------- training


def literal_training(Y, P, kind, n_iter, rate, exaggeration):
    """Return the map and the divergences by van der Maaten's update, number by number."""
    step, gain, seen = np.zeros_like(Y), np.ones_like(Y), []
    early = min(250, n_iter // 4)
    for t in range(n_iter):
        if t == early:
            step, gain = np.zeros_like(Y), np.ones_like(Y)
        slope = literal_gradient(Y, exaggeration * P if t < early else P, kind)
        for place in np.ndindex(*Y.shape):
            against = np.sign(slope[place]) != np.sign(step[place])
            gain[place] = gain[place] + 0.2 if against and step[place] else gain[place] * 0.8
            gain[place] = max(gain[place], 0.01)
            momentum = 0.5 if t < early else 0.8
            step[place] = momentum * step[place] - rate * gain[place] * slope[place]
        Y = Y + step
        if t % 10 == 0:
            seen.append(literal_divergence(Y, P, kind))
    return Y, seen


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exaggeration", [1, 3.5])
def test_training_is_the_literal_update(kind, exaggeration):
    start = a_map(n=9, spread=0.1)
    rate = {"sne": 0.05, "symmetric": 0.5, "t": 2}[kind]
    model = SNE(
        kind, perplexity=3, n_iter=45, learning_rate=rate, early_exaggeration=exaggeration,
        init=start,
    ).fit(X[:9])  # fmt: skip
    Y, seen = literal_training(
        start.copy(), probabilities(kind, 9, 3), kind, 45, rate, exaggeration
    )
    np.testing.assert_allclose(model.embedding_, Y, atol=1e-7)
    np.testing.assert_allclose(model.history_["loss"], seen, rtol=1e-6)
    assert np.abs(Y - start).max() > 0.1


def test_automatic_rates_and_exaggeration_are_the_documented_ones():
    Z = rng.normal(size=(240, 3))
    for params, rate, exaggeration in (
        ({"kind": "t"}, 50, 12),
        ({"kind": "t", "early_exaggeration": 0.5}, 120, 0.5),
        ({"kind": "symmetric"}, 6, 1),
        ({"kind": "sne"}, 6 / 240, 1),
        ({"kind": "symmetric", "early_exaggeration": 4.0}, 5, 4),
    ):
        auto = SNE(**params, n_iter=12).fit(Z)
        told = clone(auto).set_params(learning_rate=rate, early_exaggeration=exaggeration).fit(Z)
        np.testing.assert_array_equal(auto.embedding_, told.embedding_)
        other = clone(told).set_params(early_exaggeration=2 * exaggeration).fit(Z)
        assert not np.array_equal(auto.embedding_, other.embedding_)


@pytest.mark.parametrize(("n_iter", "early"), [(3, 0), (42, 10), (1020, 250)])
def test_exaggeration_lasts_a_quarter_of_all_iterations_and_250_at_most(monkeypatch, n_iter, early):
    factors = []

    def watched(Y, P, kind):
        factors.append(float(P.sum()))
        return gradient(Y, P, kind)

    monkeypatch.setattr("somlib.models.sne.gradient", watched)
    SNE(perplexity=3, n_iter=n_iter).fit(X[:6])
    np.testing.assert_allclose(factors, early * [12] + (n_iter - early) * [1], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_objectives_fall_and_come_to_rest(kind, dtype):
    Z = DIGITS[:150].astype(dtype)
    model = SNE(kind, n_iter=600).fit(Z)
    loss = model.history_["loss"]
    assert len(loss) == 60
    assert loss[-1] < 0.5 * loss[0]
    assert (loss[30:] < loss[0]).all()
    assert np.ptp(loss[-10:]) < {"sne": 1e-4, "symmetric": 1e-4, "t": 0.05}[kind] * loss[-1]
    assert model.embedding_.dtype == dtype
    assert np.isfinite(model.embedding_).all()
    assert type(model.kl_divergence_) is float
    P = conditional_probabilities(Z)
    P = torch.from_numpy(P if kind == "sne" else joint_probabilities(P))
    Y = torch.from_numpy(model.embedding_).double()
    assert model.kl_divergence_ == pytest.approx(float(divergence(Y, P, kind)), rel=1e-4)
    if kind != "t":  # whose forces are so weak that points drift for long
        start = gradient(torch.from_numpy(a_map(n=150)), P, kind)
        assert gradient(Y, P, kind).norm() < 1e-3 * start.norm()
    assert (
        trustworthiness(Z, model.embedding_, 10) > {"sne": 0.9, "symmetric": 0.9, "t": 0.95}[kind]
    )


@pytest.mark.parametrize(("init", "perplexity"), [("pca", 30), ("random", 50)])
def test_t_sne_ends_where_scikit_learn_s_does(init, perplexity):
    """At a calm rate: at the usual one, a start that differs by 1e-9 ends 5 % elsewhere."""
    Z = DIGITS[:300].astype(np.float64)
    start = 1e-4 * np.random.default_rng(0).normal(size=(300, 2))
    if init == "pca":
        start = PCA(2, svd_solver="full").fit_transform(Z)
        start *= 1e-4 / start[:, 0].std()
    calm = {"perplexity": perplexity, "learning_rate": 20, "early_exaggeration": 4}
    ours = SNE(init=start, **calm).fit(Z)
    theirs = TSNE(method="exact", init=start, n_iter_without_progress=1000, min_grad_norm=0, **calm)
    expected = theirs.fit_transform(Z)
    assert ours.kl_divergence_ == pytest.approx(theirs.kl_divergence_, rel=0.02)
    k = (5, 10, 30)
    np.testing.assert_allclose(
        trustworthiness(Z, ours.embedding_, k), trustworthiness(Z, expected, k), atol=0.01
    )
    assert trustworthiness(Z, ours.embedding_, 10) > 0.98


def test_default_t_sne_is_as_good_as_that_of_scikit_learn():
    Z = DIGITS[:300]
    ours = SNE().fit(Z)
    theirs = TSNE(method="exact", init="pca", random_state=0)
    expected = theirs.fit_transform(Z)
    assert ours.kl_divergence_ < 1.1 * theirs.kl_divergence_
    assert trustworthiness(Z, ours.embedding_, 10) > trustworthiness(Z, expected, 10) - 0.01


def test_scikit_learn_descends_from_an_ordered_map_to_the_same_one():
    Z = DIGITS[:200].astype(np.float64)
    start = SNE(n_iter=300).fit_transform(Z)
    same = {"perplexity": 30, "learning_rate": 30, "early_exaggeration": 1.0, "init": start}
    theirs = TSNE(method="exact", n_iter_without_progress=1000, min_grad_norm=0, **same)
    expected, found = theirs.fit_transform(Z), SNE(**same).fit_transform(Z)
    distance = np.abs(pdist(found) - pdist(expected)).max()
    assert distance < 0.02 * pdist(expected).max()


# ---------------------------------------------------------------- where a map starts


def first_map(Z, **params):
    """Return the map before training: after one step that is too small to be one."""
    return SNE(perplexity=5, n_iter=1, learning_rate=1e-300, **params).fit_transform(Z)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_maps_start_with_principal_components_of_a_small_scale(m):
    found = first_map(7 * X + 3, n_components=m)
    expected = PCA(m, svd_solver="full").fit_transform(X)
    np.testing.assert_allclose(found, 1e-4 * expected / expected[:, 0].std(), rtol=1e-9)
    assert found[:, 0].std() == pytest.approx(1e-4, rel=1e-9)
    np.testing.assert_array_equal(found, first_map(7 * X + 3, n_components=m, random_state=3))


def test_maps_start_with_random_numbers_on_request_and_more_of_them_than_features():
    found = first_map(X, init="random", random_state=5, n_components=6)
    expected = 1e-4 * np.random.RandomState(5).standard_normal((60, 6))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, int])
def test_maps_start_from_the_given_array(dtype):
    start = np.round(100 * a_map(n=60)).astype(dtype)
    told = start.copy()
    for init in (told, start.tolist()):
        np.testing.assert_allclose(first_map(X, init=init), start.astype(float), atol=1e-290)
    SNE(perplexity=5, n_iter=20, init=told).fit(X)
    np.testing.assert_array_equal(told, start)  # the array stays as it was


@pytest.mark.parametrize("shift", [0, 30, 1e4])
def test_the_offset_of_a_float32_start_does_not_change_the_result(shift):
    start = a_map(n=60, seed=3, spread=1e-2)
    params = {"perplexity": 10, "n_iter": 400, "learning_rate": 20, "early_exaggeration": 4}
    centered = SNE(init=start, **params).fit(X.astype(np.float32))
    moved = SNE(init=start + shift, **params).fit(X.astype(np.float32))
    assert moved.kl_divergence_ < 1.25 * centered.kl_divergence_


def test_a_seed_gives_one_map_and_another_seed_another():
    def fit(seed):
        return SNE(perplexity=8, n_iter=60, init="random", random_state=seed).fit_transform(X)

    np.testing.assert_array_equal(fit(3), fit(3))
    np.testing.assert_array_equal(fit(np.random.RandomState(3)), fit(3))
    assert not np.allclose(fit(3), fit(4))
    assert not np.allclose(fit(None), fit(None))
    np.testing.assert_array_equal(
        SNE(perplexity=8, n_iter=60).fit_transform(X),
        SNE(perplexity=8, n_iter=60).fit_transform(X),
    )


# ---------------------------------------------------------------- as an estimator


def test_as_a_scikit_learn_estimator():
    model = SNE("symmetric", 3, perplexity=7, n_iter=12, init=a_map(3, 60))
    assert str(clone(model).get_params()) == str(model.get_params())
    assert list(SNE().get_params()) == [
        "early_exaggeration", "init", "kind", "learning_rate", "n_components", "n_iter",
        "perplexity", "random_state",
    ]  # fmt: skip
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert model.fit(frame, y=np.arange(60)) is model
    assert list(model.feature_names_in_) == list("abcd")
    assert (model.n_features_in_, model.n_iter_) == (4, 12)
    np.testing.assert_array_equal(clone(model).fit_transform(X), model.embedding_)
    assert not hasattr(model, "transform")  # there is no map for points that were not there
    small = SNE(perplexity=5, n_iter=5)
    piped = make_pipeline(StandardScaler(), small).fit_transform(X)
    np.testing.assert_array_equal(piped, small.fit_transform(StandardScaler().fit_transform(X)))


@pytest.mark.parametrize("init", ["pca", a_map(n=60)], ids=["pca", "array"])
def test_a_saved_map_is_loaded_unchanged(tmp_path, init):
    model = SNE(perplexity=5, n_iter=11, init=init).fit(pd.DataFrame(X, columns=list("abcd")))
    model.save(tmp_path / "map.npz")
    back = SNE.load(tmp_path / "map.npz")
    assert str(back.get_params()) == str(model.get_params())
    np.testing.assert_array_equal(back.embedding_, model.embedding_)
    np.testing.assert_array_equal(back.history_["loss"], model.history_["loss"])
    assert back.kl_divergence_ == model.kl_divergence_
    assert list(back.feature_names_in_) == list("abcd")


@pytest.mark.parametrize("n_iter", [1, 3, 10, 11])
def test_short_trainings_are_trainings(n_iter):
    model = SNE(perplexity=5, n_iter=n_iter).fit(X)
    assert len(model.history_["loss"]) == math.ceil(n_iter / 10)
    assert np.isfinite(model.embedding_).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("error")
def test_copies_and_equally_near_points_can_be_mapped(kind):
    for Z in (np.repeat(X[:15], 4, 0), np.eye(20), STAR):
        model = SNE(kind, perplexity=2, n_iter=40, init="random", random_state=0).fit(Z)
        assert np.isfinite(model.embedding_).all()
        assert math.isfinite(model.kl_divergence_)


# ---------------------------------------------------------------- bad input

MAP = r"expected \(60, 2\)"
N_COMPONENTS = (
    r"n_components=5 is more than \(60, 4\) data have principal components; choose fewer, or "
    r"init='random'"
)


@pytest.mark.parametrize(("params", "message"), [
    ({"kind": "tsne"}, r"^kind='tsne' is unknown; choose one of \['sne', 'symmetric', 't'\]$"),
    ({"kind": None}, r"^kind=None is unknown"),
    ({"perplexity": 59}, r"^perplexity=59 must lie between 1 and 59, the number of other points$"),
    ({"perplexity": 1}, r"^perplexity=1 must lie between 1 and 59, the number of other points$"),
    ({"perplexity": -3.5}, r"^perplexity=-3\.5 must be a positive number"),
    ({"perplexity": math.nan}, r"^perplexity=nan must be a positive number"),
    ({"perplexity": math.inf}, r"^perplexity=inf must be a positive number"),
    ({"init": "PCA"}, r"^init='PCA' must be 'pca', 'random' or an array$"),
    ({"init": np.zeros((59, 2))}, rf"^init has shape \(59, 2\); {MAP}$"),
    ({"init": np.zeros((60, 3))}, rf"^init has shape \(60, 3\); {MAP}$"),
    ({"init": np.zeros(60)}, r"^init has shape \(60,\), expected \(samples, features\)"),
    ({"init": np.full((60, 2), np.nan)}, "^init contains NaN in row 0, column 0"),
    ({"init": np.full((60, 2), np.inf)}, "^init contains infinity"),
    ({"n_components": 5}, f"^{N_COMPONENTS}$"),
    ({"n_components": 0}, r"^n_components=0 must be a whole number of at least 1$"),
    ({"n_components": 2.0}, r"^n_components=2\.0 must be a whole number of at least 1$"),
    ({"n_iter": 0}, r"^n_iter=0 must be a whole number of at least 1$"),
    ({"n_iter": True}, r"^n_iter=True must be a whole number of at least 1$"),
    ({"learning_rate": 0}, r"^learning_rate=0 must be a positive number or 'auto'$"),
    ({"learning_rate": -1.0}, r"^learning_rate=-1\.0 must be a positive number or 'auto'$"),
    ({"learning_rate": math.nan}, r"^learning_rate=nan must be a positive number or 'auto'$"),
    ({"learning_rate": math.inf}, r"^learning_rate=inf must be a positive number or 'auto'$"),
    ({"learning_rate": "fast"}, r"^learning_rate='fast' must be a positive number or 'auto'$"),
    ({"early_exaggeration": 0}, r"^early_exaggeration=0 must be a positive number or 'auto'$"),
    ({"early_exaggeration": "12"}, r"^early_exaggeration='12' must be a positive number"),
    ({"early_exaggeration": math.nan}, r"^early_exaggeration=nan must be a positive number or"),
], ids=lambda value: str(value)[:40] if isinstance(value, dict) else "")  # fmt: skip
def test_bad_parameters_are_named(params, message):
    with pytest.raises(ValueError, match=message):
        SNE(**{"perplexity": 5, "n_iter": 5} | params).fit(X)


def test_invalid_points_raise_errors():
    hole = X.copy()
    hole[3, 1] = np.nan
    endless = X.copy()
    endless[3, 1] = np.inf
    small = SNE(perplexity=2, n_iter=5)
    for Z, message in (
        (hole, "X contains NaN in row 3, column 1"),
        (endless, "X contains infinity"),
        (X[:3], r"X has 3 sample\(s\) \(shape=\(3, 4\)\) while a minimum of 4 is"),
        (X[0], "Reshape your data"),
        (X[None], "Reshape your data"),
        (X[:, :0], r"X has 0 feature\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            small.fit(Z)
    assert not hasattr(small, "embedding_")
    for Z, message in (
        (hole, "X contains NaN"),
        (endless, "X contains infinity"),
        (X[:3], r"X has 3 sample\(s\)"),
        (X[0], "Reshape your data"),
        (X[None], "Reshape your data"),
    ):
        with pytest.raises(ValueError, match=message):
            conditional_probabilities(Z, 2)
    with pytest.raises(ValueError, match=r"^perplexity=3 must lie between 1 and 3, the"):
        conditional_probabilities(X[:4], 3)
    assert conditional_probabilities(X[:4], 2.9).shape == (4, 4)


FAR = {"kind": "symmetric", "perplexity": 5, "learning_rate": 1e30}


def test_a_rate_that_is_far_too_large_is_named_and_an_earlier_map_is_kept():
    model = SNE(perplexity=5, n_iter=40).fit(X)
    earlier = {name: value for name, value in vars(model).items() if name.endswith("_")}
    model.set_params(**FAR)
    message = r"^the divergence is not finite at iteration 10 of 40; lower learning_rate=1e\+30$"
    with pytest.raises(FloatingPointError, match=message):
        model.fit(X)
    for name, value in earlier.items():
        assert getattr(model, name) is value


@pytest.mark.parametrize("n_iter", [8, 9, 11, 25])
def test_a_failed_fit_has_no_map(n_iter):
    """Also when the numbers end after the last look at the divergence."""
    with pytest.raises(FloatingPointError, match=r"lower learning_rate=1e\+30"):
        SNE(**FAR, n_iter=n_iter).fit(X)
