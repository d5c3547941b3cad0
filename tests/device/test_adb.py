"""The real `adb` client against a phone of ours: which device is meant, what stands in its way, and cables pulled."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.open import open_device
from edgeq.device.transports.adb import AdbTransport, find_attached, only_serial
from edgeq.errors import ConfigError, DeviceError
from tests.device.daemon import Phone
from tests.device.tiny import tiny_model

Phones = Callable[..., Phone]


def _await(phone: Phone, *states: str) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if any(device.serial == phone.serial and device.state in states for device in find_attached()):
            return
        time.sleep(0.1)
    raise AssertionError(f"{phone.serial} never became {states}: {find_attached()}")


def _files(phone: Phone) -> list[Path]:
    return [path for path in (phone.root / "data/local/tmp").rglob("*") if path.is_file()]


def test_one_phone_needs_no_serial(phone: Phone) -> None:
    with open_device("adb") as device:
        assert device.name == f"adb:{phone.serial}"
        assert device.root == str(phone.root / "data/local/tmp/edgeq")


def test_several_phones_are_listed(phones: Phones, tmp_path: Path) -> None:
    both = [phones().serial, phones().serial]
    with pytest.raises(ConfigError, match="several Android devices") as caught:
        only_serial()
    assert caught.value.exit_status == 2
    assert all(f"adb:{serial} (Test Phone, device)" in str(caught.value) for serial in both)
    done = CliRunner().invoke(cli, ["bench", str(tiny_model(tmp_path / "tiny")), "--device", "adb"])
    assert done.exit_code == 2, done.output
    with open_device(f"adb:{both[1]}") as device:  # with a serial there is no question
        assert device.run(["true"], timeout=120).status == 0


def test_every_call_names_the_serial(phones: Phones) -> None:
    other, meant = phones(), phones()
    with AdbTransport(meant.serial) as device:
        device.push(b"weights", "model.tflite")
        assert device.run(["true"], timeout=120).status == 0
    assert other.asked == []
    assert any(service.startswith("sync:") for service in meant.asked)


def test_an_offline_phone_does_not_stand_in_the_way(phones: Phones) -> None:
    off, ready = phones(), phones()
    off.close()
    _await(off, "offline")
    assert only_serial() == ready.serial


def test_no_phone_at_all(adb_server: None) -> None:
    with pytest.raises(DeviceError, match=r"no Android device is connected.*USB debugging") as caught:
        open_device("adb")
    assert caught.value.exit_status == 4


def test_an_unknown_serial_says_how_to_connect(phone: Phone) -> None:
    with pytest.raises(DeviceError, match=r"no device of that serial.*adb devices"), AdbTransport("R58M1"):
        pass
    with pytest.raises(DeviceError, match=r"no device of that serial.*adb connect 10\.0\.0\.9:5555"):
        AdbTransport("10.0.0.9:5555").connect()


def test_an_offline_phone_has_a_remedy(phone: Phone) -> None:
    phone.close()
    _await(phone, "offline")
    with pytest.raises(DeviceError, match=r"it is offline.*adb reconnect offline"), AdbTransport(phone.serial):
        pass


def test_a_phone_that_was_not_allowed_has_a_remedy(phone: Phone) -> None:
    phone.authorized = False
    phone.drop()
    _await(phone, "unauthorized")
    with pytest.raises(DeviceError, match=r"has not accepted this computer's key.*unlock it"):
        AdbTransport(phone.serial).connect()
    with pytest.raises(DeviceError, match="has not accepted this computer's key"):
        AdbTransport(phone.serial).execute("true")  # the client's own words, when it happens later
    with pytest.raises(DeviceError, match="has not accepted this computer's key"):
        open_device("adb")


@pytest.mark.parametrize(
    ("line", "why", "hint"),
    [
        (
            "0123 no permissions (user in plugdev group; are your udev rules wrong?); see [url] usb:1-1",
            "USB",
            "plugdev",
        ),
        ("0123 recovery usb:1-1 product:x model:y", "recovery mode", "adb reboot"),
        ("0123 bootloader usb:1-1", "bootloader", "fastboot reboot"),
        ("0123 host usb:1-1", "its state is host", "adb devices -l"),
        ("adb server version (40) doesn\\047t match this client (41)", "no device of that serial", "adb devices"),
    ],
)
def test_other_states_as_the_client_prints_them(
    line: str, why: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adb = tmp_path / "adb"
    adb.write_text(f"#!/bin/sh\nprintf 'List of devices attached\\n%s\\n\\n' '{line}'\n")
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DeviceError, match=f"{why}.*{hint}") as caught:
        AdbTransport("0123").connect()
    assert caught.value.exit_status == 4


def test_without_adb_the_line_that_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="sudo apt-get install adb"):
        open_device("adb")


def test_a_phone_too_old_for_exit_codes_is_refused(phones: Phones) -> None:
    phone = phones(features="cmd")
    with pytest.raises(DeviceError, match=r"lacks shell_v2.*Android 7"), AdbTransport(phone.serial):
        pass


@pytest.mark.parametrize("serial", ["", "-s", "two words", "new\nline"])
def test_what_is_no_serial(serial: str) -> None:
    with pytest.raises(ConfigError, match="no serial"):
        AdbTransport(serial)


def test_a_full_phone_says_so_and_keeps_nothing(phone: Phone) -> None:
    with AdbTransport(phone.serial) as device:
        phone.full = True
        with pytest.raises(DeviceError, match=r"No space left.*free some space"):
            device.push(b"x" * 1000, "model.tflite")
        phone.full = False
        assert device.pull(device.push(b"x" * 1000, "model.tflite")) == b"x" * 1000
    assert len(_files(phone)) == 1


def test_a_folder_of_another_user_is_named(phone: Phone) -> None:
    (phone.root / "data/local/tmp/edgeq").write_text("somebody's file")
    said = pytest.raises(DeviceError, match=r"cannot be written.*rm -rf /data/local/tmp/edgeq")
    with said, AdbTransport(phone.serial) as device:
        device.push(b"x", "model.tflite")
    (phone.root / "data/local/tmp/edgeq").unlink()
    with AdbTransport(phone.serial) as device:
        assert device.pull(device.push(b"x", "model.tflite")) == b"x"


def test_a_cable_pulled_while_pushing_leaves_nothing_half_written(phone: Phone) -> None:
    data = bytes(range(256)) * 2000
    with AdbTransport(phone.serial) as device:
        assert device.job
        phone.cut = 100_000
        with pytest.raises(DeviceError, match="connection to the device is lost") as caught:
            device.push(data, "model.tflite")
        assert caught.value.exit_status == 4
    assert not [path for path in _files(phone) if "files" in path.parts]
    phone.cut = None
    _await(phone, "device")
    with AdbTransport(phone.serial) as device:
        assert device.pull(device.push(data, "model.tflite")) == data


def test_a_cable_pulled_while_running_is_no_success(phone: Phone) -> None:
    """The client itself exits with 0 then, and says nothing."""
    with AdbTransport(phone.serial) as device:
        cut = threading.Timer(0.5, phone.drop)
        cut.start()
        with pytest.raises(DeviceError, match="connection to the device is lost"):
            device.run(["sleep", "60"], timeout=120)
        cut.join()
    _await(phone, "device")
    with AdbTransport(phone.serial) as device:
        assert device.run(["echo", "back"], timeout=120).stdout == b"back\n"


def test_garbage_on_both_outputs_is_the_commands_own(phone: Phone) -> None:
    with AdbTransport(phone.serial) as device:
        done = device.run(["sh", "-c", "printf '\\377\\000x'; printf '\\377edgeq-1 0' >&2; exit 3"], timeout=120)
    assert (done.status, done.stdout) == (3, b"\xff\0x")
    assert done.stderr.endswith("edgeq-1 0")


def test_the_phone_double_keeps_to_the_protocol(phone: Phone, tmp_path: Path) -> None:
    """What edgeq does not use of it: listing and fetching files, and a request to restart, which is refused."""
    (phone.root / "data/local/tmp/folder").mkdir()
    (phone.root / "data/local/tmp/folder/a b").write_bytes(bytes(range(256)) * 500)
    one = ["adb", "-s", phone.serial]
    assert b"a b" in subprocess.run([*one, "ls", "/data/local/tmp/folder"], capture_output=True, check=True).stdout
    subprocess.run([*one, "pull", "/data/local/tmp/folder", str(tmp_path / "got")], capture_output=True, check=True)
    assert (tmp_path / "got/a b").read_bytes() == bytes(range(256)) * 500
    missing = subprocess.run([*one, "pull", "/data/nothing", str(tmp_path / "no")], capture_output=True)
    assert missing.returncode == 1
    assert b"does not exist" in missing.stdout + missing.stderr
    assert b"closed" in subprocess.run([*one, "reboot"], capture_output=True).stderr
