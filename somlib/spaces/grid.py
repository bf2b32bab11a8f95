"""The lattice of a self-organizing map: where its units lie and which are neighbors."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn

from somlib import arrays, checks
from somlib.spaces.space import (
    DISTANCE_SLACK,
    Array,
    check_k,
    check_sigma,
    circular,
    in_torch,
    nearest_by_tree,
)

Topology = Literal["rect", "hex"]
GridMetric = Literal["euclidean", "manhattan", "chebyshev", "hops"]

_ROW_HEIGHT = {"rect": 1.0, "hex": 3**0.5 / 2}  # in lattice spacings
_TABLE_UNITS = 512  # of a grid whose distances are looked up in a table of some MB
_PAIRED_UNITS = 128  # of a grid on which one product with h of all pairs is faster than two
_CONNECTIVITIES = {"rect": (4, 8), "hex": (6,)}


@dataclass(frozen=True)
class Grid:
    """A regular lattice of units: the output space of a self-organizing map.

    Units are numbered row by row, k = row · cols + col, with row 0 at the top of every drawing.
    Neighboring units are at distance 1. On a hexagonal lattice odd rows are shifted right by
    half a unit and rows are √3/2 apart, so that all six neighbors are equally near.

    Parameters
    ----------
    rows, cols : int
        Size of the lattice; K = rows · cols units.
    topology : {"rect", "hex"}, default="rect"
        Square or hexagonal cells.
    wrap : bool or (bool, bool), default=False
        Whether the last row meets the first and the last column the first: a cylinder for one,
        a torus for both. One value stands for both axes.

    Attributes
    ----------
    coords : ndarray of shape (K, 2)
        Position of each unit as (down, right), in units of the lattice spacing.
    distances : ndarray of shape (K, K)
        Euclidean distances between all units, along the shorter way round where the grid wraps.

    Raises
    ------
    ValueError
        When a size is not a positive whole number, the topology is unknown, or a hexagonal grid
        with an odd number of rows is asked to wrap its rows (the shifts would not meet).

    Examples
    --------
    >>> grid = Grid(3, 4, topology="hex")
    >>> grid.n_units
    12
    >>> int(grid.adjacency()[5].sum())  # an inner unit
    6
    """

    rows: checks.Count
    cols: checks.Count
    topology: Topology = "rect"
    wrap: bool | tuple[bool, bool] = False

    why = ""
    """The reason of its size, in a grid of `suggest_grid`: in the repr, no part of the value."""

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in ("rows", "cols", "topology", "wrap")}
        values |= {"why": self.why} if self.why else {}
        return f"Grid({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def __post_init__(self) -> None:
        checks.parameters(self)
        wrap = (self.wrap, self.wrap) if isinstance(self.wrap, bool | np.bool_) else self.wrap
        if self.topology == "hex" and wrap[0] and self.rows % 2:
            raise ValueError(
                f"a hexagonal grid of rows={self.rows} cannot wrap its rows: the first and the "
                f"last are shifted alike; take {self.rows + 1} rows or wrap=(False, {wrap[1]})"
            )
        # frozen, so that a grid can be shared and hashed: normalize past the guard
        object.__setattr__(self, "rows", int(self.rows))
        object.__setattr__(self, "cols", int(self.cols))
        object.__setattr__(self, "wrap", (bool(wrap[0]), bool(wrap[1])))

    # ---------------------------------------------------------------- size and position

    @property
    def n_units(self) -> int:
        """Number of units, K."""
        return self.rows * self.cols

    @property
    def connectivity(self) -> int:
        """Number of nearest neighbors of an inner unit: 4 on square cells, 6 on hexagons."""
        return _CONNECTIVITIES[self.topology][0]

    @property
    def periods(self) -> tuple[float, float]:
        """Length after which each axis returns to itself; 0 where it does not wrap."""
        wrap_rows, wrap_cols = self.wrap  # type: ignore[misc]
        height = self.rows * _ROW_HEIGHT[self.topology]
        return (height if wrap_rows else 0.0, float(self.cols) if wrap_cols else 0.0)

    @cached_property
    def coords(self) -> NDArray[np.float64]:
        """Position of each unit as (down, right), shape (K, 2)."""
        row, col = np.divmod(np.arange(self.n_units), self.cols)
        shift = 0.5 * (row % 2) if self.topology == "hex" else 0.0
        coords: NDArray[np.float64] = np.stack(
            [row * _ROW_HEIGHT[self.topology], col + shift], axis=1
        )
        return coords

    def mesh(self, n: int | None = None) -> NDArray[np.float64]:
        """Return the units' positions as a sheet of shape (rows, cols, 2), for drawing.

        A lattice is its own sheet: `n`, which continuous spaces need, changes nothing.
        """
        return self.coords.reshape(self.rows, self.cols, 2)

    def polygons(self, scale: float = 1.0) -> NDArray[np.float64]:
        """Return the outline of each unit's cell, shape (K, corners, 2), as (down, right).

        Cells of `scale` 1 tile the plane without gaps: squares of side 1, or hexagons with a
        corner on top. Cells of scale 1/2 around units and around the midpoints between
        neighbors tile it again, which is how a U-matrix is drawn.
        """
        return self.coords[:, None] + scale * self.cell()

    def cell(self) -> NDArray[np.float64]:
        """Return the outline of one cell around the origin, shape (corners, 2)."""
        if self.topology == "rect":
            return 0.5 * np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0]])
        angle = np.pi / 3 * np.arange(6)
        corners: NDArray[np.float64] = np.stack([-np.cos(angle), np.sin(angle)], axis=1)
        return corners / 3**0.5

    # ---------------------------------------------------------------- distances

    def distance(self, a: Any, b: Any, metric: GridMetric = "euclidean") -> Any:
        """Return the distance between positions on the grid, the shorter way round.

        Parameters
        ----------
        a, b : array or tensor of shape (..., 2)
            Positions as in `coords`; broadcast against each other.
        metric : {"euclidean", "manhattan", "chebyshev", "hops"}, default="euclidean"
            The first three are the L2, L1 and L∞ norm of the difference of positions; "hops" is
            the least number of steps between neighboring units (with `connectivity` neighbors
            each; for eight neighbors on square cells that is "chebyshev").

        Returns
        -------
        array or tensor of shape (...)

        Examples
        --------
        >>> ring = Grid(1, 10, wrap=(False, True))
        >>> float(ring.distance(ring.coords[0], ring.coords[9]))
        1.0
        """
        checks.require("metric", metric, GridMetric)
        return in_torch(self._distance, a, b, metric)

    def _distance(self, a: Tensor, b: Tensor, metric: GridMetric = "euclidean") -> Tensor:
        down, right = (
            circular((a[..., axis] - b[..., axis]).abs(), period)
            for axis, period in enumerate(self.periods)
        )
        if metric == "euclidean":
            return (down**2 + right**2) ** 0.5
        if metric == "chebyshev":
            return torch.maximum(down, right)
        if metric == "hops" and self.topology == "hex":
            # each row step is also half a column step, and a sideways step is a whole one
            row_steps = down / _ROW_HEIGHT["hex"]
            return torch.maximum(row_steps, right + row_steps / 2)
        return down + right

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Euclidean distances between all units, shape (K, K)."""
        return np.asarray(self.distance(self.coords[:, None], self.coords[None]))

    # ---------------------------------------------------------------- neighbors

    def adjacent(
        self, a: ArrayLike, b: ArrayLike, connectivity: int | None = None
    ) -> NDArray[np.bool_]:
        """Return whether units `a` and `b` (arrays of indices) are neighbors, elementwise.

        See `edges` for `connectivity`. A unit is not its own neighbor. A single unit is compared
        with all of the other array.
        """
        apart = self.apart(*self._pair(a, b))
        return np.asarray((apart > DISTANCE_SLACK) & (apart < self.reach(connectivity)))

    def separate(
        self, a: ArrayLike, b: ArrayLike, connectivity: int | None = None
    ) -> NDArray[np.bool_]:
        """Return whether units `a` and `b` are neither equal nor neighbors, elementwise."""
        return self.apart(*self._pair(a, b)) >= self.reach(connectivity)

    def edges(self, connectivity: int | None = None) -> NDArray[np.intp]:
        """Return all pairs of neighboring units, shape (E, 2), each once, lower index first.

        Parameters
        ----------
        connectivity : {4, 8} on "rect", {6} on "hex"; default=None
            How many neighbors an inner unit has: the 4 that share a side, the 8 that share a
            side or a corner, the 6 of a hexagon. None takes the grid's own `connectivity`, the
            units at distance 1.

        Raises
        ------
        ValueError
            When the lattice does not have that connectivity.
        """
        box = np.array(self.periods)
        pairs = cKDTree(self.coords, boxsize=box).query_pairs(
            self.reach(connectivity), output_type="ndarray"
        )
        return np.asarray(pairs[np.lexsort(pairs.T[::-1])], dtype=np.intp)

    def adjacency(self, connectivity: int | None = None) -> NDArray[np.bool_]:
        """Return who is whose neighbor as a symmetric matrix of shape (K, K); see `edges`."""
        matrix = np.zeros((self.n_units, self.n_units), dtype=bool)
        first, second = self.edges(connectivity).T
        matrix[first, second] = matrix[second, first] = True
        return matrix

    def apart(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the distances between units given by arrays of indices, which are not checked."""
        if self.n_units <= _TABLE_UNITS:
            return np.asarray(_table(self)[first, second])
        a, b = (torch.from_numpy(self.coords[units]) for units in (first, second))
        return self._distance(a, b).numpy()

    def _pair(self, a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Return two arrays of units, checked, that broadcast."""
        first, second = (
            arrays.units(units, self.n_units, name, axes=None)
            for name, units in (("a", a), ("b", b))
        )
        try:
            np.broadcast_shapes(first.shape, second.shape)
        except ValueError:
            raise ValueError(
                f"a has shape {first.shape} and b has shape {second.shape}; give as many units in "
                "both, or a single one in either"
            ) from None
        return first, second

    def reach(self, connectivity: int | None = None) -> float:
        """Return the distance below which units count as neighbors; see `edges`."""
        if connectivity is None:
            connectivity = self.connectivity
        else:
            checks.require("connectivity", connectivity, checks.Count | None)
        if connectivity not in _CONNECTIVITIES[self.topology]:
            raise ValueError(
                f"connectivity={connectivity!r} does not exist on a {self.topology!r} grid; "
                f"choose one of {list(_CONNECTIVITIES[self.topology])}"
            )
        # 1 or √2 in the plane, up to rounding
        return (2**0.5 if connectivity == 8 else 1.0) + DISTANCE_SLACK

    # ---------------------------------------------------------------- a latent space like others

    @property
    def n_embedded(self) -> int:
        """Length of an embedding: K."""
        return self.n_units

    def embed(self, z: Any) -> Any:
        """Return positions as one-hot rows, shape (..., K).

        A linear layer on them is a lookup table: its row k is the prototype of unit k.
        """

        def one_hot(z: Tensor) -> Tensor:
            unit = self._distance(z[..., None, :], self._coords_like(z)).argmin(-1)
            return nn.functional.one_hot(unit, self.n_units).to(z)

        return in_torch(one_hot, z)

    def project(self, raw: Any) -> Any:
        """Return the position of the unit with the largest entry, of (..., K) to (..., 2)."""
        return in_torch(lambda raw: self._coords_like(raw)[raw.argmax(-1)], raw)

    def log_density(self, z: Any, center: Any, sigma: float) -> Any:
        """Return the logarithm of the Gaussian neighborhood, normalized to 1 over the units.

        Parameters
        ----------
        z, center : arrays or tensors of shape (..., 2)
            Positions of units.
        sigma : float
            Width, in lattice spacings.
        """
        check_sigma(sigma)

        def log_h(z: Tensor, center: Tensor) -> Tensor:
            to_all = self._distance(center[..., None, :], self._coords_like(center))
            log_sum = (-(to_all**2) / (2 * sigma**2)).logsumexp(-1)
            return -(self._distance(z, center) ** 2) / (2 * sigma**2) - log_sum

        return in_torch(log_h, z, center)

    @checks.arguments
    def perturb(self, z: Any, sigma: checks.Positive, generator: np.random.Generator) -> Any:
        """Return the position of a neighbor of each unit, drawn by the Gaussian neighborhood.

        Parameters
        ----------
        z : array or tensor of shape (..., 2)
            Positions of units.
        sigma : float
            Width, in lattice spacings.
        generator : numpy Generator
        """
        if isinstance(z, Tensor):
            drawn = self.perturb(z.numpy(force=True), sigma, generator)
            return torch.from_numpy(drawn).to(z)
        z = arrays.samples(z, "points", axes=None, dtype=np.float64)
        h = np.exp(self.log_density(self.coords, z[..., None, :], sigma))
        u = generator.random((*h.shape[:-1], 1))
        return self.coords[(h.cumsum(-1) < u).sum(-1).clip(max=self.n_units - 1)]

    @checks.arguments
    def sample(self, n: checks.Count, generator: np.random.Generator) -> Array:
        """Return the positions of n units drawn uniformly, shape (n, 2)."""
        return self.coords[generator.integers(self.n_units, size=n)]

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k)."""
        Z = arrays.samples(Z, "Z", dtype=np.float64)
        queries = arrays.samples(queries, "queries", dtype=np.float64)
        for z in (Z, queries):
            if z.shape[-1:] != (2,):
                raise ValueError(
                    f"points of shape {z.shape} do not lie in {self}; expected (..., 2)"
                )
        return nearest_by_tree(Z, queries, check_k(k, len(Z)), np.array(self.periods))

    def _coords_like(self, z: Tensor) -> Tensor:
        return torch.as_tensor(self.coords).to(z)

    # ---------------------------------------------------------------- smoothing

    def gaussian_sum(self, values: Tensor, sigma: float) -> Tensor:
        """Return Σⱼ exp(−δᵢⱼ²/2σ²) vⱼ for every unit i, without a K × K matrix if K is large.

        The square of a Euclidean distance is a sum over the axes, so the Gaussian is a product
        of one factor per axis and the sum can be taken along columns, then along rows: K(rows +
        cols) instead of K² products per feature. On a hexagonal grid the factor along a row
        depends on whether the two rows are shifted against each other, hence the two parities.

        Parameters
        ----------
        values : tensor of shape (K, m)
            What each unit hands to its neighbors.
        sigma : float
            Width of the Gaussian, in lattice spacings.

        Returns
        -------
        tensor of shape (K, m)

        Examples
        --------
        >>> grid, v = Grid(2, 3, topology="hex"), torch.arange(6.0)[:, None]
        >>> H = torch.exp(-torch.tensor(grid.distances).float() ** 2 / (2 * 0.7**2))
        >>> torch.allclose(grid.gaussian_sum(v, 0.7), H @ v)
        True
        """
        if self.n_units <= _PAIRED_UNITS:
            squared, which = _squared_table(self, values.dtype, values.device)
            h = torch.exp(squared / (-2 * sigma**2)).index_select(0, which)
            return torch.matmul(h.view(self.n_units, self.n_units), values)
        apart = _squared_apart(self, values.dtype, values.device)
        between_rows, between_cols = (torch.exp(squared / (-2 * sigma**2)) for squared in apart)
        sheet, step = values.reshape(self.rows, self.cols, -1), len(between_cols)
        summed = torch.zeros_like(sheet)
        for p in range(step):
            for q in range(step):
                along_rows = torch.matmul(between_cols[p, q], sheet[q::step])
                along_cols = torch.matmul(between_rows[p::step, q::step], along_rows.flatten(1))
                summed[p::step] += along_cols.view_as(summed[p::step])
        return summed.reshape(values.shape)


@lru_cache(maxsize=4)  # not in the grid, which models are stored with
def _table(grid: Grid) -> NDArray[np.float64]:
    """Return the distances between all units of a small grid, shape (K, K)."""
    return np.asarray(grid.distance(grid.coords[:, None], grid.coords))


@lru_cache(maxsize=16)
def _squared_table(grid: Grid, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the different squared distances on a small grid, and which one each pair has, (K²,).

    They are few, and their exponentials cost more than to look them up.
    """
    different, which = np.unique(_table(grid).ravel() ** 2, return_inverse=True)
    squared = torch.as_tensor(different, dtype=dtype, device=device)
    return squared, torch.as_tensor(which, device=device)


