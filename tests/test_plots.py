"""Drawings: right way up, in agreement with the lattice, legible in gray, no side effects."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_rgb

from somlib import plots
from somlib.spaces import Grid

GRIDS = [
    Grid(3, 5),
    Grid(5, 3, "hex"),
    Grid(4, 6, "hex", wrap=True),
    Grid(3, 4, wrap=(False, True)),
]
each_grid = pytest.mark.parametrize("grid", GRIDS, ids=str)
rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def weights(grid, d=12):
    return rng.random((grid.n_units, d))


def labels(grid, n=60):
    return rng.integers(0, grid.n_units, n)


def y(n=60):
    return rng.integers(0, 3, n)


# what every function that draws a lattice needs
ON_THE_LATTICE = {
    "prototypes": lambda grid, ax: plots.prototypes(weights(grid), grid, (3, 4), ax),
    "color prototypes": lambda grid, ax: plots.prototypes(weights(grid), grid, (2, 2, 3), ax),
    "unit_values": lambda grid, ax: plots.unit_values(np.arange(grid.n_units), grid, ax, "unit"),
    "component_planes": lambda grid, ax: plots.component_planes(weights(grid, 1), grid, axes=ax)[0],
    "u_matrix": lambda grid, ax: plots.u_matrix(weights(grid), grid, ax),
    "hit_map": lambda grid, ax: plots.hit_map(labels(grid), grid, ax),
    "class_pies": lambda grid, ax: plots.class_pies(y(), labels(grid), grid, ax=ax),
    "projection": lambda grid, ax: plots.projection(labels(grid), grid, y(), ax),
}
each_drawing = pytest.mark.parametrize("draw", ON_THE_LATTICE.values(), ids=ON_THE_LATTICE)


@each_grid
@each_drawing
def test_it_draws_on_the_axes_given_and_changes_nothing_else(draw, grid):
    fig, ax = plt.subplots()
    before, figures = dict(mpl.rcParams), plt.get_fignums()
    assert draw(grid, ax) is ax
    assert plt.get_fignums() == figures
    assert dict(mpl.rcParams) == before
    fig.canvas.draw()


@each_grid
@each_drawing
def test_it_makes_one_figure_of_its_own_when_given_none(draw, grid):
    ax = draw(grid, None)
    assert plt.get_fignums() == [ax.figure.number]


@each_grid
@each_drawing
def test_unit_0_is_top_left_and_cells_keep_their_shape(draw, grid):
    ax = draw(grid, None)
    ax.figure.canvas.draw()
    corner, right, below = grid.coords[[0, 1, grid.cols]][:, ::-1]
    at = ax.transData.transform([corner, right, below])
    assert at[1, 0] > at[0, 0]  # columns go right
    assert at[2, 1] < at[0, 1]  # rows go down
    inside = ax.viewLim
    assert all(inside.contains(*place[::-1]) for place in grid.coords)


@each_grid
@pytest.mark.parametrize("side", [3, 5])  # without and with gaps on squares
def test_the_prototype_sheet_shows_each_prototype_at_its_unit(grid, side):
    W = weights(grid, side * side)
    ax = plots.prototypes(W, grid, (side, side))
    for unit, (down, right) in enumerate(grid.coords):
        found = None
        for image in ax.images:
            left, far, bottom, top = image.get_extent()
            if left < right < far and top < down < bottom:
                pixels = image.get_array()
                column = int((right - left) / (far - left) * pixels.shape[1])
                row = int((down - top) / (bottom - top) * pixels.shape[0])
                found = pixels[row, column]
        assert found == pytest.approx(W[unit, side * side // 2])  # the middle of the image


@each_grid
def test_images_of_neighboring_units_do_not_touch(grid):
    ax = plots.prototypes(1 + weights(grid, 25), grid, (5, 5))
    pixels = [np.ma.masked_invalid(image.get_array()) for image in ax.images]
    rows, columns = (1, grid.cols) if grid.topology == "hex" else (grid.rows, grid.cols)
    for sheet in pixels:
        seen = ~np.ma.getmaskarray(sheet)
        assert seen.sum() == rows * columns * 25
        assert (np.diff(seen.any(0).astype(int)) == 1).sum() == columns - 1  # gaps between them


@each_grid
def test_u_matrix_numbers_are_those_of_a_literal_loop(grid):
    W = weights(grid)
    units, edges = plots.u_matrix_values(W, grid)
    for i in range(grid.n_units):
        near = [j for j in range(grid.n_units) if grid.adjacent(i, j)]
        assert units[i] == pytest.approx(np.mean([np.linalg.norm(W[i] - W[j]) for j in near]))
    for (i, j), value in zip(grid.edges(), edges, strict=True):
        assert value == pytest.approx(np.linalg.norm(W[i] - W[j]))


@pytest.mark.parametrize(("grid", "cells"), [
    (Grid(3, 5), (2 * 3 - 1) * (2 * 5 - 1)),
    (Grid(4, 3, "hex"), 12 + len(Grid(4, 3, "hex").edges())),
])  # fmt: skip
def test_the_u_matrix_has_a_cell_for_each_unit_and_between_all_neighbors(grid, cells):
    ax = plots.u_matrix(weights(grid), grid)
    (collection,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    outlines = [path.vertices for path in collection.get_paths()]
    assert len(outlines) == cells
    assert len({tuple(np.round(o.mean(0), 4)) for o in outlines}) == cells


@pytest.mark.parametrize("topology", ["rect", "hex"])
def test_a_regular_sheet_has_a_flat_u_matrix(topology):
    grid = Grid(5, 6, topology)
    ax = plots.u_matrix(grid.coords, grid)
    (collection,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    np.testing.assert_allclose(collection.get_array(), 1)


@each_grid
def test_hits_have_the_area_of_their_number(grid):
    won = np.array([0] * 9 + [2] * 4 + [3])
    ax = plots.hit_map(won, grid)
    drawn = [c for c in ax.collections if isinstance(c, PolyCollection)][-1].get_paths()
    area = []
    for path in drawn:
        x, yy = path.vertices[:-1].T
        area.append(0.5 * abs(x @ np.roll(yy, 1) - yy @ np.roll(x, 1)))
    np.testing.assert_allclose(np.array(area) / area[0], [1, 4 / 9, 1 / 9])
    assert "9 samples" in ax.get_xlabel()


def test_pies_have_the_area_of_their_number_and_slices_of_the_shares():
    grid = Grid(1, 3)
    ax = plots.class_pies(["a", "b", "b", "b", "a"], [0, 0, 0, 0, 1], grid)
    pies = next(c for c in ax.collections if isinstance(c, PathCollection))
    assert len(pies.get_paths()) == 3  # two slices on unit 0, a whole pie on unit 1
    widths = [np.ptp(p.vertices[:, 0]) for p in pies.get_paths()]
    assert widths[2] / 2 == pytest.approx(0.47 * np.sqrt(1 / 4), rel=1e-6)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


def test_long_class_names_become_letters_that_the_legend_explains():
    ax = plots.class_pies([0, 1, 1], [0, 1, 2], Grid(1, 3), class_names=["Trouser", "Bag"])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["A  Trouser", "B  Bag"]


@each_grid
def test_jittered_samples_stay_inside_their_cell_and_repeat_with_the_seed(grid):
    where = labels(grid, 500)
    one, again, other = (
        plots.projection(where, grid, random_state=seed).collections[-1].get_offsets()
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.abs(np.asarray(one) - other).max() > 0.01
    # the nearest unit of a place inside a cell is that cell's
    apart = np.linalg.norm(np.asarray(one)[:, None, ::-1] - grid.coords[None], axis=-1)
    np.testing.assert_array_equal(apart.argmin(1), where)


@each_grid
def test_the_net_has_a_line_for_each_edge(grid):
    W = weights(grid, 2)
    ax = plots.map_in_data_space(W, grid, rng.random((20, 2)))
    (net,) = [c for c in ax.collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose(net.get_segments(), W[grid.edges()])


def test_frames_share_one_scale():
    grid = Grid(3, 4)
    axes = plots.frames([grid.coords, 3 * grid.coords], grid, titles=["small", "large"])
    assert axes[0].get_xlim() == axes[1].get_xlim()
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [ax.get_title() for ax in axes] == ["small", "large"]


def test_unit_values_leave_unknown_cells_empty_and_write_legibly():
    grid = Grid(2, 3)
    ax = plots.unit_values([0, 1, 2, 3, 4, np.nan], grid, text=list("abcdef"))
    filled = [c for c in ax.collections if c.get_array() is not None]
    assert len(filled[0].get_array()) == 5


def test_component_planes_share_colors_when_asked():
    grid = Grid(2, 3)
    W = np.stack([np.arange(6), 10 * np.arange(6)], axis=1)
    limits = {
        shared: [
            ax.collections[-1].get_clim() for ax in plots.component_planes(W, grid, shared=shared)
        ]
        for shared in (False, True)
    }
    assert limits[True] == [(0, 50), (0, 50)]
    assert limits[False] == [(0, 5), (0, 50)]


def test_error_curves_differ_in_line_and_marker_not_only_in_color():
    history = {"quantization_error": [3, 2, 1], "topographic_error": [0.3, 0.2, 0.2]}
    ax = plots.error_curves(history)
    left, right = ax.lines[0], ax.figure.axes[-1].lines[0]
    assert left.get_linestyle() != right.get_linestyle()
    assert left.get_marker() != right.get_marker()
    np.testing.assert_array_equal(left.get_ydata(), history["quantization_error"])
    with pytest.raises(ValueError, match=r"history lacks \['topographic_error'\]"):
        plots.error_curves({"quantization_error": [1]})


# ---------------------------------------------------------------- over the seeds


def runs(**errors):
    """Return a table of runs with three seeds for each of two sizes."""
    return pd.DataFrame(
        [
            {"method": method, "units": units, "error": value, "other": 1 - value}
            for method, of_units in errors.items()
            for units, values in zip((4, 16), of_units, strict=True)
            for value in values
        ]
    )


TABLE = runs(SOM=[[0.1, 0.2, 0.6], [0.4, 0.4, 0.4]], **{"k-means": [[1, 2, 3], [4, 4, 7]]})


def test_seeds_are_drawn_as_mean_and_population_deviation():
    left, right = plots.seeds(TABLE, "units", ["error", "other"], "method")
    drawn = [line for line in left.lines if line.get_linestyle() != "None"]  # caps have none
    bars = [c for c in left.collections if isinstance(c, LineCollection)]
    groups = TABLE.groupby(["method", "units"], sort=False)["error"]
    mean, sd = groups.mean(), groups.std(ddof=0)
    for method, line, bar in zip(TABLE["method"].unique(), drawn, bars, strict=True):
        np.testing.assert_allclose(np.asarray(line.get_ydata(), float), mean[method])
        ends = np.array([segment[:, 1] for segment in bar.get_segments()])
        np.testing.assert_allclose(ends.mean(1), mean[method])
        np.testing.assert_allclose(np.ptp(ends, axis=1) / 2, sd[method], atol=1e-12)
    assert (left.get_title(), right.get_title()) == ("error", "other")
    assert left.get_xlabel() == right.get_xlabel() == "units"


def test_groups_of_seeds_differ_in_color_marker_and_dashes_and_are_named_once():
    left, right = plots.seeds(TABLE, "units", ["error", "other"], "method", log=True)
    assert left.get_legend() is None
    legend = right.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["SOM", "k-means"]
    a, b = legend.get_lines()
    assert a.get_marker() != b.get_marker()
    assert a.get_linestyle() != b.get_linestyle()
    assert [to_rgb(line.get_color()) for line in (a, b)] == [
        to_rgb(color) for color in plots.LINE_COLORS[:2]
    ]
    assert [text.get_text() for text in left.get_xticklabels()] == ["4", "16"]


def test_a_group_without_values_is_left_out_of_its_panel():
    table = TABLE.assign(TE=TABLE["error"].where(TABLE["method"] == "SOM"))
    (ax,) = plots.seeds(table, "units", ["TE"], "method")
    heights = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    assert np.nanmax(heights) < 1


def test_lines_are_dark_enough_on_white():
    assert max(lightness(color) for color in plots.LINE_COLORS) < 75


def lightness(color):
    """Return CIE L* of a color."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    luminance = np.dot(linear, (0.2126, 0.7152, 0.0722))
    return 116 * np.cbrt(luminance) - 16 if luminance > 0.008856 else 903.3 * luminance


