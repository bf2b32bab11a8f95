"""Run the quick notebooks from the wheel, outside the checkout; `make dist` calls this.

    python tests/from_wheel.py dist [NN ...]

The source distribution is unpacked into a temporary folder and its package removed, so that what
runs can only be the installed wheel. Its dependencies are those of the Python that runs this.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from pathlib import Path


def clean_environment(folder):
    """Make an environment with all packages of this one but somlib; return its Python."""
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(r"__editable__|_*somlib", path.name):
            (packages / path.name).symlink_to(path, target_is_directory=path.is_dir())
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    share = Path(sys.prefix, "share", "jupyter")  # what pages and kernels are made from
    (folder / "share").mkdir(exist_ok=True)
    (folder / "share" / "jupyter").symlink_to(share, target_is_directory=True)
    done = subprocess.run(asked, env=without_paths(), capture_output=True, text=True, check=True)
    Path(done.stdout.strip(), "packages.pth").write_text(str(packages), encoding="utf-8")
    return python


def without_paths():
    """Return the environment variables without those that lead to the checkout."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "SOMLIB_OUTPUT")}


def install(python, wheel):
    command = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    subprocess.run(command, env=without_paths(), check=True)


def unpacked(distribution, folder):
    """Unpack a source distribution without its package; return the folder of the project."""
    careful = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
    with tarfile.open(distribution) as archive:
        archive.extractall(folder, **careful)
    (project,) = folder.iterdir()
    shutil.rmtree(project / "somlib")
    return project


def main(dist, *only):
    (wheel,) = Path(dist).glob("*.whl")
    (source,) = Path(dist).glob("*.tar.gz")
    with tempfile.TemporaryDirectory(prefix="somlib wheel ") as folder:
        python = clean_environment(Path(folder, "environment"))
        install(python, wheel.absolute())
        project = unpacked(source, Path(folder, "source"))
        command = [python, "-m", "somlib", "reproduce", "--output", Path(folder, "output")]
        command += ["--only", *only] if only else []
        return subprocess.run(command, cwd=project, env=without_paths(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
