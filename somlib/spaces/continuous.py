"""The continuous spaces of latent codes: the plane, the torus and the sphere, of any dimension."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.neighbors import NearestNeighbors
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

Kind = Literal["gaussian", "radius"]

TURN = 2 * math.pi
"""The period of an angle, in radians."""

LEAST_LENGTH = 1e-37
"""What a length or a sine counts as at least before its logarithm or its reciprocal is taken."""

MAX_COPIES = 10**6
"""Copies of a point of the torus, at most, over which the density of a kernel is summed."""


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
        if not checks.is_whole(self.m) or not self._least <= self.m < checks.LIMIT:
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

    # ---------------------------------------------------------------- arrays and tensors alike

    def project(self, raw: Any) -> Any:
        """Return the points of which `raw`, shape (..., n_embedded), are embeddings, or nearly.

        The inverse of `embed`: an encoder's output need not lie on the space, its projection does.
        """
        if np.shape(raw)[-1:] != (self.n_embedded,):
            raise ValueError(
                f"numbers of shape {tuple(np.shape(raw))} are no embeddings of points of {self}; "
                f"expected (..., {self.n_embedded})"
            )
        return in_torch(self._project, raw)

    def embed(self, z: Any) -> Any:
        """Return the embedding of points, shape (..., n_embedded)."""
        self._check_points(z)
        return in_torch(self._embed, z)

    def distance(self, a: Any, b: Any) -> Any:
        """Return the geodesic distance, shape (...), of points that broadcast."""
        self._check_points(a, b)
        return in_torch(self._distance, a, b)

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
        _check_kernel(sigma, kind)
        self._check_points(z)
        return in_torch(self._displace, z, sigma, normals, kind)

    def log_density(self, z: Any, center: Any, sigma: float, kind: Kind = "gaussian") -> Any:
        """Return log h(center, z): where `perturb` sends a center, as a density over the space.

        Its integral over z is 1 (equation 6 of the SOAE paper), in the space's own measure:
        radians on circles, steradians on the sphere.
        """
        _check_kernel(sigma, kind)
        self._check_points(z, center)
        return in_torch(self._log_density, z, center, sigma, kind)

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
        self._check_points(a, b)
        return in_torch(self._geodesic, a, b, t)

    @abstractmethod
    def sample(self, n: int, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""

    @abstractmethod
    def mesh(self, n: int) -> Array:
        """Return a regular sheet of points for drawing, shape (rows, cols, m), row 0 on top.

        It has n rows where there are two dimensions to show (of more, it shows the first two, the
        others staying in the middle), and one row where there is one.
        """

    # ---------------------------------------------------------------- the formulas of a space

    @abstractmethod
    def _project(self, raw: Tensor) -> Tensor: ...

    @abstractmethod
    def _embed(self, z: Tensor) -> Tensor: ...

    @abstractmethod
    def _distance(self, a: Tensor, b: Tensor) -> Tensor: ...

    def _displace(self, z: Tensor, sigma: Any, normals: Tensor, kind: Kind) -> Tensor:
        direction = normals[..., :-1]
        length = self._length(direction, sigma, normals, kind)
        return z + length * nn.functional.normalize(direction, dim=-1)

    @abstractmethod
    def _log_density(self, z: Tensor, center: Tensor, sigma: float, kind: Kind) -> Tensor: ...

    @abstractmethod
    def _geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor: ...

    # ---------------------------------------------------------------- what follows from them

    @checks.arguments
    def perturb(
        self,
        z: Any,
        sigma: checks.Positive,
        generator: np.random.Generator,
        kind: Kind = "gaussian",
    ) -> Any:
        """Return one neighbor of each point, drawn from the neighborhood kernel h(z, ·).

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
        Z = arrays.samples(Z, "Z", dtype=np.float64)
        queries = arrays.samples(queries, "queries", dtype=np.float64)
        self._check_points(Z, queries)
        return self._nearest(Z, queries, check_k(k, len(Z)))

    def _nearest(self, Z: Array, queries: Array, k: int) -> NDArray[np.intp]:
        # nearest among embeddings is nearest: on the sphere a chord grows with its arc
        Z, queries = self.embed(Z), self.embed(queries)
        center = Z.mean(0)  # which brute force, taken in high dimensions, does not subtract
        tree = NearestNeighbors(n_neighbors=k).fit(Z - center)
        return np.asarray(tree.kneighbors(queries - center, return_distance=False))

    def _check_points(self, *points: Any) -> None:
        """Refuse what cannot be points of this space."""
        for z in points:
            if np.shape(z)[-1:] != (self.m,):
                raise ValueError(
                    f"points of shape {tuple(np.shape(z))} do not lie in {self}; "
                    f"expected (..., {self.m})"
                )

    def _length(self, direction: Tensor, sigma: Any, normals: Tensor, kind: Kind) -> Tensor:
        """Return how far to go, shape (..., 1), given standard normals in the tangent space."""
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
        return math.log(2) + log_normal - log_area - (D - 1) * r.clamp(min=LEAST_LENGTH).log()


