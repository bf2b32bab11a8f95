"""Whether an embedding keeps neighbors together, and classes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from somlib import arrays, checks
from somlib.evaluation.arguments import in_range
from somlib.evaluation.metrics.distances import Points, places, row_blocks
from somlib.search.neighbors import nearest_of_many
from somlib.spaces import Euclidean, Measured, Searched


@checks.arguments
def trustworthiness(
    X: ArrayLike,
    Z: ArrayLike,
    n_neighbors: checks.Count | Sequence[checks.Count] = 5,
    space: Measured | None = None,
) -> Any:
    """Return to what extent neighbors in the embedding are neighbors in the data.

    T(k) = 1 − 2/(nk(2n−3k−1)) Σ_i Σ_{j ∈ N_k(i)} max(0, r(i, j) − k), where N_k(i) holds the k
    nearest of z_i and x_j is the r(i, j)-th nearest of x_i: Venna & Kaski, "Neighborhood
    preservation in nonlinear projection methods", ICANN 2001.

    Parameters
    ----------
    X : array of shape (n, d)
        Samples.
    Z : array of shape (n, m)
        Where the embedding puts them; for a map `grid.coords[labels]`.
    n_neighbors : int or sequence of ints, default=5
        k, below n/2. Several cost hardly more than the largest alone.
    space : Grid, Torus, Sphere or other object with a method distance(a, b), optional
        The space in which Z lies, when its distances are not Euclidean. The method gets float64
        tensors that broadcast.

    Returns
    -------
    float, or ndarray with one value per k
        In [0, 1]; higher is better. Places that have nothing to do with the data give about 1/2.

    Raises
    ------
    ValueError
        Also when a k is below 1 or not below n/2, beyond which the formula leaves [0, 1].

    Notes
    -----
    **Ties.** All samples of a unit share its coordinates, and a lattice has many equal distances
    besides. The value returned is the expected one when ties are broken at random, in each space
    for itself, and it is computed, not drawn: a sample with b nearer ones and e equally near ones
    (itself included) is among the k nearest with probability min(1, max(0, (k − b)/e)), and its
    rank is each of b+1, ..., b+e with probability 1/e. So the order of the samples does not
    matter. Without ties it is the definition above. "Equal" means to within rounding
    (`distances.TIE_TOLERANCE`).

    It is not the mean over jittered samples, which may differ by some thousandths where many
    distances tie: a move of x_i changes all distances from x_i together, so not all orders of those
    that tied are as likely. A sort that keeps the order of the samples breaks the ties of both
    spaces alike, and so gives a higher value.

    Distances are computed in blocks of rows, and sorted within a row only. Of large data most are
    computed in float32, with a bound of the error, and those that it leaves in doubt in float64
    (`somlib.search.neighbors`); the value is that of float64 throughout. Scikit-learn's
    `manifold.trustworthiness` agrees where there are no ties, and breaks them by the order of its
    sort.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((100, 3))
    >>> trustworthiness(X, X[:, :2], n_neighbors=[5, 10]).round(3)
    array([0.799, 0.817])
    """
    data, image = both_spaces(X, Z, space)
    return _rank_score(image, data, n_neighbors)


@checks.arguments
def continuity(
    X: ArrayLike,
    Z: ArrayLike,
    n_neighbors: checks.Count | Sequence[checks.Count] = 5,
    space: Measured | None = None,
) -> Any:
    """Return to what extent neighbors in the data stay neighbors in the embedding.

    `trustworthiness` with the roles of X and Z swapped (Venna & Kaski 2001); see there for the
    arguments, the value and the treatment of ties. A map with more than k samples on a unit does
    not say which of them are nearest, and so stays a little below 1 at that k however good it is.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((100, 3))
    >>> continuity(X, X[:, :2], n_neighbors=5) > trustworthiness(X, X[:, :2], n_neighbors=5)
    True
    """
    data, image = both_spaces(X, Z, space)
    return _rank_score(data, image, n_neighbors)


@checks.arguments
def knn_accuracy(
    Z: ArrayLike,
    y: ArrayLike,
    Z_new: ArrayLike,
    y_new: ArrayLike,
    n_neighbors: checks.Count = 10,
    space: Searched | None = None,
) -> float:
    """Return the share of new samples whose class the vote of their nearest neighbors tells.

    How much an embedding knows of classes it never saw (Cover & Hart, "Nearest neighbor pattern
    classification", IEEE Trans. Information Theory 13, 1967).

    Parameters
    ----------
    Z : array of shape (n, m)
        Where the embedding puts the samples that vote.
    y : array of shape (n,)
        Their classes.
    Z_new : array of shape (n_new, m)
        Where it puts those whose class is asked for.
    y_new : array of shape (n_new,)
        Their classes.
    n_neighbors : int, default=10
        Number of votes; of classes with as many votes the lowest wins.
    space : Grid, Torus, Sphere or other object with a method nearest(Z, queries, k), optional
        The space in which Z lies, when its distances are not Euclidean.

    Returns
    -------
    float
        In [0, 1]; higher is better. The share of the most frequent class can be had for nothing.

    Examples
    --------
    >>> knn_accuracy([[0.0], [1.0], [5.0], [6.0]], [0, 0, 1, 1], [[0.4], [5.4]], [0, 0], 2)
    0.5
    """
    Z, Z_new = arrays.samples(Z, "Z"), arrays.samples(Z_new, "Z_new")
    if Z.shape[1] != Z_new.shape[1]:
        raise ValueError(
            f"Z has {Z.shape[1]} columns and Z_new has {Z_new.shape[1]}; they must have as many"
        )
    names, votes = arrays.labels(y, "y", len(Z))
    names_new, codes_new = arrays.labels(y_new, "y_new", len(Z_new))
    if n_neighbors > len(Z):
        raise ValueError(
            f"n_neighbors={n_neighbors!r} must be a whole number from 1 to the {len(Z)} samples "
            "that vote"
        )
    near = None
    if space is None:
        (Z, Z_new), _ = in_range(Z, Z_new)
        center = Z.mean(0, dtype=np.float64)
        near = nearest_of_many(Z - center, Z_new - center, n_neighbors)
    if near is None:
        near = (space or Euclidean(Z.shape[1])).nearest(Z, Z_new, n_neighbors)
    counts = np.zeros((len(Z_new), len(names)), np.intp)
    np.add.at(counts, (np.arange(len(Z_new))[:, None], votes[near]), 1)
    return float((names[counts.argmax(1)] == names_new[codes_new]).mean())


def both_spaces(X: ArrayLike, Z: ArrayLike, space: Measured | None) -> tuple[Points, Points]:
    """Return samples and their places in an embedding as points, after a check of both."""
    X, Z = arrays.samples(X), arrays.samples(Z, "Z")
    if len(X) != len(Z):
        raise ValueError(
            f"X has {len(X)} rows, but Z {len(Z)}; give every sample its place in the embedding"
        )
    return Points(X), Points(Z, space)


def _rank_score(near: Points, far: Points, n_neighbors: int | Sequence[int]) -> Any:
    """Return 1 minus the scaled sum of how far down in `far` the neighbors in `near` come."""
    n, ks = len(near), neighbor_numbers(n_neighbors, len(near))
    penalty = np.zeros(len(ks))
    for nearer, tied, rank, e in neighbor_places(near, far, int(ks.max())):
        for i, k in enumerate(ks):
            chosen = ((k - nearer) / tied).clamp(0, 1)
            # Σ max(0, r − k) / e over r = rank + 1 ... rank + e
            excess = (_triangle(rank + e - k) - _triangle(rank - k)) / e
            penalty[i] += float((chosen * excess).sum())
    score = 1 - 2 * penalty / (n * ks * (2.0 * n - 3 * ks - 1))
    return score if np.ndim(n_neighbors) else float(score[0])


def neighbor_numbers(n_neighbors: int | Sequence[int], n: int) -> NDArray[np.integer]:
    """Return the numbers of neighbors as an array, after a check against the samples, n."""
    ks = np.atleast_1d(n_neighbors)
    if not ks.size or 2 * ks.max() >= n:
        raise ValueError(
            f"n_neighbors={n_neighbors!r} must be whole numbers of at least 1 and below half the "
            f"number of samples, {n}/2; take fewer neighbors or more samples"
        )
    return ks


def neighbor_places(near: Points, far: Points, k: int) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the places of the k nearest neighbors in `near`, in both spaces, in blocks of rows.

    A block has four tensors with an entry for each pair of a point and a candidate, which is any
    that may be among its k nearest: the number of points nearer than the candidate and of those as
    near (itself included), in `near` and then in `far`.
    """
    for rows in row_blocks(len(near), len(near)):
        squared, candidates = near.nearest(rows, k)
        found = squared < torch.inf
        nearer, tied = places(squared, squared, near.slack(rows, squared))
        rank, e = far.places(rows, candidates, found)
        yield tuple(number[found].double() for number in (nearer, tied, rank, e))


def _triangle(m: torch.Tensor) -> torch.Tensor:
    """Return 1 + 2 + ... + m, and 0 for negative m."""
    m = m.clamp(min=0)
    return m * (m + 1) / 2
