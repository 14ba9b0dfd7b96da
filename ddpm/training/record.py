"""A run's record: everything that decides what is trained, as JSON. Its config.json and every checkpoint carry it."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from ddpm.training.config import TrainingConfig

__all__ = [
    "RENAMED", "default_record", "difference", "filled", "record_of", "settled", "upgraded",
    "with_changes_on_the_way", "with_todays_data",
]  # fmt: skip


#: Settings that had another name in version 0.1.0, and their names now.
RENAMED = {"time": "time_conditioning"}
#: The letters of a value that a message shows whole; of a longer one it shows the ends.
LONGEST = 400


def record_of(
    model: Any,
    config: TrainingConfig,
    data: Mapping[str, Any],
    init: str | Path | None = None,
    compiled: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of a training.

    Args:
        model: the model's configuration.
        config: how it is trained.
        data: name, number and shape of the images, and what else they are known by.
        init: the file of weights that it starts from, if any; the record holds its SHA-256.
        compiled: how torch.compile compiles the networks, if it does.
        own: what of it is the user's own, see `ddpm.own_parts`.
    """
    training = asdict(config) | {"keep": TrainingConfig.keep}  # which changes no result
    record: dict[str, Any] = {"kind": model.kind, "model": asdict(model), "training": training, "data": dict(data)}
    if init is not None:
        record["init"] = hashlib.sha256(Path(init).read_bytes()).hexdigest()
    if compiled:
        record["compiled"] = dict(compiled)
    return _as_read_back(record | dict(own or {}))


def default_record(model: Any) -> dict[str, Any]:
    """The record of a training of this model's class with every setting at its default, where it has one.

    Its kind is "diffusion", because records that are too old to have a kind are of diffusion models.
    """
    defaults = {each.name: each.default for each in fields(model) if each.default is not MISSING}
    defaults |= {each.name: each.default_factory() for each in fields(model) if each.default_factory is not MISSING}
    return _as_read_back({"kind": "diffusion", "model": defaults, "training": asdict(TrainingConfig())})


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record with today's names and forms of its settings, for those that an earlier version wrote."""
    new = dict(record)
    model, training = new.get("model"), new.get("training")
    if isinstance(training, dict) and isinstance(decays := training.get("ema"), list) and len(decays) == 1:
        new["training"] = {**training, "ema": decays[0]}
    if isinstance(model, dict) and isinstance(model.get("unet"), dict):
        unet = {RENAMED.get(name, name): value for name, value in model["unet"].items()}
        new["model"] = {**model, "unet": unet}
    return new


def filled(old: Any, defaults: Any) -> Any:
    """A record with the defaults of those settings that it is too old to have."""
    if not isinstance(defaults, dict):
        return old
    return old | {name: filled(old.get(name, value), value) for name, value in defaults.items()}


def settled(record: dict[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """A record in which the number of threads, where it leaves that open, is the other's."""
    training = record.get("training", {})
    if "threads" not in training or training["threads"] is not None:
        return record
    return record | {"training": training | {"threads": other.get("training", {}).get("threads")}}


def with_changes_on_the_way(old: dict[str, Any], new: Mapping[str, Any], step: int) -> dict[str, Any]:
    """The old record of a run that has come to `step`; what may change from there is as in the new one.

    That is in what pieces a batch is computed, and at a constant learning rate the number of steps that are still to
    come. Where the rate decays, it is another in every step of a longer run.
    """
    training, before = new.get("training", {}), old.get("training", {})
    may_change = ["micro_batch_size"]
    if before.get("decay") == training.get("decay") == "constant" and training["steps"] >= step:
        may_change.append("steps")
    changes = {name: training[name] for name in may_change if name in training}
    return old | {"training": before | changes} if changes else old


def with_todays_data(old: dict[str, Any], new: Mapping[str, Any], former_names: Collection[str]) -> dict[str, Any]:
    """The old record; what an earlier version did not say of its data, or by another name, is as in the new one.

    Earlier versions called a folder by one of `former_names`, and did not know the SHA-256 of the user's own images.
    """
    data = old.get("data")
    if not isinstance(data, dict):
        return old
    todays = dict(data)
    if data.get("name") in former_names:
        todays["name"] = new["data"]["name"]
    if "images_sha256" in new["data"]:
        todays.setdefault("images_sha256", new["data"]["images_sha256"])
    return old | {"data": todays}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first setting in which two records differ, in words."""
    for key, value in new.items():
        if (there := old.get(key)) != value:
            if isinstance(there, dict) and isinstance(value, dict):
                if key == "data" and there.get("name") != value.get("name"):  # which nobody may have typed as a name
                    return f"data is {_in_short(there.get('name'))} there and {_in_short(value.get('name'))} here"
                return difference(there, value)
            return f"{key} is {_in_short(there)} there and {_in_short(value)} here"
    gone = next(key for key in old if key not in new)
    return f"{gone} is {_in_short(old[gone])} there and not given here"


def _in_short(value: Any) -> str:
    """A value as text, of a long one the ends."""
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:100]} ... {text[-50:]}"


def _as_read_back(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back: tuples become lists, and dataclasses dictionaries."""
    read: dict[str, Any] = json.loads(json.dumps(record, default=asdict))
    return read
