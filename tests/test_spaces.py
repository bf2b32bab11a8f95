import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.sparse.csgraph import shortest_path

from somlib.spaces import Euclidean, Grid, Sphere, Torus

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
def test_hops_are_the_shortest_paths_of_the_neighbor_graph(grid):
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
def test_an_inner_hexagonal_unit_has_six_neighbors_all_at_distance_one(rows, cols):
    grid = Grid(rows, cols, "hex")
    unit = (rows // 2) * cols + cols // 2
    assume(0 < rows // 2 < rows - 1 and 0 < cols // 2 < cols - 1)
    neighbors = grid.adjacency()[unit]
    assert neighbors.sum() == 6
    np.testing.assert_allclose(grid.distances[unit][neighbors], 1)
    assert (grid.distances[unit][~neighbors] != 0).sum() == grid.n_units - 7
    assert grid.distances[unit][~neighbors & (np.arange(len(neighbors)) != unit)].min() > 1.5


@pytest.mark.parametrize(("connectivity", "count"), [(4, 4), (8, 8)])
def test_an_inner_square_unit_has_as_many_neighbors_as_its_connectivity_says(connectivity, count):
    assert Grid(3, 5).adjacency(connectivity)[7].sum() == count


@pytest.mark.parametrize("topology", ["rect", "hex"])
def test_on_a_torus_every_unit_has_a_full_set_of_neighbors(topology):
    grid = Grid(4, 5, topology, wrap=True)
    assert (grid.adjacency().sum(1) == grid.connectivity).all()


@given(grids(min_size=2))
def test_units_are_neighbors_exactly_when_their_drawn_cells_share_a_side(grid):
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


@pytest.mark.parametrize("paired_units", [0, 10**6])
def test_the_gaussian_sum_equals_the_literal_one_separated_or_not(paired_units, monkeypatch):
    monkeypatch.setattr("somlib.spaces.grid._PAIRED_UNITS", paired_units)
    check_gaussian_sum()


@given(grids(), st.floats(0.3, 5), st.integers(1, 3))
def check_gaussian_sum(grid, sigma, m):
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
        (lambda: Grid(3, 4, wrap=(1, 2, 3)), "must be True or False or"),
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


# ---------------------------------------------------------------- a grid as a latent space


@given(grids(), st.floats(0.05, 20))
def test_the_neighborhood_of_a_unit_is_the_gaussian_normalized_over_all_units(grid, sigma):
    h = np.exp(grid.log_density(grid.coords[:, None], grid.coords[None], sigma))
    np.testing.assert_allclose(h.sum(0), 1, atol=1e-12)  # of each center
    for c, row in enumerate(grid.distances):
        literal = [math.exp(-(delta**2) / (2 * sigma**2)) for delta in row]
        np.testing.assert_allclose(h[:, c], np.array(literal) / sum(literal), atol=1e-12)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 6.0])
@pytest.mark.parametrize(
    "grid",
    [Grid(2, 5), Grid(3, 4, "hex"), Grid(4, 3, wrap=True), Grid(4, 3, "hex", (True, False))],
    ids=str,
)
def test_units_are_drawn_as_often_as_the_neighborhood_says(grid, sigma):
    n, centers = 4000, grid.coords[[0, 4]]
    drawn = grid.perturb(np.repeat(centers[:, None], n, axis=1), sigma, np.random.default_rng(0))
    assert drawn.shape == (2, n, 2)
    for center, some in zip(centers, drawn, strict=True):
        seen = (some[:, None] == grid.coords).all(-1)
        assert (seen.sum(1) == 1).all()  # each is a unit
        expected = n * np.exp(grid.log_density(grid.coords, center, sigma))
        assert_drawn(seen.sum(0), expected)


def assert_drawn(seen, expected):
    """Chi-square, the rare cells taken together."""
    rare = expected < 5
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert seen[-1] < 20
        seen, expected = seen[:-1], expected[:-1]
    assert len(seen) > 1
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-3


@given(grids())
def test_one_hot_rows_times_a_codebook_are_a_lookup_and_project_back(grid):
    rng = np.random.default_rng(0)
    codebook, units = rng.normal(size=(grid.n_units, 3)), rng.integers(grid.n_units, size=(2, 5))
    rows = grid.embed(grid.coords[units])
    assert rows.shape == (2, 5, grid.n_embedded)
    np.testing.assert_array_equal(rows @ codebook, codebook[units])
    np.testing.assert_array_equal(grid.project(rows), grid.coords[units])
    scores = rng.normal(size=(7, grid.n_units))
    best = [max(range(grid.n_units), key=row.__getitem__) for row in scores]
    np.testing.assert_array_equal(grid.project(scores), grid.coords[best])


def test_a_grid_keeps_the_type_of_its_points_and_the_numbers_of_its_generator():
    grid = Grid(3, 4, "hex")
    at = np.repeat(grid.coords, 5, axis=0)
    z = torch.from_numpy(at).float()
    arrays, tensors = (grid.perturb(x, 1.0, np.random.default_rng(3)) for x in (at, z))
    assert tensors.dtype == torch.float32
    np.testing.assert_array_equal(tensors, arrays.astype(np.float32))
    assert (grid.perturb(at, 1.0, np.random.default_rng(4)) != arrays).any()
    for name, x in (("embed", at), ("project", grid.embed(at))):
        tensor = getattr(grid, name)(torch.from_numpy(x).float())
        assert tensor.dtype == torch.float32
        np.testing.assert_array_equal(getattr(grid, name)(x).astype(np.float32), tensor)
    density = grid.log_density(z, z.flip(0), 0.7)
    assert density.dtype == torch.float32
    np.testing.assert_allclose(grid.log_density(at, np.flip(at, 0).copy(), 0.7), density, rtol=1e-5)


