"""Mode collapse: the exercises of notebook 05, in the order of its text."""

import math

import torch

from bedgen_utils.exercises import Exercise


def _circle(angle: torch.Tensor, radius: float) -> torch.Tensor:
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def _angles(modes: int) -> torch.Tensor:
    return torch.arange(modes) * (2 * math.pi / modes)


def _points(std: float, modes: int, total: int, heaps: list[tuple]) -> tuple:
    """Points around `modes` centres by (mode, points, distance in stds); the rest far from all."""
    centres = torch.tensor([[10.0 * k, 0.0] for k in range(modes)])
    points = [centres[k] + torch.tensor([std * far, 0.0]) for k, n, far in heaps for _ in range(n)]
    points += [torch.tensor([0.0, 4.0])] * (total - len(points))
    return torch.stack(points), centres, std


def _heaps() -> list[tuple]:
    """Two clouds, so that each rule that circulates finds other numbers of modes.

    Of 60 points around six modes: fifteen and three at half a standard deviation, four at two of
    them, five too far out, two modes with one stray point each. Of 300 around ten modes, a fifth of
    whose fair share is 6: heaps of 40, 7, 4 and 1.
    """
    few = [(0, 15, 0.5), (1, 3, 0.5), (2, 4, 2.0), (3, 1, 0.5), (4, 1, 0.5), (5, 5, 5.0)]
    many = [(0, 40, 0.5), (1, 7, 0.5), (2, 4, 0.5), (3, 1, 0.5)]
    return [_points(0.2, 6, 60, few), _points(0.2, 10, 300, many)]


def _counts(points, centres, std):
    distance, nearest = torch.cdist(points, centres).min(1)
    return nearest[distance < 3 * std].bincount(minlength=len(centres))


def _found(points, centres, std, within=3.0, fair=0.2, least=0.0, modes=None):
    distance, nearest = torch.cdist(points, centres).min(1)
    counts = nearest[distance < within * std].bincount(minlength=len(centres))
    return int((counts >= max(fair * len(points) / (modes or len(centres)), least)).sum())


def _sigmoid(u: float) -> float:
    return 1 / (1 + math.exp(-u))


def _ahead(psi: float, theta: float, eta: float) -> float:  # where D's step leads
    return psi - eta * theta * _sigmoid(psi * theta)


def _direct(psi: float, theta: float, eta: float) -> float:  # D's answer held fixed
    answer = _ahead(psi, theta, eta)
    return -answer * _sigmoid(answer * theta)


def _through(psi: float, theta: float, eta: float) -> float:  # how D's answer follows theta
    s = _sigmoid(psi * theta)
    answer = _ahead(psi, theta, eta)
    return theta * _sigmoid(answer * theta) * eta * (s + theta * psi * s * (1 - s))


def _half(psi: float, theta: float, eta: float) -> float:  # D's own sigmoid held fixed
    pull = theta * _sigmoid(_ahead(psi, theta, eta) * theta)
    return _direct(psi, theta, eta) + pull * eta * _sigmoid(psi * theta)


def _downhill(psi: float, theta: float, eta: float) -> float:  # D steps down instead of up
    return _direct(psi, theta, -eta) + _through(psi, theta, -eta)


def _sets() -> list[tuple]:
    x = torch.tensor([0.3, -1.2, 2.5, 0.9], dtype=torch.float64)
    return [(x, torch.tensor([4.0, -0.5, 0.1, 1.0], dtype=torch.float64)), (x, x.flip(0) + 2)]


def _cloud() -> list[tuple]:
    """A critic of slope (x_1, 2 x_2), two clouds and the share of the real point in each pair."""
    rng = torch.Generator().manual_seed(3)
    real, fake = torch.randn(2, 5, 2, generator=rng, dtype=torch.float64)
    u = torch.tensor([0.1, 0.9, 0.4, 0.7, 0.2], dtype=torch.float64)
    return [(lambda x: x * x.new_tensor([1.0, 2.0]), real, fake, u)]


def _between(real, fake, u):
    return u[:, None] * real + (1 - u[:, None]) * fake


def _miss(g):
    return g.norm(dim=1) - 1


