"""Gaussian diffusion with discrete time t = 1 … T: forward process, posterior, bound, losses and samplers.

Write α_t = 1 − β_t and ᾱ_t = ∏_{s=1}^{t} α_s with ᾱ_0 = 1 (the empty product). The numbers are those of the report.

    q(x_t | x_{t−1})     = N(√α_t x_{t−1}, β_t I)                                                    Eq. 2
    q(x_t | x_0)         = N(√ᾱ_t x_0, (1 − ᾱ_t) I),   that is   x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε       Eq. 8
    β̃_t                  = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · β_t,   hence β̃_1 = 0                          Eq. 9
    μ̃_t(x_t, x_0)        = √ᾱ_{t−1} β_t / (1 − ᾱ_t) · x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · x_t     Eq. 10
    q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t I)                                                            Eq. 11

A network is trained to give one of four equivalent numbers; each fixes x̂_0, and so the mean of p_θ by Eq. 10:

    "eps"   ε,   x̂_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t        (Eq. 12 as it should read; see notebook 02)
    "v"     v = √ᾱ_t ε − √(1 − ᾱ_t) x_0,   x̂_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v        (Salimans & Ho 2022)
    "x0"    x_0 itself;        "mean"   μ̃_t, Eq. 10 solved for x_0

All are affine in x_0 at given x_t: output = a_t x_0 + b_t x_t, so a squared error in one is a_t² times that in x_0.

The bound on −log p_θ(x_0) is L_0 + … + L_T (Eq. 4-7), reported in bits per dimension. Tables are float64 with T + 1
entries, so that index and formula agree; they are computed once in float64 and cast to the dtype of the data at use.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

PREDICTIONS = ("v", "eps", "x0", "mean")
VARIANCES = ("small", "large", "learned")


def linear_beta_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02, scaled: bool = False) -> Tensor:
    """β_t rising evenly from beta_1 to beta_T (Ho et al. 2020), float64 (T+1,) with β_0 = 0.

    The defaults belong to T = 1000. At T = 200 they leave ᾱ_T = 0.13: x_T is then far from N(0, I), and samples begun
    from pure noise are wrong. scaled=True multiplies both ends by 1000/T (capped at 0.999), which keeps ᾱ_T small.
    """
    β = torch.linspace(beta_1, beta_T, T, dtype=torch.float64)
    return torch.cat([β.new_zeros(1), (β * 1000 / T).clamp(max=0.999) if scaled else β])


def cosine_beta_schedule(T: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """β_t = min(1 − f(t)/f(t−1), max_beta), f(t) = cos²(π/2 · (t/T + s)/(1 + s)); float64 (T+1,) with β_0 = 0.

    Nichol & Dhariwal (2021), section 3.2. f(T) = 0, hence the cap: it leaves 1/√α_T = 31.6, so clip x̂_0 in sampling.
    """
    f = torch.cos(math.pi / 2 * (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)) ** 2
    return torch.cat([f.new_zeros(1), (1 - f[1:] / f[:-1]).clamp(max=max_beta)])


def normal_kl(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """KL(N(mean1, e^logvar1) ‖ N(mean2, e^logvar2)) in nats, one number per element: the closed form behind Eq. 6-7."""
    return 0.5 * (logvar2 - logvar1 + torch.expm1(logvar1 - logvar2) + (mean1 - mean2) ** 2 * torch.exp(-logvar2))


def discretized_gaussian_nll(x0: Tensor, mean: Tensor, logvar: Tensor, bins: int = 256) -> Tensor:
    """L_0 of Eq. 5 in nats per element: −log of the mass N(mean, e^logvar) gives to the bin around x0.

    x0 in [−1, 1] sits on `bins` levels 2k/(bins−1) − 1. The two outer bins are open towards ∓∞, so the masses sum to
    one. Differences of Φ are taken in the lower tail and in logarithms: far bins keep a finite value and gradient.
    """
    h, σ = 1 / (bins - 1), torch.exp(0.5 * logvar)
    a = torch.where(x0 < -1 + h, -math.inf, (x0 - h - mean) / σ)
    b = torch.where(x0 > 1 - h, math.inf, (x0 + h - mean) / σ)
    upper = a + b > 0  # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): mirror what lies in the upper tail, where both round to 1
    a, b = torch.where(upper, -b, a), torch.where(upper, -a, b)
    log_b, open_end = torch.special.log_ndtr(b), torch.isinf(a)
    # Finite stand-ins at open ends keep the gradient free of nan, also where Φ(b) rounds to 1.
    gap = torch.where(open_end, -1.0, torch.special.log_ndtr(torch.where(open_end, b - 1, a)) - log_b)
    return -torch.where(open_end, log_b, log_b + torch.log(-torch.expm1(gap)))


def guided(model, guide, w: float):
    """guide + w (model − guide): away from a worse model that errs alike (Karras et al. 2024); w = 1 changes nothing.

    All four outputs are affine in x̂_0 with the same factors at given x_t, so x̂_0 is moved likewise (and so is a learned
    variance).
    """
    return lambda x, t: torch.lerp(guide(x, t), model(x, t), w)


@dataclass
class Bound:
    """The variational bound of Eq. 4 in bits per dimension, float64; terms[:, i] is L_i, the others are its parts."""

    terms: Tensor  # (N, T + 1)
    total: Tensor  # (N,), Σ_i L_i
    L_0: Tensor  # (N,), Eq. 5
    L_t: Tensor  # (N, T − 1), the L_{t−1} of Eq. 6 for t = 2 … T
    L_T: Tensor  # (N,), Eq. 7: without parameters


class GaussianDiffusion:
    """The process of the module docstring, for data of any shape (N, …).

    betas: (T+1,) with betas[0] = 0 and the rest in (0, 1). prediction: what the model returns. variance: of p_θ,
    "small" is β̃_t, "large" is β_t (Ho et al. 2020, section 3.2); with "learned" the model returns twice the channels
    and the second half moves log σ² between the two (Nichol & Dhariwal 2021, Eq. 15). It is called as model(x, t) with
    x in its own dtype and t int64 (N,) in 1 … T. Bad schedules, t or shapes raise ValueError, bad dtypes TypeError.
    """

    def __init__(self, betas: Tensor, prediction: str = "v", variance: str = "small"):
        β = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        if β.ndim != 1 or len(β) < 2 or β[0] != 0 or not bool(((β[1:] > 0) & (β[1:] < 1)).all()):
            raise ValueError("betas must be 1-D: betas[0] = 0, then T >= 1 values in (0, 1)")
        if prediction not in PREDICTIONS or variance not in VARIANCES:
            raise ValueError(f"prediction is one of {PREDICTIONS} and variance one of {VARIANCES}")
        self.T, self.prediction, self.variance = len(β) - 1, prediction, variance
        self.betas, self.alphas = β, 1 - β
        self.abar = ᾱ = torch.cumprod(self.alphas, 0)
        ᾱ_prev = torch.cat([ᾱ[:1], ᾱ[:-1]])
        self.snr = ᾱ / (1 - ᾱ)  # infinite at t = 0
        noise = (1 - ᾱ).index_fill(0, torch.tensor([0]), 1)  # entry 0 is never read; 1 avoids 0/0
        self.posterior_variance = (1 - ᾱ_prev) / noise * β  # Eq. 9
        self.posterior_coef_x0 = ᾱ_prev.sqrt() * β / noise  # Eq. 10
        self.posterior_coef_xt = self.alphas.sqrt() * (1 - ᾱ_prev) / noise
        # β̃_1 = 0 has no logarithm; p_θ(x_0 | x_1) takes β̃_2 instead, as Nichol & Dhariwal's code does (β_1 if T = 1).
        small = self.posterior_variance.clone()
        small[:2] = small[2] if self.T > 1 else β[1]
        self.log_small, self.log_large = small.log(), β.index_fill(0, torch.tensor([0]), 1).log()
        # output = a_t x_0 + b_t x_t: a_t² turns errors in x_0 into errors of what the model predicts.
        self.target_scale = {"v": noise.rsqrt(), "eps": (ᾱ / noise).sqrt(), "x0": torch.ones_like(β),
                             "mean": self.posterior_coef_x0}[prediction]

    def _check(self, x: Tensor, t: Tensor) -> None:
        if not x.is_floating_point() or t.dtype != torch.int64:
            raise TypeError(f"data must be floating (images: x/127.5 - 1) and t int64, got {x.dtype} and {t.dtype}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape {tuple(x.shape[:1])}, got {tuple(t.shape)}")
        if len(t) and (int(t.min()) < 1 or int(t.max()) > self.T):
            raise ValueError(f"t must lie in 1 … {self.T}, got {int(t.min())} … {int(t.max())}")

    def _at(self, table: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """table[t] as (N, 1, …, 1) in x's dtype and on its device."""
        self._check(x, t)
        return table.to(x.dtype).to(x.device)[t].reshape(-1, *[1] * (x.ndim - 1))

    # ---- forward process and posterior
    def q_mean_variance(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (shape of x0) and variance (N, 1, …) of q(x_t | x_0), Eq. 8."""
        return self._at(self.abar.sqrt(), t, x0) * x0, self._at(1 - self.abar, t, x0)

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of Eq. 8 made with the given standard normal noise."""
        return self._at(self.abar.sqrt(), t, x0) * x0 + self._at((1 - self.abar).sqrt(), t, x0) * noise

    def q_posterior_mean_variance(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (shape of x0) and variance (N, 1, …) of q(x_{t−1} | x_t, x_0), Eq. 9-11; at t = 1: x_0 and 0."""
        mean = self._at(self.posterior_coef_x0, t, x0) * x0 + self._at(self.posterior_coef_xt, t, x0) * xt
        return mean, self._at(self.posterior_variance, t, x0)

    # ---- parameterisations
    def predict_xstart_from_eps(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t, Eq. 12 corrected."""
        return (xt - self._at((1 - self.abar).sqrt(), t, xt) * eps) / self._at(self.abar.sqrt(), t, xt)

    def predict_eps_from_xstart(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """ε = (x_t − √ᾱ_t x_0) / √(1 − ᾱ_t), Eq. 8 solved for the noise."""
        return (xt - self._at(self.abar.sqrt(), t, xt) * x0) / self._at((1 - self.abar).sqrt(), t, xt)

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022)."""
        return self._at(self.abar.sqrt(), t, x0) * eps - self._at((1 - self.abar).sqrt(), t, x0) * x0

    def predict_xstart_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v: Eq. 8 and the definition of v, solved for x_0."""
        return self._at(self.abar.sqrt(), t, xt) * xt - self._at((1 - self.abar).sqrt(), t, xt) * v

    def predict_xstart_from_mean(self, xt: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        """Eq. 10 solved for x_0."""
        return (mean - self._at(self.posterior_coef_xt, t, xt) * xt) / self._at(self.posterior_coef_x0, t, xt)

    def predict_xstart(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """x̂_0 from the model's output (of its first half, if the variance is learned): Eq. 8 or 10 solved for x_0."""
        solve = {"v": self.predict_xstart_from_v, "eps": self.predict_xstart_from_eps,
                 "x0": lambda xt, t, x0: x0, "mean": self.predict_xstart_from_mean}
        return solve[self.prediction](xt, t, self._split(output, xt)[0])

    def target(self, x0: Tensor, xt: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the model should return for x_t = q_sample(x0, t, noise): the table above, and Eq. 10 for "mean"."""
        return {"v": lambda: self.velocity(x0, noise, t), "eps": lambda: noise, "x0": lambda: x0,
                "mean": lambda: self.q_posterior_mean_variance(x0, xt, t)[0]}[self.prediction]()

    def _split(self, output: Tensor, xt: Tensor) -> tuple[Tensor, Tensor | float]:
        """(prediction, v): v is Eq. 15's fraction of the way from log β̃_t to log β_t; 0 and 1 if not learned."""
        learned = self.variance == "learned"
        want = (len(xt), 2 * xt.shape[1], *xt.shape[2:]) if learned else tuple(xt.shape)
        if tuple(output.shape) != want:
            raise ValueError(f"the model must return shape {want}, got {tuple(output.shape)}")
        prediction, range_ = output.chunk(2, dim=1) if learned else (output, None)
        return prediction, (1 + range_) / 2 if learned else float(self.variance == "large")

    # ---- reverse process, bound and losses
    def p_mean_variance(self, model, x: Tensor, t: Tensor, clip: bool = True) -> tuple[Tensor, ...]:
        """(mean, variance, log_variance, x̂_0) of p_θ(x_{t−1} | x_t), Eq. 3; clip keeps x̂_0 in [−1, 1]. The variances
        broadcast against x. At t = 1 "small" is β̃_2, as β̃_1 = 0 has no density; samplers add no noise there."""
        output = model(x, t)
        x̂0 = self.predict_xstart(output, x, t)
        x̂0 = x̂0.clamp(-1, 1) if clip else x̂0
        small, large = self._at(self.log_small, t, x), self._at(self.log_large, t, x)
        log_variance = small + self._split(output, x)[1] * (large - small)
        return self.q_posterior_mean_variance(x̂0, x, t)[0], log_variance.exp(), log_variance, x̂0

    def _L(self, output: Tensor, x0: Tensor, xt: Tensor, t: Tensor, clip: bool, bins: int | None) -> Tensor:
        """L_{t−1} of Eq. 6, or L_0 of Eq. 5 where t = 1: nats per dimension, (N,), in float64."""
        output, x0, xt = output.double(), x0.double(), xt.double()
        mean, _, logvar, _ = self.p_mean_variance(lambda *_: output, xt, t, clip)
        true_mean, _ = self.q_posterior_mean_variance(x0, xt, t)
        L = normal_kl(true_mean, self._at(self.log_small, t, x0), mean, logvar)  # log_small is log β̃_t for t >= 2
        if bool((t == 1).any()):
            density = 0.5 * (math.log(2 * math.pi) + logvar + (x0 - mean) ** 2 * torch.exp(-logvar))
            L_0 = density if bins is None else discretized_gaussian_nll(x0, mean, logvar, bins)
            L = torch.where((t == 1).reshape(-1, *[1] * (x0.ndim - 1)), L_0, L)
        return L.reshape(len(L), -1).mean(1)

    def prior_kl(self, x0: Tensor) -> Tensor:
        """L_T of Eq. 7, KL(q(x_T | x_0) ‖ N(0, I)), in nats per dimension: float64 (N,)."""
        mean, variance = self.q_mean_variance(x0.double(), torch.full((len(x0),), self.T, device=x0.device))
        return normal_kl(mean, variance.log(), mean * 0, mean * 0).reshape(len(x0), -1).mean(1)

    @torch.no_grad()
    def vlb(self, model, x0: Tensor, generator: torch.Generator | None = None, clip: bool = True,
            bins: int | None = 256, thin: int | None = None) -> Bound:
        """The bound of Eq. 4 in bits/dim, all T + 1 terms, one draw of x_t each; (N, …) data in, Bound out.

        bins=None scores real-valued data by the density of p_θ(x_0 | x_1), then clip=False is meant. thin=k calls the
        model some k (1 + log(T/k)) times instead of T, still without bias: from t on, ⌊t/k⌋ neighbours make a block, of
        which a random one stands for all (terms fall about like 1/t, so all blocks weigh alike).
        """
        draw = dict(generator=generator, device=generator.device if generator is not None else "cpu")
        terms = torch.zeros(len(x0), self.T + 1, dtype=torch.float64, device=x0.device)
        first = 1
        while first <= self.T:
            n = min(max(1, first // (thin or self.T)), self.T + 1 - first)
            t_ = first + int(torch.randint(n, (1,), **draw))
            t = torch.full((len(x0),), t_, device=x0.device)
            xt = self.q_sample(x0, t, torch.randn(x0.shape, **draw, dtype=x0.dtype).to(x0.device))
            terms[:, t_ - 1] = n * self._L(model(xt, t), x0, xt, t, clip, bins)
            first += n
        terms[:, self.T] = self.prior_kl(x0)
        terms = terms / math.log(2)
        return Bound(terms, terms.sum(1), terms[:, 0], terms[:, 1:-1], terms[:, -1])

    def loss_weights(self, weighting: str, gamma: float = 5.0) -> Tensor:
        """w_t of w_t · (squared error in what the model predicts), (T + 1,), entry 0 unused. "simple": 1 (Ho et al.,
        Eq. 14). "min_snr": the error in x_0 counts min(SNR_t, gamma) (Hang et al. 2023)."""
        if weighting not in ("simple", "min_snr"):
            raise ValueError(f'weighting is "simple" or "min_snr", got {weighting!r}')
        return self.snr.clamp(max=gamma) / self.target_scale**2 if weighting == "min_snr" else torch.ones_like(self.snr)

    def training_loss(self, model, x0: Tensor, t: Tensor, noise: Tensor, weighting: str = "simple",
                      hybrid: float = 1e-3, bins: int | None = 256) -> Tensor:
        """Loss of each sample, (N,): the squared error in what the model predicts, times its weight at t (Ho et al.,
        Eq. 14). A learned variance adds hybrid · T · L_{t−1} in nats/dim with the mean held fixed: averaged over t,
        L_hybrid (Nichol & Dhariwal 2021, Eq. 16) without its constant, hybrid · L_T.
        """
        xt = self.q_sample(x0, t, noise)
        output = model(xt, t)
        prediction = self._split(output, xt)[0]
        loss = ((prediction - self.target(x0, xt, t, noise)) ** 2).reshape(len(x0), -1).mean(1)
        loss = loss * self._at(self.loss_weights(weighting), t, loss)
        if self.variance == "learned":
            mean_held = torch.cat([prediction.detach(), output[:, prediction.shape[1]:]], dim=1)
            loss = loss + (hybrid * self.T * self._L(mean_held, x0, xt, t, False, bins)).to(loss.dtype)
        return loss

    # ---- sampling
    def timesteps(self, steps: int | None = None, rho: float | None = None, sigma_max: float = 20.0) -> list[int]:
        """Times of a sampler, from T to 0; the model is called at all but the last.

        rho=None spreads them evenly, τ of Song et al. (2021), section 4.2: ⌈T (steps − i)/steps⌉; steps=None: all T. A
        number spreads σ^(1/rho) evenly instead, σ² = (1 − ᾱ)/ᾱ from sigma_max² to 0.05² (Karras et al. 2022, Eq. 5;
        they take rho = 7 and other ends), rounded to times of the process, the first to T; at most ``steps``, each
        once."""
        steps = self.T if steps is None else steps
        if not 1 <= steps <= self.T:
            raise ValueError(f"steps must lie in 1 … {self.T}, got {steps}")
        if rho is None:
            return [-(-self.T * (steps - i) // steps) for i in range(steps + 1)]
        σ = self.snr[1:].rsqrt()
        last, first = (σ.clamp(0.05, sigma_max) ** (1 / rho))[[0, -1]].tolist()
        wanted = torch.linspace(first, last, steps, dtype=torch.float64) ** rho
        nearest = 1 + (σ - wanted[:, None]).abs().argmin(1)
        return [*sorted({self.T, *nearest[1:].tolist()}, reverse=True), 0]

    @torch.no_grad()
    def sample(self, model, start: Tensor | tuple, steps: int | None = None, eta: float = 1.0, order: int = 1,
               rho: float | None = None, sigma_max: float = 20.0, clip: bool = True,
               generator: torch.Generator | None = None, device="cpu", callback=None) -> Tensor:
        """Draw from p_θ: from x_T (a tensor, or a shape to draw N(0, I) of) down the ``timesteps`` of steps, rho and
        sigma_max to x_0.

        eta=1 is DDPM's ancestral sampling (steps=None: all T), eta=0 DDIM, deterministic (Song et al. 2021, Eq. 12 and
        16); order=2 with eta=0 is DPM-Solver++(2M) (Lu et al. 2022). callback(t, x_t, x̂_0) is called at every step.
        """
        if order not in (1, 2) or not 0 <= eta <= 1 or (order == 2 and eta != 0):
            raise ValueError("eta lies in [0, 1]; order is 1, or 2 with eta=0")
        draw = dict(generator=generator, device=generator.device if generator is not None else device)
        x = start if isinstance(start, Tensor) else torch.randn(start, **draw).to(device)
        λ, times, before = 0.5 * self.snr.log(), self.timesteps(steps, rho, sigma_max), None
        for t, s in zip(times[:-1], times[1:], strict=True):
            ᾱ_t, ᾱ_s = float(self.abar[t]), float(self.abar[s])
            t_ = torch.full((len(x),), t, device=x.device)
            output = model(x, t_)
            x̂0 = self.predict_xstart(output, x, t_)
            x̂0 = D = x̂0.clamp(-1, 1) if clip else x̂0
            if callback is not None:
                callback(t, x, x̂0)
            if order == 2 and before is not None and s > 0:  # extrapolate x̂_0 in λ; at s = 0, λ is infinite
                r, x̂0_before = before
                D = x̂0 + (λ[s] - λ[t]).item() / (2 * (λ[t] - λ[r]).item()) * (x̂0 - x̂0_before)
            before = (t, x̂0)
            ε = (x - ᾱ_t**0.5 * D) / (1 - ᾱ_t) ** 0.5
            β = 1 - ᾱ_t / ᾱ_s
            σ2 = eta**2 * (1 - ᾱ_s) / (1 - ᾱ_t) * β  # Eq. 9 for the step from t to s; 0 when s = 0
            x = ᾱ_s**0.5 * D + max(1 - ᾱ_s - σ2, 0.0) ** 0.5 * ε
            if eta > 0 and s > 0:  # the last step adds no noise
                std = σ2**0.5 * (β / σ2 * eta**2) ** (0.5 * self._split(output, x)[1])  # "small", up to √β if "large"
                x = x + std * torch.randn(x.shape, **draw, dtype=x.dtype).to(x.device)
        return x
