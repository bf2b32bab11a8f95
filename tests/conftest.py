import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

mpl.use("agg")
# toy sizes gain nothing from a second thread, and two that wait for a busy core lose minutes
torch.set_num_threads(1)
# the same examples on every machine, and no stop-watch on machines of unknown speed
settings.register_profile("somlib", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("somlib")


def pytest_collection_modifyitems(items):
    """Leave tests to one process that share what is made once per file (`pytest --dist loadgroup`).

    Everything else may run anywhere.
    """
    for item in items:
        shared = item._fixtureinfo.name2fixturedefs.values()
        if any(definition.scope == "module" for (*_, definition) in shared):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
