"""The exercises of chapter 1."""

import math
from random import Random

from ddpm.companion.exercises.grading import Exercise, Point, drawn

__all__ = ["EXERCISES"]


def divergence(mean: float, std: float) -> float:
    """KL(N(mean, std^2) || N(0, 1)) in nats (Kingma & Welling 2014, appendix B)."""
    return (mean**2 + std**2 - 1) / 2 - math.log(std)


def _normals(random: Random) -> list[Point]:
    """Narrow and wide, to the left and to the right."""
    ranges = [((0.5, 1.4), (0.3, 0.8)), ((-2.0, -0.6), (1.2, 2.4)), ((1.5, 2.5), (0.4, 0.9))]
    return [(round(random.uniform(*mean), 2), round(random.uniform(*std), 2)) for mean, std in ranges]


def weight_of_noise(beta: float, alpha_bar: float) -> float:
    """The weight of the noise's squared error in one term of the bound (Ho et al. 2020, eq. 12, small variance)."""
    return beta / (2 * (1 - beta - alpha_bar))


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
        weight_of_noise,
        drawn((0.05, 0.3), (0.1, 0.6)),
        {
            "The distance is divided by twice the variance: a half is missing.": lambda b, a: b / (1 - b - a),
            "That is the factor of the image's error. Eq. 4a makes it one of the noise's.": lambda b, a: (
                b / (2 * (1 - b - a)) * a / (1 - a)
            ),
            "The variance is not beta but the aside's, which has alpha_bar of t - 1 in it.": lambda b, a: (
                b / (2 * (1 - b) * (1 - a))
            ),
            "At t - 1 there is less noise: alpha_bar is larger there, not smaller.": lambda b, a: (
                ((1 - a) * (1 - b) / (1 - a * (1 - b)) - 1) / 2
            ),
            "Eq. 8 takes 1 from the ratio before it is halved.": lambda b, a: (1 - a) / (1 - b - a) / 2,
            "Sigma counts by its square.": lambda b, a: (math.sqrt((1 - a) / (1 - b - a)) - 1) / 2,
            "The distance is squared, and the weight with it.": lambda b, a: (
                math.sqrt(a / (1 - b)) * (1 - b) * (1 - a) / (2 * a * (1 - b - a))
            ),
            "The other way up: sigma grows with the time, so the factor is above 0.": lambda b, a: -b / (2 * (1 - a)),
        },
        own="beta",
    ),
]
