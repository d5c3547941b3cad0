"""How many threads: what the machine gives, what runs beside, how large the network is, and what was said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgeq import threads
from edgeq.threads import SMALL, Choice, Load, available, choose, load, sleep_while_waiting, threads_restored, work_with

LARGE = SMALL  # multiply-accumulates of one image


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: set(range(8)))


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"proc/self/cgroup": "0::/\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"}, 2),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/cpu.max": "600000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "300000 100000\n",
            },
            3,
        ),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "20000 100000\n"}, 1),
        ({"proc/self/cgroup": "0::/gone\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "nonsense\n"}, 8),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "9900000 100000\n"}, 8),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            5,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu:/x\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
    ],
    ids=[
        "no files",
        "v2, no limit",
        "v2, max",
        "v2, quota",
        "v2, the group around it has less",
        "less than a core",
        "the path is outside the container",
        "not readable",
        "more than there are",
        "v1 in a container",
        "v1, no limit",
    ],
)
@pytest.mark.usefixtures("eight")
def test_cores_are_those_of_the_affinity_or_of_the_quota(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert available(write(tmp_path, files)) == cores


def stat(busy: list[int], idle: list[int], running: int) -> str:
    lines = [f"cpu{i} {b} 0 0 {f} 0 0 0 0 0 0" for i, (b, f) in enumerate(zip(busy, idle, strict=True))]
    return "\n".join(["cpu 1 2 3 4 5 6 7 8 0 0", *lines, "intr 1 2", f"procs_running {running}"]) + "\n"


def test_load_is_what_the_cores_did_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1})  # the other two cores are not ours
    monkeypatch.setattr(threads.time, "process_time", lambda: 0.0)
    write(tmp_path, {"proc/stat": stat([0, 0, 0, 0], [0, 0, 0, 0], 5)})
    later = stat([10, 5, 10, 10], [0, 5, 0, 0], 5)
    found = load(tmp_path, sleep=lambda _: write(tmp_path, {"proc/stat": later}) and None)
    assert found == Load(2, 1.5, 2.0)
    assert found.free == 1  # of two, one and a half are taken: never less than one


def test_without_proc_the_load_average_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(os, "getloadavg", lambda: (2.0, 9.0, 9.0), raising=False)
    assert load(tmp_path) == Load(4, 2.0, 2.0)


def test_load_of_this_machine_can_be_read() -> None:
    found = load(sleep=lambda _: None)
    assert found.cores >= found.free >= 1
    assert 0 <= found.busy <= found.cores


@pytest.mark.parametrize(
    ("found", "threads", "slowdown"),
    [
        (Load(4, 0.0, 0.0), 4, 1.0),
        (Load(4, 2.1, 2.0), 2, 1.0),
        (Load(2, 2.0, 3.0), 1, 2.0),
        (Load(2, 2.0, 8.0), 2, 5.0),
    ],
)
def test_a_busy_machine_takes_as_much_longer_as_threads_share_its_cores(
    found: Load, threads: int, slowdown: float
) -> None:
    assert found.slowdown(threads) == pytest.approx(slowdown)


@pytest.mark.parametrize(
    ("requested", "told", "macs", "images", "found", "number", "why"),
    [
        (3, "5", 1, 1, Load(2, 2.0, 2.0), 3, "as requested"),
        (None, "5", LARGE, 1, Load(2, 2.0, 2.0), 5, "OMP_NUM_THREADS"),
        (None, "2,1", LARGE, 1, Load(4, 0.0, 0.0), 2, "OMP_NUM_THREADS"),
        (None, "many", LARGE, 1, Load(4, 0.0, 0.0), 4, "4 cores may be used"),
        (None, "", SMALL // 100, 32, Load(8, 0.0, 0.0), 1, "the network is small"),
        (None, "", SMALL // 20, 32, Load(8, 0.0, 0.0), 8, "8 cores may be used"),
        (None, "", SMALL // 50, 320, Load(8, 0.0, 0.0), 1, "the network is small"),  # 32 go through it at once
        (None, "", LARGE, 1, Load(1, 0.0, 0.0), 1, "one core may be used"),
        (None, "", LARGE, 1, Load(8, 4.9, 6.0), 3, "8 cores may be used, others keep about 4.9 busy"),
        (None, "", LARGE, 1, Load(2, 2.0, 2.0), 1, "2 cores may be used, others keep about 2.0 busy"),
    ],
)
def test_threads_are_as_said_or_suit_network_and_machine(
    requested: int | None, told: str, macs: int, images: int, found: Load, number: int, why: str
) -> None:
    environment = {"OMP_NUM_THREADS": told} if told else {}
    assert choose(requested, macs, images, environment=environment, look=lambda: found) == Choice(number, why)


def test_a_choice_reads_as_a_sentence_part() -> None:
    assert str(Choice(1, "as requested")) == "1 thread (as requested)"
    assert str(Choice(2, "as requested")) == "2 threads (as requested)"


def test_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()

    @threads_restored()
    def fail() -> None:
        work_with(Choice(before + 1, "as requested"))
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_num_threads() == before


def test_waiting_threads_sleep_unless_the_user_said_otherwise() -> None:
    environment = {"OMP_WAIT_POLICY": "ACTIVE", "PATH": "/bin"}
    sleep_while_waiting(environment)
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"
    assert (environment["GOMP_SPINCOUNT"], environment["KMP_BLOCKTIME"]) == ("0", "0")


def test_the_command_sets_it_before_torch_and_the_library_never() -> None:
    script = """
import json, os, sys
before = dict(os.environ)
import edgeq, edgeq.threads, edgeq.cli
same, late = dict(os.environ) == before, "torch" in sys.modules or "numpy" in sys.modules
sys.argv = ["edgeq", "version"]
try:
    edgeq.cli.main()
except SystemExit:
    pass
print(json.dumps([same, late, os.environ.get("GOMP_SPINCOUNT")]))
"""
    variables = {name: value for name, value in os.environ.items() if name not in threads._WAITING}
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True, timeout=300
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [True, False, "0"]
