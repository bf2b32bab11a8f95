import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from browser import chromium, tab  # noqa: F401 - fixtures
from hypothesis import settings

mpl.use("agg")
# a shell starts what runs in the background with interrupts ignored, and its children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
# toy sizes gain nothing from a second thread, and two that wait for a busy core lose minutes
torch.set_num_threads(1)
# the same examples on every machine, and no stop-watch on machines of unknown speed
settings.register_profile("somlib", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("somlib")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Run all notebooks headlessly, once, as `make figures` does, into a folder of their own."""
    folder = tmp_path_factory.mktemp("output")
    command = [sys.executable, "-m", "somlib.companion.cli", "reproduce", "--output", str(folder)]
    environment = os.environ | {"PYTHONWARNINGS": ""}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    return done, folder
