import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.sparse.csgraph import shortest_path

from somlib.spaces import Grid

METRICS = ("euclidean", "manhattan", "chebyshev", "hops")


@st.composite
def grids(draw, min_size=1, max_size=7):
    topology = draw(st.sampled_from(["rect", "hex"]))
    rows, cols = (draw(st.integers(min_size, max_size)) for _ in range(2))
    wrap = draw(st.booleans()), draw(st.booleans())
    assume(not (topology == "hex" and wrap[0] and rows % 2))
    return Grid(rows, cols, topology, wrap)


def all_pairs(grid, metric):
    return grid.distance(grid.coords[:, None], grid.coords[None], metric)


@given(grids(), st.sampled_from(METRICS))
def test_distances_are_a_metric(grid, metric):
    d = all_pairs(grid, metric)
    assert d.shape == (grid.n_units, grid.n_units)
    np.testing.assert_allclose(d, d.T, atol=1e-12)
    assert (np.diag(d) < 1e-12).all()
    assert (d[~np.eye(len(d), dtype=bool)] > 0.4).all()
    assert (d[:, None] <= d[:, :, None] + d.T[None] + 1e-9).all()  # d(i, j) <= d(i, k) + d(k, j)


@given(grids())
def test_a_wrapped_distance_is_the_shortest_over_all_copies_of_the_map(grid):
    literal = np.full((grid.n_units, grid.n_units), np.inf)
    for up in (-1, 0, 1) if grid.periods[0] else (0,):
        for left in (-1, 0, 1) if grid.periods[1] else (0,):
            shift = np.array([up * grid.periods[0], left * grid.periods[1]])
            apart = grid.coords[:, None] - grid.coords[None] + shift
            literal = np.minimum(literal, np.sqrt((apart**2).sum(-1)))
    np.testing.assert_allclose(grid.distances, literal, atol=1e-12)


@given(grids())
def test_hops_are_the_shortest_paths_of_the_neighbour_graph(grid):
    hops = shortest_path(grid.adjacency().astype(float), unweighted=True)
    np.testing.assert_allclose(all_pairs(grid, "hops"), hops, atol=1e-9)


@given(grids(), st.sampled_from([None, 4, 6, 8]))
def test_edges_adjacency_and_adjacent_are_one_relation(grid, connectivity):
    assume(connectivity is None or (connectivity == 6) == (grid.topology == "hex"))
    matrix = grid.adjacency(connectivity)
    i, j = np.indices(matrix.shape)
    np.testing.assert_array_equal(matrix, grid.adjacent(i, j, connectivity))
    np.testing.assert_array_equal(~matrix & (i != j), grid.separate(i, j, connectivity))
    edges = grid.edges(connectivity)
    assert (edges[:, 0] < edges[:, 1]).all()
    assert len(np.unique(edges, axis=0)) == len(edges) == matrix.sum() / 2


@given(st.integers(3, 8), st.integers(3, 8))
def test_an_inner_hexagonal_unit_has_six_neighbours_all_at_distance_one(rows, cols):
    grid = Grid(rows, cols, "hex")
    unit = (rows // 2) * cols + cols // 2
    assume(0 < rows // 2 < rows - 1 and 0 < cols // 2 < cols - 1)
    neighbours = grid.adjacency()[unit]
    assert neighbours.sum() == 6
    np.testing.assert_allclose(grid.distances[unit][neighbours], 1)
    assert (grid.distances[unit][~neighbours] != 0).sum() == grid.n_units - 7
    assert grid.distances[unit][~neighbours & (np.arange(len(neighbours)) != unit)].min() > 1.5


@pytest.mark.parametrize(("connectivity", "count"), [(4, 4), (8, 8)])
def test_an_inner_square_unit_has_as_many_neighbours_as_its_connectivity_says(connectivity, count):
    assert Grid(3, 5).adjacency(connectivity)[7].sum() == count


@pytest.mark.parametrize("topology", ["rect", "hex"])
def test_on_a_torus_every_unit_has_a_full_set_of_neighbours(topology):
    grid = Grid(4, 5, topology, wrap=True)
    assert (grid.adjacency().sum(1) == grid.connectivity).all()


@given(grids(min_size=2))
def test_units_are_neighbours_exactly_when_their_drawn_cells_share_a_side(grid):
    grid = Grid(grid.rows, grid.cols, grid.topology)  # a wrapped side is not drawn as shared
    corners = np.round(grid.polygons(), 6)
    sets = [{tuple(c) for c in polygon} for polygon in corners.tolist()]
    shared = np.array([[len(a & b) for b in sets] for a in sets])
    np.testing.assert_array_equal((shared == 2), grid.adjacency())


@pytest.mark.parametrize("topology", ["rect", "hex"])
def test_cells_tile_the_plane(topology):
    polygon = Grid(2, 2, topology).polygons()[0]
    y, x = polygon.T
    area = 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
    assert area == pytest.approx({"rect": 1.0, "hex": 3**0.5 / 2}[topology])


def test_units_are_numbered_row_by_row_and_odd_hexagonal_rows_are_shifted_right():
    grid = Grid(2, 3, "hex")
    height = 3**0.5 / 2
    expected = [[0, 0], [0, 1], [0, 2], [height, 0.5], [height, 1.5], [height, 2.5]]
    np.testing.assert_allclose(grid.coords, expected)
    np.testing.assert_array_equal(grid.mesh()[1, 2], grid.coords[5])


@given(grids(), st.floats(0.3, 5), st.integers(1, 3))
def test_the_separated_gaussian_sum_equals_the_dense_product(grid, sigma, m):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=(grid.n_units, m)))
    h = torch.exp(-(torch.from_numpy(grid.distances) ** 2) / (2 * sigma**2))
    torch.testing.assert_close(grid.gaussian_sum(values, sigma), h @ values, rtol=1e-9, atol=1e-9)


def test_distances_of_tensors_are_tensors():
    grid = Grid(3, 4, "hex", wrap=(False, True))
    at = torch.from_numpy(grid.coords)
    for metric in METRICS:
        d = grid.distance(at[:, None], at[None], metric)
        assert isinstance(d, torch.Tensor)
        np.testing.assert_allclose(d.numpy(), all_pairs(grid, metric))


def test_equal_grids_are_equal_and_hashable_however_wrap_was_written():
    assert Grid(2, 4, wrap=True) == Grid(2, 4, wrap=(True, True))
    assert len({Grid(2, 4), Grid(2, 4, wrap=False)}) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(0, 3), "rows=0 must be a whole number of at least 1"),
        (lambda: Grid(3, 2.5), "cols=2.5 must be a whole number"),
        (lambda: Grid(3, True), "cols=True must be"),
        (lambda: Grid(3, 3, "triangle"), "topology='triangle' is unknown; choose one of"),
        (lambda: Grid(3, 4, "hex", wrap=True), "take 4 rows or wrap="),
        (lambda: Grid(3, 4, wrap=(1, 2, 3)), "must be True, False or a pair"),
        (lambda: Grid(3, 4).edges(6), "connectivity=6 does not exist on a 'rect' grid"),
        (lambda: Grid(3, 4, "hex").adjacency(8), r"choose one of \[6\]"),
        (
            lambda: Grid(3, 4).distance(np.zeros(2), np.ones(2), "cosine"),
            "metric='cosine' is unknown",
        ),
    ],
)
def test_impossible_lattices_say_why(make, message):
    with pytest.raises(ValueError, match=message):
        make()
