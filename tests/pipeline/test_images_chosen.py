"""Images of joined methods in a build, and where images are computed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeq.cache import StageCache
from edgeq.config.build import BuildConfig
from edgeq.data.calibration import CalibrationSet
from edgeq.finetune.precision import training_device
from edgeq.pipeline import build as pipeline_build
from edgeq.pipeline import choices, synthesis
from edgeq.pipeline.build import build
from edgeq.pipeline.prepare import capture_model, load_configured
from edgeq.pipeline.synthesis import synthesize
from edgeq.progress import Silent
from edgeq.synth import SYNTHESIZERS, Request, zs_cgan
from tests.tinymodel import use_settings


def test_a_build_says_what_it_took_and_where_it_was_computed(config: BuildConfig) -> None:
    report = build(replace(config, method="noise+uniform"))
    assert report["method"] == report["synthesis"]["method"] == "noise+uniform"
    assert report["synthesis"]["device"] == training_device().type
    assert any(line.startswith("calibrated on noise+uniform") for line in report["warnings"])


def test_a_generator_of_some_of_the_images_draws_no_others(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path | None] = []

    def stop(*arguments: Any) -> None:
        given.append(arguments[-1])
        raise KeyboardInterrupt

    quick = zs_cgan.Settings(steps=3, batch=8, latent=8, width=8, retries=1)
    use_settings(monkeypatch, "zs-cgan", quick)
    monkeypatch.setattr(choices, "IMAGES", 16)
    monkeypatch.setattr(pipeline_build, "finetune_graph", stop)
    for method in ("zs-cgan", "leaves+zs-cgan"):
        with pytest.raises(KeyboardInterrupt):
            build(replace(config, method=method, finetune="kd"))
    assert given[0] is not None
    assert given[1] is None


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, bool]]]:
    """Of every request to the method `spy`: its device, and whether TF32 may stand in for float32."""
    found: list[tuple[str, bool]] = []

    def spy(request: Request) -> CalibrationSet:
        found.append((request.device.type, torch.backends.cuda.matmul.allow_tf32))
        shape = (request.images, *request.shape)
        return CalibrationSet(np.zeros(shape, np.float32), np.zeros(request.images, np.int64), "spy")

    list(SYNTHESIZERS)
    monkeypatch.setitem(SYNTHESIZERS._entries, "spy", spy)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    yield found
    torch.backends.cuda.matmul.allow_tf32 = before


def test_images_are_computed_where_training_is_and_those_of_a_gpu_are_others(
    config: BuildConfig, tmp_path: Path, seen: list[tuple[str, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_configured(config)
    raw, cache = capture_model(loaded), StageCache(tmp_path / "cache", Silent())
    here = training_device()
    for device in (torch.device("cuda"), here, torch.device("cuda")):
        monkeypatch.setattr(synthesis, "training_device", lambda device=device: device)
        result, _ = synthesize(config, loaded, raw, "spy", cache)
        assert result.facts["device"] == device.type
    wanted = [("cuda", False)] + ([("cpu", False)] if here.type == "cpu" else [])
    assert seen == wanted
