"""Pieces of the notebooks 03, 04 and 05: what a page decodes and encodes is what PyTorch does."""

import re

import numpy as np
import pytest
from browser import canvas_pixels, show, violations

from somlib import DCSOMRL, DESOM, VAE, data, interactive

SHAPE = (8, 8)
INK, PAPER = (0x1B, 0x1F, 0x24), (255, 255, 255)  # of the runtime's light theme


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def image_in(tab, where, box):
    """Return the gray pixels, 0 for paper to 1 for ink, of an image within a canvas.

    `box` is its left, top, width and height as shares of the canvas' width.
    """
    shown = canvas_pixels(tab, where)[..., :3].astype(float)
    left, top, width, height = np.array(box) * shown.shape[1]
    rows = (top + (np.arange(SHAPE[0]) + 0.5) * height / SHAPE[0]).astype(int)
    cols = (left + (np.arange(SHAPE[1]) + 0.5) * width / SHAPE[1]).astype(int)
    colors = shown[np.ix_(rows, cols)]
    return ((np.array(PAPER) - colors) / (np.array(PAPER) - INK)).mean(-1)


def assert_shows(tab, where, box, expected):
    found = image_in(tab, where, box)
    np.testing.assert_allclose(found, expected.reshape(SHAPE).clip(0, 1), atol=0.02)


def press(tab, key, times=1):
    for _ in range(times):
        tab.keyboard.press(key)


# ---------------------------------------------------------------- networks of DC-SOMRL


def run(network, X):
    """Run stored layers as a page does."""
    for layer in network.layers:
        W = layer["weight"].astype(np.float32)
        if "scale" in layer:
            W = W * layer["scale"][:, None]
        X = X @ W.T + layer["bias"]
        X = {"relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
             "linear": lambda x: x}[layer["activation"]](X)  # fmt: skip
    return X


@pytest.fixture(scope="module")
def nodes(digits):
    model = DCSOMRL(
        6, hidden=(32,), batch_size=64, activation_threshold=0.9, repel=None, n_epochs=3,
        max_nodes=200, random_state=0,
    )  # fmt: skip
    return model.fit(digits.X)


def test_networks_scale_samples_as_the_model_does(digits, nodes):
    Z = nodes.transform(digits.X)
    assert nodes.parameters_["shift"] > 0.1  # else a network without the scaling would pass
    encoded = run(interactive.encoder(nodes, "float16"), digits.X)
    decoded = run(interactive.decoder(nodes, "float16"), Z)
    np.testing.assert_allclose(encoded, Z, atol=0.005)
    np.testing.assert_allclose(decoded, nodes.inverse_transform(Z), atol=0.005)


# ---------------------------------------------------------------- 03: walk

MAP, PATHS = "canvas.pad", "canvas:not(.pad)"


@pytest.fixture(scope="module")
def desom(digits):
    model = DESOM((4, 4), hidden=(32,), latent_dim=4, n_iter=300, random_state=0)
    return model.fit(digits.X)


@pytest.fixture
def walk(desom):
    return interactive.program(
        "walk",
        {
            "decoder": interactive.decoder(desom),
            "prototypes": desom.prototypes_,
            "grid": [4, 4],
            "image_shape": SHAPE,
            "ends": [0, 15],
        },
    )


def paths(desom, units, t):
    """Return decoded codes at t: on the straight line, and along the units."""
    P = desom.prototypes_
    straight = P[units[0]] + t * (P[units[-1]] - P[units[0]])
    along = [np.interp(t * (len(units) - 1), np.arange(len(units)), c) for c in P[units].T]
    return desom.inverse_transform(np.array([straight, along], dtype=P.dtype))


SIDE = 17 / 36  # of a large image, as a share of the canvas' width


def assert_walked(tab, desom, units, t):
    for which, expected in enumerate(paths(desom, units, t)):
        assert_shows(tab, PATHS, (which * (SIDE + 1 / 18), 1 / 18, SIDE, SIDE), expected)


