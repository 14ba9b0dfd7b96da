import io
import os

import pytest

from ddpm.messages import first_line, in_a_line, say


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", rb"caf\xe9 \udce9 \U0001f600"),
        ("latin-1", b"caf\xe9 " + rb"\udce9 \U0001f600"),
        ("utf-8", "café ".encode() + rb"\udce9 " + "\N{GRINNING FACE}".encode()),
    ],
)
def test_what_a_console_cannot_print_appears_as_its_escape(monkeypatch, encoding, printed):
    line = f"café {os.fsdecode(bytes([0xE9]))} \N{GRINNING FACE}"
    for way in ("standard", "given"):
        console = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
        monkeypatch.setattr("sys.stdout", console if way == "standard" else io.StringIO())
        say(line, None if way == "standard" else console)
        console.flush()
        assert console.buffer.getvalue() == printed + b"\n"


def test_a_stream_without_an_encoding_gets_text_that_can_be_written_anywhere():
    stream = io.StringIO()
    say("café \udce9", stream)
    assert stream.getvalue() == "café \\udce9\n"


@pytest.mark.parametrize(
    ("error", "whole", "first"),
    [
        (OSError("no route\n  to host"), "no route to host", "no route"),
        (ValueError("\n3 is odd\n"), "3 is odd", "3 is odd"),
        (OSError(), "OSError", "OSError"),
        (ValueError(" \n"), "ValueError", "ValueError"),
    ],
)
def test_an_error_is_said_in_one_line(error, whole, first):
    assert in_a_line(error) == whole
    assert first_line(error) == first
