"""Devices to test on: this machine, a board and phones on the loopback, and an emulated Arm where one is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeq.device.userland import Userland, find_userland
from edgeq.errors import DeviceError
from tests.device.daemon import Phone
from tests.device.loopback import Board, MissingError, adb_environment, board_at, connected, executable


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    try:
        with board_at(tmp_path / "ssh") as found:
            monkeypatch.setenv("EDGEQ_SSH_CONFIG", str(found.config))
            yield found
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def adb_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An adb server of this test alone."""
    try:
        with adb_environment(tmp_path / "adb-home") as settings:
            for name, value in settings.items():
                if value is None:
                    monkeypatch.delenv(name, raising=False)
                else:
                    monkeypatch.setenv(name, value)
            yield
    except MissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def phones(tmp_path: Path, adb_server: None) -> Iterator[Callable[..., Phone]]:
    """Makes phones, each connected to this test's adb server."""
    made: list[Phone] = []

    def another(**given: str) -> Phone:
        made.append(connected(tmp_path / f"phone{len(made)}", **given))
        return made[-1]

    yield another
    for phone in made:
        phone.close()


@pytest.fixture
def phone(phones: Callable[..., Phone]) -> Phone:
    return phones()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A `benchmark_model` for phones."""
    return executable(
        tmp_path / "benchmark_model", f'exec {sys.executable} {Path(__file__).with_name("standin.py")} "$@"'
    )


@pytest.fixture
def userland() -> Userland:
    try:
        return find_userland()
    except DeviceError as error:
        pytest.skip(f"no emulated Arm here: {error.hint}")


def arm_python(board: Board, userland: Userland, runtime: str, cpu: str = "cortex-a72") -> None:
    """Make `python3` on the board that of an emulated `cpu`, with the wheels of `runtime`."""
    given = " ".join(f"{key}={value}" for key, value in userland.environment(cpu).items())
    path = f"${{PYTHONPATH:-}}:{userland.wheels(runtime)}:{userland.root / 'usr/lib/python3.11'}"
    command = " ".join(userland.python(cpu))
    executable(board.shims / "python3", f'{given} PYTHONPATH="{path}" EDGEQ_PYTHON=\'["python3"]\' exec {command} "$@"')
