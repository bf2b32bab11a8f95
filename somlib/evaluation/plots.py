"""Figures of a map: its prototypes, its U-matrix, its samples; and of results over seeds.

All drawings of the lattice run the same way: unit (0, 0) is top left, rows go down, hexagons lean
as `Grid` lays them. Each function draws on `ax`, or on a figure of its own, and returns the axes;
none shows, closes, saves or sets anything global, and what is random takes a `random_state`.
Magnitudes are in cividis, which keeps its order in gray; classes have color and marker or letter.
Names of classes and features and texts in cells come from data and are drawn as they are (see
`literal`); titles and labels of color bars are the caller's own words, where "$" begins a formula.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from string import ascii_uppercase
from typing import Annotated, Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import Colormap
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D
from numpy.typing import ArrayLike, NDArray

from somlib import arrays, checks
from somlib.evaluation.arguments import clusters_of_units, codebook, same_width
from somlib.spaces import Grid

Array = NDArray[Any]

# Okabe & Ito (2008), ordered so that the first four are far apart in gray, and four more that are
# as far from these and from one another as these are, for red- and green-blind readers too.
COLORS = (
    *("#0072B2", "#E69F00", "#000000", "#F0E442", "#D55E00", "#56B4E9", "#009E73", "#CC79A7"),
    *("#B2DF8A", "#332288", "#DDDDDD", "#7F4F24"),
)
LINE_COLORS = tuple(COLORS[i] for i in (0, 1, 2, 4, 6, 7, 5))  # dark enough for thin lines
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "h")
INK, FAINT = "0.2", "0.85"  # what is said, and the lattice behind it
WIDTH_INCHES = 4.0  # of a map on a figure of its own
VECTOR_POINTS = 2000  # of more, a scatter is stored as pixels, so that an SVG stays small
ColorMap = Annotated[
    str | Colormap,
    checks.Rule(
        "the name of a color map, or a Colormap",
        lambda value: (
            isinstance(value, Colormap) or (isinstance(value, str) and value in colormaps)
        ),
    ),
]
Matrix = Annotated[
    ArrayLike,
    checks.Rule(
        "an array of two axes",
        lambda value: (
            value.ndim == 2
            if hasattr(value, "ndim")
            else checks.is_sequence(value) and all(map(checks.is_sequence, value))
        ),
    ),
]
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": "medium",
    "figure.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "figure.constrained_layout.use": True,
    "image.cmap": "cividis",
    "legend.frameon": False,
}


def style() -> AbstractContextManager[None]:
    """Return a context in which all figures have one font size and no needless frames.

    A notebook that wants it throughout says `plt.rcParams.update(plots.STYLE)` itself.

    Examples
    --------
    >>> with style():
    ...     plt.rcParams["axes.spines.top"]
    False
    """
    context: AbstractContextManager[None] = plt.rc_context(STYLE)
    return context


@checks.arguments
def palette(n: checks.Count) -> tuple[list[str], list[str]]:
    """Return a color and a marker for each of n classes.

    The first eight colors are Okabe and Ito's, the first four of them at least 15 units of
    lightness (CIE L*) apart, so that they can be told in gray. After twelve the colors come
    again, each with another marker; no pair comes twice up to 144.

    Examples
    --------
    >>> palette(3)
    (['#0072B2', '#E69F00', '#000000'], ['o', 's', '^'])
    """
    lap, place = np.divmod(np.arange(n), len(COLORS))
    markers = (lap + place) % len(MARKERS)
    return [COLORS[i] for i in place], [MARKERS[i] for i in markers]


# ---------------------------------------------------------------- what prototypes look like


@checks.arguments
def prototypes(
    weights: ArrayLike,
    grid: Grid,
    image_shape: checks.ImageShape | tuple[checks.Count, checks.Count, checks.Count],
    ax: Axes | None = None,
    cmap: ColorMap = "gray_r",
    clusters: ArrayLike | None = None,
) -> Axes:
    """Draw the prototypes as images, each at its unit.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid
        On hexagons the images leave gaps, so that shifted rows do not overlap; on squares a gap
        of one pixel, if the images have at least four pixels a side.
    image_shape : (h, w) or (h, w, 3)
        Shape of one image, h · w (· 3) = d; colors are red, green, blue in [0, 1].
    ax : Axes, optional
    cmap : str, default="gray_r"
        Gray levels from the least value of the sheet, white as paper, to the greatest, black.
        Without effect on color images.
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Raises
    ------
    ValueError
        When the prototypes do not fit the grid or the image.

    Examples
    --------
    >>> ax = prototypes(np.random.default_rng(0).random((12, 64)), Grid(3, 4), (8, 8))
    """
    W = codebook(weights, grid, dtype=np.float64)
    h, w, *channels = image_shape
    if np.prod(image_shape) != W.shape[1] or channels not in ([], [3]):
        raise ValueError(
            f"image_shape={tuple(image_shape)} does not fit prototypes of {W.shape[1]} features; "
            "give (height, width) or (height, width, 3) with that product"
        )
    ax = _map_axes(grid, ax, clusters, aspect=h / w)
    images = W.reshape(grid.rows, grid.cols, h, w, *channels)
    look = {"cmap": cmap, "vmin": W.min(), "vmax": W.max(), "interpolation": "nearest"}
    where = [ax.get_xlim(), ax.get_ylim()]
    uncut, paper = [(0, 0) for _ in channels], 1.0 if channels else np.nan
    if grid.topology == "rect":
        pad = int(min(h, w) >= 4)
        gaps = [(0, 0), (0, 0), (0, pad), (0, pad), *uncut]
        mosaic = np.pad(images, gaps, constant_values=paper).swapaxes(1, 2)
        mosaic = mosaic.reshape(grid.rows * (h + pad), grid.cols * (w + pad), *channels)
        down, right = 0.5 - pad / (h + pad) / 2, 0.5 - pad / (w + pad) / 2  # half an image
        extent = (-right, grid.cols - 1 + right, grid.rows - 1 + down, -down)
        ax.imshow(mosaic[: len(mosaic) - pad, : mosaic.shape[1] - pad], extent=extent, **look)
        _cells(ax, grid.polygons(), facecolor="none", edgecolor=FAINT, linewidth=0.4)
    else:  # a strip per row; images of side `size` in gaps of whole pixels are √3/2 high at most
        pad = max(1, int(np.ceil(w * (2 / 3**0.5 - 1))))
        size = w / (w + pad)
        gaps = [(0, 0), (0, 0), (0, pad), *uncut]
        for strip, (down, right) in zip(images, grid.mesh()[:, 0], strict=True):
            framed = np.pad(strip, gaps, constant_values=paper)
            row = framed.swapaxes(0, 1).reshape(h, -1, *channels)[:, :-pad]
            left, top = right - size / 2, down - size / 2
            ax.imshow(row, extent=(left, left + grid.cols - 1 + size, top + size, top), **look)
    ax.set(xlim=where[0], ylim=where[1], aspect=h / w)  # imshow has made them its own
    return ax


@checks.arguments
def component_planes(
    weights: ArrayLike,
    grid: Grid,
    names: Sequence[str] | None = None,
    axes: Any = None,
    shared: bool = False,
    clusters: ArrayLike | None = None,
) -> Array:
    """Draw one map per feature: its value in each prototype.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid
    names : sequence of d str, optional
        Titles; "feature 0", ... by default.
    axes : array of at least d Axes, optional
    shared : bool, default=False
        Whether all planes have one color scale. Features mostly differ in units, hence False.
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Returns
    -------
    ndarray of shape (d,)
        The axes drawn on.

    Raises
    ------
    ValueError
        When the prototypes do not fit the grid, or names or axes are too few.

    Examples
    --------
    >>> W = np.random.default_rng(0).random((12, 2))
    >>> component_planes(W, Grid(3, 4), ["length", "width"]).shape
    (2,)
    """
    W = codebook(weights, grid, dtype=np.float64)
    d = W.shape[1]
    names = [f"feature {i}" for i in range(d)] if names is None else names
    if len(names) != d:
        raise ValueError(f"names has {len(names)} entries for {d} features; give one for each")
    if clusters is not None:
        clusters_of_units(clusters, grid.n_units)  # before there is a figure
    panels: Array = _panels(d, axes, 4, 2.3, 2.3 * _height(grid) / _breadth(grid))
    limits = (W.min(), W.max()) if shared else (None, None)
    for ax, name, plane in zip(panels, names, W.T, strict=True):
        bar = None if shared and ax is not panels[-1] else ""  # one scale needs one bar
        unit_values(plane, grid, ax, label=bar, limits=limits, clusters=clusters)
        literal(ax.title, name)
    return panels


@checks.arguments
def unit_values(
    values: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    label: str | None = None,
    cmap: ColorMap = "cividis",
    limits: tuple[float | None, float | None] = (None, None),
    text: Sequence[Any] | None = None,
    clusters: ArrayLike | None = None,
) -> Axes:
    """Color each unit's cell by a value.

    Parameters
    ----------
    values : array of shape (K,)
        Cells of value NaN stay empty.
    grid : Grid
    ax : Axes, optional
    label : str, optional
        Draws a color bar with this label; None draws none.
    cmap : str or Colormap, default="cividis"
    limits : (float, float), optional
        Values at the two ends of the colors; the extremes by default.
    text : sequence of K entries, optional
        Written into the cells.
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Raises
    ------
    ValueError
        When values or texts are not one per unit.

    Examples
    --------
    >>> ax = unit_values(np.arange(12), Grid(3, 4, "hex"), label="unit", text=range(12))
    """
    values = arrays.samples(values, "values", axes=1, dtype=np.float64, missing=True)
    for name, given in (("values", values), ("text", text)):
        if given is not None and len(given) != grid.n_units:
            raise ValueError(
                f"{name} has {len(given)} entries, but a {grid.rows} × {grid.cols} grid has "
                f"{grid.n_units} units: give one for each"
            )
    ax = _map_axes(grid, ax, clusters)
    known = np.isfinite(values)
    _cells(ax, grid.polygons()[~known], facecolor="none", edgecolor=FAINT, linewidth=0.5)
    cells = _colored(ax, grid.polygons()[known], values[known], cmap, limits, label)
    if text is not None:
        light = np.ones(grid.n_units)
        light[known] = cells.to_rgba(values[known])[:, :3] @ (0.2126, 0.7152, 0.0722)
        for where, color in ((light > 0.45, "black"), (light <= 0.45, "white")):
            texts = [one_line(t) for t, here in zip(text, where, strict=True) if here]
            _write(ax, grid.coords[where], texts, 0.3, color)
    return ax


# ---------------------------------------------------------------- how far neighbors are apart


@checks.arguments
def u_matrix_values(weights: ArrayLike, grid: Grid) -> tuple[Array, Array]:
    """Return the distances between prototypes of neighbors, averaged per unit and per edge.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid

    Returns
    -------
    units : ndarray of shape (K,)
        Mean distance ‖m_i − m_j‖ to the neighbors j (Ultsch 1993); 0 for a unit without any.
    edges : ndarray of shape (E,)
        ‖m_i − m_j‖ for each pair of `grid.edges()`.

    Examples
    --------
    >>> u_matrix_values([[0.0], [1.0], [4.0]], Grid(1, 3))
    (array([1., 2., 3.]), array([1., 3.]))
    """
    W, edges = codebook(weights, grid, dtype=np.float64), grid.edges()
    apart = np.linalg.norm(W[edges[:, 0]] - W[edges[:, 1]], axis=1)
    number = np.bincount(edges.ravel(), minlength=grid.n_units)
    total = np.bincount(edges.ravel(), np.repeat(apart, 2), minlength=grid.n_units)
    return total / np.maximum(number, 1), apart


@checks.arguments
def u_matrix(
    weights: ArrayLike,
    grid: Grid,
    ax: Axes | None = None,
    label: str | None = "distance to neighbors",
    cmap: ColorMap = "cividis",
    clusters: ArrayLike | None = None,
) -> Axes:
    """Draw the U-matrix: how far neighboring prototypes are apart. Light ridges part clusters.

    Small cells lie on the units and between them. A cell on a unit shows the mean distance to
    its neighbors, one between two units their distance. Where four square cells meet it is the
    mean over both diagonals, divided by their length √2 (Ultsch & Siemon 1990): so a regular
    sheet is flat. Where a grid wraps, cells on the seam are cut: one half at each end. Two units
    that touch on both sides, as on an axis of two that wraps, have a cell on each; on an axis of
    one a unit touches itself, at distance 0.

    Parameters
    ----------
    weights : array of shape (K, d)
    grid : Grid
    ax : Axes, optional
    label : str or None, default="distance to neighbors"
        Of the color bar; None draws none.
    cmap : str or Colormap, default="cividis"
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Raises
    ------
    ValueError
        When the prototypes do not fit the grid.

    Examples
    --------
    >>> ax = u_matrix(np.random.default_rng(0).random((12, 5)), Grid(3, 4, "hex"))
    """
    W = codebook(weights, grid, dtype=np.float64)
    first, second, step = _steps(grid)
    seam = (abs(grid.coords[second] - grid.coords[first] - step) > 0.5).any(1)
    centers = np.concatenate(
        [grid.coords[first] + step / 2, (grid.coords[second] - step / 2)[seam]]
    )
    values = np.linalg.norm(W[first] - W[second], axis=1) / np.linalg.norm(step, axis=1)
    values = np.concatenate([values, values[seam]])
    if grid.topology == "rect":  # two diagonals cross in one place, on all sides of a seam
        period = np.where(np.array(grid.periods) > 0, grid.periods, 2 * grid.n_units)
        _, place = np.unique(np.rint(2 * centers) % (2 * period), axis=0, return_inverse=True)
        values = (np.bincount(place, values) / np.bincount(place))[place]
        centers, once = np.unique(centers, axis=0, return_index=True)
        values = values[once]
    ax = _map_axes(grid, ax, clusters)
    at = np.concatenate([grid.coords, centers])
    heights = np.concatenate([u_matrix_values(W, grid)[0], values])
    cells = _colored(ax, at[:, None] + 0.5 * grid.cell(), heights, cmap, (None, None), label)
    if seam.any():
        sheet = [Path(np.concatenate([p, p[:1]]), closed=True) for p in grid.polygons()[..., ::-1]]
        cells.set_clip_path(Path.make_compound_path(*sheet), transform=ax.transData)
    return ax


# ---------------------------------------------------------------- what lands where


@checks.arguments
def hit_map(
    labels: ArrayLike, grid: Grid, ax: Axes | None = None, clusters: ArrayLike | None = None
) -> Axes:
    """Draw how many samples each unit wins, as cells whose area is the number.

    Parameters
    ----------
    labels : int array of shape (n,)
        Best-matching unit of each sample.
    grid : Grid
        A unit that wins nothing is an empty outline.
    ax : Axes, optional
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Raises
    ------
    ValueError
        When there is no sample, or a unit is not on the grid.

    Examples
    --------
    >>> ax = hit_map([0, 0, 5, 11], Grid(3, 4))
    >>> ax.get_xlabel()
    'full cell: 2 samples'
    """
    counts = np.bincount(arrays.units(labels, grid.n_units), minlength=grid.n_units)
    ax = _map_axes(grid, ax, clusters)
    _cells(ax, grid.polygons(), facecolor="none", edgecolor=FAINT, linewidth=0.5)
    won = np.flatnonzero(counts)
    side = np.sqrt(counts[won] / counts.max())
    _cells(ax, grid.coords[won, None] + side[:, None, None] * grid.cell(), facecolor=COLORS[0])
    ax.set_xlabel(f"full cell: {counts.max()} samples")
    return ax


@checks.arguments
def class_pies(
    y: ArrayLike,
    labels: ArrayLike,
    grid: Grid,
    class_names: Sequence[str] | None = None,
    ax: Axes | None = None,
    clusters: ArrayLike | None = None,
) -> Axes:
    """Draw which classes each unit wins, as pies whose area is the number of samples.

    The most frequent class is also written on the pie, so that the map can be read in gray:
    by its name, or where names are longer than two letters by the letter given in the legend.

    Parameters
    ----------
    y : array of shape (n,)
        Class of each sample. Samples without a label (None, NaN, masked) are left out.
    labels : int array of shape (n,)
        Best-matching unit of each sample.
    grid : Grid
    class_names : sequence of str, optional
        One per class, in the order of the sorted classes; the classes themselves by default.
    ax : Axes, optional
    clusters : array of shape (K,), optional
        Cluster of each unit, as `SOM.cluster` returns them: draws their borders.

    Raises
    ------
    ValueError
        When lengths disagree, there is no sample, or a unit is not on the grid.

    Examples
    --------
    >>> ax = class_pies(["a", "a", "b"], [0, 5, 5], Grid(3, 4))
    """
    units, codes, names = _classes(labels, grid, y, class_names)
    counts = np.zeros((grid.n_units, len(names)), dtype=int)
    np.add.at(counts, (units, codes), 1)
    total = counts.sum(1)
    ax = _map_axes(grid, ax, clusters)
    _cells(ax, grid.polygons(), facecolor="none", edgecolor=FAINT, linewidth=0.5)
    # turns add up to 360° clockwise from the top; the vertical axis points down
    turn = np.cumsum(counts, axis=1) / np.maximum(total, 1)[:, None] * 360 - 90
    radius = 0.47 * np.sqrt(total / total.max())
    unit, code = np.nonzero(counts)
    begin = turn[unit, code] - 360 * counts[unit, code] / total[unit]
    wedges = [
        _slice(down, right, r, a, b)
        for (down, right), r, a, b in zip(
            grid.coords[unit], radius[unit], begin, turn[unit, code], strict=True
        )
    ]
    colors = palette(len(names))[0]
    look = {"edgecolor": "white", "linewidth": 0.3}
    ax.add_collection(PathCollection(wedges, facecolor=[colors[c] for c in code], **look))
    if max(map(len, names)) <= 2:
        letters, entries = names, names
    else:
        letters = [ascii_uppercase[i % 26] * (1 + i // 26) for i in range(len(names))]
        entries = [f"{letter}  {name}" for letter, name in zip(letters, names, strict=True)]
    won = np.flatnonzero(total)
    _write(ax, grid.coords[won], [letters[c] for c in counts[won].argmax(1)], 0.8 * radius[won])
    _legend(ax, [Patch(color=c) for c in colors], entries)
    ax.set_xlabel(f"largest pie: {total.max()} samples")
    return ax


@checks.arguments
def projection(
    labels: ArrayLike,
    grid: Grid,
    y: ArrayLike | None = None,
    ax: Axes | None = None,
    class_names: Sequence[str] | None = None,
    random_state: checks.CountOrZero | np.random.Generator | None = 0,
) -> Axes:
    """Draw each sample as a point somewhere in its unit's cell, colored and marked by class.

    Parameters
    ----------
    labels : int array of shape (n,)
        Best-matching unit of each sample.
    grid : Grid
    y : array of shape (n,), optional
        Class of each sample. Samples without a label (None, NaN, masked) are left out.
    ax : Axes, optional
    class_names : sequence of str, optional
        One per class, in the order of the sorted classes; the classes themselves by default.
    random_state : int, Generator or None, default=0
        Where in the cell, uniformly: it carries no meaning, so it is the same on every call.

    Raises
    ------
    ValueError
        When lengths disagree, there is no sample, or a unit is not on the grid.

    Examples
    --------
    >>> ax = projection([0, 0, 5, 11], Grid(3, 4), y=[0, 1, 1, 1])
    """
    given = [0] * len(arrays.units(labels, grid.n_units)) if y is None else y
    units, codes, names = _classes(labels, grid, given, class_names)
    ax = _map_axes(grid, ax)
    _cells(ax, grid.polygons(), facecolor="none", edgecolor=FAINT, linewidth=0.5)
    points = _scattered(units, grid, np.random.default_rng(random_state))
    size, drawn = np.clip(8000 / len(units), 4, 20), []
    for i, (name, color, marker) in enumerate(zip(names, *palette(len(names)), strict=True)):
        down, right = points[codes == i].T
        look = {"s": size, "color": color, "marker": marker, "label": name}
        look |= {"edgecolor": INK, "linewidth": 0.2, "rasterized": len(units) > VECTOR_POINTS}
        drawn.append(ax.scatter(right, down, **look))
    if y is not None:
        _legend(ax, drawn, names, markerscale=1.5)
    return ax


# ---------------------------------------------------------------- clusters of units


@checks.arguments
def cluster_borders(clusters: ArrayLike, grid: Grid) -> Array:
    """Return the sides of cells between units of different clusters, as (down, right).

    Every drawing of the map with `clusters` shows them.

    Parameters
    ----------
    clusters : array of shape (K,)
        Cluster of each unit.
    grid : Grid
        A side on the seam of a wrapped grid is returned at both ends.

    Returns
    -------
    ndarray of shape (sides, 2, 2)
        The two ends of each side.

    Raises
    ------
    ValueError
        When clusters are not one per unit.

    Examples
    --------
    >>> cluster_borders([0, 0, 1], Grid(1, 3)).tolist()
    [[[0.5, 1.5], [-0.5, 1.5]]]
    """
    cluster = clusters_of_units(clusters, grid.n_units)[1]
    first, second, step = _steps(grid)
    between = (cluster[first] != cluster[second]) & (np.linalg.norm(step, axis=1) < 1.2)
    first, second, step = first[between], second[between], step[between]
    middle = np.concatenate([grid.coords[first] + step / 2, grid.coords[second] - step / 2])
    along = np.tile(step[:, ::-1] * [-1, 1], (2, 1))  # a quarter turn
    half = along / 2 * np.linalg.norm(grid.cell()[1] - grid.cell()[0])
    sides: Array = np.stack([middle - half, middle + half], axis=1)
    # but on a seam both middles are the same
    return sides[np.unique(middle.round(6), axis=0, return_index=True)[1]]


@checks.arguments
def cluster_differences(table: pd.DataFrame, n: checks.Count = 10, axes: Any = None) -> Array:
    """Draw by which features each cluster differs most from all other units, a panel for each.

    Parameters
    ----------
    table : DataFrame of shape (d, G)
        As `metrics.cluster_differences` returns it.
    n : int, default=10
        Number of features, those with the largest differences in either direction, largest first.
    axes : array of at least G Axes, optional

    Returns
    -------
    ndarray of Axes

    Raises
    ------
    ValueError
        When n is no positive whole number, or there are too few axes.

    Examples
    --------
    >>> table = pd.DataFrame({0: [0.5, -2.0], 1: [-0.5, 2.0]}, index=["length", "width"])
    >>> cluster_differences(table, n=1).shape
    (2,)
    """
    n = min(n, len(table))
    panels = _panels(table.shape[1], axes, 3, 3.2, 0.7 + 0.18 * n)
    reach = 1.05 * float(abs(table).to_numpy().max())
    for ax, cluster in zip(panels, table, strict=True):
        largest = table[cluster].sort_values(key=abs, ascending=False, kind="stable")[:n]
        ax.barh(np.arange(n), largest, color=COLORS[0])
        ax.axvline(0, color=INK, linewidth=0.8)
        ax.set(xlim=(-reach, reach), ylim=(n - 0.5, -0.5), title=f"cluster {cluster}")
        ax.set_yticks(np.arange(n), map(one_line, largest.index))
        for tick, name in zip(ax.get_yticklabels(), largest.index, strict=True):
            literal(tick, name)
        ax.set_xlabel("standard deviations")
    return panels


@checks.arguments
def cluster_images(
    inside: ArrayLike, outside: ArrayLike, image_shape: checks.ImageShape, axes: Any = None
) -> Array:
    """Draw the mean image of each cluster, and below it its difference from all other units.

    Parameters
    ----------
    inside, outside : arrays of shape (G, d)
        As `metrics.cluster_means` returns them.
    image_shape : (h, w)
    axes : array of at least 2 G Axes, optional

    Returns
    -------
    ndarray of shape (2, G)

    Raises
    ------
    ValueError
        When shapes do not fit, or there are too few axes.

    Examples
    --------
    >>> means = np.random.default_rng(0).random((3, 64))
    >>> cluster_images(means, means[::-1], (8, 8)).shape
    (2, 3)
    """
    inside, outside = same_width(inside=inside, outside=outside)
    if inside.shape != outside.shape or inside.shape[1:] != (np.prod(image_shape),):
        raise ValueError(
            f"inside has shape {inside.shape} and outside {outside.shape}, but both need "
            f"(clusters, {np.prod(image_shape)}) for image_shape={tuple(image_shape)}"
        )
    apart, G = inside - outside, len(inside)
    reach = abs(apart).max()
    panels = _panels(2 * G, axes, G, 1.2, 1.2).reshape(2, G)
    looks = [
        {"cmap": "gray_r", "vmin": inside.min(), "vmax": inside.max()},
        {"cmap": "cividis", "vmin": -reach, "vmax": reach},
    ]
    for row, images, look in zip(panels, (inside, apart), looks, strict=True):
        for ax, image in zip(row, images, strict=True):
            drawn = ax.imshow(image.reshape(image_shape), interpolation="nearest", **look)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
    for g, ax in enumerate(panels[0]):
        ax.set_title(f"cluster {g}")
    last = panels[1, -1]
    bar = last.figure.colorbar(drawn, cax=last.inset_axes((1.05, 0, 0.08, 1)), label="difference")
    bar.outline.set_visible(False)
    return panels


# ---------------------------------------------------------------- the map among its data


@checks.arguments
def map_in_data_space(
    weights: ArrayLike, grid: Grid, X: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the prototypes of 2-D data where they are, joined by the edges of the grid.

    Parameters
    ----------
    weights : array of shape (K, 2)
    grid : Grid
        Edges across a seam are drawn like the others: in the data they are as short.
    X : array of shape (n, 2), optional
        Samples, as small dots below.
    ax : Axes, optional

    Raises
    ------
    ValueError
        When prototypes or samples are not 2-D.

    Examples
    --------
    >>> grid = Grid(3, 4)
    >>> ax = map_in_data_space(grid.coords, grid)
    """
    W = _in_plane(codebook(weights, grid, dtype=np.float64), "weights")
    samples = np.empty((0, 2)) if X is None else _in_plane(arrays.samples(X), "X")
    if ax is None:
        ax = plt.subplots(figsize=(WIDTH_INCHES, WIDTH_INCHES), layout="constrained")[1]
    few = {"rasterized": len(samples) > VECTOR_POINTS, "linewidth": 0}
    ax.scatter(*samples.T, s=np.clip(4000 / max(len(samples), 1), 2, 10), color="0.7", **few)
    ax.add_collection(LineCollection(W[grid.edges()], color=COLORS[0], linewidth=0.8))
    ax.scatter(*W.T, s=np.clip(2000 / len(W), 3, 14), color=COLORS[0], zorder=3)
    ax.set_aspect("equal")
    return ax


