"""Latent spaces: who is whose neighbour, and how far away.

Every model, metric and plot asks a space; none works out a neighbour by itself. That is what
keeps a hexagonal map hexagonal in training, in its U-matrix and in its topographic error alike.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, ClassVar, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

Array = NDArray[np.floating]
F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["gaussian", "radius"]
Topology = Literal["rect", "hex"]
GridMetric = Literal["euclidean", "manhattan", "chebyshev", "hops"]

_ROW_HEIGHT = {"rect": 1.0, "hex": 3**0.5 / 2}
_CONNECTIVITIES = {"rect": (4, 8), "hex": (6,)}
_TOUCHING = 1e-6  # slack on distances that are 1 or √2 up to rounding


class Space(Protocol):
    """What a metric asks of a space; `Grid` and the continuous spaces answer."""

    def distance(self, a: Any, b: Any) -> Any:
        """Return the distances between tensors of shape (..., m), which broadcast."""

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k)."""


def _either(function: F) -> F:
    """Let a function of tensors take arrays as well, and then return an array."""

    @wraps(function)
    def either(self: Any, *args: Any, **options: Any) -> Any:
        if any(isinstance(a, Tensor) for a in (*args, *options.values())):
            return function(self, *args, **options)

        def tensor(a: Any) -> Any:
            return torch.as_tensor(np.asarray(a, float)) if np.ndim(a) else a

        named = {name: tensor(a) for name, a in options.items()}
        return function(self, *map(tensor, args), **named).numpy()

    return either  # type: ignore[return-value]