def test_walk_decodes_both_paths(tab, tmp_path, walk, desom):
    show(tab, tmp_path, walk)
    assert_walked(tab, desom, [0, 5, 10, 15], 0.5)
    tab.get_by_label("from A to B").focus()
    press(tab, "ArrowLeft", 20)
    assert_walked(tab, desom, [0, 5, 10, 15], 0.3)
    press(tab, "End")
    assert_walked(tab, desom, [0, 5, 10, 15], 1.0)


def test_walk_moves_its_ends_by_keyboard_and_by_click(tab, tmp_path, walk, desom):
    show(tab, tmp_path, walk)
    tab.locator(MAP).focus()
    press(tab, "ArrowUp", 2)  # B goes from row 3, column 3 to row 1
    assert_walked(tab, desom, [0, 1, 6, 7], 0.5)
    tab.get_by_role("button", name="Move A").click()
    box = tab.locator(MAP).bounding_box()
    tab.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.9 * box["height"])
    assert_walked(tab, desom, [13, 10, 7], 0.5)
    assert "A is unit (3, 1), B is unit (1, 3)" in tab.locator(".note").inner_text()
    press(tab, "ArrowLeft", 9)  # not over the edge
    assert "A is unit (3, 0)" in tab.locator(".note").inner_text()


def test_walk_names_the_nearest_prototype(tab, tmp_path, walk, desom):
    show(tab, tmp_path, walk)
    P, grid = desom.prototypes_, desom.grid_
    length = np.mean([np.linalg.norm(P[i] - P[j]) for i, j in grid.edges()])
    distances = np.linalg.norm((P[0] + P[15]) / 2 - P, axis=1)
    row, col = divmod(int(distances.argmin()), 4)
    expected = f"straight {distances.min() / length:.2f}, to unit ({row}, {col})"
    assert expected in tab.locator(".note").inner_text()


def test_walk_of_one_unit_stays_there(tab, tmp_path, walk, desom):
    show(tab, tmp_path, walk)
    tab.locator(MAP).focus()
    press(tab, "Shift+ArrowUp")
    press(tab, "Shift+ArrowLeft")
    assert_walked(tab, desom, [0, 0], 0.5)


# ---------------------------------------------------------------- 04: relevances


@pytest.fixture
def relevances(digits, nodes):
    return interactive.program(
        "relevances",
        {
            "decoder": interactive.decoder(nodes),
            "centers": nodes.centers_,
            "relevances": nodes.relevances_,
            "mean": nodes.transform(digits.X).mean(0),
            "classes": [f"c{j}" for j in range(nodes.n_nodes_)],
            "image_shape": SHAPE,
            "start": 1,
        },
    )


def assert_decodes(tab, nodes, z):
    decoded = nodes.inverse_transform(z[None].astype(np.float32))[0]
    assert_shows(tab, PATHS, (SIDE + 1 / 18, 1 / 18, SIDE, SIDE), decoded)


def activations(nodes, z):
    """Equation 1."""
    omega = nodes.relevances_
    return omega.sum(1) / (omega.sum(1) + (omega * (z - nodes.centers_) ** 2).sum(1) + 1e-7)


def test_dimensions_go_off_by_relevance(tab, tmp_path, digits, nodes, relevances):
    show(tab, tmp_path, relevances)
    z, mean = nodes.centers_[1].copy(), nodes.transform(digits.X).mean(0)
    assert_decodes(tab, nodes, z)
    least = nodes.relevances_[1].argsort(kind="stable")
    for i in least[:2]:
        tab.get_by_role("button", name="off: least relevant").click()
        z[i] = mean[i]
        assert_decodes(tab, nodes, z)
    tab.get_by_role("button", name="off: most relevant").click()
    z[least[-1]] = mean[least[-1]]
    assert_decodes(tab, nodes, z)
    told = tab.locator(".note").inner_text()
    active = activations(nodes, z)
    assert (
        f"3 of 6 dimensions replaced by those of the mean code. Its activation is {active[1]:.3f}"
        in told
    )
    won = int(active.argmax())
    assert ("still the same" if won == 1 else f"node {won + 1}, of class c{won}") in told
    tab.get_by_label("replace by").select_option("0")
    z[[*least[:2], least[-1]]] = 0
    assert_decodes(tab, nodes, z)
    tab.get_by_role("button", name="all on").click()
    assert_decodes(tab, nodes, nodes.centers_[1])


