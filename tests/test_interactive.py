"""Interactive pieces: what Python stores, what a page does with it, and what leaves a run."""

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from browser import PICTURE, canvas_pixels, in_page, pixels, show, violations
from matplotlib.figure import Figure
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from somlib import interactive, report
from somlib.companion import runner
from somlib.training.layers import ACTIVATIONS

WEB = resources.files("somlib.evaluation") / "web"
SCRIPTS = sorted(file.name for file in WEB.iterdir() if file.name.endswith(".js"))


def figure(level=0.5):
    fig = Figure(figsize=(4, 3))
    fig.subplots().bar([0, 1], [level, 1])
    return fig


def gray(*shape):
    """Return pictures that differ, of 8 × 12 pixels."""
    levels = np.linspace(0, 1, int(np.prod(shape))).reshape(*shape, 1, 1)
    return np.broadcast_to(levels, (*shape, 8, 12))


def two_sliders():
    return interactive.frames({"row": ["a", "b"], "column": [1, 2, 3]}, gray(2, 3))


def stored(piece):
    return json.loads(piece.data)


# ------------------------------------------------------------------ frames


def test_a_slider_chooses_the_picture(tab, tmp_path):
    levels = [0.2, 0.5, 0.9]
    pictures = [figure(level) for level in levels]
    piece = interactive.frames({"level": levels}, pictures, start={"level": 0.5})
    show(tab, tmp_path, piece, alt="Two bars")
    image, slider = tab.locator("img:visible"), tab.get_by_label("level")
    first = image.get_attribute("src")
    assert image.get_attribute("alt") == "Two bars Shown: level 0.5."
    slider.focus()
    tab.keyboard.press("ArrowRight")
    assert image.get_attribute("src") != first
    assert slider.get_attribute("aria-valuetext") == "0.9"
    tab.keyboard.press("ArrowLeft")
    assert image.get_attribute("src") == first
    assert np.allclose(image.bounding_box()["width"], 384)


def test_of_two_sliders_each_changes_its_own_value(tab, tmp_path):
    piece = two_sliders()
    pictures = stored(piece)["pictures"]
    show(tab, tmp_path, piece)
    image = tab.locator("img:visible")
    for row in range(2):
        for column in range(3):
            tab.get_by_label("row").fill(str(row))
            tab.get_by_label("column").fill(str(column))
            assert image.get_attribute("src") == pictures[3 * row + column]
    assert image.get_attribute("alt").endswith("Shown: row b, column 3.")


def test_frames_know_their_own_fallback():
    piece = interactive.frames({"n": [1, 2]}, [gray(1)[0], gray(2)[1]], start={"n": 2})
    start = stored(piece)["sliders"][0]["start"]
    assert stored(piece)["pictures"][start] == interactive.picture(gray(2)[1])
    assert interactive._address(piece.picture) == interactive.picture(gray(2)[1])


def test_figures_of_pyplot_are_closed():
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots()
    ax.plot([1, 2])
    interactive.frames({"n": [1]}, [fig])
    assert not plt.fignum_exists(fig.number)


@pytest.mark.parametrize(
    ("sliders", "pictures", "options", "message"),
    [
        ({}, [], {}, "one or two names"),
        ({"n": []}, [], {}, "one or two names"),
        ({"n": [1, 2]}, gray(3), {}, "3 pictures for 2 values of the slider 'n'"),
        ({"n": [1, 2], "m": [1, 2]}, gray(2, 3), {}, "3 pictures for 2 values of the slider 'm'"),
        ({"n": [1, 2]}, [gray(1)[0], np.ones((3, 3))], {}, "the sizes .*; expected one size"),
        ({"n": [1]}, [np.ones(3)], {}, r"a picture of shape \(3,\)"),
        ({"n": [1]}, [np.ones((2, 2), complex)], {}, "a picture of shape .*complex"),
        ({"n": [1, 2]}, gray(2), {"start": {"n": 3}}, r"start\['n'\]=3 is none of the values"),
    ],
)
def test_frames_that_do_not_fit_are_refused(sliders, pictures, options, message):
    with pytest.raises(ValueError, match=message):
        interactive.frames(sliders, pictures, **options)


