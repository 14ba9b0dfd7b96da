"""Where a model's files are: of one that ships by its name, of a training run by its folder."""

import os
import re
import sys
from pathlib import Path

from ddpm.data import ASSETS
from ddpm.files import expanded
from ddpm.messages import say

__all__ = ["MODELS", "card", "checkpoint_manifest", "folder_aloud", "model_folder", "weights_file"]

#: Folder of the models that ship.
MODELS = ASSETS / "models"


def checkpoint_manifest(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The manifest of a run's checkpoint, if this names one: without an ending, or one of its two files."""
    path = expanded(name_or_path)
    step = re.fullmatch(r"(step-\d{8,})(\.json|\.safetensors)?", path.name)
    if step is None or not os.path.isfile(manifest := path.with_name(f"{step[1]}.json")):
        return None
    return manifest


def model_folder(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder that holds a model's files.

    A string that is the name of a model that ships means that model, even where a folder of this name lies in the
    current folder; `load` then says so on stderr. Whatever is written as a path means a folder or a checkpoint:
    "./fashion-mnist", "fashion-mnist/", ".", an absolute path, every `Path`.

    Raises:
        ValueError: there is no such model.
        TypeError: it is neither a string nor a path.
    """
    _check_type("model", name_or_path)
    if (shipped := _shipped(name_or_path)) is not None:
        return shipped
    if (manifest := checkpoint_manifest(name_or_path)) is not None:
        return manifest.parent
    if name_or_path != "" and os.path.isdir(folder := expanded(name_or_path)):
        return folder
    raise ValueError(
        f"model is {os.fspath(name_or_path)!r}; legal are {', '.join(_names())}, "
        "or the folder of a training run, or one of its checkpoints"
    )


def folder_aloud(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder that holds a model's files, with a line on stderr where another folder here has its name."""
    folder = model_folder(name_or_path)
    if name_or_path == folder.name and folder != Path(folder.name) and os.path.isdir(folder.name):
        line = f'model "{folder.name}" is the one that ships; the folder of that name here is "./{folder.name}"'
        say(line, file=sys.stderr)
    return folder


def weights_file(argument: str, value: str | os.PathLike[str], or_file: bool = False) -> Path:
    """The file of a model's weights, which another training may start from.

    Args:
        argument: what messages call it.
        value: the name of a model that ships or the folder of a training run.
        or_file: whether it may be a file like a run's model.safetensors, too.

    Raises:
        ValueError: there is no such model, or it is a checkpoint, whose file holds more than the weights.
        TypeError: it is neither a string nor a path.
        FileNotFoundError: the folder holds no weights.
    """
    _check_type(argument, value)
    path = expanded(value)
    if _shipped(value) is not None:
        path = folder_aloud(value)
    elif checkpoint_manifest(value) is not None:
        raise ValueError(f"{argument} is {str(value)!r}, a checkpoint; name the folder of its run")
    elif or_file and os.path.isfile(path):
        return path
    elif value == "" or not os.path.isdir(path):
        legal = f"{', '.join(_names())}, or the folder of a training run"
        if or_file:
            legal += ", or a file like its model.safetensors"
        raise ValueError(f"{argument} is {os.fspath(value)!r}; legal are {legal}")
    if not (file := path / "model.safetensors").is_file():
        raise FileNotFoundError(f"there is no weights file {file}")
    return file


def _names() -> list[str]:
    """The names of the models that ship."""
    return sorted(path.name for path in MODELS.iterdir() if path.is_dir())


def _shipped(name_or_path: str | os.PathLike[str]) -> Path | None:
    """The folder of the model that ships under this name, if one does."""
    return MODELS / name_or_path if isinstance(name_or_path, str) and name_or_path in _names() else None


def _check_type(argument: str, value: str | os.PathLike[str]) -> None:
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{argument} is {value!r}; it must be a string or a path")


def card(name_or_path: str | os.PathLike[str]) -> str:
    """A model's card, Markdown: data, schedule, training, device, date, how to make it again, what it is worth.

    Raises:
        FileNotFoundError: there is none; models that ship have one.
    """
    path = model_folder(name_or_path) / "card.md"
    if not path.is_file():
        raise FileNotFoundError(f"there is no card {path}; models that ship have one")
    return path.read_text(encoding="utf-8")
