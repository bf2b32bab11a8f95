"""Figures become pictures: laid out once, then drawn once in each format.

Matplotlib computes the layout anew for each picture of a figure, and draws the figure a first time
only to see how far it reaches. For small panels that takes several times as long as the drawing
itself. Here both are kept until the figure changes.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

DPI = 150.0
"""Resolution of a PNG that is not too large."""

_boxes: WeakKeyDictionary[Figure, Bbox] = WeakKeyDictionary()
"""What `laid_out` yields, by figure."""


@contextmanager
def laid_out(fig: Figure) -> Iterator[Bbox]:
    """Lay a figure out, unless it has not changed since, and do no layout inside a `with`.

    What changes inside must be undone there, except for what a drawing leaves behind.

    Yields
    ------
    matplotlib.transforms.Bbox
        The part that the figure covers, in inches.

    Examples
    --------
    >>> fig = Figure(figsize=(3, 2), layout="constrained")
    >>> axes = fig.subplots()
    >>> with laid_out(fig) as box:
    ...     bool(box.width < 3)
    True
    """
    engine = fig.get_layout_engine()
    if fig.stale or fig not in _boxes:
        _boxes[fig] = _reach(fig)
    try:
        with matplotlib.rc_context(_NO_LAYOUT):  # this is what None means, in each drawing too
            fig.set_layout_engine(None)
            yield _boxes[fig]
    finally:
        if engine is not None:
            fig.set_layout_engine(engine)
        fig.stale = False  # a picture changes resolution and axes, and restores them


def _reach(fig: Figure) -> Bbox:
    """Lay a figure out at the resolution of a PNG, and return the part that it covers.

    At others a text is narrower or wider, because its letters are fitted to the pixels.
    """
    engine, before = fig.get_layout_engine(), fig.dpi
    fig.dpi = DPI
    try:
        if engine is not None and fig.axes:
            engine.execute(fig)
        return fig.get_tightbbox()
    finally:
        fig.dpi = before


_NO_LAYOUT = {"figure.autolayout": False, "figure.constrained_layout.use": False}


def framed(box: Bbox) -> Bbox:
    """Return the box of a picture, with the margin that `bbox_inches="tight"` gives it."""
    return box.padded(matplotlib.rcParams["savefig.pad_inches"])


@contextmanager
def marked(fig: Figure, box: Bbox, text: str) -> Iterator[Bbox]:
    """Write a text, unless it is "", below the lower right corner of a figure, and clear of it.

    It stands there inside a `with`, which yields the box of figure and text.
    """
    width, height = fig.get_size_inches()
    corner = (box.x1 / width, box.y0 / height)
    mark = fig.text(*corner, text, ha="right", va="top", color="0.6", fontsize=7)
    try:
        extent = mark.get_window_extent()
        yield Bbox.union([box, extent.transformed(fig.dpi_scale_trans.inverted())])
    finally:
        mark.remove()


def png(fig: Figure, box: Bbox, limit: int) -> bytes:
    """Return a figure that is laid out as PNG of at most `limit` bytes.

    Raises
    ------
    ValueError
        When it is larger even at the lowest readable resolution.
    """
    dpi = DPI
    while True:
        file = io.BytesIO()
        fig.savefig(file, format="png", dpi=dpi, bbox_inches=box, metadata={"Software": None})
        if file.tell() > limit:  # 256 colors take a third
            with Image.open(file) as image:
                few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            file = io.BytesIO()
            few.save(file, format="png", optimize=True)
        size = file.tell()
        if size <= limit:
            return file.getvalue()
        dpi *= min(0.9, (limit / size) ** 0.5)
        if dpi < 20:
            raise ValueError(
                f"takes {size} bytes even at the lowest readable resolution; expected at most "
                f"{limit}. Draw fewer panels, or split it."
            )


def svg(fig: Figure, box: Bbox, file: Any, salt: str) -> None:
    """Write a figure that is laid out as SVG; equal figures with an equal salt are equal bytes."""
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        fig.savefig(file, format="svg", bbox_inches=box, metadata={"Date": None})
