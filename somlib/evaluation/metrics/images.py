"""How sharp, varied and close to the data generated images are."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import convolve, correlate1d

from somlib import arrays, checks
from somlib.evaluation.arguments import Array, in_range, same_width


@checks.arguments
def sharpness(
    X: ArrayLike, reference: ArrayLike, image_shape: checks.ImageShape
) -> dict[str, float]:
    """Return how sharp images are, relative to a reference.

    "laplacian" is the variance of the response to the Laplacian [[0, 1, 0], [1, −4, 1], [0, 1, 0]],
    which grows with the square of contrast and falls quickly with blur: Pech-Pacheco et al.,
    "Diatom autofocusing in brightfield microscopy", ICPR 2000. "gradient" is the mean length of the
    central-difference gradient. Both are taken per image and averaged, and outside an image it is
    dark.

    Parameters
    ----------
    X : array of shape (n, d)
        Images, such as reconstructions.
    reference : array of shape (n', d)
        Images to compare with, such as the data.
    image_shape : (int, int)
        Rows and columns; rows · cols = d.

    Returns
    -------
    dict with "laplacian" and "gradient"
        1 is as sharp as the reference. Noise is sharp too: report the value together with those
        of the data and of a blurred control.

    Raises
    ------
    ValueError
        Also when images do not fold into that shape, or the reference has no contrast.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((5, 64))
    >>> {name: round(value, 3) for name, value in sharpness(X / 2, X, (8, 8)).items()}
    {'laplacian': 0.25, 'gradient': 0.5}
    """
    (X, reference), _ = in_range(arrays.samples(X), arrays.samples(reference, "reference"))
    of, than = _edges("X", X, image_shape), _edges("reference", reference, image_shape)
    if min(than.values()) == 0:
        raise ValueError("the reference images have no contrast at all, so nothing is as sharp")
    return {name: of[name] / than[name] for name in of}


def _edges(name: str, X: Array, image_shape: tuple[int, int]) -> dict[str, float]:
    rows, cols = image_shape
    if rows * cols != X.shape[1]:
        raise ValueError(
            f"images of {rows} × {cols} have {rows * cols} pixels, but {name} has {X.shape[1]}; "
            "give image_shape=(rows, cols) with rows · cols = pixels"
        )
    images = X.reshape(-1, rows, cols).astype(float)
    laplacian = convolve(images, [_LAPLACIAN], mode="constant")
    down, right = (correlate1d(images, [-0.5, 0, 0.5], axis, mode="constant") for axis in (1, 2))
    return {
        "laplacian": float(laplacian.var(axis=(1, 2)).mean()),
        "gradient": float(np.hypot(down, right).mean()),
    }


_LAPLACIAN = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]


def variance_lost(X: ArrayLike, drawn: ArrayLike) -> float:
    """Return the fraction of the data's variance that is missing in what a model generates.

    1 − Σ var(drawn) / Σ var(X), summed over all features: 0 when both vary as much, 1 when all
    rows of `drawn` are the same. Averages over neighbors lose variance. Noise adds variance: the
    value is below 0 when `drawn` varies more than the data.

    Parameters
    ----------
    X : array of shape (n, d)
    drawn : array of shape (n', d)
        Such as reconstructions or samples.

    Raises
    ------
    ValueError
        Also when the data do not vary, or the widths differ.

    Examples
    --------
    >>> X = np.random.default_rng(0).random((50, 4))
    >>> round(variance_lost(X, X.mean(0) + (X - X.mean(0)) / 2), 3)
    0.75
    """
    (X, drawn), _ = in_range(*same_width(X=X, drawn=drawn))
    total = X.var(0).sum()
    if total == 0:
        raise ValueError("the samples of X are all the same: there is no variance to lose")
    return float(1 - drawn.var(0).sum() / total)


def frechet_distance(A: ArrayLike, B: ArrayLike) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features.

    ‖μ_A − μ_B‖² + tr(C_A + C_B − 2 (C_A C_B)^½), 0 for equal means and covariances. Its value
    depends on the features: say where they come from.

    Parameters
    ----------
    A : array of shape (n, f)
    B : array of shape (n', f)
        Features, at least two rows each.

    References
    ----------
    D. Dowson and B. Landau, "The Fréchet distance between multivariate normal distributions",
    1982; M. Heusel et al., "GANs trained by a two time-scale update rule", NeurIPS 2017.

    Examples
    --------
    >>> A = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(A, A + [2, 0, 0]), 6), round(frechet_distance(A, A), 6)
    (4.0, 0.0)
    """
    (A, B), e = in_range(*same_width(A=A, B=B))
    if min(len(A), len(B)) < 2:
        raise ValueError(f"A has {len(A)} and B {len(B)} rows; a covariance takes at least two")
    apart = A.mean(0) - B.mean(0)
    # C = RᵀR. The roots of the eigenvalues of C_A C_B are the singular values of R_A R_Bᵀ, which no
    # squaring has cost half of their digits, nor does it matter whether C is singular
    R_A, R_B = (np.linalg.qr(p - p.mean(0), "r") / (len(p) - 1) ** 0.5 for p in (A, B))
    shared = np.linalg.svd(R_A @ R_B.T, compute_uv=False).sum()
    distance = apart @ apart + np.square(R_A).sum() + np.square(R_B).sum() - 2 * shared
    return float(np.ldexp(max(0.0, distance), 2 * e))


def path_length_ratio(paths: ArrayLike) -> float:
    """Return the mean ratio of the length of paths to the distance between their ends.

    Parameters
    ----------
    paths : array of shape (paths, points, f)
        Such as decoded interpolations, or a classifier's features of them. Paths whose two ends
        coincide do not count.

    Returns
    -------
    float
        1 for straight lines, more for curved ones.

    Raises
    ------
    ValueError
        Also for fewer than two points on a path, or when all paths end where they begin.

    Examples
    --------
    >>> corner = np.array([[[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]]])
    >>> path_length_ratio(corner)
    1.4
    """
    (paths,), _ = in_range(arrays.samples(paths, "paths", axes=3, dtype=np.float64))
    if paths.shape[1] < 2:
        raise ValueError(
            f"paths of {paths.shape[1]} points have no length; give at least two points"
        )
    length = np.linalg.norm(np.diff(paths, axis=1), axis=2).sum(1)
    distance = np.linalg.norm(paths[:, -1] - paths[:, 0], axis=1)
    if not distance.any():
        raise ValueError("all paths end where they begin; there is no distance to divide by")
    apart = distance > 0
    return float((length[apart] / distance[apart]).mean())
