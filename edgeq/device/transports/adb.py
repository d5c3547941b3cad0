"""An Android device over the system's `adb`: USB or network, whatever that client is connected to.

Every call names its serial. The client exits with 0 when a cable is pulled in the middle of a command, and with 1 for
failures of its own, so a command's exit status comes from the device: its shell says it last, after a word nobody
guesses. Bytes go there as files: the client does not reliably pass on the end of its own standard input.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shlex
from dataclasses import dataclass
from typing import ClassVar

from edgeq.device.transport import LONGEST_ANSWER, QUICK, TRANSPORTS, Completed, Listed, ShellTransport, call
from edgeq.errors import ConfigError, DeviceError, UnreachableError
from edgeq.scratch import scratch

__all__ = ["AdbTransport", "Attached", "find_attached", "only_serial"]

FOLDER = "/data/local/tmp"
"""The folder where Android lets its shell write files and run them; shared storage (`/sdcard`) runs nothing."""

INSTALL = "sudo apt-get install adb"

_STATES = {
    "offline": ("it is offline", "unplug it and plug it in again, or: adb reconnect offline"),
    "unauthorized": ("it has not accepted this computer's key", "unlock it and accept the question it asks"),
    "authorizing": ("it is still deciding about this computer's key", "unlock it and accept the question it asks"),
    "connecting": ("its connection is still being made", "wait a little, then run again"),
    "no permissions": (
        "this account may not use its USB port",
        "sudo apt-get install android-sdk-platform-tools-common, then: sudo usermod -aG plugdev $LOGNAME; log in again",
    ),
    "recovery": ("it is in recovery mode", "start Android on it: adb reboot"),
    "sideload": ("it is in recovery mode", "start Android on it: adb reboot"),
    "bootloader": ("it is in its bootloader", "start Android on it: fastboot reboot"),
}
"""States other than `device`, as `adb devices` names them: why it cannot be used, and what to do."""

_REMEDIES = (
    ("device offline", *_STATES["offline"]),
    ("unauthorized", *_STATES["unauthorized"]),
    ("no permissions", *_STATES["no permissions"]),
    ("insufficient permissions", *_STATES["no permissions"]),
    ("not found", "no device of that serial is connected", "adb devices lists those that are"),
    ("cannot connect to daemon", "the adb server does not start", "adb kill-server, then run again"),
    ("protocol fault", "client and server of adb do not match", "adb kill-server, then run again"),
)
"""What the client says when it, not the command, fails."""


@dataclass(frozen=True)
class Attached:
    """A device the adb server knows. `state` is ``device`` when it can be used."""

    serial: str
    state: str
    model: str

    def __str__(self) -> str:
        return f"adb:{self.serial} ({self.model or 'unknown model'}, {self.state})"


def find_attached() -> list[Attached]:
    """What the adb server sees, starting it when none runs. Raises `DeviceError`."""
    done = _adb(["devices", "-l"], "adb")
    if done.status:
        raise _adb_error("adb", done.stderr)
    devices = []
    for line in done.stdout.decode(errors="replace").splitlines():
        row = re.match(r"(\S+)\s+(no permissions|\S+)(.*)", line)
        if row and not line.startswith(("*", "adb ", "List of devices")):
            model = re.search(r"\bmodel:(\S+)", row[3])
            devices.append(Attached(row[1], row[2], model[1].replace("_", " ") if model else ""))
    return devices


def only_serial() -> str:
    """The one device that is ready. `ConfigError` lists them where several are, `DeviceError` says why none is."""
    known = find_attached()
    ready = [device for device in known if device.state == "device"]
    if len(ready) == 1:
        return ready[0].serial
    if len(ready or known) > 1:
        raise ConfigError(
            "several Android devices are connected",
            why=", ".join(map(str, known)),
            hint=f"say which: --device adb:{known[0].serial}",
        )
    if known:
        raise _unready(known[0])
    raise UnreachableError(
        "no Android device is connected",
        where="adb",
        hint="plug one in with USB debugging switched on, or: adb connect HOST:PORT",
    )


@TRANSPORTS.register("adb")
class AdbTransport(ShellTransport):
    """The Android device with this serial. It needs a shell that passes exit codes on: Android 7 or later."""

    forms: ClassVar = {"adb:SERIAL": "an Android device, over the system's adb; adb alone where one is connected"}
    shared = True
    runner = "benchmark_model"
    folder = f"{FOLDER}/edgeq"

    def __init__(self, serial: str, *, patience: float = 0.0) -> None:
        super().__init__(f"adb:{serial}", patience=patience)
        if not serial or serial.startswith("-") or any(sign.isspace() for sign in serial):
            raise ConfigError(f"no serial {serial!r}", hint="adb:SERIAL, as adb devices lists it")
        self.serial = serial
        self.remedy = f"remove that folder if another user made it: {self.by_hand(f'rm -rf {self.folder}')}"

    def lock_words(self, script: str) -> list[str]:
        return ["/bin/sh", "-c", script]  # on the machine that its cable is plugged into

    @property
    def lock_place(self) -> str:
        return f"-{hashlib.sha256(self.serial.encode()).hexdigest()[:12]}"

    @classmethod
    def matches(cls, name: str) -> bool:
        return name.partition(":")[0] == "adb"

    @classmethod
    def open(cls, name: str, *, runtime: str, patience: float) -> AdbTransport:
        return cls(name.partition(":")[2], patience=patience)

    @classmethod
    def full_name(cls, name: str) -> str:
        return f"adb:{only_serial()}" if name in ("adb", "adb:") else name

    @classmethod
    def listed(cls) -> list[Listed]:
        try:
            phones = find_attached()
        except DeviceError:  # no adb here: then there is nothing to list
            phones = []
        return super().listed() + [
            Listed(
                f"adb:{one.serial}",
                one.model or "Android",
                one.state == "device",
                f"{one.state}: edgeq device probe adb:{one.serial}",
            )
            for one in phones
        ]

    def by_hand(self, command: str) -> str:
        return f"adb -s {self.serial} shell {command}"

    def connect(self) -> None:
        """See that the device is there, ready, and says how commands end."""
        found = next((device for device in find_attached() if device.serial == self.serial), None)
        if found is None:
            hint = f"adb connect {self.serial}" if ":" in self.serial else "adb devices lists those that are"
            raise UnreachableError(
                "the device cannot be reached", where=self.name, why="no device of that serial is connected", hint=hint
            )
        if found.state != "device":
            raise _unready(found)
        done = _adb(["-s", self.serial, "features"], self.name)
        if done.status:
            raise _adb_error(self.name, done.stderr)
        if "shell_v2" not in done.stdout.decode(errors="replace").split():
            raise UnreachableError(
                "the device does not say how commands end",
                where=self.name,
                why="its adb daemon lacks shell_v2",
                hint="Android 7 or later is needed",
            )

    def execute(
        self, command: str, *, data: bytes | None = None, timeout: float = QUICK, limit: int = LONGEST_ANSWER
    ) -> Completed:
        if data is None:
            return self._shell(command, timeout, limit)
        given = f"{self.job}/{secrets.token_hex(6)}.in"
        with scratch() as folder:
            (folder / "in").write_bytes(data)
            done = _adb(["-s", self.serial, "push", str(folder / "in"), given], self.name, timeout)
        if done.status:
            printed = f"{done.stdout.decode(errors='replace')}\n{done.stderr}"
            why = re.search(r"remote (.*)", printed)
            if why is None:
                raise _adb_error(self.name, printed)
            self._shell(f"rm -f {shlex.quote(given)}", QUICK)
            return Completed(done.status, b"", why[1])
        quoted = shlex.quote(given)
        return self._shell(f"( {command}\n) < {quoted}; s=$?; rm -f {quoted}; exit $s", timeout, limit)

    def _shell(self, command: str, timeout: float, limit: int = LONGEST_ANSWER) -> Completed:
        word = f"edgeq-{secrets.token_hex(8)}"
        script = f'( {command}\n); s=$?; printf "\\n{word} %d\\n" $s >&2; exit $s'
        words = ["adb", "-s", self.serial, "shell", "-T", script]
        done = call(words, data=None, timeout=timeout, where=self.name, held=True, limit=limit)
        last = re.search(rf"\n?{word} ([0-9]{{1,3}})\r?\n", done.stderr)
        if last is None:
            raise _adb_error(self.name, done.stderr)
        return Completed(int(last[1]), done.stdout, done.stderr[: last.start()] + done.stderr[last.end() :])


def _adb(words: list[str], where: str, timeout: float = QUICK) -> Completed:
    try:
        return call(["adb", *words], data=None, timeout=timeout, where=where)
    except DeviceError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UnreachableError("adb is not installed here", where=where, hint=INSTALL) from error
        raise


def _unready(device: Attached) -> DeviceError:
    why, hint = _STATES.get(device.state, (f"its state is {device.state}", "adb devices -l says more"))
    return UnreachableError("the device cannot be used", where=f"adb:{device.serial}", why=why, hint=hint)


def _adb_error(name: str, printed: str) -> DeviceError:
    for sign, why, hint in _REMEDIES:
        if sign in printed.lower():
            return UnreachableError("the device cannot be reached", where=name, why=why, hint=hint)
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return UnreachableError(
        "the connection to the device is lost",
        where=name,
        why=lines[-1] if lines else "",
        hint="check its cable and screen, then run again: nothing half-written was left",
    )
