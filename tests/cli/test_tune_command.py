"""`edgeq tune`: promises that are kept, that cannot be kept, and that make no sense."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.data.calibration import CalibrationSet
from edgeq.pipeline import tune as tuning
from edgeq.pipeline.tune import Promise

pytest.importorskip("scipy", reason="edgeq[tune] is not installed")
pytestmark = pytest.mark.usefixtures("here")

QUICK = ("--images", "8", "--recipe", "gznq.coarse=4", "--recipe", "gznq.fine=2", "--quiet")


def edgeq(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="edgeq")


def tuned(*words: str) -> tuple[int, dict[str, Any]]:
    done = edgeq("tune", "model.toml", "--json", *QUICK, *words)
    assert done.exit_code in (0, 1), done.stderr
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _few_bits_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small network has only a first and a last layer, which keep 8 bits unless all layers are asked for."""
    monkeypatch.setenv("EDGEQ_ALL_LAYERS", "1")


def test_an_easy_promise_takes_few_bits_everywhere_and_a_hard_one_is_refused() -> None:
    status, found = tuned("--min-snr-db", "0", "--min-agreement", "0.0")
    assert (status, found["kept"]) == (0, True)
    assert found["choice"]["config"] == {"bits": "w4a8"}
    assert found["choice"]["bytes"] == min(one["bytes"] for one in found["tried"])
    status, found = tuned("--min-snr-db", "100")
    assert (status, found["kept"]) == (1, False)
    assert found["choice"]["answers_db"] == max(one["answers_db"] for one in found["tried"])


def test_between_the_two_some_layers_get_few_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    _, easy = tuned("--min-snr-db", "0")
    ends = [one["answers_db"] for one in easy["tried"][:2]]
    status, found = tuned("--min-snr-db", f"{min(ends) + 0.3:.3f}")
    sizes = [one["bytes"] for one in found["tried"]]
    assert status == 0
    assert min(sizes) <= found["choice"]["bytes"] <= sizes[0]
    assert found["choice"]["answers_db"] >= min(ends) + 0.3
    assert all(one["what"] for one in found["tried"])


def test_a_size_that_cannot_be_reached_names_the_nearest() -> None:
    status, found = tuned("--min-snr-db", "0", "--max-bytes", "10")
    assert (status, found["kept"]) == (1, False)
    assert found["promise"]["max_bytes"] == 10


def test_the_choice_is_written_as_settings_that_a_build_takes() -> None:
    done = edgeq("tune", "model.toml", "--min-snr-db", "0", "--write", "tuned.toml", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "edgeq build model.toml" in done.stdout
    printed = edgeq("build", "--config", "tuned.toml", "--print-config", "--json")
    assert printed.exit_code == 0, printed.stderr
    assert json.loads(printed.stdout)["bits"]["value"] == "w4a8"
    again = edgeq("tune", "model.toml", "--min-snr-db", "0", "--write", "tuned.toml", *QUICK)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing is promised"),
        (("--max-drop", "1", "--task", "regression"), "no classes"),
        (("--min-agreement", "1.5"), "0<=x<=1"),
        (("--max-bytes", "many"), "size"),
        (("--max-drop", "nan"), "nan"),
    ],
)
def test_a_promise_that_makes_no_sense_is_one_line(words: tuple[str, ...], said: str) -> None:
    done = edgeq("tune", "model.toml", *QUICK, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_drop_in_points_is_a_share_of_answers() -> None:
    assert Promise(max_drop=1.5).agreement == pytest.approx(0.985)
    assert Promise(max_drop=1.5, min_agreement=0.99).agreement == 0.99
    assert Promise(max_bytes=5).agreement is None


def test_blends_stay_within_the_range_of_the_images() -> None:
    inputs = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    plain = CalibrationSet(inputs, np.arange(5), "gznq")
    both = tuning.with_blends(plain)
    assert len(both) == len(plain) * (1 + tuning.BLENDS)
    assert both.inputs.min() >= plain.inputs.min()
    assert both.inputs.max() <= plain.inputs.max()
    assert (both.labels[len(plain) :] == -1).all()
