"""Time fits of one case, by whichever revision of somlib is on the path.

    python worker.py CASE DIGITS.npy WIDE.npy         then a line on stdin for each answer

`benchmarks.compare` starts it. The file runs against other revisions than its own, so it uses their
public interface only, and nothing else of this folder. It answers a number n by the seconds of a
fit of n iterations, and "peak" by the MB that its fits have added to its memory at most.
"""

import json
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import somlib

PAPER = (500, 500, 2000)
DIGITS = (32, 32, 64)


def estimator(kind: str, *choices: dict[str, Any], **parameters: Any) -> Any:
    """Return an estimator by name, with the first of several choices of parameters that it has.

    A choice names the parameters as one revision does.
    """
    found = getattr(somlib, kind, None) or getattr(somlib.clustering, kind)
    for choice in choices or ({},):
        try:
            return found(**parameters, **choice, random_state=0, device="cpu")
        except TypeError as error:
            refused = error
    raise refused


def dcsomrl(hidden: tuple[int, ...], m: int, **parameters: Any) -> Any:
    return estimator(
        "DCSOMRL",
        {"node_rate": 0.1426, "learning_rate": 1e-3},
        {"learning_rate": 0.1426, "adam_rate": 1e-3},  # until the nodes' rate got its own name
        hidden=hidden,
        latent_dim=m,
        **parameters,
    )


def somrl(**parameters: Any) -> Any:
    choices: list[dict[str, Any]] = [{"node_rate": 0.1}, {"learning_rate": 0.1}]
    return estimator("SOMRL", *choices, max_nodes=200, **parameters)


@dataclass(frozen=True)
class Case:
    """What is fitted: `make` returns the estimator; one seed, or several in one pass.

    The seconds of an iteration are the difference between a fit of `many` iterations and one of
    `few`, divided by how many more those are; `counted` is the parameter that says how many.
    """

    data: str
    make: Callable[[], Any]
    few: int
    many: int
    seeds: int = 1
    counted: str = "n_iter"


def _som(mode: str, **parameters: Any) -> Callable[[], Any]:
    return lambda: estimator("SOM", grid=(20, 20), mode=mode, **parameters)


CASES = {
    "SOM batch, digits": Case("digits", _som("batch"), 2, 42, counted="n_epochs"),
    "SOM online, digits": Case("digits", _som("online"), 1, 5, counted="n_epochs"),
    "SOM sgd, digits": Case("digits", _som("sgd"), 20, 620),
    "SOM batch, 10k × 784": Case("wide", _som("batch"), 1, 8, counted="n_epochs"),
    "SOM online, 10k × 784": Case("wide", _som("online"), 1, 2, counted="n_epochs"),
    "SOM sgd, 10k × 784": Case("wide", _som("sgd"), 5, 105),
    "DESOM digits, 10 seeds": Case(
        "digits", lambda: estimator("DESOM", hidden=DIGITS, latent_dim=8, batch_size=64),
        10, 410, 10,
    ),
    "DESOM full size": Case(
        "wide", lambda: estimator("DESOM", hidden=PAPER, latent_dim=10), 5, 45
    ),
    "DESOM full size, 3 seeds": Case(
        "wide", lambda: estimator("DESOM", hidden=PAPER, latent_dim=10), 5, 25, 3
    ),
    "SOAE digits, 10 seeds": Case(
        "digits", lambda: estimator("SOAE", hidden=(64, 64), batch_size=128), 10, 310, 10
    ),
    "SOAE full size": Case("wide", lambda: estimator("SOAE"), 5, 155),
    "VAE digits, 10 seeds": Case(
        "digits", lambda: estimator("VAE", hidden=(64, 64), batch_size=128), 10, 410, 10
    ),
    "VAE full size": Case("wide", lambda: estimator("VAE"), 5, 205),
    "SOMRL digits, 10 seeds": Case("digits", lambda: somrl(batch_size=64), 10, 70, 10),
    "SOMRL 10k × 784": Case("wide", somrl, 5, 35),
    "DCSOMRL digits, 10 seeds": Case(
        "digits", lambda: dcsomrl(DIGITS, 8, batch_size=64), 10, 70, 10
    ),
    "DCSOMRL full size": Case("wide", lambda: dcsomrl(PAPER, 22), 5, 35),
    "DEC, digits": Case(
        "digits",
        lambda: estimator("DEC", hidden=DIGITS, latent_dim=8, pretrain_epochs=1),
        20, 620,
    ),
    "SOMVAE, digits": Case(
        "digits", lambda: estimator("SOMVAE", hidden=DIGITS, latent_dim=8), 20, 420
    ),
}  # fmt: skip
"""By name, public calls of small and of full size."""


def fit(case: Case, X: Any, n: int) -> None:
    model = case.make().set_params(**{case.counted: n})
    if case.seeds == 1:
        model.fit(X)
    else:
        somlib.fit_seeds(model, X, range(case.seeds))


def megabytes(field: str) -> float:
    """Return a field of this process's status: memory now (VmRSS), at most (VmHWM)."""
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def main(name: str, digits: str, wide: str) -> None:
    warnings.simplefilter("ignore")
    case = CASES[name]
    X = np.load({"digits": digits, "wide": wide}[case.data])
    case.make(), somlib.fit_seeds  # their modules are imported when first asked for
    before = megabytes("VmRSS")
    fit(case, X, case.few)  # what is slow at first is over before the clock starts
    modules = [m for name, m in sys.modules.items() if name.split(".")[0] == "somlib"]
    print(json.dumps([m.__file__ for m in modules]), flush=True)
    for line in sys.stdin:
        if line.strip() == "peak":
            print(json.dumps(megabytes("VmHWM") - before), flush=True)
            continue
        begin = time.perf_counter()
        fit(case, X, int(line))
        print(json.dumps(time.perf_counter() - begin), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