def test_the_first_four_colors_can_be_told_in_grey_and_no_pair_comes_twice():
    shades = sorted(lightness(c) for c in plots.palette(4)[0])
    assert np.diff(shades).min() > 15
    pairs = list(zip(*plots.palette(144), strict=True))
    assert len(set(pairs)) == 144


def test_style_ends_with_its_block():
    before = dict(mpl.rcParams)
    with plots.style():
        assert mpl.rcParams["axes.spines.top"] is False
    assert dict(mpl.rcParams) == before


WRONG = [
    (
        lambda g: plots.u_matrix(np.ones((5, 2)), g),
        "weights has 5 rows, but a 3 × 4 grid has 12",
    ),
    (lambda g: plots.prototypes(np.ones((12, 5)), g, (2, 2)), "image_shape=.* does not fit"),
    (lambda g: plots.hit_map([0, 12], g), "labels contain 12, but the 12 units are 0 to 11"),
    (lambda g: plots.hit_map([-1, 2], g), "labels contain -1"),
    (lambda g: plots.hit_map([], g), "one whole number per sample"),
    (lambda g: plots.hit_map([0.5, 1.0], g), "one whole number per sample"),
    (lambda g: plots.class_pies([1, 2], [0], g), "y has 2 labels for 1 samples"),
    (lambda g: plots.class_pies([1, 2], [0, 1], g, ["x"]), "has 1 entries.*2 classes"),
    (lambda g: plots.map_in_data_space(np.ones((12, 3)), g), "only 2-D data.*two columns"),
    (lambda g: plots.map_in_data_space(np.ones((12, 2)), g, np.ones((4, 3))), "X has shape"),
    (lambda g: plots.component_planes(np.ones((12, 3)), g, ["a"]), "names has 1 entries for 3"),
    (lambda g: plots.unit_values(np.ones(3), g), "values has 3 entries, but a 3 × 4 grid has 12"),
    (lambda g: plots.unit_values(np.ones(12), g, text=["a", "b"]), "text has 2 entries"),
    (lambda g: plots.frames([g.coords], g, titles=["a", "b"]), "titles has 2 entries for 1"),
    (lambda g: plots.seeds(TABLE, "units", ["purity"]), r"lacks \['purity'\]; .*'error', 'other'"),
    (lambda g: plots.seeds(TABLE, "units", ["error"], "sort"), r"lacks \['sort'\]"),
    (
        lambda g: plots.seeds(TABLE.assign(run=range(len(TABLE))), "units", ["error"], "run"),
        "'run' has 12 groups.*only 7 colors",
    ),
]


