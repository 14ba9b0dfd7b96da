"""Wrong answers as students write them: each with a word of the hint that is theirs, or with none."""

import math


def _loop(side):
    count = 0
    while side % 2 == 0:
        side //= 2
        count += 1
    return count


def _loop_until_one(side, levels):
    count = 0
    while side > 1 and count < levels - 1:
        side = side // 2
        count += 1
    return count


def _loop_that_never_looks_again(side, levels):
    count = 0
    for _ in range(levels - 1):
        if side % 2 == 0:
            count += 1
    return count


def _loop_that_stops_too_late(side, levels):
    count = 0
    while count < levels and side % 2 ** (count + 1) == 0:
        count += 1
    return count


def _loop_that_counts_the_check(side, levels):
    for count in range(levels):
        if side % 2**count:
            return count
    return levels - 1


def _ceil(side, levels):
    return min(math.ceil(math.log2(side)), levels - 1)


def _walk(s2, delta):
    variance = 1.0
    for _ in range(10_000):
        variance = (1 - delta / s2) ** 2 * variance + delta
    return variance


def _walk_without_square(s2, delta):
    variance = 1.0
    for _ in range(10_000):
        variance = (1 - delta / (2 * s2)) * variance + delta
    return variance


def _walk_too_short(s2, delta):
    variance = 0.0
    for _ in range(3):
        variance = (1 - delta / (2 * s2)) ** 2 * variance + delta
    return variance


def _snr(alpha_bar):
    return alpha_bar / (1 - alpha_bar)


def _ratio(beta, alpha_bar):
    return _snr(alpha_bar / (1 - beta)) / _snr(alpha_bar)


def _image_weight(beta, alpha_bar):
    before = alpha_bar / (1 - beta)
    weight, variance = math.sqrt(before) * beta / (1 - alpha_bar), beta * (1 - before) / (1 - alpha_bar)
    return weight**2 / (2 * variance)


def _weight_unsquared(beta, alpha_bar):
    before = alpha_bar / (1 - beta)
    weight, variance = math.sqrt(before) * beta / (1 - alpha_bar), beta * (1 - before) / (1 - alpha_bar)
    return weight / (2 * variance) / _snr(alpha_bar)


