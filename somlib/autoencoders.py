"""Autoencoders: a code from which a network can draw the sample again."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from somlib.training import DeepEstimator, Precision


def reconstruction_error(x: Tensor, decoded: Tensor) -> Tensor:
    """Return the squared error per feature of each seed, (S,), of shapes (B, d) and (S, B, d).

    ℒ_r of the DESOM slides with the mean over features that the released code takes: summed, it
    would weigh d times as much against the other term of the loss.
    """
    difference = decoded - x
    return (difference * difference).mean(dim=(1, 2))


class Autoencoder(DeepEstimator):
    """The plain autoencoder: encode, decode, lower the squared error.

    Parameters
    ----------
    hidden : sequence of int, default=(500, 500, 2000)
        Widths of the encoder's hidden layers, mirrored in the decoder; for "conv" the channels of
        its convolutions. The default is the network of DEC, IDEC and DESOM.
    latent_dim : int, default=10
        Width of the code.
    architecture : {"mlp", "conv"}, default="mlp"
        Dense layers, or convolutions of stride 2.
    image_shape : (int, int), optional
        Rows and columns that a sample folds into, for "conv"; square by default.
    n_epochs : int, default=200
        Passes over the data; 200 is the pre-training of the DESOM code.
    n_iter : int, optional
        Iterations in all, where a budget counts those; overrides `n_epochs`.
    batch_size : int, default=256
    learning_rate : float, default=1e-3
        Adam's.
    shuffle : bool, default=True
        Whether the samples come in a new order each epoch, its own for each seed.
    precision : {"float32", "fast"}, default="float32"
        "fast" rounds the factors of matrix products; see `training.products`.
    random_state : int, Generator, RandomState or None, default=None
        Decides first weights and order.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
    progress : bool, default=False
        Show a progress bar.

    Attributes
    ----------
    parameters_, history_, n_iter_, seed_
        See `training.DeepEstimator`.

    Raises
    ------
    ValueError
        From `fit`, when a parameter or the data is unusable.

    Examples
    --------
    >>> from somlib import data
    >>> X = data.load("digits").X
    >>> ae = Autoencoder(hidden=(64,), latent_dim=4, n_epochs=5, random_state=0).fit(X)
    >>> ae.transform(X).shape, ae.inverse_transform(ae.transform(X[:2])).shape
    ((1797, 4), (2, 64))
    """

    def __init__(
        self,
        hidden: Sequence[int] = (500, 500, 2000),
        latent_dim: int = 10,
        architecture: Literal["mlp", "conv"] = "mlp",
        image_shape: tuple[int, int] | None = None,
        n_epochs: int = 200,
        n_iter: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 1e-3,
        shuffle: bool = True,
        precision: Precision = "float32",
        random_state: Any = None,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        self.hidden = hidden
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.image_shape = image_shape
        self.n_epochs = n_epochs
        self.n_iter = n_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.shuffle = shuffle
        self.precision = precision
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def _losses(
        self, stack: Any, x: Tensor, rows: Tensor, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"loss": reconstruction_error(x, stack.decoder(stack.encoder(x)))}