# ------------------------------------------------------------------ data


KINDS = (
    *("bool", "uint8", "int8", "uint16", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
)


@pytest.mark.parametrize("n", [6, 600])  # the larger ones are compressed
def test_arrays_arrive_with_every_value(tab, n):
    for kind in KINDS:
        exact = [-2.5, 1e-7, 0, 0.5, 3.25, 1000] if kind[0] == "f" else [0, 1, 1, 0, 1, 0]
        array = np.resize(np.array(exact).astype(kind), (n // 3, 3))
        assert ("deflated" in interactive._packed(array, "a")) == (n == 600)
        shape, values = in_page(tab, "return [data.a.shape, [...data.a.data]];", {"a": array})
        assert shape == [n // 3, 3]
        np.testing.assert_array_equal(np.float32(values), np.float32(array.ravel()), kind)


@pytest.mark.parametrize(
    ("low", "high", "kind"),
    [
        (0, 255, "uint8"), (-1, 127, "int8"), (0, 256, "uint16"), (-1, 128, "int16"),
        (-1, 2**31 - 1, "int32"),
    ],
)  # fmt: skip
def test_whole_numbers_take_as_few_bytes_as_hold_them(low, high, kind):
    assert interactive._packed(np.array([low, high]), "a")["$array"] == kind


def test_what_is_no_array_arrives_as_it_is(tab):
    data = {"a": [1, 2.5, None, True], "b": {"c": "ü </script> <!--"}, "d": (np.float64(0.5),)}
    assert in_page(tab, "return data;", data) == json.loads(json.dumps(data, default=float))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [1, object()]}, r"data\['a'\]\[1\] = <object"),
        ({"a": float("nan")}, r"data\['a'\] = nan"),
        ({"a": {1, 2}}, r"data\['a'\] = \{1, 2\}"),
        ({"a": np.array([2**40])}, r"data\['a'\] has values from 1099511627776"),
        ({"a": np.array([object()])}, r"data\['a'\]\[0\] = <object"),
    ],
)
def test_data_that_no_page_can_hold_are_refused_by_their_place(value, message):
    with pytest.raises(ValueError, match=message):
        interactive.program("frames", value)


def test_a_program_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match=r"'walz' is not in .*'frames', 'latent-drag'"):
        interactive.program("walz", {})
    with pytest.raises(ValueError, match="'runtime' is not in"):
        interactive.program("runtime", {})


# ------------------------------------------------------------------ networks


def layers(rng, *activations):
    widths = rng.integers(70, 90, len(activations) + 1)  # large enough to be rounded
    return [
        (rng.normal(size=(a, b)) / np.sqrt(a), rng.normal(size=b), name)
        for a, b, name in zip(widths, widths[1:], activations, strict=False)
    ]


def applied(layers, x):
    import torch

    x = torch.tensor(x)
    for W, b, name in layers:
        x = ACTIVATIONS[name](x @ torch.tensor(W) + torch.tensor(b))
    return x.numpy()


@pytest.mark.parametrize(("precision", "tolerance"), [("int8", 0.05), ("float16", 2e-3)])
def test_a_network_computes_in_the_page_what_it_computes_here(tab, precision, tolerance):
    rng = np.random.default_rng(0)
    for activations in (("relu", "tanh", "linear"), ("relu", "sigmoid"), ("linear",)):
        dense = layers(rng, *activations)
        x = rng.normal(size=len(dense[0][0]))
        network = interactive.network(dense, precision)
        found = in_page(tab, "return [...data[0].run(data[1])];", [network, x.tolist()])
        np.testing.assert_allclose(found, applied(dense, x), atol=tolerance)


