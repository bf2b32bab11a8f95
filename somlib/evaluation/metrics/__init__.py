"""How good a map, an embedding or a clustering is: pure functions of arrays.

- `maps`: do the prototypes represent the samples, and does the map keep neighbors together?
  `quantization_error`, `topographic_error`, `distortion`, `combined_error`, `topographic_product`.
- `embeddings`: does any embedding keep neighbors together, and classes? `trustworthiness`,
  `continuity`, `knn_accuracy`.
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

__all__ = [
    "class_scatter",
    "clustering_accuracy",
    "combined_error",
    "continuity",
    "dead_units",
    "distortion",
    "frechet_distance",
    "knn_accuracy",
    "nmi",
    "path_length_ratio",
    "purity",
    "quantization_error",
    "sharpness",
    "topographic_error",
    "topographic_product",
    "trustworthiness",
    "variance_lost",
]
