import os
import subprocess
import sys

import psutil
import pytest
import torch

from ddpm import threads
from ddpm.threads import choose_threads, computing_with, free_cores


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process that has chosen nothing yet, whose torch would take four threads; it has its own number back after."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "_choice", None)
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def machine(monkeypatch, *percent, own=None):
    """A machine whose cores are busy by so much, and the cores that this process may use."""
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: list(percent))
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(own or range(len(percent))), raising=False)
    monkeypatch.setattr(threads, "ROOT", threads.Path("nowhere"))


# What is chosen.


def test_the_number_that_is_asked_for_is_set():
    assert choose_threads(3) == 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("asked", [0, -1, 1.5, "2", True])
def test_a_number_that_is_none_is_refused_and_nothing_is_set(asked):
    with pytest.raises(ValueError, match=f"^threads is {asked!r}; it must be an integer from 1 up$"):
        choose_threads(asked)
    assert torch.get_num_threads() == 4


def test_without_one_torch_takes_the_cores_that_are_free(monkeypatch):
    machine(monkeypatch, 0, 100, 3, 98)
    assert choose_threads() == 2
    assert torch.get_num_threads() == 2


def test_it_is_never_more_than_torchs_own(monkeypatch):
    """Which is one thread for two halves of a core, or what a program has set."""
    machine(monkeypatch, *[0] * 16)
    assert choose_threads() == 4


def test_what_somebody_has_set_outside_stays(monkeypatch):
    machine(monkeypatch, 100, 100, 100, 100)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose_threads() == 4


def test_what_is_asked_for_wins_over_what_was_set_outside(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert choose_threads(2) == 2


def test_the_first_choice_stays_unless_another_is_asked_for(monkeypatch):
    machine(monkeypatch, 0, 0, 100, 100)
    assert choose_threads() == 2
    machine(monkeypatch, 0, 0, 0, 0)
    assert choose_threads() == 2
    assert choose_threads(3) == 3
    assert choose_threads() == 3


def test_the_choice_is_set_again_where_a_program_has_raised_it_and_its_own_lower_number_stays(monkeypatch):
    machine(monkeypatch, 0, 0, 100, 100)
    choose_threads()
    torch.set_num_threads(4)
    assert choose_threads() == torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert choose_threads() == torch.get_num_threads() == 1


def test_the_processes_of_a_launcher_share_the_cores_of_their_machine(monkeypatch):
    machine(monkeypatch, 0, 0, 0, 0)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_threads() == 2


def test_a_number_may_hold_for_a_while():
    with computing_with(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


# What is free.


@pytest.mark.parametrize(
    ("percent", "free"),
    [
        ((0, 0), 2),
        ((55, 50), 1),  # one process that changes its core
        ((10, 15), 2),
        ((100, 100), 1),
        ((100,), 1),
        ((0, 60, 0, 100), 2),
    ],
)
def test_a_busy_core_is_not_free_and_one_remains(percent, free, monkeypatch):
    machine(monkeypatch, *percent)
    assert free_cores() == free


def test_only_the_cores_that_the_process_may_use_count(monkeypatch):
    machine(monkeypatch, 0, 0, 100, 0, 0, 0, own=[1, 2, 3])
    assert free_cores() == 2


def test_a_core_that_the_system_says_nothing_of_counts_as_free(monkeypatch):
    machine(monkeypatch, 0, 0, own=[6, 7])
    assert free_cores() == 2


def test_a_system_that_does_not_say_how_busy_it_is_is_idle(monkeypatch):
    machine(monkeypatch, 0, 0, 0)

    def hidden(*_, **__):
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_percent", hidden)
    assert free_cores() == 3


BUSY = "while True: pass"


@pytest.mark.long
def test_beside_busy_processes_there_is_one_core():
    """Real ones, as many as there are cores."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in psutil.Process().cpu_affinity()]
    try:
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        program = "from ddpm.threads import choose_threads; print(choose_threads())"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert done.stdout == "1\n", done.stderr


# What a container grants.


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


V1 = "sys/fs/cgroup/cpu/"
GROUPS = {
    "version 2, a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
    "a part of a core": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    "one and a half": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1),
    "no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    "a service, whose parent has the limit": (
        {
            "proc/self/cgroup": "0::/jobs/mine\n",
            "sys/fs/cgroup/jobs/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/jobs/mine/cpu.max": "max 100000\n",
        },
        2,
    ),
    "version 1, seen from within": (
        {
            "proc/self/cgroup": "12:memory:/docker/ab\n4:cpu,cpuacct:/docker/ab\n",
            V1 + "cpu.cfs_quota_us": "200000\n",
            V1 + "cpu.cfs_period_us": "100000\n",
        },
        2,
    ),
    "version 1, no limit": (
        {"proc/self/cgroup": "3:cpu:/\n", V1 + "cpu.cfs_quota_us": "-1\n", V1 + "cpu.cfs_period_us": "100000\n"},
        8,
    ),
    "both versions, neither with a limit": ({"proc/self/cgroup": "3:cpu:/\n0::/\n"}, 8),
    "a file of another form": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "\n"}, 8),
}


@pytest.mark.parametrize(("files", "cores"), GROUPS.values(), ids=GROUPS)
def test_a_quota_is_a_number_of_cores(files, cores, tmp_path, monkeypatch):
    machine(monkeypatch, *[0] * 8)
    tree(tmp_path, files)
    monkeypatch.setattr(threads, "ROOT", tmp_path)
    assert free_cores() == cores


@pytest.mark.parametrize(
    ("limit", "usage", "before", "after"),
    [
        ({"cpu.max": "400000 100000"}, "cpu.stat", "usage_usec 1000000\nuser_usec 7\n", "usage_usec {}000000\n"),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, "cpu/cpuacct.usage",
         "1000000000\n", "{}000000000\n"),
    ],
    ids=["version 2", "version 1"],
)  # fmt: skip
def test_what_runs_in_the_same_container_uses_its_quota_and_what_runs_outside_does_not(
    limit, usage, before, after, tmp_path, monkeypatch
):
    """A quota of four cores, two of them in use, on a machine of 64 that is half busy."""
    folder = tmp_path / "sys/fs/cgroup"
    line = "0::/" if "cpu.max" in limit else "1:cpuacct,cpu:/"
    tree(tmp_path, {"proc/self/cgroup": line + "\n"})
    tree(folder, {**limit, usage: before})
    machine(monkeypatch, *[100] * 32, *[0] * 32)
    clock = iter([10.0, 11.0])
    monkeypatch.setattr(threads.time, "monotonic", lambda: next(clock))

    def watched(interval, percpu):
        (folder / usage).write_text(after.format(3))
        return [100] * 32 + [0] * 32

    monkeypatch.setattr(psutil, "cpu_percent", watched)
    monkeypatch.setattr(threads, "ROOT", tmp_path)
    assert free_cores() == 2


def test_more_threads_than_any_machine_has_cores_are_refused():
    with pytest.raises(ValueError, match="threads is 20000; it must be an integer from 1 to 4,096"):
        threads.choose_threads(20_000)
