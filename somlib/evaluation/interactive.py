"""Interactive pieces: figures that a reader changes in the page, without a kernel.

`frames` shows precomputed pictures over one or two sliders; `program` runs a script of the folder
`web` on data of its own, such as a small network. `Run.save_interactive` saves and shows either.

A piece becomes one fragment of HTML that asks for nothing from outside. It holds a picture with a
text, which shows where no script runs and in print, the data, and the script. It works in the
output of JupyterLab, on a page of nbconvert and in a book, several times on one page: the script
finds its own element by a digest of program and data, draws into a shadow tree, which page styles
do not reach, and takes light or dark colors from the color of the text around it.

A program is a file `web/NAME.js` that registers one function:

    somlib.programs["NAME"] = (root, data, tools) => { root.append(...); };

`root` is the element to fill, `data` what `program` was given: an array has become `{shape, data}`
with a typed array of its elements in C order, a network `{layers, run}`, where
`run(numbers)` returns a Float32Array. `tools` (see `web/runtime.js`) makes what pieces have in
common:

    tools.make(tag, attributes, ...children)       an element; `onclick: f` adds a listener
    tools.slider({label, values | min, max, step, value, format, change})
                                                   {element, input, set(value), value}
    tools.button({label, click})                   an element, as the next two
    tools.select({label, options, value, change})
    tools.checkbox({label, value, change})
    tools.canvas({label, width, aspect, draw})     {element, redraw()}; draw(context, width, height)
    tools.pad({..., help, move, nudge})            a canvas to drag on: move(x, y) in [0, 1]²,
                                                   nudge(dx, dy) for arrow keys; and {help}, a text
    tools.sheet({label, help, images, shape, columns, picked, pick, mark})
                                                   a pad of images to choose from
    tools.image(context, pixels, [rows, cols], x, y, width, height)
    tools.rowsOf(array)                            a list of the rows of an array of two axes
    tools.loop(step)                               {start(), stop(), running}
    tools.random(seed)                             uniform(), uniform.normal()
    tools.say(text)                                for readers who do not see the picture
    tools.colors, tools.theme                      ink, paper, raised, muted, line, accent, mark;
                                                   "light" or "dark". Read them in `draw`, which is
                                                   called again when the theme changes
    tools.classColor(i), tools.cividis(t), tools.blend(from, to, t)
    tools.alt                                      the text of the fallback picture
"""

import base64
import html
import io
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import resources
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from somlib import checks

Array = NDArray[Any]

LIMIT = 1_500_000
"""Maximal size of a piece in bytes, with its picture and script."""

