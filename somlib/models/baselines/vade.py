"""VaDE: a variational autoencoder whose prior is a mixture of Gaussians, one per cluster."""

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from somlib import checks
from somlib.models.baselines.centers import EmbeddedClustering, all_codes
from somlib.training import Array, Losses, Noise
from somlib.training.layers import MLP, AutoencoderNetwork, Dense
from somlib.training.schedules import in_steps


def expected_log_density(mean: Tensor, variance: Tensor, m: Tensor, log_v: Tensor) -> Tensor:
    """Return E log 𝒩(z; m_c, v_c) for z ~ 𝒩(mean, variance), without L/2 log 2π, (B, K).

    −½ Σ_j (log v_cj + variance_j / v_cj + (mean_j − m_cj)² / v_cj), as in Jiang 2017.
    """
    m, log_v = m.unsqueeze(-3), log_v.unsqueeze(-3)
    squares = (mean.unsqueeze(-2) - m).square() + variance.unsqueeze(-2)
    return -0.5 * (log_v + squares / log_v.exp()).sum(-1)


class VaDENetwork(AutoencoderNetwork):
    """An encoder of posterior means and log-variances, a decoder, and the mixture of the prior.

    Parameters
    ----------
    config : VaDE
        Its parameters.
    n_features : int
        d.
    generator : torch.Generator
        Initializes the weights.
    """

    encoder: MLP
    decoder: MLP

    def __init__(self, config: "VaDE", n_features: int, generator: torch.Generator) -> None:
        K, L = config.n_clusters, config.latent_dim
        super().__init__(n_features, config.hidden, L, generator, output="sigmoid")
        self.centers = nn.Parameter(torch.zeros(K, L))
        self.log_variance = Dense((n_features, *config.hidden)[-1], L, generator)
        self.log_v = nn.Parameter(torch.zeros(K, L))
        self.log_pi = nn.Parameter(torch.zeros(K))  # up to a constant
        self.latent_dim, self.config = L, config

    def schedules(self, n_iter: int) -> dict[str, Array]:
        """Return the learning rate at each iteration, at last a tenth of the first."""
        c = self.config
        rate = in_steps(c.learning_rate, c.rate_decay, c.rate_interval, n_iter)
        return {"learning_rate": np.maximum(rate, c.learning_rate / 10)}

    def initialize(self, X: Tensor, generator: torch.Generator) -> None:
        """Set the prior to a Gaussian mixture of the codes, and adapt the decoder to a sigmoid.

        The pre-trained decoder has a linear output y. The logits are 4 y − 2, the tangent of the
        inverse sigmoid at ½, so that the initial reconstructions are about the same.
        """
        seed, codes = generator.initial_seed() % 2**32, all_codes(self, X).numpy(force=True)
        mixture = GaussianMixture(len(self.centers), covariance_type="diag", random_state=seed)
        found = mixture.fit(codes)
        self.centers.copy_(torch.from_numpy(found.means_))
        self.log_v.copy_(torch.from_numpy(np.log(found.covariances_)))
        self.log_pi.copy_(torch.from_numpy(np.log(found.weights_)))
        last = cast("Dense", self.decoder.layers[-1])
        last.weight.mul_(4)
        last.bias.mul_(4).sub_(2)

    def noise(self, batch_size: int) -> dict[str, Noise]:
        """Return ε."""
        return {"epsilon": Noise((batch_size, self.latent_dim))}

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return μ and log σ² of q(z|x): two heads on the encoder's last hidden layer."""
        *hidden, head = self.encoder.layers
        for layer in hidden:
            x = layer(x).relu()
        return head(x), self.log_variance(x)

    def log_responsibilities(self, z: Tensor) -> Tensor:
        """Return log γ_c = log (π_c 𝒩(z; m_c, v_c) / Σ_c' π_c' 𝒩(z; m_c', v_c')), (B, K)."""
        log_p = expected_log_density(z, torch.zeros_like(z), self.centers, self.log_v)
        return torch.log_softmax(self.log_pi.unsqueeze(-2) + log_p, -1)

    def assign(self, x: Tensor) -> Tensor:
        """Return the most probable cluster of each sample, at the mean of its code, (B,)."""
        return self.log_responsibilities(self.encode(x)).argmax(-1)

    def losses(self, x: Tensor, epsilon: Tensor) -> Losses:
        """Return the negative ELBO with one z = μ + σ ε per sample, and its terms."""
        mean, log_var = self.posterior(x)
        z = mean + (log_var / 2).exp() * epsilon
        x_mean = self.decode(z)
        L_x = nn.functional.binary_cross_entropy(x_mean, x.expand_as(x_mean), reduction="none")
        log_gamma = self.log_responsibilities(z)  # γ_c = q(c|x) = p(c|z), Jiang 2017
        log_pi = self.log_pi.log_softmax(-1).unsqueeze(-2)
        log_p = expected_log_density(mean, log_var.exp(), self.centers, self.log_v)
        D_c = (log_gamma.exp() * (log_gamma - log_pi - log_p)).sum(-1)  # weighted by γ_c
        D_z = -0.5 * (1 + log_var).sum(-1)  # the negative entropy of q(z|x)
        L_r, D = L_x.sum(-1).mean(-1), (D_c + D_z).mean(-1)
        return {"loss": L_r + D, "reconstruction": L_r, "divergence": D}


@dataclass(eq=False, repr=False)
class VaDE(EmbeddedClustering):
    """Variational deep embedding: a variational autoencoder whose prior is a Gaussian mixture.

    A cluster c has probability π_c and codes 𝒩(m_c, v_c). The decoder's output is each pixel's
    Bernoulli probability. The loss is the negative evidence lower bound in nats, estimated with one
    z per sample. A sample's cluster is argmax_c p(c|z) at its posterior mean.

    Parameters
    ----------
    n_clusters : int, default=10
        Components; initialized by scikit-learn's `GaussianMixture` (diagonal) on the codes.
    n_iter : int, default=350_000
        500 epochs of MNIST; versions of the released code have 500 and 3000.
    batch_size, learning_rate, shuffle : default=100, 2e-3, True
        Those of the released code.
    rate_decay, rate_interval : float, int, default=0.9, 7000
        The learning rate is multiplied by `rate_decay` after every `rate_interval` iterations, 10
        epochs of MNIST, down to a tenth of its first value, as in the released code; the history
        holds it as "learning_rate".
    hidden, latent_dim, pretrain_epochs, ...
        See `EmbeddedClustering`. The posterior variances are a second output of the encoder.

    Raises
    ------
    ValueError
        From `fit`, when X is not within [0, 1].

    References
    ----------
    Z. Jiang, Y. Zheng, H. Tan, B. Tang and H. Zhou, "Variational Deep Embedding: An Unsupervised
    and Generative Approach to Clustering", IJCAI 2017.
    """

    n_clusters: checks.Count = 10
    _: KW_ONLY
    n_iter: checks.Count = 350_000
    batch_size: checks.Count = 100
    learning_rate: checks.Positive = 2e-3
    shuffle: bool = True
    rate_decay: checks.Fraction = 0.9
    rate_interval: checks.Count = 7000

    _in_unit_range: ClassVar[bool] = True

    def _build(self, d: int, generator: torch.Generator) -> VaDENetwork:
        return VaDENetwork(self, d, generator)

    def _assign(self, X: Array) -> NDArray[np.int64]:
        return np.asarray(self._apply("assign", X), dtype=np.int64)