@checks.arguments
def frames(
    snapshots: Sequence[Matrix],
    grid: Grid,
    X: ArrayLike | None = None,
    titles: Sequence[str] | None = None,
    axes: Any = None,
) -> Array:
    """Draw a row of `map_in_data_space`, one for each state of the prototypes, to one scale.

    Parameters
    ----------
    snapshots : sequence of arrays of shape (K, 2)
    grid, X
        As in `map_in_data_space`.
    titles : sequence of str, optional
    axes : array of Axes, optional

    Returns
    -------
    ndarray of Axes

    Examples
    --------
    >>> grid = Grid(3, 4)
    >>> frames([0 * grid.coords, grid.coords], grid, titles=["start", "end"]).shape
    (2,)
    """
    titles = [""] * len(snapshots) if titles is None else titles
    if not len(snapshots):
        raise ValueError("snapshots is empty; give at least one array of prototypes")
    if len(titles) != len(snapshots):
        raise ValueError(f"titles has {len(titles)} entries for {len(snapshots)} snapshots")
    states = [(W, f"snapshots[{i}]") for i, W in enumerate(snapshots)]
    drawn = [_in_plane(codebook(W, grid, name), name) for W, name in states]
    seen = np.concatenate(drawn + ([] if X is None else [_in_plane(arrays.samples(X), "X")]))
    panels: Array = _panels(len(snapshots), axes, 6, 1.8, 2.0)
    for ax, weights, title in zip(panels, snapshots, titles, strict=True):
        map_in_data_space(weights, grid, X, ax).set(title=title, xticks=[], yticks=[])
    low, high = seen.min(0), seen.max(0)
    margin = 0.05 * (high - low).max()
    for ax in panels:
        ax.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin))
    return panels