def test_units_are_sampled_uniformly():
    grid = Grid(3, 5, "hex")
    drawn = grid.sample(6000, np.random.default_rng(0))
    counts = (drawn[:, None] == grid.coords).all(-1).sum(0)
    assert counts.sum() == 6000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_lattice_is_its_own_sheet():
    np.testing.assert_array_equal(Grid(3, 5, "hex").mesh(99), Grid(3, 5, "hex").mesh())


# ---------------------------------------------------------------- continuous spaces: points

PI = math.pi
LINE, PLANE, RING, TORUS, CIRCLE, GLOBE = (
    Euclidean(1),
    Euclidean(2),
    Torus(1),
    Torus(2),
    Sphere(2),
    Sphere(3),
)
SPACES = [LINE, PLANE, Euclidean(5), RING, TORUS, Torus(4), CIRCLE, GLOBE, Sphere(6)]
spaces = pytest.mark.parametrize("space", SPACES, ids=lambda s: f"{type(s).__name__}{s.m}")
kinds = pytest.mark.parametrize("kind", ["gaussian", "radius"])


@st.composite
def some_points(draw, n):
    """A space and n of its points, angles going round more than once, vectors of any length."""
    space = draw(st.sampled_from(SPACES))
    numbers = st.floats(-9, 9).map(lambda x: round(x, 6))
    points = draw(st.lists(hnp.arrays(float, space.m, elements=numbers), min_size=n, max_size=n))
    assume(not isinstance(space, Sphere) or all(p.any() for p in points))
    return space, *points


def literal_distance(space, a, b):
    if isinstance(space, Euclidean):
        return math.dist(a, b)
    if isinstance(space, Torus):
        copies = [[x + 2 * PI * k for k in range(-4, 5)] for x in b]
        ways = (min(abs(x - y) for y in of_b) for x, of_b in zip(a, copies, strict=True))
        return math.hypot(*ways)
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    return math.acos(max(-1, min(1, cosine)))


@given(some_points(1))
def test_a_point_comes_back_from_its_embedding(sample):
    space, z = sample
    back = space.project(space.embed(z))
    assert space.distance(back, z) == pytest.approx(0, abs=1e-9)
    if isinstance(space, Torus):
        assert (abs(back) <= PI).all()
    else:
        np.testing.assert_allclose(back, space.embed(z), atol=1e-15)


@given(some_points(1))
def test_embeddings_have_equal_norm(sample):
    space, z = sample
    embedded = space.embed(z)
    assert embedded.shape == (space.n_embedded,)
    if isinstance(space, Euclidean):
        np.testing.assert_array_equal(embedded, z)
    else:
        norm = math.sqrt(space.m) if isinstance(space, Torus) else 1
        assert math.hypot(*embedded) == pytest.approx(norm, rel=1e-12)
    if isinstance(space, Torus):  # equation 10
        np.testing.assert_allclose(embedded, [*map(math.cos, z), *map(math.sin, z)], atol=1e-15)
    if isinstance(space, Sphere):  # equation 11
        np.testing.assert_allclose(embedded, z / math.hypot(*z), atol=1e-15)


@spaces
def test_a_projection_is_the_point_whose_embedding_is_nearest(space):
    rng = np.random.default_rng(0)
    raw = 2 * rng.normal(size=(20, space.n_embedded))
    best = np.linalg.norm(space.embed(space.project(raw)) - raw, axis=-1)
    others = np.concatenate(
        [
            space.sample(2000, rng)[:, None].repeat(20, 1),
            [space.perturb(space.project(raw), sigma, rng) for sigma in (1e-3, 0.1)],
        ]
    )
    assert (best <= np.linalg.norm(space.embed(others) - raw, axis=-1) + 1e-12).all()


@spaces
def test_what_has_no_direction_is_projected_somewhere_with_a_finite_gradient(space):
    raw = torch.randn(6, space.n_embedded, generator=torch.Generator().manual_seed(0))
    raw[0], raw[1, :1], raw[2, -1:], raw[3, 1:] = 0, 0, 0, 0
    raw.requires_grad_()
    z = space.project(raw)
    origin = {Euclidean: 0, Torus: 0, Sphere: torch.eye(space.m)[0]}[type(space)]
    assert torch.equal(z[0].detach(), torch.zeros(space.m) + origin)
    z.square().sum().backward()
    (gradient,) = torch.autograd.grad(space.embed(space.project(raw))[:, -1].sum(), raw)
    assert raw.grad.isfinite().all()
    assert gradient.isfinite().all()
    assert (gradient[4:] != 0).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tiny", [1e-15, 1e-20, 1e-30])
def test_short_vectors_have_a_direction_too(dtype, tiny):
    expected = torch.tensor([0.6, 0, -0.8], dtype=dtype)
    for method in (GLOBE.project, GLOBE.embed):
        torch.testing.assert_close(method(tiny * expected), expected)


