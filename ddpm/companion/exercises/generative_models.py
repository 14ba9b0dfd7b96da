"""The exercises of chapter 1."""

import math
from random import Random

from ddpm.companion.exercises.grading import Exercise, Point

__all__ = ["EXERCISES"]


def divergence(mean: float, std: float) -> float:
    """KL(N(mean, std^2) || N(0, 1)) in nats (Kingma & Welling 2014, appendix B)."""
    return (mean**2 + std**2 - 1) / 2 - math.log(std)


def _normals(random: Random) -> list[Point]:
    """Narrow and wide, to the left and to the right."""
    ranges = [((0.5, 1.4), (0.3, 0.8)), ((-2.0, -0.6), (1.2, 2.4)), ((1.5, 2.5), (0.4, 0.9))]
    return [(round(random.uniform(*mean), 2), round(random.uniform(*std), 2)) for mean, std in ranges]


def variance_without_shrink(first: float, last: float, steps: int) -> float:
    """The variance of data of variance 1 after steps that only add noise, with betas evenly from first to last."""
    return 1 + steps * (first + last) / 2


def _product(first: float, last: float, steps: int) -> float:
    betas = [first + (last - first) * step / (steps - 1) for step in range(steps)]
    return math.prod(1 + beta for beta in betas)


def _schedules(random: Random) -> list[Point]:
    return [
        (round(random.uniform(1e-4, 9e-4), 4), round(random.uniform(0.01, 0.04), 3), random.randint(100, 900))
        for _ in range(3)
    ]


EXERCISES = [
    Exercise(
        divergence,
        _normals,
        {
            "The logarithm has the other sign: a narrow density is far from N(0, 1), too.": lambda m, s: (
                (m**2 + s**2 - 1) / 2 + math.log(s)
            ),
            "Every term is halved, and half the logarithm of the variance is the logarithm of std.": lambda m, s: (
                m**2 + s**2 - 1 - 2 * math.log(s)
            ),
            "Half of log std^2 is log std, not half of log std.": lambda m, s: (m**2 + s**2 - 1 - math.log(s)) / 2,
            "Only the logarithm must not be halved: the other terms are.": lambda m, s: m**2 + s**2 - 1 - math.log(s),
            "The mean counts, too.": lambda m, s: (s**2 - 1) / 2 - math.log(s),
            "The mean counts by its square, or its sign would matter.": lambda m, s: (m + s**2 - 1) / 2 - math.log(s),
            "The variance counts, too, beside its logarithm.": lambda m, s: m**2 / 2 - math.log(s),
            "The logarithm of the variance is missing: it comes from the factor before the exponential.": lambda m, s: (
                (m**2 + s**2 - 1) / 2
            ),
            "Try N(0, 1) itself, which must be at 0 from itself.": lambda m, s: (m**2 + s**2) / 2 - math.log(s),
            "Try N(0, 1) itself: a half of the constant is missing.": lambda m, s: (m**2 + s**2) / 2 - 1 - math.log(s),
            "That is the divergence the other way round. The average is over N(mean, std^2).": lambda m, s: (
                (1 + m**2) / (2 * s**2) - 0.5 + math.log(s)
            ),
            "std is a standard deviation; the variance is its square.": lambda m, s: (m**2 + s - 1 - math.log(s)) / 2,
            "Nats come from the natural logarithm; these are bits.": lambda m, s: (
                ((m**2 + s**2 - 1) / 2 - math.log(s)) / math.log(2)
            ),
            "The logarithm is the natural one.": lambda m, s: (m**2 + s**2 - 1) / 2 - math.log10(s),
        },
        own="std",
    ),
    Exercise(
        variance_without_shrink,
        _schedules,
        {
            "The data had a variance of its own before any noise came.": lambda a, b, n: n * (a + b) / 2,
            "That is with the shrink.": lambda a, b, n: 1.0,
            "The mean of the betas is half the sum of the first and the last.": lambda a, b, n: 1 + n * (a + b),
            "The betas are not all as large as the last.": lambda a, b, n: 1 + n * b,
            "The betas grow: they are not all as small as the first.": lambda a, b, n: 1 + n * a,
            "Every step adds its beta, the last one, too.": lambda a, b, n: 1 + (n - 1) * (a + b) / 2,
            "There are as many betas as steps, and not one more.": lambda a, b, n: 1 + (n + 1) * (a + b) / 2,
            "Without the shrink a step does not multiply what is there: it adds its beta.": _product,
            "That is the standard deviation; the variance is asked for.": lambda a, b, n: math.sqrt(
                1 + n * (a + b) / 2
            ),
            "A step adds noise of variance beta. Its standard deviation would be the root.": lambda a, b, n: (
                1 + n * (a**2 + a * b + b**2) / 3
            ),
            "The middle of two numbers is half their sum, not half their difference.": lambda a, b, n: (
                1 + n * (b - a) / 2
            ),
        },
        own="steps",
    ),
]