@pytest.mark.parametrize(("draw", "message"), WRONG)
def test_what_does_not_fit_is_refused_with_a_remedy(draw, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        draw(Grid(3, 4))


# ---------------------------------------------------------------- names are data

NAMES = ["_a", "", "$_$", "a\nb", r"\$", "<b>&", "$x$", " ", "%#{", "*c*", "\u200b"]
SHOWN = ["_a", "", "$_$", r"a\nb", r"\$", "<b>&", "$x$", " ", "%#{", "*c*", r"\u200b"]


def plain(texts):
    """Return what texts say, none of them a formula or TeX."""
    texts = list(texts)
    assert not any(text.get_parse_math() or text.get_usetex() for text in texts)
    return [text.get_text() for text in texts]


def outlines(ax):
    """Return the outlines of what is written into cells."""
    return [c for c in ax.collections if isinstance(c, PathCollection)][-1].get_paths()


@pytest.mark.parametrize("usetex", [False, True])
def test_names_from_data_are_drawn_as_they_are_never_as_markup(usetex):
    grid, each = Grid(3, 4), np.arange(len(NAMES))
    with mpl.rc_context({"text.usetex": usetex}):
        legends = [
            plots.projection(each, grid, np.array(NAMES)).get_legend(),
            plots.projection(each, grid, each, class_names=NAMES).get_legend(),
            plots.class_pies(each, each, grid, class_names=NAMES).get_legend(),
            plots.class_pies(each[:3], each[:3], grid, class_names=["_", "$$", ""]).get_legend(),
        ]
        planes = plots.component_planes(rng.random((12, len(NAMES))), grid, NAMES)
    assert plain(legends[0].get_texts()) == [SHOWN[NAMES.index(name)] for name in sorted(NAMES)]
    assert plain(legends[1].get_texts()) == SHOWN
    letters = "ABCDEFGHIJK"
    assert plain(legends[2].get_texts()) == [
        f"{a}  {b}" for a, b in zip(letters, SHOWN, strict=True)
    ]
    assert plain(legends[3].get_texts()) == ["_", "$$", ""]
    assert plain(ax.title for ax in planes) == SHOWN
    for legend in legends:
        if not usetex:  # the other words on the sheet would need LaTeX
            legend.figure.draw_without_rendering()


def test_text_in_cells_is_drawn_as_it_is_too():
    grid = Grid(1, 3)
    glyphs = {text: outlines(plots.unit_values([0, 0, 0], grid, text=[text, "", " "])) for text in
              ("$x$", "x", "$_$", "a\nb")}  # fmt: skip
    assert {len(paths) for paths in glyphs.values()} == {1}  # spaces leave none
    number = {text: (paths[0].codes == 1).sum() for text, paths in glyphs.items()}
    assert number["$x$"] > number["x"]  # as many outlines as there are letters
    plots.unit_values([0, 0, 0], grid, text=["$", "$_$", "a\nb"]).figure.draw_without_rendering()


# ---------------------------------------------------------------- wrapped axes, however short

SHORT = [
    Grid(rows, cols, topology, wrap=True)
    for topology, sizes in (("rect", (1, 2, 3)), ("hex", (2, 4)))
    for rows in sizes for cols in (1, 2, 3, 4)
]  # fmt: skip


@pytest.mark.parametrize("grid", SHORT, ids=str)
def test_the_u_matrix_of_a_wrapped_grid_leaves_nothing_blank(grid):
    ax = plots.u_matrix(weights(grid), grid)
    (cells,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    share = rng.dirichlet(np.ones(len(grid.cell())), 200)  # anywhere in a cell
    inside = (grid.coords + 0.99 * (share @ grid.cell())[:, None]).reshape(-1, 2)
    corners = (grid.coords + 0.97 * grid.cell()[:, None]).reshape(-1, 2)
    inside = np.concatenate([inside, corners])
    paths = cells.get_paths()
    covered = np.any([path.contains_points(inside[:, ::-1], radius=1e-9) for path in paths], 0)
    assert covered.all()


@pytest.mark.parametrize("wrap", [(True, False), (False, True), (True, True)])
def test_neighbors_on_two_sides_have_a_cell_on_each(wrap):
    grid = Grid(2, 2, wrap=wrap)
    W = np.array([[0.0], [1.0], [3.0], [7.0]])
    ax = plots.u_matrix(W, grid)
    (cells,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    where = {
        tuple(np.round(path.vertices[:-1].mean(0)[::-1], 6)): value
        for path, value in zip(cells.get_paths(), cells.get_array(), strict=True)
    }
    sides = [(0, 0.5), (0.5, 0)], [(0, -0.5), (0, 1.5)], [(-0.5, 0), (1.5, 0)]
    expected = dict(zip(sides[0], (1, 3), strict=True))
    expected |= dict.fromkeys(sides[1], 1) if wrap[1] else {}
    expected |= dict.fromkeys(sides[2], 3) if wrap[0] else {}
    assert {at: where[at] for at in expected} == pytest.approx(expected)
    assert len(where) == 9 + 6 * sum(wrap) + 4 * all(wrap)


@pytest.mark.parametrize("grid", SHORT, ids=str)
def test_distances_and_neighbors_on_short_wrapped_axes_are_those_of_all_copies(grid):
    turns = np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)]) * grid.periods
    steps = grid.coords[:, None, None] - grid.coords[None, :, None] - turns
    shortest = np.linalg.norm(steps, axis=-1).min(-1)
    np.testing.assert_allclose(grid.distances, shortest, atol=1e-12)
    for connectivity, reach in (
        ((None, 1.01), (8, 1.5)) if grid.topology == "rect" else ((6, 1.01),)
    ):
        expected = (shortest < reach) & ~np.eye(grid.n_units, dtype=bool)
        np.testing.assert_array_equal(grid.adjacency(connectivity), expected)
        assert len(grid.edges(connectivity)) == expected.sum() / 2  # once, though on two sides


