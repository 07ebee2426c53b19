"""Posterior and bound: the exercises of notebook 02, in the order of its text."""

import math

import torch

from bedgen_utils.exercises import Exercise


def _product(m1: float, v1: float, m2: float, v2: float) -> tuple[float, float]:
    variance = 1 / (1 / v1 + 1 / v2)
    return variance * (m1 / v1 + m2 / v2), variance


def _bits(m1: torch.Tensor, v1: torch.Tensor, m2: torch.Tensor, v2: torch.Tensor) -> torch.Tensor:
    nats = 0.5 * ((v2 / v1).log() + (v1 + (m1 - m2) ** 2) / v2 - 1)
    return nats.flatten(1).mean(1) / math.log(2)


def _two_normals() -> list[tuple]:
    g = torch.Generator().manual_seed(2)
    draw = [torch.randn(3, 2, 4, 4, generator=g, dtype=torch.float64) for _ in range(4)]
    return [(draw[0], draw[1].exp(), draw[2], draw[3].exp())]


def _noisy() -> list[tuple]:
    g = torch.Generator().manual_seed(2)
    xt, eps = (torch.randn(2, 3, generator=g, dtype=torch.float64) for _ in range(2))
    return [(xt, eps, 0.9, 0.6), (xt, eps, 0.97, 0.2)]  # alpha_t and abar_t


def _on_the_line() -> list[tuple]:
    g = torch.Generator().manual_seed(3)
    xu, direction = torch.randn(2, 3, generator=g, dtype=torch.float64)
    return [(xu, direction, 0.3), (xu, direction, 0.8)]


def _snr(abar: float) -> float:
    return abar / (1 - abar)