EXERCISES = {
    "05-1": Exercise(
        answer=lambda modes, radius: _circle(_angles(modes), radius),
        trials=lambda: [(8, 2.0), (5, 1.0)],
        mistakes={
            "Your last centre is your first: 0 and 2π are one place, so one mode is missing and "
            "another is twice as heavy.": (
                lambda modes, radius: _circle(torch.linspace(0, 2 * math.pi, modes), radius)
            ),
            "You wrote (sin, cos): the first centre must lie on the x axis.": (
                lambda modes, radius: _circle(_angles(modes), radius).flip(1)
            ),
            "Your angles are degrees; cos and sin take radians.": (
                lambda modes, radius: _circle(torch.arange(modes) * (360 / modes), radius)
            ),
        },
        hint="Eight posts of a round fence have eight gaps, not seven.",
    ),
    "05-2": Exercise(
        answer=_found,
        trials=_heaps,
        mistakes={
            "A single stray point must find nothing: you count every mode that some point is near "
            "to.": lambda *a: _found(*a, fair=0.0, least=1.0),
            "You give each point to its nearest mode however far it is. It must lie within three "
            "standard deviations.": lambda *a: _found(*a, within=math.inf),
            "You ask for the whole fair share N/K. A fifth of it is enough.": (
                lambda *a: _found(*a, fair=1.0)
            ),
            "Near means within three standard deviations, not one.": lambda *a: _found(
                *a, within=1.0
            ),
            "Your fair share is that of the ring of 8. K is the number of centres given.": (
                lambda *a: _found(*a, modes=8)
            ),
            "Your fair share is that of the grid of 25. K is the number of centres given.": (
                lambda *a: _found(*a, modes=25)
            ),
            "You list the heaps, one number for each centre. How many of them are large enough?": (
                _counts
            ),
        },
        hint="torch.cdist gives all distances, min(1) the nearest mode, bincount counts by mode.",
    ),
    "05-3": Exercise(
        answer=lambda psi, theta, eta: _direct(psi, theta, eta) + _through(psi, theta, eta),
        trials=lambda: [(0.4, 0.9, 1.0), (-1.0, 0.5, 2.0)],
        mistakes={
            "You held D's answer fixed. That is the gradient of alternating steps: the part that "
            "runs through D's answer is missing.": _direct,
            "You did not look ahead at all.": lambda psi, theta, eta: -psi * _sigmoid(psi * theta),
            "That is only the part that runs through D's answer. θ also stands in V itself.": (
                _through
            ),
            "D moves up V, and you let it move down.": _downhill,
            "That is the gradient near the rest point, where σ is ½. Keep the sigmoid.": (
                lambda psi, theta, eta: -psi / 2 + eta * theta / 2
            ),
            "D's step holds θ twice: beside σ(ψθ) and in it. You let only the first move.": _half,
            "That is G's step, not the gradient: the sign is turned.": (
                lambda psi, theta, eta: -_direct(psi, theta, eta) - _through(psi, theta, eta)
            ),
        },
        hint="Write V(ψ + η ∂V/∂ψ, θ) as a function of θ alone, and let torch.func.grad do it.",
    ),
    "05-4": Exercise(
        answer=lambda x, y: float((x.sort().values - y.sort().values).abs().mean()),
        trials=_sets,
        mistakes={
            "You moved each point to the one that stands at the same place of the list. A cheaper "
            "plan matches the smallest to the smallest.": (
                lambda x, y: float((x - y).abs().mean())
            ),
            "That is the difference of the means. It is 0 for a wide and a narrow heap in one "
            "place.": lambda x, y: float((x.mean() - y.mean()).abs()),
            "That is the sum of all ways. Each point holds the mass 1/N.": (
                lambda x, y: float((x.sort().values - y.sort().values).abs().sum())
            ),
            "You took the root of the mean squared way: that is Wasserstein-2.": (
                lambda x, y: float((x.sort().values - y.sort().values).square().mean().sqrt())
            ),
        },
        hint="On a line the cheapest plan never lets two ways cross.",
    ),
    "05-5": Exercise(
        answer=lambda slope, real, fake, u: _miss(slope(_between(real, fake, u))).square().mean(),
        trials=_cloud,
        mistakes={
            "You asked at real points. They have no say about what lies between the clouds.": (
                lambda slope, real, fake, u: _miss(slope(real)).square().mean()
            ),
            "You asked at generated points alone.": (
                lambda slope, real, fake, u: _miss(slope(fake)).square().mean()
            ),
            "You asked halfway for every pair: use u.": (
                lambda slope, real, fake, u: _miss(slope((real + fake) / 2)).square().mean()
            ),
            "u is the share of the real point, and you gave it to the generated one.": (
                lambda slope, real, fake, u: _miss(slope(_between(fake, real, u))).square().mean()
            ),
            "You punish slopes above 1 alone. Eq. 5.11 asks for slope 1, from both sides.": (
                lambda slope, real, fake, u: (
                    _miss(slope(_between(real, fake, u))).clamp(min=0).square().mean()
                )
            ),
            "You took one length for all points: norm needs dim=1.": (
                lambda slope, real, fake, u: (slope(_between(real, fake, u)).norm() - 1).square()
            ),
            "You compare the squared slope with 1. Take its root first.": (
                lambda slope, real, fake, u: (
                    (slope(_between(real, fake, u)).square().sum(1) - 1).square().mean()
                )
            ),
        },
        hint="Three lines: the points between, the lengths of their slopes, the mean square.",
    ),
}
