"""Energy of an inference on a board that tells its power, here one that a script pretends; and hostile answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edgeq.cli import cli
from edgeq.device.runners.agent.power import LONGEST, UnreadableError, power, rails, read_rails
from edgeq.measure.energy import energy_facts, energy_text
from tests.device.loopback import Board, executable
from tests.device.tiny import tiny_model

PRINTED = """\
   3V7_WL_SW_A current(0)=0.00390372A
   VDD_CORE_A current(7)=0.87702000A
   3V7_WL_SW_V volt(8)=3.69657200V
   VDD_CORE_V volt(15)=0.72003300V
   EXT5V_V volt(24)=5.09590000V
   BATT_V volt(25)=0.00683760V
"""
"""As a Raspberry Pi 5 prints it: EXT5V has no current, so its power is not known."""

FAKE = """n=$(cat {count} 2>/dev/null || echo 0); n=$((n+1)); echo $n > {count}
[ $n -gt 4 ] && a=3.0$((n%2)) || a=1.0$((n%2))
echo "VDD_CORE_A current(7)=${{a}}A"; echo "VDD_CORE_V volt(15)=1.0V"
echo "DDR_A current(3)=0.5A"; echo "DDR_V volt(11)=1.0V"
"""
"""One reading for the names and three at rest, as many as there are of so short a rest; then the load."""


def test_rails_have_a_current_and_a_voltage() -> None:
    found = rails(PRINTED)
    assert found == pytest.approx({"3V7_WL_SW": 0.00390372 * 3.696572, "VDD_CORE": 0.87702 * 0.720033})


@pytest.mark.parametrize(
    "printed",
    [
        "",
        'error=1 error_msg="Command not registered"',
        "VDD_A current(1)=nanA\nVDD_V volt(1)=1.0V",
        "VDD_A current(1)=1e9A\nVDD_V volt(1)=1.0V",
        "VDD_A current(1)=-1.0A\nVDD_V volt(1)=1.0V",
        f"{'V' * 99}_A current(1)=1.0A\n{'V' * 99}_V volt(1)=1.0V",
        "x" * LONGEST + PRINTED,
    ],
)
def test_what_is_no_reading_is_a_reason(printed: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        rails(printed)
    assert len(str(caught.value)) < 300


def test_an_endless_answer_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executable(tmp_path / "vcgencmd", "exec yes")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(UnreadableError, match="pmic_read_adc: y"):
        read_rails()


def readings(*watts: float) -> Iterator[dict[str, float]]:
    return iter([{"A": value} for value in watts])


def test_the_draw_at_rest_is_subtracted() -> None:
    power = {
        "rails": ["A", "B"],
        "idle": [1.9, 2.0, 2.1],
        "loads": {
            "model": {"watts": [4.9, 5.0, 5.1], "inferences": 100, "seconds": 2.0},
            "float": {"watts": [6.0, 6.0, 6.0], "inferences": 50, "seconds": 2.0},
        },
    }
    facts = energy_facts(power)
    assert facts["mj"] == pytest.approx(60.0)
    assert facts["float_mj"] == pytest.approx(160.0)
    assert energy_text(facts).startswith("60 mJ per inference, float 160 mJ (5.00 W less 2.00 W at rest, 2 rails of")


def test_a_draw_within_the_noise_is_no_energy() -> None:
    load = {"watts": [1.0, 3.0, 2.3], "inferences": 100, "seconds": 2.0}
    facts = energy_facts({"rails": ["A"], "idle": [1.0, 3.0, 2.0], "loads": {"model": load}})
    assert set(facts) == {"reason"}
    assert "within the noise" in energy_text(facts)


def test_readings_that_stop_are_a_reason() -> None:
    left = readings(1.0, 1.0, 1.0, 1.0, 2.0)

    def read() -> dict[str, float]:
        for found in left:
            return found
        raise UnreadableError("it is gone")

    assert power({"model": lambda: None}, 0.01, read) == {"why": "it is gone"}


def measured(board: Board, artifact: Path, *words: str) -> Any:
    ran = CliRunner().invoke(cli, ["bench", str(artifact), "--device", board.host, "--seconds", "0.1", *words])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_a_board_that_tells_its_power(board: Board, tmp_path: Path) -> None:
    artifact = tiny_model(tmp_path / "tiny-tflite")
    count = board.home / "count"
    executable(board.shims / "vcgencmd", f'[ "$1" = pmic_read_adc ] || exit 1\n{FAKE.format(count=count)}')
    (found,) = json.loads(measured(board, artifact, "--json"))
    energy = found["energy"]
    assert energy["reason"] is None
    assert energy["idle_w"] == pytest.approx(1.5, abs=0.01)
    assert energy["load_w"] == pytest.approx(3.5, abs=0.01)
    assert (energy["rails"], energy["mj"] > 0, energy["float_mj"] > 0) == (2, True, True)
    count.unlink()
    assert "mJ per inference, float" in measured(board, artifact)


def test_a_board_that_does_not_says_why(board: Board, tmp_path: Path) -> None:
    artifact = tiny_model(tmp_path / "tiny-tflite")
    executable(board.shims / "vcgencmd", "echo 'error=1 error_msg=\"Command not registered\"'")
    assert "energy is not known: vcgencmd pmic_read_adc: error=1" in measured(board, artifact)
    (board.shims / "vcgencmd").unlink()
    assert "energy is not known: the board has no power sensor" in measured(board, artifact)
