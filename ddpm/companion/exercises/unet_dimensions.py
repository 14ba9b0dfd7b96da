"""The exercises of chapter 2."""

import math
from random import Random

from ddpm.companion.exercises.grading import Exercise, Point

__all__ = ["EXERCISES"]


def halvings(side: int, levels: int) -> int:
    """How often a UNet of so many levels can halve an image of this side: once between two levels, while it is even."""
    return min(_twos(side), levels - 1)


def _twos(side: int) -> int:
    """How often 2 divides it."""
    return (side & -side).bit_length() - 1


def _images(random: Random) -> list[Point]:
    """One that the levels limit, one that becomes odd on the way, and one that is odd from the start."""
    twos = random.randint(2, 3)
    return [
        (random.choice([3, 5, 7]) * 2 ** (twos + 3), twos + 1),
        (random.choice([5, 7, 9]) * 2**twos, twos + random.randint(5, 6)),
        (random.choice([11, 13, 21]), random.randint(4, 5)),
    ]


def scores(side: int, level: int) -> int:
    """How many numbers one head of attention computes on a level: one for each pair of pixels of its map."""
    pixels: int = (side // 2**level) ** 2
    return pixels**2


def _maps(random: Random) -> list[Point]:
    return [(random.choice([3, 5, 7]) * 2 ** (level + 2), level) for level in random.sample([1, 2, 3, 4], 3)]


EXERCISES = [
    Exercise(
        halvings,
        _images,
        {
            "A UNet has a first level, too: of so many levels it halves once less.": lambda side, levels: min(
                _twos(side), levels
            ),
            "The levels set a limit, too.": lambda side, levels: _twos(side),
            "Not every side can be halved so often: try 28 on five levels.": lambda side, levels: levels - 1,
            "Levels are one more than halvings, and an odd side cannot be halved.": lambda side, levels: levels,
            "Rounding down hides that an odd side cannot be halved.": lambda side, levels: min(
                int(math.log2(side)), levels - 1
            ),
            "That goes down to a single pixel, and rounds. An odd side cannot be halved.": lambda side, levels: int(
                math.log2(side)
            ),
            "Look at the side again after each halving: it was even once, and may be odd now.": lambda side, levels: (
                levels - 1 if side % 2 == 0 else 0
            ),
            "That is by how much the side shrinks. Its exponent is asked for.": lambda side, levels: (
                2 ** min(_twos(side), levels - 1)
            ),
            "That is the side of the smallest map.": lambda side, levels: side // 2 ** min(_twos(side), levels - 1),
            "You counted sizes. Halvings are one less.": lambda side, levels: min(_twos(side), levels - 1) + 1,
            "The last halving is missing.": lambda side, levels: min(_twos(side), levels - 1) - 1,
        },
    ),
    Exercise(
        scores,
        _maps,
        {
            "That is the number of pixels. Each of them looks at each.": lambda side, level: (side // 2**level) ** 2,
            "That is on level 0. Every level below has half the side of the one above.": lambda side, level: side**4,
            "The side is halved, not the number of pixels: a level has a quarter of the pixels above.": (
                lambda side, level: (side**2 // 2**level) ** 2
            ),
            "The side is divided by 2 once a level, not by the level's number.": lambda side, level: (
                (side / level) ** 4
            ),
            "The side is divided by 2 once a level, not by twice the level's number.": lambda side, level: (
                (side / (2 * level)) ** 4
            ),
            "A deeper level is smaller.": lambda side, level: side**2 * level**2,
            "Pixels look at pixels: the square of their number, which is the fourth power of the side.": (
                lambda side, level: 2 * (side // 2**level) ** 2
            ),
            "Levels count from 0: level 0 has the image's own side.": lambda side, level: (
                (side / 2 ** (level - 1)) ** 4
            ),
            "That is one level too deep.": lambda side, level: (side / 2 ** (level + 1)) ** 4,
            "A pixel looks at itself, too.": lambda side, level: (
                (side // 2**level) ** 2 * ((side // 2**level) ** 2 - 1)
            ),
            "Who looks and who is looked at are two things: a pair counts twice.": lambda side, level: (
                (side // 2**level) ** 4 / 2
            ),
            "Who looks and who is looked at are two things, and a pixel looks at itself.": lambda side, level: (
                (side // 2**level) ** 2 * ((side // 2**level) ** 2 - 1) / 2
            ),
            "That counts queries, keys and values. The scores are of queries with keys.": lambda side, level: (
                3 * (side // 2**level) ** 4
            ),
            "Halving the side divides the scores by 16.": lambda side, level: side**4 / 2**level,
        },
    ),
]
