"""The methods that the DESOM slides compare with.

- `Kerasom`: the SOM loss on the samples, without an autoencoder.
- `DEC`: an encoder trained on its own confident assignments; `IDEC` adds the reconstruction loss.
- `DCN`: an autoencoder with the k-means loss; `AEC` has the same loss, and updates assignments and
  centers of all codes once per epoch.
- `DeepKMeans`: the k-means loss with soft assignments, minimized by gradient.
- `DeepNeuralMaps`: IDEC's loss, with centers on a grid that are updated by Kohonen's rule.
- `VaDE`: a variational autoencoder with a mixture of Gaussians as prior.
- `SOMVAE`: the code is replaced by the nearest embedding of a grid.
- `MiniSomMap`: the library MiniSom behind the same interface.
- `merge_prototypes`: k-means on the prototypes of a map, the slides' "+km".

They differ in their losses, and in the initialization and the updates of the centers. Shared code
is in `centers`. For k-means and Gaussian mixtures of codes, use those of scikit-learn on
`Autoencoder.transform(X)`.
"""

from somlib.models.baselines.aec import AEC, lloyd_step
from somlib.models.baselines.dcn import DCN, running_mean
from somlib.models.baselines.dec import (
    DEC,
    IDEC,
    kl_divergence,
    soft_assignment,
    target_distribution,
)
from somlib.models.baselines.deep_kmeans import DeepKMeans, annealed, relaxed_kmeans
from somlib.models.baselines.deep_neural_maps import DeepNeuralMaps, kohonen_step
from somlib.models.baselines.kerasom import Kerasom
from somlib.models.baselines.merging import merge_prototypes
from somlib.models.baselines.minisom import MiniSomMap
from somlib.models.baselines.som_vae import SOMVAE
from somlib.models.baselines.vade import VaDE, expected_log_density

__all__ = [
    "AEC",
    "DCN",
    "DEC",
    "IDEC",
    "SOMVAE",
    "DeepKMeans",
    "DeepNeuralMaps",
    "Kerasom",
    "MiniSomMap",
    "VaDE",
    "annealed",
    "expected_log_density",
    "kl_divergence",
    "kohonen_step",
    "lloyd_step",
    "merge_prototypes",
    "relaxed_kmeans",
    "running_mean",
    "soft_assignment",
    "target_distribution",
]
