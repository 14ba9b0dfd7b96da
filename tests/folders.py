"""What the files of a folder hold."""

import json


def contents(folder):
    """The bytes of every file, by its path below the folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def log_of(run):
    """The lines of a run's log, each a dictionary."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
