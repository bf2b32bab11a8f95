"""The piece in which a point is dragged over a latent space, in Chromium."""

import re

import numpy as np
import pytest
from browser import canvas_pixels, in_page, settle, show, violations

from somlib import SOAE, Autoencoder, Euclidean, Sphere, Torus, data, interactive, load_pretrained
from somlib.models import pretrained

DIGITS = data.load("digits").sample(150)
SPACES = {"plane": Euclidean(2), "torus": Torus(2), "sphere": Sphere(3)}
PAD, IMAGE = "canvas.pad", "canvas.decoded"
INK = np.array([27, 31, 36])  # of the light theme, on white


@pytest.fixture(scope="module")
def models():
    settings = {"hidden": (32,), "batch_size": 50, "learning_rate": 4e-3, "random_state": 0}
    return {
        name: SOAE(space, training="joint", n_iter=60, **settings).fit(DIGITS.X)
        for name, space in SPACES.items()
    }


@pytest.fixture(scope="module")
def piece(models):
    return interactive.latent_drag(models, DIGITS.X, DIGITS.y, DIGITS.image_shape)


def code(tab):
    """Return the code that the page shows."""
    text = tab.locator(".where").text_content().replace("−", "-")
    return np.array([float(number) for number in re.findall(r"-?\d+\.\d+", text)])


def decoded(tab):
    """Return the decoded image, read off its canvas: 0 for paper, 1 for ink."""
    drawn = canvas_pixels(tab, IMAGE)[:, :, :3].astype(float)
    h, w = DIGITS.image_shape
    rows, cols = (
        (np.arange(n) + 0.5) * size / n for n, size in ((h, len(drawn)), (w, drawn.shape[1]))
    )
    middle = drawn[np.ix_(rows.astype(int), cols.astype(int))]
    return ((255 - middle) / (255 - INK)).mean(-1)


def neighbors(tab):
    return re.findall(r"\d+", tab.locator(".nearest").text_content())


def drag(tab, *places):
    """Press at the first place in [0, 1]² of the chart, and move to the others."""
    tab.locator(PAD).scroll_into_view_if_needed()
    box = tab.locator(PAD).bounding_box()
    for i, (x, y) in enumerate(places):
        tab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if i == 0:
            tab.mouse.down()
    tab.mouse.up()
    settle(tab)


@pytest.mark.parametrize("name", SPACES)
def test_what_is_decoded_and_near_is_what_python_finds(tab, tmp_path, models, piece, name):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option(name)
    before = decoded(tab)
    drag(tab, (0.3, 0.3), (0.4, 0.7), (0.62, 0.37))
    z, space = code(tab)[None], models[name].space_
    expected = models[name].inverse_transform(z)[0].reshape(DIGITS.image_shape)
    np.testing.assert_allclose(decoded(tab), expected.clip(0, 1), atol=0.02)
    assert abs(decoded(tab) - before).max() > 0.05
    distances = space.distance(models[name].transform(DIGITS.X).astype(float), z)
    by_distance = np.sort(distances)
    found = [distances[DIGITS.y == int(label)].min() for label in neighbors(tab)]
    assert len(found) == 5
    assert found[0] <= by_distance[0] + 0.02  # the page shows two digits of z
    shown = sorted(map(int, neighbors(tab)))
    near = sorted(DIGITS.y[distances <= by_distance[4] + 0.02].tolist())
    assert not set(shown) - set(near)


@pytest.mark.parametrize("name", [n for n in pretrained.names() if n.startswith("soae-")])
def test_a_shipped_model_decodes_in_the_page_what_it_decodes_here(tab, name):
    model = load_pretrained(name)
    z = model.space_.sample(20, np.random.default_rng(0))
    code = "return data[1].map((code) => [...data[0].run(code)]);"
    found = in_page(tab, code, [interactive.decoder(model), model.space.embed(z).tolist()])
    np.testing.assert_allclose(found, model.inverse_transform(z), atol=0.02)


@pytest.mark.parametrize("name", SPACES)
def test_the_chart_shows_each_sample_where_it_is(tab, tmp_path, models, piece, name):
    """The piece starts at the code of the first sample, which is then the nearest."""
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option(name)
    expected = models[name].transform(DIGITS.X)[0]
    np.testing.assert_allclose(code(tab), expected, atol=0.006)
    assert neighbors(tab)[0] == str(DIGITS.y[0])


def test_on_the_torus_one_leaves_by_an_edge_and_comes_in_by_the_other(tab, tmp_path, piece):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option("torus")
    drag(tab, (0.5, 0.999))
    assert code(tab)[0] > 3.1
    tab.keyboard.press("ArrowDown")
    assert code(tab)[0] < -3.0
    drag(tab, (0.5, 0.5), (1.25, 0.5))  # a quarter beyond the right edge
    np.testing.assert_allclose(code(tab), [0, -np.pi / 2], atol=0.05)