@pytest.mark.parametrize(("axis", "name"), [(0, "scale"), (1, "inputScale")])
def test_weights_that_have_been_rounded_stay_what_they_are(tab, axis, name):
    """Of a matrix (inputs, units), the scales may be those of its columns or of its rows."""
    rng = np.random.default_rng(0)
    whole = rng.integers(-126, 127, (70, 80))
    whole[:2], whole[:, :2] = 127, 127  # each row and column has its largest
    scale = rng.uniform(0.5, 2, 80 if axis == 0 else 70).astype(np.float32)
    weights = (whole * (scale if axis == 0 else scale[:, None])).astype(np.float32) / 1000
    network = interactive.network([(weights, np.zeros(80), "linear")])
    assert name in network.layers[0]
    x = rng.normal(size=70).astype(np.float32)
    found = in_page(tab, "return [...data[0].run(data[1])];", [network, x.tolist()])
    np.testing.assert_allclose(found, x @ weights, atol=1e-5)


def test_a_unit_without_weights_is_kept(tab):
    network = interactive.network([(np.zeros((3000, 2)), [0.5, -1.0], "relu")])
    assert network.layers[0]["weight"].dtype == np.int8
    assert in_page(tab, "return [...data.run(Array(3000).fill(1))];", network) == [0.5, 0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(np.ones((3, 2)), np.ones(3), "relu")], "layer 0 has weights of shape"),
        ([(np.ones((3, 2)), np.ones(2), "relu")] * 2, r"layer 1 has .*, 2 inputs"),
        ([(np.ones((3, 2)), np.ones(2), "gelu")], "activation='gelu' of layer 0 must be one of"),
    ],
)
def test_layers_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        interactive.network(given)


def test_random_numbers_depend_on_the_seed_alone_and_are_uniform(tab):
    code = "return [1, 1, 2].map((seed) => { const u = random(seed); \
            return [Array.from({length: 4000}, u), Array.from({length: 4000}, u.normal)]; });"
    (first, normal), again, other = in_page(tab, code)
    assert [first, normal] == again
    assert first != other[0]
    assert abs(np.mean(first) - 0.5) < 0.02
    assert abs(np.var(first) - 1 / 12) < 0.01
    assert abs(np.mean(normal)) < 0.06
    assert abs(np.std(normal) - 1) < 0.05


# ------------------------------------------------------------------ pages