def test_a_bar_is_a_switch_for_the_keyboard(tab, tmp_path, digits, nodes, relevances):
    show(tab, tmp_path, relevances)
    bar = tab.get_by_role("button", name=re.compile("^dimension 4,"))
    assert f"relevance {nodes.relevances_[1, 3]:.2f}" in bar.get_attribute("aria-label")
    bar.focus()
    press(tab, "Space")
    z = nodes.centers_[1].copy()
    z[3] = nodes.transform(digits.X).mean(0)[3]
    assert_decodes(tab, nodes, z)
    assert bar.get_attribute("aria-pressed") == "false"
    press(tab, "Space")  # the focus has stayed
    assert_decodes(tab, nodes, nodes.centers_[1])


def test_another_node_begins_with_all_dimensions_on(tab, tmp_path, nodes, relevances):
    show(tab, tmp_path, relevances)
    tab.get_by_role("button", name="off: one at random").click()
    tab.locator(MAP).focus()
    press(tab, "ArrowRight")
    assert "Node 3, of class c2; 0 of 6" in tab.locator(".note").inner_text()
    assert_decodes(tab, nodes, nodes.centers_[2])
    press(tab, "Shift+ArrowDown", 20)  # the last row may be short
    number = int(re.match(r"Node (\d+)", tab.locator(".note").inner_text())[1])
    assert number <= nodes.n_nodes_


def test_all_dimensions_off_is_the_mean_code(tab, tmp_path, digits, nodes, relevances):
    show(tab, tmp_path, relevances)
    for _ in range(8):  # two more than there are
        tab.get_by_role("button", name="off: one at random").click()
    assert_decodes(tab, nodes, nodes.transform(digits.X).mean(0))


# ---------------------------------------------------------------- 05: draw-digit


@pytest.fixture(scope="module")
def vae(digits):
    model = VAE(hidden=(32,), n_iter=300, batch_size=128, learning_rate=4e-3, random_state=0)
    return model.fit(digits.X)


@pytest.fixture
def drawing(digits, vae):
    few = digits.sample(100)
    return interactive.program(
        "draw-digit",
        {
            "encoder": interactive.encoder(vae),
            "decoder": interactive.decoder(vae),
            "codes": vae.transform(few.X),
            "labels": few.y,
            "examples": few.X[:3],
            "image_shape": SHAPE,
        },
    )


PAPER_CANVAS = "canvas.pad"
PICTURES = "canvas[aria-label^='Input']"
PLANE = "canvas[aria-label^='Latent']"


def told(tab):
    """Return mean and standard deviation of the posterior that the page names."""
    text = tab.locator(".note").inner_text().replace("−", "-")
    found = re.match(r"μ = \((\S+), (\S+)\), σ = \((\S+), (\S+)\)", text)
    return np.array(found.groups(), float).reshape(2, 2)


def assert_encodes(tab, vae, image):
    mean, sd = vae.posterior(image.reshape(1, -1).astype(np.float32))
    np.testing.assert_allclose(told(tab), [mean[0], sd[0]], atol=0.02)
    width = 300
    size = (width / 2 - 2) / width
    assert_shows(tab, PICTURES, (0, 1 / 14, size, size), image)
    assert_shows(tab, PICTURES, (0.5, 1 / 14, size, size), vae.inverse_transform(mean))