@dataclass(frozen=True)
class Grid:
    """A regular lattice of units: the output space of a self-organizing map.

    Units are numbered row by row, k = row · cols + col, with row 0 at the top of every drawing.
    Neighbouring units are at distance 1. On a hexagonal lattice odd rows are shifted right by
    half a unit and rows are √3/2 apart, so that all six neighbours are equally near.

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

    rows: int
    cols: int
    topology: Topology = "rect"
    wrap: bool | tuple[bool, bool] = False

    def __post_init__(self) -> None:
        for name, size in (("rows", self.rows), ("cols", self.cols)):
            if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
                raise ValueError(f"{name}={size!r} must be a whole number of at least 1")
        if self.topology not in get_args(Topology):
            raise ValueError(
                f"topology={self.topology!r} is unknown; choose one of {list(get_args(Topology))}"
            )
        wrap = (self.wrap, self.wrap) if isinstance(self.wrap, bool | np.bool_) else self.wrap
        if len(wrap) != 2 or not all(isinstance(w, bool | np.bool_) for w in wrap):
            raise ValueError(f"wrap={self.wrap!r} must be True, False or a pair of them")
        if self.topology == "hex" and wrap[0] and self.rows % 2:
            raise ValueError(
                f"a hexagonal grid of rows={self.rows} cannot wrap its rows: the first and the "
                f"last are shifted alike; take {self.rows + 1} rows or wrap=(False, {wrap[1]})"
            )
        # frozen, so that a grid can be shared and hashed: normalise past the guard
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
        """Number of nearest neighbours of an inner unit: 4 on square cells, 6 on hexagons."""
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
        neighbours tile it again, which is how a U-matrix is drawn.
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
            the least number of steps between neighbouring units (with `connectivity` neighbours
            each; for eight neighbours on square cells that is "chebyshev").

        Returns
        -------
        array or tensor of shape (...)

        Examples
        --------
        >>> ring = Grid(1, 10, wrap=(False, True))
        >>> float(ring.distance(ring.coords[0], ring.coords[9]))
        1.0
        """
        if metric not in get_args(GridMetric):
            raise ValueError(
                f"metric={metric!r} is unknown; choose one of {list(get_args(GridMetric))}"
            )
        down, right = (
            _around(abs(a[..., axis] - b[..., axis]), period)
            for axis, period in enumerate(self.periods)
        )
        if metric == "euclidean":
            return (down**2 + right**2) ** 0.5
        if metric == "chebyshev":
            return _larger(down, right)
        if metric == "hops" and self.topology == "hex":
            # each row step is also half a column step, and a sideways step is a whole one
            row_steps = down / _ROW_HEIGHT["hex"]
            return _larger(row_steps, right + row_steps / 2)
        return down + right

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Euclidean distances between all units, shape (K, K)."""
        return np.asarray(self.distance(self.coords[:, None], self.coords[None]))

    # ---------------------------------------------------------------- neighbours

    def adjacent(
        self, a: ArrayLike, b: ArrayLike, connectivity: int | None = None
    ) -> NDArray[np.bool_]:
        """Return whether units `a` and `b` (arrays of indices) are neighbours, elementwise.

        See `edges` for `connectivity`. A unit is not its own neighbour.
        """
        apart = self.distance(self.coords[np.asarray(a)], self.coords[np.asarray(b)])
        return np.asarray((apart > _TOUCHING) & (apart < self._reach(connectivity)))

    def separate(
        self, a: ArrayLike, b: ArrayLike, connectivity: int | None = None
    ) -> NDArray[np.bool_]:
        """Return whether units `a` and `b` are neither equal nor neighbours, elementwise."""
        apart = self.distance(self.coords[np.asarray(a)], self.coords[np.asarray(b)])
        return np.asarray(apart >= self._reach(connectivity))

    def edges(self, connectivity: int | None = None) -> NDArray[np.intp]:
        """Return all pairs of neighbouring units, shape (E, 2), each once, lower index first.

        Parameters
        ----------
        connectivity : {4, 8} on "rect", {6} on "hex"; default=None
            How many neighbours an inner unit has: the 4 that share a side, the 8 that share a
            side or a corner, the 6 of a hexagon. None takes the grid's own `connectivity`, the
            units at distance 1.

        Raises
        ------
        ValueError
            When the lattice does not have that connectivity.
        """
        box = np.array(self.periods)
        pairs = cKDTree(self.coords, boxsize=box).query_pairs(
            self._reach(connectivity), output_type="ndarray"
        )
        return np.asarray(pairs[np.lexsort(pairs.T[::-1])], dtype=np.intp)

    def adjacency(self, connectivity: int | None = None) -> NDArray[np.bool_]:
        """Return who is whose neighbour as a symmetric matrix of shape (K, K); see `edges`."""
        matrix = np.zeros((self.n_units, self.n_units), dtype=bool)
        first, second = self.edges(connectivity).T
        matrix[first, second] = matrix[second, first] = True
        return matrix

    def _reach(self, connectivity: int | None) -> float:
        """Return the distance within which units count as neighbours."""
        connectivity = self.connectivity if connectivity is None else connectivity
        if connectivity not in _CONNECTIVITIES[self.topology]:
            raise ValueError(
                f"connectivity={connectivity!r} does not exist on a {self.topology!r} grid; "
                f"choose one of {list(_CONNECTIVITIES[self.topology])}"
            )
        return (2**0.5 if connectivity == 8 else 1.0) + _TOUCHING

    # ---------------------------------------------------------------- a latent space like others

    @property
    def n_embedded(self) -> int:
        """Length of an embedding: K."""
        return self.n_units

    @_either
    def embed(self, z: Any) -> Any:
        """Return positions as one-hot rows, shape (..., K).

        A linear layer on them is a lookup table: its row k is the prototype of unit k.
        """
        return nn.functional.one_hot(self._unit_at(z), self.n_units).to(z)

    @_either
    def project(self, raw: Any) -> Any:
        """Return the position of the unit with the largest entry, of (..., K) to (..., 2)."""
        return torch.as_tensor(self.coords).to(raw)[raw.argmax(-1)]

    @_either
    def log_density(self, z: Any, center: Any, sigma: float) -> Any:
        """Return the logarithm of the Gaussian neighbourhood, normalised to 1 over the units.

        Parameters
        ----------
        z, center : arrays or tensors of shape (..., 2)
            Positions of units.
        sigma : float
            Width, in lattice spacings.
        """
        _require_width(sigma)
        coords = torch.as_tensor(self.coords).to(center)
        to_all = -(self.distance(center[..., None, :], coords) ** 2) / (2 * sigma**2)
        return -(self.distance(z, center) ** 2) / (2 * sigma**2) - to_all.logsumexp(-1)

    def perturb(self, z: Any, sigma: float, generator: np.random.Generator) -> Any:
        """Return the position of a neighbour of each unit, drawn by the Gaussian neighbourhood.

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
        h = np.exp(self.log_density(self.coords, np.asarray(z, float)[..., None, :], sigma))
        u = generator.random((*h.shape[:-1], 1))
        return self.coords[(h.cumsum(-1) < u).sum(-1).clip(max=self.n_units - 1)]

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return the positions of n units drawn uniformly, shape (n, 2)."""
        return self.coords[generator.integers(self.n_units, size=n)]

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k)."""
        box = np.array(self.periods)
        Z, queries = np.asarray(Z, float), np.asarray(queries, float)
        for z in (Z, queries):
            if z.shape[-1:] != (2,):
                raise ValueError(
                    f"points of shape {z.shape} do not lie in {self}; expected (..., 2)"
                )
        return _by_tree(Z, queries, _at_most(k, len(Z)), box)

    def _unit_at(self, z: Tensor) -> Tensor:
        coords = torch.as_tensor(self.coords).to(z)
        return cast("Tensor", self.distance(z[..., None, :], coords).argmin(-1))

    # ---------------------------------------------------------------- smoothing

    def gaussian_sum(self, values: torch.Tensor, sigma: float) -> torch.Tensor:
        """Return Σⱼ exp(−δᵢⱼ²/2σ²) vⱼ for every unit i, without a K × K matrix.

        The square of a Euclidean distance is a sum over the axes, so the Gaussian is a product
        of one factor per axis and the sum can be taken along columns, then along rows: K(rows +
        cols) instead of K² products per feature. On a hexagonal grid the factor along a row
        depends on whether the two rows are shifted against each other, hence the two parities.

        Parameters
        ----------
        values : tensor of shape (K, m)
            What each unit hands to its neighbours.
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
        position = torch.as_tensor(self.mesh(), dtype=values.dtype, device=values.device)
        sheet = values.reshape(self.rows, self.cols, -1)
        summed = torch.zeros_like(sheet)

        def kernel(apart: torch.Tensor, period: float) -> torch.Tensor:
            return torch.exp(-(_around(apart.abs(), period) ** 2) / (2 * sigma**2))

        down = position[:, 0, 0]
        between_rows = kernel(down[:, None] - down[None], self.periods[0])
        parities = range(min(2, self.rows)) if self.topology == "hex" else range(1)
        step = len(parities)
        for p in parities:
            for q in parities:
                right, left = position[p, :, 1], position[q, :, 1]
                between_cols = kernel(right[:, None] - left[None], self.periods[1])
                along_rows = torch.matmul(between_cols, sheet[q::step])
                summed[p::step] += torch.tensordot(between_rows[p::step, q::step], along_rows, 1)
        return summed.reshape(values.shape)


# -------------------------------------------------------------------- continuous spaces


@dataclass(frozen=True)
class Continuous(ABC):
    """What the continuous spaces share; use `Euclidean`, `Torus` or `Sphere`.

    A point is z, an array or tensor of shape (..., m). Its embedding, of shape (..., `n_embedded`),
    is what a decoder is given; an encoder answers with as many numbers, whose projection is a
    point again. Methods that take points take arrays and tensors alike, and return what they were
    given.

    Parameters
    ----------
    m : int
        Number of coordinates.

    Attributes
    ----------
    dimension : int
        Dimension of the space: m, on the sphere m − 1.
    n_embedded : int
        Length of an embedding.

    Raises
    ------
    ValueError
        When m is not a whole number of at least 1, on the sphere of at least 2; from the methods
        for points of another width.
    """

    m: int

    _least: ClassVar[int] = 1

    def __post_init__(self) -> None:
        whole = isinstance(self.m, int | np.integer) and not isinstance(self.m, bool)
        if not whole or self.m < self._least:
            raise ValueError(
                f"m={self.m!r} must be a whole number of at least {self._least} for a "
                f"{type(self).__name__}" + self._why_least
            )
        object.__setattr__(self, "m", int(self.m))

    _why_least: ClassVar[str] = ""

    @property
    def dimension(self) -> int:
        """Dimension of the space."""
        return self.m

    @property
    def n_embedded(self) -> int:
        """Length of an embedding."""
        return self.m

    # ---------------------------------------------------------------- what a space must tell

    @abstractmethod
    def project(self, raw: Any) -> Any:
        """Return the points of which `raw`, shape (..., n_embedded), are embeddings, or nearly.

        The inverse of `embed`: an encoder's output need not lie on the space, its projection does.
        """

    @abstractmethod
    def embed(self, z: Any) -> Any:
        """Return the embedding of points, shape (..., n_embedded)."""

    @abstractmethod
    def distance(self, a: Any, b: Any) -> Any:
        """Return the geodesic distance, shape (...), of points that broadcast."""

    @abstractmethod
    def displace(self, z: Any, sigma: Any, normals: Any, kind: Kind = "gaussian") -> Any:
        """Return where standard normals lead from z; see `perturb`.

        Parameters
        ----------
        z : array or tensor of shape (..., m)
        sigma : float or tensor that broadcasts with (..., 1)
        normals : array or tensor of shape (..., m + 1)
            The first m say where to, the last, for "radius", how far.
        kind : {"gaussian", "radius"}
        """

    @abstractmethod
    def log_density(self, z: Any, center: Any, sigma: float, kind: Kind = "gaussian") -> Any:
        """Return log h(center, z): where `perturb` sends a center, as a density over the space.

        Its integral over z is 1 (equation 6 of the SOAE paper), in the space's own measure:
        radians on circles, steradians on the sphere.
        """

    @abstractmethod
    def geodesic(self, a: Any, b: Any, t: Any) -> Any:
        """Return points on the shortest way from a (t = 0) to b (t = 1).

        Parameters
        ----------
        a, b : arrays or tensors of shape (..., m)
        t : array or tensor of shape (k,)

        Returns
        -------
        array or tensor of shape (..., k, m)
        """

    @abstractmethod
    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""

    @abstractmethod
    def mesh(self, n: int) -> Array:
        """Return a regular sheet of points for drawing, shape (rows, cols, m), row 0 on top.

        It has n rows where there are two dimensions to show (of more, it shows the first two, the
        others staying in the middle), and one row where there is one.
        """

    # ---------------------------------------------------------------- what follows from that

    def perturb(
        self, z: Any, sigma: float, generator: np.random.Generator, kind: Kind = "gaussian"
    ) -> Any:
        """Return one neighbour of each point, drawn from the neighbourhood kernel h(z, ·).

        Parameters
        ----------
        z : array or tensor of shape (..., m)
        sigma : float
            Width of the kernel, in units of `distance`.
        generator : numpy Generator
        kind : {"gaussian", "radius"}, default="gaussian"
            "gaussian" draws the displacement from 𝒩(0, σ²I), so that its length grows with the
            square root of the dimension; "radius" draws its length from |𝒩(0, σ²)| and its
            direction uniformly, so that it does not. They are the same in one dimension.

        Returns
        -------
        array or tensor of shape (..., m)

        Raises
        ------
        ValueError
            When sigma is not positive or the kind unknown.
        """
        normals: Any = generator.standard_normal((*np.shape(z)[:-1], self.m + 1))
        if isinstance(z, Tensor):
            normals = torch.from_numpy(normals).to(z)
        return self.displace(z, sigma, normals, kind)

    def nearest(self, Z: ArrayLike, queries: ArrayLike, k: int) -> NDArray[np.intp]:
        """Return the k nearest of Z to each query, nearest first, as indices of shape (n, k).

        Raises
        ------
        ValueError
            When k is not a whole number from 1 to the number of points.
        """
        Z, queries = np.asarray(Z, float), np.asarray(queries, float)
        self._points(Z, queries)
        return self._nearest(Z, queries, _at_most(k, len(Z)))

    def _nearest(self, Z: Array, queries: Array, k: int) -> NDArray[np.intp]:
        # nearest among embeddings is nearest: on the sphere a chord grows with its arc
        Z, queries = self.embed(Z), self.embed(queries)
        center = Z.mean(0)  # which brute force, taken in high dimensions, does not subtract
        tree = NearestNeighbors(n_neighbors=k).fit(Z - center)
        return np.asarray(tree.kneighbors(queries - center, return_distance=False))

    def _points(self, *points: Tensor | Array) -> None:
        """Refuse what cannot be points of this space."""
        for z in points:
            if z.shape[-1:] != (self.m,):
                raise ValueError(
                    f"points of shape {tuple(z.shape)} do not lie in {self}; "
                    f"expected (..., {self.m})"
                )

    def _raw(self, raw: Tensor) -> None:
        if raw.shape[-1:] != (self.n_embedded,):
            raise ValueError(
                f"numbers of shape {tuple(raw.shape)} are no embeddings of points of {self}; "
                f"expected (..., {self.n_embedded})"
            )

    def _length(self, direction: Tensor, sigma: Any, normals: Tensor, kind: Kind) -> Tensor:
        """Return how far to go, shape (..., 1), given standard normals in the tangent space."""
        _check_kernel(sigma, kind)
        if kind == "radius":  # "the radius forms a Gaussian, the directions are uniform"
            return cast("Tensor", sigma * normals[..., -1:].abs())
        return cast("Tensor", sigma * torch.linalg.vector_norm(direction, dim=-1, keepdim=True))

    def _log_radial(self, r: Tensor, sigma: float, kind: Kind) -> Tensor:
        """Return the log-density of the displacement at length r > 0, in a flat tangent space."""
        D = self.dimension
        log_normal = -(r**2) / (2 * sigma**2) - math.log(2 * math.pi * sigma**2) / 2
        if kind == "gaussian":  # 𝒩(0, σ² I)
            return log_normal - (D - 1) / 2 * math.log(2 * math.pi * sigma**2)
        # 2 𝒩(r; 0, σ²) spread over a sphere of radius r
        log_area = math.log(2) + D / 2 * math.log(math.pi) - math.lgamma(D / 2)
        return math.log(2) + log_normal - log_area - (D - 1) * r.clamp(min=_TINY).log()


def _check_kernel(sigma: Any, kind: Kind) -> None:
    if kind not in get_args(Kind):
        raise ValueError(f"kind={kind!r} is unknown; choose one of {list(get_args(Kind))}")
    _require_width(sigma)


def _require_width(sigma: Any) -> None:
    if not isinstance(sigma, Tensor) and not 0 < sigma < math.inf:
        raise ValueError(f"sigma={sigma!r} must be a positive number: a kernel has a width")


_TINY = 1e-37
_PERIOD = 2 * math.pi
_COPIES = 10**6  # of a point of the torus, among which a density is summed


@dataclass(frozen=True)
class Euclidean(Continuous):
    """The plane, or R^m: nothing is embedded, and there is no edge.

    Parameters
    ----------
    m : int
        Number of coordinates.
    low, high : float or tuple of m floats, default=(−π, π)
        Corners of the box in which `sample` draws and `mesh` lies; R^m has no uniform
        distribution. The default has the size of a torus.

    Examples
    --------
    >>> plane = Euclidean(2)
    >>> float(plane.distance(np.array([0.0, 0.0]), np.array([3.0, 4.0])))
    5.0
    """

    low: float | tuple[float, ...] = -math.pi
    high: float | tuple[float, ...] = math.pi

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            low, high = self._box
        except ValueError:
            low = high = np.zeros(self.m)
        if not (low < high).all() or not np.isfinite([low, high]).all():
            raise ValueError(
                f"low={self.low!r}, high={self.high!r} are no corners of a box; give a finite "
                f"number or {self.m} of them each, every low below its high"
            )

    @property
    def _box(self) -> tuple[Array, Array]:
        shape = (self.m,)
        return np.broadcast_to(self.low, shape), np.broadcast_to(self.high, shape)

    @_either
    def project(self, raw: Any) -> Any:
        """Return `raw` as it is."""
        self._raw(raw)
        return raw

    @_either
    def embed(self, z: Any) -> Any:
        """Return z as it is."""
        self._points(z)
        return z

    @_either
    def distance(self, a: Any, b: Any) -> Any:
        """Return ‖a − b‖."""
        self._points(a, b)
        return _root_of_squares(a[..., i] - b[..., i] for i in range(self.m))

    @_either
    def displace(self, z: Any, sigma: Any, normals: Any, kind: Kind = "gaussian") -> Any:
        """Return where standard normals lead from z; see `Continuous.displace`."""
        self._points(z)
        direction = normals[..., :-1]
        length = self._length(direction, sigma, normals, kind)
        return z + length * nn.functional.normalize(direction, dim=-1)

    @_either
    def log_density(self, z: Any, center: Any, sigma: float, kind: Kind = "gaussian") -> Any:
        """Return log h(center, z); see `Continuous.log_density`."""
        _check_kernel(sigma, kind)
        return self._log_radial(self.distance(z, center), sigma, kind)

    @_either
    def geodesic(self, a: Any, b: Any, t: Any) -> Any:
        """Return points on the straight line; see `Continuous.geodesic`."""
        self._points(a, b)
        return a[..., None, :] + t[:, None] * (b - a)[..., None, :]

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly from the box, shape (n, m)."""
        return generator.uniform(*self._box, (n, self.m))

    def mesh(self, n: int) -> Array:
        """Return n × n points of the box, edges included; see `Continuous.mesh`."""
        axes = [np.linspace(low, high, n) for low, high in zip(*self._box, strict=True)]
        return _sheet(axes[:2], np.mean(self._box, axis=0))


