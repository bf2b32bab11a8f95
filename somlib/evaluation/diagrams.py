"""Diagrams of models: the forward pass, and which loss sends gradients to which part.

A diagram is a dict of `Part`s in a coordinate system of columns and rows, with the code at (0, 0),
which fills the axes. Solid arrows are the forward pass. Dashed arrows, in the color of their loss,
are gradients. No function here knows a model: the notebook that explains one lists its parts. As
in `plots`, each function draws on `ax`, or on a figure of its own, and returns the axes.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, FancyArrowPatch, Polygon
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from somlib.evaluation.plots import COLORS, INK, literal
from somlib.spaces import Grid

Array = NDArray[Any]

# width, height at the left and height at the right of each shape, in columns and rows
SHAPES = {
    "data": (0.40, 1.00, 1.00),
    "encoder": (0.66, 1.00, 0.50),
    "code": (0.40, 0.50, 0.50),
    "decoder": (0.66, 0.50, 1.00),
    "loss": (1.00, 0.50, 0.50),
    "prototypes": (2.60, 1.20, 1.20),
    "map": (2.60, 1.20, 1.20),
}
COLUMN_INCHES, ROW_INCHES = 1.3, 0.75  # on a figure of its own: an autoencoder is 6.5 wide
LOSS_COLORS = tuple(COLORS[i] for i in (0, 4, 6, 7))  # those dark enough for text on white
BOWS = (0, 0.35, -0.35, 0.65, -0.65, 1.0, -1.0, 1.5, -1.5)  # of an arrow, in half its length
STEPS = np.linspace(0, 1, 201)  # parameters of the points of an arrow
MIDDLE: dict[str, Any] = {"ha": "center", "va": "center", "linespacing": 1.3}
LOOKS: dict[str, dict[str, Any]] = {  # of a part, by its change since the diagram before
    "plain": {"edgecolor": INK, "facecolor": "0.95", "linewidth": 1.0},
    "added": {"edgecolor": "black", "facecolor": "0.87", "linewidth": 1.8},
    "kept": {"edgecolor": "0.6", "facecolor": "white", "linewidth": 0.8},
    "dropped": {"edgecolor": "0.7", "facecolor": "none", "linewidth": 0.8, "linestyle": ":"},
}


@dataclass(frozen=True)
class Part:
    r"""One element of a diagram.

    Parameters
    ----------
    shape : {"data", "encoder", "code", "decoder", "loss", "prototypes", "map"}
        Encoders narrow, decoders widen. Prototypes are dots, which a map joins to their neighbors.
    at : (float, float)
        Column, to the right, and row, upwards, of its center.
    label : str, default=""
        Written on it; formulas as mathtext.
    inputs : tuple of str, default=()
        Names of the parts from which it is computed.
    gradients : tuple of str, default=()
        Of a loss: names of the parts to which it sends gradients.
    grid : Grid, optional
        Where prototypes lie.

    Raises
    ------
    ValueError
        When the shape is unknown, prototypes lack a grid or something else sends gradients.

    Examples
    --------
    >>> Part("loss", (0, 1), r"$\mathcal{L}$", ("data", "reconstruction"), ("encoder",)).at
    (0, 1)
    """

    shape: str
    at: tuple[float, float]
    label: str = ""
    inputs: tuple[str, ...] = ()
    gradients: tuple[str, ...] = ()
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape={self.shape!r} is unknown; choose one of {list(SHAPES)}")
        if self.shape in ("prototypes", "map") and self.grid is None:
            raise ValueError(f"shape={self.shape!r} has units; give their grid")
        if self.gradients and self.shape != "loss":
            raise ValueError(f"gradients start at a loss, not at shape={self.shape!r}")

    def outline(self, scale: float = 1.0) -> Array:
        """Return its four corners, shape (4, 2), clockwise from the lower left."""
        width, left, right = (scale * size / 2 for size in SHAPES[self.shape])
        corners = [(-width, -left), (-width, left), (width, right), (width, -right)]
        return np.add(self.at, corners)

    def covers(self, points: Array, scale: float = 1.0) -> Array:
        """Return which of the points, shape (n, 2), lie within its outline."""
        inside: Array = Path(self.outline(scale)).contains_points(points)
        return inside


def autoencoder() -> dict[str, Part]:
    """Return the parts of an autoencoder.

    Examples
    --------
    >>> list(autoencoder())
    ['data', 'encoder', 'code', 'decoder', 'reconstruction']
    """
    return {
        "data": Part("data", (-2, 0), "$x$"),
        "encoder": Part("encoder", (-1, 0), "$f$", ("data",)),
        "code": Part("code", (0, 0), "$z$", ("encoder",)),
        "decoder": Part("decoder", (1, 0), "$g$", ("code",)),
        "reconstruction": Part("data", (2, 0), r"$\tilde{x}$", ("decoder",)),
    }


def architecture(
    parts: Mapping[str, Part], before: Mapping[str, Part] | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the parts of a model, the forward pass and the gradients that its losses name.

    Parameters
    ----------
    parts : mapping of str to Part
        Losses take their colors from top to bottom.
    before : mapping of str to Part, optional
        The diagram to compare with. What is new or differs is emphasized, what is gone leaves a
        dotted outline. So the panels of a figure keep one layout.
    ax : Axes, optional

    Raises
    ------
    ValueError
        When a part names one that is not there.

    Examples
    --------
    >>> plain = autoencoder()
    >>> prototypes = Part("map", (0, -2.2), "$m_k$", grid=Grid(4, 4))
    >>> loss = Part("loss", (0, -1), "SOM", ("code", "prototypes"), ("encoder", "prototypes"))
    >>> ax = architecture(plain | {"prototypes": prototypes, "som": loss}, before=plain)
    """
    return _draw(parts, before, {}, ax)