@spaces
def test_gradients_are_those_of_the_formulas(space):
    rng = np.random.default_rng(0)
    raw = torch.from_numpy(rng.normal(size=(4, space.n_embedded))).requires_grad_()
    z = space.project(raw).detach().requires_grad_()
    normals = torch.from_numpy(rng.normal(size=(4, space.m + 1)))
    assert torch.autograd.gradcheck(space.project, raw)
    assert torch.autograd.gradcheck(space.embed, z)
    assert torch.autograd.gradcheck(lambda z: space.distance(z, z.flip(0) * 0.5 + 0.1), z)
    for kind in ("gaussian", "radius"):
        assert torch.autograd.gradcheck(lambda z, k=kind: space.displace(z, 0.3, normals, k), z)


# ---------------------------------------------------------------- continuous spaces: distances


@given(some_points(2))
def test_distances_equal_their_formulas(sample):
    space, a, b = sample
    assert space.distance(a, b) == pytest.approx(literal_distance(space, a, b), abs=2e-7)


@given(some_points(3), st.booleans(), st.integers(0, 20))
def test_continuous_distances_are_a_metric(sample, close, exponent):
    space, a, b, c = sample
    if close:
        b = a * (1 + 10.0**-exponent)
    d = space.distance
    assert d(a, a) == 0
    assert d(a, b) == pytest.approx(d(b, a), rel=1e-14, abs=1e-14)
    assert d(a, b) >= 0
    assert d(a, c) <= d(a, b) + d(b, c) + 1e-12
    chord = math.dist(space.embed(a), space.embed(b))
    assert chord - 1e-9 <= d(a, b) <= PI / 2 * chord + 1e-9  # so it is 0 for equal points alone


@pytest.mark.parametrize("space", [RING, Torus(4), CIRCLE, Sphere(6)], ids=str)
def test_no_point_of_a_torus_or_sphere_is_farther_than_its_opposite(space):
    z = space.sample(300, np.random.default_rng(0))
    d = space.distance(z[:, None], z[None])
    opposite = z + PI if isinstance(space, Torus) else -z
    farthest = PI * (math.sqrt(space.m) if isinstance(space, Torus) else 1)
    np.testing.assert_allclose(space.distance(z, opposite), farthest, rtol=1e-14)
    assert d.max() <= farthest * (1 + 1e-14)


@given(some_points(2), st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.floats(0.1, 10))
def test_full_turns_and_the_length_of_a_vector_do_not_count(sample, turns, scale):
    space, a, b = sample
    assume(not isinstance(space, Euclidean))
    moved = a + 2 * PI * np.array(turns)[: space.m] if isinstance(space, Torus) else scale * a
    assert space.distance(moved, b) == pytest.approx(space.distance(a, b), abs=1e-12)