@dataclass(frozen=True)
class Torus(Continuous):
    """m circles: a point is m angles in radians, and every way leads back.

    Angles are embedded as (cos z, sin z) in R^2m (SOAE paper, equation 10), where each point has
    norm √m. The encoder's 2m numbers are read as m pairs, whose angles are their atan2.

    Examples
    --------
    >>> ring = Torus(1)
    >>> round(float(ring.distance(np.array([3.1]), np.array([-3.1]))), 4)  # across π
    0.0832
    >>> Torus(2).embed(np.zeros(2))
    array([1., 1., 0., 0.])
    """

    @property
    def n_embedded(self) -> int:
        """2m: a cosine and a sine each."""
        return 2 * self.m

    @_either
    def project(self, raw: Any) -> Any:
        """Return the angles of m pairs, in (−π, π]; of a pair of zeros, which has none, 0."""
        self._raw(raw)
        a, b = raw[..., : self.m], raw[..., self.m :]
        nowhere = (a == 0) & (b == 0)  # no direction, and no gradient either, rather than NaN
        return torch.atan2(torch.where(nowhere, 0.0, b), torch.where(nowhere, 1.0, a))

    @_either
    def embed(self, z: Any) -> Any:
        """Return T(z) = (cos z, sin z), equation 10."""
        self._points(z)
        return torch.cat([z.cos(), z.sin()], -1)

    @_either
    def distance(self, a: Any, b: Any) -> Any:
        """Return the length of the shorter way round on each circle, combined by Pythagoras."""
        self._points(a, b)
        return _root_of_squares(_around(a[..., i] - b[..., i], _PERIOD) for i in range(self.m))

    @_either
    def displace(self, z: Any, sigma: Any, normals: Any, kind: Kind = "gaussian") -> Any:
        """Return where standard normals lead from z; see `Continuous.displace`."""
        self._points(z)
        direction = normals[..., :-1]
        length = self._length(direction, sigma, normals, kind)
        return _angle(z + length * nn.functional.normalize(direction, dim=-1))

    @_either
    def log_density(self, z: Any, center: Any, sigma: float, kind: Kind = "gaussian") -> Any:
        """Return log h(center, z), the sum over all ways round; see `Continuous.log_density`.

        Raises
        ------
        ValueError
            Also when a "radius" kernel reaches round so many circles that its copies, which do
            not factor, are too many to sum.
        """
        _check_kernel(sigma, kind)
        self._points(z, center)
        apart = _angle(z - center)
        reach = math.ceil((9 * sigma + math.pi) / _PERIOD)
        around = _PERIOD * torch.arange(-reach, reach + 1).to(apart)
        if kind == "gaussian":  # a product over the circles
            circle = Torus(1)
            copies = circle._log_radial((apart[..., None] + around).abs(), sigma, kind)
            return copies.logsumexp(-1).sum(-1)
        if len(around) ** self.m > _COPIES:
            raise ValueError(
                f"a kernel of kind='radius' and sigma={sigma} on {self} has more than {_COPIES} "
                "copies to sum; take kind='gaussian', a smaller sigma or fewer circles"
            )
        shifts = torch.cartesian_prod(*[around] * self.m).reshape(-1, self.m)
        r = _root_of_squares(apart[..., None, i] + shifts[:, i] for i in range(self.m))
        return self._log_radial(r, sigma, kind).logsumexp(-1)

    @_either
    def geodesic(self, a: Any, b: Any, t: Any) -> Any:
        """Return points on the shorter way round; see `Continuous.geodesic`."""
        self._points(a, b)
        return _angle(a[..., None, :] + t[:, None] * _angle(b - a)[..., None, :])

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""
        return generator.uniform(-math.pi, math.pi, (n, self.m))

    def mesh(self, n: int) -> Array:
        """Return n × n points: the last row and column meet the first. See `Continuous.mesh`."""
        axis = np.linspace(-math.pi, math.pi, n, endpoint=False)
        return _sheet([axis] * min(2, self.m), np.zeros(self.m))

    def _nearest(self, Z: Array, queries: Array, k: int) -> NDArray[np.intp]:
        return _by_tree(Z, queries, k, np.full(self.m, _PERIOD))


