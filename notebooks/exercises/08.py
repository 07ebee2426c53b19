"""The report: the exercises of notebook 08, in the order of its text."""

import torch
from scipy import stats

from bedgen_utils.exercises import Exercise


def _apart(first, second, error_1, error_2):
    return second - first, 2 * (error_1**2 + error_2**2) ** 0.5


def _of_seeds() -> list[tuple]:
    """Results of two models with the same seeds."""
    seeds = [torch.tensor(x, dtype=torch.float64) for x in ([9.0, 10.5, 8.1], [4.0, 6.2, 5.1, 7.3])]
    gaps = [torch.tensor(x, dtype=torch.float64) for x in ([2.0, 3.4, 2.9], [-0.3, 0.4, 0.9, 0.2])]
    return [(a, a + gap) for a, gap in zip(seeds, gaps, strict=True)]


def _interval(x, quantile=stats.t.ppf, correction=1, root=True, freedom=1):
    spread = x.std(correction=correction) / (len(x) ** 0.5 if root else 1)
    half = float(quantile(0.975, len(x) - freedom)) * spread
    return x.mean(), x.mean() - half, x.mean() + half


def _unpaired(a, b, freedom=None):
    """As if the seeds of the two models had nothing in common."""
    parts = a.var() / len(a), b.var() / len(b)
    if freedom is None:  # Welch (1947)
        freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(stats.t.ppf(0.975, float(freedom))) * sum(parts).sqrt()
    middle = b.mean() - a.mean()
    return middle, middle - half, middle + half


def _answers() -> list[tuple]:
    """Sets of unlike sizes, each without a class that the other has. The sizes are powers of 2:
    shares are exact in float32, too, and signed differences sum to 0 without rounding.
    """
    pairs = [([0, 0, 0, 1, 1, 4, 4, 4], [2, 2, 3, 4], 5), ([1, 3, 3, 4], [0] * 6 + [2, 4], 5)]
    return [(torch.tensor(a), torch.tensor(b), count) for a, b, count in pairs]


def _variation(a, b, count, over=len, of=lambda gap: gap.abs().sum() / 2):
    """over: what the counts of a set are divided by."""
    shares = [x.bincount(minlength=count).double() / over(x) for x in (a, b)]
    return of(shares[0] - shares[1])


def _seen(a, b, count, in_both):
    classes = [x.bincount(minlength=count) > 0 for x in (a, b)]
    kept = classes[0] & classes[1] if in_both else classes[0]
    return _variation(a, b, count, of=lambda gap: gap[kept].abs().sum() / 2)


