"""The exercises of chapter 3."""

import math

from ddpm.companion.exercises.grading import Exercise, drawn

__all__ = ["EXERCISES"]


def ddim_correlation(rho: float) -> float:
    """The correlation of a Gaussian with its return by DDIM, if an ancestral trip keeps the correlation rho."""
    return math.sqrt(rho)


def error_over_mmse(c: float, rho: float) -> float:
    """The squared error of a return with the data's variance and the correlation c, over the MMSE."""
    return 2 * (1 - c) / (1 - rho)


EXERCISES = [
    Exercise(
        ddim_correlation,
        drawn((0.15, 0.4)),
        {
            "That is what ancestral sampling keeps, which draws noise on the way back.": lambda rho: rho,
            "The way back draws nothing, but the way up did.": lambda rho: 1.0,
            "A square is what a second trip makes of it. DDIM keeps more than rho, not less.": lambda rho: rho**2,
            "A correlation is at most 1. Which power of rho does one half of the trip keep?": lambda rho: 2 * rho,
            "DDIM keeps more than rho, not less.": lambda rho: rho / 2,
            "That is the share of variance that is lost. What is kept?": lambda rho: 1 - rho,
            "Under the root stands what is kept, not what is lost.": lambda rho: math.sqrt(1 - rho),
            "Two halves of a trip multiply; they are not averaged.": lambda rho: (1 + rho) / 2,
            "One root is enough: only one of the two ways draws noise.": lambda rho: rho**0.25,
            "rho is a correlation already, and not the sine of one.": lambda rho: math.sqrt(1 - rho**2),
            "A correlation is at most 1.": lambda rho: 1 / (1 - rho),
        },
    ),
    Exercise(
        error_over_mmse,
        drawn((0.55, 0.9), (0.1, 0.5)),
        {
            "Two variances are in the difference: the original's and the return's.": lambda c, rho: (1 - c) / (1 - rho),
            "That is over the variance. The MMSE is only what is left of it, 1 - rho.": lambda c, rho: 2 * (1 - c),
            "That is an ancestral return, where c = rho.": lambda c, rho: 2.0,
            "That is a return that knows nothing of the original, c = 0, and one variance.": lambda c, rho: (
                1 / (1 - rho)
            ),
            "That is a return that knows nothing of the original, c = 0.": lambda c, rho: 2 / (1 - rho),
            "The covariance is c times the variance, not its square.": lambda c, rho: 2 * (1 - c**2) / (1 - rho),
            "That is the error of the best guess at one from the other, which shrinks; a return does not.": (
                lambda c, rho: (1 - c**2) / (1 - rho)
            ),
            "Error and MMSE have changed places.": lambda c, rho: 2 * (1 - rho) / (1 - c),
            "The MMSE divides.": lambda c, rho: 2 * (1 - c) * (1 - rho),
            "The MMSE is what is lost, 1 - rho, not what is kept.": lambda c, rho: 2 * (1 - c) / rho,
            "The correlation makes the error smaller: it is subtracted.": lambda c, rho: 2 * (1 + c) / (1 - rho),
            "The correlation makes the error smaller: 1 - c, not c.": lambda c, rho: 2 * c / (1 - rho),
            "The covariance is subtracted twice, once for each factor of the square.": lambda c, rho: (
                (2 - c) / (1 - rho)
            ),
            "That is the root. The squared error is asked for.": lambda c, rho: math.sqrt(2 * (1 - c) / (1 - rho)),
            "rho is a correlation already: the MMSE is 1 - rho, not 1 - rho^2.": lambda c, rho: (
                2 * (1 - c) / (1 - rho**2)
            ),
        },
        own="rho",
    ),
]
