"""Where a build's images come from when nobody says, and where they are computed."""

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
from edgeq.finetune.world import ALONE, World
from edgeq.pipeline.build import build, plan
from edgeq.pipeline.synthesis import captured, choose_method, loaded_model, synthesize
from edgeq.progress import Silent
from edgeq.synth import SYNTHESIZERS, Request

BOTH = "gznq+inversion"


@pytest.mark.parametrize(
    ("asked", "method"),
    [
        ({}, "gznq"),
        ({"bits": "w4a8"}, "gznq"),
        ({"bits": "w7a7", "all_layers": True}, "gznq"),
        ({"bits": "w8a6"}, BOTH),
        ({"bits": "w4a4", "all_layers": True}, BOTH),
        ({"layer_bits": ("3.pointwise=w4a4",)}, BOTH),
        ({"finetune": "kd"}, BOTH),
        ({"method": "zaq"}, BOTH),
        ({"method": "leaves", "bits": "w4a4"}, "leaves"),
    ],
)
def test_a_classifier_of_few_bits_or_in_training_sees_both_kinds(
    config: BuildConfig, asked: dict[str, Any], method: str
) -> None:
    assert plan(replace(config, **asked))["method"] == method


def test_what_is_no_classifier_does_not(config: BuildConfig) -> None:
    raw = captured(loaded_model(config))
    assert choose_method("auto", raw, classes=0, few_bits=True)[0] == "gznq"
    assert choose_method("auto", raw, classes=4, few_bits=True)[0] == BOTH


def test_a_build_says_what_it_took(config: BuildConfig) -> None:
    report = build(replace(config, bits="w4a4"))
    assert report["method"] == report["synthesis"]["method"] == BOTH
    assert report["synthesis"]["device"] == ALONE.device.type
    again = build(replace(config, bits="w4a4", method="noise+uniform"))
    assert any(line.startswith("calibrated on noise+uniform") for line in again["warnings"])


def test_a_generator_of_some_of_the_images_draws_no_others(
    config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Path | None] = []

    def stop(*arguments: Any) -> None:
        given.append(arguments[-2])
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeq.pipeline.build.finetuned", stop)
    for method in ("zs-cgan", "leaves+zs-cgan"):
        with pytest.raises(KeyboardInterrupt):
            build(replace(config, method=method, finetune="kd"))
    assert given[0] is not None
    assert given[1] is None


class Elsewhere(World):
    device = torch.device("cuda")


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
    config: BuildConfig, tmp_path: Path, seen: list[tuple[str, bool]]
) -> None:
    loaded = loaded_model(config)
    raw, cache = captured(loaded), StageCache(tmp_path / "cache", Silent())
    for world in (Elsewhere(), World(), Elsewhere()):
        result, _ = synthesize(config, loaded, raw, "spy", cache, world=world)
        assert result.facts["device"] == world.device.type
    wanted = [("cuda", False)] + ([("cpu", False)] if ALONE.device.type == "cpu" else [])
    assert seen == wanted
