"""Adam, the optimizer of all models that are trained by gradients."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.optim.adam import adam


class Adam:
    """Adam (Kingma and Ba, *Adam: a method for stochastic optimization*, 2015, algorithm 1).

    With the gradient g of step t, the moments m and v, and all operations elementwise:

        m ← β₁ m + (1 − β₁) g
        v ← β₂ v + (1 − β₂) g²
        θ ← θ − α (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

    Each step is PyTorch's function of these equations, so the numbers are those of
    `torch.optim.Adam`. The first object of that class makes a process import PyTorch's compiler,
    which takes longer than a short training.

    Parameters
    ----------
    parameters : iterable of tensors
        θ, updated in place.
    rate : float
        α; may be changed between steps.
    fused : bool, optional
        Whether all is done in one pass, and t is counted on the parameters' device, as a CUDA graph
        needs. By default PyTorch chooses, and t is counted on the CPU.

    Attributes
    ----------
    moments : dict
        For each parameter that has had a gradient, by its position: "step" (t), "exp_avg" (m) and
        "exp_avg_sq" (v).

    Examples
    --------
    >>> x = torch.tensor([1.0, -3.0], requires_grad=True)
    >>> optimizer = Adam([x], rate=0.1)
    >>> x.square().sum().backward()
    >>> optimizer.step()
    >>> x.detach()
    tensor([ 0.9000, -2.9000])
    """

    BETAS = 0.9, 0.999
    EPSILON = 1e-7  # that of Keras, used by the papers' code

    def __init__(
        self, parameters: Iterable[Tensor], rate: float, *, fused: bool | None = None
    ) -> None:
        self.parameters, self.rate, self.fused = list(parameters), rate, fused
        self.moments: dict[int, dict[str, Tensor]] = {}

    def resume(self, moments: Mapping[int, Mapping[str, Tensor]]) -> None:
        """Continue from a copy of the moments of another optimizer, on whatever device."""
        self.moments = {}
        for k, entry in moments.items():
            self._start(k)
            for name, value in self.moments[k].items():
                value.copy_(entry[name])

    def zero_grad(self) -> None:
        """Remove all gradients: a step skips the parameters without one."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient; only these updates count as a step."""
        moved = [(k, p, p.grad) for k, p in enumerate(self.parameters) if p.grad is not None]
        for k, *_ in moved:
            if k not in self.moments:
                self._start(k)
        entries = [self.moments[k] for k, *_ in moved]
        adam(
            [p for _, p, _ in moved],
            [gradient for *_, gradient in moved],
            [entry["exp_avg"] for entry in entries],
            [entry["exp_avg_sq"] for entry in entries],
            [],
            [entry["step"] for entry in entries],
            fused=self.fused,
            lr=self.rate,
            beta1=self.BETAS[0],
            beta2=self.BETAS[1],
            eps=self.EPSILON,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )

    def _start(self, k: int) -> None:
        p = self.parameters[k]
        self.moments[k] = {
            "step": torch.zeros((), dtype=torch.float32, device=p.device if self.fused else "cpu"),
            "exp_avg": torch.zeros_like(p, requires_grad=False),
            "exp_avg_sq": torch.zeros_like(p, requires_grad=False),
        }
