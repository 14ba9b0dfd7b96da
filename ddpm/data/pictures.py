"""A folder of pictures as people have them, of any size and colours, as a data set."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from ddpm.data.reading import Shape, read_image
from ddpm.data.sets import Dataset, cache_folder
from ddpm.data.workers import map_ahead
from ddpm.files import write_json

__all__ = ["Pictures", "load_folder"]

_MEMORY = 2 * 2**30  # bytes up to which pictures are held in memory
_UNREADABLE = 0.05  # the largest legal share of files that cannot be read
_PIECE = 16  # pictures that a worker reads at a time
_FEW = 1000  # pictures, below which a warning is printed
_NOT_DECODED = {"MPEG", "HDF5", "GRIB", "BUFR"}  # formats that Pillow recognises and cannot read


class Pictures(torch.utils.data.Dataset[Tensor]):
    """Files as images uint8 (channels, height, width), each read only when it is asked for.

    Args:
        name: of the data set.
        paths: the files.
        shape: (channels, height, width) that every picture is brought to.
    """

    def __init__(self, name: str, paths: Sequence[Path], shape: Shape) -> None:
        self.name, self.paths, self.shape = name, paths, shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return read_image(self.paths[i], self.shape)[0]

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """The images of these rows, uint8 (n, channels, height, width)."""
        return np.stack([self[i].numpy() for i in rows])


def load_folder(
    folder: str | Path,
    shape: Shape,
    *,
    workers: int = 0,
    memory: int = _MEMORY,
    unreadable: float = _UNREADABLE,
    quiet: bool = False,
) -> Dataset | Pictures:
    """Load all pictures in a folder and its subfolders, each brought to one shape as `read_image` does it.

    Every file is read once at the start, so that files which cannot be read are known before anything is trained. They
    are counted, named and left out. The user's cache remembers their names: the next time that pictures are not held
    in memory, only these files are tried again.

    Args:
        folder: the folder. Files and subfolders whose names begin with a dot are left out.
        shape: (channels, height, width) that every picture is brought to.
        workers: processes that read them.
        memory: bytes up to which they are held in memory, as a `Dataset`; beyond that they are `Pictures`.
        unreadable: the largest legal share of files that cannot be read.
        quiet: do not print what was found.

    Raises:
        ValueError: there is no such folder, no picture in it, or too many files cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"data is 'folder:{folder}'; there is no such folder")
    if shape[0] not in (1, 3):
        raise ValueError(f"channels is {shape[0]}; pictures have 1 or 3")
    paths, others = _find_pictures(folder)
    if not paths:
        raise ValueError(f"data is 'folder:{folder}'; there is no picture in it, by the endings of the files' names")
    name = _data_set_name(folder, paths)
    fits = len(paths) * int(np.prod(shape)) <= memory
    cache = _cache_of_problems(folder, paths, name)

    images: list[Tensor] = []
    if not fits and cache.is_file():
        suspects = [folder / path for path in json.loads(cache.read_text(encoding="utf-8"))]
        problems = _try_again(suspects, shape)
    else:
        images, problems = _read_each(folder, Pictures(name, paths, shape), workers, keep=fits, quiet=quiet)
        with suppress(OSError):
            write_json(cache, {path.relative_to(folder).as_posix(): problem for path, problem in problems.items()})

    if not quiet:
        tqdm.write(_report(folder, len(paths), list(problems.values()), others, cache))
    _check_readable(folder, len(paths), list(problems.values()), unreadable)
    if fits:
        return Dataset(name, "train", torch.stack(images), torch.zeros(len(images), dtype=torch.int64), str(folder))
    return Pictures(name, [path for path in paths if path not in problems], shape)


