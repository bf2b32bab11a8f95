"""Where the companion reads and writes."""

import os
from pathlib import Path


def project_root() -> Path:
    """Return the nearest parent folder with notebooks/ and pyproject.toml, or else this one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "notebooks").is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    return here


def output_folder(*parts: str) -> Path:
    """Return a folder below SOMLIB_OUTPUT or, if that is not set, below the project's root."""
    top = Path(os.environ.get("SOMLIB_OUTPUT") or project_root()).expanduser()
    return top.absolute().joinpath(*parts)
