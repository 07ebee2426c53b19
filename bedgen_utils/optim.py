"""How weights move: Muon for filters, the moving average that one samples from, and the learning
rate.

**Muon** (Jordan et al. 2024; Bernstein & Newhouse 2024). A layer multiplies its input, or each
patch of it, by a matrix W. How far a change D of W can move the answer for an input of length 1 is
the largest singular value of D, ‖D‖. To first order D changes a loss with gradient M = U S Vᵀ by
⟨M, D⟩ = Σ_ij M_ij D_ij, and of all changes with ‖D‖ ≤ 1 one (the only one if M has full rank)
lowers it most:

    argmin_D ⟨M, D⟩ = −U Vᵀ:

minus the gradient with all its singular values set to 1, so that its few large directions do not
use up the step. U Vᵀ is found without the singular value decomposition. The odd polynomial

    f(s) = a s + b s³ + c s⁵,      (a, b, c) = (3.4445, −4.7750, 2.0315),

applied five times takes each s from 0.0016 to 1 into [0.68, 1.21], and for X = M / ‖M‖_F = U S Vᵀ

    f(X) = a X + b (X Xᵀ) X + c (X Xᵀ)² X = U f(S) Vᵀ.

Every such product is a polynomial in the small square matrix G = X Xᵀ, times X: so the iteration
runs on G alone, and X is multiplied once, at the end.

**The average** of weights θ_k over the steps k = 1, 2, … is what one samples from,

    θ̄_k = θ̄_{k−1} + (1 − d_k)(θ_k − θ̄_{k−1}),     d_k = min(d, (1 + k) / (10 + k)).

Its decay d_k warms up: with a constant d the first weights would keep the share d^k, 37 % at k =
1/(1 − d).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalize(M: Tensor, times: int = 5) -> Tensor:
    """About U Vᵀ for matrices M = U S Vᵀ, shape (…, m, n), float: f applied ``times`` times to M /
    ‖M‖_F.

    Jordan et al. (2024). A matrix of zeros stays one.
    """
    tall = M.shape[-2] > M.shape[-1]
    X = M.mT if tall else M
    X = X / X.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-12)
    G = X @ X.mT
    Q = torch.eye(G.shape[-1], dtype=M.dtype, device=M.device)
    for _ in range(times):
        F = B * G + C * G @ G
        F.diagonal(dim1=-2, dim2=-1).add_(A)  # f(X) = F X
        Q = F @ Q
        G = F @ G @ F  # = f(X) f(X)ᵀ: F and G commute
    X = Q @ X
    return X.mT if tall else X


def is_filters(p: Tensor) -> bool:
    """Are these a convolution's filters (out, in, h, w) between maps of 8 channels or more?

    Most of a denoiser's numbers are. The rest (biases, norms, the time embedding, the layers from
    and to three channels) is left to Adam.
    """
    return p.ndim == 4 and min(p.shape[:2]) >= 8


class Muon(torch.optim.Optimizer):
    """W ← (1 − lr decay) W − lr 0.2 √max(m, n) U Vᵀ, with U and V of 0.95 mean_k + 0.05 gradient_k,
    where

        mean_k = 0.95 mean_{k−1} + 0.05 gradient_k,   mean_0 = 0

    (momentum, looked at one step ahead: Nesterov). params: matrices (m, n) and filters (m, k, h,
    w), taken as matrices (m, h w k). The entries of U Vᵀ have the root mean square 1/√max(m, n);
    with the factor before it they move about as far as in a step of Adam at the same rate ``lr``
    (Liu et al. 2025).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable | None = None) -> None:  # type: ignore[override]
        """One step. ``closure`` is there because Accelerate passes one on; only None will do."""
        if closure is not None:
            raise ValueError("Muon evaluates no closure: call backward before step")
        for group in self.param_groups:
            # Matrices of one shape are orthogonalised in one batched product.
            alike: dict[tuple, list] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(mean, group["momentum"])
                # Filters lie channels_last in memory: with the input channels last their matrix is
                # a view.
                matrix = ahead.permute(0, 2, 3, 1).flatten(1) if p.ndim == 4 else ahead
                alike.setdefault(matrix.shape, []).append((p, matrix))
            for shape, pairs in alike.items():
                length = group["lr"] * 0.2 * max(shape) ** 0.5
                changes = orthogonalize(torch.stack([matrix for _, matrix in pairs]))
                for (p, _), change in zip(pairs, changes, strict=True):
                    if p.ndim == 4:
                        change = change.unflatten(1, (*p.shape[2:], p.shape[1])).permute(0, 3, 1, 2)
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(change, alpha=length)


class EMA:
    """Keeps ``average``, a copy of a network, at the moving average of that network's weights."""

    def __init__(self, average: nn.Module, decay: float):
        self.average = average.eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after ``step`` (1, 2, …) steps. Buffers are copied."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.parameters()), list(network.parameters()), weight)
        for mean, buffer in zip(self.average.buffers(), network.buffers(), strict=True):
            mean.copy_(buffer)


def learning_rate(
    step: int, steps: int, peak: float, warmup: int = 1, flat: float = 0.6, end: float = 0.05
) -> float:
    """The rate of step 1 … ``steps``: linear from 0 over ``warmup`` steps, flat, then linear down
    to ``end`` × peak.

    The fall takes the last 1 − ``flat`` of all steps.
    """
    down = (steps - step) / max(1.0, (1 - flat) * steps)
    return peak * min(1.0, step / max(1, warmup), end + (1 - end) * down)
