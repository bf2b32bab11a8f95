"""A browser for the tests of pages: Chromium, driven by Playwright, without a network.

A test takes the fixture `tab` and opens files in it. It fails if the page has written an error or
a warning to the console, raised an exception, or asked for anything but files and data:
`tab.problems`.
"""

import base64
import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from somlib import interactive

NAMES = ("chromium", "chromium-browser", "google-chrome")
ROOT_MAY = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
OWN = ("file:", "data:", "blob:")
"""Addresses that a page may ask for: none leaves the machine."""


def _white():
    file = io.BytesIO()
    Image.new("L", (30, 20), 255).save(file, "png")
    return file.getvalue()


PICTURE = _white()
"""A fallback, for pieces whose own does not matter."""


@pytest.fixture(scope="module")  # its event loop would stop others in the same process
def chromium():
    """The browser; the test is skipped where none is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser is installed: none of {', '.join(NAMES)} is on the PATH")
    from playwright.sync_api import sync_playwright  # not where only other tests run

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=ROOT_MAY)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, request):
    """An empty tab; options of its context, such as `{"viewport": ...}`, by `indirect`."""
    options = {"viewport": {"width": 1000, "height": 800}} | getattr(request, "param", {})
    context = chromium.new_context(**options)
    page = context.new_page()
    page.problems = problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: problems.append(r.url) if not r.url.startswith(OWN) else 0)
    page.set_default_timeout(20_000)
    yield page
    context.close()
    assert problems == []


def show(tab, folder, *pieces, alt="A picture", around="{}"):
    """Open a page with pieces, made in `folder`; `around` is the HTML that encloses them."""
    fragments = "\n".join(piece.fragment(piece.picture or PICTURE, alt) for piece in pieces)
    file = folder / "pieces.html"
    page = interactive.page(around.replace("{}", fragments), title="Pieces", caption="A caption.")
    file.write_text(page, encoding="utf-8")
    tab.goto(file.as_uri())
    begun = "() => !document.querySelector('[data-somlib]:not([data-state])')"
    tab.wait_for_function(begun)
    settle(tab)


def settle(tab):
    """Wait until the page has been drawn with what has changed."""
    tab.evaluate("() => new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))")


def violations(tab):
    """Return what axe, a checker of accessibility, finds wrong with the page."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(tab).response["violations"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


def pixels(tab, where):
    """Return what an element looks like, as an array (rows, cols, 3)."""
    settle(tab)
    with Image.open(io.BytesIO(tab.locator(where).screenshot())) as image:
        return np.asarray(image.convert("RGB"))


def canvas_pixels(tab, where):
    """Return the content of a canvas, (rows, cols, 4), without what the page lays over it."""
    settle(tab)
    address = tab.locator(where).evaluate("(canvas) => canvas.toDataURL()")  # a PNG
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGBA"))
