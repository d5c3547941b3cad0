"""The first page and the tutorial, done by a reader who types every block of them."""

from __future__ import annotations

import contextlib
import importlib
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.device.userland import find_userland
from edgeq.errors import DeviceError
from tests.pages import Block, blocks


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and settings that make builds quick."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "net", raising=False)  # that of another test
    monkeypatch.setenv("EDGEQ_EFFORT", "fast")
    monkeypatch.setenv("EDGEQ_IMAGES", "8")
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if _of(module, tmp_path)]:
        del sys.modules[name]


def _of(module: object, folder: Path) -> bool:
    return str(getattr(module, "__file__", "") or "").startswith(str(folder))


def has_emulator() -> bool:
    with contextlib.suppress(DeviceError):
        find_userland()
        return True
    return False


def follow(block: Block, folder: Path) -> list[Result]:
    """Do what a block says: write the file it is, or type its lines. Returns what the edgeq commands printed."""
    if block.title:
        (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.title).write_text(block.text, encoding="utf-8")
        return []
    if block.language == "python":
        importlib.invalidate_caches()
        exec(compile(block.text, str(block), "exec"), {"__name__": "pasted"})  # noqa: S102
        return []
    return [result for line in block.text.splitlines() if (result := typed(line, block, folder))]


def typed(line: str, block: Block, folder: Path) -> Result | None:
    words, _, comment = line.partition(" # ")
    program, *arguments = shlex.split(words)
    code = int(comment.rpartition("exit code ")[2]) if comment.startswith("exit code ") else 0
    if program == "edgeq":
        result = CliRunner().invoke(cli, arguments, prog_name="edgeq")
        assert result.exit_code == code, f"{block}: {line}\n{result.output}"
        return result
    assert program == "python", f"{block}: this test types edgeq and python alone, not {line}"
    run = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)
    assert run.returncode == code, f"{block}: {line}\n{run.stdout}{run.stderr}"
    _, promised, output = comment.partition("prints: ")
    assert not promised or run.stdout.strip() == output
    return None


def test_the_first_page_builds_an_own_network(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    followed = [block for block in blocks(Path("README.md")) if not block.unless]
    for block in followed:
        follow(block, here)
    assert len(followed) >= 3
    assert (here / "build" / "net-make-tflite-arm" / "model.tflite").exists()
    assert "model.onnx" in capsys.readouterr().out


def test_the_tutorial_ends_at_a_gate_that_tells_good_from_ruined(here: Path) -> None:
    results: list[Result] = []
    left = [block for block in blocks(Path("docs/tutorial.md")) if not block.unless]
    for block in left:
        if block.needs != "emulator":
            results += follow(block, here)
    passed, failed = (result for result in results if "max-drop" in result.stdout and "held" in result.stdout)
    assert "passed" in passed.stdout
    assert "max-drop: missed" in failed.stdout


def test_the_emulated_pi_gives_the_answers_of_this_machine(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_emulator():
        pytest.skip("no emulated Arm here: edgeq device emulator --create")
    board = [block for block in blocks(Path("docs/tutorial.md")) if block.needs == "emulator"]
    assert len(board) == 1
    monkeypatch.setenv("EDGEQ_METHOD", "noise")  # what the images are is of no matter here
    for block in blocks(Path("docs/tutorial.md")):
        if block.title or block.text in ("python net.py\n", "edgeq build model.toml\n"):
            follow(block, here)
    [result] = follow(board[0], here)
    assert "100.0" in result.stdout
