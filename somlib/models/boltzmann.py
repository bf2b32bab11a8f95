"""Restricted Boltzmann machines, and layer-wise pre-training of autoencoders with them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from somlib import checks
from somlib.models.autoencoders import Autoencoder, reconstruction_error
from somlib.models.layerwise import unrolled
from somlib.training import DeepEstimator, Losses, Noise, fit_seeds
from somlib.training.layers import MLP, AutoencoderNetwork, TiedDecoder


class RBMNetwork(AutoencoderNetwork):
    """Visible and hidden units: p(h|v) by the encoder, p(v|h) by the tied decoder's logits."""

    encoder: MLP
    decoder: TiedDecoder

    def __init__(self, config: "RBM", n_features: int, generator: torch.Generator) -> None:
        super().__init__(n_features, (), config.latent_dim, generator, code=config.code, tied=True)
        self.config = config

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return the random numbers that sample the hidden units."""
        binary = self.config.code == "sigmoid"
        shape = (batch_size, self.config.latent_dim)
        return {"random": Noise(shape, "uniform" if binary else "normal", block=2)}

    def free_energy(self, v: Tensor) -> Tensor:
        """Return F(v) = −log Σ_h exp(−E(v, h)) of each sample, (B,), up to a constant."""
        a = self.encoder.layers[0](v)
        hidden = nn.functional.softplus(a) if self.config.code == "sigmoid" else a.square() / 2
        return cast("Tensor", -(v * self.decoder.biases[0]).sum(-1) - hidden.sum(-1))

    def losses(self, x: Tensor, random: Tensor) -> Losses:
        """Return F(v) − F(v') of one step of contrastive divergence, v' held fixed."""
        with torch.no_grad():
            p = self.encode(x)
            h = (random < p).to(x) if self.config.code == "sigmoid" else p + random
            v_1 = self.decode(h).sigmoid()
        L = (self.free_energy(x) - self.free_energy(v_1)).mean(-1)
        return {"loss": L, "reconstruction": reconstruction_error(x, v_1)}


@dataclass(eq=False, repr=False)
class RBM(DeepEstimator):
    """Restricted Boltzmann machine: p(v, h) ∝ exp(b·v + c·h + v W h), by contrastive divergence.

    (Minus ‖h‖²/2 in the exponent, for real-valued hidden units.)

    One step of CD-1 samples hidden units h from p(h|v), computes the reconstruction v' (the
    probabilities, not sampled), and decreases F(v) − F(v') for the free energy F, v' held fixed.
    Its gradient is that of the usual rule, ⟨v h⟩ of the data minus ⟨v' h'⟩ of the reconstruction.

    Parameters
    ----------
    latent_dim : int, default=100
        Hidden units.
    code : {"sigmoid", "linear"}, default="sigmoid"
        Binary hidden units, or Gaussian ones with unit variance, as in the code layer of Hinton
        and Salakhutdinov.
    n_epochs : int, default=10
    n_iter : int, optional
        Overrides `n_epochs`.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle, precision, random_state, device, progress
        See `Autoencoder`.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`; the history also holds "reconstruction", the squared error
        per feature between v and v'. The loss itself does not measure progress.

    Raises
    ------
    ValueError
        From `fit`, also for features outside [0, 1], which are not probabilities.

    References
    ----------
    G. Hinton, "Training Products of Experts by Minimizing Contrastive Divergence", Neural
    Computation 14, 2002. scikit-learn's `BernoulliRBM` continues its Markov chains from
    batch to batch (persistent contrastive divergence) and has no Gaussian hidden units.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> RBM(32, n_epochs=2, random_state=0).fit(X).transform(X).shape
    (1797, 32)
    """

    latent_dim: checks.Count = 100
    code: Literal["sigmoid", "linear"] = "sigmoid"
    n_epochs: checks.Count = 10
    n_iter: checks.Count | None = None
    learning_rate: checks.Positive = 1e-3

    likelihood: ClassVar[str] = "bernoulli"
    _divisible: ClassVar[bool] = True
    _overcomplete: ClassVar[bool] = True

    def _build(self, d: int, generator: torch.Generator) -> RBMNetwork:
        return RBMNetwork(self, d, generator)


@checks.arguments
def pretrained(
    model: Autoencoder, X: ArrayLike, seeds: Iterable[int], **rbm: Any
) -> list[Autoencoder]:
    """Return autoencoders like `model`, one per seed, pre-trained layer by layer with RBMs.

    Greedy: each machine is trained on the hidden activations of the one below. The autoencoders
    are then trained by `fit(X, start=...)` or `fit_seeds(..., start=...)`.

    Parameters
    ----------
    model : Autoencoder
        Dense, with `activation="sigmoid"`, a linear or sigmoid code and
        `likelihood="bernoulli"`; left as it is.
    X : array of shape (n, d)
        Samples in [0, 1].
    seeds : iterable of int
    **rbm
        Parameters of each `RBM`, such as `n_epochs`.

    Raises
    ------
    ValueError
        For a model whose layers are not those of RBMs, and as `RBM.fit`.

    References
    ----------
    G. Hinton and R. Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks",
    Science 313, 2006.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> params = {"activation": "sigmoid", "likelihood": "bernoulli", "n_epochs": 2}
    >>> deep = Autoencoder((40, 20), 2, random_state=0, **params)
    >>> (start,) = pretrained(deep, X, [0], n_epochs=2)
    >>> deep.fit(X, start=start).transform(X).shape
    (1797, 2)
    """
    if model.architecture != "mlp" or model.code not in ("linear", "sigmoid"):
        raise ValueError(
            f"{model!r} cannot be pre-trained by Boltzmann machines: choose architecture='mlp' and "
            "a linear or sigmoid code"
        )
    if model.likelihood != "bernoulli":
        raise ValueError(
            f"likelihood={model.likelihood!r}: Boltzmann machines model probabilities, which need "
            "a decoder with a sigmoid; choose likelihood='bernoulli'"
        )
    if len(tuple(model.hidden)) and model.activation != "sigmoid":
        raise ValueError(
            f"activation={model.activation!r}: the units of a Boltzmann machine have sigmoid "
            "activations; choose activation='sigmoid'"
        )
    shared = {name: getattr(model, name) for name in ("batch_size", "precision", "device")}
    widths = (*model.hidden, model.latent_dim)
    codes: list[Any] = ["sigmoid"] * (len(widths) - 1) + [model.code]
    seeds, autoencoders = list(seeds), []
    first = fit_seeds(RBM(widths[0], codes[0], **shared | rbm), X, seeds)
    for seed, lowest in zip(seeds, first, strict=True):
        machines, hidden = [lowest], lowest.transform(X)
        for width, code in zip(widths[1:], codes[1:], strict=True):
            machine = RBM(width, code, random_state=seed, **shared | rbm)
            machines.append(machine.fit(hidden))
            hidden = machine.transform(hidden)
        learned = [machine.parameters_ for machine in machines]
        autoencoders.append(unrolled(model, X, seed, learned))
    return autoencoders
