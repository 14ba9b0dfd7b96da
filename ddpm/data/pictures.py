"""A folder of pictures as people have them, of any size and colours, as a data set."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ddpm.arguments import class_names, instance
from ddpm.data.finding import Found, find_pictures
from ddpm.data.reading import Shape, check_picture_shape, read_image, read_picture
from ddpm.data.sets import Dataset, cache_folder, check_labels_of_classes
from ddpm.data.workers import map_ahead
from ddpm.files import write_json
from ddpm.messages import say
from ddpm.settings import real

__all__ = ["Pictures", "load_folder"]

_MEMORY = 2 * 2**30  # bytes up to which pictures are held in memory
_UNREADABLE = 0.05  # the largest legal share of files that cannot be read
_PIECE = 16  # pictures that a worker reads at a time
_FEW = 1000  # pictures, below which a warning is printed


class Pictures(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Files as images uint8 (channels, height, width), each read only when it is asked for.

    `pictures[i]` is an image and its label, as `Dataset` has it.

    Args:
        name: of the data set.
        paths: the files.
        shape: (channels, height, width) that every picture is brought to.
        former_names: other names that records of the same data have.
        labels: int64 (n,), the class of every file; all 0 if there are none.
        classes: names of the classes, by label; empty where the files have none.

    Raises:
        TypeError: `classes` are no names.
        ValueError: there is no file, or `shape` is no shape of a picture.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        shape: Shape,
        former_names: Sequence[str] = (),
        labels: Tensor | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        if not paths:
            raise ValueError("paths is empty; a data set has at least one picture")
        self.name, self.paths, self.shape = name, paths, check_picture_shape(shape)
        self.former_names = tuple(former_names)
        none = torch.zeros(len(paths), dtype=torch.int64, device="cpu")
        self.labels, self.classes = none if labels is None else labels, class_names(classes)
        if instance("labels", self.labels, Tensor).shape != (len(paths),):
            raise ValueError(f"labels have shape {tuple(self.labels.shape)}; it must be ({len(paths)},)")
        check_labels_of_classes(self.labels, self.classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.read([i])[0], device="cpu"), self.labels[i]

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """The images of these rows, uint8 (n, channels, height, width)."""
        return np.stack([read_image(self.paths[i], self.shape)[0].numpy() for i in rows])


def load_folder(
    folder: str | Path,
    shape: Shape,
    *,
    workers: int = 0,
    memory: float = _MEMORY,
    unreadable: float = _UNREADABLE,
    quiet: bool = False,
) -> Dataset | Pictures:
    """Load all pictures in a folder and its subfolders, each brought to one shape as `read_image` does it.

    Every file is read once at the start, so that files which cannot be read are known before anything is trained. They
    are counted, named and left out. The user's cache remembers what was found: as long as no file changes, pictures
    that are not held in memory are not read again at the next start.

    Where every picture lies in a subfolder of the folder, the subfolders' names are the pictures' classes.

    The data set's name tells the folder's own name, however one came there, and the contents of all pictures.

    Args:
        folder: the folder; which files and subfolders count, `ddpm.data.finding` says.
        shape: (channels, height, width) that every picture is brought to.
        workers: processes that read them.
        memory: bytes up to which they are held in memory, as a `Dataset`; beyond that they are `Pictures`.
        unreadable: the largest legal share of files that cannot be read.
        quiet: do not print what was found.

    Raises:
        TypeError: `folder` is no name.
        ValueError: there is no such folder, no picture in it, or too many files cannot be read; or `shape` is no shape
            of a picture.
        ChildProcessError: one of the `workers` was killed.
    """
    shape = check_picture_shape(shape)
    memory, unreadable = real("memory", memory, at_least=0), real("unreadable", unreadable, at_least=0, at_most=1)
    folder = _existing(folder)
    found = find_pictures(folder)
    paths = list(found.pictures)
    if not paths:
        nothing = "there is no picture in it, by the endings of the files' names"
        raise ValueError("; ".join([f"data is 'folder:{folder}'; {nothing}", *found.words()]))
    fits = len(paths) * int(np.prod(shape)) <= memory
    cache = _cache(folder, found)

    images: list[Tensor] = []
    reading = None if fits else _Reading.remembered(cache)
    if reading is not None:
        reading.try_again(folder, shape)
    else:
        images, reading = _read_each(folder, paths, shape, workers, keep=fits, quiet=quiet)
        with suppress(OSError):
            write_json(cache, asdict(reading))

    if not quiet:
        say(_report(folder, found, reading, cache))
    _check_readable(folder, len(paths), list(reading.problems.values()), unreadable)
    name = f"folder:{folder.resolve().name}@{reading.content}"
    former = _former_names(folder, found)
    readable = [path for path in paths if path.relative_to(folder).as_posix() not in reading.problems]
    labels, classes = _classes(folder, readable)
    if fits:
        return Dataset(name, "train", torch.stack(images), labels, str(folder), former, classes)
    return Pictures(name, readable, shape, former, labels, classes)


def _classes(folder: Path, paths: Sequence[Path]) -> tuple[Tensor, tuple[str, ...]]:
    """Label of every picture, int64 (n,), and the classes: the folder's subfolders, unless a picture lies in none."""
    inside = [path.relative_to(folder).parts for path in paths]
    names = sorted({parts[0] for parts in inside}) if all(len(parts) > 1 for parts in inside) else []
    label_of = {name: label for label, name in enumerate(names)}
    labels = [label_of[parts[0]] if names else 0 for parts in inside]
    return torch.tensor(labels, dtype=torch.int64, device="cpu"), tuple(names)