def _in_plane(points: Array, name: str) -> Array:
    if points.shape[1] != 2:
        raise ValueError(
            f"{name} has shape {points.shape}, but only 2-D data can be drawn as they are; "
            f"choose two columns, {name}[:, [0, 1]], or project onto two components first"
        )
    return points


@checks.arguments
def error_curves(history: Mapping[str, Sequence[float]], ax: Axes | None = None) -> Axes:
    """Draw quantization error (left axis) and topographic error (right axis) per epoch.

    Parameters
    ----------
    history : mapping
        With "quantization_error" and "topographic_error", one number per epoch, as in
        `SOM.history_`.
    ax : Axes, optional

    Returns
    -------
    Axes
        The left one.

    Examples
    --------
    >>> ax = error_curves({"quantization_error": [3, 2], "topographic_error": [0.2, 0.1]})
    >>> ax.get_ylabel()
    'quantization error'
    """
    lines = (
        ("quantization_error", "quantization error", COLORS[0], "-o"),
        ("topographic_error", "topographic error", COLORS[4], "--s"),
    )
    missing = [key for key, *_ in lines if key not in history]
    if missing:
        raise ValueError(
            f"history lacks {missing}; it has {list(history)}: pass the history_ of a fitted SOM"
        )
    if ax is None:
        ax = plt.subplots(figsize=(WIDTH_INCHES, 0.65 * WIDTH_INCHES), layout="constrained")[1]
    drawn = []
    for side, (key, label, color, line) in zip((ax, ax.twinx()), lines, strict=True):
        epochs = np.arange(1, len(history[key]) + 1)
        every = -(-len(epochs) // 15)
        look = {"color": color, "markersize": 4, "markevery": every, "label": label}
        drawn += side.plot(epochs, history[key], line, **look)
        side.set_ylabel(label)
        side.set_ylim(bottom=0)
    side.spines["right"].set_visible(True)
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(handles=drawn, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
    return ax


@checks.arguments
def seeds(
    table: pd.DataFrame,
    x: str,
    columns: Sequence[str],
    hue: str | None = None,
    axes: Any = None,
    log: bool = False,
) -> Array:
    """Draw a panel per column: its mean over the seeds and the standard deviation as bars.

    Parameters
    ----------
    table : DataFrame
        One row per run. Runs that agree in `x` and `hue` differ in the seed. A group without
        values in a column is left out of its panel.
    x : str
        Column of numbers for the horizontal axis.
    columns : sequence of str
        What is measured.
    hue : str, optional
        Column of groups, each a line with its own color, marker and dashes.
    axes : array of at least as many Axes as columns, optional
    log : bool, default=False
        Whether the horizontal axis is logarithmic, with a tick for each of its values, or for
        powers of ten where there are three or more of those.

    Returns
    -------
    ndarray of Axes

    Raises
    ------
    ValueError
        When the table lacks a column, there are too few axes, or more groups than colors.

    Examples
    --------
    >>> table = pd.DataFrame({"units": [4, 4, 9, 9], "error": [3.0, 3.2, 2.0, 2.1]})
    >>> seeds(table, "units", ["error"]).shape
    (1,)
    """
    if not len(columns):
        raise ValueError(f"columns={columns!r} is empty; name at least one column")
    wanted = [x, *columns, *([] if hue is None else [hue])]
    if missing := [name for name in wanted if name not in table]:
        raise ValueError(f"table lacks {missing}; it has the columns {list(table)}")
    groups = [] if hue is None else list(table[hue].unique())
    if len(groups) > len(LINE_COLORS):
        raise ValueError(
            f"{hue!r} has {len(groups)} groups, but there are only {len(LINE_COLORS)} colors that "
            "are dark enough for lines; draw fewer in one figure"
        )
    look: dict[str, Any] = {"marker": "o", "color": COLORS[0]}
    if groups:
        look = {"hue": hue, "style": hue, "hue_order": groups, "style_order": groups}
        look |= {"palette": LINE_COLORS[: len(groups)], "markers": list(MARKERS[: len(groups)])}
    panels = _panels(len(columns), axes, 5, 2.6, 2.5)
    for ax, column in zip(panels, columns, strict=True):
        known = table.dropna(subset=column)
        look |= {"errorbar": _deviation, "err_style": "bars", "err_kws": {"capsize": 2}}
        sns.lineplot(known, x=x, y=column, ax=ax, legend=ax is panels[-1], **look)
        ax.set(title=column, ylabel="")
        if log:
            ax.set_xscale("log")
            values = sorted(table[x].unique())
            if values[-1] < 1000 * values[0]:  # of wider ranges powers of ten are enough
                ax.set_xticks(values, [f"{value:g}" for value in values])
                ax.minorticks_off()
                ax.tick_params(axis="x", labelsize="small")
    return panels


def _deviation(values: Any) -> tuple[float, float]:
    """Return the mean of a column, less and plus its standard deviation over the runs at hand."""
    return values.mean() - values.std(ddof=0), values.mean() + values.std(ddof=0)


# ---------------------------------------------------------------- classes and cells


def _classes(
    labels: ArrayLike, grid: Grid, y: ArrayLike, names: Sequence[str] | None
) -> tuple[Array, Array, list[str]]:
    """Return units and numbers of classes of all labeled samples, and the names of the classes."""
    units = arrays.units(labels, grid.n_units)
    classes, codes = arrays.labels(y, "y", len(units), complete=False)
    names = [one_line(name) for name in (classes if names is None else names)]
    if len(names) != len(classes):
        raise ValueError(
            f"class_names has {len(names)} entries, but y has {len(classes)} classes: "
            f"{classes.tolist()}; give one name for each, in this order"
        )
    return units[codes >= 0], codes[codes >= 0], names


def _steps(grid: Grid) -> tuple[Array, Array, Array]:
    """Return all steps to a touching cell, each in one direction: from, to, and (down, right).

    Of squares those over a corner too. Other than `grid.edges()`, which says who is whose
    neighbor, it has two steps between units that touch on two sides.
    """
    unit = np.arange(grid.n_units)
    row, col = np.divmod(unit, grid.cols)
    odd = row % 2 if grid.topology == "hex" else 0 * row  # shifted right by half a unit
    ways = ((0, 1), (1, -1), (1, 0), *([(1, 1)] if grid.topology == "rect" else []))
    taken = []
    for down, right in ways:
        at = np.stack([row + down, col + right + odd * down])
        size = np.array([[grid.rows], [grid.cols]])
        there = ((at < size) & (at >= 0) | np.array([grid.wrap]).T).all(0)
        to = np.ravel_multi_index(tuple(at % size), (grid.rows, grid.cols))
        length = np.array([down, right], dtype=float)
        if grid.topology == "hex" and down:
            length = np.array([3**0.5 / 2, right + 0.5])
        taken.append((unit[there], to[there], np.tile(length, (there.sum(), 1))))
    first, second, step = (np.concatenate(part) for part in zip(*taken, strict=True))
    order = np.lexsort((second, first))
    return first[order], second[order], step[order]


def _scattered(units: Array, grid: Grid, generator: np.random.Generator) -> Array:
    """Return a random place in the cell of each unit, uniformly, as (down, right)."""
    n, corners = len(units), 0.92 * grid.cell()
    i = generator.integers(len(corners), size=n)  # of the triangles around the center, all alike
    u, v = np.sqrt(generator.random(n))[:, None], generator.random(n)[:, None]
    inside = u * ((1 - v) * corners[i] + v * corners[i - 1])
    return np.asarray(grid.coords[units] + inside)


# ---------------------------------------------------------------- names


def one_line(name: Any) -> str:
    r"""Return a name with what cannot be printed, such as line breaks, as Python writes it.

    Examples
    --------
    >>> print(one_line("a\nb"))
    a\nb
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def literal(text: Text, *names: Any) -> Text:
    """Let a text in a drawing say names as they are, one below the other: no formula, no TeX.

    Names come from data, where "$" is a currency as often as not.

    Examples
    --------
    >>> ax = plt.figure().add_subplot()
    >>> literal(ax.set_xlabel(""), "$_$").get_text()
    '$_$'
    """
    text.set(text="\n".join(map(one_line, names)), parse_math=False, usetex=False)
    return text


def _legend(ax: Axes, handles: Sequence[Artist], names: Iterable[str], **look: Any) -> None:
    """Draw a legend beside the axes, with an entry for every name, also for "_a" and ""."""
    look |= {"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False}
    # matplotlib leaves out what begins with "_", so the names are written afterwards
    legend = ax.legend(handles=handles, labels=["name"] * len(handles), **look)
    for text, name in zip(legend.get_texts(), names, strict=True):
        literal(text, name)


# ---------------------------------------------------------------- drawing


def _breadth(grid: Grid) -> float:
    return float(np.ptp(grid.polygons()[..., 1]))


def _height(grid: Grid) -> float:
    return float(np.ptp(grid.polygons()[..., 0]))


def _map_axes(
    grid: Grid, ax: Axes | None, clusters: ArrayLike | None = None, aspect: float = 1.0
) -> Axes:
    """Prepare axes for a lattice: row 0 on top, all cells in view and in proportion, no ticks.

    Borders of clusters are drawn above whatever follows.
    """
    # refused, if at all, before there is a figure
    lines = None if clusters is None else cluster_borders(clusters, grid)[..., ::-1]
    corners = grid.polygons().reshape(-1, 2)
    (top, left), (bottom, right) = corners.min(0) - 0.05, corners.max(0) + 0.05
    if ax is None:
        height = np.clip(WIDTH_INCHES * aspect * (bottom - top) / (right - left), 1, 8)
        ax = plt.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")[1]
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect=aspect, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if lines is not None:
        for color, width in (("white", 3.5), ("black", 1.5)):
            look = {"color": color, "linewidth": width, "capstyle": "round", "zorder": 4}
            ax.add_collection(LineCollection(lines, **look), autolim=False)
    return ax


def _panels(n: int, axes: Any, columns: int, width: float, height: float) -> Array:
    """Return n axes: the first of those given, or of a new figure with rows of `columns`."""
    if axes is None:
        columns = min(n, columns)
        rows = -(-n // columns)
        size = (columns * width, rows * height)
        axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)[1]
        for spare in axes.flat[n:]:
            spare.remove()
    given = np.ravel(np.asarray(axes, dtype=object))
    if not all(isinstance(ax, Axes) for ax in given):
        raise ValueError(f"axes={checks.shown(axes)} must be an array of {n} Axes")
    if len(given) < n:
        raise ValueError(f"axes has {len(given)} entries for {n} panels; give one for each")
    return np.asarray(given[:n])


def _cells(ax: Axes, outlines: Array, **look: Any) -> PolyCollection:
    """Add polygons given as (down, right)."""
    cells = PolyCollection(outlines[..., ::-1], **look)
    ax.add_collection(cells, autolim=False)
    return cells


def _colored(
    ax: Axes, outlines: Array, values: Array, cmap: Any, limits: Any, label: str | None
) -> PolyCollection:
    """Add polygons colored by value, and a color bar as high as the map where it has a label."""
    cells = _cells(ax, outlines, array=values, cmap=cmap, edgecolor="face", linewidth=0.3)
    cells.set_clim(*limits)
    if label is not None:
        bar = ax.figure.colorbar(cells, cax=ax.inset_axes((1.03, 0, 0.04, 1)), label=label)
        bar.outline.set_visible(False)
    return cells


def _slice(down: float, right: float, radius: float, begin: float, end: float) -> Path:
    """Return a piece of pie from one angle to another; all of it is a plain circle."""
    whole = end - begin > 359.999
    path = Path.unit_circle() if whole else Path.wedge(begin, end)
    return Affine2D().scale(radius).translate(right, down).transform_path(path)


def _write(
    ax: Axes, centers: Array, texts: Sequence[str], height: Any, color: str = "black"
) -> None:
    """Write a short text at each place, `height` lattice spacings high, haloed if it is black.

    As outlines, not as text of so many points: so it keeps its place in the cell at every size
    of the figure, and a hundred of them are one artist.
    """
    font, scale = FontProperties(), 1 / text_to_path.FONT_SCALE
    glyphs = {}
    for text in set(texts):
        outline = Path(*text_to_path.get_text_path(font, text))  # as it is: no formula, no TeX
        if len(outline) and outline.get_extents().width > 0:  # spaces have none
            glyphs[text] = Affine2D().scale(scale).transform_path(outline)
    paths = []
    for (down, right), text, high in zip(
        centers, texts, np.broadcast_to(height, len(texts)), strict=True
    ):
        if text in glyphs:
            box = glyphs[text].get_extents()
            size = min(high / 0.73, 0.85 / box.width)
            middle = Affine2D().translate(-box.x0 - box.width / 2, -box.y0 - box.height / 2)
            paths.append(
                middle.scale(size, -size).translate(right, down).transform_path(glyphs[text])
            )
    halo = [withStroke(linewidth=1.5, foreground="white")] if color == "black" else []
    ax.add_collection(
        PathCollection(paths, facecolor=color, linewidth=0, path_effects=halo, zorder=3),
        autolim=False,
    )
