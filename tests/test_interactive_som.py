"""The map that trains in the page: its steps are those of the library, its controls work."""

import numpy as np
import pytest
from browser import pixels, settle, show, violations

from somlib import SOM, Grid, interactive

STAGE = ".somlib-piece .stage"


@pytest.fixture(scope="module")
def square():
    """Samples as a page holds them, in float32, and a tangle of 6 × 6 prototypes."""
    rng = np.random.default_rng(0)
    X, start = rng.random((300, 2)), 0.5 + 0.02 * rng.normal(size=(36, 2))
    return X.astype(np.float32), start.astype(np.float32)


def trainer(**settings):
    return interactive.program("som-trainer", {"settings": settings})


def prototypes(tab):
    """Return the prototypes in the page, shape (K, 2)."""
    flat = tab.locator(STAGE).evaluate("(stage) => Array.from(stage.training.W)")
    return np.array(flat).reshape(-1, 2)


def train(tab, steps):
    """Take steps without the pauses of the screen."""
    tab.locator(STAGE).evaluate(
        "(stage, steps) => { for (let i = 0; i < steps; i++) stage.training.step(); }", steps
    )


def run(tab):
    """Press Run and wait for the end."""
    tab.get_by_role("button", name="Run").click()
    tab.wait_for_function(
        "() => document.querySelector('.somlib-piece').shadowRoot"
        ".querySelector('.stage').training.done",
        timeout=60_000,
    )
    settle(tab)


def state(tab):
    """Return the numbers that the page shows, by name."""
    words = tab.locator(".state").inner_text().split(" · ")
    return {name: float(value) for name, value in (word.rsplit(" ", 1) for word in words[1:])}


@pytest.mark.parametrize(
    ("mode", "lattice", "wrap"),
    [
        ("online", "rect", "none"),
        ("online", "hex", "both"),
        ("online", "rect", "columns"),
        ("batch", "rect", "none"),
        ("batch", "hex", "columns"),
    ],
)
def test_training_in_the_page_is_the_library_s(tab, tmp_path, square, mode, lattice, wrap):
    X, start = square
    sides = {"rows": 6, "cols": 6, "lattice": lattice, "wrap": wrap}
    schedules = {"sigma": [3.0, 0.4], "alpha": [0.5, 0.02], "passes": 3}
    given = {"samples": {"square": X}, "start": start}
    settings = {"mode": mode} | sides | schedules
    show(tab, tmp_path, interactive.program("som-trainer", given | {"settings": settings}))

    wraps = {"none": False, "columns": (False, True), "both": True}[wrap]
    rate = {"learning_rate": (0.5, 0.02), "shuffle": False} if mode == "online" else {}
    som = SOM(
        Grid(6, 6, lattice, wraps), mode, n_epochs=3, sigma=(3.0, 0.4), init=start.astype(float),
        device="cpu", **rate,
    )  # fmt: skip
    som.partial_fit(X.astype(float))
    train(tab, len(X) if mode == "online" else 1)
    np.testing.assert_allclose(prototypes(tab), som.weights_, atol=1e-9)
    som.partial_fit(X.astype(float)).partial_fit(X.astype(float))
    train(tab, 2 * len(X) if mode == "online" else 2)
    np.testing.assert_allclose(prototypes(tab), som.weights_, atol=1e-9)

    errors = tab.locator(STAGE).evaluate("(stage) => stage.training.errors")
    assert errors["qe"] == pytest.approx(som.quantization_error_, abs=1e-9)
    assert errors["te"] == pytest.approx(som.topographic_error_, abs=1e-9)


def test_one_step_is_one_update(tab, tmp_path, square):
    X, start = square
    settings = {"rows": 6, "cols": 6, "sigma": [3.0, 0.4], "passes": 1}
    data = {"samples": {"square": X}, "start": start, "settings": settings}
    show(tab, tmp_path, interactive.program("som-trainer", data))
    grid, m, x = Grid(6, 6), start.astype(float), X[0].astype(float)
    c = ((x - m) ** 2).sum(1).argmin()
    h = np.exp(-(grid.distances[c] ** 2) / (2 * 3.0**2))
    tab.get_by_role("button", name="Step").press("Enter")
    np.testing.assert_allclose(prototypes(tab), m + 0.5 * h[:, None] * (x - m), atol=1e-5)
    assert tab.locator(".state").inner_text().startswith("Update 1 of 300")


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_the_page_s_map_becomes_ordered_on_the_square(tab, tmp_path, mode):
    show(tab, tmp_path, trainer(mode=mode))
    picture = f"{STAGE} canvas.pad"
    before, start = pixels(tab, picture), state(tab)
    run(tab)
    assert state(tab)["TE"] < 0.1 < start["TE"]
    assert state(tab)["QE"] < start["QE"] / 4
    assert (pixels(tab, picture) != before).any()


