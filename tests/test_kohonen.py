"""Algorithm 1 as it is printed, and the fast path that the map is trained by."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from somlib import SOM, Grid
from somlib.models.kohonen import NEIGHBORHOODS, kohonen_algorithm
from somlib.training.schedules import Schedule

GRIDS = {
    "square": Grid(3, 4),
    "hexagons that wrap": Grid(4, 4, "hex", wrap=True),
    "a string": Grid(1, 7),
}


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("neighborhood", NEIGHBORHOODS)
@pytest.mark.parametrize("name", GRIDS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_online_training_is_algorithm_1_epoch_by_epoch(name, neighborhood, missing, seed):
    rng, grid = np.random.default_rng(seed), GRIDS[name]
    X, W = rng.normal(size=(45, 3)), rng.normal(size=(grid.n_units, 3))
    if missing:
        X[rng.random(X.shape) < 0.2] = np.nan
        X[0] = 1.0  # each feature is known somewhere
        X[np.isnan(X).all(1)] = 0.5
    som = SOM(grid, "online", 2, (2.0, 0.5), (0.5, 0.05), neighborhood=neighborhood, init=W)
    som.set_params(shuffle=False, allow_missing=missing, random_state=0).fit(X)
    sigma, alpha = Schedule(2.0, 0.5), Schedule(0.5, 0.05)
    for first in (0, 45):
        at = [(schedule(i, 90)) for schedule in (sigma, alpha) for i in range(first, first + 45)]
        W = kohonen_algorithm(W, X, grid, at[:45], at[45:], NEIGHBORHOODS[neighborhood])
    np.testing.assert_allclose(som.weights_, W, rtol=0, atol=1e-10)
