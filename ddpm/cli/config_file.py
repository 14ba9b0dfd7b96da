"""The file that --config names: another run's record, or settings in TOML or JSON."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm.cli.settings import with_tuples
from ddpm.training.record import RENAMED, upgraded

__all__ = ["settings_of"]


def settings_of(path: Path, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The settings in a file, flat: a run's config.json, or a .toml or .json with a setting a line.

    Args:
        path: the file.
        given: the settings that the command line gives, which override the file's; some records need them.

    Raises:
        ValueError: it cannot be read, is no such file, or gives a setting twice.
    """
    path = Path(os.path.expanduser(path))  # a shell does it in `--config ~/run.toml`, and not in `--config=~/run.toml`
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows' editors put a mark at the beginning
        settings = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"config is {str(path)!r}, which cannot be read: its encoding must be UTF-8") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"config is {str(path)!r}, which cannot be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"config is {str(path)!r}; it must hold names and values")
    if isinstance(settings.get("model"), dict):  # a record; in a file of settings it is a name
        if "training" not in settings:  # what ddpm.save writes
            raise ValueError(f"config is {str(path)!r}, a saved network's; it says nothing of a training")
        try:
            settings = _settings_of_record(path, settings, given or {})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"config is {str(path)!r}, a run's record that is damaged: {error!r}") from error
    todays: dict[str, Any] = {}
    for written, value in settings.items():
        name = RENAMED.get(written, written).replace("-", "_")
        if name in todays:
            raise ValueError(f"config is {str(path)!r}, which gives {name} twice, by two of its names")
        todays[name] = value
    return with_tuples(todays)


def _settings_of_record(path: Path, record: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    for part in ("training", "data"):
        if not isinstance(record.get(part), dict):
            raise ValueError(f"config is {str(path)!r}, a run's record that is damaged: its {part} is no table")
    record = upgraded(record)
    if own := [name for name in ("own_network", "own_schedule", "own_task") if name in record]:
        raise ValueError(f"config is {str(path)!r}, of a run with an {own[0]}, which only ddpm.training.train can have")
    of_data = _settings_of_data(path, record["data"], given)
    if "init" in record and "init" not in given:
        raise ValueError(f"config is {str(path)!r}, a run that began with other weights; name them with --init")
    model = dict(record["model"])
    kind = "vae" if model.pop("variational", False) else record.get("kind", "diffusion")
    model |= model.pop("unet", {})
    conditional = {"conditional": True} if model.get("classes") else {}
    for name in ("image_shape", "channels", "classes"):  # the data's
        model.pop(name, None)
    training = dict(record["training"])
    training.pop("threads", None)  # the machine's
    return {"model": kind, **model, **training, **of_data, **conditional}


def _settings_of_data(path: Path, data: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that bring the images of a record, or others that are given, to the record's shape."""
    channels, size, width = data["image_shape"]
    if not data["name"].startswith("folder:"):
        return {"data": data["name"]}
    if "data" not in given:
        raise ValueError(f"config is {str(path)!r}, a run that began with pictures of a folder; name them with --data")
    if not given["data"].startswith("folder:"):
        return {}  # images of a named data set come in a shape of their own
    if width != size:
        shape = f"{size} x {width}"
        raise ValueError(f"config is {str(path)!r}, a run on pictures of {shape}; --image-size makes squares alone")
    return {"channels": channels, "image_size": size}
