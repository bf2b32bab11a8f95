"""Spaces of units and latent codes: how far apart points are, and which are neighbors.

Every model, metric and plot asks a space; none works out a neighbor by itself. So a hexagonal map
is hexagonal in training, in its U-matrix and in its topographic error alike.
"""

from somlib.spaces.continuous import Continuous, Euclidean, Kind, Sphere, Torus
from somlib.spaces.grid import Grid, GridLike, GridMetric, Topology, as_grid
from somlib.spaces.space import Measured, Searched, Space

__all__ = [
    "Continuous",
    "Euclidean",
    "Grid",
    "GridLike",
    "GridMetric",
    "Kind",
    "Measured",
    "Searched",
    "Space",
    "Sphere",
    "Topology",
    "Torus",
    "as_grid",
]