def _find_pictures(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The pictures in a folder, sorted, and the number of its other files by the endings of their names."""
    endings = _picture_endings()
    pictures: list[Path] = []
    others: Counter[str] = Counter()
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file():
            continue
        ending = path.suffix.lower()
        if ending in endings:
            pictures.append(path)
        else:
            others[ending or path.name] += 1
    return sorted(pictures), others


def _picture_endings() -> set[str]:
    """The endings of file names, such as ".png", that Pillow can read."""
    formats = Image.registered_extensions()  # also fills Image.OPEN
    return {ending for ending, name in formats.items() if name in Image.OPEN and name not in _NOT_DECODED}


def _data_set_name(folder: Path, paths: Sequence[Path]) -> str:
    """The folder's name with a digest of the names and sizes of its pictures: another content is another data set."""
    sizes = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in paths]
    return f"folder:{folder.name}@{_digest(sizes)}"


def _cache_of_problems(folder: Path, paths: Sequence[Path], name: str) -> Path:
    """The file that remembers which of these pictures, as they are now, cannot be read."""
    times = [path.stat().st_mtime_ns for path in paths]
    return cache_folder() / f"{_digest([str(folder.resolve()), name, *times])}-unreadable.json"


def _digest(listing: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:12]


def _read_each(
    folder: Path, pictures: Pictures, workers: int, *, keep: bool, quiet: bool
) -> tuple[list[Tensor], dict[Path, str]]:
    """Read every picture once: the images, if they are to be kept, and why each of the others cannot be read."""
    read = partial(_images_or_problems, shape=pictures.shape, keep=keep)
    pieces = [pictures.paths[i : i + _PIECE] for i in range(0, len(pictures), _PIECE)]
    bar = tqdm(desc=f"reading {folder}", total=len(pictures), unit="picture", delay=1, disable=quiet)
    images: list[Tensor] = []
    problems: dict[Path, str] = {}
    with bar, closing(map_ahead(read, pieces, workers)) as answers:
        for piece, found in zip(pieces, answers, strict=True):
            for path, image in zip(piece, found, strict=True):
                if isinstance(image, str):
                    problems[path] = image
                elif image is not None:
                    images.append(torch.from_numpy(image))
            bar.update(len(piece))
    return images, problems


def _try_again(paths: Sequence[Path], shape: Shape) -> dict[Path, str]:
    """Those of the files that still cannot be read, and why."""
    attempts = zip(paths, _images_or_problems(paths, shape, keep=False), strict=True)
    return {path: problem for path, problem in attempts if isinstance(problem, str)}


def _images_or_problems(paths: Sequence[Path], shape: Shape, *, keep: bool) -> list[np.ndarray | str | None]:
    """The images of some pictures, or None if they are not to be kept; for one that cannot be read, the reason."""
    found: list[np.ndarray | str | None] = []
    for path in paths:
        try:
            image = read_image(path, shape)[0].numpy()
            found.append(image if keep else None)
        except (ValueError, FileNotFoundError) as error:
            found.append(str(error))
    return found


def _report(folder: Path, total: int, problems: Sequence[str], others: Counter[str], cache: Path) -> str:
    """What was found in a folder, in a few lines."""
    readable = total - len(problems)
    lines = list(problems[:20])
    if len(problems) > len(lines):
        lines.append(f"... and {len(problems) - len(lines)} more, named in {cache}")
    lines.append(f"{folder}: {readable:,} pictures; {len(problems)} more cannot be read")
    if others:
        kinds = ", ".join(f"{n} {ending}" for ending, n in others.most_common(5))
        lines.append(f"{others.total()} files are not pictures, by their endings: {kinds}")
    if readable < _FEW:
        lines.append(f"a model soon memorises as few as {readable} pictures")
    return "\n".join(lines)


def _check_readable(folder: Path, total: int, problems: Sequence[str], legal_share: float) -> None:
    """Raise `ValueError` if too many of a folder's pictures cannot be read."""
    if len(problems) > legal_share * total:
        found = f"{len(problems)} of {total} pictures in {folder} cannot be read"
        raise ValueError(f"{found}, more than the legal {legal_share:.0%}; the first: {problems[0]}")
