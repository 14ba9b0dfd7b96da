"""Lines for people, on consoles that cannot print every character."""

import sys
from typing import TextIO

from tqdm import tqdm

__all__ = ["counted", "say"]


def counted(n: int, noun: str) -> str:
    """So many of something, in words."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


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
