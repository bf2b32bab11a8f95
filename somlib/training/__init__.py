"""Training: networks and layers, one step, the loop, ensembles of seeds, the estimators' base."""

from somlib.training.ensembles import ITERATIONS_PER_LOG
from somlib.training.estimator import ROWS_AT_ONCE, DeepEstimator, fit_seeds
from somlib.training.layers import AutoencoderNetwork
from somlib.training.network import Array, Losses, Network, Noise

__all__ = [
    "ITERATIONS_PER_LOG",
    "ROWS_AT_ONCE",
    "Array",
    "AutoencoderNetwork",
    "DeepEstimator",
    "Losses",
    "Network",
    "Noise",
    "fit_seeds",
]