def _existing(folder: str | Path) -> Path:
    """The folder, with ~ as the user's home."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"folder is {folder!r}; it must be the name of a folder")
    path = os.path.expanduser(folder)
    if not os.path.isdir(path):
        raise ValueError(f"data is 'folder:{path}'; there is no such folder")
    return Path(path)


@dataclass
class _Reading:
    """What is known of a folder's pictures after all of them were read.

    Attributes:
        content: a digest of their names and contents.
        problems: why some cannot be read, by their names within the folder.
        guesses: how many were read by a guess, by the guess in words.
    """

    content: str
    problems: dict[str, str]
    guesses: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def remembered(cache: Path) -> "_Reading | None":
        """What a file of the cache holds; None where there is none, or another program wrote it."""
        try:
            return _Reading(**json.loads(cache.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def try_again(self, folder: Path, shape: Shape) -> None:
        """Drop those problems that are none any more."""
        paths = [folder / name for name in self.problems]
        attempts = zip(self.problems, _examine(paths, shape, keep=False), strict=True)
        self.problems = {name: attempt.problem for name, attempt in attempts if attempt.problem is not None}


def _read_each(
    folder: Path, paths: Sequence[Path], shape: Shape, workers: int, *, keep: bool, quiet: bool
) -> tuple[list[Tensor], _Reading]:
    """Read every picture once: the images, if they are to be kept, and what is known then."""
    pieces = [paths[i : i + _PIECE] for i in range(0, len(paths), _PIECE)]
    bar = tqdm(desc=f"reading {folder}", total=len(paths), unit="picture", delay=1, disable=quiet)
    images: list[Tensor] = []
    digests: list[tuple[str, str]] = []
    problems: dict[str, str] = {}
    guesses: Counter[str] = Counter()
    with bar, closing(map_ahead(partial(_examine, shape=shape, keep=keep), pieces, workers)) as answers:
        for piece, attempts in zip(pieces, answers, strict=True):
            for path, attempt in zip(piece, attempts, strict=True):
                name = path.relative_to(folder).as_posix()
                digests.append((name, attempt.digest))
                guesses.update(attempt.guesses)
                if attempt.problem is not None:
                    problems[name] = attempt.problem
                elif attempt.image is not None:
                    images.append(torch.from_numpy(attempt.image))
            bar.update(len(piece))
    return images, _Reading(_digest(digests), problems, dict(guesses))


class _Attempt(NamedTuple):
    """What came of reading a file."""

    digest: str  # of its content; empty if it cannot even be opened
    image: np.ndarray | None = None
    problem: str | None = None
    guesses: Sequence[str] = ()


def _examine(paths: Sequence[Path], shape: Shape, *, keep: bool) -> list[_Attempt]:
    """Read some files, with their images if they are to be kept."""
    return [_attempt(path, shape, keep) for path in paths]


def _attempt(path: Path, shape: Shape, keep: bool) -> _Attempt:
    digest = ""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        pixels, _, guesses = read_picture(path, shape)
    except (OSError, ValueError) as error:
        return _Attempt(digest, problem=str(error))
    return _Attempt(digest, pixels.numpy() if keep else None, guesses=guesses)


def _former_names(folder: Path, found: Found) -> tuple[str, ...]:
    """What version 0.1.0 called this data: by some word for the folder, and the names and sizes of its files."""
    sizes = [(path.relative_to(folder).as_posix(), status.st_size) for path, status in found.pictures.items()]
    return tuple(f"folder:{word}@{_digest(sizes)}" for word in sorted({"", folder.name, folder.resolve().name}))


def _cache(folder: Path, found: Found) -> Path:
    """The file that remembers what is known of these pictures as they are now, however one came to the folder."""
    states = [
        (path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in found.pictures.items()
    ]
    return cache_folder() / f"{_digest([str(folder.resolve()), *states])}-pictures.json"


def _digest(listing: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:12]


def _report(folder: Path, found: Found, reading: _Reading, cache: Path) -> str:
    """What was found in a folder, in a few lines."""
    problems = list(reading.problems.values())
    readable = len(found.pictures) - len(problems)
    lines = problems[:20]
    if len(problems) > len(lines):
        lines.append(f"... and {len(problems) - len(lines)} more, named in {cache}")
    unread = f"; {len(problems)} more cannot be read" if problems else ""
    lines.append(f"{folder}: {readable:,} pictures{unread}")
    lines += [f"{n:,} pictures: {guess}" for guess, n in reading.guesses.items()]
    lines += found.words()
    if found.others:
        kinds = ", ".join(f"{n} {ending}" for ending, n in found.others.most_common(5))
        lines.append(f"{found.others.total()} files are not pictures, by their endings: {kinds}")
    if 0 < readable < _FEW:
        few = "a single picture" if readable == 1 else f"as few as {readable} pictures"
        lines.append(f"a model soon memorises {few}")
    return "\n".join(lines)


def _check_readable(folder: Path, total: int, problems: Sequence[str], legal_share: float) -> None:
    """Raise `ValueError` if too many of a folder's pictures cannot be read, or none can."""
    if len(problems) == total:
        raise ValueError(f"none of the {total} pictures in {folder} can be read; the first: {problems[0]}")
    if len(problems) > legal_share * total:
        found = f"{len(problems)} of {total} pictures in {folder} cannot be read"
        raise ValueError(f"{found}, more than the legal {legal_share:.0%}; the first: {problems[0]}")