@pytest.mark.parametrize("m", [2, 3, 10])
@pytest.mark.parametrize("arc", [1e-12, 1e-8, 1e-4, 1.0, PI - 1e-4, PI - 1e-8, PI])
def test_arcs_are_exact_for_near_and_for_opposite_points(m, arc):
    a, towards = np.linalg.qr(np.random.default_rng(m).normal(size=(m, 2)))[0].T
    b = math.cos(arc) * a + math.sin(arc) * towards
    assert Sphere(m).distance(a, b) == pytest.approx(arc, rel=1e-12, abs=1e-15)
    assert Sphere(m).distance(3 * a, b / 7) == pytest.approx(arc, rel=1e-12, abs=1e-15)
    single = Sphere(m).distance(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    assert float(single) == pytest.approx(arc, abs=1e-6)


@spaces
def test_arrays_and_tensors_are_given_the_same_answers(space):
    rng = np.random.default_rng(0)
    a, b = space.sample(4, rng), space.sample(3, rng)
    raw, normals = rng.normal(size=(4, space.n_embedded)), rng.normal(size=(4, space.m + 1))
    calls = [
        ("project", (raw,), (4, space.m)),
        ("embed", (a,), (4, space.n_embedded)),
        ("embed", (a[0],), (space.n_embedded,)),
        ("distance", (a[:, None], b[None]), (4, 3)),
        ("distance", (a[0], b[0]), ()),
        ("log_density", (a[:, None], b[None], 0.7, "gaussian"), (4, 3)),
        ("log_density", (a, b[0], 0.7, "radius"), (4,)),
        ("displace", (a, 0.3, normals, "gaussian"), (4, space.m)),
        ("displace", (a, 0.3, normals, "radius"), (4, space.m)),
        ("geodesic", (a[:3], b, np.linspace(0, 1, 5)), (3, 5, space.m)),
        ("geodesic", (a[0], b[:, None], np.linspace(0, 1, 5)), (3, 1, 5, space.m)),
    ]
    for name, arguments, shape in calls:
        method = getattr(space, name)
        arrays = method(*arguments)
        lists = method(*[x.tolist() if isinstance(x, np.ndarray) else x for x in arguments])
        assert isinstance(arrays, np.ndarray), name
        assert arrays.shape == shape, name
        np.testing.assert_array_equal(arrays, lists)
        for dtype, rtol in ((torch.float64, 1e-13), (torch.float32, 2e-4)):
            tensors = [
                torch.from_numpy(x).to(dtype) if isinstance(x, np.ndarray) else x for x in arguments
            ]
            answer = method(*tensors)
            assert answer.dtype == dtype, name
            np.testing.assert_allclose(arrays, answer, rtol=rtol, atol=rtol / 100, err_msg=name)


# ---------------------------------------------------------------- neighborhood kernels


def a_center(space):
    return space.sample(1, np.random.default_rng(7))[0]


def angle(z):
    return np.arctan2(np.sin(z), np.cos(z))


def neighbors(space, sigma, kind, n=20_000):
    """One point, and n drawn from its neighborhood."""
    center = a_center(space)
    drawn = space.perturb(np.tile(center, (n, 1)), sigma, np.random.default_rng(1), kind)
    assert drawn.shape == (n, space.m)
    return center, drawn


@spaces
@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_a_radius_is_normal_whatever_the_dimension(space, sigma):
    center, drawn = neighbors(space, sigma, "radius")
    r = space.distance(drawn, center) / sigma
    assert stats.kstest(r, stats.halfnorm.cdf).pvalue > 1e-3
    assert (r**2).mean() == pytest.approx(1, abs=0.05)


@spaces
@pytest.mark.parametrize("sigma", [0.05, 0.3])
def test_a_gaussian_displacement_grows_with_the_dimension(space, sigma):
    center, drawn = neighbors(space, sigma, "gaussian")
    r = space.distance(drawn, center) / sigma
    assert stats.kstest(r, stats.chi(space.dimension).cdf).pvalue > 1e-3
    assert (r**2).mean() == pytest.approx(space.dimension, rel=0.05)


@pytest.mark.parametrize("space", [RING, CIRCLE, GLOBE, Sphere(6)], ids=str)
@pytest.mark.parametrize("sigma", [1.0, 2.0, 5.0])
def test_a_long_way_leads_round(space, sigma):
    center, drawn = neighbors(space, sigma, "radius")

    def cdf(arc):  # P(|N| within arc of a multiple of a full turn)
        turns = 2 * PI * np.arange(-20, 21)[:, None] / sigma
        return (stats.norm.cdf(turns + arc / sigma) - stats.norm.cdf(turns - arc / sigma)).sum(0)

    assert stats.kstest(space.distance(drawn, center), cdf).pvalue > 1e-3


@spaces
@kinds
def test_directions_are_uniform_in_the_tangent_space(space, kind):
    center, drawn = neighbors(space, 0.2, kind)
    D = space.dimension
    if isinstance(space, Sphere):
        cosine = drawn @ center
        ways = drawn - cosine[:, None] * center
    else:
        ways = angle(drawn - center) if isinstance(space, Torus) else drawn - center
    direction = ways / np.linalg.norm(ways, axis=1, keepdims=True)
    np.testing.assert_allclose(direction.mean(0), 0, atol=4 / math.sqrt(len(drawn)))
    flat = np.eye(space.m) - (np.outer(center, center) if isinstance(space, Sphere) else 0)
    covariance = direction.T @ direction / len(drawn)
    np.testing.assert_allclose(covariance, flat / D, atol=0.02)
    if D > 1:
        axis = flat @ np.random.default_rng(2).normal(size=space.m)
        along = direction @ axis / np.linalg.norm(axis)
        assert stats.kstest(along**2, stats.beta(0.5, (D - 1) / 2).cdf).pvalue > 1e-3


@spaces
@kinds
@pytest.mark.parametrize("sigma", [0.1, 3.0])
@pytest.mark.parametrize(("dtype", "slack"), [(torch.float32, 2e-6), (torch.float64, 1e-10)])
def test_neighbors_lie_on_the_space(space, kind, sigma, dtype, slack):
    z = torch.from_numpy(space.sample(50_000, np.random.default_rng(0))).to(dtype)
    drawn = space.perturb(z, sigma, np.random.default_rng(1), kind)
    assert drawn.dtype == dtype
    assert drawn.isfinite().all()
    if isinstance(space, Sphere):
        assert float((drawn.norm(dim=-1) - 1).abs().max()) < slack
    elif isinstance(space, Torus):
        assert float(drawn.abs().max()) <= PI + slack


@spaces
@kinds
def test_the_same_generator_draws_the_same_neighbors(space, kind):
    z = space.sample(6, np.random.default_rng(0)).reshape(2, 3, -1)
    first, again, other = (
        space.perturb(z, 0.5, np.random.default_rng(seed), kind) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape == z.shape
    assert (first != other).any(-1).all()
    assert len({*map(tuple, first.reshape(6, -1).round(9))}) == 6
    single = space.perturb(torch.from_numpy(z).float(), 0.5, np.random.default_rng(1), kind)
    np.testing.assert_allclose(single, first, atol=1e-4)


@pytest.mark.parametrize("space", [LINE, RING, CIRCLE], ids=str)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 4.0])
def test_kinds_are_the_same_in_one_dimension(space, sigma):
    z = space.sample(50, np.random.default_rng(0))
    gaussian, radius = (space.log_density(z, z[0], sigma, kind) for kind in ("gaussian", "radius"))
    np.testing.assert_allclose(gaussian[1:], radius[1:], rtol=1e-12)


# Integrals. Around the center, in polar coordinates on the line, the plane and the sphere; on the
# torus over the pyramids from the center to the sides of the square: in both the r^(D−1) of the
# volume takes away the singularity of the "radius" kernel.

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)


def quadrature(edges):
    """Nodes, weights and number of the panel of a Gauss rule on each of several panels."""
    low, high = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    nodes = (low + high) / 2 + (high - low) / 2 * NODES
    panel = np.broadcast_to(np.arange(len(low))[:, None], nodes.shape)
    return nodes.ravel(), ((high - low) / 2 * WEIGHTS).ravel(), panel.ravel()


