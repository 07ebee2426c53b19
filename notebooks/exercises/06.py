"""Evaluation: the exercises of notebook 06, in the order of its text."""

import torch

from bedgen_utils.exercises import Exercise


def _draws(*shapes: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)


def _samples() -> list[tuple]:
    """Two samples of unlike mean and spread."""
    return [
        (0.7 + 0.5 * x, 1.6 * y - 1.1) for x, y in (_draws((6,), (9,)), _draws((12,), (5,), seed=1))
    ]


def _on_a_line(x, y, spread=torch.std):
    return (x.mean() - y.mean()) ** 2 + (spread(x) - spread(y)) ** 2


def _covariances() -> list[tuple]:
    """Symmetric, with positive entries and eigenvalues, and not diagonal."""
    plane = [[1.0, 0.75], [0.75, 0.9]]
    space = [[2.0, 0.4, 0.3], [0.4, 1.0, 0.2], [0.3, 0.2, 0.5]]
    return [(torch.tensor(rows, dtype=torch.float64),) for rows in (plane, space)]


def _root(S: torch.Tensor) -> torch.Tensor:
    eigenvalues, vectors = torch.linalg.eigh(S)
    return (vectors * eigenvalues.sqrt()) @ vectors.T


def _kernels() -> list[tuple]:
    """Matrices of cubic kernel values of small clouds, (n, n), (m, m) and (n, m)."""

    def kappa(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    clouds = (_draws((5, 2), (7, 2)), _draws((8, 3), (4, 3), seed=1))
    return [(kappa(x, x), kappa(y, y), kappa(x, y)) for x, y in clouds]


def _within(values: torch.Tensor) -> torch.Tensor:
    """Mean over pairs of different points."""
    return (values.sum() - values.trace()) / (len(values) * (len(values) - 1))


def _clouds() -> list[tuple]:
    """Real points, and a narrower cloud of generated ones beside their middle."""
    pairs = (_draws((24, 2), (19, 2)), _draws((22, 2), (26, 2), seed=1))
    return [(x, 0.7 * y + 1.2, k) for (x, y), k in zip(pairs, (3, 2), strict=True)]


def _inside(points, centres, reach, of_all=False):
    hit = torch.cdist(points, centres) <= reach
    return (hit.all(1) if of_all else hit.any(1)).double().mean()


def _reach(centres: torch.Tensor, k: int) -> torch.Tensor:
    return torch.cdist(centres, centres).kthvalue(k).values


EXERCISES = {
    "06-1": Exercise(
        answer=_on_a_line,
        trials=_samples,
        mistakes={
            "You took variances where Eq. 6.2 has standard deviations: a spread is measured in the "
            "units of x.": lambda x, y: _on_a_line(x, y, torch.var),
            "You added both variances. That is the cost of a plan that pairs grains at random; the "
            "cheapest one keeps the order.": (
                lambda x, y: (x.mean() - y.mean()) ** 2 + x.var() + y.var()
            ),
            "You took the root at the end. By the field's habit the Fréchet distance stays "
            "squared.": lambda x, y: _on_a_line(x, y).sqrt(),
            "You did not square the differences.": (
                lambda x, y: (x.mean() - y.mean()).abs() + (x.std() - y.std()).abs()
            ),
            "Your variances divide by N. Unbiased ones divide by N − 1, as torch does if you let "
            "it.": lambda x, y: _on_a_line(x, y, lambda v: v.std(correction=0)),
        },
        hint="Four numbers are enough: two means and two standard deviations.",
    ),
    "06-2": Exercise(
        answer=_root,
        trials=_covariances,
        mistakes={
            "You took the root of each entry. The root of a matrix is another thing: multiply it "
            "by itself, and Σ must come out.": torch.sqrt,
            "That is Cholesky's factor L, with L Lᵀ = Σ. It is not symmetric. (Eq. 6.7 could do "
            "with it.)": torch.linalg.cholesky,
            "The eigenvectors are stretched and not turned back: multiply by their transpose.": (
                lambda S: torch.linalg.eigh(S)[1] * torch.linalg.eigh(S)[0].sqrt()
            ),
            "You put the eigenvalues back as they were. That is Σ again: take their roots.": (
                lambda S: S.clone()
            ),
            "That is the inverse root, Σ^(−1/2).": lambda S: torch.linalg.inv(_root(S)),
            "You took the eigenvectors for rows. torch.linalg.eigh gives them as columns, V: the "
            "root is V √Λ Vᵀ, and yours is Vᵀ √Λ V.": lambda S: (
                torch.linalg.eigh(S)[1].T
                @ torch.diag(torch.linalg.eigh(S)[0].sqrt())
                @ torch.linalg.eigh(S)[1]
            ),
        },
        hint="Turn to the axes of the eigenvectors, take the root of each eigenvalue there, and "
        "turn back.",
    ),
    "06-3": Exercise(
        answer=lambda kxx, kyy, kxy: _within(kxx) + _within(kyy) - 2 * kxy.mean(),
        trials=_kernels,
        mistakes={
            "Your means within a set include the diagonal, where an image is paired with itself. "
            "That is the biased estimate: it can never be negative.": (
                lambda kxx, kyy, kxy: kxx.mean() + kyy.mean() - 2 * kxy.mean()
            ),
            "You left the diagonal out of the sum and kept it in the count: there are n(n − 1) "
            "pairs, not n².": lambda kxx, kyy, kxy: (
                (kxx.sum() - kxx.trace()) / len(kxx) ** 2
                + (kyy.sum() - kyy.trace()) / len(kyy) ** 2
                - 2 * kxy.mean()
            ),
            "The 2 is missing: the square (a − b)² has −2ab in it.": (
                lambda kxx, kyy, kxy: _within(kxx) + _within(kyy) - kxy.mean()
            ),
            "You left the diagonal out between the sets, too. There no image meets itself.": (
                lambda kxx, kyy, kxy: (
                    _within(kxx)
                    + _within(kyy)
                    - 2 * (kxy.sum() - kxy.trace()) / (kxy.numel() - min(kxy.shape))
                )
            ),
        },
        hint="How many pairs of different images are there among n? kxx.trace() is the sum of "
        "its diagonal.",
    ),
    "06-4": Exercise(
        answer=lambda real, fake, k: _inside(real, fake, _reach(fake, k + 1)),
        trials=_clouds,
        mistakes={
            "That is precision: balls around real points, and the share of generated ones in them. "
            "Recall exchanges the roles.": (
                lambda real, fake, k: _inside(fake, real, _reach(real, k + 1))
            ),
            "Your balls are too small: the nearest neighbour of a point among all points is the "
            "point itself, so you want the (k + 1)-th.": (
                lambda real, fake, k: _inside(real, fake, _reach(fake, k))
            ),
            "You want points that lie in all balls. One ball is enough.": (
                lambda real, fake, k: _inside(real, fake, _reach(fake, k + 1), True)
            ),
            "You counted the generated points whose ball holds a real one. Recall is a share of "
            "the real points.": lambda real, fake, k: (
                (torch.cdist(fake, real) <= _reach(fake, k + 1)[:, None]).any(1).double().mean()
            ),
            "Your balls are those around the real points. Each holds its own centre: what you "
            "count is 1 for any generator.": (
                lambda real, fake, k: _inside(real, real, _reach(real, k + 1))
            ),
            "That is coverage, of section 11: the share of real balls that hold a generated point. "
            "Recall draws its balls around generated points.": lambda real, fake, k: (
                (torch.cdist(real, fake) <= _reach(real, k + 1)[:, None]).any(1).double().mean()
            ),
        },
        hint="First the radius of each ball around a generated point, then a matrix of distances "
        "from real to generated points.",
    ),
    "06-5": Exercise(
        answer=12.0,
        mistakes={
            "You compared raw distances of different N. A smaller N looks worse, whatever the "
            "model is.": -127.0,
            "You took A less B: a positive number says that B is farther.": -12.0,
            "You took ratios. Those measure N, because the floor in the denominator does.": (
                652 / 198 - 779 / 337
            ),
            "That is the difference of the floors. Subtract each from its model's score.": 198
            - 337,
        },
        hint="Two subtractions give the excesses, a third compares them.",
    ),
}
