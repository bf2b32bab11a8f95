"""Self-organizing maps and their deep descendants: models, metrics, plots and a runner.

>>> from somlib import SOM, data
>>> som = SOM(grid=(6, 6), random_state=0).fit(data.load("digits").X)

The floor plan; imports run from the bottom up:

    companion    command line, runner, report, cache
    evaluation   metrics, plots, diagrams
    models       one file per model; baselines: the methods that the papers compare with
    training     networks, one step, the loop, ensembles of seeds, estimators' base, saving
    data         data sets, every byte checked
    search       exact best-matching units, matrix products
    spaces       where latent codes live, and how far apart they are
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

TRAINED = {
    "Autoencoder": "models.autoencoders",
    "ContractiveAutoencoder": "models.autoencoders",
    "DCN": "models.baselines",
    "DCSOMRL": "models.somrl",
    "DEC": "models.baselines",
    "DESOM": "models.desom",
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
"""Estimators that `somlib fit` trains, with a device and checkpoints, and where they are."""

ESTIMATORS = TRAINED | {"MiniSomMap": "models.baselines", "SNE": "models.sne"}
"""All estimators: what a saved file may name, by plain names, which outlive a move of modules."""

# Imported when first asked for, so that `somlib --help` need not wait for PyTorch.
NAMES = ESTIMATORS | {
    "Euclidean": "spaces",
    "Grid": "spaces",
    "Sphere": "spaces",
    "Torus": "spaces",
    "fit_seeds": "training",
    "load": "training.saving",
}
"""Public names, and where they are."""

MODULES = {
    "autoencoders": "models.autoencoders",
    "boltzmann": "models.boltzmann",
    "cache": "companion.cache",
    "clustering": "models.baselines",
    "data": "data",
    "desom": "models.desom",
    "diagrams": "evaluation.diagrams",
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
"""Public modules, as attributes of `somlib`, and where they are."""

__all__ = ["__version__", *NAMES, *MODULES]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return getattr(import_module(f"somlib.{NAMES[name]}"), name)
    if name in MODULES:
        return import_module(f"somlib.{MODULES[name]}")
    raise AttributeError(f"module 'somlib' has no attribute {name!r}")
