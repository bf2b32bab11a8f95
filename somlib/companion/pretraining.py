"""The small models of the package in notebooks: trained by `somlib pretrain`, loaded otherwise.

`somlib pretrain` runs the part of a notebook that trains them: its set-up, which is all code before
the first section, and the cells with the tag `pretrained`. In these, `Run.pretrained` trains a
model where the environment variable SOMLIB_WEIGHTS names the folder to write to. It is set by
`somlib pretrain` alone.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from somlib import data
from somlib.companion import display, report
from somlib.data import Dataset
from somlib.models import pretrained

TAG = "pretrained"
"""The tag of the cells that train small models."""

_VARIABLE = "SOMLIB_WEIGHTS"
_MEASURED = ("test images", "sample, before rounding", "sample")
"""What is measured, as the record names it."""

Train = Callable[[Dataset], Any]
Measure = Callable[[Any, Dataset], Mapping[str, float]]

# ---------------------------------------------------------------- in a notebook


def model(run: report.Run, name: str, train: Train, measure: Measure) -> Any:
    """Return a small model, trained or loaded; see `Run.pretrained`."""
    if folder := os.environ.get(_VARIABLE):
        _make(run, name, train, measure, Path(folder))
    where = Path(folder) if folder else pretrained.FOLDER
    found, record = pretrained.read(name, where), pretrained.record(name, where)
    measures = {what: record["metrics"][what] for what in _MEASURED}
    now = measures | {"sample, now": measure(found, data.load("mnist-sample"))}
    display.show(_described(record, pd.DataFrame(now)))
    return found


def _make(run: report.Run, name: str, train: Train, measure: Measure, folder: Path) -> None:
    """Train a model on MNIST, and write it with its record."""
    images, began = data.load("mnist", "train"), time.monotonic()
    trained = train(images)
    facts: dict[str, Any] = {
        "name": name,
        "class": type(trained).__name__,
        "model": " ".join(repr(trained).split()),
        "notebook": run.notebook,
        "trained on": f"the {len(images)} training images of MNIST",
        "seed": trained.seed_,
        "device": run.device,
        "seconds": round(time.monotonic() - began, 1),
    }
    small = pretrained.as_stored(trained)
    test, sample = data.load("mnist", "test"), data.load("mnist-sample")
    judged = ((small, test), (trained, sample), (small, sample))
    metrics = {
        what: {key: float(value) for key, value in measure(*pair).items()}
        for what, pair in zip(_MEASURED, judged, strict=True)
    }
    pretrained.write(name, trained, facts | {"metrics": metrics} | run.made_by, folder)


def _described(record: dict[str, Any], measures: pd.DataFrame) -> str:
    """Return a table of measures, and what was trained."""
    heads = {
        "test images": "10 000 test images",
        "sample": "mnist-sample",
        "sample, before rounding": "mnist-sample, before rounding",
        "sample, now": "mnist-sample, computed now",
    }
    digits = measures.map("{:.5g}".format)  # so many that rounding can be seen
    table = digits.rename(columns=heads).reset_index(names="measure")
    return (
        f"{report.markdown(table)}\n\n**{record['name']}.** `{record['model']}`, trained on "
        f"{record['trained on']}, {record['bytes'] / 1000:.0f} KB."
    )


# ---------------------------------------------------------------- `somlib pretrain`


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Let the notebooks that start inside a `with` train models and write them to a folder."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before


def part(notebook: dict[str, Any]) -> dict[str, Any] | None:
    """Return the part of a notebook that trains small models; None if it trains none."""
    cells: list[dict[str, Any]] = notebook["cells"]
    starts = [bool(re.search(r"^## ", "".join(cell["source"]), flags=re.M)) for cell in cells]
    first = [*starts, True].index(True)
    set_up = [cell for cell in cells[:first] if cell["cell_type"] == "code"]
    training = [cell for cell in cells if TAG in cell["metadata"].get("tags", ())]
    return notebook | {"cells": set_up + training} if training else None


def summary(folder: Path) -> str:
    """Return a table in Markdown of the models in a folder."""
    records = [pretrained.record(name, folder) for name in pretrained.names(folder)]
    rows = [
        {
            "model": record["name"],
            "KB": round(record["bytes"] / 1000),
            "seconds": record["seconds"],
            "on the test images": ", ".join(
                f"{key} {value:.4g}" for key, value in record["metrics"]["test images"].items()
            ),
        }
        for record in records
    ]
    total = sum(record["bytes"] for record in records)
    return f"{report.markdown(pd.DataFrame(rows))}\n\n{folder}: {total / 1e6:.1f} MB"