@lru_cache(maxsize=16)
def _squared_apart(grid: Grid, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return squared distances between rows, (rows, rows), and along them, (P, P, cols, cols).

    P is the number of parities of rows that are shifted against each other: 2 on hexagons.
    """
    position = torch.as_tensor(grid.mesh(), dtype=dtype, device=device)
    down = position[:, 0, 0]
    right = position[: 2 if grid.topology == "hex" else 1, :, 1]
    pairs = down[:, None] - down, right[:, None, :, None] - right[:, None]
    rows, cols = (
        circular(apart.abs(), period) ** 2
        for apart, period in zip(pairs, grid.periods, strict=True)
    )
    return rows, cols


# ---------------------------------------------------------------- grids as parameters


def as_grid(grid: Any) -> Grid:
    """Return the grid of a parameter `grid`; a ValueError says why there is none."""
    if isinstance(grid, Grid):
        return grid
    try:
        if not checks.is_sequence(grid) or len(grid) != 2:
            raise ValueError("expected a pair of numbers")
        return Grid(*grid)
    except ValueError as error:
        raise ValueError(f"{error}; give (rows, cols) or a Grid") from None


GridLike = Annotated[tuple[int, int] | Grid, checks.Rule("(rows, cols) or a Grid", as_grid)]
"""The declaration of a parameter `grid`."""