# ---------------------------------------------------------------- clusters of units

WITH_CLUSTERS = {
    "prototypes": lambda g, c: plots.prototypes(weights(g), g, (3, 4), clusters=c),
    "unit_values": lambda g, c: plots.unit_values(np.arange(g.n_units), g, clusters=c),
    "component_planes": lambda g, c: plots.component_planes(weights(g, 2), g, clusters=c)[1],
    "u_matrix": lambda g, c: plots.u_matrix(weights(g), g, clusters=c),
    "hit_map": lambda g, c: plots.hit_map(labels(g), g, clusters=c),
    "class_pies": lambda g, c: plots.class_pies(y(), labels(g), g, clusters=c),
}


@each_grid
@pytest.mark.parametrize("draw", WITH_CLUSTERS.values(), ids=WITH_CLUSTERS)
def test_every_drawing_of_the_map_shows_the_borders_of_clusters_above_it(draw, grid):
    clusters = rng.integers(0, 3, grid.n_units)
    ax = draw(grid, clusters)
    halo, borders = [c for c in ax.collections if isinstance(c, LineCollection)]
    expected = plots.cluster_borders(clusters, grid)[..., ::-1]
    np.testing.assert_allclose(borders.get_segments(), expected)
    np.testing.assert_allclose(halo.get_segments(), expected)
    others = [c for c in [*ax.collections, *ax.images] if c not in (halo, borders)]
    assert min(halo.get_zorder(), borders.get_zorder()) > max(c.get_zorder() for c in others)