@pytest.mark.parametrize("tab", [{"java_script_enabled": False}], indirect=True)
def test_without_a_script_the_picture_shows(tab, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(interactive.page(two_sliders().fragment(PICTURE, "Gray"), title="", caption=""))
    tab.goto(file.as_uri())
    assert tab.get_by_alt_text("Gray", exact=True).is_visible()


def test_in_print_the_picture_shows(tab, tmp_path):
    show(tab, tmp_path, two_sliders(), alt="Gray")
    fallback = tab.locator("[data-somlib] > img")
    assert not fallback.is_visible()
    tab.emulate_media(media="print")
    assert fallback.is_visible()
    assert not tab.get_by_label("column").is_visible()


def test_where_a_program_fails_the_picture_shows(tab, tmp_path):
    show(tab, tmp_path, interactive.program("frames", {"sliders": None}), alt="Gray")
    assert tab.get_by_alt_text("Gray", exact=True).is_visible()
    (problem,) = tab.problems
    assert "null" in problem
    tab.problems.clear()


def test_pieces_on_one_page_keep_to_themselves(tab, tmp_path):
    other = interactive.frames({"n": [1, 2]}, gray(2))
    show(tab, tmp_path, two_sliders(), other, other)
    first, second = tab.get_by_label("n", exact=True).all()
    first.fill("1")
    assert [first.input_value(), second.input_value()] == ["1", "0"]
    assert tab.get_by_label("column").input_value() == "0"


LIKE_JUPYTERLAB = """(fragment) => {
    const output = document.createElement("div");
    document.body.append(output);
    output.innerHTML = fragment;
    for (const script of [...output.querySelectorAll("script")]) {
        const again = document.createElement("script");
        for (const {name, value} of script.attributes) again.setAttribute(name, value);
        again.textContent = script.textContent;
        script.replaceWith(again);
    }
}"""


def test_it_runs_where_scripts_are_put_into_the_page_later(tab, tmp_path):
    show(tab, tmp_path)
    tab.evaluate(LIKE_JUPYTERLAB, two_sliders().fragment(PICTURE, "Gray"))
    tab.get_by_label("column").fill("2")
    assert "column 3" in tab.locator("img:visible").get_attribute("alt")


def test_keys_stay_in_the_piece_except_those_that_lead_out(tab, tmp_path):
    show(tab, tmp_path, two_sliders())
    listen = "() => { window.heard = []; addEventListener('keydown', (e) => heard.push(e.key)); }"
    tab.evaluate(listen)
    tab.get_by_label("column").focus()
    for key in ("ArrowRight", "Home", "a", "Escape", "Tab"):
        tab.keyboard.press(key)
    assert tab.evaluate("heard") == ["Escape", "Tab"]
    assert tab.locator("[data-somlib]").get_attribute("data-lm-suppress-shortcuts") == "true"


def test_the_theme_is_that_of_the_page_and_follows_it(tab, tmp_path):
    show(tab, tmp_path, two_sliders())
    stage = tab.locator(".stage")
    assert stage.get_attribute("data-theme") == "light"
    tab.emulate_media(color_scheme="dark")  # the page's own colors follow
    tab.locator(".stage[data-theme=dark]").wait_for()
    tab.emulate_media(color_scheme="light")
    tab.locator(".stage[data-theme=light]").wait_for()
    tab.evaluate("document.body.style.color = '#eee'")  # as a theme of a book does
    tab.locator(".stage[data-theme=dark]").wait_for()


@pytest.mark.parametrize("tab", [{"viewport": {"width": 320, "height": 600}}], indirect=True)
def test_a_narrow_page_needs_no_scrolling_sideways(tab, tmp_path):
    show(tab, tmp_path, interactive.frames({"level": [0.2, 0.9]}, [figure(0.2), figure(0.9)]))
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    assert pixels(tab, ".stage img").std() > 10


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(tab, tmp_path, theme):
    tab.emulate_media(color_scheme=theme)
    show(tab, tmp_path, two_sliders(), alt="Gray")
    assert violations(tab) == []


# ------------------------------------------------------------------ files


def test_scripts_are_small_and_need_nothing_else():
    assert len(interactive._source("runtime.js")) < 15_000
    for name in SCRIPTS:
        text = (WEB / name).read_text(encoding="utf-8")
        text = text.replace("http://www.w3.org/2000/svg", "")  # a name that is never asked for
        assert not re.search(r"https?:|</script|\beval\(|new Function|localStorage", text), name
        for literal in re.findall("`[^`]*`", text):  # comments are taken out line by line
            assert not re.search(r"^\s*//", literal, flags=re.M), literal
        assert max(map(len, text.splitlines())) <= 100, name


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "runtime.js"])
def test_a_program_registers_itself_and_documents_its_data(name):
    text = (WEB / name).read_text(encoding="utf-8")
    assert f'somlib.programs["{name[:-3]}"] = ' in text
    assert text.startswith("// ")
    assert "data." in text.partition("\n\n")[0] + text.partition("\n\n")[2].partition("\n\n")[0]


def test_the_program_in_contributing_runs(tab, tmp_path, monkeypatch):
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```js\n(.*?)```", text, flags=re.S)
    files = interactive._source
    monkeypatch.setattr(
        interactive, "_source", lambda name: program if name == "levels.js" else files(name)
    )
    data = interactive._packed({"levels": np.array([0.1, 0.9])}, "data")
    show(tab, tmp_path, interactive.Piece("levels", interactive._json(data)))
    low = (canvas_pixels(tab, "canvas")[:, :, 3] > 0).mean()
    tab.get_by_label("level", exact=True).fill("1")
    high = (canvas_pixels(tab, "canvas")[:, :, 3] > 0).mean()
    assert [low, high] == pytest.approx([0.1, 0.9], abs=0.01)


