"""Self-organizing maps and deep self-organizing models: models, metrics, plots and a runner.

>>> from somlib import SOM, data
>>> som = SOM(grid=(6, 6), random_state=0).fit(data.load("digits").X)

The packages; each imports only those below it:

    companion    command line, runner, queue, report, cache, results to carry along
    evaluation   metrics, plots, diagrams, interactive pieces
    models       one file per model; baselines: the methods that the papers compare with
    training     layers, one step, the loop, ensembles of seeds, estimators' base, saving
    data         data sets with checksums
    search       exact best-matching units, matrix products
    spaces       latent spaces and their distances

Below all of them: arrays (the way in for data), checks (declarations of parameters), files, hashing
and progress.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

TRAINED = {
    "AEC": "models.baselines",
    "Autoencoder": "models.autoencoders",
    "ContractiveAutoencoder": "models.autoencoders",
    "DCN": "models.baselines",
    "DCSOMRL": "models.somrl",
    "DEC": "models.baselines",
    "DESOM": "models.desom",
    "DeepKMeans": "models.baselines",
    "DeepNeuralMaps": "models.baselines",
    "DenoisingAutoencoder": "models.autoencoders",
    "IDEC": "models.baselines",
    "Kerasom": "models.baselines",
    "RBM": "models.boltzmann",
    "SOAE": "models.soae",
    "SOM": "models.som",
    "SOMRL": "models.somrl",
    "SOMVAE": "models.baselines",
    "SparseAutoencoder": "models.autoencoders",
    "VAE": "models.vae",
    "VaDE": "models.baselines",
}
"""Estimators that `somlib fit` trains, with a device and checkpoints, and their modules."""

ESTIMATORS = TRAINED | {"MiniSomMap": "models.baselines", "SNE": "models.sne"}
"""All estimators by plain names, as saved files contain them, and their modules."""

# Imported on first use, so that `somlib --help` does not import PyTorch.
NAMES = ESTIMATORS | {
    "Euclidean": "spaces",
    "Grid": "spaces",
    "Sphere": "spaces",
    "Torus": "spaces",
    "fit_seeds": "training",
    "load": "training.saving",
    "load_pretrained": "models.pretrained",
    "suggest_grid": "models.kohonen",
}
"""Public names, and their modules."""

MODULES = {
    "autoencoders": "models.autoencoders",
    "boltzmann": "models.boltzmann",
    "cache": "companion.cache",
    "clustering": "models.baselines",
    "data": "data",
    "desom": "models.desom",
    "diagrams": "evaluation.diagrams",
    "interactive": "evaluation.interactive",
    "kohonen": "models.kohonen",
    "layers": "training.layers",
    "metrics": "evaluation.metrics",
    "plots": "evaluation.plots",
    "report": "companion.report",
    "schedules": "training.schedules",
    "sne": "models.sne",
    "soae": "models.soae",
    "som": "models.som",
    "somrl": "models.somrl",
    "spaces": "spaces",
    "training": "training",
    "vae": "models.vae",
}
"""Public modules as attributes of `somlib`, and their paths."""

__all__ = ["__version__", *NAMES, *MODULES]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(f"somlib.{NAMES[name]}"), name)
    if name in MODULES:
        return import_module(f"somlib.{MODULES[name]}")
    raise AttributeError(f"module 'somlib' has no attribute {name!r}")