def edges_of(space, sigma):
    if isinstance(space, Euclidean):
        return sigma * np.array([0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 9, 14])
    inner = np.array([0.5, 1, 1.5, 2, 2.5, 3, 4, 6, 9]) * sigma
    return np.array([0, *inner[inner < 0.99 * PI], PI])


def how_far(space, z, center):
    """The coordinate of the panels: the radius, on the torus the larger of the angles."""
    if isinstance(space, Torus):
        return abs(angle(z - center)).max(-1)
    return space.distance(z, center)


def probabilities(space, sigma, kind):
    """∫ h over each panel: how likely a neighbor is to fall there."""
    center, (r, w, panel) = a_center(space), quadrature(edges_of(space, sigma))
    D, total = space.dimension, 0.0

    def h(z):
        return np.exp(space.log_density(z, center, sigma, kind))

    if space == TORUS:
        u, w_u, _ = quadrature([-1, 0, 1])
        for axis, sign in itertools.product((0, 1), (-1.0, 1.0)):
            z = center + r[:, None, None] * np.insert(u[:, None], axis, sign, axis=1)
            total = total + r * w * (h(z) @ w_u)
    else:
        area = 2 * PI ** (D / 2) / math.gamma(D / 2)
        if isinstance(space, Sphere):
            way = np.linalg.svd(center[None])[2][-1]  # any tangent
            z, size = np.outer(np.cos(r), center) + np.outer(np.sin(r), way), np.sin(r)
        else:
            z, size = center + np.outer(r, np.eye(D)[0]), r
        total = area * size ** (D - 1) * w * h(z)
    return np.bincount(panel, total)


INTEGRATED = [LINE, PLANE, Euclidean(5), RING, TORUS, CIRCLE, GLOBE, Sphere(4), Sphere(6)]


@pytest.mark.parametrize("space", INTEGRATED, ids=lambda s: f"{type(s).__name__}{s.m}")
@kinds
@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0, 2.5])
def test_kernels_integrate_to_one_and_are_the_density_of_perturb(space, kind, sigma):
    p = probabilities(space, sigma, kind)
    assert p.sum() == pytest.approx(1, abs=1e-6)  # equation 6
    center, drawn = neighbors(space, sigma, kind)
    seen = np.histogram(how_far(space, drawn, center), edges_of(space, sigma))[0]
    assert_drawn(seen, len(drawn) * p)


@pytest.mark.parametrize("space", [TORUS, Torus(3)], ids=str)
@kinds
@pytest.mark.parametrize("sigma", [0.2, 1.0, 2.0])
def test_a_kernel_on_the_torus_is_the_sum_of_the_planes_over_all_copies(space, kind, sigma):
    rng, m = np.random.default_rng(0), space.m
    z, center = space.sample(4, rng), space.sample(1, rng)[0]
    for point in z:
        total = 0.0
        for turns in itertools.product(range(-4, 5), repeat=m):
            r = math.dist(point + 2 * PI * np.array(turns), center)
            normal = math.exp(-(r**2) / (2 * sigma**2)) / math.sqrt(2 * PI * sigma**2)
            if kind == "gaussian":
                total += normal / math.sqrt(2 * PI * sigma**2) ** (m - 1)
            else:
                total += 2 * normal / {2: 2 * PI * r, 3: 4 * PI * r**2}[m]
        found = space.log_density(point, center, sigma, kind)
        assert found == pytest.approx(math.log(total), rel=1e-7)


@kinds
@pytest.mark.parametrize("sigma", [0.2, 1.0, 3.0])
def test_the_circle_is_the_torus_of_one_angle(kind, sigma):
    angles = np.linspace(-PI, PI, 21)[:, None]
    vectors = Torus(1).embed(angles)
    np.testing.assert_allclose(
        CIRCLE.log_density(vectors, vectors[3], sigma, kind),
        RING.log_density(angles, angles[3], sigma, kind),
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        CIRCLE.distance(vectors, vectors[3]), RING.distance(angles, angles[3]), atol=1e-14
    )


@given(some_points(2), st.sampled_from(["gaussian", "radius"]), st.floats(0.1, 1.5))
def test_who_is_near_is_so_from_both_sides(sample, kind, sigma):
    space, a, b = sample
    assume(1e-3 < space.distance(a, b) < 3)
    there, back = space.log_density(a, b, sigma, kind), space.log_density(b, a, sigma, kind)
    assert there == pytest.approx(back, rel=1e-9, abs=1e-9)


@kinds
def test_a_narrow_kernel_does_not_know_that_the_space_is_closed(kind):
    r = np.linspace(0.01, 0.1, 7)
    flat = PLANE.log_density(np.stack([r, 0 * r], 1), np.zeros(2), 0.03, kind)
    on_torus = TORUS.log_density(np.stack([r, 0 * r], 1), np.zeros(2), 0.03, kind)
    arcs = np.stack([np.cos(r), np.sin(r), 0 * r], 1)
    np.testing.assert_allclose(on_torus, flat, rtol=1e-9)
    np.testing.assert_allclose(
        GLOBE.log_density(arcs, arcs[0] * 0 + np.eye(3)[0], 0.03, kind), flat, atol=2e-3
    )


# ---------------------------------------------------------------- ways, sheets, samples