def sides(grid, unit):
    """Return the middles of the sides of a unit's cell."""
    corners = grid.polygons()[unit]
    return (corners + np.roll(corners, 1, axis=0)) / 2


@pytest.mark.parametrize("grid", [*GRIDS, Grid(2, 2, wrap=True), Grid(1, 6)], ids=str)
def test_borders_are_the_sides_that_lie_between_clusters(grid):
    clusters = rng.integers(0, 2, grid.n_units)
    turns = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) * grid.periods
    copies = np.concatenate([grid.coords + turn for turn in np.unique(turns, axis=0)])
    expected = set()
    for unit in range(grid.n_units):
        for middle in sides(grid, unit):  # the cell across that side, if there is one
            across = 2 * middle - grid.coords[unit]
            other = np.flatnonzero(np.linalg.norm(copies - across, axis=1) < 1e-6)
            if len(other) and clusters[other[0] % grid.n_units] != clusters[unit]:
                expected.add(tuple(middle.round(5) + 0.0))
    found = plots.cluster_borders(clusters, grid)
    assert {tuple(m.round(5) + 0.0) for m in found.mean(1)} == expected
    assert len(found) == len(expected)
    corners = grid.polygons().reshape(-1, 2)
    for end in found.reshape(-1, 2):
        assert np.linalg.norm(corners - end, axis=1).min() < 1e-9


