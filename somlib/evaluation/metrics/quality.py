"""All measures of a map in one table."""

import pandas as pd
from numpy.typing import ArrayLike

from somlib import arrays, checks
from somlib.arrays import Array
from somlib.evaluation.metrics.clusterings import dead_units, nmi, purity
from somlib.evaluation.metrics.embeddings import continuity, trustworthiness
from somlib.evaluation.metrics.maps import (
    combined_error,
    quantization_error,
    topographic_error,
    topographic_product,
)
from somlib.evaluation.metrics.topology import (
    c_measure,
    kruskal_shepard_error,
    neighborhood_preservation,
    topographic_function,
)
from somlib.models.som import SOM
from somlib.spaces import Grid

N_NEIGHBORS = 5
"""Number of neighbors in a summary."""


@checks.arguments
def summary(som: SOM, X: ArrayLike, y: ArrayLike | None = None) -> pd.DataFrame:
    """Return all measures of a map on some samples.

    Parameters
    ----------
    som : SOM
        A fitted map.
    X : array of shape (n, d)
        Samples, more than ten. The time grows with n²: some thousands are enough.
    y : array of shape (n,), optional
        Their classes, for purity and normalized mutual information of classes and units.

    Returns
    -------
    DataFrame
        A row for each measure, named with its adjacency or its number of neighbors: "value", and
        which values are "better". Each is a function of this module; see there for definition and
        source. The topographic product is NaN where two prototypes are equal.

    Raises
    ------
    ValueError
        When the samples are too few, all equal or of another width, or won by a single unit, or y
        has another length.

    Examples
    --------
    >>> import numpy as np
    >>> from somlib import SOM
    >>> X = np.random.default_rng(0).random((200, 3))
    >>> table = summary(SOM(grid=(5, 6)).fit(X), X)
    >>> table.loc["topographic error, 4 neighbors", "better"]
    'lower'
    """
    units = som.predict(X)
    if y is not None:
        arrays.labels(y, "y", len(units))  # all arguments are checked before the first measure
    X, W, grid = arrays.samples(X), som.weights_, som.grid_
    Z, k = grid.coords[units], N_NEIGHBORS
    adjacencies = (4, 8) if grid.topology == "rect" else (6,)
    measured = [
        ("quantization error", quantization_error(X, W), "lower"),
        *(
            (f"topographic error, {c} neighbors", topographic_error(X, W, grid, c), "lower")
            for c in adjacencies
        ),
        (f"combined error, {grid.connectivity} neighbors", combined_error(X, W, grid), "lower"),
        (
            f"topographic function at 1, {adjacencies[-1]} neighbors",
            topographic_function(X, W, grid),
            "lower",
        ),
        ("topographic product", _product(W, grid), "near 0"),
        (f"trustworthiness, k = {k}", trustworthiness(X, Z, k, grid), "higher"),
        (f"continuity, k = {k}", continuity(X, Z, k, grid), "higher"),
        (
            f"neighborhood preservation, k = {k}",
            neighborhood_preservation(X, Z, k, grid),
            "higher",
        ),
        ("C measure", c_measure(X, Z, grid), "higher"),
        ("Kruskal–Shepard error", kruskal_shepard_error(X, Z, grid), "lower"),
        (f"dead units, of {grid.n_units}", dead_units(units, grid.n_units), "lower"),
    ]
    if y is not None:
        measured += [
            ("purity", purity(y, units), "higher"),
            ("NMI, geometric", nmi(y, units, "geometric"), "higher"),
        ]
    return pd.DataFrame(measured, columns=["measure", "value", "better"]).set_index("measure")


def _product(weights: Array, grid: Grid) -> float:
    try:
        return topographic_product(weights, grid)
    except ValueError:  # equal prototypes
        return float("nan")
