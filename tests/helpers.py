"""What several tests need: networks as a training builds them, and the noise that it passes."""

import re
from typing import ClassVar

import torch

from somlib.training.network import NoiseSource, stacked


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