def test_a_test_image_is_encoded_and_decoded(tab, tmp_path, digits, vae, drawing):
    show(tab, tmp_path, drawing)
    few = digits.sample(100).X
    assert_encodes(tab, vae, few[0])
    before = canvas_pixels(tab, PLANE)
    tab.get_by_role("button", name="another test image").click()
    assert_encodes(tab, vae, few[1])
    assert (canvas_pixels(tab, PLANE) != before).any()


def shown_input(tab):
    size = (150 - 2) / 300
    return image_in(tab, PICTURES, (0, 1 / 14, size, size))


def draw(tab, *points):
    box = tab.locator(PAPER_CANVAS).bounding_box()
    at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    tab.mouse.move(*at[0])
    tab.mouse.down()
    for point in at[1:]:
        tab.mouse.move(*point)
    tab.mouse.up()


def test_a_drawing_is_made_as_mnist_s_images_are(tab, tmp_path, vae, drawing):
    show(tab, tmp_path, drawing)
    draw(tab, (0.1, 0.05), (0.1, 0.45))  # an upright line in a corner
    image = shown_input(tab)
    height = (image > 0.2).any(1).sum()
    assert height == pytest.approx(20 / 28 * 8, abs=1)  # fits the box, which is 5.7 pixels high
    assert (image > 0.2).any(0).sum() <= 2
    mass = [(image.sum(axis) @ (np.arange(8) + 0.5)) / image.sum() for axis in (0, 1)]
    np.testing.assert_allclose(mass, [4, 4], atol=0.1)
    assert_encodes(tab, vae, image)
    draw(tab, (0.7, 0.55), (0.7, 0.95))  # the same elsewhere: another stroke, so not the same image
    assert np.abs(shown_input(tab) - image).max() > 0.2
    tab.get_by_role("button", name="clear").click()
    assert "empty" in tab.locator(".note").inner_text()
    draw(tab, (0.8, 0.5), (0.8, 0.9))
    np.testing.assert_allclose(shown_input(tab), image, atol=0.02)


def test_the_keyboard_draws_too(tab, tmp_path, vae, drawing):
    show(tab, tmp_path, drawing)
    tab.locator(PAPER_CANVAS).focus()
    press(tab, "Delete")
    press(tab, "ArrowLeft", 3)  # the pen is lifted
    assert "empty" in tab.locator(".note").inner_text()
    press(tab, "Space")
    press(tab, "Shift+ArrowDown", 2)
    image = shown_input(tab)
    assert (image > 0.2).any(1).sum() >= 5
    assert_encodes(tab, vae, image)
    press(tab, "Space")
    press(tab, "ArrowRight", 4)
    np.testing.assert_array_equal(shown_input(tab), image)


@pytest.mark.parametrize("tab", [{"has_touch": True, "viewport": {"width": 320, "height": 700}}],
                         indirect=True)  # fmt: skip
def test_a_finger_draws_and_the_page_is_no_wider(tab, tmp_path, drawing):
    show(tab, tmp_path, drawing)
    before = shown_input(tab)
    box = tab.locator(PAPER_CANVAS).bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert np.abs(shown_input(tab) - before).max() > 0.1
    assert tab.evaluate("document.documentElement.scrollWidth") == 320


# ---------------------------------------------------------------- all three


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["walk", "relevances", "drawing"])
def test_axe_finds_no_violation(tab, tmp_path, request, name, theme):
    tab.emulate_media(color_scheme=theme)
    show(tab, tmp_path, request.getfixturevalue(name))
    assert violations(tab) == []


@pytest.mark.parametrize("tab", [{"viewport": {"width": 320, "height": 700}}], indirect=True)
@pytest.mark.parametrize("name", ["walk", "relevances"])
def test_pages_of_a_phone_are_no_wider(tab, tmp_path, request, name):
    show(tab, tmp_path, request.getfixturevalue(name))
    assert tab.evaluate("document.documentElement.scrollWidth") == 320
