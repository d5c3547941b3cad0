"""Options of the Python API: their types, and how they become the settings that the command line has."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, overload

import numpy as np
import torch

from edgeq.api.arguments import optional_path, path
from edgeq.config.build import Budget, BuildConfig, Effective, resolve, settings_of
from edgeq.errors import ConfigError
from edgeq.registry import nearest
from edgeq.threads import threads_restored

__all__ = [
    "BuildOptions",
    "Limits",
    "library_work",
    "parse_option",
    "refuse_unknown",
    "settings",
    "workspace",
]


class BuildOptions(TypedDict, total=False):
    """Options of `build` and `plan`: those of ``edgeq build``, with underscores. None means the default.

    `edgeq build --help` describes each of them. Lists and tuples are taken where the command line takes an option
    several times or splits it at commas.
    """

    weights: str | Path | None
    input_shape: Sequence[int] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    task: str | None
    target: str
    method: str
    finetune: str
    precision: str
    images: int
    bits: str
    layer_bits: Sequence[str] | Mapping[str, str]
    all_layers: bool
    seed: int
    effort: str
    recipe: str | Sequence[str] | Mapping[str, Any]
    observer: str
    io: str | None
    weight_storage: str | None
    raw_pixels: str | None
    metadata: str | None
    output: str | Path | None
    threads: int | None
    bench_threads: int | None
    cache: str | Path
    evaluation: str | Path | None
    eval_limit: int | None
    show_images: bool
    device: str | Sequence[str]
    strict: bool
    force: Sequence[str]
    config: str | Path | None
    benchmark_model: str | Path | None
    locked: str | Path | None


class Limits(TypedDict, total=False):
    """Limits of `check`: those of ``edgeq check``, with underscores. None means that this is not checked."""

    max_drop: float | None
    min_score: float | None
    min_agreement: float | None
    max_error: float | None
    max_mae: float | None
    min_snr_db: float | None
    min_cosine: float | None
    max_bytes: int | str | None
    max_latency_ratio: float | None
    max_device_drop: float | None
    min_device_score: float | None
    min_device_agreement: float | None
    max_device_latency_ratio: float | None
    max_device_ms: float | None
    max_device_bytes: int | str | None
    max_baseline_drop: float | None
    max_baseline_error_ratio: float | None
    max_baseline_size_ratio: float | None
    max_baseline_latency_ratio: float | None
    min_images: int | None
    allow_simulated: bool
    device: str | Sequence[str]
    against: str | Path | None
    undecided: Literal["pass", "fail"]
    budget: str | Path | None
    config: str | Path | None


_FIELDS = {"target": "targets", "device": "devices"}
"""Settings that the command line and this API name in the singular."""


def settings(options: Mapping[str, Any], file: Path | None = None) -> Effective:
    """Options over the settings in `file` over the defaults, parsed as the command line's are. Raises `ConfigError`."""
    known = settings_of(BuildConfig)
    given = {_FIELDS.get(name, name): value for name, value in options.items() if value is not None}
    refuse_unknown(given, known)
    values = {name: parse_option(BuildConfig, name, value) for name, value in given.items()}
    if file is None:
        base = Effective(BuildConfig(), Budget(), dict.fromkeys(known, "default"))
    else:
        base = resolve({"model": values.get("model")}, {}, file)
    origin = {name: ("MODEL" if name == "model" else known[name].flag) for name in values}
    config = replace(base.config, **values)
    if len(config.targets) != 1:
        raise ConfigError(
            f"targets {', '.join(config.targets)}", why="one is built at a time", hint="call this for each"
        )
    return replace(base, config=config, origin={**base.origin, **origin})


@overload
def parse_option(kind: type[BuildConfig], name: Literal["devices"], value: Any) -> tuple[str, ...]: ...
@overload
def parse_option(kind: type[BuildConfig] | type[Budget], name: str, value: Any) -> Any: ...
def parse_option(kind: type[BuildConfig] | type[Budget], name: str, value: Any) -> Any:
    """A value as the setting `name` takes it: text from paths, and whatever the command line takes. Raises
    `ConfigError`."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        value = [item.item() if isinstance(item, np.generic) else item for item in value]
    elif isinstance(value, np.ndarray | np.generic | torch.Tensor):
        value = value.tolist()
    return settings_of(kind)[name].kind.parse(str(path(value, name)) if isinstance(value, Path) else value, name)


def refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}", hint=nearest(name, list(known)))


@contextlib.contextmanager
def library_work() -> Iterator[None]:
    """Give torch's threads and random state back as they were, and have gradients, whatever the caller has."""
    with threads_restored(), torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        yield


@contextlib.contextmanager
def workspace(cache: str | Path | None) -> Iterator[Path]:
    """The folder of finished stages: `cache`, or one that vanishes afterwards."""
    given = optional_path(cache, "cache")
    with library_work(), tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        yield Path(folder) if given is None else given
