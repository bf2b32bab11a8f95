"""The project's address, and what repeats it: buttons, citation, where notebooks install from.

The address is one setting, `Repository` under `[project.urls]` in pyproject.toml. It is absent
until the project has an address. `python -m somlib.companion.address https://github.com/OWNER/NAME`
sets it and renews what repeats it; without an argument it renews only.
"""

import json
import re
import sys
import tomllib
from pathlib import Path

from somlib.companion.folders import project_root
from somlib.files import replacing

MARK = "<!-- somlib.companion.address: buttons -->"
"""The line of the README below which the buttons stand."""

CELL = "install-somlib"
"""The id of the cell by which a notebook installs the package where it is missing."""

SETTING = '[project.urls]\nRepository = "{}"\n\n'

_PREAMBLE = """\
import os
import subprocess
import sys
from importlib.util import find_spec

if find_spec("somlib") is None:  # on Colab, for example
    wheel = os.environ.get("SOMLIB_SOURCE", "{}")
    assert wheel, "somlib is not installed; set SOMLIB_SOURCE to the path of its wheel"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wheel], check=True)"""


def address() -> str:
    """Return the project's address, "" where it has none.

    Examples
    --------
    >>> address() == "" or address().startswith("https://github.com/")
    True
    """
    settings = tomllib.loads((project_root() / "pyproject.toml").read_text(encoding="utf-8"))
    url: str = settings.get("project", {}).get("urls", {}).get("Repository", "")
    return url


def buttons(notebook: str | None = None) -> str:
    """Return links that open the project, or one notebook, on Binder and on Colab.

    Parameters
    ----------
    notebook : str, optional
        Its name, such as "01_som"; by default the folder of all.

    Returns
    -------
    str
        A line of Markdown; "" where the project has no address.
    """
    url = address()
    if not url:
        return ""
    repository = url.removeprefix("https://github.com/")
    path = f"notebooks/{notebook}.ipynb" if notebook else "notebooks"
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?labpath={path}"
    # Colab opens single notebooks: of a folder, the list
    place = f"/blob/main/{path}" if notebook else ""
    colab = f"https://colab.research.google.com/github/{repository}{place}"
    return f"Run it without installing anything: [Binder]({binder}) · [Colab]({colab})"


def preamble() -> str:
    """Return the code by which a notebook installs the package where it is missing."""
    url = address()
    return _PREAMBLE.format(f"git+{url}" if url else "")


def renew() -> list[Path]:
    """Write the address into the files that repeat it; return those that changed."""
    root, changed = project_root(), []
    for path, text in _wanted(root):
        if path.read_text(encoding="utf-8") != text:
            with replacing(path) as partial:
                partial.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def _wanted(root: Path) -> list[tuple[Path, str]]:
    """Return each file that repeats the address, and the text that it should have."""
    url, line = address(), buttons()
    readme, citation = root / "README.md", root / "CITATION.cff"
    text = readme.read_text(encoding="utf-8")
    below = rf"{re.escape(MARK)}\n(?:Run it without .*\n)?"
    wanted = [(readme, re.sub(below, f"{MARK}\n{line}\n" if line else f"{MARK}\n", text))]
    text = re.sub(r"^repository-code: .*\n", "", citation.read_text(encoding="utf-8"), flags=re.M)
    entry = f'repository-code: "{url}"\n' if url else ""
    wanted.append((citation, text.replace("license:", f"{entry}license:", 1)))
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell.get("id") == CELL:
                cell["source"] = preamble().splitlines(keepends=True)
        wanted.append((path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"))
    return wanted


def main(arguments: list[str]) -> int:
    """Set the address, if one is given, and renew what repeats it; 2 for a refusal."""
    if len(arguments) > 1 or (arguments and not _is_github(arguments[0])):
        print(
            f"{' '.join(arguments)!r}: expected one address like https://github.com/OWNER/NAME, "
            "because Binder and Colab open repositories there",
            file=sys.stderr,
        )
        return 2
    if arguments:
        path = project_root() / "pyproject.toml"
        text = re.sub(r"^\[project\.urls\]\n.*\n\n", "", path.read_text("utf-8"), flags=re.M)
        before = "[project.optional-dependencies]"
        path.write_text(text.replace(before, SETTING.format(arguments[0]) + before, 1), "utf-8")
    for path in renew():
        print(path)
    return 0


def _is_github(url: str) -> bool:
    return re.fullmatch(r"https://github\.com/[\w-]+/[\w.-]+", url) is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
