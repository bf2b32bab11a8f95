"""Layer-wise pre-training: each layer of an autoencoder begins as a network of its own.

`stacked_denoising` trains each layer as a denoising autoencoder; `boltzmann` has the same with
restricted Boltzmann machines.
"""

from collections.abc import Mapping, Sequence

import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from torch import Tensor

from somlib.models.autoencoders import Autoencoder, DenoisingAutoencoder
from somlib.training import Array, fit_seeds
from somlib.training.network import member_state


def stacked_denoising(
    model: Autoencoder, X: ArrayLike, seeds: Sequence[int], n_epochs: int, noise: float = 0.2
) -> list[Autoencoder]:
    """Return autoencoders like `model`, one per seed, with layers trained one after the other.

    Greedy: layer i is the encoder of a denoising autoencoder of one layer, trained on the codes of
    layer i − 1, of which a fraction is set to 0. It has the activation that the layer has in
    `model`, and a linear reconstruction. The whole is then trained by `fit(X, start=...)`.

    Parameters
    ----------
    model : Autoencoder
        Dense; left as it is.
    X : array of shape (n, d)
    seeds : sequence of int
    n_epochs : int
        Epochs of each layer.
    noise : float, default=0.2
        Fraction of a layer's inputs that is set to 0, as in DEC.

    References
    ----------
    P. Vincent, H. Larochelle, I. Lajoie, Y. Bengio and P.-A. Manzagol, "Stacked Denoising
    Autoencoders", JMLR 11, 2010. DEC (Xie 2016) also drops hidden units, has ReLU reconstructions
    above the first layer, and stochastic gradient descent.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> deep = Autoencoder((40, 20), 2, n_epochs=2, random_state=0)
    >>> (start,) = stacked_denoising(deep, X, [0], n_epochs=2)
    >>> deep.fit(X, start=start).transform(X).shape
    (1797, 2)
    """
    names = ("batch_size", "learning_rate", "shuffle", "precision", "device", "tied")
    shared = {name: getattr(model, name) for name in names}
    shared |= {"n_epochs": n_epochs, "corruption": "masking", "noise": noise}
    widths = (*model.hidden, model.latent_dim)
    activations = [model.activation] * (len(widths) - 1) + [model.code]
    layers = [
        DenoisingAutoencoder((), width, code=activation, **shared)
        for width, activation in zip(widths, activations, strict=True)
    ]
    lowest = fit_seeds(layers[0].set_params(likelihood=model.likelihood), X, seeds)
    autoencoders = []
    for seed, layer in zip(seeds, lowest, strict=True):
        fitted, hidden = [layer], layer.transform(X)
        for above in layers[1:]:
            fitted.append(clone(above).set_params(random_state=seed).fit(hidden))
            hidden = fitted[-1].transform(hidden)
        autoencoders.append(unrolled(model, X, seed, [one.parameters_ for one in fitted]))
    return autoencoders


def unrolled(
    model: Autoencoder, X: ArrayLike, seed: int, layers: Sequence[Mapping[str, Array]]
) -> Autoencoder:
    """Return an autoencoder like `model` with the parameters of networks of one layer.

    The decoder has their weights in reverse, or the encoder's, transposed, if theirs are tied.
    """
    whole: Autoencoder = clone(model).set_params(random_state=seed)
    data = torch.from_numpy(whole._valid(X, reset=True))
    network = whole._build(data.shape[1], torch.Generator().manual_seed(seed)).to(data)
    state: dict[str, Tensor] = {}
    for i, layer in enumerate(layers):
        learned = {name: torch.from_numpy(value) for name, value in layer.items()}
        W, down = learned["encoder.layers.0.weight"], len(layers) - 1 - i
        state |= {
            f"encoder.layers.{i}.weight": W,
            f"encoder.layers.{i}.bias": learned["encoder.layers.0.bias"],
        }
        bias = learned.get("decoder.biases.0", learned.get("decoder.layers.0.bias"))
        if model.tied:
            state |= {f"decoder.biases.{down}": bias}
        else:
            back = learned.get("decoder.layers.0.weight", W.mT)
            state |= {f"decoder.layers.{down}.weight": back, f"decoder.layers.{down}.bias": bias}
    network.load_state_dict(state)
    whole._learn(member_state(network, 0, 1))
    whole.seed_, whole.n_iter_, whole.history_ = seed, 0, {}
    return whole