def gradient_flow(received: Any, parts: Mapping[str, Part], ax: Axes | None = None) -> Axes:
    """Draw the measured gradient of each loss with respect to each part.

    There is an arrow where the norm is not zero, with the norm on it, and nowhere else: the
    gradients that the losses in `parts` name are ignored.

    Parameters
    ----------
    received : DataFrame or mapping of str to mapping of str to float
        Norm of the gradient by loss (columns of a frame) and by part (its rows); a part left out
        received none.
    parts : mapping of str to Part
        The model, as for `architecture`.
    ax : Axes, optional

    Raises
    ------
    ValueError
        When a name is not in `parts`, a loss was not measured or a norm is not a number ≥ 0.

    Examples
    --------
    >>> loss = Part("loss", (0, 1), "loss", ("data", "reconstruction"))
    >>> measured = {"mse": {"encoder": 0.5, "decoder": 0.0}}
    >>> ax = gradient_flow(measured, {**autoencoder(), "mse": loss})
    """
    measured = {loss: dict(norms) for loss, norms in received.items()}
    losses = [name for name, part in parts.items() if part.shape == "loss"]
    _known("received", measured, losses)
    _known("received", chain(*measured.values()), parts)
    if missing := [loss for loss in losses if loss not in measured]:
        raise ValueError(f"received lacks {missing}; give the norms of each loss of the diagram")
    norms = {(a, b): norm for a, into in measured.items() for b, norm in into.items()}
    for (loss, name), norm in norms.items():
        if not 0 <= norm < np.inf:
            raise ValueError(f"the gradient of {loss!r} into {name!r} is {norm}; give a norm ≥ 0")
    flows = {
        name: replace(part, gradients=tuple(b for b, n in measured.get(name, {}).items() if n > 0))
        for name, part in parts.items()
    }
    ax = _draw(flows, None, {link: _number(norm) for link, norm in norms.items() if norm > 0}, ax)
    ax.set_xlabel("solid: forward pass; dashed: gradient and its norm")
    return ax


