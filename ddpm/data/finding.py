"""Find the pictures in a folder, whatever else lies there."""

import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

__all__ = ["Found", "find_pictures"]

_NOT_DECODED = {"MPEG", "HDF5", "GRIB", "BUFR"}  # formats that Pillow recognises and cannot read
_OF_A_RUN = {"config.json", "model.safetensors", "log.jsonl", "checkpoints"}  # which ddpm.training.run writes
_DRAWN = ("samples", "wandb")  # folders in a run's, with what it drew

_CLOSED = "files and folders that may not be opened"
_NOWHERE = "links that lead nowhere"
_BACK = "links that lead back to a folder around them"
_TWICE = "folders that are read under another name"
_RUN = "folders of trainings, with what they drew"


@dataclass
class Found:
    """What lies in a folder.

    Attributes:
        pictures: the pictures, sorted, and what the system knows of their files.
        others: how many files are no pictures, by the endings of their names.
        left_out: what else is not read, by its kind in words.
    """

    pictures: dict[Path, os.stat_result] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, kind: str, path: Path) -> None:
        """Note that a path is not read, and why."""
        self.left_out.setdefault(kind, []).append(path)

    def words(self) -> list[str]:
        """A line for each kind of what was left out."""
        return [f"left out: {len(paths)} {kind}, such as {paths[0]}" for kind, paths in self.left_out.items()]


def find_pictures(folder: Path) -> Found:
    """The pictures in a folder and its subfolders, by the endings of their names.

    Links are followed, but never to a folder that holds the link. A folder that several links lead to is read once, and
    under the name that it has in `folder` without a link, if it has one. Names that begin with a dot are passed over. A
    training's folder is left out; if it is `folder` itself, only what the training drew.
    """
    found, read, endings = Found(), set[Path](), _picture_endings()
    folders, links = [folder], list[Path]()
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            entries, place = _entries(here), here.resolve()
        except OSError:
            found.leave_out(_CLOSED, here)
            continue
        if place in read:
            found.leave_out(_TWICE, here)
        elif here != folder and _is_of_a_run(here, entries):
            found.leave_out(_RUN, here)
        else:
            read.add(place)
            for subfolder in _subfolders(entries, endings, found):
                if not subfolder.is_symlink():
                    folders.append(subfolder)
                elif _holds(subfolder.resolve(), here, folder):
                    found.leave_out(_BACK, subfolder)
                else:
                    links.append(subfolder)
    found.pictures = dict(sorted(found.pictures.items()))
    return found


def _entries(folder: Path) -> list[Path]:
    """The paths in a folder, sorted, without hidden ones; `OSError` if it may not be listed or not be entered."""
    os.stat(os.path.join(folder, "."))
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _is_of_a_run(folder: Path, entries: Sequence[Path]) -> bool:
    """Whether a folder with these entries is a training's, or holds what the training around it drew."""
    places = (entries, folder.parent.iterdir()) if folder.name in _DRAWN else (entries,)
    return any(len(_OF_A_RUN.intersection(path.name for path in place)) >= 2 for place in places)


def _holds(target: Path, *folders: Path) -> bool:
    return any(folder.resolve().is_relative_to(target) for folder in folders)


def _subfolders(entries: Sequence[Path], endings: Collection[str], found: Found) -> Iterator[Path]:
    """The subfolders among the entries of a folder; its files are entered into `found` on the way."""
    for path in entries:
        try:
            status = path.stat()
        except OSError as error:
            nowhere = path.is_symlink() and not isinstance(error, PermissionError)
            found.leave_out(_NOWHERE if nowhere else _CLOSED, path)
            continue
        if stat.S_ISDIR(status.st_mode):
            yield path
        elif stat.S_ISREG(status.st_mode):
            ending = path.suffix.lower()
            if ending not in endings:
                found.others[ending or path.name] += 1
            elif os.access(path, os.R_OK):
                found.pictures[path] = status
            else:
                found.leave_out(_CLOSED, path)


def _picture_endings() -> set[str]:
    """The endings of file names, such as ".png", that Pillow can read."""
    formats = Image.registered_extensions()  # also fills Image.OPEN
    return {ending for ending, name in formats.items() if name in Image.OPEN and name not in _NOT_DECODED}
