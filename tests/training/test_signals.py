import os
import signal
import threading
from contextlib import contextmanager

import pytest

from ddpm.training.signals import Stopped, StopSignals


@contextmanager
def handled(number, handler):
    """A context in which a signal has a handler of the test's own."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_only_sets_the_name(number, name):
    heard = []
    with handled(number, lambda *_: heard.append(number)), StopSignals() as signals:
        assert signals.name is None
        signal.raise_signal(number)
        assert signals.name == name
    assert heard == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_handler_is_back_afterwards(number):
    def own(*_):
        pass

    with handled(number, own):
        with StopSignals():
            assert signal.getsignal(number) is not own
        assert signal.getsignal(number) is own


def test_the_handler_is_back_after_a_signal_and_after_an_error():
    def own(*_):
        pass

    def fail():
        with StopSignals():
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError

    with handled(signal.SIGINT, own):
        with pytest.raises(RuntimeError):
            fail()
        assert signal.getsignal(signal.SIGINT) is own


def test_a_second_ctrl_c_acts_as_before():
    heard = []
    with handled(signal.SIGINT, lambda *_: heard.append("Ctrl-C")), StopSignals():
        signal.raise_signal(signal.SIGINT)
        assert heard == []
        signal.raise_signal(signal.SIGINT)
        assert heard == ["Ctrl-C"]


def test_a_second_ctrl_c_ends_a_program_that_listens_to_none():
    with handled(signal.SIGINT, signal.default_int_handler), StopSignals():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_changes_nothing():
    """Launchers pass on what the whole group has received already."""
    heard = []
    with handled(signal.SIGTERM, lambda *_: heard.append("SIGTERM")), StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.name == "SIGTERM"
    assert heard == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ignored_signal_stays_ignored(number):
    with handled(number, signal.SIG_IGN), StopSignals() as signals:
        assert signal.getsignal(number) is signal.SIG_IGN
        os.kill(os.getpid(), number)
        assert signals.name is None


def test_in_another_thread_nothing_changes():
    before, inside, names = signal.getsignal(signal.SIGTERM), [], []

    def work():
        with StopSignals() as signals:
            inside.append(signal.getsignal(signal.SIGTERM))
            names.append(signals.name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (inside, names) == ([before], [None])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stopped_training_is_a_keyboard_interrupt():
    """So that a program that catches errors alone does not go on as if it were trained."""
    assert issubclass(Stopped, KeyboardInterrupt)
    assert not issubclass(Stopped, Exception)
