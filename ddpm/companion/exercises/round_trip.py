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


def inverted(x: float, eps: float, alpha_bar_s: float, alpha_bar_t: float) -> float:
    """A pixel at time t, after one step of DDIM upward from x at time s."""
    return _walked(x, (_sigma(alpha_bar_t) - _sigma(alpha_bar_s)) * eps, alpha_bar_s, alpha_bar_t)


def _sigma(alpha_bar: float) -> float:
    """The noise over the signal."""
    return math.sqrt((1 - alpha_bar) / alpha_bar)


def _walked(x: float, rise: float, alpha_bar_s: float, alpha_bar_t: float) -> float:
    """The state at t if x at s, over its signal, rises by so much."""
    return math.sqrt(alpha_bar_t) * (x / math.sqrt(alpha_bar_s) + rise)


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
    Exercise(
        inverted,
        drawn((0.5, 1.5), (-1.5, -0.4), (0.6, 0.9), (0.15, 0.45)),
        {
            "On the way up the noise grows: it is sigma_t - sigma_s.": (
                lambda x, e, s, t: _walked(x, (_sigma(s) - _sigma(t)) * e, s, t)
            ),
            "The left side of equation 5 is divided by the signal at t. Multiply by it.": (
                lambda x, e, s, t: x / math.sqrt(s) + (_sigma(t) - _sigma(s)) * e
            ),
            "The signal at t multiplies the noise, too.": (
                lambda x, e, s, t: math.sqrt(t / s) * x + (_sigma(t) - _sigma(s)) * e
            ),
            "Multiply by the signal at t, not by that at s.": (
                lambda x, e, s, t: x + math.sqrt(s) * (_sigma(t) - _sigma(s)) * e
            ),
            "Both signals are missing: x is divided by its own, and the sum is multiplied by the other.": (
                lambda x, e, s, t: x + (_sigma(t) - _sigma(s)) * e
            ),
            "x is divided by its signal.": (lambda x, e, s, t: math.sqrt(t) * (x + (_sigma(t) - _sigma(s)) * e)),
            "The signal is the root of alpha_bar.": lambda x, e, s, t: t * (x / s + (_sigma(t) - _sigma(s)) * e),
            "sigma is the noise over the signal, not the noise.": (
                lambda x, e, s, t: _walked(x, (math.sqrt(1 - t) - math.sqrt(1 - s)) * e, s, t)
            ),
            "sigma is a root, that of (1 - alpha_bar) / alpha_bar.": (
                lambda x, e, s, t: _walked(x, ((1 - t) / t - (1 - s) / s) * e, s, t)
            ),
            "In sigma the noise is divided by the root of alpha_bar.": (
                lambda x, e, s, t: _walked(x, (math.sqrt(1 - t) / t - math.sqrt(1 - s) / s) * e, s, t)
            ),
            "sigma is noise over signal, not signal over noise.": (
                lambda x, e, s, t: _walked(x, (1 / _sigma(t) - 1 / _sigma(s)) * e, s, t)
            ),
            "There is noise up to sigma_s in x already. Only the difference is added.": (
                lambda x, e, s, t: _walked(x, _sigma(t) * e, s, t)
            ),
            "Variances add for fresh noise. Nothing is drawn here: it is the difference of the sigmas.": (
                lambda x, e, s, t: _walked(x, math.sqrt(_sigma(t) ** 2 - _sigma(s) ** 2) * e, s, t)
            ),
            "That is equation 1, which begins at a clean pixel.": (
                lambda x, e, s, t: math.sqrt(t) * x + math.sqrt(1 - t) * e
            ),
            "That is what the denoiser takes for the clean pixel. Go up from there.": (
                lambda x, e, s, t: (x - math.sqrt(1 - s) * e) / math.sqrt(s)
            ),
            "That goes from t down to s. The two have changed places.": (
                lambda x, e, s, t: _walked(x, (_sigma(s) - _sigma(t)) * e, t, s)
            ),
            "That leaves out the noise.": lambda x, e, s, t: math.sqrt(t / s) * x,
        },
        own="alpha_bar_t",
    ),
]
