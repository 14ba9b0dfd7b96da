import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from multiprocessing import active_children, get_start_method
from pathlib import Path

import numpy as np
import pytest

from ddpm.data import workers
from ddpm.data.workers import ignore_signals, map_ahead
from tests.forked import ended, fork
from tests.until import until


def halved(x):
    """Half of an even number, with the number of the process that found it."""
    if x % 2:
        raise ValueError(f"x is {x}; legal are even numbers")
    return x // 2, os.getpid()


def array(side):
    """An array far beyond what a pipe holds."""
    return np.arange(side * side).reshape(side, side)


def dies(i, of, number):
    """Kills its own process at one of its arguments."""
    if i == of:
        os.kill(os.getpid(), number)
    return i


@pytest.fixture(autouse=True)
def no_process_is_left():
    before = set(active_children())
    yield
    assert set(active_children()) <= before


@pytest.mark.parametrize("processes", [0, 1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 2, 9])
def test_every_answer_comes_in_order_from_so_many_processes(processes, n):
    answers = list(map_ahead(halved, range(0, 2 * n, 2), processes))
    assert [value for value, _ in answers] == list(range(n))
    assert len({process for _, process in answers}) == min(max(processes, 1), n)


def test_answers_larger_than_a_pipe_come_whole():
    for side, found in zip((500, 600, 700), map_ahead(array, (500, 600, 700), 2), strict=True):
        assert np.array_equal(found, array(side))


def test_arguments_are_taken_only_as_they_are_needed():
    taken = []
    with closing(map_ahead(halved, (taken.append(i) or 2 * i for i in range(100)), 2)) as answers:
        next(answers)
        assert taken == [0, 1, 2]


@pytest.mark.parametrize("processes", [0, 2])
def test_what_the_function_raises_comes_at_its_turn_in_its_own_words(processes):
    answers = map_ahead(halved, [0, 2, 5, 6], processes)
    assert [next(answers)[0], next(answers)[0]] == [0, 1]
    with pytest.raises(ValueError, match=r"^x is 5; legal are even numbers$"):
        next(answers)


def test_a_negative_number_of_processes_is_refused():
    with pytest.raises(ValueError, match="workers is -1"):
        next(map_ahead(halved, [0], -1))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGXCPU])
def test_a_process_that_the_system_kills_ends_the_rest_in_one_line(number):
    answers = map_ahead(partial(dies, of=3, number=number), range(10), 2)
    with pytest.raises(ChildProcessError, match=f"was killed by {number.name}.* --workers 0 .* --shm-size$") as error:
        list(answers)
    assert "\n" not in str(error.value)


def test_a_process_that_is_killed_in_the_middle_of_an_answer_is_noticed():
    """The answer fills its pipe long before it is whole, and nobody will ever send the rest."""
    before = set(active_children())
    answers = map_ahead(array, [1000] * 4, 1)
    next(answers)
    (reader,) = set(active_children()) - before
    time.sleep(0.2)  # it has begun the next answer
    reader.kill()
    with pytest.raises(ChildProcessError, match="was killed by SIGKILL"):
        list(answers)


def test_a_process_that_cannot_start_is_one_line_and_leaves_none(monkeypatch):
    start, started = workers.Process.start, []

    def second_fails(process):
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(start(process))

    monkeypatch.setattr(workers.Process, "start", second_fails)
    with pytest.raises(ChildProcessError, match=r"could not be started \(.*unavailable\); --workers 0 reads without"):
        list(map_ahead(halved, [0, 2], 2))


def test_processes_end_when_the_program_is_killed(tmp_path):
    def program():
        with closing(map_ahead(halved, range(0, 1000, 2), 2)) as answers:
            seen = {next(answers)[1] for _ in range(4)}
            (tmp_path / "readers.part").write_text(" ".join(map(str, seen)))
            (tmp_path / "readers.part").rename(tmp_path / "readers")
            time.sleep(60)

    killed = fork(program)
    until((tmp_path / "readers").exists)
    readers = [int(number) for number in (tmp_path / "readers").read_text().split()]
    os.kill(killed, signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    until(lambda: not any(runs(reader) for reader in readers), seconds=10)


@pytest.mark.long
def test_a_program_ends_although_it_has_left_processes_open():
    program = "from ddpm.data.workers import map_ahead; left = map_ahead(len, ['one'] * 9, 2); print(next(left))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


def runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_ignores_the_signals_that_are_the_programs():
    def program():
        ignore_signals()
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)

    assert ended(fork(program)) == 0


@pytest.mark.skipif(get_start_method() != "fork", reason="the function is replaced in what a process inherits")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_before_a_process_ignores_it_ends_none_and_reaches_the_program(monkeypatch, number):
    program, heard = os.getpid(), []

    def hear(*_):
        if os.getpid() != program:
            os._exit(1)  # as without a handler
        heard.append(number)

    def signals_then_ignores():
        os.kill(os.getpid(), number)
        os.kill(program, number)
        ignore_signals()

    monkeypatch.setattr(workers, "ignore_signals", signals_then_ignores)
    before = signal.signal(number, hear)
    try:
        assert [value for value, _ in map_ahead(halved, [0, 2, 4], 2)] == [0, 1, 2]
    finally:
        signal.signal(number, before)
    assert heard