@dataclass(frozen=True)
class Sphere(Continuous):
    """Unit vectors in R^m, a space of m − 1 dimensions without edge or preferred direction.

    Vectors are brought to it by S(z) = z/‖z‖ (SOAE paper, equation 11). Distances are arcs in
    radians.

    Parameters
    ----------
    m : int
        Number of coordinates, at least 2: 2 for the circle, 3 for the globe.

    Raises
    ------
    ValueError
        Also for a zero vector, which has no direction. (Tensors on a GPU are not looked at, which
        would make it wait.)

    Examples
    --------
    >>> globe = Sphere(3)
    >>> round(float(globe.distance(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))), 4)
    1.5708
    """

    _least: ClassVar[int] = 2
    _why_least: ClassVar[str] = ": with m = 1 it is two points, without neighbours"

    @property
    def dimension(self) -> int:
        """One less than the coordinates: m − 1."""
        return self.m - 1

    @_either
    def project(self, raw: Any) -> Any:
        """Return raw/‖raw‖; for a zero vector the first axis."""
        self._raw(raw)
        nowhere = (raw == 0).all(-1, keepdim=True)
        axis = torch.eye(self.m, dtype=raw.dtype, device=raw.device)[0]
        return _unit(torch.where(nowhere, axis, raw))

    @_either
    def embed(self, z: Any) -> Any:
        """Return S(z) = z/‖z‖, equation 11."""
        self._points(z)
        if z.device.type == "cpu" and (z == 0).all(-1).any():
            raise ValueError(
                "a zero vector has no direction, hence no place on the sphere; give points of "
                "length 1, or other vectors than zero"
            )
        return _unit(z)

    @_either
    def distance(self, a: Any, b: Any) -> Any:
        """Return the arc between a and b, exact for near and for opposite points."""
        a, b = self.embed(a), self.embed(b)
        chord = _root_of_squares(a[..., i] - b[..., i] for i in range(self.m))
        other = _root_of_squares(a[..., i] + b[..., i] for i in range(self.m))
        return 2 * torch.atan2(chord, other)

    @_either
    def displace(self, z: Any, sigma: Any, normals: Any, kind: Kind = "gaussian") -> Any:
        """Return where standard normals lead from z along a great circle.

        The normals are projected onto the tangent space at z; an arc as long as the displacement
        leads from there, so that σ means the same as on the other spaces. See
        `Continuous.displace`.
        """
        z = self.embed(z)
        normal = normals[..., :-1]
        tangent = normal - (normal * z).sum(-1, keepdim=True) * z
        length = self._length(tangent, sigma, normals, kind)
        arrived = length.cos() * z + length.sin() * nn.functional.normalize(tangent, dim=-1)
        return nn.functional.normalize(arrived, dim=-1)  # a short tangent is off by rounding

    @_either
    def log_density(self, z: Any, center: Any, sigma: float, kind: Kind = "gaussian") -> Any:
        """Return log h(center, z), the sum over all ways round; see `Continuous.log_density`.

        Ways of length ρ reach the circle at arc θ, where they are denser by (ρ / sin θ)^(D−1) than
        in the tangent space. At the centre and opposite to it all ways of a length meet, and the
        density of those that have gone round is infinite there.
        """
        _check_kernel(sigma, kind)
        theta = self.distance(z, center)[..., None]
        around = _PERIOD * torch.arange(math.ceil((9 * sigma + math.pi) / _PERIOD) + 1).to(theta)
        ways = torch.cat([theta + around, around[1:] - theta], -1)
        denser = ways.clamp(min=_TINY).log() - theta.sin().clamp(min=_TINY).log()
        log_h = self._log_radial(ways, sigma, kind) + (self.dimension - 1) * denser
        return log_h.logsumexp(-1)

    @_either
    def geodesic(self, a: Any, b: Any, t: Any) -> Any:
        """Return points on the great circle; see `Continuous.geodesic`.

        Between opposite points, where every direction is as short, one is chosen.
        """
        a, b = self.embed(a), self.embed(b)
        theta = self.distance(a, b)[..., None, None] * t[:, None]
        away = b - a
        towards = away - (a * away).sum(-1, keepdim=True) * a
        least = torch.zeros_like(a).scatter_(-1, a.abs().argmin(-1, keepdim=True), 1.0)
        any_way = least - (a * least).sum(-1, keepdim=True) * a
        opposite = (a * b).sum(-1, keepdim=True) < 0
        lost = opposite & (towards.norm(dim=-1, keepdim=True) < _TOUCHING)
        direction = nn.functional.normalize(torch.where(lost, any_way, towards), dim=-1)
        return theta.cos() * a[..., None, :] + theta.sin() * direction[..., None, :]

    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""
        return np.asarray(self.project(generator.standard_normal((n, self.m))))

    def mesh(self, n: int) -> Array:
        """Return n circles of latitude, from the north pole down, of 2n points each.

        The poles themselves lie between rows. Of a circle (m = 2), n points; of more dimensions
        the globe of the first three coordinates.
        """
        sheet = np.zeros((1 if self.m == 2 else n, n if self.m == 2 else 2 * n, self.m))
        longitude = np.linspace(-math.pi, math.pi, sheet.shape[1], endpoint=False)
        colatitude = np.full(1, math.pi / 2) if self.m == 2 else (np.arange(n) + 0.5) * math.pi / n
        around = np.sin(colatitude)[:, None]
        sheet[..., 0], sheet[..., 1] = around * np.cos(longitude), around * np.sin(longitude)
        if self.m > 2:
            sheet[..., 2] = np.cos(colatitude)[:, None]
        return sheet


