"""Pictures as people have them: files of any size and colours, singly or in a folder."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from ddpm.data import Dataset, cache_folder
from ddpm.files import write_json

MEMORY = 2 * 2**30  # bytes of pictures that are held; more are read as they are wanted
UNREADABLE = 0.05  # the largest share of a folder's files that may be
FEW = 1000
FILMS = {"MPEG", "HDF5", "GRIB", "BUFR"}  # which Pillow knows by name alone

Shape = tuple[int, int, int]


class Pictures(torch.utils.data.Dataset[Tensor]):
    """Files as images uint8 (channels, height, width), read when they are asked for.

    Args:
        name: of the whole.
        paths: the files.
        shape: (channels, height, width) of what comes out.
    """

    def __init__(self, name: str, paths: Sequence[Path], shape: Shape) -> None:
        self.name, self.paths, self.shape = name, paths, shape

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Tensor:
        return read_image(self.paths[i], self.shape)[0]


class _Tried(Pictures):
    """Pictures, or in place of one that cannot be read, why."""

    def __getitem__(self, i: int) -> Tensor | str:  # type: ignore[override]
        try:
            return super().__getitem__(i)
        except (ValueError, FileNotFoundError) as error:
            return str(error)


def load_folder(
    folder: str | Path,
    shape: Shape,
    *,
    workers: int = 0,
    memory: int = MEMORY,
    unreadable: float = UNREADABLE,
    quiet: bool = False,
) -> Dataset | Pictures:
    """All pictures in a folder and the folders in it, each made to fit as `read_image` does it.

    Every file is read once, so that those which cannot be are known before anything is trained; they are named, counted
    and left out. The user's cache keeps their names; of pictures that are not held, only these are tried again.

    Args:
        folder: where they lie.
        shape: (channels, height, width) they are brought to.
        workers: processes that read them.
        memory: bytes up to which they are held, as a `Dataset`; beyond, they are `Pictures`.
        unreadable: share of the files up to which it is legal that they cannot be read.
        quiet: do not print what was found.

    Raises:
        ValueError: no folder, no picture in it, or too many that cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"data is 'folder:{folder}'; there is no such folder")
    if shape[0] not in (1, 3):
        raise ValueError(f"channels is {shape[0]}; pictures have 1 or 3")
    seen = [p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in {*Image.OPEN} - FILMS}
    paths = sorted(path for path in seen if path.suffix.lower() in endings and path.is_file())
    if not paths:
        raise ValueError(f"data is 'folder:{folder}'; there is no picture in it, by the endings of the files' names")
    others = Counter(path.suffix.lower() or path.name for path in seen if path.is_file())
    others = Counter({ending: n for ending, n in others.items() if ending not in endings})
    stats = [path.stat() for path in paths]
    names = [path.relative_to(folder).as_posix() for path in paths]
    name = f"folder:{folder.name}@{_digest([*zip(names, (stat.st_size for stat in stats), strict=True)])}"
    held = len(paths) * int(np.prod(shape)) <= memory
    known = (
        cache_folder() / f"{_digest([str(folder.resolve()), name, *(s.st_mtime_ns for s in stats)])}-unreadable.json"
    )
    images, problems = [], {}
    if not held and known.is_file():
        again = json.loads(known.read_text(encoding="utf-8"))
        retried = ((name, _Tried(name, [folder / name], shape)[0]) for name in again)
        problems = {name: tried for name, tried in retried if isinstance(tried, str)}
    else:
        loader: DataLoader[Tensor | str] = DataLoader(_Tried(name, paths, shape), batch_size=None, num_workers=workers)
        bar: dict[str, Any] = {"total": len(paths), "unit": "picture", "delay": 1, "disable": quiet}
        for of_file, image in tqdm(zip(names, loader, strict=True), f"reading {folder}", **bar):
            if isinstance(image, str):
                problems[of_file] = image
            elif held:
                images.append(image.clone())  # frees what a worker shares
        with suppress(OSError):
            write_json(known, problems)
    if not quiet:
        lines = list(problems.values())[:20]
        if len(problems) > len(lines):
            lines.append(f"... and {len(problems) - len(lines)} more, named in {known}")
        lines.append(f"{folder}: {len(paths) - len(problems):,} pictures; {len(problems)} more cannot be read")
        if others:
            kinds = ", ".join(f"{n} {ending}" for ending, n in others.most_common(5))
            lines.append(f"{others.total()} files are no pictures, by their endings: {kinds}")
        if len(paths) - len(problems) < FEW:
            lines.append(f"a model soon knows so few as {len(paths) - len(problems)} pictures by heart")
        tqdm.write("\n".join(lines))
    if len(problems) > unreadable * len(paths):
        first = next(iter(problems.values()))
        said = f"{len(problems)} of {len(paths)} pictures in {folder} cannot be read"
        raise ValueError(f"{said}, more than the legal {unreadable:.0%}; the first: {first}")
    if held:
        return Dataset(name, "train", torch.stack(images), torch.zeros(len(images), dtype=torch.int64), str(folder))
    return Pictures(name, [path for path, of_file in zip(paths, names, strict=True) if of_file not in problems], shape)


def _digest(listing: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:12]


def read_image(path: str | Path, shape: tuple[int, int, int]) -> tuple[Tensor, str]:
    """A picture of any size and colours as uint8 (channels, height, width), and in words what was done to it.

    It is turned as its camera noted, laid on black where it is transparent, cut to its middle and shrunk; a smaller one
    is framed in black, as `load` does with garments.

    Args:
        path: any file that Pillow opens, of 8 or 16 bits.
        shape: what a model takes; 1 channel is grey, 3 are red, green and blue.

    Raises:
        ValueError: a folder, a file that is no whole picture, another number of channels.
        FileNotFoundError: there is no such file.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"shape is {shape}; pictures have 1 or 3 channels")
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name the pictures in it")
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(path) as file:
            frames, image = getattr(file, "n_frames", 1), ImageOps.exif_transpose(file)
        words = [f"{image.width} x {image.height}, {image.mode}"]
        if frames > 1:
            words.append(f"the first of {frames} frames")
        if image.mode not in ("1", "LA", "I", "I;16", "I;16B", "L", mode):
            words.append("made grey" if channels == 1 else "made RGB")
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise ValueError("its values are no grey levels of 8 or 16 bits")
            image = Image.fromarray((values / 257).round().astype(np.uint8))
            words.append("16 bits made 8")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            words.append("laid on black")
        image = image.convert(mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no picture {path}") from error
    except Exception as error:  # a decoder may raise anything where a file is damaged
        raise ValueError(f"{path} is no picture that can be read ({error})") from error
    scale = max(1, min(image.width / width, image.height / height))
    cut = (min(image.width, round(scale * width)), min(image.height, round(scale * height)))
    if cut != image.size:
        words.append("cut to {} x {}".format(*cut))
        left, top = (image.width - cut[0]) // 2, (image.height - cut[1]) // 2
        image = image.crop((left, top, left + cut[0], top + cut[1]))
    if scale > 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
        words.append(f"shrunk to {width} x {height}")
    elif image.size != (width, height):
        frame = Image.new(mode, (width, height))
        frame.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        image = frame
        words.append(f"framed to {width} x {height}")
    return torch.from_numpy(np.array(image).reshape(height, width, channels)).permute(2, 0, 1), "; ".join(words)
