"""The one clock, with a clock of our own: what is timed, and in which order. And the machine as a folder."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.device.runners.agent import machine as facts
from edgeq.device.runners.agent.timing import timed_in_turns

REQUEST = {"least": 50, "most": 400, "seconds": 4.0, "longest": 450.0, "warmup": 0.2, "cooldown": 0.0}


class Machine:
    """Seconds that pass only when something runs; `log` hears what ran."""

    def __init__(self) -> None:
        self.now, self.log = 0.0, ""

    def runs(self, **milliseconds: Iterator[float] | float) -> dict[str, Callable[[], None]]:
        """One inference of each takes so long, or the next of so many."""

        def inference(name: str, cost: Iterator[float] | float) -> Callable[[], None]:
            def run() -> None:
                self.now += (cost if isinstance(cost, float) else next(cost)) / 1000
                self.log += name[0]

            return run

        return {name: inference(name, cost) for name, cost in milliseconds.items()}


def timed(given: dict[str, Any], **milliseconds: Any) -> tuple[dict[str, Any], str]:
    machine = Machine()
    found = timed_in_turns(machine.runs(**milliseconds), REQUEST | given, clock=lambda: machine.now)
    return found, machine.log


def test_pairs_fill_the_time_that_is_given() -> None:
    found, _ = timed({}, float=20.0, model=10.0)
    assert {name: len(values) for name, values in found["samples"].items()} == {"float": 134, "model": 134}
    assert found["samples"]["model"][0] == pytest.approx(10.0)
    assert found["inferences_per_run"] == 1


def test_they_take_turns_and_who_is_first_alternates() -> None:
    _, log = timed({"warmup": 0.0}, float=100.0, model=100.0)
    assert log[:6] == "fffmmm"
    assert log[6:14] == "fmmf" * 2
    assert len(log) == 6 + 2 * 50  # the floor, although 50 pairs take 10 s
    assert gc.isenabled()


def test_short_inferences_are_repeated_and_pairs_are_bounded() -> None:
    found, _ = timed({}, float=0.02, model=0.01)
    assert found["inferences_per_run"] == 200
    assert len(found["samples"]["model"]) == 400
    assert found["samples"]["model"][0] == pytest.approx(0.01)


def test_a_very_slow_file_ends_with_too_few_pairs() -> None:
    found, _ = timed({"warmup": 0.0}, model=200_000.0)
    assert len(found["samples"]["model"]) == 3


def test_a_file_alone() -> None:
    found, log = timed({"least": 2, "most": 1, "warmup": 0.0}, model=5.0)
    assert (log, found["samples"].keys()) == ("m" * 5, {"model"})


def folder(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def test_a_moment(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu"
    files = {
        f"{cpu}0/cpufreq/scaling_cur_freq": "1500000\n",
        f"{cpu}1/cpufreq/scaling_cur_freq": "600000\n",
        f"{cpu}0/cpufreq/scaling_governor": "schedutil\n",
        f"{cpu}0/thermal_throttle/core_throttle_count": "3\n",
        f"{cpu}1/thermal_throttle/core_throttle_count": "1\n",
        "sys/class/thermal/thermal_zone0/temp": "41200\n",
        "sys/class/thermal/thermal_zone1/temp": "-274000\n",
        "proc/stat": "cpu  100 0 50 999 7 0 0 25 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n",
    }
    moment = facts.moment(folder(tmp_path, files))
    assert moment["frequency_khz"] == {0: 1_500_000, 1: 600_000}
    assert (moment["temperature_c"], moment["heat_events"], moment["governors"]) == (41.2, 4, {"cpu0": "schedutil"})
    assert moment["busy"] == pytest.approx(6 * moment["stolen"])  # 150 ticks against 25


def test_nothing_readable_is_said_so(tmp_path: Path) -> None:
    moment = facts.moment(str(tmp_path))
    assert (moment["busy"], moment["stolen"], moment["temperature_c"], moment["frequency_khz"]) == (
        None,
        None,
        None,
        {},
    )


@pytest.mark.parametrize(
    ("files", "architecture", "pretends"),
    [
        ({"proc/cpuinfo": "vendor_id : AuthenticAMD\n"}, "aarch64", True),
        ({"proc/sys/kernel/arch": "x86_64\n"}, "aarch64", True),
        ({"sys/devices/system/cpu/modalias": "cpu:type:x86,ven0002fam0019\n"}, "armv7l", True),
        ({"proc/cpuinfo": "model name : QEMU TCG CPU version 2.5+\n"}, "x86_64", True),
        ({"proc/sys/kernel/arch": "aarch64\n"}, "armv8l", False),  # a narrower mode of the same processor
        ({"proc/sys/kernel/arch": "x86_64\n"}, "i686", False),
        ({"proc/sys/kernel/arch": "x86_64\n", "proc/cpuinfo": "vendor_id : GenuineIntel\n"}, "x86_64", False),
    ],
)
def test_emulation_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], architecture: str, pretends: bool
) -> None:
    monkeypatch.delenv("EDGEQ_EMULATED", raising=False)
    monkeypatch.setattr(facts.platform, "machine", lambda: architecture)
    assert bool(facts.emulated(folder(tmp_path, files))) == pretends


def test_big_cores_come_from_the_system(tmp_path: Path) -> None:
    for core, speed in enumerate((1_800_000, 1_800_000, 2_400_000, 2_400_000)):
        folder(tmp_path, {f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq": f"{speed}\n"})
    assert facts.big_cores(str(tmp_path)) == [2, 3]
    assert facts.big_cores(str(tmp_path / "nothing")) == []
