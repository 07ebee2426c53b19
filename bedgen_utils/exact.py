"""A world on the line in which diffusion can be solved exactly: data from a mixture of Gaussians.

With x_0 ~ Σ_k w_k N(m_k, s_k²), the noised data are again a mixture, by Eq. 8: its means are √ᾱ_t
m_k, its variances ᾱ_t s_k² + 1 − ᾱ_t. Given x_t and the component k, x_0 is normal: with g_k = √ᾱ_t
s_k² / (ᾱ_t s_k² + 1 − ᾱ_t),

    E[x_0 | x_t, k] = m_k + g_k (x_t − √ᾱ_t m_k),    Var[x_0 | x_t, k] = s_k² (1 − √ᾱ_t g_k).

Averaged over the responsibilities p(k | x_t) this gives the denoiser with the least squared error,
E[x_0 | x_t], and what it leaves open, Var[x_0 | x_t]. By Eq. 10-11 the exact reverse step has
variance

    Var[x_{t−1} | x_t] = β̃_t + c_t² Var[x_0 | x_t],    c_t = √ᾱ_{t−1} β_t / (1 − ᾱ_t).

Every term of the bound (Eq. 4-7) is then a one-dimensional integral, and so is the gap between
bound and entropy:

    E[L_vlb] = H(x_0) + KL(q(x_T) ‖ N(0, 1)) + Σ_t E KL(q(x_{t−1} | x_t) ‖ p_θ(x_{t−1} | x_t)).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .diffusion import GaussianDiffusion, Model


@dataclass
class Mixture:
    """Σ_k w_k N(m_k, s_k²) on the line; weights sum to one. Data have shape (N, 1).

    All arithmetic is float64, and on the CPU whatever device the data are on.
    """

    weights: tuple[float, ...] = (0.35, 0.25, 0.40)
    means: tuple[float, ...] = (-0.7, 0.0, 0.6)
    stds: tuple[float, ...] = (0.12, 0.05, 0.2)

    def _components(self, abar: float) -> tuple[Tensor, Tensor, Tensor]:
        numbers = (self.weights, self.means, self.stds)
        w, m, s = (torch.tensor(v, dtype=torch.float64) for v in numbers)
        return w, abar**0.5 * m, (abar * s**2 + 1 - abar).sqrt()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """(n, 1) draws."""
        w, m, s = self._components(1.0)
        k = torch.multinomial(w, n, replacement=True, generator=generator)
        return (m[k] + s[k] * torch.randn(n, generator=generator, dtype=torch.float64))[:, None]

    def _log_joint(self, x: Tensor, abar: float) -> Tensor:
        w, m, s = self._components(abar)
        return w.log() - 0.5 * ((x[..., None] - m) / s) ** 2 - s.log() - 0.5 * math.log(2 * math.pi)

    def log_prob(self, x: Tensor, abar: float = 1.0) -> Tensor:
        """log q(x_t) in nats, elementwise."""
        return torch.logsumexp(self._log_joint(x.cpu().double(), abar), -1)

    def cdf(self, x: Tensor, abar: float = 1.0) -> Tensor:
        """P(x_t <= x), elementwise."""
        w, m, s = self._components(abar)
        return (w * torch.special.ndtr((x.cpu().double()[..., None] - m) / s)).sum(-1)

    def posterior(self, x: Tensor, abar: float) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t = x] and Var[x_0 | x_t = x], each of x's shape."""
        x = x.cpu().double()
        responsibility = torch.softmax(self._log_joint(x, abar), -1)
        _, m, s = self._components(1.0)
        gain = abar**0.5 * s**2 / (abar * s**2 + 1 - abar)
        mean_k = m + gain * (x[..., None] - abar**0.5 * m)
        mean = (responsibility * mean_k).sum(-1)
        within, between = s**2 * (1 - abar**0.5 * gain), (mean_k - mean[..., None]) ** 2
        return mean, (responsibility * (within + between)).sum(-1)

    def denoiser(self, diffusion: GaussianDiffusion) -> Model:
        """The best model(x, t) there is: x (N, 1), one t for the whole batch.

        It answers as `diffusion` asks; a learned variance is the exact Var[x_{t−1} | x_t].
        """
        d = diffusion

        def model(x: Tensor, t: Tensor) -> Tensor:
            at, xt, t = int(t[0]), x.cpu().double(), t.cpu()
            x0, left = self.posterior(xt, float(d.abar[at]))
            output = d.target(x0, xt, t, d.predict_eps_from_xstart(xt, t, x0))
            if d.variance == "learned":
                true = d.posterior_variance[at] + d.posterior_coef_x0[at] ** 2 * left
                fraction = (true.log() - d.log_small[at]) / (d.log_large[at] - d.log_small[at])
                output = torch.cat([output, 2 * fraction - 1], 1)
            return output.to(x.dtype).to(x.device)

        return model

    def grid(self, abar: float, points: int = 1501) -> tuple[Tensor, Tensor]:
        """Nodes and weights so that Σ weights f(nodes) = E f(x_t).

        The trapezoid rule, 10 standard deviations out: on smooth functions that vanish at both ends
        it converges faster than any power of the spacing.
        """
        _, m, s = self._components(abar)
        ends = float((m - 10 * s).min()), float((m + 10 * s).max())
        x = torch.linspace(*ends, points, dtype=torch.float64)
        return x, self.log_prob(x, abar).exp() * (x[1] - x[0])

    def entropy(self, abar: float = 1.0) -> float:
        """H(x_t) = −E log q(x_t), nats."""
        x, w = self.grid(abar)
        return float(-(w * self.log_prob(x, abar)).sum())

    def bound_terms(self, diffusion: GaussianDiffusion) -> tuple[Tensor, Tensor]:
        """E L_0 … E L_T for the exact denoiser, and their share of the gap; each (T+1,), nats.

        Entry t − 1 of the gap is E KL(q(x_{t−1} | x_t) ‖ p_θ(x_{t−1} | x_t)), entry T is KL(q(x_T)
        ‖ N(0, 1)). Their sums agree, E L_vlb = H(x_0) + Σ gap, whatever the moments and the
        entropies of x_1 … x_T are: that tests the constants only; the values are tested by
        quadrature and by `GaussianDiffusion.vlb`.
        """
        d, L, gap = diffusion, *torch.zeros(2, diffusion.T + 1, dtype=torch.float64)
        H = [self.entropy(float(a)) for a in d.abar]
        for t in range(1, d.T + 1):
            L[t - 1], cross = self._step_terms(d, t)
            noise = 0.5 * math.log(2 * math.pi * math.e * float(d.betas[t]))  # H(x_t | x_{t−1})
            gap[t - 1] = cross - (H[t - 1] + noise - H[t])
        x, w = self.grid(float(d.abar[-1]))
        second = float((w * x**2).sum())
        gap[-1] = -H[-1] + 0.5 * (math.log(2 * math.pi) + second)
        L[-1] = 0.5 * (second - 1 - math.log(float(1 - d.abar[-1])))
        return L, gap

    def _step_terms(self, d: GaussianDiffusion, t: int) -> tuple[Tensor, Tensor]:
        """E L_{t−1}, and the cross entropy −E log p_θ(x_{t−1} | x_t), in nats."""
        x, w = self.grid(float(d.abar[t]))
        _, left = self.posterior(x, float(d.abar[t]))  # what E[x_0 | x_t] leaves open
        small, left = d.posterior_variance[t], d.posterior_coef_x0[t] ** 2 * left
        true = small + left
        fixed = {"small": d.log_small[t], "large": d.log_large[t]}
        log_p = fixed.get(d.variance, true.log())
        log_2pi, precision = math.log(2 * math.pi), torch.exp(-log_p)
        cross = (w * 0.5 * (log_2pi + log_p + true * precision)).sum()
        if t == 1:
            return (w * 0.5 * (log_2pi + log_p + left * precision)).sum(), cross
        return (w * 0.5 * (log_p - small.log() + true * precision - 1)).sum(), cross