def test_a_vanishing_start_leaves_the_map_torn(tab, tmp_path):
    show(tab, tmp_path, trainer())
    tab.get_by_label("σ, start").fill("0.6")
    run(tab)
    assert state(tab)["TE"] > 0.1


def test_a_closed_row_follows_the_ring(tab, tmp_path):
    show(tab, tmp_path, trainer())
    tab.get_by_label("Cloud").select_option("ring")
    tab.get_by_label("Rows").fill("1")
    tab.get_by_label("Columns").fill("36")
    tab.get_by_label("Joined").select_option("left, right")
    tab.get_by_label("σ, start").fill("6")
    run(tab)
    assert len(prototypes(tab)) == 36
    radius = np.linalg.norm(prototypes(tab) - 0.5, axis=1)
    assert radius.min() > 0.35  # none in the hole
    assert state(tab)["TE"] < 0.05


def test_a_hexagonal_torus_has_an_even_number_of_rows(tab, tmp_path):
    show(tab, tmp_path, trainer(rows=7))
    tab.get_by_label("Joined").select_option("all (torus)")
    tab.get_by_label("Lattice").select_option("hexagonal")
    assert tab.get_by_label("Rows").input_value() == "8"
    assert len(prototypes(tab)) == 64


def test_a_reset_begins_anew_and_another_start_differs(tab, tmp_path):
    show(tab, tmp_path, trainer())
    first = prototypes(tab)
    train(tab, 50)
    tab.get_by_role("button", name="Reset").click()
    np.testing.assert_array_equal(prototypes(tab), first)
    tab.get_by_role("button", name="New start").click()
    assert (prototypes(tab) != first).all()


def test_a_run_can_be_paused_and_goes_on_where_it_was(tab, tmp_path):
    show(tab, tmp_path, trainer())
    tab.get_by_role("button", name="Run").click()
    settle(tab)
    tab.get_by_role("button", name="Pause").click()
    held = prototypes(tab)
    settle(tab)
    np.testing.assert_array_equal(prototypes(tab), held)
    assert 0 < tab.locator(STAGE).evaluate("(stage) => stage.training.t") < 10_000


def test_a_place_of_the_picture_is_a_sample_by_mouse_and_by_arrow_keys(tab, tmp_path):
    show(tab, tmp_path, trainer())
    pad = tab.locator(f"{STAGE} canvas.pad")
    box = pad.bounding_box()
    before = prototypes(tab)
    pad.click(position={"x": box["width"] * 0.9, "y": box["height"] * 0.1})
    moved = prototypes(tab) - before
    assert (moved > 0).all()  # to the right and up, where the mouse was
    before = prototypes(tab)
    for _ in range(25):
        pad.press("Shift+ArrowDown")
    assert (prototypes(tab)[:, 1] < before[:, 1]).all()


def test_batch_training_takes_no_single_samples_and_no_learning_rate(tab, tmp_path):
    show(tab, tmp_path, trainer(mode="batch"))
    before = prototypes(tab)
    tab.locator(f"{STAGE} canvas.pad").press("ArrowDown")
    np.testing.assert_array_equal(prototypes(tab), before)
    assert tab.get_by_label("α, start").is_disabled()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(tab, tmp_path, theme):
    tab.emulate_media(color_scheme=theme)
    show(tab, tmp_path, trainer())
    assert violations(tab) == []


@pytest.mark.parametrize("tab", [{"viewport": {"width": 320, "height": 700}}], indirect=True)
def test_a_narrow_page_needs_no_scrolling_to_the_side(tab, tmp_path):
    show(tab, tmp_path, trainer())
    assert tab.evaluate("() => document.documentElement.scrollWidth") <= 320
