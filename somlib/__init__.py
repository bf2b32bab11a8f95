"""Self-organizing maps and their deep descendants: models, metrics, plots and a runner.

>>> from somlib import SOM, data
>>> som = SOM(grid=(6, 6), random_state=0).fit(data.load("digits").X)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported when first asked for, so that `somlib --help` need not wait for PyTorch.
_HOME = {
    "Autoencoder": "autoencoders",
    "ContractiveAutoencoder": "autoencoders",
    "DCSOMRL": "somrl",
    "DESOM": "desom",
    "DenoisingAutoencoder": "autoencoders",
    "Euclidean": "spaces",
    "Grid": "spaces",
    "RBM": "boltzmann",
    "SNE": "sne",
    "SOAE": "soae",
    "SOM": "som",
    "SOMRL": "somrl",
    "SparseAutoencoder": "autoencoders",
    "Sphere": "spaces",
    "Torus": "spaces",
    "VAE": "vae",
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
