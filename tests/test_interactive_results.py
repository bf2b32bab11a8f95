"""The table of published numbers: its filters, its order, and what it says of a row."""

import pandas as pd
import pytest
from browser import PICTURE, show, violations

from somlib import interactive

ROWS = ".somlib-piece .stage tbody tr"
NONE = dict.fromkeys(("ours", "sd", "difference", "low", "high"))


def row(paper, method, verdict, published, **numbers):
    facts = {"paper": paper, "method": method, "verdict": verdict, "published": published}
    details = [["Images", f"images of {method}"], ["Our runs", "3 runs, seeds 0, 1, 2"]]
    return facts | {"data": "MNIST", "metric": "purity", "details": details} | NONE | numbers


@pytest.fixture(scope="module")
def piece():
    """A table of four numbers."""
    close = {"ours": 0.752, "sd": 0.002, "difference": 0.002, "low": -0.001, "high": 0.005}
    far = {"ours": 0.7, "sd": 0.01, "difference": -0.12, "low": -0.3, "high": 0.06}
    rows = [
        row("A, table 1", "DESOM", "differs", 0.82, **far),
        row("A, table 1", "k-means", "agrees", 0.75, **close),
        row("B, table 2", "k-means", "one run", 0.6, ours=0.61, difference=0.01),
        row("B, table 2", "SOM-VAE", "not run", 0.9),
    ]
    plain = pd.DataFrame(rows)[["method", "published", "verdict"]]
    return interactive.program("results-table", {"rows": rows, "margin": 0.02}, table=plain)


@pytest.fixture
def table(tab, tmp_path, piece):
    """A tab that shows it."""
    show(tab, tmp_path, piece, alt="Numbers")
    return tab


def methods(tab):
    return tab.locator(f"{ROWS} th button").all_inner_texts()


def details(tab):
    return tab.locator(".details").inner_text()


def test_filters_combine_and_the_count_follows(table):
    assert methods(table) == ["DESOM", "k-means", "k-means", "SOM-VAE"]
    table.get_by_label("Method").select_option("k-means")
    assert methods(table) == ["k-means", "k-means"]
    table.get_by_label("Verdict").select_option("one run")
    assert methods(table) == ["k-means"]
    assert "0.600" in table.locator(ROWS).inner_text()
    assert table.get_by_role("status").inner_text() == "1 of 4 numbers: one run 1"
    table.get_by_label("Paper").select_option("A, table 1")
    assert methods(table) == []
    assert details(table) == "No number passes these filters."
    for name in ("Method", "Verdict", "Paper"):
        table.get_by_label(name).select_option("all")
    assert len(methods(table)) == 4


def test_heads_sort_either_way_and_leave_missing_numbers_last(table):
    head, ours = table.get_by_role("button", name="Ours"), table.locator("td.ours")
    head.press("Enter")
    assert ours.all_inner_texts() == ["0.610", "0.700 ± 0.010", "0.752 ± 0.002", "–"]
    assert table.locator("th.ours").get_attribute("aria-sort") == "ascending"
    head.press("Enter")
    assert ours.all_inner_texts() == ["0.752 ± 0.002", "0.700 ± 0.010", "0.610", "–"]
    assert table.locator("th.ours").get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="Verdict").click()
    assert table.locator("th.ours").get_attribute("aria-sort") == "none"
    assert table.locator("td.verdict").all_inner_texts() == [
        "agrees", "differs", "not run", "one run"
    ]  # fmt: skip


def test_a_row_shows_its_protocol_to_mouse_and_keyboard(table):
    assert "images of DESOM" in details(table)
    table.locator(ROWS).nth(1).hover()
    assert "images of k-means" in details(table)
    assert "seeds 0, 1, 2" in details(table)
    first = table.get_by_role("button", name="DESOM")
    first.focus()
    assert "images of DESOM" in details(table)
    for key, method in (("End", "SOM-VAE"), ("ArrowUp", "k-means"), ("Home", "DESOM")):
        table.keyboard.press(key)
        assert f"images of {method}" in details(table)


def test_all_rows_together_are_one_stop_of_the_tab_key(table):
    places = table.locator(f"{ROWS} button").evaluate_all("(all) => all.map((b) => b.tabIndex)")
    assert places == [0, -1, -1, -1]
    table.get_by_role("button", name="DESOM").focus()
    table.keyboard.press("ArrowDown")
    places = table.locator(f"{ROWS} button").evaluate_all("(all) => all.map((b) => b.tabIndex)")
    assert places == [-1, 0, -1, -1]


def test_differences_are_drawn_where_there_are_any(table):
    drawn = table.locator("td.difference").evaluate_all(
        "(cells) => cells.map((cell) => cell.querySelector('svg')?.getAttribute('class') ?? null)"
    )
    assert drawn == ["differs", "agrees", "none", None]
    assert table.locator("td.difference").nth(0).inner_text().strip() == "−0.120"
    assert table.locator("td.ours").nth(3).inner_text() == "–"


@pytest.mark.parametrize("tab", [{"viewport": {"width": 320, "height": 700}}], indirect=True)
def test_a_narrow_page_needs_no_scrolling_to_the_side(table):
    assert table.locator("td.metric").first.is_hidden()
    assert "purity, MNIST, A, table 1" in table.locator(ROWS).first.inner_text()
    assert table.evaluate("() => document.documentElement.scrollWidth") <= 320
    fits = "(box) => box.scrollWidth <= box.clientWidth"
    assert table.locator(".scroll").evaluate(fits)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(table, theme):
    table.emulate_media(color_scheme=theme)
    assert violations(table) == []


@pytest.mark.parametrize("tab", [{"java_script_enabled": False}], indirect=True)
def test_without_a_script_the_whole_table_shows(tab, tmp_path, piece):
    file = tmp_path / "page.html"
    page = interactive.page(piece.fragment(PICTURE, "Numbers"), title="Numbers", caption="")
    file.write_text(page, encoding="utf-8")
    tab.goto(file.as_uri())
    assert tab.locator("td").all_inner_texts()[:3] == ["DESOM", "0.82", "differs"]
    assert tab.locator("td").count() == 4 * 3


def test_with_a_script_the_plain_table_shows_in_print_only(table):
    plain = table.locator("table.dataframe")
    assert plain.is_hidden()
    table.emulate_media(media="print")
    assert plain.is_visible()
    assert table.get_by_label("Verdict").is_hidden()
