"""The exercises of chapter 5."""

import math

from ddpm.companion.exercises.grading import Exercise, drawn

__all__ = ["EXERCISES"]


def tilted_mean(m: float, s2: float, S2: float, w: float) -> float:
    """The mean of N(m, s2)^w N(0, S2)^(1 - w), which is a normal density up to a factor."""
    return w * m / s2 / _precision(s2, S2, w)


def _precision(s2: float, wide: float, w: float) -> float:
    """One over the variance of that density."""
    return w / s2 + (1 - w) / wide


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
        tilted_mean,
        drawn((0.5, 1.5), (0.1, 0.4), (0.8, 1.5), (1.5, 4)),
        {
            "The product's mean is not the class's: tilting moves it.": lambda m, s2, S2, w: m,
            "A power of a normal density keeps its mean and divides its variance.": lambda m, s2, S2, w: w * m,
            "Means are weighted by one over the variance, not by w alone. And divide by the sum of the weights.": (
                lambda m, s2, S2, w: w * m / s2
            ),
            "p(x) has the power 1 - w, not 1.": lambda m, s2, S2, w: w * m / s2 / (w / s2 + 1 / S2),
            "p(x) has the power 1 - w, which is negative here, not w - 1.": lambda m, s2, S2, w: (
                w * m / s2 / (w / s2 + (w - 1) / S2)
            ),
            "The two powers sum to 1: p(x) has 1 - w, not -w.": lambda m, s2, S2, w: w * m / s2 / (w / s2 - w / S2),
            "One over the variance weighs the mean: here the variance does.": lambda m, s2, S2, w: (
                w * m * s2 / (w * s2 + (1 - w) * S2)
            ),
            "The class's mean has the power w, too.": lambda m, s2, S2, w: m / s2 / _precision(s2, S2, w),
            "s2 and S2 are variances already.": lambda m, s2, S2, w: w * m / s2**2 / _precision(s2**2, S2**2, w),
            "s2 and S2 are variances: no root is needed.": lambda m, s2, S2, w: (
                w * m / math.sqrt(s2) / _precision(math.sqrt(s2), math.sqrt(S2), w)
            ),
            "That is the variance of the product.": lambda m, s2, S2, w: 1 / _precision(s2, S2, w),
            "Swap the powers: the class has w.": lambda m, s2, S2, w: (1 - w) * m / s2 / ((1 - w) / s2 + w / S2),
            "Without 1 / S2 the mean would be m: 1 - w belongs over S2.": lambda m, s2, S2, w: (
                w * m / s2 / (w / s2 + 1 - w)
            ),
            "This is the weight of Ho & Salimans, which is 1 less.": lambda m, s2, S2, w: (
                (1 + w) * m / s2 / ((1 + w) / s2 - w / S2)
            ),
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
