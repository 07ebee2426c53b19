"""Training a diffusion model: the exercises of notebook 03, in the order of its text."""

import math

import torch
import torch.nn.functional as F

from bedgen_utils.exercises import Exercise


def _times() -> list[tuple]:
    return [(torch.tensor([1, 2, 5]), 8), (torch.tensor([3]), 6)]


def _waves(t: torch.Tensor, width: int, power=lambda k, half: -k / half) -> torch.Tensor:
    """Cosines, then sines, at the frequencies 10,000^power."""
    k = torch.arange(width // 2, dtype=torch.float64)
    angles = t.double()[:, None] * 10_000.0 ** power(k, width // 2)
    return torch.cat([angles.cos(), angles.sin()], 1)


def _maps() -> list[tuple]:
    g = torch.Generator().manual_seed(3)
    h, skip = (torch.randn(2, 3, n, n, generator=g, dtype=torch.float64) for n in (2, 4))
    return [(h, skip)]


def _join(h: torch.Tensor, skip: torch.Tensor, dim: int = 1, mode: str = "nearest"):
    return torch.cat([F.interpolate(h, scale_factor=2, mode=mode), skip], dim)


def _on_the_way() -> list[tuple]:
    """A leap in the middle, and the last one."""
    g = torch.Generator().manual_seed(3)
    x, x0, z = torch.randn(3, 5, generator=g, dtype=torch.float64)
    betas = torch.linspace(0.02, 0.4, 10, dtype=torch.float64)
    abar = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])
    return [(x, x0, 6, 3, abar, z), (x, x0, 4, 0, abar, z)]


def _mean(x, x0, abar_t, abar_s, alpha, factor_xt=None):
    factor_xt = alpha.sqrt() if factor_xt is None else factor_xt
    return (abar_s.sqrt() * (1 - alpha) * x0 + factor_xt * (1 - abar_s) * x) / (1 - abar_t)