@given(some_points(2), st.integers(2, 9))
def test_a_geodesic_goes_from_end_to_end_at_constant_speed(sample, k):
    space, a, b = sample
    assume(not isinstance(space, Sphere) or space.distance(a, b) < PI - 1e-5)
    way = space.geodesic(a, b, np.linspace(0, 1, k))
    assert way.shape == (k, space.m)
    assert space.distance(way[[0, -1]], np.stack([a, b])) == pytest.approx(0, abs=1e-9)
    steps = space.distance(way[1:], way[:-1])
    np.testing.assert_allclose(steps, space.distance(a, b) / (k - 1), rtol=1e-7, atol=1e-9)
    if isinstance(space, Sphere):
        np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1, rtol=1e-12)
    if isinstance(space, Torus):
        assert (abs(way) <= PI + 1e-12).all()


@pytest.mark.parametrize("arc", [1e-9, 5e-7, 1e-5])
def test_a_short_geodesic_ends_at_its_end(arc):
    a, towards = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 2)))[0].T
    b = math.cos(arc) * a + math.sin(arc) * towards
    way = GLOBE.geodesic(a, b, np.array([0.5, 1.0]))
    np.testing.assert_allclose(GLOBE.distance(way, b), [arc / 2, 0], atol=1e-3 * arc)


def test_a_geodesic_takes_the_way_across_the_cut():
    way = Torus(2).geodesic(np.array([3.0, 0.1]), np.array([-3.0, -0.1]), np.linspace(0, 1, 11))
    assert (abs(way[:, 0]) >= 3 - 1e-12).all()
    assert (abs(way[:, 1]) <= 0.1 + 1e-12).all()


@pytest.mark.parametrize("space", [RING, TORUS, CIRCLE, GLOBE, Sphere(6)], ids=str)
def test_between_opposite_points_one_of_the_ways_is_taken(space):
    a = space.sample(20, np.random.default_rng(0))
    if isinstance(space, Sphere):
        a[: space.m] = np.eye(space.m)
    b, farthest = (-a, PI) if isinstance(space, Sphere) else (a + PI, PI * math.sqrt(space.m))
    t = np.linspace(0, 1, 5)
    single = [torch.from_numpy(x).float() for x in (a, b, t)]
    for way in (space.geodesic(a, b, t), space.geodesic(*single).double().numpy()):
        ends = np.stack([a, b], axis=1)
        np.testing.assert_allclose(space.distance(way[:, [0, -1]], ends), 0, atol=3e-6)
        np.testing.assert_allclose(space.distance(way[:, 1:], way[:, :-1]), farthest / 4, rtol=1e-5)


@spaces
def test_samples_are_uniform(space):
    drawn = space.sample(20_000, np.random.default_rng(0))
    assert drawn.shape == (20_000, space.m)
    np.testing.assert_array_equal(drawn, space.sample(20_000, np.random.default_rng(0)))
    uniform = stats.uniform(-PI, 2 * PI)
    if isinstance(space, Sphere):  # a coordinate of a uniform unit vector
        shape = (space.m - 1) / 2
        uniform = stats.beta(shape, shape, loc=-1, scale=2)
        np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-12)
    for column in drawn.T:
        assert stats.kstest(column, uniform.cdf).pvalue > 1e-3
    correlation = np.corrcoef(drawn.T).reshape(space.m, space.m)
    np.testing.assert_allclose(correlation, np.eye(space.m), atol=0.03)


def test_a_box_holds_its_samples_and_its_sheet():
    box = Euclidean(3, low=(0, -1, -2), high=(2.0, 5, 4))
    drawn, sheet = box.sample(9000, np.random.default_rng(0)), box.mesh(6)
    for column, low, high in zip(drawn.T, box.low, box.high, strict=True):
        assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-3
    np.testing.assert_allclose(sheet[..., 0], np.linspace(0, 2, 6)[:, None].repeat(6, 1))
    np.testing.assert_allclose(sheet[..., 1], np.linspace(-1, 5, 6)[None].repeat(6, 0))
    assert (sheet[..., 2] == 1).all()  # the middle of the box


@pytest.mark.parametrize("space", [LINE, PLANE, Euclidean(4), RING, TORUS, Torus(5)], ids=str)
def test_a_sheet_runs_down_and_to_the_right(space):
    sheet = space.mesh(8)
    assert sheet.shape == (1 if space.m == 1 else 8, 8, space.m)
    *down, right = (0, 1)[: space.m]  # which coordinate does what
    assert (np.diff(sheet[..., right], axis=1) > 0).all()
    if down:
        assert (np.diff(sheet[..., 0], axis=0) > 0).all()  # row 0, on top, has the least
        assert (np.diff(sheet[..., 0], axis=1) == 0).all()
        assert (np.diff(sheet[..., 1], axis=0) == 0).all()
    assert (sheet[..., 2:] == 0).all()
    if isinstance(space, Torus):  # closed: the last meets the first
        for axis in (0, 1)[2 - min(2, space.m) :]:
            steps = space.distance(sheet, np.roll(sheet, 1, axis))
            np.testing.assert_allclose(steps, 2 * PI / 8, rtol=1e-12)
    else:
        assert sheet[0, 0, : min(2, space.m)] == pytest.approx(-PI)
        assert sheet[-1, -1, : min(2, space.m)] == pytest.approx(PI)