EXERCISES = {
    "02-1": Exercise(
        answer=_product,
        trials=lambda: [(0.4, 0.5, -0.3, 0.1), (1.0, 2.0, 3.0, 0.5)],
        mistakes={
            "Variances add for a sum of two variables. Here densities are multiplied, and the "
            "result is narrower than either.": lambda m1, v1, m2, v2: (m1 + m2, v1 + v2),
            "Each mean is weighted by the variance of its own density. The narrower one must count "
            "more.": lambda m1, v1, m2, v2: (
                (v1 * m1 + v2 * m2) / (v1 + v2),
                _product(m1, v1, m2, v2)[1],
            ),
            "The variance is right. The mean is the plain average only if both variances are "
            "equal.": lambda m1, v1, m2, v2: ((m1 + m2) / 2, _product(m1, v1, m2, v2)[1]),
            "The mean is right. Variances add for a sum of two variables; in a product of two "
            "densities their inverses add.": lambda m1, v1, m2, v2: (
                _product(m1, v1, m2, v2)[0],
                v1 + v2,
            ),
            "The mean is right. The second number is a standard deviation; its square is asked "
            "for.": lambda m1, v1, m2, v2: (
                _product(m1, v1, m2, v2)[0],
                math.sqrt(_product(m1, v1, m2, v2)[1]),
            ),
            "That mean is B. Divide by the sum of the precisions: the mean is B/A.": (
                lambda m1, v1, m2, v2: (m1 / v1 + m2 / v2, _product(m1, v1, m2, v2)[1])
            ),
            "That is A, the precision. The variance is 1/A.": lambda m1, v1, m2, v2: (
                _product(m1, v1, m2, v2)[0],
                1 / v1 + 1 / v2,
            ),
        },
        hint="Add the two exponents, collect x² and x, and complete the square.",
    ),
    "02-2": Exercise(
        answer=_bits,
        trials=_two_normals,
        mistakes={
            "That is in nats. Divide by log 2 for bits.": lambda *a: _bits(*a) * math.log(2),
            "You multiplied by log 2. A nat is more than a bit, so the number of bits is the "
            "larger one: divide.": lambda *a: _bits(*a) * math.log(2) ** 2,
            "The arguments are swapped: the divergence is an average under the first normal.": (
                lambda m1, v1, m2, v2: _bits(m2, v2, m1, v1)
            ),
            "You summed over the numbers of an image. Per dimension means the average.": (
                lambda *a: _bits(*a) * a[0][0].numel()
            ),
            "The logarithm is of the ratio of standard deviations, so of variances it is half of "
            "that.": lambda m1, v1, m2, v2: (
                _bits(m1, v1, m2, v2) + (v2 / v1).log2().flatten(1).mean(1) / 2
            ),
            "Eq. 2.10 is written with standard deviations. You are given variances: they are the "
            "squares already.": lambda m1, v1, m2, v2: _bits(m1, v1**2, m2, v2**2),
            "The −1/2 is missing: two equal normals must come to zero.": (
                lambda *a: _bits(*a) + 0.5 / math.log(2)
            ),
        },
        hint="Write Eq. 2.10 with variances. Then x.flatten(1).mean(1) averages over an image.",
    ),
    "02-3": Exercise(
        answer=1.931,
        tolerance=2e-3,
        mistakes={
            'That is the factor for the best variance: say "large" where you make the '
            "process.": 3.412,
            'That is the factor for the variance β̃: say "large" where you make the '
            "process.": 1.0608,
            "That is the ratio of the bounds. Subtract the entropy from each first.": 1.0855,
            "It is the other way round: the longer chain has the smaller gap.": 1 / 1.931,
            "1/T is the law of long chains. Here the factor is not yet 2: measure it.": 2.0,
        },
        hint="Mixture().bound_terms(d) gives the terms of the bound and the shares of the gap.",
    ),
    "02-4": Exercise(
        answer=lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / math.sqrt(abar),
        trials=_noisy,
        mistakes={
            "That is Eq. 12 as printed in the report: the mean of x_{t-1}, not x_0.": (
                lambda xt, eps, alpha, abar: (
                    (xt - (1 - alpha) / math.sqrt(1 - abar) * eps) / math.sqrt(alpha)
                )
            ),
            "You divided by √α_t, what one step leaves of the image. All t steps leave √ᾱ_t.": (
                lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / math.sqrt(alpha)
            ),
            "That undoes a single step. The noise ε made x_t from x_0 in one jump: both factors "
            "are of ᾱ_t.": lambda xt, eps, alpha, abar: (
                (xt - math.sqrt(1 - alpha) * eps) / math.sqrt(alpha)
            ),
            "1 − ᾱ_t is the variance of the noise. Its amplitude is the root.": (
                lambda xt, eps, alpha, abar: (xt - (1 - abar) * eps) / math.sqrt(abar)
            ),
            "You added the noise. It was added to make x_t: subtract it.": (
                lambda xt, eps, alpha, abar: (xt + math.sqrt(1 - abar) * eps) / math.sqrt(abar)
            ),
            "The image is multiplied by √ᾱ_t, so divide by the root.": (
                lambda xt, eps, alpha, abar: (xt - math.sqrt(1 - abar) * eps) / abar
            ),
        },
        hint="Start from x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε. Not all four arguments are needed.",
    ),
    "02-5": Exercise(
        answer=lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar) / 2,
        trials=lambda: [(0.9, 0.8), (0.35, 0.3)],
        mistakes={
            "That is the weight of the error in x_0. An error in v is another number: square the "
            "factor between them.": lambda before, abar: (_snr(before) - _snr(abar)) / 2,
            "The factor between the two errors is √(1 − ᾱ_t). A squared error takes its square.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * math.sqrt(1 - abar) / 2
            ),
            "That is the weight of the error in the noise.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar) / abar / 2
            ),
            "The factor 1/2 of Eq. 2.23 is missing.": (
                lambda before, abar: (_snr(before) - _snr(abar)) * (1 - abar)
            ),
            "The network looks at x_t: the factor between the errors is of ᾱ_t, not of the ᾱ "
            "before it.": lambda before, abar: (_snr(before) - _snr(abar)) * (1 - before) / 2,
            "You divided by 1 − ᾱ_t. An error in v makes a smaller one in x_0: multiply.": (
                lambda before, abar: (_snr(before) - _snr(abar)) / (1 - abar) / 2
            ),
        },
        hint="By Eq. 2.17, what does an error in v make of x_0? Put that into Eq. 2.23.",
    ),
    "02-6": Exercise(
        answer=lambda xu, direction, u: xu - u * direction,
        trials=_on_the_line,
        mistakes={
            "You went the whole way from x_u. The image lies only u of it away: right at u = 1 "
            "alone.": lambda xu, direction, u: xu - direction,
            "u is the weight of the noise, so the way back to the image is u, not 1 − u.": (
                lambda xu, direction, u: xu - (1 - u) * direction
            ),
            "That is ε: you went on to the noise.": (
                lambda xu, direction, u: xu + (1 - u) * direction
            ),
            "You took the direction for the noise. x_u − u·direction is the image already: do not "
            "divide.": lambda xu, direction, u: (xu - u * direction) / (1 - u),
            "The direction points from the image to the noise. Go against it.": (
                lambda xu, direction, u: xu + u * direction
            ),
        },
        hint="x_u = x_0 + u (ε − x_0).",
    ),
}
