"""Interactive pieces: what Python stores, what a page does with it, and what leaves a notebook."""

import numpy as np
from browser import show
from matplotlib.figure import Figure

from somlib import interactive


def picture(level):
    fig = Figure(figsize=(4, 3))
    fig.subplots().bar([0, 1], [level, 1])
    return fig


def test_a_slider_chooses_the_picture(tab, tmp_path):
    levels = [0.2, 0.5, 0.9]
    pictures = [picture(level) for level in levels]
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