def _check_kernel(sigma: Any, kind: Kind) -> None:
    checks.require("kind", kind, Kind)
    check_sigma(sigma)


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
        checks.parameters(self)
        for name in ("low", "high"):
            if np.shape(corner := getattr(self, name)) not in ((), (self.m,)):
                raise ValueError(
                    f"{name}={corner!r} has {len(corner)} entries; give a finite number or "
                    f"{self.m} of them, one for each coordinate"
                )
        low, high = self._box
        if not (low < high).all():
            raise ValueError(
                f"low={self.low!r}, high={self.high!r} are no corners of a box; give numbers "
                "with every low below its high"
            )

    @property
    def _box(self) -> tuple[Array, Array]:
        low, high = (
            np.broadcast_to(np.asarray(corner, dtype=np.float64), (self.m,))
            for corner in (self.low, self.high)
        )
        return low, high

    def _project(self, raw: Tensor) -> Tensor:
        return raw

    def _embed(self, z: Tensor) -> Tensor:
        return z

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        return _root_of_squares(a[..., i] - b[..., i] for i in range(self.m))

    def _log_density(self, z: Tensor, center: Tensor, sigma: float, kind: Kind) -> Tensor:
        return self._log_radial(self._distance(z, center), sigma, kind)

    def _geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return a[..., None, :] + t[:, None] * (b - a)[..., None, :]

    @checks.arguments
    def sample(self, n: checks.Count, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly from the box, shape (n, m)."""
        return generator.uniform(*self._box, (n, self.m))

    @checks.arguments
    def mesh(self, n: checks.Count) -> Array:
        """Return n × n points of the box, edges included; see `Continuous.mesh`."""
        axes = [np.linspace(low, high, n) for low, high in zip(*self._box, strict=True)]
        return _lattice(axes[:2], np.mean(self._box, axis=0))


@dataclass(frozen=True)
class Torus(Continuous):
    """m circles: a point is m angles in radians, and every axis is periodic.

    Angles are embedded as (cos z, sin z) in R^2m (SOAE paper, equation 10), where each point has
    norm √m. The distance is the length of the shorter way round on each circle, combined by
    Pythagoras. The encoder's 2m numbers are read as m pairs, whose angles are their atan2; of a
    pair of zeros, which has none, 0.

    Raises
    ------
    ValueError
        Also from `log_density`, when a "radius" kernel reaches round so many circles that its
        copies, which do not factor, are too many to sum.

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

    def _project(self, raw: Tensor) -> Tensor:
        a, b = raw[..., : self.m], raw[..., self.m :]
        zero = (a == 0) & (b == 0)  # no direction, and no gradient either, rather than NaN
        return torch.atan2(torch.where(zero, 0.0, b), torch.where(zero, 1.0, a))

    def _embed(self, z: Tensor) -> Tensor:
        return torch.cat([z.cos(), z.sin()], -1)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        return _root_of_squares(circular(a[..., i] - b[..., i], TURN) for i in range(self.m))

    def _displace(self, z: Tensor, sigma: Any, normals: Tensor, kind: Kind) -> Tensor:
        return _angle(super()._displace(z, sigma, normals, kind))

    def _log_density(self, z: Tensor, center: Tensor, sigma: float, kind: Kind) -> Tensor:
        difference = _angle(z - center)
        reach = math.ceil((9 * sigma + math.pi) / TURN)
        turns = TURN * torch.arange(-reach, reach + 1).to(difference)
        if kind == "gaussian":  # a product over the circles
            circle = Torus(1)
            copies = circle._log_radial((difference[..., None] + turns).abs(), sigma, kind)
            return copies.logsumexp(-1).sum(-1)
        if len(turns) ** self.m > MAX_COPIES:
            raise ValueError(
                f"a kernel of kind='radius' and sigma={sigma} on {self} has more than {MAX_COPIES} "
                "copies to sum; take kind='gaussian', a smaller sigma or fewer circles"
            )
        shifts = torch.cartesian_prod(*[turns] * self.m).reshape(-1, self.m)
        r = _root_of_squares(difference[..., None, i] + shifts[:, i] for i in range(self.m))
        return self._log_radial(r, sigma, kind).logsumexp(-1)

    def _geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        return _angle(a[..., None, :] + t[:, None] * _angle(b - a)[..., None, :])

    @checks.arguments
    def sample(self, n: checks.Count, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""
        return generator.uniform(-math.pi, math.pi, (n, self.m))

    @checks.arguments
    def mesh(self, n: checks.Count) -> Array:
        """Return n × n points: the last row and column meet the first. See `Continuous.mesh`."""
        axis = np.linspace(-math.pi, math.pi, n, endpoint=False)
        return _lattice([axis] * min(2, self.m), np.zeros(self.m))

    def _nearest(self, Z: Array, queries: Array, k: int) -> NDArray[np.intp]:
        return nearest_by_tree(Z, queries, k, np.full(self.m, TURN))


@dataclass(frozen=True)
class Sphere(Continuous):
    """Unit vectors in R^m, a space of m − 1 dimensions without edge or preferred direction.

    Vectors are embedded by S(z) = z/‖z‖ (SOAE paper, equation 11), and so are the encoder's
    numbers; a zero vector among those becomes the first axis. Distances are arcs in radians, exact
    for near and for opposite points. `displace` projects the normals onto the tangent space at z
    and follows a great circle for the length of the displacement, so that σ means the same as on
    the other spaces. Between opposite points, where every direction is as short, `geodesic`
    chooses one.

    Parameters
    ----------
    m : int
        Number of coordinates, at least 2: 2 for the circle, 3 for the globe.

    Raises
    ------
    ValueError
        Also for a zero vector, which has no direction. (Tensors on a GPU are not read, because
        the GPU would have to wait.)

    Examples
    --------
    >>> globe = Sphere(3)
    >>> round(float(globe.distance(np.array([1.0, 0, 0]), np.array([0, 0, 1.0]))), 4)
    1.5708
    """

    _least: ClassVar[int] = 2
    _why_least: ClassVar[str] = ": with m = 1 it is two points, without neighbors"

    @property
    def dimension(self) -> int:
        """One less than the coordinates: m − 1."""
        return self.m - 1

    def _project(self, raw: Tensor) -> Tensor:
        zero = (raw == 0).all(-1, keepdim=True)
        axis = torch.eye(self.m, dtype=raw.dtype, device=raw.device)[0]
        return _unit(torch.where(zero, axis, raw))

    def _embed(self, z: Tensor) -> Tensor:
        if z.device.type == "cpu" and (z == 0).all(-1).any():
            raise ValueError(
                "a zero vector has no direction, hence no place on the sphere; give points of "
                "length 1, or other vectors than zero"
            )
        return _unit(z)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self._embed(a), self._embed(b)
        chord = _root_of_squares(a[..., i] - b[..., i] for i in range(self.m))
        other = _root_of_squares(a[..., i] + b[..., i] for i in range(self.m))
        return 2 * torch.atan2(chord, other)

    def _displace(self, z: Tensor, sigma: Any, normals: Tensor, kind: Kind) -> Tensor:
        z, normal = self._embed(z), normals[..., :-1]
        tangent = normal - (normal * z).sum(-1, keepdim=True) * z
        length = self._length(tangent, sigma, normals, kind)
        arrived = length.cos() * z + length.sin() * nn.functional.normalize(tangent, dim=-1)
        return nn.functional.normalize(arrived, dim=-1)  # a short tangent is off by rounding

    def _log_density(self, z: Tensor, center: Tensor, sigma: float, kind: Kind) -> Tensor:
        # Geodesics of length ρ reach the circle at arc θ, where they are denser by
        # (ρ / sin θ)^(D−1) than in the tangent space. At the center and opposite to it all
        # geodesics of a length meet, and the density of those that have gone round is infinite.
        theta = self._distance(z, center)[..., None]
        turns = TURN * torch.arange(math.ceil((9 * sigma + math.pi) / TURN) + 1).to(theta)
        lengths = torch.cat([theta + turns, turns[1:] - theta], -1)
        denser = lengths.clamp(min=LEAST_LENGTH).log() - theta.sin().clamp(min=LEAST_LENGTH).log()
        log_h = self._log_radial(lengths, sigma, kind) + (self.dimension - 1) * denser
        return log_h.logsumexp(-1)

    def _geodesic(self, a: Tensor, b: Tensor, t: Tensor) -> Tensor:
        a, b = self._embed(a), self._embed(b)
        theta = self._distance(a, b)[..., None, None] * t[:, None]
        away = b - a
        towards = away - (a * away).sum(-1, keepdim=True) * a
        least = torch.zeros_like(a).scatter_(-1, a.abs().argmin(-1, keepdim=True), 1.0)
        any_direction = least - (a * least).sum(-1, keepdim=True) * a
        opposite = (a * b).sum(-1, keepdim=True) < 0
        lost = opposite & (towards.norm(dim=-1, keepdim=True) < DISTANCE_SLACK)
        direction = nn.functional.normalize(torch.where(lost, any_direction, towards), dim=-1)
        return theta.cos() * a[..., None, :] + theta.sin() * direction[..., None, :]

    @checks.arguments
    def sample(self, n: checks.Count, generator: np.random.Generator) -> Array:
        """Return n points drawn uniformly, shape (n, m)."""
        return np.asarray(self.project(generator.standard_normal((n, self.m))))

    @checks.arguments
    def mesh(self, n: checks.Count) -> Array:
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
    largest = z.detach().abs().amax(-1, keepdim=True).clamp(min=LEAST_LENGTH)
    return nn.functional.normalize(z / largest, dim=-1)


def _angle(z: Tensor) -> Tensor:
    """Return angles in [−π, π)."""
    return torch.remainder(z + math.pi, TURN) - math.pi


def _root_of_squares(parts: Iterable[Tensor]) -> Tensor:
    """Return √Σ p², one axis after the other: n × n points then need no n × n × m numbers."""
    total: Any = 0.0
    for part in parts:
        total = total + part**2
    return cast("Tensor", total**0.5)


def _lattice(axes: list[Array], middle: Array) -> Array:
    """Return the points of a lattice as rows and columns, further coordinates in the middle."""
    down, right = (np.zeros(1), *axes) if len(axes) == 1 else axes
    sheet = np.tile(middle, (len(down), len(right), 1))
    if len(axes) > 1:
        sheet[..., 0] = down[:, None]
    sheet[..., len(axes) - 1] = right
    return sheet
