"""The exercises of chapter 6."""

from ddpm.companion.exercises.grading import Exercise, drawn

__all__ = ["EXERCISES"]


def euler_step(x: float, x0: float, tau: float, tau_next: float) -> float:
    """One step of Euler's method on the straight path, with the velocity that a model sees."""
    return x + (tau_next - tau) * _velocity(x, x0, tau)


def _velocity(x: float, x0: float, tau: float) -> float:
    """eps - x0, where x = (1 - tau) x0 + tau eps."""
    return (x - x0) / tau


def students_x0(x_t: float, x_s: float, tau: float, tau_s: float) -> float:
    """The x0 with which one move from x_t at tau ends in x_s at tau_s, on the straight path."""
    return (tau * x_s - tau_s * x_t) / (tau - tau_s)


EXERCISES = [
    Exercise(
        euler_step,
        drawn((0.5, 2), (-1, -0.2), (0.6, 0.9), (0.1, 0.4)),
        {
            "The other way: tau_next - tau is negative, and the velocity is eps - x0.": (
                lambda x, x0, t, s: x + (t - s) * _velocity(x, x0, t)
            ),
            "x - x0 is tau times the velocity.": lambda x, x0, t, s: x + (s - t) * (x - x0),
            "Divide by tau, the noise in x, not by 1 - tau.": lambda x, x0, t, s: x + (s - t) * (x - x0) / (1 - t),
            "In x the clean number is multiplied by 1 - tau.": lambda x, x0, t, s: x + (s - t) * (x / t - x0),
            "That is the noise itself: the velocity is eps - x0.": (
                lambda x, x0, t, s: x + (s - t) * (x - (1 - t) * x0) / t
            ),
            "That walks the whole way to tau = 0.": lambda x, x0, t, s: x - t * _velocity(x, x0, t),
            "That walks on from x0. Walk from x.": lambda x, x0, t, s: x0 + (s - t) * _velocity(x, x0, t),
            "The step is tau_next - tau, not tau_next.": lambda x, x0, t, s: x + s * _velocity(x, x0, t),
            "The velocity is that at tau, where x is.": lambda x, x0, t, s: x + (s - t) * (x - x0) / s,
            "That mixes x0 with x, but x is not the noise.": lambda x, x0, t, s: (1 - s) * x0 + s * x,
            "The noise in x is (x - (1 - tau) x0) / tau: the brackets count.": (
                lambda x, x0, t, s: (1 - s) * x0 + s * (x - (1 - t) * x0 / t)
            ),
            "Those roots belong to a schedule that keeps the variance.": (
                lambda x, x0, t, s: (1 - s * s) ** 0.5 * x0 + s * (x - (1 - t * t) ** 0.5 * x0) / t
            ),
            "That is half a step.": lambda x, x0, t, s: x + (s - t) / 2 * _velocity(x, x0, t),
            "That is the velocity. Walk along it, from x.": lambda x, x0, t, s: _velocity(x, x0, t),
            "That is the step alone. Add it to x.": lambda x, x0, t, s: (s - t) * _velocity(x, x0, t),
        },
        own="tau_next",
    ),
    Exercise(
        students_x0,
        drawn((0.5, 2), (-1, 1), (0.6, 0.9), (0.1, 0.4)),
        {
            "x_s is multiplied by the noise at t, tau, and x_t by that at s.": (
                lambda x, y, t, s: (s * y - t * x) / (t - s)
            ),
            "The two parts are subtracted.": lambda x, y, t, s: (t * y + s * x) / (t - s),
            "The denominator has the other sign.": lambda x, y, t, s: (t * y - s * x) / (s - t),
            "Divide by the denominator, too.": lambda x, y, t, s: t * y - s * x,
            "The denominator is (1 - tau_s) tau - tau_s (1 - tau), which is shorter.": (
                lambda x, y, t, s: (t * y - s * x) / ((1 - s) * t + s * (1 - t))
            ),
            "That is the noise of the move: it has the signals in the place of the noises.": (
                lambda x, y, t, s: ((1 - s) * x - (1 - t) * y) / (t - s)
            ),
            "In the numerator stand the noises, not the signals.": (
                lambda x, y, t, s: ((1 - t) * y - (1 - s) * x) / (t - s)
            ),
            "The move ends in x_s, but the student says the clean number.": lambda x, y, t, s: y,
            "That is where the line through both meets time 0 only if you divide by the way from s to t.": (
                lambda x, y, t, s: y - s * (x - y)
            ),
            "The slope is from x_s up to x_t, over tau - tau_s. Go down from x_s by tau_s of it.": (
                lambda x, y, t, s: y + s * (x - y) / (t - s)
            ),
            "Go down from x_s by tau_s, not by tau.": lambda x, y, t, s: y - t * (x - y) / (t - s),
            "That goes down from x_t by tau_s.": lambda x, y, t, s: x - s * (x - y) / (t - s),
            "Those roots belong to a schedule that keeps the variance.": lambda x, y, t, s: (
                (t * y - s * x) / ((1 - s * s) ** 0.5 * t - s * (1 - t * t) ** 0.5)
            ),
            "Divide by tau - tau_s, not by tau.": lambda x, y, t, s: (t * y - s * x) / t,
            "That is the mean of both states.": lambda x, y, t, s: (x + y) / 2,
        },
        own="tau_s",
    ),
]