_DPI = 144  # of pictures: three pixels for two of the page, which is sharp on most screens
_PAGE_DPI = 96  # of a page, by definition of its unit
_SMALL = 320  # pixels; narrower pictures are enlarged
_WHOLE = ("uint8", "int8", "uint16", "int16", "int32")
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body {{ max-width: 60rem; margin: 1rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, \
sans-serif }}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{fragment}
<p>{caption}</p>
</main>
</body>
</html>
"""


@dataclass(frozen=True, eq=False)
class Piece:
    """An interactive piece; see `frames` and `program`.

    Attributes
    ----------
    program : str
        The script that runs it.
    data : str
        What the script is given, in JSON.
    picture : bytes, optional
        A PNG that shows where no script runs; by default `Run.save_interactive` is given a figure.
    table : str
        HTML that shows below the picture, where no script runs.
    """

    program: str
    data: str = field(repr=False)
    picture: bytes | None = field(default=None, repr=False)
    table: str = field(default="", repr=False)

    def fragment(self, picture: bytes, alt: str) -> str:
        """Return the piece as a fragment of HTML.

        Parameters
        ----------
        picture : bytes
            A PNG that shows where no script runs, and in print.
        alt : str
            What it shows, for readers who do not see it.

        Raises
        ------
        ValueError
            When it is larger than `LIMIT`.
        """
        with Image.open(io.BytesIO(picture)) as image:
            width = image.width * 2 // 3  # as of a picture of _DPI
        digest = sha256(f"{self.program} {self.data}".encode()).hexdigest()[:16]
        # a block, so that the program may use any name
        script = f"{_source('runtime.js')}\n{{\n{_source(self.program + '.js')}}}"
        call = (
            f"somlib.start({_json(digest)}, {_json(self.program)}, {_json(_source('piece.css'))})"
        )
        text = (
            f'<div class="somlib-piece" data-somlib="{digest}" data-lm-suppress-shortcuts="true">\n'
            f'<img src="{_address(picture)}" alt="{html.escape(alt)}" width="{width}" '
            f'style="max-width:100%;height:auto">\n{self.table}'
            f'<script type="application/json">{self.data}</script>\n'
            f'<script>(() => {{\n"use strict";\n{script}\n{call};\n}})();</script>\n'
            "</div>"
        )
        if (size := len(text.encode())) > LIMIT:
            raise ValueError(
                f"an interactive piece {self.program!r} takes {size} bytes; expected at most "
                f"{LIMIT}. Store fewer pictures or samples, or smaller ones"
            )
        return text


def page(fragment: str, *, title: str, caption: str) -> str:
    """Return a page of its own for a fragment of `Piece.fragment`."""
    title, caption = html.escape(title), html.escape(caption)
    return _PAGE.format(title=title, caption=caption, fragment=fragment)


# ---------------------------------------------------------------- the two kinds


def frames(
    sliders: Mapping[str, Sequence[Any]],
    pictures: Iterable[Any],
    *,
    start: Mapping[str, Any] | None = None,
) -> Piece:
    """Return a piece that shows one of many pictures, chosen by one or two sliders.

    Parameters
    ----------
    sliders : mapping of str to sequence
        Label and values of each slider; floats are shown with the digits of `f"{value:g}"`.
    pictures : nested sequence or array
        A picture for each value; for two sliders a sequence of them for each value of the first.
        A picture is a figure, or an array of shape (rows, cols) or (rows, cols, 3) with values in
        [0, 1] or bytes, 0 for black. All have the same size. Figures of pyplot are closed, so that
        the notebook does not show them as well.
    start : mapping of str to value, optional
        The value that each slider shows first; by default its first value. The picture there also
        shows where no script runs.

    Returns
    -------
    Piece

    Raises
    ------
    ValueError
        When there are no sliders or more than two, not one picture for each position, or pictures
        of different sizes.

    Examples
    --------
    >>> ramps = [np.linspace(0, top, 12).reshape(3, 4) for top in (0.5, 1.0)]
    >>> frames({"top": [0.5, 1.0]}, ramps).program
    'frames'
    """
    values = {name: list(each) for name, each in sliders.items()}
    if not 1 <= len(values) <= 2 or not all(values.values()):
        raise ValueError(f"sliders={sliders!r} must be one or two names, each with its values")
    stored = [_picture(each) for each in _in_a_row(values, pictures)]
    sizes = sorted({size for _, size in stored})
    if len(sizes) > 1:
        raise ValueError(f"pictures have the sizes {sizes} in pixels; expected one size of all")
    where = [_place(name, each, (start or {}).get(name, each[0])) for name, each in values.items()]
    data = {
        "sliders": [
            {"name": name, "values": list(map(_shown, each)), "start": at}
            for (name, each), at in zip(values.items(), where, strict=True)
        ],
        "pictures": [_address(png) for png, _ in stored],
        **_size(sizes[0][0]),
    }
    at = where[0] if len(where) == 1 else where[0] * len(list(values.values())[1]) + where[1]
    return Piece("frames", _json(data), stored[at][0])


def program(name: str, data: Mapping[str, Any], *, table: pd.DataFrame | None = None) -> Piece:
    """Return a piece that runs a script of the folder `web`.

    Parameters
    ----------
    name : str
        Name of the script, such as "frames"; an error lists all.
    data : mapping
        What the script needs: numbers, texts, lists, mappings, arrays, and networks made by
        `network`, `encoder` or `decoder`. Whole numbers are stored with as few bytes as hold them,
        other numbers as float32, or as float16 if the array is of that type.
    table : DataFrame, optional
        Shown below the fallback picture, where no script runs and in print.

    Returns
    -------
    Piece

    Raises
    ------
    ValueError
        When there is no such script, or data of another type.

    Examples
    --------
    >>> program("frames", {"a": np.arange(3)}).data
    '{"a": {"$array": "uint8", "shape": [3], "base64": "AAEC"}}'
    """
    known = sorted(p.name[:-3] for p in _WEB.iterdir() if p.name.endswith(".js"))
    known.remove("runtime")
    if name not in known:
        raise ValueError(f"program {name!r} is not in somlib/evaluation/web; there are {known}")
    plain = "" if table is None else table.to_html(index=False, border=0, na_rep="–")
    below = f'<div style="overflow-x:auto">\n{plain}\n</div>\n' if plain else ""
    return Piece(name, _json(_packed(data, "data")), table=below)


def latent_drag(
    models: Mapping[str, Any],
    X: ArrayLike,
    y: ArrayLike,
    image_shape: tuple[int, int],
    *,
    n_nearest: int = 5,
    precision: Literal["int8", "float16"] = "int8",
) -> Piece:
    """Return a piece in which a point is dragged over latent spaces, and its image decoded.

    Beside the decoded image stand the samples whose codes are nearest, by the distance of the
    space. On the torus the point leaves by one edge of the chart and comes in by the opposite one;
    the sphere is shown as a map of longitude and colatitude. A circle of constant distance around
    the point shows what the chart distorts.

    Parameters
    ----------
    models : mapping of str to fitted autoencoder
        What the reader chooses a latent space by, and a model with dense layers and a latent space
        of two dimensions: `Torus(2)`, `Sphere(3)`, or a plane, of which the box around the codes is
        shown.
    X : array of shape (n, d)
        Images with values in [0, 1], the same for all models; some hundreds are enough.
    y : array-like of shape (n,)
        Their classes.
    image_shape : (int, int)
    n_nearest : int, default=5
        How many of the nearest images are shown.
    precision : {"int8", "float16"}, default="int8"
        See `network`.

    Returns
    -------
    Piece

    Raises
    ------
    ValueError
        When a model has no latent space of two dimensions, or layers other than dense ones, or X,
        y and `image_shape` do not fit each other.

    Examples
    --------
    >>> from somlib import Autoencoder, data
    >>> digits = data.load("digits").sample(200)
    >>> model = Autoencoder(hidden=(16,), latent_dim=2, n_iter=20).fit(digits.X)
    >>> latent_drag({"plane": model}, digits.X, digits.y, digits.image_shape).program
    'latent-drag'
    """
    from somlib import arrays

    images = arrays.samples(X, "X", least=n_nearest)
    names, classes = arrays.labels(y, "y", len(images))
    if np.prod(image_shape) != images.shape[1]:
        raise ValueError(f"image_shape={image_shape!r} does not fit {images.shape[1]} features")
    data = {
        "maps": [_chart(name, model, X, precision) for name, model in models.items()],
        "samples": _bytes_of(images),
        "labels": list(map(str, names[classes])),
        "classes": list(map(str, names)),
        "image": image_shape,
        "nearest": n_nearest,
    }
    return program("latent-drag", data)


def _chart(name: str, model: Any, X: ArrayLike, precision: Any) -> dict[str, Any]:
    """Return an entry of the maps of `web/latent-drag.js`."""
    codes = model.transform(X).astype(np.float32)
    space = getattr(model, "space_", None)
    if (dimensions := getattr(space, "dimension", codes.shape[1])) != 2:
        raise ValueError(
            f"the latent space of {name!r} has {dimensions} dimensions; a chart shows two: "
            "Torus(2), Sphere(3), Euclidean(2) or latent_dim=2"
        )
    kind = {"Torus": "torus", "Sphere": "sphere"}.get(type(space).__name__, "plane")
    margin = 0.05 * np.ptp(codes, 0)
    box = {"low": codes.min(0) - margin, "high": codes.max(0) + margin}
    return {
        "name": name,
        "space": kind,
        "decoder": decoder(model, precision),
        "codes": codes,
        **({key: edge.tolist() for key, edge in box.items()} if kind == "plane" else {}),
    }


# ---------------------------------------------------------------- networks


@dataclass(frozen=True, eq=False)
class Network:
    """Dense layers to be run in a page; see `network`."""

    layers: list[dict[str, Any]] = field(repr=False)


def network(
    layers: Iterable[tuple[ArrayLike, ArrayLike, str]],
    precision: Literal["int8", "float16"] = "int8",
) -> Network:
    """Return a network that `program` can store.

    Parameters
    ----------
    layers : iterable of (W, b, activation)
        Weights of shape (inputs, units) and biases of shape (units,) of each layer, which returns
        activation(x W + b), where activation is "linear", "relu", "sigmoid" or "tanh".
    precision : {"int8", "float16"}, default="int8"
        How weights are stored: as multiples of 1/127 of the largest weight of each unit, or as
        half-precision numbers, which take twice the space. Biases are float32.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        When a shape does not fit the layer before, or a name is none of the above.

    Examples
    --------
    >>> network([(np.eye(2), np.zeros(2), "relu")]).layers[0]["activation"]
    'relu'
    """
    from somlib.training.layers import ACTIVATIONS  # with PyTorch, which takes seconds to import

    checks.require("precision", precision, Literal["int8", "float16"])
    stored: list[dict[str, Any]] = []
    width: int | None = None
    for number, (weight, bias, activation) in enumerate(layers):
        W, b = np.asarray(weight, np.float32), np.asarray(bias, np.float32).ravel()
        if W.ndim != 2 or b.shape != W.shape[1:] or width not in (None, len(W)):
            raise ValueError(
                f"layer {number} has weights of shape {W.shape} and biases of shape {b.shape}; "
                f"expected (inputs, units) and (units,)" + (f", {width} inputs" if width else "")
            )
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={activation!r} of layer {number} must be one of {list(ACTIVATIONS)}"
            )
        width = W.shape[1]
        stored.append(_quantized(W.T, precision) | {"bias": b, "activation": activation})
    return Network(stored)


def _quantized(rows: NDArray[np.float32], precision: str) -> dict[str, Any]:
    """Return the weights of each unit, (units, inputs), and what to multiply them by."""
    if precision == "float16":
        return {"weight": rows.astype(np.float16)}
    largest = np.abs(rows).max(1)
    scale = np.where(largest > 0, largest, 1) / 127
    return {"weight": np.rint(rows / scale[:, None]).astype(np.int8), "scale": scale}


def encoder(model: Any, precision: Literal["int8", "float16"] = "int8") -> Network:
    """Return the encoder of a fitted autoencoder with dense layers; see `network`.

    Its output is what the model's encoder gives: on torus and sphere the numbers from which
    `space.project` makes a point, of a VAE means and log-variances.
    """
    layers = _dense(model, "encoder")
    shift, scale = _scaling(model)
    weight, bias, activation = layers[0]
    layers[0] = (weight / scale, bias - (shift / scale * weight).sum(0), activation)
    return network(layers, precision)


def decoder(model: Any, precision: Literal["int8", "float16"] = "int8") -> Network:
    """Return the decoder of a fitted autoencoder with dense layers; see `network`.

    Its input is an embedding: on torus and sphere `space.embed(z)`. Its output is a sample, of
    a Bernoulli model the probabilities.
    """
    layers = _dense(model, "decoder")
    shift, scale = _scaling(model)
    weight, bias, activation = layers[-1]
    layers[-1] = (weight * scale, bias * scale + shift, activation)
    if model._bernoulli:  # it is trained on logits
        layers[-1] = (*layers[-1][:2], "sigmoid")
    return network(layers, precision)


def _scaling(model: Any) -> tuple[Array, Array]:
    """Return what is subtracted from samples, and what divides them, before the first layer."""
    parameters = model.parameters_  # of DC-SOMRL; other models have neither
    return parameters.get("shift", np.zeros((1, 1))), parameters.get("scale", np.ones((1, 1)))


def _dense(model: Any, part: str) -> list[tuple[Array, Array, str]]:
    import torch

    from somlib.training.layers import MLP, TiedDecoder

    module = getattr(model._network(torch.device("cpu")), part)
    pairs: list[tuple[Any, Any]]
    if isinstance(module, MLP):
        pairs = [(layer.weight, layer.bias) for layer in module.layers]
    elif isinstance(module, TiedDecoder):
        pairs = list(zip(module._weights(), module.biases, strict=True))
    else:
        raise ValueError(
            f"the {part} of {model!r} has convolutions; a page runs dense layers only: use a model "
            "with architecture='mlp'"
        )
    names = [module.hidden_activation] * (len(pairs) - 1) + [module.output]
    return [
        (W.numpy(force=True), b.numpy(force=True), name)
        for (W, b), name in zip(pairs, names, strict=True)
    ]


# ---------------------------------------------------------------- pictures


def picture(image: Figure | ArrayLike) -> str:
    """Return a picture as an address that a page can show: `data:image/png;base64,...`.

    Parameters
    ----------
    image : figure or array
        As a picture of `frames`.
    """
    return _address(_picture(image)[0])


def close(fig: Figure) -> None:
    """Close a figure of pyplot, which would otherwise be shown at the end of the cell."""
    if getattr(fig.canvas, "manager", None) is not None:
        import matplotlib.pyplot as plt

        plt.close(fig)


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _picture(image: Any) -> tuple[bytes, tuple[int, int]]:
    """Return a figure or an array as PNG of at most 256 colors, and its width and height."""
    if isinstance(image, Figure):
        plain = io.BytesIO()
        image.savefig(plain, format="png", dpi=_DPI, metadata={"Software": None})
        close(image)
        drawn = Image.open(plain).convert("RGB")
    else:
        drawn = Image.fromarray(_bytes_of(image))
    few = drawn if drawn.mode == "L" else drawn.quantize(256, dither=Image.Dither.NONE)
    stored = io.BytesIO()
    few.save(stored, format="png", optimize=True)
    return stored.getvalue(), drawn.size


def _bytes_of(image: ArrayLike) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    if (
        pixels.ndim not in (2, 3)
        or pixels.shape[2:] not in ((), (3,))
        or pixels.dtype.kind not in "uf"
    ):
        raise ValueError(
            f"a picture of shape {pixels.shape}, {pixels.dtype}; expected a figure, or an array of "
            "shape (rows, cols) or (rows, cols, 3) with values in [0, 1] or bytes"
        )
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)


def _in_a_row(values: Mapping[str, Sequence[Any]], pictures: Iterable[Any]) -> list[Any]:
    """Return all pictures, those of the last slider next to each other."""
    found: list[Any] = list(pictures)
    for depth, (name, each) in enumerate(values.items()):
        if depth:
            rows = [list(row) for row in found]
            wrong = [len(row) for row in rows if len(row) != len(each)]
            found = [picture for row in rows for picture in row]
        else:
            wrong = [len(found)] if len(found) != len(each) else []
        if wrong:
            raise ValueError(
                f"{wrong[0]} pictures for {len(each)} values of the slider {name!r}; expected one "
                "for each"
            )
    return found


def _size(width: int) -> dict[str, Any]:
    """Return how wide pictures are in the page, and whether their pixels stay visible."""
    if width < _SMALL:  # a whole number of times, so that all pixels are equal
        return {"width": width * -(-_SMALL // width), "pixelated": True}
    return {"width": width * _PAGE_DPI // _DPI, "pixelated": False}


def _place(name: str, values: Sequence[Any], value: Any) -> int:
    if value not in values:
        raise ValueError(f"start[{name!r}]={value!r} is none of the values {list(values)}")
    return list(values).index(value)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


# ---------------------------------------------------------------- texts for the page

_WEB = resources.files("somlib.evaluation") / "web"


def _source(name: str) -> str:
    """Return a file of the folder `web` without its comments, to keep pages small."""
    text = (_WEB / name).read_text(encoding="utf-8")
    if name.endswith(".css"):
        return re.sub(r"/\*.*?\*/\n", "", text, flags=re.S)
    return re.sub(r"^ *//.*\n", "", text, flags=re.M)


def _json(value: Any) -> str:
    """Return JSON that can stand in a script: no text in it ends the script."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _packed(value: Any, where: str) -> Any:
    """Return what JSON can hold for a value; `where` names it in messages."""
    if isinstance(value, Network):
        return {"$network": _packed(value.layers, where)}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return _packed_array(value, where)
    if isinstance(value, np.ndarray | np.generic):
        return _packed(value.tolist(), where)
    if isinstance(value, Mapping):
        return {str(name): _packed(each, f"{where}[{name!r}]") for name, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_packed(each, f"{where}[{i}]") for i, each in enumerate(value)]
    if value is None or isinstance(value, bool | str) or checks.is_number(value):
        return value
    raise ValueError(
        f"{where} = {checks.shown(value)}; expected finite numbers, texts, lists, mappings, arrays "
        "of numbers, and networks of interactive.network"
    )


def _packed_array(array: NDArray[Any], where: str) -> dict[str, Any]:
    if array.dtype.kind == "f":
        kind = "float16" if array.dtype == np.float16 else "float32"
    else:
        low, high = (int(array.min()), int(array.max())) if array.size else (0, 0)
        fits = [k for k in _WHOLE if np.iinfo(k).min <= low and high <= np.iinfo(k).max]
        if not fits:
            raise ValueError(f"{where} has values from {low} to {high}; expected 32 bits at most")
        kind = fits[0]
    stored = np.ascontiguousarray(array, np.dtype(kind).newbyteorder("<")).tobytes()
    small = zlib.compress(stored, 9)
    deflated = len(small) < 0.8 * len(stored)  # images are, weights are not
    return {
        "$array": kind,
        "shape": list(array.shape),
        **({"deflated": True} if deflated else {}),
        "base64": base64.b64encode(small if deflated else stored).decode("ascii"),
    }
