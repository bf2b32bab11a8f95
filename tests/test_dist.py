"""The wheel holds all that the package needs, and works outside the checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import from_wheel
import pytest
from helpers import make_project
from test_address import PATHS, install_cell

ROOT = Path(__file__).parents[1]
LEFT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "_build", "build", "dist", "quick", "runs", "slides"
)
pytestmark = pytest.mark.skipif(os.name == "nt", reason="links to packages need a privilege there")


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The folder of a wheel and a source distribution, built from a copy without a network."""
    copy = tmp_path_factory.mktemp("built") / "project"
    shutil.copytree(ROOT, copy, ignore=LEFT)
    code = "from setuptools.build_meta import build_sdist, build_wheel\n"
    code += "build_sdist('dist'); build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, check=True)
    return copy / "dist"


@pytest.fixture(scope="module")
def python(dist, tmp_path_factory):
    """A Python with the wheel installed, by the first code cell of a notebook, and no checkout."""
    made = from_wheel.clean_environment(tmp_path_factory.mktemp("environment"))
    code = install_cell(PATHS[0])
    missing = run(made, "-c", code)
    assert missing.returncode == 1
    assert "somlib is not installed; set SOMLIB_SOURCE" in missing.stderr
    (wheel,) = dist.glob("*.whl")
    done = run(made, "-c", code, SOMLIB_SOURCE=str(wheel), PIP_NO_INDEX="1")
    assert done.returncode == 0, done.stderr
    return made


def run(python, *arguments, cwd=None, **variables):
    return subprocess.run(
        [python, *arguments],
        cwd=cwd or Path(python).parent,
        env=from_wheel.without_paths() | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def files_of(folder):
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files_of("somlib")


def test_the_source_distribution_holds_what_the_notebooks_read(dist):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"figures/registry.csv", "data/published.csv", "constraints.txt", "Makefile"}
    wanted |= {f"notebooks/{path.name}" for path in PATHS} | files_of("figures/full")
    assert wanted <= names
    assert not any(name.startswith(("figures/quick", "runs/")) for name in names)


def test_the_preamble_has_installed_the_wheel(python):
    done = run(python, "-c", "import somlib; print(somlib.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(Path(python).parents[1])
    assert run(python, "-c", install_cell(PATHS[0])).returncode == 0


def test_it_runs_a_notebook_of_a_folder_that_is_no_checkout(python, tmp_path):
    project = make_project(
        tmp_path / "elsewhere", _01_toy=("print(__import__('somlib').__file__)",)
    )
    done = run(python, "-m", "somlib", "reproduce", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    executed = (project / "runs" / "quick" / "01_toy.ipynb").read_text(encoding="utf-8")
    assert str(Path(python).parents[1]) in executed


def test_without_notebooks_it_refuses_in_words(python, tmp_path):
    done = run(python, "-m", "somlib", "reproduce", cwd=tmp_path)
    assert done.returncode == 2
    assert f"no notebooks in {tmp_path / 'notebooks'}" in done.stderr
