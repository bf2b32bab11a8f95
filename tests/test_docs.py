"""What the documentation shows is run: docstring examples and the Python of README and book."""

import doctest
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import somlib

ROOT = Path(__file__).parents[1]
MODULES = [module.name for module in pkgutil.walk_packages(somlib.__path__, "somlib.")]


@pytest.mark.parametrize("name", ["somlib", *MODULES])
def test_docstring_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    plt.close("all")
    assert results.failed == 0


def public(module):
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(thing) or inspect.isclass(thing):
            yield thing


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name):
    for thing in public(importlib.import_module(name)):
        assert inspect.getdoc(thing), thing
        if inspect.isclass(thing):
            methods = [m for n, m in vars(thing).items() if inspect.isfunction(m) and n[0] != "_"]
            assert all(inspect.getdoc(method) for method in methods), thing


def snippets(path):
    """Return the Python of a page; a block in a list is indented."""
    found = re.findall(r"^( *)```python\n(.*?)^\1```", path.read_text(), flags=re.S | re.M)
    return [textwrap.dedent(block) for _, block in found]


PAGES = [ROOT / "README.md", *sorted((ROOT / "book").rglob("*.md"))]
WITH_CODE = [path for path in PAGES if "_build" not in path.parts and snippets(path)]


def test_the_readme_and_each_page_on_how_to_do_something_show_code():
    shown = {path.name for path in WITH_CODE}
    titles = {path.name for path in (ROOT / "book" / "howto").glob("*.md")}
    assert {"README.md", *titles} - shown <= {"index.md", "several-machines.md"}  # these: commands


@pytest.mark.parametrize("path", WITH_CODE, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_python_on_a_page_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMLIB_OUTPUT", os.fspath(tmp_path))
    scope = {}
    for snippet in snippets(path):
        exec(compile(snippet, path.name, "exec"), scope)
    plt.close("all")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "data/README.md"])
def test_links_to_files_of_the_project_lead_somewhere(name):
    text = (ROOT / name).read_text()
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    missing = [link for link in links if not (ROOT / name).parent.joinpath(link).exists()]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"])
def test_nothing_is_left_to_fill_in(name):
    assert not re.search(r"@[A-Z]+@|\bTBD\b", (ROOT / name).read_text())
