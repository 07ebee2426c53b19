"""Forward noising: the exercises of notebook 01, in the order of its text."""

import math

import torch

from bedgen_utils.exercises import Exercise


def _betas() -> list[tuple]:
    return [(torch.linspace(0.01, 0.3, steps, dtype=torch.float64),) for steps in (5, 9)]


def _abar(betas: torch.Tensor) -> torch.Tensor:
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


def _tables() -> list[tuple]:
    return [(_abar(betas), variance) for (betas,) in _betas() for variance in (0.2, 0.7)]


def _first(drowned: torch.Tensor) -> int:
    return int(drowned.int().argmax())


EXERCISES = {
    "01-1": Exercise(
        answer=lambda b1, b2: 1 - (1 - b1) * (1 - b2),
        trials=lambda: [(0.1, 0.2), (0.3, 0.05)],
        mistakes={
            "The variances of the two noises do not just add up: the first noise is shrunk by the "
            "second step.": lambda b1, b2: b1 + b2,
            "That is how much of the image is left, 1 − β.": lambda b1, b2: (1 - b1) * (1 - b2),
            "Amplitudes shrink by the root of 1 − β, and their product is the root of what you "
            "want.": lambda b1, b2: 1 - math.sqrt((1 - b1) * (1 - b2)),
            "A variance shrinks by 1 − β₂ itself, not by its root.": (
                lambda b1, b2: b1 * math.sqrt(1 - b2) + b2
            ),
            "β₁β₂ is smaller than either: two steps would make less noise than one.": (
                lambda b1, b2: b1 * b2
            ),
        },
        hint="What factor stands before x_0 after both steps?",
    ),
    "01-2": Exercise(
        answer=_abar,
        trials=_betas,
        mistakes={
            "Entry 0 belongs to t = 0, where nothing has happened: it is 1, and the table has one "
            "entry more than there are steps.": lambda betas: torch.cumprod(1 - betas, 0),
            "You multiplied the β. What is left of the image is a product of 1 − β.": (
                lambda betas: torch.cat([betas.new_ones(1), torch.cumprod(betas, 0)])
            ),
            "You added the β up. That holds to first order only: factors multiply.": (
                lambda betas: torch.cat([betas.new_ones(1), 1 - torch.cumsum(betas, 0)])
            ),
            "That is the root of it, the factor of x_0.": lambda betas: _abar(betas).sqrt(),
            "Entry t holds the factor of step t alone. What is left after t steps is the product "
            "of all factors up to t.": lambda betas: torch.cat([betas.new_ones(1), 1 - betas]),
        },
        hint="torch.cumprod makes running products; torch.cat puts a number before them.",
    ),
    "01-3": Exercise(
        answer=lambda abar, v: _first(abar[1:] / (1 - abar[1:]) * v < 1) + 1,
        trials=_tables,
        mistakes={
            "One too early: abar[1:] begins with t = 1, so that its index 0 is step 1.": (
                lambda abar, v: _first(abar[1:] / (1 - abar[1:]) * v < 1)
            ),
            "You left out the variance of the data: the SNR of Eq. 1.9 is meant for variance 1.": (
                lambda abar, v: _first(abar[1:] / (1 - abar[1:]) < 1) + 1
            ),
            "The room is weaker than data of variance 1, and drowns earlier: multiply by the "
            "variance, do not divide.": (
                lambda abar, v: int((abar[1:] / (1 - abar[1:]) / v >= 1).sum()) + 1
            ),
            "You squared the variance of the data, or took the root of the SNR. The SNR is a ratio "
            "of variances already: multiply it by the variance once.": (
                lambda abar, v: _first((abar[1:] / (1 - abar[1:])).sqrt() * v < 1) + 1
            ),
        },
        hint="Compute the SNR for t = 1 … T at once, and count how often it is still large enough.",
    ),
    "01-4": Exercise(
        answer=1 - 4e-5 ** (1 / 1000),
        tolerance=5e-4,  # 0.01008 will do, 999 steps will not
        mistakes={
            "That is −log(ᾱ)/1000, which is β to first order only; here it is half a per cent "
            "off.": -math.log(4e-5) / 1000,
            "That is α = 1 − β.": 4e-5 ** (1 / 1000),
            "There are 1000 steps, not 999.": 1 - 4e-5 ** (1 / 999),
            "That is β for √ᾱ. ᾱ itself is the product of the 1 − β: the power is 1000, not "
            "2000.": 1 - 4e-5 ** (1 / 2000),
            "That is the mean β of the linear schedule. It keeps their sum; what counts is the "
            "product of 1 − β.": (1e-4 + 0.02) / 2,
            "(1 − β) is multiplied a thousand times: take the thousandth root, do not divide.": (
                (1 - 4e-5) / 1000
            ),
        },
        hint="ᾱ_1000 = (1 − β)^1000. Solve for β.",
    ),
    "01-5": Exercise(
        answer=64,
        mistakes={
            "That is the factor of the amplitudes. The SNR is a ratio of variances.": 8,
            "The noise of the 64 pixels is independent: in their mean most of it cancels.": 1,
            "It is the other way round: averaging helps the signal.": 1 / 64,
        },
        hint="What is the variance of the mean of 64 independent numbers of variance 1?",
    ),
}