def test_the_largest_differences_come_first_and_names_are_drawn_as_they_are():
    table = pd.DataFrame({0: [0.5, -2.0, 1.0], 1: [3.0, 0.0, 0.1]}, index=["$a$", "_b", "c"])
    one, two = plots.cluster_differences(table, n=2)
    one.figure.canvas.draw()
    assert plain(one.get_yticklabels()) == ["_b", "c"]
    assert plain(two.get_yticklabels()) == ["$a$", "c"]
    assert [bar.get_width() for bar in one.patches] == [-2.0, 1.0]
    assert one.yaxis_inverted()
    assert one.get_xlim() == two.get_xlim()
    assert (one.get_title(), two.get_title()) == ("cluster 0", "cluster 1")


def test_images_of_clusters_are_means_and_differences_on_one_scale_each():
    inside, outside = rng.random((3, 12)), rng.random((3, 12))
    panels = plots.cluster_images(inside, outside, (3, 4))
    for g in range(3):
        mean, difference = (panels[row, g].images[0] for row in (0, 1))
        np.testing.assert_array_equal(mean.get_array(), inside[g].reshape(3, 4))
        np.testing.assert_array_equal(difference.get_array(), (inside - outside)[g].reshape(3, 4))
        low, high = difference.get_clim()
        assert -low == high == pytest.approx(abs(inside - outside).max())
    assert len({panel.images[0].get_clim() for panel in panels[0]}) == 1


@pytest.mark.parametrize(("draw", "message"), [
    (lambda: plots.hit_map([0], Grid(2, 3), clusters=[0]), "clusters has 1 entries for 6 units"),
    (lambda: plots.cluster_images(np.ones((2, 4)), np.ones((2, 4)), (3, 3)), r"need \(clusters, 9"),
    (lambda: plots.cluster_differences(pd.DataFrame({0: [1.0]}), n=0), "n=0 must be"),
    (lambda: plots.cluster_differences(pd.DataFrame({0: [1.0], 1: [1.0]}), axes=[plt.gca()]),
     "axes has 1 entries for 2 panels"),
])  # fmt: skip
def test_clusters_that_do_not_fit_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