@pytest.mark.parametrize("m", [2, 3, 5])
def test_a_sheet_of_the_sphere_goes_from_pole_to_pole_in_closed_circles(m):
    space, sheet = Sphere(m), Sphere(m).mesh(6)
    assert sheet.shape == ((1, 6, 2) if m == 2 else (6, 12, m))
    np.testing.assert_allclose(np.linalg.norm(sheet, axis=-1), 1, rtol=1e-14)
    assert (sheet[..., 3:] == 0).all()
    round_ = space.distance(sheet, np.roll(sheet, 1, axis=1))
    np.testing.assert_allclose(round_, round_[:, :1].repeat(sheet.shape[1], 1), rtol=1e-9)
    if m == 2:
        np.testing.assert_allclose(round_, 2 * PI / 6)
    else:
        north = sheet[..., 2]
        np.testing.assert_allclose(north, north[:, :1].repeat(12, 1), atol=1e-15)
        assert (np.diff(north[:, 0]) < 0).all()  # row 0, on top, is the northernmost
        np.testing.assert_allclose(space.distance(sheet[1:], sheet[:-1]), PI / 6, rtol=1e-9)
        np.testing.assert_allclose(north, -north[::-1], atol=1e-14)


# ---------------------------------------------------------------- nearest


def assert_nearest(space, Z, queries, k, slack=1e-9):
    near = space.nearest(Z, queries, k)
    d = np.asarray(space.distance(queries[:, None], Z[None]))
    assert near.shape == (len(queries), k)
    assert near.dtype.kind == "i"
    assert all(len(set(row)) == k for row in near.tolist())
    np.testing.assert_allclose(
        np.take_along_axis(d, near, axis=1), np.sort(d, axis=1)[:, :k], rtol=0, atol=slack
    )


@spaces
@pytest.mark.parametrize("k", [1, 7, 40])
def test_the_nearest_are_those_of_least_distance(space, k):
    rng = np.random.default_rng(0)
    Z, queries = space.sample(40, rng), space.sample(30, rng)
    assert_nearest(space, Z, queries, k)
    assert_nearest(space, Z, Z, k)
    np.testing.assert_array_equal(space.nearest(Z, Z, k)[:, 0], np.arange(40))
    tensors = space.nearest(torch.from_numpy(Z), torch.from_numpy(queries), np.int64(k))
    np.testing.assert_array_equal(tensors, space.nearest(Z.tolist(), queries.tolist(), k))
    if isinstance(space, Torus):
        turned = Z + 2 * PI * rng.integers(-2, 3, Z.shape)
        assert_nearest(space, turned, queries - 2 * PI, k)


@given(grids(), st.integers(0, 10**6), st.data())
def test_the_nearest_of_a_grid_are_those_of_least_distance(grid, seed, data):
    rng = np.random.default_rng(seed)
    Z, queries = grid.sample(12, rng), grid.sample(5, rng)
    assert_nearest(grid, Z, queries, data.draw(st.integers(1, 12)))


@pytest.mark.parametrize("tiny", [-1e-17, -1e-300, -0.0, 2 * PI, -2 * PI, PI, -PI])
def test_an_angle_just_before_a_full_turn_has_neighbors(tiny):
    Z = np.array([[tiny], [1.0], [-1.0], [3.0]])
    assert_nearest(RING, Z, Z, 2)
    assert_nearest(RING, Z[1:], Z, 2)


@pytest.mark.parametrize("m", [2, 20])
@pytest.mark.parametrize("k", [3, 30])
def test_the_nearest_are_sound_far_from_the_origin(m, k):
    Z = np.random.default_rng(0).normal(size=(30, m)) * 1e-2 + 1e6
    assert_nearest(Euclidean(m), Z, Z, k)


@pytest.mark.parametrize("m", [3, 20])
@pytest.mark.parametrize("k", [3, 30])
def test_the_nearest_on_the_sphere_are_sound_where_all_are_near(m, k):
    Z = np.eye(m)[0] + 1e-8 * np.random.default_rng(0).normal(size=(30, m))
    assert_nearest(Sphere(m), Z, Z, k, slack=1e-13)


# ---------------------------------------------------------------- equality and bad input


def test_equal_spaces_are_equal_and_hashable():
    assert len({Torus(2), Torus(np.int64(2)), Sphere(2), Euclidean(2), Euclidean(2, -PI)}) == 3
    assert Torus(2) != Torus(3)
    assert Euclidean(2) != Euclidean(2, high=(1.0, 2.0))
    dimensions = {space: (space.dimension, space.n_embedded) for space in (PLANE, TORUS, GLOBE)}
    assert dimensions == {PLANE: (2, 2), TORUS: (2, 4), GLOBE: (2, 3)}


def rng():
    return np.random.default_rng(0)


