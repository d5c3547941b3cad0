"""The key of every stage is the hash of everything it reads: whatever is changed, the stage runs again."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeq import versions
from edgeq.cache import StageCache, key_of
from edgeq.config.build import BuildConfig
from edgeq.finetune.settings import Settings, settings_for
from edgeq.graph.ir import Graph
from edgeq.pipeline.build import build
from edgeq.pipeline.environment import TRAINING, environment
from edgeq.pipeline.synth import synth
from edgeq.synth import gznq, zs_cgan
from tests.pipeline.variants import variants
from tests.tinymodel import Spy, use_settings

Seen = list[tuple[str, Any, Callable[..., Any]]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Stage, inputs and work of every stage that runs."""
    found: Seen = []
    run = StageCache.run

    def spy(self: StageCache, stage: str, inputs: Any, work: Any, *rest: Any) -> Any:
        found.append((stage, inputs, work))
        return run(self, stage, inputs, work, *rest)

    monkeypatch.setattr(StageCache, "run", spy)
    monkeypatch.setattr("edgeq.pipeline.choices.IMAGES", 16)

    def quick(method: str, effort: str, graph: Graph) -> Settings:
        return replace(settings_for(method, effort, graph), steps=2, batch=8, warm_up=1, latent=8, width=8)

    monkeypatch.setattr("edgeq.pipeline.recipe.settings_for", quick)
    few = zs_cgan.Settings(steps=2, batch=8, latent=8, width=8, retries=1)
    use_settings(monkeypatch, "zs-cgan", few)
    return found


def test_every_field_of_every_stage_is_in_its_key(config: BuildConfig, seen: Seen, tmp_path: Path) -> None:
    build(replace(config, method="zs-cgan", finetune="kd", bits="w8a4", metadata="yes"))
    images = tmp_path / "mine.npz"
    synth(replace(config, method="noise", output=tmp_path / "set"))
    (tmp_path / "set" / "images.npz").rename(images)
    build(replace(config, method=f"images:{images}"))
    stages = {(stage, type(inputs).__name__): inputs for stage, inputs, _ in seen}
    assert {stage for stage, _ in stages} == {
        "synthesize",
        "statistics",
        "calibrate",
        "finetune",
        "write",
        "verify",
        "measure",
    }
    for (stage, _), inputs in stages.items():
        key, changed = key_of(inputs), {field.name: 0 for field in dataclasses.fields(inputs)}
        assert key_of(inputs) == key
        for where, other in variants(inputs, tmp_path):
            assert key_of(other) != key, f"{stage} does not see {where}"
            changed[where[1:].split(".")[0].split("[")[0].rstrip("+")] += 1
        assert min(changed.values()) > 0, (stage, changed)


def test_a_stage_reads_nothing_but_its_inputs(config: BuildConfig, seen: Seen, tmp_path: Path) -> None:
    build(replace(config, method="noise", finetune="kd", bits="w8a4"))
    synth(replace(config, method="noise", output=tmp_path / "set"))
    for stage, inputs, work in seen:
        assert dataclasses.is_dataclass(inputs), stage
        assert inspect.isfunction(work), stage
        assert "<locals>" not in work.__qualname__, stage
        assert work.__closure__ is None, stage
        assert list(inspect.signature(work).parameters) == ["inputs", "space"], stage


def test_versions_sources_processor_variables_and_threads_are_in_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)  # the suite may run with it
    now = key_of(environment(TRAINING))
    assert key_of(environment(TRAINING)) == now
    assert key_of(environment(TRAINING, threads=3)) != now
    assert key_of(environment(TRAINING, device=torch.device("cuda"))) != now
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert key_of(environment(TRAINING)) != now
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(versions, "_version", lambda name: "99")
    assert key_of(environment(TRAINING)) != now


def test_an_edited_kernel_makes_everything_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "integer").mkdir()
    (tmp_path / "cli").mkdir()
    kernel, command = tmp_path / "integer" / "reference.py", tmp_path / "cli" / "build.py"
    kernel.write_text("a = 1")
    command.write_text("a = 1")
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "versions.py"))
    digest = versions.source_digest.__wrapped__
    before = digest()
    command.write_text("a = 2")
    assert digest() == before
    kernel.write_text("a = 2")
    assert digest() != before


def test_another_task_makes_other_images(config: BuildConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network taken for a segmenter has no classes to draw."""
    use_settings(monkeypatch, "gznq", gznq.Settings(coarse=4, fine=6, batch=8))
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "plain.toml").write_text(
        text.replace('"classification"', '"segmentation"').partition("[evaluation]")[0]
    )
    spy = Spy()
    config = replace(config, method="auto")
    one = build(config)["synthesis"]["sha256"]
    other = build(replace(config, model="plain.toml"), spy)["synthesis"]["sha256"]
    assert spy.cached["synthesize"] is False
    assert one != other


@pytest.mark.parametrize(
    "change", [{"kernels": "builtin"}, {"threads": 2}, {"description": "another"}], ids=["kernels", "threads", "text"]
)
def test_another_target_of_one_name_is_measured_anew(
    config: BuildConfig, tmp_path: Path, change: dict[str, Any]
) -> None:
    target = tmp_path / "mine.toml"
    facts: dict[str, Any] = {
        "description": "mine",
        "format": "tflite",
        "machine": "x86_64",
        "runtime": "litert",
        "kernels": "xnnpack",
        "activations": "int8",
        "io": "int8",
        "weight_bits": 8,
        "threads": 1,
    }
    told = replace(config, targets=(str(target),), method="noise")
    cached = []
    for table in (facts, facts, facts | change):
        lines = (f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}" for key, value in table.items())
        target.write_text("\n".join(lines))
        spy = Spy()
        build(told, spy)
        cached.append(spy.cached["measure"])
    assert cached == [False, True, False]
