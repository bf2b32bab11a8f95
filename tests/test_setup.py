"""The three lists of requirements say the same, and the checkout holds what it promises."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import somlib

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "jupyter-client": "jupyter_client",
}
"""What conda-forge calls the packages that it does not call as the package index does."""
STARTED = {
    "jupyterlab": "`make lab` starts it",
    "ipykernel": "the kernel python3, in which the notebooks run",
}
"""What is required but imported nowhere, and why."""
STARTED_BY_TESTS = {
    "pytest-xdist": "`make test` runs them in several processes",
    "ruff": "`make lint`",
    "mypy": "`make lint`",
    "nbqa": "`make lint`",
    "setuptools": "builds the wheel of test_dist.py",
}
"""The same for the test extra."""


def requirements(*lines):
    return {r.name.lower(): r.specifier for r in map(Requirement, lines)}


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements(*(line for line in lines if line and not line.startswith("#")))


def conda():
    """Return the ranges in environment.yml, without a YAML reader: one `- name>=x` a line."""
    text = (ROOT / "environment.yml").read_text().split("dependencies:")[1]
    found = re.findall(r"^  - ([\w-]+)([<>=][^\s#]*)", text, flags=re.M)
    return {name: SpecifierSet(spec) for name, spec in found}


ROOT_MAY = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
DIRECT = requirements(*PYPROJECT["project"]["dependencies"])
EXTRAS = [
    Requirement(line)
    for lines in PYPROJECT["project"]["optional-dependencies"].values()
    for line in lines
]


def test_conda_users_get_the_same_ranges():
    peers = requirements(*PYPROJECT["project"]["optional-dependencies"]["peers"])
    wanted = {CONDA_NAMES.get(name, name): spec for name, spec in (DIRECT | peers).items()}
    wanted["python"] = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert conda() == wanted


def test_what_is_pinned_installs_with_the_oldest_python_there_is():
    oldest = PYPROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
    pinned = constraints().keys()
    found = {d.name: d.metadata["Requires-Python"] for d in distributions()}
    refusing = {
        name: python
        for name, python in found.items()
        if name.lower() in pinned and python and not SpecifierSet(python).contains(oldest)
    }
    assert not refusing


@pytest.mark.parametrize("name", sorted(DIRECT))
def test_every_range_contains_the_pinned_version(name):
    pinned = [str(s.version) for s in constraints()[name]]
    assert len(pinned) == 1
    assert DIRECT[name].contains(pinned[0])


@pytest.mark.parametrize("required", EXTRAS, ids=str)
def test_what_tests_and_benchmarks_need_is_pinned_too(required):
    (version,) = constraints()[required.name.lower()]
    assert required.specifier.contains(version.version)


@cache
def imported(*folders):
    """Return the distributions that the Python files and notebooks of the folders import."""
    known = packages_distributions()
    ours = {"somlib", "benchmarks", "tests", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    sources = []
    for folder in folders:
        sources += [path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")]
        for path in (ROOT / folder).glob("*.ipynb"):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            sources += ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    foreign = names - ours - sys.stdlib_module_names
    return {canonicalize_name(known.get(name, [name])[0]) for name in foreign}


def extra(*names):
    return requirements(
        *(line for name in names for line in PYPROJECT["project"]["optional-dependencies"][name])
    )


@pytest.mark.parametrize("name", sorted(DIRECT))
def test_nothing_is_required_that_is_not_imported(name):
    assert (name in imported("somlib", "notebooks")) != (name in STARTED)


@pytest.mark.parametrize("name", sorted(extra("test")))
def test_the_tests_require_nothing_that_they_do_not_import(name):
    assert (name in imported("tests", "benchmarks")) != (name in STARTED_BY_TESTS)


BUILT_BY_HAND = {"somoclu"}  # it has no wheel, and its build finds NumPy only without isolation


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (["somlib", "notebooks"], ["peers"]),
        (["tests"], ["test"]),
        (["benchmarks"], ["bench"]),
    ],
    ids=str,
)
def test_everything_imported_is_required(folders, extras):
    assert imported(*folders) <= (DIRECT | extra(*extras)).keys() | BUILT_BY_HAND


def test_what_the_book_loads_by_name_is_required():
    """Sphinx imports the extensions in book/conf.py, no file of ours does."""
    known = packages_distributions()
    conf = ast.parse((ROOT / "book" / "conf.py").read_text(encoding="utf-8"))
    said = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in conf.body
        if isinstance(node, ast.Assign) and node.targets[0].id in ("extensions", "html_theme")
    }
    loaded = {name.split(".")[0] for name in said["extensions"]} | {said["html_theme"]}
    found = {canonicalize_name(name) for top in loaded for name in known.get(top, [top])}
    # namespace: sphinxcontrib holds the packages that Sphinx brings along, too
    found = {name for name in found if not name.startswith("sphinxcontrib")}
    assert {"sphinx", *found} | {"sphinxcontrib-bibtex"} == extra("book").keys()


def test_pins_are_exact_and_name_each_package_once():
    text = (ROOT / "constraints.txt").read_text()
    names = [line.split("==")[0].lower() for line in text.splitlines() if "==" in line]
    assert sorted(names) == sorted(set(names))
    assert all(str(s).startswith("==") for s in constraints().values())


def test_this_python_is_one_that_is_promised():
    version = Version(".".join(map(str, sys.version_info[:3])))
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(version)


def test_one_version_everywhere():
    version = PYPROJECT["project"]["version"]
    assert somlib.__version__ == version
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize(
    "target", ["figures", "book", "test", "lab", "slides", "dist", "bench", "help"]
)
def test_make_knows_its_targets(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


RECORDER = """\
#!/bin/sh
if [ "$2" = venv ]; then mkdir -p .venv/bin && cp "$0" .venv/bin/python; fi
for word in "$@" "HOME=$HOME"; do echo "$word"; done > said
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no make")
@pytest.mark.parametrize(
    ("arguments", "home", "said"),
    [
        (["figures", "OUTPUT=my  out"], None, ["--output", "my  out", "HOME={home}"]),
        (["figures", "ONLY=01 03"], None, ["--only", "01", "03", "HOME={home}"]),
        (["lab"], None, ["jupyterlab", "notebooks", *ROOT_MAY, "HOME={home}"]),
        (["lab"], "/dev/null", ["jupyterlab", "notebooks", *ROOT_MAY, "HOME={here}/runs/home"]),
    ],
)
def test_make_works_where_paths_hold_spaces_and_the_home_is_closed(arguments, home, said, tmp_path):
    here = tmp_path / "a check out"
    here.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, here)
    python = tmp_path / "my python" / "python3"
    python.parent.mkdir()
    python.write_text(RECORDER)
    python.chmod(0o755)
    home = home or str(tmp_path)
    command = ["make", *arguments, f"PYTHON={python}"]
    subprocess.run(
        command, cwd=here, env=os.environ | {"HOME": home}, check=True, capture_output=True
    )
    ends = (here / "said").read_text().splitlines()[-len(said) :]
    assert ends == [word.format(home=home, here=here) for word in said]


def test_help_is_instant_because_nothing_heavy_is_imported():
    heavy = "{'torch', 'papermill'} & sys.modules.keys()"
    code = f"import sys, somlib.companion.cli; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_asking_for_what_is_not_there_says_so():
    with pytest.raises(AttributeError, match="has no attribute 'perceptron'"):
        _ = somlib.perceptron
    assert somlib.SOM.__name__ == "SOM"
