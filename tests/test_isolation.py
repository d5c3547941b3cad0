"""What happens in a process of its own stays there, except for its answer."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from edgeq import isolation
from edgeq.config.targets import load_target
from edgeq.errors import ArtifactError, ConfigError
from edgeq.isolation import Isolated, alive, read_untrusted, run_isolated


def test_answers_and_errors_come_back():
    assert run_isolated(json.loads, '{"a": [1, 2]}') == {"a": [1, 2]}
    with pytest.raises(json.JSONDecodeError):
        run_isolated(json.loads, "{")
    with pytest.raises(ConfigError, match="did you mean") as caught:
        run_isolated(load_target, "tflite-armm")
    assert caught.value.what == "unknown target 'tflite-armm'"


def test_a_death_is_an_error_with_its_cause():
    with pytest.raises(ArtifactError, match="crashed on this file: ended by SIGABRT"):
        run_isolated(os.abort)
    with pytest.raises(ArtifactError, match="ended with status 7"):
        run_isolated(os._exit, 7)


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import math\nfrom edgeq.isolation import run_isolated\nprint('once', run_isolated(math.sqrt, 9.0))\n"
    )
    assert subprocess.check_output([sys.executable, str(script)], text=True) == "once 3.0\n"


def _loop():
    while True:
        time.sleep(1)


class Beating:
    """A connection to work that gives `signs` signs of life before its result."""

    def __init__(self, signs):
        self.messages, self.waited = [("alive", None)] * signs + [("result", "done")], []

    def poll(self, patience):
        self.waited.append(patience)
        return True

    def recv(self):
        return self.messages.pop(0)


def _work(seconds):
    isolation._HEARTBEAT = 0.05  # in the other process alone
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        alive()
        time.sleep(0.01)
    return "done"


def _explode():
    with read_untrusted("model.onnx cannot be loaded"):
        return bytearray(1 << 50)


def _noise():
    os.write(1, b"\x1b[32mpassed\x1b[0m\n" * 3)
    os.write(2, b"\x1b[2Jfatal: no such op\n")
    os.abort()


class Counter:
    def __init__(self, start):
        self.value = start

    def add(self, step):
        self.value += step
        return self.value

    def die(self):
        os.kill(os.getpid(), signal.SIGSEGV)


def test_what_is_stuck_is_ended_and_what_gets_on_is_not(monkeypatch):
    assert run_isolated(_work, 0.5) == "done"  # with signs of life in between
    process = object.__new__(isolation._Process)
    process._ours = Beating(3)  # type: ignore[assignment]
    assert process._receive() == ("result", "done")
    assert process._ours.waited == [isolation.PATIENCE] * 4  # type: ignore[attr-defined]  # anew after every sign
    monkeypatch.setattr(isolation, "PATIENCE", 0.3)
    with pytest.raises(ArtifactError, match="got stuck on this file: no sign of life"):
        run_isolated(_loop)


def test_memory_has_an_end():
    with pytest.raises(ArtifactError, match=r"model.onnx cannot be loaded: it needs more memory than \d+ MiB"):
        run_isolated(_explode)


def test_what_a_crash_says_is_told_in_its_line_and_printed_nowhere(capfd):
    with pytest.raises(ArtifactError) as caught:
        run_isolated(_noise)
    assert "ended by SIGABRT, after saying: \\x1b[2Jfatal: no such op" in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_object_lives_in_the_other_process_until_it_dies():
    with Isolated(Counter, 3) as counter:
        assert [counter.call("add", 1), counter.call("add", 2)] == [4, 6]
        with pytest.raises(TypeError):
            counter.call("add")
        with pytest.raises(ArtifactError, match="SIGSEGV"):
            counter.call("die")
        with pytest.raises(ArtifactError, match="SIGSEGV"):
            counter.call("add", 1)


def test_an_error_that_cannot_be_sent_is_told():
    with pytest.raises(RuntimeError, match="OddError: 7"):
        run_isolated(_odd)


class OddError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}")


def _odd():
    raise OddError(7, 8)


def test_the_process_holds_nothing_of_the_callers(tmp_path):
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)
        assert str(tmp_path / "lock") not in run_isolated(_open_files)


def _open_files():
    folder = f"/proc/{os.getpid()}/fd"
    return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder) if os.path.exists(f"{folder}/{name}")]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_process_does_not_outlive_a_killed_caller(tmp_path):
    script = "import tests.test_isolation as t; t.run_isolated(t._sleep_as, __import__('sys').argv[1])"
    pid = tmp_path / "pid"
    caller = subprocess.Popen([sys.executable, "-c", script, str(pid)], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert _eventually(lambda: pid.exists() and pid.read_text())
    caller.kill()
    caller.wait()
    assert _eventually(lambda: _ended(pid.read_text()))


def _ended(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _sleep_as(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def _eventually(holds):
    until = time.monotonic() + 30
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()
