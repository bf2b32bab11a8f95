import signal

import matplotlib as mpl
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