def venn(members: Mapping[str, Collection[str]], ax: Axes | None = None) -> Axes:
    """Draw three sets of methods as overlapping circles.

    Parameters
    ----------
    members : mapping of str to collection of str
        Name of a circle → the methods inside. A method of several circles is written once, in
        their overlap. Names are drawn as they are, without formulas.
    ax : Axes, optional

    Raises
    ------
    ValueError
        When there are not three circles.

    Examples
    --------
    >>> ax = venn({"clustering": ["k-means", "SOM"], "map": ["SOM"], "network": ["AE"]})
    """
    if len(members) != 3:
        raise ValueError(f"members has {len(members)} circles; only three can be drawn")
    ax = _axes(ax, (-1.75, 1.75), (-1.9, 1.6), (4.0, 4.0))
    ax.set_aspect("equal")
    angles = np.deg2rad((150, 30, 270))
    centers = 0.62 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for center, name, color in zip(centers, members, LOSS_COLORS, strict=False):
        ax.add_patch(Circle(center, 1, facecolor=(color, 0.08), edgecolor=color, linewidth=1.3))
        above = 1.12 if center[1] > -0.1 else -1.12
        literal(ax.text(center[0], center[1] + above, "", color=color, **MIDDLE), name)
    # the methods of a region are written at its point that is farthest from all circles
    places = np.stack(np.meshgrid(*[np.linspace(-1.6, 1.6, 161)] * 2), axis=-1).reshape(-1, 2)
    depth = 1 - cdist(places, centers)
    regions: dict[tuple[bool, ...], list[str]] = {}
    for method in dict.fromkeys(chain(*members.values())):
        region = tuple(method in inside for inside in members.values())
        regions.setdefault(region, []).append(method)
    for region, methods in regions.items():
        room = np.where(region, depth, -depth).min(axis=1)
        literal(ax.text(*places[room.argmax()], "", **MIDDLE), *methods)
    return ax


# ---------------------------------------------------------------- primitives