WRONG = {
    "divergence": [
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1) + math.log(std), "other sign"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1 + math.log(std**2)), "other sign"),
        (lambda mean, std: mean**2 + std**2 - 1 - math.log(std**2), "Every term is halved"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1 - math.log(std)), "not half of log std"),
        (lambda mean, std: 0.5 * (std**2 - 1) - math.log(std), "The mean counts, too"),
        (lambda mean, std: 0.5 * (mean + std**2 - 1 - 2 * math.log(std)), "by its square"),
        (lambda mean, std: 0.5 * mean**2 - math.log(std), "The variance counts"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1), "logarithm of the variance is missing"),
        (lambda mean, std: 0.5 * (mean**2 + std**2) - math.log(std), "N(0, 1) itself"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 2) - math.log(std), "N(0, 1) itself"),
        (lambda mean, std: math.log(std) + (1 + mean**2) / (2 * std**2) - 0.5, "other way round"),
        (lambda mean, std: 0.5 * (mean**2 + std - 1 - math.log(std)), "its square"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1) - math.log10(std), "natural one"),
        (lambda mean, std: mean**2 + std**2 - 1 - math.log(std), "Only the logarithm"),
        (lambda mean, std: (0.5 * (mean**2 + std**2 - 1) - math.log(std)) / math.log(2), "bits"),
        (lambda mean, std: 0.5 * (mean**2 + std**2 - 1) - math.log2(std), None),
        (lambda mean, std: 0.5 * (abs(mean) + std**2 - 1) - math.log(std), None),
        (lambda mean, std: 0.5 * (mean**2 + std**2 + 1) - math.log(std), None),
        (lambda mean, std: -0.5 * (mean**2 + std**2 - 1) + math.log(std), None),
        (lambda mean, std: 2.318147, None),
        (lambda mean, std: float("nan"), "finite number"),
        (lambda mean, std: math.log(-std), "raises ValueError"),
    ],
    "weight_of_noise": [
        (lambda beta, alpha_bar: beta / (1 - beta - alpha_bar), "a half is missing"),
        (lambda beta, alpha_bar: _ratio(beta, alpha_bar) - 1, "a half is missing"),
        (lambda beta, alpha_bar: _image_weight(beta, alpha_bar), "factor of the image's error"),
        (lambda beta, alpha_bar: (_snr(alpha_bar / (1 - beta)) - _snr(alpha_bar)) / 2, "factor of the image's error"),
        (lambda beta, alpha_bar: beta / (2 * (1 - beta) * (1 - alpha_bar)), "not beta but the aside's"),
        (lambda beta, alpha_bar: (_snr(alpha_bar * (1 - beta)) / _snr(alpha_bar) - 1) / 2, "larger there, not smaller"),
        (lambda beta, alpha_bar: _ratio(beta, alpha_bar) / 2, "takes 1 from the ratio"),
        (lambda beta, alpha_bar: (math.sqrt(_ratio(beta, alpha_bar)) - 1) / 2, "Sigma counts by its square"),
        (lambda beta, alpha_bar: _weight_unsquared(beta, alpha_bar), "and the weight with it"),
        (lambda beta, alpha_bar: (1 / _ratio(beta, alpha_bar) - 1) / 2, "other way up"),
        (lambda beta, alpha_bar: beta / (2 * (1 - alpha_bar)), None),
        (lambda beta, alpha_bar: beta / 2 * (1 - beta - alpha_bar), None),
        (lambda beta, alpha_bar: beta / (2 * (1 - beta + alpha_bar)), None),
        (lambda beta, alpha_bar: _ratio(beta, alpha_bar) / 2 - 1, None),
        (lambda beta, alpha_bar: 1000 * beta / (2 * (1 - beta - alpha_bar)), None),
        (lambda beta, alpha_bar: beta**2 / (2 * (1 - beta) * (1 - alpha_bar)), None),
        (lambda beta, alpha_bar: 1, None),
    ],
    "halvings": [
        (lambda side, levels: _loop(side), "set a limit"),
        (lambda side, levels: min(_loop(side), levels), "halves once less"),
        (_loop_that_stops_too_late, "halves once less"),
        (lambda side, levels: levels - 1, "Not every side"),
        (lambda side, levels: levels, "one more than halvings"),
        (_loop_until_one, "Rounding down hides"),
        (lambda side, levels: int(math.log2(side)), "single pixel"),
        (_loop_that_never_looks_again, "after each halving"),
        (lambda side, levels: 2 ** min(_loop(side), levels - 1), "exponent"),
        (lambda side, levels: side >> min(_loop(side), levels - 1), "smallest map"),
        (lambda side, levels: min(_loop(side), levels - 1) + 1, "counted sizes"),
        (lambda side, levels: min(_loop(side), levels - 1) - 1, "last halving"),
        (_loop_that_counts_the_check, None),
        (_ceil, None),
        (lambda side, levels: math.log2(side), None),
        (lambda side, levels: min(_loop(side), levels - 2), None),
        (lambda side, levels: 2, None),
        (lambda side, levels: side / 2 ** (levels - 1), None),
        (lambda side, levels: math.gcd(side, 2 ** (levels - 1)), "exponent"),
    ],
    "scores": [
        (lambda side, level: (side // 2**level) ** 2, "number of pixels"),
        (lambda side, level: side**4, "level 0"),
        (lambda side, level: (side**2 // 2**level) ** 2, "quarter of the pixels"),
        (lambda side, level: (side / level) ** 4, "level's number"),
        (lambda side, level: (side / (2 * level)) ** 4, "twice the level's number"),
        (lambda side, level: side**2 * level**2, "smaller"),
        (lambda side, level: 2 * (side // 2**level) ** 2, "fourth power"),
        (lambda side, level: (side // 2 ** (level - 1)) ** 4, "count from 0"),
        (lambda side, level: (side // 2 ** (level + 1)) ** 4, "too deep"),
        (lambda side, level: math.perm((side // 2**level) ** 2, 2), "itself"),
        (lambda side, level: math.comb((side // 2**level) ** 2, 2), "itself"),
        (lambda side, level: (side // 2**level) ** 4 // 2, "two things"),
        (lambda side, level: 3 * (side // 2**level) ** 4, "queries, keys and values"),
        (lambda side, level: side**4 / 2**level, "by 16"),
        (lambda side, level: (side // 2**level) ** 3, None),
        (lambda side, level: side**2 * 2**level, None),
        (lambda side, level: 4096, None),
        (lambda side, level: (side // level**2) ** 4, None),
        (lambda side, level: side**2, None),
    ],
    "ddim_correlation": [
        (lambda rho: rho, "draws noise on the way back"),
        (lambda rho: 1.0, "the way up did"),
        (lambda rho: rho**2, "second trip"),
        (lambda rho: 2 * rho, "Which power"),
        (lambda rho: rho / 2, "not less"),
        (lambda rho: 1 - rho, "lost"),
        (lambda rho: math.sqrt(1 - rho), "not what is lost"),
        (lambda rho: (1 + rho) / 2, "not averaged"),
        (lambda rho: rho ** (1 / 4), "One root"),
        (lambda rho: math.sqrt(1 - rho**2), "sine"),
        (lambda rho: 1 / (1 - rho), "at most 1"),
        (lambda rho: 1 / math.sqrt(rho), None),
        (lambda rho: 0.5, None),
        (lambda rho: rho ** (1 / 3), None),
        (lambda rho: 1 - rho**2, None),
        (lambda rho: rho**1.5, None),
        (lambda rho: 2 * rho / (1 + rho), None),
        (lambda rho: -math.sqrt(rho), None),
        (lambda rho: math.sqrt(rho) * (1 - 1e-3), None),
    ],
    "error_over_mmse": [
        (lambda c, rho: (1 - c) / (1 - rho), "Two variances"),
        (lambda c, rho: 2 * (1 - c), "only what is left"),
        (lambda c, rho: 2, "c = rho"),
        (lambda c, rho: 1 / (1 - rho), "knows nothing"),
        (lambda c, rho: 2 / (1 - rho), "knows nothing"),
        (lambda c, rho: 2 * (1 - c**2) / (1 - rho), "not its square"),
        (lambda c, rho: (1 - c**2) / (1 - rho), "best guess"),
        (lambda c, rho: 2 * (1 - rho) / (1 - c), "changed places"),
        (lambda c, rho: 2 * (1 - c) * (1 - rho), "divides"),
        (lambda c, rho: 2 * (1 - c) / rho, "not what is kept"),
        (lambda c, rho: 2 * (1 + c) / (1 - rho), "subtracted"),
        (lambda c, rho: 2 * c / (1 - rho), "1 - c"),
        (lambda c, rho: (2 - c) / (1 - rho), "subtracted twice"),
        (lambda c, rho: (2 * (1 - c) / (1 - rho)) ** 0.5, "root"),
        (lambda c, rho: 2 * (1 - c) / (1 - rho**2), "rho is a correlation"),
        (lambda c, rho: 2 * rho, None),
        (lambda c, rho: 4 / 3, None),
        (lambda c, rho: 2 * (1 - c) / (1 - c), "c = rho"),
        (lambda c, rho: 2 * (1 - math.sqrt(rho)) / (1 - rho), None),
        (lambda c, rho: 1 + (1 - c) / (1 - rho), None),
        (lambda c, rho: (2 - 2 * c * rho) / (1 - rho), None),
    ],
    "inverted": [
        (lambda x, e, s, t: (t / s) ** 0.5 * x - ((1 - t) ** 0.5 - (t * (1 - s) / s) ** 0.5) * e, "the noise grows"),
        (lambda x, e, s, t: x / s**0.5 + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e, "The left side"),
        (lambda x, e, s, t: (t / s) ** 0.5 * x + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e, "multiplies the noise"),
        (lambda x, e, s, t: s**0.5 * (x / s**0.5 + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e), "not by that at s"),
        (lambda x, e, s, t: x + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e, "Both signals"),
        (lambda x, e, s, t: t**0.5 * (x + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e), "divided by its signal"),
        (lambda x, e, s, t: t * (x / s + ((1 / t - 1) ** 0.5 - (1 / s - 1) ** 0.5) * e), "the root of alpha_bar"),
        (lambda x, e, s, t: t**0.5 * (x / s**0.5 + ((1 - t) ** 0.5 - (1 - s) ** 0.5) * e), "not the noise"),
        (lambda x, e, s, t: t**0.5 * (x / s**0.5 + (1 / t - 1 / s) * e), "a root"),
        (lambda x, e, s, t: t**0.5 * (x / s**0.5 + ((1 - t) ** 0.5 / t - (1 - s) ** 0.5 / s) * e), "In sigma"),
        (lambda x, e, s, t: t**0.5 * (x / s**0.5 + ((t / (1 - t)) ** 0.5 - (s / (1 - s)) ** 0.5) * e), "over noise"),
        (lambda x, e, s, t: (t / s) ** 0.5 * x + (1 - t) ** 0.5 * e, "up to sigma_s"),
        (lambda x, e, s, t: (t / s) ** 0.5 * x + (1 - t / s) ** 0.5 * e, "fresh noise"),
        (lambda x, e, s, t: t**0.5 * x + (1 - t) ** 0.5 * e, "equation 1"),
        (lambda x, e, s, t: (x - (1 - s) ** 0.5 * e) / s**0.5, "the clean pixel"),
        (lambda x, e, s, t: s**0.5 * (x - (1 - t) ** 0.5 * e) / t**0.5 + (1 - s) ** 0.5 * e, "changed places"),
        (lambda x, e, s, t: x * (t / s) ** 0.5, "leaves out"),
        (lambda x, e, s, t: x, None),
        (lambda x, e, s, t: x + (s - t) * e, None),
        (lambda x, e, s, t: t**0.5 * x / s**0.5 + (t**0.5 - s**0.5) * e, None),
        (lambda x, e, s, t: ((1 - t) / t) ** 0.5 * e, None),
    ],
    "langevin_variance": [
        (lambda s2, delta: s2, "without the bias"),
        (lambda s2, delta: s2 + delta, "takes some of it away"),
        (lambda s2, delta: s2 / (1 - delta), "delta over s2"),
        (lambda s2, delta: s2 / (1 - delta / 4), "there is a 4"),
        (lambda s2, delta: s2 / (1 - delta / (2 * s2)), "a 4, not a 2"),
        (lambda s2, delta: s2 / (1 - delta / s2), "leaves 4 s2"),
        (lambda s2, delta: s2 / (1 + delta / (4 * s2)), "wider, not narrower"),
        (lambda s2, delta: s2 - delta / 4, "divides"),
        (lambda s2, delta: s2 + delta / 4, "first order"),
        (lambda s2, delta: s2**2 / (1 - delta / (4 * s2**2)), "the variance already"),
        (lambda s2, delta: s2 / (1 - delta / (4 * s2**2)), "not by 4 s2^2"),
        (lambda s2, delta: s2 / (1 - delta**2 / (4 * s2)), "cancels"),
        (lambda s2, delta: 1 / (1 - delta / (4 * s2)), "multiplies s2"),
        (lambda s2, delta: (s2 / (1 - delta / (4 * s2))) ** 0.5, "standard deviation"),
        (_walk, "half a delta"),
        (_walk_without_square, "squared"),
        (_walk_too_short, None),
        (lambda s2, delta: s2 / (1 - delta / 4 * s2), None),
        (lambda s2, delta: 0.3125, None),
        (lambda s2, delta: delta / (1 - (1 - delta / 2) ** 2), None),
        (lambda s2, delta: s2 / (1 - delta / (8 * s2)), None),
    ],
    "noise_of_ddim": [
        (lambda t, s, eta: eta**2 * ((1 - s) / (1 - t) * (1 - t / s)) ** 0.5, "not squared"),
        (lambda t, s, eta: (eta * (1 - s) / (1 - t) * (1 - t / s)) ** 0.5, "before the root"),
        (lambda t, s, eta: eta * (1 - s) / (1 - t) * (1 - t / s), "times the variance"),
        (lambda t, s, eta: eta**2 * (1 - s) / (1 - t) * (1 - t / s), "That is a variance"),
        (lambda t, s, eta: eta * (1 - t / s) ** 0.5, "large variance"),
        (lambda t, s, eta: ((1 - s) / (1 - t) * (1 - t / s)) ** 0.5, "eta is missing"),
        (lambda t, s, eta: eta * ((1 - t) / (1 - s) * (1 - t / s)) ** 0.5, "on its head"),
        (lambda t, s, eta: eta * (1 - s) ** 0.5, "all the noise at s"),
        (lambda t, s, eta: eta * (1 - t) ** 0.5, "all the noise at t"),
        (lambda t, s, eta: eta * ((1 - s) / (1 - t)) ** 0.5, "is missing"),
        (lambda t, s, eta: eta * ((1 - s) / (1 - t) * (t / s)) ** 0.5, "what is lost"),
        (lambda t, s, eta: eta * ((1 - s) / (1 - t)) ** 0.5 * (1 - t / s), "both factors"),
        (lambda t, s, eta: eta * (1 - s) / (1 - t) * (1 - t / s) ** 0.5, "both factors"),
        (lambda t, s, eta: eta * ((1 - s) / (1 - t) * (s - t)) ** 0.5, "difference"),
        (lambda t, s, eta: eta * math.sqrt((1 - t) / (1 - s) * (1 - s / t)), "raises ValueError"),
        (lambda t, s, eta: eta * (((1 - s) / (1 - t)) * (1 - t)) ** 0.5, "all the noise at s"),
        (
            lambda t, s, eta: eta * ((1 - s**0.5) / (1 - t**0.5) * (1 - (t / s) ** 0.5)) ** 0.5,
            "alpha_bar already",
        ),
        (lambda t, s, eta: eta * (1 - s) / (1 - t), None),
        (lambda t, s, eta: eta * ((1 - t) / (1 - s) * (1 - s / t)) ** 0.5, "finite number"),
        (lambda t, s, eta: eta * ((1 - s**2) / (1 - t**2) * (1 - t**2 / s**2)) ** 0.5, None),
    ],
    "guided_eps": [
        (lambda c, e, w, s, low, high: e + w * (c - e), "own answer is left"),
        (lambda c, e, w, s, low, high: w * c + (1 - w) * e, "own answer is left"),
        (lambda c, e, w, s, low, high: w * c + (1 - w) * e if s <= high else c, "Below the interval"),
        (lambda c, e, w, s, low, high: c if s < low else e + w * (c - e), "Above the interval"),
        (lambda c, e, w, s, low, high: c if low < s < high else e + w * (c - e), "other way round"),
        (lambda c, e, w, s, low, high: e + (w * (c - e) if low <= s <= high else 0), "still asked for"),
        (lambda c, e, w, s, low, high: (e + w * (c - e)) * (low <= s <= high), "has an answer, too"),
        (lambda c, e, w, s, low, high: c, "and no more"),
        (lambda c, e, w, s, low, high: c if not low <= s <= high else (1 + w) * c - w * e, "Ho & Salimans"),
        (lambda c, e, w, s, low, high: c + w * (c - e) * (low <= s <= high), "Ho & Salimans"),
        (lambda c, e, w, s, low, high: (1 - w) * c + w * e if low <= s <= high else c, "Swap the two"),
        (lambda c, e, w, s, low, high: w * (c - e) if low <= s <= high else c, "push alone"),
        (lambda c, e, w, s, low, high: e + w * (e - c) if low <= s <= high else c, "the other sign"),
        (lambda c, e, w, s, low, high: w * c if low <= s <= high else c, "left out"),
        (lambda c, e, w, s, low, high: w * c + (w - 1) * e if low <= s <= high else c, "not w - 1"),
        (lambda c, e, w, s, low, high: e + w * c if low <= s <= high else c, "not eps_c alone"),
        (lambda c, e, w, s, low, high: e + w * c, None),
        (lambda c, e, w, s, low, high: e + w / 2 * (c - e) if low <= s <= high else c, None),
        (lambda c, e, w, s, low, high: c / (low <= s <= high), "raises ZeroDivisionError"),
        (lambda c, e, w, s, low, high: e, None),
        (lambda c, e, w, s, low, high: w, None),
    ],
    "probability_of_right": [
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * x / (a * s2 + 1 - a))), "not at 1"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a * x / (a * s2 + 1 - a))), "the root of alpha_bar"),
        (lambda x, a, s2: 1 / (1 + math.exp(-(a**0.5) * x / (a * s2 + 1 - a))), "factor of 2"),
        (lambda x, a, s2: 1 / (1 + math.exp(-4 * a**0.5 * x / (a * s2 + 1 - a))), "Half of each"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (1 - a))), "a width of its own"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * x / (a**0.5 * s2))), "Noise widens"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * x / s2)), "the clean point"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (s2 + 1 - a))), "alpha_bar times s2"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (a**0.5 * s2 + 1 - a))), "by the root"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (a * s2 + 1 - a) ** 0.5)), "not the standard deviation"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (a * s2**2 + 1 - a))), "the variance already"),
        (lambda x, a, s2: 1 / (1 + math.exp(2 * a**0.5 * x / (a * s2 + 1 - a))), "the left bump"),
        (lambda x, a, s2: 2 * a**0.5 * x / (a * s2 + 1 - a), "log of the ratio"),
        (lambda x, a, s2: math.exp(2 * a**0.5 * x / (a * s2 + 1 - a)), "the sum of both"),
        (lambda x, a, s2: math.exp(-((x - a**0.5) ** 2) / 2 / (a * s2 + 1 - a)), "divides by both"),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * a**0.5 * x / (a * s2 + (1 - a) ** 0.5))), "not its root"),
        (lambda x, a, s2: 0.5 * (1 + math.erf(x / math.sqrt(2 * (a * s2 + 1 - a)))), None),
        (lambda x, a, s2: float(x > 0), None),
        (lambda x, a, s2: math.tanh(a**0.5 * x / (a * s2 + 1 - a)), None),
        (lambda x, a, s2: 1 / (1 + math.exp(-x)), None),
        (lambda x, a, s2: 1 / (1 + math.exp(-2 * x * a**0.5)), None),
    ],
    "euler_step": [
        (lambda x, x0, t, s: x + (t - s) * (x - x0) / t, "is negative"),
        (lambda x, x0, t, s: x + (s - t) * (x0 - x) / t, "the velocity is eps - x0"),
        (lambda x, x0, t, s: x + (s - t) * (x - x0), "tau times the velocity"),
        (lambda x, x0, t, s: x - (t - s) * (x - x0) / (1 - t), "not by 1 - tau"),
        (lambda x, x0, t, s: x + (s - t) * (x / t - x0), "multiplied by 1 - tau"),
        (lambda x, x0, t, s: x + (s - t) * (x - (1 - t) * x0) / t, "the noise itself"),
        (lambda x, x0, t, s: x0, "the whole way"),
        (lambda x, x0, t, s: (x - x0) / t, "That is the velocity"),
        (lambda x, x0, t, s: (s - t) * (x - x0) / t, "Add it to x"),
        (lambda x, x0, t, s: x0 + (s - t) * (x - x0) / t, "Walk from x"),
        (lambda x, x0, t, s: x + s * (x - x0) / t, "not tau_next"),
        (lambda x, x0, t, s: x + (s - t) * (x - x0) / s, "that at tau"),
        (lambda x, x0, t, s: x0 * (1 - s) + x * s, "x is not the noise"),
        (lambda x, x0, t, s: (1 - s) * x0 + s * (x - x0 * (1 - t) / t), "the brackets count"),
        (lambda x, x0, t, s: math.sqrt(1 - s**2) * x0 + s * (x - math.sqrt(1 - t**2) * x0) / t, "keeps the variance"),
        (lambda x, x0, t, s: x - (t - s) * (x - x0) / t / 2, "half a step"),
        (lambda x, x0, t, s: x * s / t, None),
        (lambda x, x0, t, s: x, None),
        (lambda x, x0, t, s: x + (s - t) * x, None),
    ],
    "students_x0": [
        (lambda x, y, t, s: (s * y - t * x) / (t - s), "is multiplied by the noise at t"),
        (lambda x, y, t, s: (t * y + s * x) / (t - s), "are subtracted"),
        (lambda x, y, t, s: (s * x - t * y) / (t - s), "the other sign"),
        (lambda x, y, t, s: t * y - s * x, "Divide by the denominator"),
        (lambda x, y, t, s: (t * y - s * x) / (t + s - 2 * t * s), "which is shorter"),
        (lambda x, y, t, s: (x * (1 - s) - y * (1 - t)) / (t - s), "signals in the place of the noises"),
        (lambda x, y, t, s: ((1 - t) * y - (1 - s) * x) / (t - s), "not the signals"),
        (lambda x, y, t, s: y, "says the clean number"),
        (lambda x, y, t, s: y - s * (x - y), "divide by the way"),
        (lambda x, y, t, s: y + s * (x - y) / (t - s), "Go down from x_s by tau_s of it"),
        (lambda x, y, t, s: y - t * (x - y) / (t - s), "not by tau"),
        (lambda x, y, t, s: x - s * (x - y) / (t - s), "from x_t by tau_s"),
        (lambda x, y, t, s: (t * y - s * x) / (t * math.sqrt(1 - s**2) - s * math.sqrt(1 - t**2)), "Those roots"),
        (lambda x, y, t, s: y - s * x / t, "not by tau"),
        (lambda x, y, t, s: (x + y) / 2, "the mean of both"),
        (lambda x, y, t, s: (y - s * x) / (1 - s), None),
        (lambda x, y, t, s: x - y, None),
    ],
}
