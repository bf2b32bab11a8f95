"""Diagrams say what is there: arrows where gradients were measured, methods where they belong."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import Circle, FancyArrowPatch

from somlib.evaluation.diagrams import Part, architecture, autoencoder, gradient_flow, venn
from somlib.spaces import Grid

GRID = Grid(3, 5)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def desom():
    """An autoencoder with a map below its code and a loss on either side."""
    parts = autoencoder()
    parts["mse"] = Part("loss", (0, 1.25), "$L_r$", ("data", "reconstruction"), ("encoder",))
    parts["m"] = Part("map", (0, -2.6), "$m_k$", grid=GRID)
    parts["som"] = Part("loss", (0, -1.05), "$L_{som}$", ("code", "m"), ("encoder", "m"))
    return parts


def arrows(ax, kind):
    ids = [patch.get_gid().split(":") for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    return {(origin, target) for this, origin, target in ids if this == kind}


def test_the_forward_pass_is_what_the_parts_say(desom):
    ax = architecture(desom)
    assert arrows(ax, "forward") == {(a, b) for b, part in desom.items() for a in part.inputs}
    assert arrows(ax, "gradient") == {("mse", "encoder"), ("som", "encoder"), ("som", "m")}


def test_a_gradient_is_drawn_exactly_where_one_was_measured(desom):
    measured = {
        "mse": {"encoder": 0.058, "decoder": 0.16, "m": 0.0},
        "som": {"encoder": 3.6, "decoder": 0.0, "m": 12345.0},
    }
    ax = gradient_flow(measured, desom)
    drawn = {("mse", "encoder"), ("mse", "decoder"), ("som", "encoder"), ("som", "m")}
    assert arrows(ax, "gradient") == drawn
    notes = {text.get_text() for text in ax.texts}
    assert {"0.058", "0.16", "3.6", r"$1.2 \times 10^{4}$"} <= notes


def test_texts_lie_within_the_axes_and_apart(desom):
    measured = {"mse": {"encoder": 1.0, "decoder": 2.0}, "som": {"encoder": 3.0, "m": 4.0}}
    ax = gradient_flow(measured, desom)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    frame = ax.get_window_extent()
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)
    assert all(frame.y0 <= b.y0 and b.y1 <= frame.y1 for b in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_a_map_has_the_grids_units_and_edges_and_prototypes_have_no_edges(desom):
    for shape, edges in (("map", len(GRID.edges())), ("prototypes", 0)):
        ax = architecture(desom | {"m": Part(shape, (0, -2.6), "m", grid=GRID)})
        (sheet,) = ax.child_axes
        (units,) = (c for c in sheet.collections if isinstance(c, PathCollection))
        np.testing.assert_allclose(units.get_offsets(), GRID.coords[:, ::-1])
        lines = [c for c in sheet.collections if isinstance(c, LineCollection)]
        assert sum(len(c.get_segments()) for c in lines) == edges
        bottom, top = sheet.get_ylim()
        assert bottom > top  # row 0 on top, as everywhere


def test_a_wrapped_map_is_drawn_without_lines_across():
    around = Part("map", (0, 0), grid=Grid(3, 5, wrap=True))
    (sheet,) = architecture({"m": around}).child_axes
    (lines,) = (c for c in sheet.collections if isinstance(c, LineCollection))
    assert all(np.ptp(np.asarray(s), axis=0).max() == 1 for s in lines.get_segments())


def test_what_changed_is_emphasized_and_what_went_leaves_an_outline(desom):
    gone = {name: part for name, part in desom.items() if name != "mse"}
    widths = {
        patch.get_gid(): (patch.get_linewidth(), patch.get_linestyle())
        for patch in architecture(gone, before=desom).patches
        if str(patch.get_gid()).startswith("part:")
    }
    assert widths["part:mse"][1] == ":"
    assert len({widths[f"part:{name}"] for name in gone}) == 1  # nothing else changed
    ax = architecture(desom, before=gone)
    outline = {p.get_gid(): p.get_linewidth() for p in ax.patches}
    assert outline["part:mse"] > outline["part:encoder"]


@pytest.mark.parametrize("third", [["3", "123"], ["3", "13", "23"]])
def test_each_method_stands_in_its_circles_and_in_no_other(third):
    members = {"a": ["1", "12", "13", "123"], "b": ["2", "12", "23", "123"], "c": third}
    ax = venn(members)
    discs = [p for p in ax.patches if isinstance(p, Circle)]
    for text in ax.texts:
        for method in text.get_text().split("\n"):
            if method in members:  # a circle's name
                continue
            at = np.asarray(text.get_position())
            inside = [np.linalg.norm(at - disc.center) < disc.radius for disc in discs]
            assert inside == [method in of for of in members.values()], method


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Part("blob", (0, 0)), "shape='blob' is unknown"),
        (lambda: Part("map", (0, 0)), "has units; give their grid"),
        (lambda: Part("code", (0, 0), gradients=("encoder",)), "gradients start at a loss"),
        (lambda: architecture({"z": Part("code", (0, 0), inputs=("x",))}), r"names \['x'\]"),
        (lambda: gradient_flow({"mse": {}}, autoencoder()), r"received names \['mse'\]"),
        (lambda: venn({"a": ["1"]}), "has 1 circles"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_gradient_that_is_no_number_or_was_not_measured_is_refused(desom):
    with pytest.raises(ValueError, match="received lacks"):
        gradient_flow({"mse": {}}, desom)
    with pytest.raises(ValueError, match="give a norm ≥ 0"):
        gradient_flow({"mse": {"encoder": np.nan}, "som": {}}, desom)


def test_names_of_circles_and_methods_are_no_formulas():
    ax = venn({"$_$": ["a_b", "$x$"], "_b": ["$x$", "c\nd"], "c": []})
    texts = {text.get_text() for text in ax.texts}
    assert texts == {"$_$", "_b", "c", "a_b", "$x$", r"c\nd"}
    assert not any(text.get_parse_math() for text in ax.texts)
    ax.figure.draw_without_rendering()
