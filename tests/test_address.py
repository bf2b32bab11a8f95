"""The address is one setting; what repeats it agrees with it, set or not."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from somlib import report
from somlib.companion import address

ROOT = Path(__file__).parents[1]
URL = "https://github.com/someone/maps-of-data"


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the files that depend on the address, as the working directory."""
    for name in ("pyproject.toml", "README.md", "CITATION.cff"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def install_cell(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if cell["id"] == address.CELL]
    return "".join(cell["source"])


def test_what_is_committed_agrees_with_the_setting(copy):
    assert address.renew() == []
    assert address.MARK in (ROOT / "README.md").read_text(encoding="utf-8")


def test_set_it_appears_everywhere_and_a_second_time_nothing_changes(copy, capsys):
    assert address.main([URL]) == 0
    assert tomllib.loads((copy / "pyproject.toml").read_text())["project"]["urls"] == {
        "Repository": URL
    }
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert readme.count("https://mybinder.org/v2/gh/someone/maps-of-data/HEAD") == 1
    assert readme.count("https://colab.research.google.com/github/someone/maps-of-data") == 1
    assert f'repository-code: "{URL}"' in (copy / "CITATION.cff").read_text(encoding="utf-8")
    for path in (copy / "notebooks").glob("*.ipynb"):
        assert f'"git+{URL}"' in install_cell(path)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    assert address.main([URL]) == 0
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}


def test_another_address_replaces_the_first(copy):
    assert address.main([URL]) == address.main(["https://github.com/other/name"]) == 0
    for path in copy.rglob("*.*"):
        assert "someone" not in path.read_text(encoding="utf-8")


def test_without_an_address_there_is_no_button(copy, monkeypatch):
    monkeypatch.setattr(address, "address", lambda: "")
    address.renew()
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert "mybinder" not in readme
    assert "colab.research" not in readme
    assert address.buttons("01_som") == ""


def test_a_button_opens_one_notebook(monkeypatch):
    monkeypatch.setattr(address, "address", lambda: URL)
    line = address.buttons("01_som")
    assert "HEAD?labpath=notebooks/01_som.ipynb)" in line
    assert "maps-of-data/blob/main/notebooks/01_som.ipynb)" in line


@pytest.mark.parametrize(
    "given", [["maps"], ["https://example.org/a/b"], [URL + "/tree"], [URL, "x"]]
)
def test_what_is_no_address_is_refused_in_words(copy, given, capsys):
    before = (copy / "pyproject.toml").read_bytes()
    assert address.main(given) == 2
    assert "expected one address like https://github.com/OWNER/NAME" in capsys.readouterr().err
    assert (copy / "pyproject.toml").read_bytes() == before


def test_binder_gets_what_conda_gets_and_installs_the_package_afterwards():
    conda = (ROOT / "environment.yml").read_text().split("dependencies:")[1].split("  - pip ")[0]
    binder = (ROOT / "binder" / "environment.yml").read_text().split("dependencies:")[1]
    assert binder.split("  - pip ")[0] == conda
    assert "pip:" not in binder
    post_build = ROOT / "binder" / "postBuild"
    assert post_build.stat().st_mode & 0o111
    assert "pip install --no-deps ." in post_build.read_text()


# ------------------------------------------------------------------ the preamble of the notebooks

PATHS = report.notebooks()[0]


@pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])
def test_it_stands_before_the_first_import_and_is_folded(path):
    cells = [
        c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"
    ]
    assert "parameters" in cells[0]["metadata"]["tags"]
    assert cells[1]["id"] == address.CELL
    assert cells[1]["metadata"]["tags"] == ["hide-input"]
    assert not any("import" in "".join(cell["source"]) for cell in cells[:1])


def test_where_the_package_is_installed_nothing_happens():
    code = "import somlib, subprocess; subprocess.run = None\n" + install_cell(PATHS[0])
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