def _ancestral(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    mean = _mean(x, x0, abar[t], abar[s], alpha)
    return mean + (1 - alpha).sqrt() * z if s > 0 else mean


def _always_noisy(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    return _mean(x, x0, abar[t], abar[s], alpha) + (1 - alpha).sqrt() * z


def _unrooted(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    mean = _mean(x, x0, abar[t], abar[s], alpha)
    return mean + (1 - alpha) * z if s > 0 else mean


def _small(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    small = (1 - abar[s]) / (1 - abar[t]) * (1 - alpha)
    return _mean(x, x0, abar[t], abar[s], alpha) + small.sqrt() * z


def _one_step_beta(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[t - 1]
    mean = _mean(x, x0, abar[t], abar[s], alpha)
    return mean + (1 - alpha).sqrt() * z if s > 0 else mean


def _abar_for_alpha(x, x0, t, s, abar, z):
    alpha = abar[t] / abar[s]
    mean = _mean(x, x0, abar[t], abar[s], alpha, abar[t].sqrt())
    return mean + (1 - alpha).sqrt() * z if s > 0 else mean


def _answers() -> list[tuple]:
    g = torch.Generator().manual_seed(3)
    x, v = torch.randn(2, 5, generator=g, dtype=torch.float64)
    return [(x, v, 0.3), (x, v, 0.8)]


def _direction(x, v, abar, root=math.sqrt, sign=1.0):
    eps = root(1 - abar) * x + root(abar) * v
    x0 = root(abar) * x - root(1 - abar) * v
    return sign * (eps - x0)


EXERCISES = {
    "03-1": Exercise(
        answer=_waves,
        trials=_times,
        tolerance=1e-3,
        mistakes={
            "Your sines come first. Both orders work; here the cosines are asked for first.": (
                lambda t, width: _waves(t, width).roll(width // 2, 1)
            ),
            "Your frequencies rise, to thousands of turns a step. They must fall, from 1: that is "
            "a minus in the exponent.": lambda t, width: _waves(t, width, lambda k, half: k / half),
            "Your last frequency is 1/10,000: you divided by width/2 − 1 (or used linspace with "
            "both ends).": lambda t, width: _waves(t, width, lambda k, half: -k / (half - 1)),
            "k runs to width/2, so the exponent is −k/(width/2): you divided by width, and your "
            "frequencies stop at 1/100.": (
                lambda t, width: _waves(t, width, lambda k, half: -k / (2 * half))
            ),
            "You divided t by 1,000 first. Then even the fastest wave makes no whole turn, and "
            "near times look alike.": lambda t, width: _waves(t / 1000, width),
            "Sine and cosine alternate in yours, as in Vaswani et al. Here all cosines come first, "
            "then all sines.": (
                lambda t, width: _waves(t, width).unflatten(1, (2, -1)).flip(1).mT.flatten(1)
            ),
            "The numbers are right, but cosine and sine alternate. Put all cosines first.": (
                lambda t, width: _waves(t, width).unflatten(1, (2, -1)).mT.flatten(1)
            ),
        },
        hint="A row of width/2 frequencies; times a column of times; cosine and sine of that.",
    ),
    "03-2": Exercise(
        answer=_join,
        trials=_maps,
        mistakes={
            "You added them. That is what our U-Net does; here they are to stand side by side.": (
                lambda h, skip: F.interpolate(h, scale_factor=2) + skip
            ),
            "You joined them along dimension 0: that makes twice as many images.": (
                lambda h, skip: _join(h, skip, 0)
            ),
            "You joined them along the height: the channels are dimension 1.": (
                lambda h, skip: _join(h, skip, 2)
            ),
            "The skip comes first in yours. The convolution that follows could learn either; here "
            "h is asked for first.": lambda h, skip: _join(h, skip).roll(3, 1),
            "You tiled the whole map. Repeat each value in its place.": (
                lambda h, skip: torch.cat([h.repeat(1, 1, 2, 2), skip], 1)
            ),
            "You smoothed h on the way up (bilinear). Repeat each value instead.": (
                lambda h, skip: _join(h, skip, 1, "bilinear")
            ),
            "You shrank the skip to the size of h. Its detail is what it is there for: let h "
            "grow.": lambda h, skip: torch.cat([h, F.avg_pool2d(skip, 2)], 1),
        },
        hint="F.interpolate(h, scale_factor=2), then torch.cat along the dimension of channels.",
    ),
    "03-3": Exercise(
        answer=0.9999**10_000,
        mistakes={
            "That is the share of all later weights. What is left of the start is the rest.": (
                1 - 0.9999**10_000
            ),
            "That is what one step leaves. There are 10,000 of them.": 0.9999,
            "Each step leaves 0.9999 of what was there. Did you subtract, or raise 0.0001 to the "
            "power? Shares multiply.": 0.0,
            "That is the share of the start after 1,000 steps.": 0.9999**1000,
            "You kept the warm-up, and nothing of the start is left. Leave it out: every d is "
            "0.9999.": math.prod(min(0.9999, (1 + k) / (10 + k)) for k in range(1, 10_001)),
            "You subtracted 10,000 times the same share. Each step leaves 0.9999 of what is left: "
            "shares multiply.": 1 - 10_000 * (1 - 0.9999),
        },
        hint="After one step 0.9999 of the start is left, after two 0.9999².",
        tolerance=0.01,
    ),
    "03-4": Exercise(
        answer=_ancestral,
        trials=_on_the_way,
        mistakes={
            "Your last step adds noise, too, and no one will take it out again. A guard on t does "
            "not help, for t never is 0: ask whether s is.": _always_noisy,
            "β is a variance, and the noise is multiplied by its root.": _unrooted,
            "That is the smaller variance β̃. Here β is asked for.": _small,
            "You took β of a single step, from t to t − 1. The leap goes to s: 1 − ᾱ_t/ᾱ_s.": (
                _one_step_beta
            ),
            "The factor of x_t has √α with α = ᾱ_t/ᾱ_s. You took √ᾱ_t, what all steps from 0 to t "
            "leave.": _abar_for_alpha,
        },
        hint="Start from the step of DDPM above. With β the noise does not vanish by itself at "
        "s = 0.",
    ),
    "03-5": Exercise(
        answer=_direction,
        trials=_answers,
        mistakes={
            "You go from noise to image. The direction asked for is ε̂ − x̂₀.": (
                lambda x, v, abar: _direction(x, v, abar, sign=-1.0)
            ),
            "The factors are the roots of ᾱ and of 1 − ᾱ.": (
                lambda x, v, abar: _direction(x, v, abar, lambda a: a)
            ),
            "That is v itself. It is the direction along a quarter circle from x₀ to ε, not along "
            "the straight line.": lambda x, v, abar: v,
            "You swapped ᾱ and 1 − ᾱ. With little noise, x̂₀ must be nearly x_t.": (
                lambda x, v, abar: _direction(x, v, 1 - abar)
            ),
            "You took v for the noise. First find ε̂ and x̂₀ from it (Eq. 2.17).": (
                lambda x, v, abar: v - (x - math.sqrt(1 - abar) * v) / math.sqrt(abar)
            ),
        },
        hint="Eq. 2.17 gives x̂₀ and ε̂ from x_t and v.",
    ),
}
