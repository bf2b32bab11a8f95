"""Self-organizing maps and their deep descendants: models, metrics, plots and a runner.

>>> from somlib import SOM, data
>>> som = SOM(grid=(6, 6), random_state=0).fit(data.load("digits").X)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

TRAINED = {
    "Autoencoder": "autoencoders",
    "ContractiveAutoencoder": "autoencoders",
    "DCN": "clustering",
    "DCSOMRL": "somrl",
    "DEC": "clustering",
    "DESOM": "desom",
    "DeepNeuralMaps": "clustering",
    "DenoisingAutoencoder": "autoencoders",
    "IDEC": "clustering",
    "Kerasom": "clustering",
    "RBM": "boltzmann",
    "SOAE": "soae",
    "SOM": "som",
    "SOMRL": "somrl",
    "SOMVAE": "clustering",
    "SparseAutoencoder": "autoencoders",
    "VAE": "vae",
    "VaDE": "clustering",
}
"""Estimators that `somlib fit` trains, with a device and checkpoints, and where they are."""

ESTIMATORS = TRAINED | {"MiniSomMap": "clustering", "SNE": "sne"}
"""All estimators: what a saved file may name, by plain names, which outlive a move of modules."""

# Imported when first asked for, so that `somlib --help` need not wait for PyTorch.
_HOME = ESTIMATORS | {
    "Euclidean": "spaces",
    "Grid": "spaces",
    "Sphere": "spaces",
    "Torus": "spaces",
    "fit_seeds": "training",
    "load": "storage",
}
_MODULES = (
    *("autoencoders", "boltzmann", "cache", "clustering", "data", "desom", "diagrams", "metrics"),
    *("networks", "plots", "report", "schedules", "sne", "soae", "som", "somrl", "spaces"),
    *("training", "vae"),
)
__all__ = ["__version__", *_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"somlib.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"somlib.{name}")
    raise AttributeError(f"module 'somlib' has no attribute {name!r}")
