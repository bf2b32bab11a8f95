"""The whole book, built from the executed notebooks: links, names, and every page in a browser."""

import importlib.util
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import somlib
from somlib import report
from somlib.companion import book

FIRST_VIEW = 3_000_000
"""Bytes that a page may load before its reader scrolls."""

if importlib.util.find_spec("sphinx") is None:
    pytest.skip("the packages of the extra book are not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def html(finished):
    """The folder of the built book; Sphinx's warnings are errors."""
    done, output = finished
    assert done.returncode == 0, done.stdout + done.stderr
    return book.build("quick", output, output / "book").parent


@pytest.fixture(scope="module")
def pages(html):
    """What each page holds, by path."""
    return {
        path: Page(path) for path in sorted(html.rglob("*.html")) if "_static" not in path.parts
    }


class Page(HTMLParser):
    """Links, anchors and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loaded, self.undescribed = {"", "top"}, [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        for name in ("src", "data-src"):
            if found.get(name):
                self.loaded.append(found[name])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(found["href"])
        if tag == "img" and not found.get("alt", "").strip():
            self.undescribed.append(found.get("src", "")[:80])


def test_it_has_a_page_for_each_notebook_and_kind_of_page(html):
    names = [f"notebooks/{path.stem}" for path in report.notebooks()[0]]
    names += ["index", "start/what-is-a-map", "howto/your-data", "api/models", "results/01_som"]
    names += ["glossary", "notation", "references", "gallery", "benchmarks", "changelog", "search"]
    assert [name for name in names if not (html / f"{name}.html").exists()] == []


def test_no_link_and_no_anchor_is_dead(html, pages):
    dead = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else None
            if not target.exists() or (anchors and unquote(parts.fragment) not in anchors):
                dead.append(f"{path.relative_to(html)}: {link}")
    assert dead == []


def test_nothing_is_loaded_from_elsewhere_and_every_picture_is_described(pages):
    for path, page in pages.items():
        assert [src for src in page.loaded if re.match(r"(https?:)?//", src)] == [], path
        assert page.undescribed == [], path


def test_every_figure_of_a_quick_run_stands_on_its_page_and_can_be_linked(finished, pages, html):
    _, output = finished
    for record in report.records(output / "figures" / "quick"):
        page = pages[html / "notebooks" / f"{record['notebook']}.html"]
        assert record["id"] in page.anchors


def test_all_public_names_are_in_the_inventory(html):
    head, _, body = (html / "objects.inv").read_bytes().partition(b"using zlib.\n")
    assert head
    names = {line.split()[0] for line in zlib.decompress(body).decode().splitlines() if line}
    listed = {name.rpartition(".")[2] for name in names if name.startswith("somlib.")}
    assert set(somlib.NAMES) <= listed
    for module in ("metrics", "plots", "data", "spaces"):
        assert set(book.public_names(getattr(somlib, module))) <= listed


def test_solutions_are_folded_and_full_figures_stand_beside_quick_ones(html):
    for path in report.notebooks()[0]:
        text = (html / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert '<details class="solution">' in text
        assert "figures/full" not in text  # copied where the page is
    assert 'data-sync-id="full"' in text


# ---------------------------------------------------------------- in a browser


def first_view(tab, path):
    """Open a page and return the bytes that it loads until it has been drawn."""
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    tab.wait_for_timeout(300)
    files = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    return sum(file.stat().st_size for file in files if file.is_file())


def test_every_page_opens_without_a_complaint_or_a_request_and_is_not_heavy(tab, pages):
    # pages of the reference are alike: every fifth of them
    generated = [path for path in pages if "generated" in path.parts]
    chosen = [path for path in pages if path not in generated] + generated[::5]
    heavy = {path.name: size for path in chosen if (size := first_view(tab, path)) > FIRST_VIEW}
    assert heavy == {}


@pytest.mark.parametrize("name", ["index", "notebooks/01_som"])
def test_pieces_start_when_a_reader_comes_near(tab, html, name):
    tab.goto((html / f"{name}.html").as_uri())
    for place in tab.locator(".piece").all():
        place.scroll_into_view_if_needed()
        place.locator(".somlib-piece").wait_for()
    assert tab.locator(".somlib-piece").count() >= 1


LOOKED_AT = (
    *("index", "start/what-is-a-map", "notebooks/01_som", "notebooks/04_dc_somrl", "results/index"),
    *("gallery", "howto/your-data", "glossary", "notation", "api/metrics", "benchmarks"),
    *("api/generated/somlib.SOM", "teaching/01_som", "search"),
)


AXE = {"resultTypes": ["violations"], "preload": False}  # it would ask for files by a script


@pytest.mark.parametrize(
    "tab", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=str
)
def test_axe_finds_no_serious_violation(tab, html):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    serious = []
    for name in LOOKED_AT:
        tab.goto((html / f"{name}.html").as_uri())
        tab.wait_for_timeout(500)  # formulas
        for found in axe.run(tab, options=AXE).response["violations"]:
            if found["impact"] in ("serious", "critical"):
                where = [node["html"][:150] for node in found["nodes"][:3]]
                serious.append(f"{name}: {found['id']}, {len(found['nodes'])} times: {where}")
    assert serious == []


@pytest.mark.parametrize("tab", [{"viewport": {"width": 320, "height": 640}}], indirect=True)
def test_nothing_sticks_out_of_a_narrow_screen(tab, html):
    for name in LOOKED_AT:
        tab.goto((html / f"{name}.html").as_uri())
        tab.wait_for_timeout(300)
        assert tab.evaluate("document.documentElement.scrollWidth") <= 320, name


@pytest.mark.parametrize("tab", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_text_and_pictures_are_there(tab, html):
    tab.goto((html / "notebooks" / "01_som.html").as_uri())
    assert tab.get_by_role("heading", name="The question").is_visible()
    figure = tab.locator("#som-one-pull img").first
    figure.scroll_into_view_if_needed()
    assert figure.is_visible()
    tab.get_by_text("Full run", exact=True).first.click()  # tabs need no script
    assert not figure.is_visible()


def test_print_shows_what_is_folded(tab, html):
    tab.goto((html / "notebooks" / "01_som.html").as_uri())
    solution = tab.locator("details.solution p").first
    shown = "element => element.checkVisibility({contentVisibilityAuto: true})"
    assert not solution.evaluate(shown)
    tab.emulate_media(media="print")
    assert solution.evaluate(shown)
    assert not tab.locator(".bd-sidebar-primary").is_visible()


def test_the_search_finds_a_term(tab, html):
    tab.goto((html / "search.html").as_uri() + "?q=topographic+error")
    tab.locator("#search-results li a").first.wait_for()
    assert tab.locator("#search-results li a").count() > 3