def _unit(z: Tensor) -> Tensor:
    """Return z/‖z‖, of very short and very long vectors too."""
    largest = z.detach().abs().amax(-1, keepdim=True).clamp(min=_TINY)
    return nn.functional.normalize(z / largest, dim=-1)


def _angle(z: Tensor) -> Tensor:
    """Return angles in [−π, π)."""
    return torch.remainder(z + math.pi, _PERIOD) - math.pi


def _root_of_squares(parts: Iterable[Tensor]) -> Tensor:
    """Return √Σ p², one axis after the other: n × n points then need no n × n × m numbers."""
    total: Any = 0.0
    for part in parts:
        total = total + part**2
    return cast("Tensor", total**0.5)


def _sheet(axes: list[Array], middle: Array) -> Array:
    """Return the points of a lattice as rows and columns, further coordinates in the middle."""
    down, right = (np.zeros(1), *axes) if len(axes) == 1 else axes
    sheet = np.tile(middle, (len(down), len(right), 1))
    if len(axes) > 1:
        sheet[..., 0] = down[:, None]
    sheet[..., len(axes) - 1] = right
    return sheet


def _at_most(k: int, n: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n:
        raise ValueError(f"k={k!r} must be a whole number from 1 to the {n} points")
    return int(k)


def _by_tree(Z: Array, queries: Array, k: int, period: Array) -> NDArray[np.intp]:
    """Return the k nearest of Z where each axis returns to itself after its period (0: never)."""
    turn = np.where(period > 0, period, 1)
    # np.mod(−1e-17, period) is the period itself, which is outside the box
    inside = [np.where(period > 0, np.mod(z, turn) % turn, z) for z in (Z, queries)]
    found = cKDTree(inside[0], boxsize=period).query(inside[1], list(range(1, k + 1)))[1]
    return np.asarray(found, dtype=np.intp)


def _around(apart: Any, period: float) -> Any:
    """Return the shorter way between two points of a circle, given one way; a line if period 0."""
    if not period:
        return apart
    return period / 2 - abs(apart % period - period / 2)


def _larger(a: Any, b: Any) -> Any:
    """Return the elementwise maximum, for arrays and tensors alike."""
    return (a + b + abs(a - b)) / 2
