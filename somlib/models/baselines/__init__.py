"""The methods that the DESOM slides compare with.

- `Kerasom`: the SOM loss alone, on the samples themselves.
- `DEC`: an encoder that learns from its own confident assignments; `IDEC` keeps the decoder.
- `DCN`: an autoencoder with the k-means loss instead.
- `DeepNeuralMaps`: IDEC's loss, but the centers lie on a grid and move by Kohonen's rule.
- `VaDE`: the centers are a mixture of Gaussians, the prior of a variational autoencoder.
- `SOMVAE`: the code is replaced by the nearest embedding of a grid.
- `MiniSomMap`: the library MiniSom behind the same interface.
- `merge_prototypes`: k-means on the prototypes of a map, the slides' "+km".

They differ in their losses, in where the centers start and in what moves them. What they share is
in `centers`. k-means and Gaussian mixtures on codes are scikit-learn's own, on what
`Autoencoder.transform` returns.
"""

from somlib.models.baselines.dcn import DCN, running_mean
from somlib.models.baselines.dec import (
    DEC,
    IDEC,
    kl_divergence,
    soft_assignment,
    target_distribution,
)
from somlib.models.baselines.deep_neural_maps import DeepNeuralMaps, kohonen_step
from somlib.models.baselines.kerasom import Kerasom
from somlib.models.baselines.merging import merge_prototypes
from somlib.models.baselines.minisom import MiniSomMap
from somlib.models.baselines.som_vae import SOMVAE
from somlib.models.baselines.vade import VaDE, expected_log_density

__all__ = [
    "DCN",
    "DEC",
    "IDEC",
    "SOMVAE",
    "DeepNeuralMaps",
    "Kerasom",
    "MiniSomMap",
    "VaDE",
    "expected_log_density",
    "kl_divergence",
    "kohonen_step",
    "merge_prototypes",
    "running_mean",
    "soft_assignment",
    "target_distribution",
]