EXERCISES = {
    "08-1": Exercise(
        answer=_apart,
        trials=lambda: [(2.6, 2.8, 0.15, 0.17), (5.0, 3.7, 0.2, 0.1)],
        mistakes={
            "You added the two errors. Errors of independent samples seldom err the same way: "
            "their squares add.": lambda a, b, x, y: (b - a, 2 * (x + y)),
            "That is one standard error, which holds the truth two times in three; two are "
            "asked for. (Your function gets single errors: halve none.)": lambda a, b, x, y: (
                b - a,
                (x**2 + y**2) ** 0.5,
            ),
            "You return the error first. The difference comes first.": (
                lambda a, b, x, y: _apart(a, b, x, y)[::-1]
            ),
            "You took 1.96 standard errors. This report takes two.": (
                lambda a, b, x, y: (b - a, 1.96 * (x**2 + y**2) ** 0.5)
            ),
            "You did not take the root: a variance has the square of the unit.": (
                lambda a, b, x, y: (b - a, 2 * (x**2 + y**2))
            ),
            "You took the first less the second.": lambda a, b, x, y: _apart(b, a, x, y),
            "You dropped the sign. The second may be smaller than the first.": (
                lambda a, b, x, y: (abs(b - a), 2 * (x**2 + y**2) ** 0.5)
            ),
            "That is the sum of the errors, or twice their mean. For independent samples the "
            "squares add, and the text gives two standard errors.": (
                lambda a, b, x, y: (b - a, x + y)
            ),
        },
        hint="Variances of independent numbers add, also when the numbers are subtracted.",
    ),
    "08-2": Exercise(
        answer=lambda a, b: _interval(b - a),
        trials=_of_seeds,
        mistakes={
            "You treated the seeds as unrelated. The task pairs them: subtract seed by seed "
            "first. That is right whether a seed does the same to both or not.": _unpaired,
            "You added the variances of both. Squares add for independent numbers; these share "
            "their seeds. Subtract seed by seed first.": (lambda a, b: _unpaired(a, b, len(a) - 1)),
            "You pooled two groups. They share their seeds: there are n differences, and n - 1 "
            "degrees of freedom.": lambda a, b: _unpaired(a, b, 2 * len(a) - 2),
            "You took 1.96, the quantile of a normal law. With three seeds the standard deviation "
            "is itself a guess, and Student's quantile is 4.30.": (
                lambda a, b: _interval(b - a, lambda p, _: stats.norm.ppf(p))
            ),
            "4.30 is the quantile for three seeds. For n seeds it is stats.t.ppf(0.975, n - 1).": (
                lambda a, b: _interval(b - a, lambda p, _: 4.3015)
            ),
            "You took 1.96, the quantile of a normal law, and a deviation that divides by n. "
            "Student's quantile and n - 1 belong together.": (
                lambda a, b: _interval(b - a, lambda p, _: stats.norm.ppf(p), correction=0)
            ),
            "You took two standard errors. With three seeds Student's quantile is 4.30, not 2.": (
                lambda a, b: _interval(b - a, lambda p, _: 2.0)
            ),
            "That is how far single seeds scatter. The mean of n scatters √n times less.": (
                lambda a, b: _interval(b - a, root=False)
            ),
            "Your standard deviation divides by n. With three seeds that makes it too small by a "
            "fifth.": lambda a, b: _interval(b - a, correction=0),
            "You took n degrees of freedom. One is spent on the mean.": (
                lambda a, b: _interval(b - a, freedom=0)
            ),
            "You cut 5 % off at either side. An interval of 95 % leaves out 2.5 % at each.": (
                lambda a, b: _interval(b - a, lambda _, n: stats.t.ppf(0.95, n))
            ),
            "You took the first less the second.": lambda a, b: _interval(a - b),
        },
        tolerance=1e-3,  # takes 4.30 and 4.3027 for 4.3015
        hint="First the n differences, b - a; from then on there is one list of numbers. "
        "stats.t.ppf(0.975, n - 1) of scipy is the quantile.",
    ),
    "08-3": Exercise(
        answer=_variation,
        trials=_answers,
        mistakes={
            "You compared counts. The sets differ in size: divide each by its own.": (
                lambda a, b, n: _variation(a, b, n, over=lambda x: 1)
            ),
            "You divided both by the number of images in the first set. Each set has its own.": (
                lambda a, b, n: _variation(a, b, n, over=lambda x: len(a))
            ),
            "You divided both by the number of images in the second set. Each set has its own.": (
                lambda a, b, n: _variation(a, b, n, over=lambda x: len(b))
            ),
            "You left out the half. What one set has too much of, the other lacks: each difference "
            "is counted twice, and disjoint sets would score 2.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.abs().sum())
            ),
            "You took the mean over classes. Half the sum is asked for, whatever their number.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.abs().mean())
            ),
            "You took half the mean over classes. Half the sum is asked for.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.abs().mean() / 2)
            ),
            "You took the largest difference of a single class.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.abs().max())
            ),
            "You kept the signs. Shares sum to 1 in both sets, so their differences sum to 0.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.sum() / 2)
            ),
            "That is the Euclidean distance of the shares: no squares are asked for.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.square().sum().sqrt())
            ),
            "You left out the last class, count - 1.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap[:-1].abs().sum() / 2)
            ),
            "You left out class 0.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap[1:].abs().sum() / 2)
            ),
            "You squared the differences. Each counts with its size.": (
                lambda a, b, n: _variation(a, b, n, of=lambda gap: gap.square().sum() / 2)
            ),
            "You left out classes that one of the sets never shows. Those count most: bincount "
            "takes minlength=count.": lambda a, b, n: _seen(a, b, n, in_both=True),
            "You went through the classes of the first set alone. What only the second shows "
            "counts as well.": lambda a, b, n: _seen(a, b, n, in_both=False),
        },
        hint="x.bincount(minlength=count) counts the classes; divided by len(x), they are shares.",
    ),
}
