"""The exercises of chapter 5."""

import math
from random import Random

from ddpm.companion.exercises.grading import Exercise, Function, Point, drawn

__all__ = ["EXERCISES"]


def guided_eps(eps_c: float, eps: float, w: float, sigma: float, low: float, high: float) -> float:
    """The noise that a denoiser says which is guided from low to high: equation 3 there, the class's elsewhere."""
    return _pushed(eps_c, eps, w) if low <= sigma <= high else eps_c


def _pushed(eps_c: float, eps: float, w: float) -> float:
    """Equation 3."""
    return eps + w * (eps_c - eps)


def _told(eps_c: float, eps: float, w: float) -> float:
    """The class's own answer."""
    return eps_c


def _in_interval(inside: Function, outside: Function = _told) -> Function:
    """One answer in the interval, another one outside, both of eps_c, eps and w."""
    return lambda c, e, w, sigma, low, high: (inside if low <= sigma <= high else outside)(c, e, w)


def _noises(random: Random) -> list[Point]:
    """One sigma in the interval, one below and one above."""
    low, high = drawn((0.4, 0.6), (1.5, 2.5))(random)[0]
    sigmas = drawn((0.7, 1.4), (0.1, 0.3), (3, 6))(random)[0]
    answers = drawn((0.5, 1.2), (-0.6, -0.2), (1.5, 4))(random)
    return [(*answer, sigma, low, high) for answer, sigma in zip(answers, sigmas, strict=True)]


def probability_of_right(x: float, alpha_bar: float, s2: float) -> float:
    """p(c given x_t) of the right one of two bumps N(-1, s2) and N(1, s2) of equal weight."""
    return _sigmoid(2 * math.sqrt(alpha_bar) * x / _variance(alpha_bar, s2))


def _variance(alpha_bar: float, s2: float) -> float:
    """The variance of a bump's noisy points."""
    return alpha_bar * s2 + 1 - alpha_bar


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


EXERCISES = [
    Exercise(
        guided_eps,
        _noises,
        {
            "Outside the interval nothing is pushed: the class's own answer is left.": (
                lambda c, e, w, sigma, low, high: _pushed(c, e, w)
            ),
            "Below the interval nothing is pushed, either.": lambda c, e, w, sigma, low, high: (
                _pushed(c, e, w) if sigma <= high else c
            ),
            "Above the interval nothing is pushed, either.": lambda c, e, w, sigma, low, high: (
                _pushed(c, e, w) if sigma >= low else c
            ),
            "The other way round: it is pushed inside the interval.": _in_interval(_told, _pushed),
            "Outside the interval the class is still asked for.": _in_interval(_pushed, lambda c, e, w: e),
            "Outside the interval a denoiser has an answer, too: the class's own.": (
                _in_interval(_pushed, lambda c, e, w: 0)
            ),
            "That asks for the class and no more. In the interval it is pushed further.": _in_interval(_told),
            "This is the weight of Ho & Salimans, which is 1 less.": _in_interval(lambda c, e, w: _pushed(c, e, 1 + w)),
            "Swap the two: the push goes from eps to eps_c.": _in_interval(lambda c, e, w: c + w * (e - c)),
            "That is the push alone. Add it to eps.": _in_interval(lambda c, e, w: w * (c - e)),
            "The push has the other sign: it goes towards eps_c.": _in_interval(lambda c, e, w: e - w * (c - e)),
            "eps is left out: its weight is 1 - w.": _in_interval(lambda c, e, w: w * c),
            "The weight of eps is 1 - w, not w - 1.": _in_interval(lambda c, e, w: w * c + (w - 1) * e),
            "w multiplies the difference of the two, not eps_c alone.": _in_interval(lambda c, e, w: e + w * c),
        },
        own="w",
    ),
    Exercise(
        probability_of_right,
        drawn((0.2, 0.6), (0.3, 0.7), (0.1, 0.4)),
        {
            "A noisy bump lies at sqrt(alpha_bar), not at 1.": lambda x, a, s2: _sigmoid(2 * x / _variance(a, s2)),
            "The signal is the root of alpha_bar.": lambda x, a, s2: _sigmoid(2 * a * x / _variance(a, s2)),
            "The two bumps are two means apart: a factor of 2 is missing.": lambda x, a, s2: _sigmoid(
                math.sqrt(a) * x / _variance(a, s2)
            ),
            "The squares leave 2 x mean on either side. Half of each is in the exponent.": lambda x, a, s2: _sigmoid(
                4 * math.sqrt(a) * x / _variance(a, s2)
            ),
            "The bump has a width of its own besides the noise.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / (1 - a)
            ),
            "Noise widens the bump: its variance is not only the data's.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / (a * s2)
            ),
            "That is the clean point's classifier.": lambda x, a, s2: _sigmoid(2 * x / s2),
            "The data's variance shrinks with the image: it is alpha_bar times s2.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / (s2 + 1 - a)
            ),
            "Its standard deviation shrinks by the root, so the variance by alpha_bar.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / (math.sqrt(a) * s2 + 1 - a)
            ),
            "The exponent has the variance, not the standard deviation.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / math.sqrt(_variance(a, s2))
            ),
            "s2 is the variance already.": lambda x, a, s2: _sigmoid(2 * math.sqrt(a) * x / _variance(a, s2**2)),
            "That is the left bump's probability.": lambda x, a, s2: _sigmoid(-2 * math.sqrt(a) * x / _variance(a, s2)),
            "That is the log of the ratio of both. Turn it into a probability.": lambda x, a, s2: (
                2 * math.sqrt(a) * x / _variance(a, s2)
            ),
            "That is the ratio of the two: divide by the sum of both.": lambda x, a, s2: math.exp(
                2 * math.sqrt(a) * x / _variance(a, s2)
            ),
            "That is the density of the right bump, up to a factor. Bayes' rule divides by both.": (
                lambda x, a, s2: math.exp(-((x - math.sqrt(a)) ** 2) / (2 * _variance(a, s2)))
            ),
            "The noise's variance is 1 - alpha_bar, not its root.": lambda x, a, s2: _sigmoid(
                2 * math.sqrt(a) * x / (a * s2 + math.sqrt(1 - a))
            ),
        },
        own="s2",
    ),
]