def test_over_a_pole_of_the_sphere_one_comes_down_on_the_other_side(tab, tmp_path, piece):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option("sphere")
    drag(tab, (0.5, 0.005))
    before = code(tab)
    tab.keyboard.press("ArrowUp")
    np.testing.assert_allclose(code(tab)[2], 1, atol=0.01)
    tab.keyboard.press("ArrowUp")
    tab.keyboard.press("ArrowUp")
    assert np.sign(code(tab)[0]) == -np.sign(before[0])


def test_the_plane_ends_at_its_edges(tab, tmp_path, models, piece):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option("plane")
    drag(tab, (0.5, 0.5), (1.4, 1.4))
    corner = code(tab)
    assert (corner >= models["plane"].transform(DIGITS.X).max(0) - 0.01).all()
    tab.keyboard.press("Shift+ArrowRight")
    np.testing.assert_array_equal(code(tab), corner)


def test_keys_move_in_steps_and_are_told(tab, tmp_path, piece):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option("torus")
    drag(tab, (0.5, 0.5))
    start = code(tab)
    tab.keyboard.press("ArrowRight")
    small = code(tab) - start
    tab.keyboard.press("Shift+ArrowRight")
    np.testing.assert_allclose(small, [0, 2 * np.pi / 100], atol=0.011)
    np.testing.assert_allclose(code(tab) - start, 6 * small, atol=0.05)
    told = tab.locator("[aria-live]")
    tab.wait_for_function("(e) => e.textContent.includes('Nearest')", arg=told.element_handle())
    assert tab.locator(".where").text_content() in told.text_content()


def test_the_background_can_be_the_decoded_sheet(tab, tmp_path, piece):
    show(tab, tmp_path, piece)
    before = canvas_pixels(tab, PAD)
    tab.get_by_label("chart shows").select_option("decoded images")
    assert (canvas_pixels(tab, PAD) != before).mean() > 0.2


PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "device_scale_factor": 2}


@pytest.mark.parametrize("tab", [PHONE], indirect=True)
def test_a_finger_moves_the_point_on_a_narrow_screen(tab, tmp_path, piece):
    show(tab, tmp_path, piece)
    tab.get_by_label("space", exact=True).select_option("torus")
    tab.locator(PAD).scroll_into_view_if_needed()
    box = tab.locator(PAD).bounding_box()
    tab.touchscreen.tap(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    np.testing.assert_allclose(code(tab), [0, -np.pi / 2], atol=0.1)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(tab, tmp_path, piece, theme):
    tab.emulate_media(color_scheme=theme)
    show(tab, tmp_path, piece)
    assert violations(tab) == []


def test_a_single_space_is_not_offered_as_a_choice(tab, tmp_path, models):
    only = {"torus": models["torus"]}
    show(tab, tmp_path, interactive.latent_drag(only, DIGITS.X, DIGITS.y, DIGITS.image_shape))
    assert tab.get_by_label("space", exact=True).count() == 0
    assert tab.locator(PAD).is_visible()


def test_models_that_no_chart_can_show_are_refused():
    wide = Autoencoder(hidden=(8,), latent_dim=3, n_iter=1, batch_size=50).fit(DIGITS.X)
    conv = Autoencoder((4,), latent_dim=2, architecture="conv", n_iter=1, batch_size=50).fit(
        DIGITS.X
    )
    for model, message in ((wide, "has 3 dimensions"), (conv, "has convolutions")):
        with pytest.raises(ValueError, match=message):
            interactive.latent_drag({"it": model}, DIGITS.X, DIGITS.y, DIGITS.image_shape)


def test_images_and_classes_must_fit(models):
    for y, shape, message in (
        (DIGITS.y[:-1], (8, 8), "y has 149 labels for 150 samples"),
        (DIGITS.y, (8, 9), r"image_shape=\(8, 9\) does not fit 64 features"),
    ):
        with pytest.raises(ValueError, match=message):
            interactive.latent_drag(models, DIGITS.X, y, shape)


def test_of_a_bernoulli_model_probabilities_are_decoded():
    from somlib import VAE

    settings = {"likelihood": "bernoulli", "n_iter": 1, "batch_size": 50}
    vae = VAE(hidden=(8,), latent_dim=2, **settings).fit(DIGITS.X)
    assert [layer["activation"] for layer in interactive.decoder(vae).layers] == ["relu", "sigmoid"]
    assert [len(layer["bias"]) for layer in interactive.encoder(vae).layers] == [8, 4]
