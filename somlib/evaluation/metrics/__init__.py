"""How good a map, an embedding or a clustering is: pure functions of arrays.

- `maps`: do the prototypes represent the samples, and does the map keep neighbors together?
  `quantization_error`, `topographic_error`, `distortion`, `combined_error`, `topographic_product`.
- `embeddings`: does any embedding keep neighbors together, and classes? `trustworthiness`,
  `continuity`, `knn_accuracy`.
- `topology`: further measures of neighbors and distances: `c_measure`, `kruskal_shepard_error`,
  `neighborhood_preservation`, `topographic_function`.
- `quality`: all measures of a map in one table, `summary`.
- `cluster_features`: what distinguishes a cluster of units: `cluster_means`, `cluster_differences`.
- `clusterings`: do clusters agree with classes? `purity`, `nmi`, `clustering_accuracy`,
  `class_scatter`, `dead_units`.
- `images`: are generated images like the data? `sharpness`, `variance_lost`, `frechet_distance`,
  `path_length_ratio`.

Arrays may be NumPy or torch; X is (n, d), weights (K, d) in the order of the grid's units. Bad
input (wrong shapes, lengths that differ, NaN, a grid of another size) is a ValueError that says
what to do. Nothing here makes an array of size n × n, n × K or n × K × d. The scale of the data
does not matter: where their squares would overflow or vanish, copies of the data are first divided
by a power of two, which is exact.
"""

from somlib.evaluation.metrics.cluster_features import cluster_differences, cluster_means
from somlib.evaluation.metrics.clusterings import (
    class_scatter,
    clustering_accuracy,
    dead_units,
    nmi,
    purity,
)
from somlib.evaluation.metrics.embeddings import continuity, knn_accuracy, trustworthiness
from somlib.evaluation.metrics.images import (
    frechet_distance,
    path_length_ratio,
    sharpness,
    variance_lost,
)
from somlib.evaluation.metrics.maps import (
    combined_error,
    distortion,
    quantization_error,
    topographic_error,
    topographic_product,
)
from somlib.evaluation.metrics.quality import summary
from somlib.evaluation.metrics.topology import (
    c_measure,
    kruskal_shepard_error,
    neighborhood_preservation,
    topographic_function,
)

__all__ = [
    "c_measure",
    "class_scatter",
    "cluster_differences",
    "cluster_means",
    "clustering_accuracy",
    "combined_error",
    "continuity",
    "dead_units",
    "distortion",
    "frechet_distance",
    "knn_accuracy",
    "kruskal_shepard_error",
    "neighborhood_preservation",
    "nmi",
    "path_length_ratio",
    "purity",
    "quantization_error",
    "sharpness",
    "summary",
    "topographic_error",
    "topographic_function",
    "topographic_product",
    "trustworthiness",
    "variance_lost",
]
