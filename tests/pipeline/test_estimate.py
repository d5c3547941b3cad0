"""What a plan says about time: every stage, on an idle machine, and how the machine is now."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeq.config.build import BuildConfig
from edgeq.config.targets import load_target
from edgeq.formats.base import format_of
from edgeq.graph.passes import optimize
from edgeq.pipeline import estimate as module
from edgeq.pipeline import measure, write
from edgeq.pipeline.build import build, plan
from edgeq.pipeline.estimate import Estimate, estimate
from edgeq.pipeline.prepare import capture_model, load_configured
from edgeq.progress import Silent
from edgeq.quant.scheme import Scheme
from edgeq.threads import Load

IDLE = Load(2, 0.0, 0.0)


@pytest.fixture
def seconds(config: BuildConfig, monkeypatch: pytest.MonkeyPatch):
    """Estimated seconds by stage for changed settings, on a machine of known speed."""
    monkeypatch.setattr(module, "_pace", lambda: 1.0)
    monkeypatch.setattr(module, "_pass_seconds", lambda raw, batch, *, backward: (0.01, 0.03 * backward))
    raw = capture_model(load_configured(config))
    graph = optimize(raw)

    def of(method: str = "noise", *, tuning: str = "", bits: str = "w8a8", where: str | None = None, **changed):
        parts = (replace(config, **changed), raw, graph, method, Scheme.of(bits), tuning, where)
        return estimate(*parts, capture_seconds=1.0, look=lambda: IDLE).seconds

    return of


def test_every_stage_of_a_build_is_estimated(config: BuildConfig) -> None:
    report = build(replace(config, method="noise", images=2, eval_limit=2))
    planned = plan(replace(config, method="noise", images=2, eval_limit=2))
    assert list(planned["estimated_stages"]) == planned["stages"]
    assert planned["stages"] == [name for name, spent in report["seconds"].items() if spent is not None]
    assert planned["estimated_seconds"] == pytest.approx(sum(planned["estimated_stages"].values()), abs=0.5)
    assert planned["machine"].startswith(("idle enough", "busy now: about "))
    assert (module.VERIFIED, module.SIMULATED) == (write.VERIFIED, measure.SIMULATED)


def test_each_stage_grows_with_what_it_works_on(seconds) -> None:
    few, many = seconds(images=8), seconds(images=32)
    assert few["synthesize"] == 0.0  # noise is drawn, not optimised
    assert few["calibrate"] < many["calibrate"]
    assert few["verify"] < many["verify"] == seconds(images=64)["verify"]
    assert seconds("gznq", images=32)["synthesize"] == pytest.approx(4 * seconds("gznq", images=8)["synthesize"])
    both = seconds("gznq+inversion", images=16)["synthesize"]
    assert both == pytest.approx(sum(seconds(name, images=8)["synthesize"] for name in ("gznq", "inversion")))
    assert seconds("images:photos", images=8)["synthesize"] == 0.0
    assert few["calibrate"] < seconds(images=8, bits="w4a4")["calibrate"]
    assert "finetune" not in few
    assert seconds(tuning="kd", effort="fast")["finetune"] == pytest.approx(120, rel=0.2)  # two minutes of one core


def test_evaluation_images_are_counted_without_being_read(seconds, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        (tmp_path / "folders" / name / "x.png").write_bytes(b"not looked at")
    (tmp_path / "broken.npz").write_bytes(b"nonsense")
    np.savez(tmp_path / "many.npz", images=np.zeros((3000, 2, 2, 3), np.uint8))
    counts = {
        "test.npz": 24,
        "many.npz": 3000,
        "folders": 2,
        "broken.npz": module.UNCOUNTED,
        "mine.py:images": module.UNCOUNTED,
    }
    assert {where: module._count(where, None) for where in counts} == counts
    assert module._count("many.npz", 100) == 100
    none, some, limited = (
        seconds(where=where, eval_limit=limit)["measure"]
        for where, limit in ((None, None), ("many.npz", None), ("many.npz", 100))
    )
    assert none < limited < some
    assert seconds(where="many.npz", bits="w4a4")["measure"] > some  # the exact reference answers too


def test_a_busy_machine_is_named_and_the_estimate_stays_that_of_an_idle_one() -> None:
    stages = {"capture": 1.04, "synthesize": 8.0}
    assert Estimate(stages, 1.0).to_json() == {
        "estimated_seconds": 9.0,
        "estimated_stages": {"capture": 1.0, "synthesize": 8.0},
        "machine": "idle enough",
    }
    assert Estimate(stages, 2.96).to_json()["machine"] == "busy now: about 3.0 times longer"
    assert Estimate(stages, 2.96).total == Estimate(stages, 1.0).total


def test_passes_are_timed_after_one_that_warms_up(config: BuildConfig) -> None:
    raw = capture_model(load_configured(config))
    forward, both = module._pass_seconds(raw, 4, backward=True)
    assert 0 < forward < 60
    assert 0 < both < 60
    assert module._pass_seconds(raw, 4, backward=False)[1] == 0.0


def test_a_build_says_its_threads_works_with_them_and_gives_them_back(config: BuildConfig) -> None:
    class Told(Silent):
        lines: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            self.lines.append(f"{text}: {torch.get_num_threads()}")

    before = torch.get_num_threads()
    quick = replace(config, method="noise", images=2, eval_limit=2)
    build(replace(quick, threads=before + 1), told := Told())
    assert told.lines == [f"{before + 1} threads (as requested): {before + 1}"]
    assert torch.get_num_threads() == before
    assert plan(replace(quick, threads=1))["threads"] == "1 thread (as requested)"
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("timed", [True, False])
def test_threads_of_a_runtime_spin_only_where_they_are_timed(config: BuildConfig, timed: bool) -> None:
    build(replace(config, targets=("onnx-x86",), images=2, eval_limit=2))
    assert config.output is not None
    session = format_of(load_target("onnx-x86"), 8).open(config.output / "model.onnx", 2, timed=timed)
    options = session._session.get_session_options()  # type: ignore[attr-defined]
    try:
        spinning = options.get_session_config_entry("session.intra_op.allow_spinning")
    except RuntimeError:  # nobody said, so onnxruntime's threads spin
        spinning = "1"
    assert spinning == str(int(timed))
