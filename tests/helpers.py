"""What several tests need: small estimators, networks as a training builds them, projects."""

import re
import warnings
from typing import ClassVar

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import somlib
from somlib.spaces import Euclidean, Grid
from somlib.training.network import NoiseSource, stacked

DENSE = {"hidden": (4,), "latent_dim": 2, "batch_size": 8, "n_iter": 3}
LATER = {**DENSE, "pretrain_epochs": 0}
SMALL = {
    "AEC": {**LATER, "n_clusters": 3},
    "Autoencoder": {**DENSE, "tied": True},
    "ContractiveAutoencoder": DENSE,
    "DCN": {**LATER, "n_clusters": 3},
    "DCSOMRL": {**DENSE, "max_nodes": 9},
    "DEC": {**LATER, "n_clusters": 3},
    "DESOM": {**DENSE, "grid": (2, 3)},
    "DeepKMeans": {**LATER, "n_clusters": 3, "n_alphas": 2},
    "DeepNeuralMaps": {**LATER, "grid": (2, 3)},
    "DenoisingAutoencoder": DENSE,
    "IDEC": {**LATER, "n_clusters": 3},
    "Kerasom": {"grid": Grid(2, 3), "n_iter": 3, "batch_size": 8},
    "MiniSomMap": {"grid": (2, 3), "n_iter": 20},
    "RBM": {"latent_dim": 3, "n_iter": 3, "batch_size": 8},
    "SNE": {"perplexity": 5.0, "n_iter": 21},
    "SOAE": {"space": Euclidean(2), "hidden": (4,), "n_iter": 3, "batch_size": 8},
    "SOM": {"grid": Grid(2, 3, "hex"), "n_epochs": 2},
    "SOMRL": {"max_nodes": 9, "n_iter": 3, "batch_size": 8},
    "SOMVAE": {**LATER, "grid": (2, 3)},
    "SparseAutoencoder": {**DENSE, "k": 2},
    "VAE": {"hidden": (4,), "n_iter": 3, "batch_size": 8},
    "VaDE": {**LATER, "n_clusters": 3},
}
"""Parameters with which each estimator is trained on 24 samples of 6 features in no time."""


def small(name, **changes):
    """Return a small estimator by its name."""
    return getattr(somlib, name)(**SMALL[name] | {"random_state": 0} | changes)


def quiet(function, *args, **options):
    """Call what may warn of a model that had too little to learn from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)


PARAMETERS = """\
profile: str = "quick"  # quick or full
device: str = "cpu"  # auto, cpu, cuda or mps
n_seeds: int = 2  # runs
deterministic: bool = False  # on a GPU, too
n_points: int = 40  # n = points of a walk
rate: float = 0.5  # length of a step
fast: bool = False  # skip something
name: str = "walk"  # of nothing
sizes: list[int] = [1]  # cannot be given on the command line
"""


def require_none(wrong):
    """Fail with all that is wrong, a line for each."""
    if wrong:
        lines = [f"{given}: {found}" for given, found in wrong.items()]
        pytest.fail("\n".join(lines), pytrace=False)


def write_notebook(path, *cells, parameters=PARAMETERS):
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(metadata={"kernelspec": spec})
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook.cells = [new_markdown_cell("# Toy"), tagged, *map(new_code_cell, cells)]
    nbformat.write(notebook, path)


def make_project(folder, **notebooks):
    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    for name, cells in notebooks.items():
        write_notebook(folder / "notebooks" / f"{name.lstrip('_')}.ipynb", *cells)
    return folder


def in_words(value):
    """Return an id for a parameter that is the same in every process: addresses differ."""
    return re.sub(r" at 0x\w+", "", str(value))


def built(model, d, seeds, X=None, dtype=torch.float64):
    """Return the network of these seeds as a training builds it, initialized where X is given."""
    networks = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        network = model._build(d, generator).to(dtype)
        if X is not None:
            with torch.no_grad():
                network.initialize(X, generator)
        networks.append(network)
    return stacked(networks)


def noise(network, model, seeds, i, like):
    """Return the noise of iteration i by name."""
    return NoiseSource(network.noise(model.batch_size), seeds, like)(i)


def watched(cls):
    """Return a subclass of an estimator that records its trainings.

    `first` gets the initialized parameters of each seed's network, `batches` the rows of each
    iteration.
    """

    class Watched(cls):
        first: ClassVar[list] = []
        batches: ClassVar[list] = []

        def _build(self, d, generator):
            network = super()._build(d, generator)
            kind = type(network)

            class WatchedNetwork(kind):
                def initialize(self, X, generator):
                    super().initialize(X, generator)
                    state = {k: v.clone().numpy() for k, v in self.state_dict().items()}
                    Watched.first.append(state)

                def updates(self, x, rows, **arguments):
                    Watched.batches.append(rows.numpy())
                    return super().updates(x, rows, **arguments)

            network.__class__ = WatchedNetwork
            return network

    return Watched
