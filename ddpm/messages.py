"""Lines for people, on consoles that cannot print every character."""

import sys
from typing import TextIO

from tqdm import tqdm

__all__ = ["counted", "first_line", "in_a_line", "say"]


def counted(n: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def in_a_line(error: BaseException) -> str:
    """What an error says, in one line; the name of its class where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an error says, where it may fill a page; the name of its class where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def say(line: str, file: TextIO | None = None) -> None:
    """Print a line above any progress bar; a character that the console lacks appears as its escape, such as \\xe9.

    The names of people's files may hold any character, and even bytes that are none.

    Args:
        line: what to print.
        file: where to; None is the standard output.
    """
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    tqdm.write(line.encode(encoding, "backslashreplace").decode(encoding), file=stream)