def _draw(
    parts: Mapping[str, Part],
    before: Mapping[str, Part] | None,
    notes: Mapping[tuple[str, str], str],
    ax: Axes | None,
) -> Axes:
    """Draw the parts, the arrows between them and the notes on gradients."""
    for name, part in parts.items():
        _known(f"part {name!r}", (*part.inputs, *part.gradients), parts)
    scene = {**(before or {}), **parts}
    corners = np.concatenate([part.outline() for part in scene.values()])
    (left, bottom), (right, top) = corners.min(axis=0) - 0.08, corners.max(axis=0) + 0.08
    inches = COLUMN_INCHES * (right - left), ROW_INCHES * (top - bottom)
    ax = _axes(ax, (left, right), (bottom, top), inches)

    def state(*names: str) -> str:
        """Return how a part, or an arrow between two, differs from the diagram before."""
        if before is None or not all(name in parts for name in names):
            return "plain" if before is None else "dropped"
        return "kept" if all(parts[name] == before.get(name) for name in names) else "added"

    losses = [name for name, part in scene.items() if part.shape == "loss"]
    losses.sort(key=lambda name: (-scene[name].at[1], scene[name].at[0]))
    colors = dict(zip(losses, cycle(LOSS_COLORS), strict=False))
    for name, part in scene.items():
        look = LOOKS[state(name)]
        if name in colors and state(name) in ("plain", "added"):
            look = look | {"edgecolor": colors[name]}
        _shape(ax, name, part, look)

    arcs = {}
    for name, part in parts.items():
        for origin in part.inputs:
            corner = (parts[origin].at[0], part.at[1])  # up or down first, then along
            arcs[origin, name, "forward"] = _arc(parts[origin], part, corner)
        for target in part.gradients:
            arcs[name, target, "gradient"] = _bow(part, parts[target], parts)
    for (origin, target, kind), arc in arcs.items():
        look = LOOKS[state(origin, target)]
        faint = state(origin, target) == "kept"
        dashed = kind == "gradient"
        color = colors[origin] if dashed and not faint else look["edgecolor"]
        _arrow(ax, arc, f"{kind}:{origin}:{target}", color, look["linewidth"], dashed)

    taken = {link: _points(arc) for link, arc in arcs.items()}
    for (origin, target), note in notes.items():
        link = (origin, target, "gradient")
        others = [points for other, points in taken.items() if other != link]
        scale = (COLUMN_INCHES / 2, ROW_INCHES)  # a note is wider than high
        room = cdist(taken[link] * scale, np.concatenate(others) * scale)
        middle = slice(len(STEPS) // 4, -len(STEPS) // 4)  # an arrow's ends stay visible
        place = taken[link][middle][room.min(axis=1)[middle].argmax()]
        white = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
        ax.text(*place, note, color=colors[origin], bbox=white, zorder=4, **MIDDLE)
        taken[origin, target, "note"] = place[None]
    return ax


def _axes(ax: Axes | None, across: Any, up: Any, inches: tuple[float, float]) -> Axes:
    """Prepare axes without a frame, on a figure of that size where none are given."""
    if ax is None:
        ax = plt.subplots(figsize=inches, layout="constrained")[1]
    ax.set(xlim=across, ylim=up, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


def _shape(ax: Axes, name: str, part: Part, look: Mapping[str, Any]) -> None:
    """Draw a part: its outline, its label, and its units if it has any."""
    ax.add_patch(Polygon(part.outline(), gid=f"part:{name}", zorder=2, **look))
    if look is LOOKS["dropped"]:
        return
    ink = "0.45" if look is LOOKS["kept"] else "black"
    if part.grid is None:
        ax.text(*part.at, part.label, color=ink, **MIDDLE)
        return
    (left, bottom), (width, height) = part.outline()[0], 2 * (part.at - part.outline()[0])
    ax.text(left + width / 4, part.at[1], part.label, color=ink, **MIDDLE)
    bounds = (left + width / 2, bottom + 0.1 * height, 0.45 * width, 0.8 * height)
    sheet = ax.inset_axes(bounds, transform=ax.transData)  # whose scale is the same both ways
    where = part.grid.coords[:, ::-1]
    if part.shape == "map":
        edges = where[part.grid.edges()]
        flat = np.ptp(edges, axis=1).max(axis=1) < 1.5  # where a grid wraps, not across the sheet
        sheet.add_collection(LineCollection(edges[flat], color=ink, linewidth=0.6))
    sheet.scatter(*where.T, s=6, color=ink, clip_on=False, zorder=2)
    sheet.set(aspect="equal", ylim=sheet.get_ylim()[::-1])
    sheet.set_axis_off()


def _arrow(ax: Axes, arc: Array, gid: str, color: str, linewidth: float, dashed: bool) -> None:
    """Draw an arrow along a parabola given by its three control points."""
    ax.add_patch(
        FancyArrowPatch(
            path=Path(arc, [Path.MOVETO, Path.CURVE3, Path.CURVE3]),
            arrowstyle="-|>,head_length=0.35,head_width=0.16",
            mutation_scale=10,
            color=color,
            linewidth=linewidth,
            linestyle=(0, (3, 1.5)) if dashed else "-",
            capstyle="butt",
            gid=gid,
            zorder=3,
        )
    )


def _bow(loss: Part, target: Part, parts: Mapping[str, Part]) -> Array:
    """Return the arc of a gradient: straight, or bowed as little as clears all other parts."""
    begin, end = np.asarray(loss.at, dtype=float), np.asarray(target.at, dtype=float)
    across = (end - begin)[::-1] * (-1, 1) / np.linalg.norm(end - begin)
    beside = any(parts[name] is target for name in loss.inputs)  # a forward arrow is there
    for bow in BOWS[beside:]:
        arc = _arc(loss, target, (begin + end) / 2 + 2 * bow * across)
        others = (part for part in parts.values() if part is not loss and part is not target)
        if not any(part.covers(_points(arc), 1.1).any() for part in others):
            return arc
    return _arc(loss, target, (begin + end) / 2)


def _arc(source: Part, target: Part, corner: ArrayLike) -> Array:
    """Return a parabola from center to center, bent to a corner, without its ends inside."""
    arc = np.array([source.at, corner, target.at], dtype=float)
    path = _points(arc)
    s, t = STEPS[source.covers(path)].max(), STEPS[target.covers(path)].min()
    # its blossom (de Casteljau) at s and s, s and t, t and t: the same parabola from s to t
    return np.array(
        [
            (1 - a) * (1 - b) * arc[0] + (a + b - 2 * a * b) * arc[1] + a * b * arc[2]
            for a, b in ((s, s), (s, t), (t, t))
        ]
    )


def _points(arc: Array) -> Array:
    """Return points along a parabola, shape (n, 2)."""
    t = STEPS[:, None]
    points: Array = (1 - t) ** 2 * arc[0] + 2 * t * (1 - t) * arc[1] + t**2 * arc[2]
    return points


def _number(value: float) -> str:
    """Return two significant digits, as a power of ten where there would be many zeros."""
    mantissa, exponent = f"{value:.1e}".split("e")
    if -3 < int(exponent) < 4:
        return f"{float(f'{value:.1e}'):.{max(1 - int(exponent), 0)}f}"
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$"


def _known(what: str, names: Iterable[str], parts: Collection[str]) -> None:
    """Refuse a name that is not among the parts."""
    if unknown := [name for name in names if name not in parts]:
        raise ValueError(f"{what} names {unknown}; the diagram has {list(parts)}")
