"""The exercises of chapter 4."""

import math
from random import Random

from ddpm.companion.exercises.grading import Exercise, Point

__all__ = ["EXERCISES"]


def langevin_variance(s2: float, delta: float) -> float:
    """The variance at which Langevin dynamics with steps delta settles on N(0, s2)."""
    return s2 / (1 - delta / (4 * s2))


def _normals(random: Random) -> list[Point]:
    """Variances around and below 1, with steps of a fifth to four fifths of each."""
    variances = [round(random.uniform(*ends), 2) for ends in ((0.3, 0.5), (0.6, 0.8), (0.9, 1.2))]
    return [(s2, round(s2 * random.uniform(0.2, 0.8), 2)) for s2 in variances]


def noise_of_ddim(alpha_bar_t: float, alpha_bar_s: float, eta: float) -> float:
    """The standard deviation of the noise in a DDIM step from t to s (J. Song et al. 2021, eq. 16)."""
    return eta * math.sqrt(_posterior(alpha_bar_t, alpha_bar_s))


def _posterior(t: float, s: float) -> float:
    """The variance of x_s given x_t and x_0."""
    return (1 - s) / (1 - t) * (1 - t / s)


def _steps(random: Random) -> list[Point]:
    def step() -> Point:
        t, further, eta = random.uniform(0.05, 0.4), random.uniform(0.1, 0.4), random.uniform(0.2, 0.9)
        return round(t, 2), round(t + further, 2), round(eta, 2)

    return [step() for _ in range(3)]


EXERCISES = [
    Exercise(
        langevin_variance,
        _normals,
        {
            "That would be without the bias of a finite step.": lambda s2, d: s2,
            "The noise adds delta at every step, but the drift takes some of it away.": lambda s2, d: s2 + d,
            "The bias depends on delta over s2: a wider density forgives a longer step.": lambda s2, d: s2 / (1 - d),
            "The bias depends on delta over s2, and there is a 4.": lambda s2, d: s2 / (1 - d / 4),
            "The square of 1 - delta / (2 s2) ends in delta^2 / (4 s2^2): a 4, not a 2.": lambda s2, d: (
                s2 / (1 - d / (2 * s2))
            ),
            "What is left of the square is divided by delta, which leaves 4 s2.": lambda s2, d: s2 / (1 - d / s2),
            "The bias makes it wider, not narrower: look at the sign.": lambda s2, d: s2 / (1 + d / (4 * s2)),
            "The factor divides: it is the variance that times it gives s2.": lambda s2, d: s2 * (1 - d / (4 * s2)),
            "To first order it is. Solve the equation for the variance instead of expanding it.": lambda s2, d: (
                s2 * (1 + d / (4 * s2))
            ),
            "s2 is the variance already.": lambda s2, d: s2**2 / (1 - d / (4 * s2**2)),
            "delta stands there once: it is divided by 4 s2, not by 4 s2^2.": lambda s2, d: s2 / (1 - d / (4 * s2**2)),
            "One delta of delta^2 cancels against the noise's.": lambda s2, d: s2 / (1 - d**2 / (4 * s2)),
            "That is the factor of the bias. It multiplies s2.": lambda s2, d: 1 / (1 - d / (4 * s2)),
            "That is the standard deviation; the variance is asked for.": lambda s2, d: math.sqrt(
                s2 / (1 - d / (4 * s2))
            ),
            "The drift in eq. 1 has half a delta, the noise a whole one.": lambda s2, d: s2 / (2 - d / s2),
            "The bracket is squared when variances are added: its square is what shrinks them.": lambda s2, d: 2 * s2,
        },
        own="delta",
    ),
    Exercise(
        noise_of_ddim,
        _steps,
        {
            "eta multiplies the standard deviation once: it is not squared.": lambda t, s, eta: (
                eta**2 * math.sqrt(_posterior(t, s))
            ),
            "eta multiplies the standard deviation, so it stands before the root.": lambda t, s, eta: math.sqrt(
                eta * _posterior(t, s)
            ),
            "That is eta times the variance. Take the variance's root.": lambda t, s, eta: eta * _posterior(t, s),
            "That is a variance. The standard deviation is its root.": lambda t, s, eta: eta**2 * _posterior(t, s),
            "That is the large variance, beta. DDIM's is that of x_s given x_t and x_0.": lambda t, s, eta: (
                eta * math.sqrt(1 - t / s)
            ),
            "eta is missing.": lambda t, s, eta: math.sqrt(_posterior(t, s)),
            "The fraction stands on its head: at s there is less noise than at t.": lambda t, s, eta: (
                eta * math.sqrt((1 - t) / (1 - s) * (1 - t / s))
            ),
            "That is all the noise at s, as if nothing of x_t's were kept.": lambda t, s, eta: eta * math.sqrt(1 - s),
            "That is all the noise at t.": lambda t, s, eta: eta * math.sqrt(1 - t),
            "The factor 1 - alpha_bar_t / alpha_bar_s is missing.": lambda t, s, eta: (
                eta * math.sqrt((1 - s) / (1 - t))
            ),
            "1 minus the ratio, since beta is what is lost, not what is kept.": lambda t, s, eta: (
                eta * math.sqrt((1 - s) / (1 - t) * t / s)
            ),
            "The root is over both factors.": lambda t, s, eta: eta * math.sqrt((1 - s) / (1 - t)) * (1 - t / s),
            "The root is over both factors, the fraction, too.": lambda t, s, eta: (
                eta * (1 - s) / (1 - t) * math.sqrt(1 - t / s)
            ),
            "beta of a step from t to s is 1 minus the ratio of the two, not their difference.": lambda t, s, eta: (
                eta * math.sqrt((1 - s) / (1 - t) * (s - t))
            ),
            "The arguments are alpha_bar already: take no root of them.": lambda t, s, eta: (
                eta * math.sqrt((1 - math.sqrt(s)) / (1 - math.sqrt(t)) * (1 - math.sqrt(t / s)))
            ),
        },
        own="eta",
    ),
]