ZERO = np.zeros(2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Torus(0), "m=0 must be a whole number of at least 1 for a Torus$"),
        (lambda: Euclidean(True), "m=True must be a whole number of at least 1 for a Euclidean"),
        (lambda: Torus(1.5), "m=1.5 must be a whole number"),
        (lambda: Torus("2"), "m='2' must be a whole number"),
        (lambda: Sphere(1), "m=1 must be .* at least 2 for a Sphere: with m = 1 it is two points"),
        (lambda: Sphere(0), "m=0 must be .* at least 2 for a Sphere"),
        (lambda: Euclidean(2, 1, 1), "low=1, high=1 are no corners of a box; .*every low below"),
        (lambda: Euclidean(2, (0, 3), 2), r"low=\(0, 3\), high=2 are no corners of a box"),
        (lambda: Euclidean(2, (0, 0, 0)), r"low=\(0, 0, 0\) has 3 .* finite number or 2 of them"),
        (lambda: Euclidean(1, -np.inf), "low=-inf must be a finite number"),
        (lambda: Euclidean(1, 0, np.nan), "high=nan must be a finite number"),
        (lambda: PLANE.embed(np.zeros(3)), r"shape \(3,\) do not lie in Euclidean.*\(\.\.\., 2\)"),
        (lambda: TORUS.embed(np.zeros((4, 3))), r"shape \(4, 3\) do not lie in Torus\(m=2\)"),
        (lambda: GLOBE.embed(np.ones((4, 2))), r"shape \(4, 2\) do not lie in Sphere\(m=3\)"),
        (lambda: PLANE.distance(ZERO, np.zeros(3)), r"expected \(\.\.\., 2\)"),
        (lambda: TORUS.distance(np.zeros(3), ZERO), r"expected \(\.\.\., 2\)"),
        (lambda: TORUS.log_density(np.zeros(3), ZERO, 1.0), r"expected \(\.\.\., 2\)"),
        (lambda: TORUS.geodesic(ZERO, np.zeros(4), [0.0]), r"expected \(\.\.\., 2\)"),
        (lambda: TORUS.perturb(np.zeros((4, 3)), 1.0, rng()), r"expected \(\.\.\., 2\)"),
        (lambda: PLANE.perturb(np.zeros((4, 3)), 1.0, rng()), r"expected \(\.\.\., 2\)"),
        (lambda: CIRCLE.embed(ZERO), "zero vector has no direction, hence no place on the sphere"),
        (lambda: CIRCLE.distance([[1, 0], [0, 0]], [1, 0]), "zero vector has no direction"),
        (lambda: CIRCLE.perturb(ZERO, 1.0, rng()), "zero vector has no direction"),
        (lambda: CIRCLE.nearest([ZERO], [ZERO], 1), "zero vector has no direction"),
        (lambda: PLANE.perturb(ZERO, 1, rng(), "cube"), "kind='cube' is unknown; .*'gaussian', 'r"),
        (lambda: TORUS.perturb(ZERO, 1, rng(), None), "kind=None is unknown"),
        (lambda: CIRCLE.perturb([1, 0], 1, rng(), "cube"), "kind='cube' is unknown"),
        (lambda: PLANE.nearest([ZERO], [ZERO], 0), "k=0 must be a whole number from 1 to the 1 p"),
        (lambda: TORUS.nearest([ZERO] * 3, [ZERO], 4), "k=4 must .* from 1 to the 3 points"),
        (lambda: CIRCLE.nearest(np.eye(2), np.eye(2), 1.0), "k=1.0 must be a whole number"),
        (lambda: Grid(2, 2).nearest([ZERO], [ZERO], True), "k=True must be a whole number"),
        (
            lambda: Torus(9).log_density(np.zeros(9), np.ones(9), 3.0, "radius"),
            r"kind='radius' and sigma=3.0 on Torus\(m=9\) has more than 1000000 copies to sum; "
            "take kind='gaussian', a smaller sigma or fewer circles",
        ),
    ],
)
def test_impossible_spaces_and_points_say_why(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_kernel_that_factors_has_no_copies_to_sum():
    z, center = np.zeros(9), np.ones(9)
    whole = Torus(9).log_density(z, center, 3.0, "gaussian")
    assert whole == pytest.approx(9 * RING.log_density(z[:1], center[:1], 3.0))


@pytest.mark.parametrize(
    "space", [PLANE, TORUS, CIRCLE, Grid(2, 2)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("sigma", [0, 0.0, -1.0, np.inf, np.nan, np.float32(0), np.int64(-1)])
@pytest.mark.parametrize("method", ["perturb", "log_density"])
def test_a_kernel_without_a_width_is_refused(space, sigma, method):
    z = np.array([1.0, 0.0])
    last = (sigma, rng()) if method == "perturb" else (z, sigma)
    with pytest.raises(ValueError, match=r"sigma=.* must be a positive number"):
        getattr(space, method)(z, *last)


@pytest.mark.parametrize("space", [PLANE, TORUS, CIRCLE], ids=lambda s: type(s).__name__)
def test_a_density_of_an_unknown_kind_is_refused(space):
    with pytest.raises(ValueError, match="kind='cube' is unknown"):
        space.log_density(np.ones(2), np.array([1.0, 0.0]), 1.0, "cube")


@pytest.mark.parametrize("space", [PLANE, TORUS, CIRCLE], ids=lambda s: type(s).__name__)
def test_raw_numbers_of_another_width_are_refused(space):
    with pytest.raises(ValueError, match=r"shape \(5, 3\).*expected"):
        space.project(np.ones((5, 3)))


@pytest.mark.parametrize(
    "space", [PLANE, TORUS, CIRCLE, Grid(2, 2)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("widths", [(3, 3), (2, 3), (3, 2)])
def test_searching_among_points_of_another_width_is_refused(space, widths):
    Z, queries = (np.ones((4, width)) for width in widths)
    with pytest.raises(ValueError, match=r"points of shape \(4, 3\) do not lie in"):
        space.nearest(Z, queries, 1)


@spaces
def test_points_may_be_passed_by_name(space):
    a, b = space.sample(2, rng())
    assert space.distance(a=a, b=b) == space.distance(a, b)
    np.testing.assert_array_equal(space.embed(z=a), space.embed(a))