def test_equal_content_gives_equal_bytes():
    one, other = (two_sliders().fragment(PICTURE, "Gray") for _ in range(2))
    assert one == other
    assert one != two_sliders().fragment(PICTURE, "Other words")


def test_a_text_ends_neither_script_nor_attribute():
    piece = interactive.frames({"</script><b>": ["<!--"]}, gray(1))
    text = piece.fragment(PICTURE, 'a "quoted" <text>')
    assert text.count("</script>") == 2
    assert "<b>" not in text
    assert 'alt="a &quot;quoted&quot; &lt;text&gt;"' in text


# ------------------------------------------------------------------ a run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    return report.start("01_som", profile="quick", device="cpu", seeds=1)


def save(run, piece=None, name="som-levels", **texts):
    given = {"caption": "Move it.", "alt": "A gray picture"} | texts
    return run.save_interactive(piece or two_sliders(), name, **given)


def test_a_piece_leaves_a_page_a_picture_and_a_record(run, tab):
    path = save(run)
    record = json.loads(path.with_suffix(".json").read_text())
    assert (record["kind"], record["id"], record["alt"]) == (
        *("interactive", "som-levels", "A gray picture"),
    )
    assert path.with_suffix(".png").read_bytes() == two_sliders().picture
    index = report.index(run.figures).read_text()
    assert "![A gray picture](som-levels.png)" in index
    assert "`som-levels.html`" in index
    tab.goto(path.as_uri())
    assert tab.get_by_text("Move it.").is_visible()
    tab.get_by_label("column").fill("1")
    first = path.read_bytes()
    assert save(run).read_bytes() == first


def test_a_figure_given_as_fallback_is_shown_instead(run):
    path = save(run, fallback=figure())
    picture = path.with_suffix(".png").read_bytes()
    assert picture != two_sliders().picture
    assert interactive._address(picture) in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alt": " "}, "interactive 'som-levels' needs alt"),
        ({"caption": ""}, "interactive 'som-levels' needs caption"),
        ({"name": "Som"}, "interactive id 'Som' must be lower-case"),
        ({"piece": interactive.program("frames", {})}, "interactive 'som-levels' needs fallback"),
    ],
)
def test_a_piece_without_texts_or_fallback_is_refused_by_name(run, change, message):
    with pytest.raises(ValueError, match=message):
        save(run, **change)
    assert not list(run.figures.parent.rglob("som-levels*"))


def test_a_piece_that_is_too_large_is_refused_by_name_and_size(run):
    noise = np.random.default_rng(0).integers(0, 256, 1_300_000)
    piece = interactive.program("frames", {"noise": noise})
    with pytest.raises(ValueError, match=r"'som-levels': .* takes 17\d{5} bytes; .* 1500000"):
        save(run, piece, fallback=figure())
    assert not list(run.figures.parent.rglob("som-levels*"))


def test_an_id_of_a_figure_is_taken(run):
    run.save_figure(figure(), "som-levels", caption="Bars.", alt="Two bars")
    with pytest.raises(ValueError, match="'som-levels' of 01_som is taken by the figure"):
        save(run)


SHOWN = """\
import numpy as np
from somlib import interactive, report
run = report.start("01_toy", profile="quick", device="cpu", seeds=1)
piece = interactive.frames({"n": [1, 2]}, np.zeros((2, 8, 8)))
run.save_interactive(piece, "toy-frames", caption="Black.", alt="A black square");"""


def test_a_notebook_shows_the_piece_and_its_caption(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    notebook = new_notebook(cells=[new_code_cell(SHOWN)])
    NotebookClient(
        notebook, kernel_name="python3", kernel_manager_class=runner.own_kernel()
    ).execute()
    piece, caption = notebook.cells[0].outputs
    assert piece.data["text/html"].startswith('<div class="somlib-piece"')
    assert piece.data["text/plain"] == "A black square"
    assert caption.data["text/markdown"] == "**toy-frames.** Black."
