"""Gaussian diffusion with discrete time t = 1 … T: forward process, posterior, bound, losses and
samplers.

Write α_t = 1 − β_t and ᾱ_t = ∏_{s=1}^{t} α_s with ᾱ_0 = 1 (the empty product). The numbers are
those of the report.

    q(x_t | x_{t−1}) = N(√α_t x_{t−1}, β_t I)                                              Eq. 2
    q(x_t | x_0) = N(√ᾱ_t x_0, (1 − ᾱ_t) I), that is x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε         Eq. 8
    β̃_t = (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · β_t, hence β̃_1 = 0                                   Eq. 9
    μ̃_t = √ᾱ_{t−1} β_t / (1 − ᾱ_t) · x_0 + √α_t (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · x_t            Eq. 10
    q(x_{t−1} | x_t, x_0) = N(μ̃_t, β̃_t I)                                                  Eq. 11

A network is trained to give one of four equivalent numbers; each fixes x̂_0, and so the mean of p_θ
by Eq. 10:

    "eps"   ε,  x̂_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t   (Eq. 12 as it should read; see notebook 02)
    "v"     v = √ᾱ_t ε − √(1 − ᾱ_t) x_0,  x̂_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v   (Salimans & Ho 2022)
    "x0"    x_0 itself
    "mean"  μ̃_t, Eq. 10 solved for x_0

All are affine in x_0 at given x_t: output = a_t x_0 + b_t x_t, so a squared error in one is a_t²
times that in x_0.

The bound on −log p_θ(x_0) is L_0 + … + L_T (Eq. 4-7), reported in bits per dimension. A sampler is
a step function, x_t → x_s for s < t, one each for DDPM, DDIM and DPM-Solver++, and
`GaussianDiffusion.sample` calls it down a list of times. Tables are float64 with T + 1 entries, so
that index and formula agree; they are computed once and cast to the dtype of the data at use.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

PREDICTIONS = ("v", "eps", "x0", "mean")
VARIANCES = ("small", "large", "learned")

Model = Callable[[Tensor, Tensor], Tensor]  # (x_t, t) -> output, a network or any other function
# One for all samples, or one for each.
Generators = torch.Generator | Sequence[torch.Generator] | None


def linear_beta_schedule(
    T: int, beta_1: float = 1e-4, beta_T: float = 0.02, scaled: bool = False
) -> Tensor:
    """β_t rising evenly from beta_1 to beta_T (Ho et al. 2020), float64 (T+1,) with β_0 = 0.

    The defaults belong to T = 1000. At T = 200 they leave ᾱ_T = 0.13: x_T is then far from N(0, I),
    and samples begun from pure noise are wrong. scaled=True multiplies both ends by 1000/T (capped
    at 0.999), which keeps ᾱ_T small.
    """
    beta = torch.linspace(beta_1, beta_T, T, dtype=torch.float64)
    return torch.cat([beta.new_zeros(1), (beta * 1000 / T).clamp(max=0.999) if scaled else beta])


def cosine_beta_schedule(T: int, s: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """β_t = min(1 − f(t)/f(t−1), max_beta), f(t) = cos²(π/2 · (t/T + s)/(1 + s)); float64 (T+1,).

    Nichol & Dhariwal (2021), section 3.2; β_0 = 0. f(T) = 0, hence the cap: it leaves 1/√α_T =
    31.6, so clip x̂_0 in sampling.
    """
    f = torch.cos(math.pi / 2 * (torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s)) ** 2
    return torch.cat([f.new_zeros(1), (1 - f[1:] / f[:-1]).clamp(max=max_beta)])


def normal_kl(mean1: Tensor, logvar1: Tensor, mean2: Tensor, logvar2: Tensor) -> Tensor:
    """KL(N(mean1, e^logvar1) ‖ N(mean2, e^logvar2)) in nats per element, for Eq. 6-7."""
    squared = (mean1 - mean2) ** 2 * torch.exp(-logvar2)
    return 0.5 * (logvar2 - logvar1 + torch.expm1(logvar1 - logvar2) + squared)


def discretized_gaussian_nll(x0: Tensor, mean: Tensor, logvar: Tensor, bins: int = 256) -> Tensor:
    """L_0 of Eq. 5 in nats per element: −log of the mass of N(mean, e^logvar) in x0's bin.

    x0 in [−1, 1] sits on `bins` levels 2k/(bins−1) − 1. The two outer bins are open towards ∓∞, so
    the masses sum to one. Differences of Φ are taken in the lower tail and in logarithms: far bins
    keep a finite value and gradient.
    """
    h, sigma = 1 / (bins - 1), torch.exp(0.5 * logvar)
    a = torch.where(x0 < -1 + h, -math.inf, (x0 - h - mean) / sigma)
    b = torch.where(x0 > 1 - h, math.inf, (x0 + h - mean) / sigma)
    # Φ(b) − Φ(a) = Φ(−a) − Φ(−b): mirror what lies in the upper tail, where both round to 1.
    upper = a + b > 0
    a, b = torch.where(upper, -b, a), torch.where(upper, -a, b)
    log_b, open_end = torch.special.log_ndtr(b), torch.isinf(a)
    # Finite stand-ins at open ends keep the gradient free of nan, also where Φ(b) rounds to 1.
    log_a = torch.special.log_ndtr(torch.where(open_end, b - 1, a))
    gap = torch.where(open_end, -1.0, log_a - log_b)
    return -torch.where(open_end, log_b, log_b + torch.log(-torch.expm1(gap)))


def guided(model: Model, early: Model, w: float) -> Model:
    """early + w (model − early): away from a worse model that errs alike (Karras et al. 2024).

    w = 1 changes nothing. All four outputs are affine in x̂_0 with the same factors at given x_t, so
    x̂_0 is moved likewise (and so is a learned variance).
    """
    return lambda x, t: torch.lerp(early(x, t), model(x, t), w)


@dataclass
class Bound:
    """The variational bound of Eq. 4 in bits per dimension; terms[:, i] is L_i."""

    terms: Tensor  # (N, T + 1)
    total: Tensor  # (N,), Σ_i L_i
    L_0: Tensor  # (N,), Eq. 5
    L_t: Tensor  # (N, T − 1), the L_{t−1} of Eq. 6 for t = 2 … T
    L_T: Tensor  # (N,), Eq. 7: without parameters


class GaussianDiffusion:
    """The process of the module docstring, for data of any shape (N, …).

    betas: (T+1,) with betas[0] = 0 and the rest in (0, 1). prediction: what the model returns.
    variance: of p_θ, "small" is β̃_t, "large" is β_t (Ho et al. 2020, section 3.2); with "learned"
    the model returns twice the channels and the second half moves log σ² between the two (Nichol &
    Dhariwal 2021, Eq. 15). It is called as model(x, t) with x in its own dtype and t int64 (N,) in
    1 … T. Bad schedules, t or shapes raise ValueError, bad dtypes TypeError.
    """

    def __init__(self, betas: Tensor, prediction: str = "v", variance: str = "small"):
        beta = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        inside = (beta[1:] > 0) & (beta[1:] < 1)
        if beta.ndim != 1 or len(beta) < 2 or beta[0] != 0 or not inside.all():
            raise ValueError("betas must be 1-D: betas[0] = 0, then T >= 1 values in (0, 1)")
        if prediction not in PREDICTIONS or variance not in VARIANCES:
            raise ValueError(f"prediction is one of {PREDICTIONS} and variance one of {VARIANCES}")
        self.T, self.prediction, self.variance = len(beta) - 1, prediction, variance
        self.betas, self.alphas = beta, 1 - beta
        self.abar = torch.cumprod(self.alphas, 0)
        abar_before = torch.cat([self.abar[:1], self.abar[:-1]])
        self.snr = self.abar / (1 - self.abar)  # infinite at t = 0
        self.sqrt_abar, self.sqrt_noise = self.abar.sqrt(), (1 - self.abar).sqrt()  # of Eq. 8
        self.noise_variance = 1 - self.abar
        first = torch.tensor([0])  # entry 0 is never read where it would be 0/0: 1 stands there
        noise = self.noise_variance.index_fill(0, first, 1)
        self.posterior_variance = (1 - abar_before) / noise * beta  # Eq. 9
        self.posterior_coef_x0 = abar_before.sqrt() * beta / noise  # Eq. 10
        self.posterior_coef_xt = self.alphas.sqrt() * (1 - abar_before) / noise
        # β̃_1 = 0 has no logarithm: β̃_2 stands in, as in Nichol & Dhariwal's code (β_1 if T = 1).
        small = self.posterior_variance.clone()
        small[:2] = small[2] if self.T > 1 else beta[1]
        self.log_small, self.log_large = small.log(), beta.index_fill(0, first, 1).log()
        # output = a_t x_0 + b_t x_t: a_t² turns errors in x_0 into errors of the output.
        self.target_scale = {
            "v": noise.rsqrt(),
            "eps": (self.abar / noise).sqrt(),
            "x0": torch.ones_like(beta),
            "mean": self.posterior_coef_x0,
        }[prediction]
        self.weights_simple = torch.ones_like(beta)
        self.weights_min_snr = self.snr.clamp(max=5) / self.target_scale**2
        self._cast: dict[tuple, Tensor] = {}

    def identity(self) -> str:
        """Equal for equal schedules, predictions and variances."""
        schedule = hashlib.sha256(self.betas.numpy().tobytes()).hexdigest()
        return f"{self.prediction} {self.variance} {schedule}"

    def _at(self, table: str, t: Tensor, x: Tensor) -> Tensor:
        """The named table at t as (N, 1, …, 1) in x's dtype, copied once to x's device."""
        self._check(x, t)
        key = (table, x.dtype, x.device)
        if key not in self._cast:
            self._cast[key] = getattr(self, table).to(x.dtype).to(x.device)
        return self._cast[key][t].reshape(-1, *[1] * (x.ndim - 1))

    def _check(self, x: Tensor, t: Tensor) -> None:
        if not x.is_floating_point() or t.dtype != torch.int64:
            raise TypeError(f"x must be floating (data.to_float), t int64: {x.dtype}, {t.dtype}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape {tuple(x.shape[:1])}, got {tuple(t.shape)}")
        # Looking at numbers on a GPU would make the processor wait for it at every use of a table.
        if t.device.type == "cpu" and len(t) and not 1 <= int(t.min()) <= int(t.max()) <= self.T:
            raise ValueError(f"t must lie in 1 … {self.T}, got {int(t.min())} … {int(t.max())}")

    # ---- forward process and posterior

    def q_mean_variance(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (shape of x0) and variance (N, 1, …) of q(x_t | x_0), Eq. 8."""
        return self._at("sqrt_abar", t, x0) * x0, self._at("noise_variance", t, x0)

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of Eq. 8 made with the given standard normal noise."""
        return self._at("sqrt_abar", t, x0) * x0 + self._at("sqrt_noise", t, x0) * noise

    def q_posterior_mean_variance(self, x0: Tensor, xt: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (shape of x0) and variance (N, 1, …) of q(x_{t−1} | x_t, x_0), Eq. 9-11."""
        mean = self._at("posterior_coef_x0", t, x0) * x0 + self._at("posterior_coef_xt", t, x0) * xt
        return mean, self._at("posterior_variance", t, x0)

    # ---- parameterisations

    def predict_xstart_from_eps(self, xt: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_0 = (x_t − √(1 − ᾱ_t) ε) / √ᾱ_t, Eq. 12 corrected."""
        return (xt - self._at("sqrt_noise", t, xt) * eps) / self._at("sqrt_abar", t, xt)

    def predict_eps_from_xstart(self, xt: Tensor, t: Tensor, x0: Tensor) -> Tensor:
        """ε = (x_t − √ᾱ_t x_0) / √(1 − ᾱ_t), Eq. 8 solved for the noise."""
        return (xt - self._at("sqrt_abar", t, xt) * x0) / self._at("sqrt_noise", t, xt)

    def velocity(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """v = √ᾱ_t ε − √(1 − ᾱ_t) x_0 (Salimans & Ho 2022)."""
        return self._at("sqrt_abar", t, x0) * eps - self._at("sqrt_noise", t, x0) * x0

    def predict_xstart_from_v(self, xt: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """x_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v: Eq. 8 and the definition of v, solved for x_0."""
        return self._at("sqrt_abar", t, xt) * xt - self._at("sqrt_noise", t, xt) * v

    def predict_xstart_from_mean(self, xt: Tensor, t: Tensor, mean: Tensor) -> Tensor:
        """Eq. 10 solved for x_0."""
        rest = mean - self._at("posterior_coef_xt", t, xt) * xt
        return rest / self._at("posterior_coef_x0", t, xt)

    def predict_xstart(self, output: Tensor, xt: Tensor, t: Tensor) -> Tensor:
        """x̂_0 from the model's output (its first half, if the variance is learned)."""
        prediction = self._split(output, xt)[0]
        if self.prediction == "x0":
            return prediction
        return getattr(self, f"predict_xstart_from_{self.prediction}")(xt, t, prediction)

    def target(self, x0: Tensor, xt: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the model should return for x_t = q_sample(x0, t, noise)."""
        match self.prediction:
            case "v":
                return self.velocity(x0, noise, t)
            case "eps":
                return noise
            case "mean":
                return self.q_posterior_mean_variance(x0, xt, t)[0]
        return x0

    def _split(self, output: Tensor, xt: Tensor) -> tuple[Tensor, Tensor | float]:
        """(prediction, fraction of the way from log β̃_t to log β_t, 0 or 1 if not learned)."""
        learned = self.variance == "learned"
        want = (len(xt), 2 * xt.shape[1], *xt.shape[2:]) if learned else tuple(xt.shape)
        if tuple(output.shape) != want:
            raise ValueError(f"the model must return shape {want}, got {tuple(output.shape)}")
        if not learned:
            return output, float(self.variance == "large")
        prediction, v = output.chunk(2, dim=1)
        return prediction, (1 + v) / 2

    # ---- reverse process, bound and losses

    def p_mean_variance(
        self, model: Model, x: Tensor, t: Tensor, clip: bool = True
    ) -> tuple[Tensor, ...]:
        """(mean, variance, log_variance, x̂_0) of p_θ(x_{t−1} | x_t), Eq. 3; clip: x̂_0 in [−1, 1].

        The variances broadcast against x. At t = 1 "small" is β̃_2, as β̃_1 = 0 has no density;
        samplers add no noise there.
        """
        output = model(x, t)
        x0_hat = self.predict_xstart(output, x, t)
        x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat
        small, large = self._at("log_small", t, x), self._at("log_large", t, x)
        log_variance = small + self._split(output, x)[1] * (large - small)
        mean = self.q_posterior_mean_variance(x0_hat, x, t)[0]
        return mean, log_variance.exp(), log_variance, x0_hat

    def _L(
        self, output: Tensor, x0: Tensor, xt: Tensor, t: Tensor, clip: bool, bins: int | None
    ) -> Tensor:
        """L_{t−1} of Eq. 6, or L_0 of Eq. 5 where t = 1: nats per dimension, (N,)."""
        mean, _, logvar, _ = self.p_mean_variance(lambda *_: output, xt, t, clip)
        true_mean, _ = self.q_posterior_mean_variance(x0, xt, t)
        # log_small is log β̃_t for t >= 2
        L = normal_kl(true_mean, self._at("log_small", t, x0), mean, logvar)
        if bool((t == 1).any()):
            density = 0.5 * (math.log(2 * math.pi) + logvar + (x0 - mean) ** 2 * torch.exp(-logvar))
            L_0 = density if bins is None else discretized_gaussian_nll(x0, mean, logvar, bins)
            L = torch.where((t == 1).reshape(-1, *[1] * (x0.ndim - 1)), L_0, L)
        return L.reshape(len(L), -1).mean(1)

    def prior_kl(self, x0: Tensor) -> Tensor:
        """L_T of Eq. 7, KL(q(x_T | x_0) ‖ N(0, I)), in nats per dimension, (N,)."""
        t = torch.full((len(x0),), self.T, device=x0.device)
        mean, variance = self.q_mean_variance(x0, t)
        return normal_kl(mean, variance.log(), mean * 0, mean * 0).reshape(len(x0), -1).mean(1)

    @torch.no_grad()
    def vlb(
        self,
        model: Model,
        x0: Tensor,
        generator: torch.Generator | None = None,
        clip: bool = True,
        bins: int | None = 256,
        thin: int | None = None,
    ) -> Bound:
        """The bound of Eq. 4 for data (N, …), all T + 1 terms from one draw of x_t each, in x0's
        dtype: in float32 they are right to some six digits.

        bins=None scores real-valued data by the density of p_θ(x_0 | x_1), then clip=False is
        meant. thin=k calls the model some k (1 + log(T/k)) times instead of T, still without bias:
        from t on, ⌊t/k⌋ neighbours make a block, of which a random one stands for all (terms fall
        about like 1/t, so all blocks weigh alike).
        """
        device = generator.device if generator is not None else "cpu"
        terms = torch.zeros(len(x0), self.T + 1, dtype=x0.dtype, device=x0.device)
        first = 1
        while first <= self.T:
            n = min(max(1, first // (thin or self.T)), self.T + 1 - first)
            t_ = first + int(torch.randint(n, (1,), generator=generator, device=device))
            t = torch.full((len(x0),), t_, device=x0.device)
            xt = self.q_sample(x0, t, normal_like(x0, generator))
            terms[:, t_ - 1] = n * self._L(model(xt, t), x0, xt, t, clip, bins)
            first += n
        terms[:, self.T] = self.prior_kl(x0)
        terms = terms / math.log(2)
        return Bound(terms, terms.sum(1), terms[:, 0], terms[:, 1:-1], terms[:, -1])

    def loss_weights(self, weighting: str) -> Tensor:
        """w_t of w_t · (squared error in what the model predicts), (T + 1,), entry 0 unused.
        "simple": 1 (Ho et al., Eq. 14). "min_snr": the error in x_0 counts min(SNR_t, 5) (Hang et
        al. 2023).
        """
        return getattr(self, _weights(weighting))

    def training_loss(
        self,
        model: Model,
        x0: Tensor,
        t: Tensor,
        noise: Tensor,
        weighting: str = "simple",
        hybrid: float = 1e-3,
        bins: int | None = 256,
    ) -> Tensor:
        """Loss of each sample, (N,): the squared error in what the model predicts, times its weight
        at t (Ho et al., Eq. 14). A learned variance adds hybrid · T · L_{t−1} in nats/dim with the
        mean held fixed: averaged over t, L_hybrid (Nichol & Dhariwal 2021, Eq. 16) without its
        constant, hybrid · L_T.
        """
        xt = self.q_sample(x0, t, noise)
        output = model(xt, t)
        prediction = self._split(output, xt)[0]
        loss = ((prediction - self.target(x0, xt, t, noise)) ** 2).reshape(len(x0), -1).mean(1)
        loss = loss * self._at(_weights(weighting), t, loss)
        if self.variance == "learned":
            held = torch.cat([prediction.detach(), output[:, prediction.shape[1] :]], dim=1)
            loss = loss + hybrid * self.T * self._L(held, x0, xt, t, False, bins)
        return loss

    # ---- sampling

    def timesteps(
        self, steps: int | None = None, rho: float | None = None, sigma_max: float = 20.0
    ) -> list[int]:
        """Times of a sampler, from T to 0; the model is called at all but the last.

        rho=None spreads them evenly, τ of Song et al. (2021), section 4.2: ⌈T (steps − i)/steps⌉;
        steps=None: all T. A number spreads σ^(1/rho) evenly instead, σ² = (1 − ᾱ)/ᾱ from sigma_max²
        to 0.05² (Karras et al. 2022, Eq. 5; they take rho = 7 and other ends), rounded to times of
        the process, the first to T; at most ``steps``, each once.
        """
        steps = self.T if steps is None else steps
        if not 1 <= steps <= self.T:
            raise ValueError(f"steps must lie in 1 … {self.T}, got {steps}")
        if rho is None:
            return [-(-self.T * (steps - i) // steps) for i in range(steps + 1)]
        sigma = self.snr[1:].rsqrt()
        last, first = (sigma.clamp(0.05, sigma_max) ** (1 / rho))[[0, -1]].tolist()
        wanted = torch.linspace(first, last, steps, dtype=torch.float64) ** rho
        nearest = 1 + (sigma - wanted[:, None]).abs().argmin(1)
        return [*sorted({self.T, *nearest[1:].tolist()}, reverse=True), 0]

    @torch.no_grad()
    def sample(
        self,
        model: Model,
        x: Tensor,
        sampler: "Sampler | None" = None,
        times: Sequence[int] | None = None,
        clip: bool = True,
        generator: Generators = None,
        callback: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Draw from p_θ: from x_T (N, …), usually N(0, I), down ``times`` to x_0.

        sampler: `ddpm_step` (the default), `ddim_step`, `dpmpp_2m_step` or a function like them.
        times: from T to 0, all of them by default, fewer by `timesteps`; ValueError where they do
        not fall. clip keeps x̂_0 in [−1, 1]. generator: of the noise, one for all samples or one for
        each. callback(t, x_t, x̂_0) is called at every step.
        """
        sampler = sampler or ddpm_step
        before = None
        times = self.timesteps() if times is None else times
        if len(times) < 2 or not all(0 <= s < t for t, s in pairwise(times)):
            raise ValueError(f"times must fall, from T to 0 as timesteps has them, got {times}")
        for t, s in pairwise(times):
            at = torch.full((len(x),), t, device=x.device)
            output = model(x, at)
            x0_hat = self.predict_xstart(output, x, at)
            x0_hat = x0_hat.clamp(-1, 1) if clip else x0_hat
            if callback is not None:
                callback(t, x, x0_hat)
            step = Step(self, t, s, x, x0_hat, self._split(output, x)[1], generator, before)
            x, before = sampler(step), replace(step, before=None)
        return x


# ---- one step of a sampler, from x_t to x_s with s < t


@dataclass(frozen=True)
class Step:
    """What a sampler knows at time t, on the way to time s < t."""

    diffusion: GaussianDiffusion
    t: int
    s: int
    x: Tensor  # x_t
    x0_hat: Tensor  # x̂_0, the network's estimate at t
    fraction: Tensor | float = 0.0  # of the way from log β̃ to log β: the variance of p_θ
    generator: Generators = None
    before: "Step | None" = None  # the step that led to x_t

    @property
    def abar(self) -> tuple[float, float]:
        """(ᾱ_t, ᾱ_s)."""
        return float(self.diffusion.abar[self.t]), float(self.diffusion.abar[self.s])


Sampler = Callable[[Step], Tensor]


def ddpm_step(step: Step) -> Tensor:
    """x_s ~ N(μ̃, σ²), Eq. 9-11 for the step from t to s, which has 1 − β = α = ᾱ_t/ᾱ_s.

    Ho et al. (2020), Algorithm 2. The last step, to s = 0, adds no noise.
    """
    abar_t, abar_s = step.abar
    alpha = abar_t / abar_s
    beta = 1 - alpha
    from_x0 = abar_s**0.5 * beta / (1 - abar_t)
    from_xt = alpha**0.5 * (1 - abar_s) / (1 - abar_t)
    mean = from_x0 * step.x0_hat + from_xt * step.x
    if step.s == 0:
        return mean
    small = (1 - abar_s) / (1 - abar_t) * beta
    std = small**0.5 * (beta / small) ** (0.5 * step.fraction)
    return mean + std * normal_like(step.x, step.generator)


def ddim_step(step: Step) -> Tensor:
    """x_s = √ᾱ_s x̂_0 + √(1 − ᾱ_s) ε̂, ε̂ belonging to x̂_0 (Song et al. 2021, Eq. 12, σ = 0)."""
    abar_t, abar_s = step.abar
    eps_hat = (step.x - abar_t**0.5 * step.x0_hat) / (1 - abar_t) ** 0.5
    return abar_s**0.5 * step.x0_hat + (1 - abar_s) ** 0.5 * eps_hat


def dpmpp_2m_step(step: Step) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022): DDIM's step with x̂_0 extrapolated to its middle.

    x̂_0 is taken as linear in λ = ½ log(ᾱ/(1 − ᾱ)) through its values at t and at the time r
    before. The first step has no r, and at s = 0 λ is infinite: these two are DDIM's.
    """
    if step.before is None or step.s == 0:
        return ddim_step(step)
    half_log_snr = 0.5 * step.diffusion.snr.log()
    at_r, at_t, at_s = half_log_snr[[step.before.t, step.t, step.s]].tolist()
    ahead = step.x0_hat + (at_s - at_t) / (2 * (at_t - at_r)) * (step.x0_hat - step.before.x0_hat)
    return ddim_step(replace(step, x0_hat=ahead))


def _weights(weighting: str) -> str:
    """The name of the table of these weights."""
    if weighting not in ("simple", "min_snr"):
        raise ValueError(f'weighting is "simple" or "min_snr", got {weighting!r}')
    return f"weights_{weighting}"


def normal_like(x: Tensor, generator: Generators = None) -> Tensor:
    """N(0, I) of the shape of x (N, …), drawn where the generator lives, or one lives for each."""
    if isinstance(generator, Sequence):
        return torch.stack([normal_like(x[i], g) for i, g in enumerate(generator)])
    device = generator.device if generator is not None else "cpu"
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
