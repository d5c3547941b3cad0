"""Whole builds: made, planned, read again and held to limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from edgeq.api.arguments import choice, expect, optional_path, path
from edgeq.api.models import Model
from edgeq.api.options import BuildOptions, Limits, library_work, parse_option, refuse_unknown, settings
from edgeq.config.budget import read_budgets
from edgeq.config.build import Budget, BuildConfig, Effective, resolve, settings_of
from edgeq.config.targets import load_target
from edgeq.errors import ConflictError
from edgeq.pipeline.build import build as run_build
from edgeq.pipeline.build import measure_on_devices
from edgeq.pipeline.build import plan as run_plan
from edgeq.pipeline.ondevice import expect_device
from edgeq.progress import Logged
from edgeq.report.believable import check_believable
from edgeq.report.builds import build_name
from edgeq.report.check import CheckResult, read_report
from edgeq.report.check import check as check_folder
from edgeq.report.locked import load_locked
from edgeq.report.verdict import Undecided, settle

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Report", "build", "check", "plan"]


@dataclass(frozen=True)
class Report(Mapping[str, Any]):
    """What a build measured: the contents of its report.json, and the `folder` that holds the build.

    A report is a read-only mapping: ``report["accuracy"]["integer"]["top1"]``. docs/reference/report-schema.md lists
    its fields.
    """

    folder: Path
    contents: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> Report:
        """The report of a finished build in `folder`. Raises `ArtifactError`."""
        found = path(folder, "folder")
        return cls(found, read_report(found))

    @property
    def file(self) -> Path:
        """The integer model that was built."""
        return self.folder / str(self.contents["artifact"]["path"])

    def __getitem__(self, key: str) -> Any:
        return self.contents[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.contents)

    def __len__(self) -> int:
        return len(self.contents)


def build(model: Model | str, **options: Unpack[BuildOptions]) -> Report:
    """Build the network for one target, measure what was made, and write the folder of the build: ``edgeq build``.

    `options` are those of the command line with underscores (`BuildOptions`): ``bits``, ``target``, ``output``,
    ``method``, ``finetune``, ``evaluation``, ``device`` and others. `config` names an edgeq.toml to read, `locked` a
    lock whose bytes must come out. Neither the environment nor an edgeq.toml that is not named has a say. For several
    targets, call this several times: what they share comes from the cache.

    Raises `ConfigError`, `UnsupportedError`, `GateError` where the file is not exact, `DeviceError`, and with `strict`
    `MeasurementError` where a latency must not be believed.

    >>> report = edgeq.build(model, target="tflite-arm", output="out")
    >>> report["artifact"]["bytes"]
    80808
    """
    effective, given = build_settings(model, options)
    config, loaded = effective.config, model.loaded if isinstance(model, Model) else None
    program, lock = (optional_path(given.get(name), name) for name in ("benchmark_model", "locked"))
    locked = None if lock is None else load_locked(lock)
    if locked is not None:
        config = locked.config(effective)
    devices = [expect_device(name, [load_target(config.target)], program) for name in config.devices]
    config = replace(config, devices=tuple(devices))
    with library_work():
        report = run_build(config, Logged(), locked=locked, loaded=loaded)
        if devices:
            progress = Logged()
            report = measure_on_devices(config, report, loaded=loaded, program=program, say=progress.note)
    if config.strict:
        check_believable(report)
    return Report(config.output_folder(str(report["model"])), report)


def plan(model: Model | str, **options: Unpack[BuildOptions]) -> Mapping[str, Any]:
    """Say what `build` would do, without doing it: ``edgeq build --plan --json``. Takes the same options.

    ``unsupported`` lists every call that stands in the way, with a hint for each. Raises as `build` does.

    >>> edgeq.plan(model, target="tflite-arm")["unsupported"]
    []
    """
    effective, _ = build_settings(model, options)
    with library_work():
        return run_plan(effective.config, model.loaded if isinstance(model, Model) else None)


def check(report: Report | str | Path, **limits: Unpack[Limits]) -> CheckResult:
    """Hold a finished build to limits: ``edgeq check``, with its options (`Limits`). There must be one limit or more.

    `report` is what `build` returned, or the folder of a build. ``result.held`` says whether all of it holds, and
    ``result.gates`` each limit with its margin, after those of the report, the files and the exactness. `config` names
    an edgeq.toml with a ``[budget]``, and `budget` a budget.toml. `undecided` says whether a limit that the images
    cannot decide is to ``pass`` (the default) or to ``fail``. `against` is another build to compare with. Raises
    `ConfigError`, `ArtifactError`.

    >>> edgeq.check(report, max_drop=1.0, max_bytes="4M").held
    True
    """
    must, hint = "must be a Report or the folder of a build", "edgeq.Report.read(folder)"
    folder = report.folder if isinstance(report, Report) else report
    expect(folder, (str, Path), "report", must, hint)
    given: dict[str, Any] = dict(limits)
    file, limits_file, against = (
        optional_path(given.pop(name, None), name) for name in ("config", "budget", "against")
    )
    undecided = choice(given.pop("undecided", "pass"), "undecided", get_args(Undecided))
    devices = parse_option(BuildConfig, "devices", given.pop("device", ()))
    refuse_unknown(given, settings_of(Budget))
    budget = Budget()
    if file is not None:
        resolve({}, {}, file)  # the whole of it must be right
    if file is not None or limits_file is not None:
        budget, _ = read_budgets({}, {}, file, limits_file).of(build_name(path(folder, "report")))
    budget = replace(budget, **{name: parse_option(Budget, name, value) for name, value in given.items()})
    if against is None or devices:
        budget.refuse_empty(devices or ())
    result = check_folder(
        path(folder, "report"),
        **vars(budget),
        devices=devices or (),
        against=against is not None,
        baseline=against,
    )
    return settle(result, cast("Undecided", undecided))


def build_settings(model: Model | str, options: Mapping[str, Any]) -> tuple[Effective, dict[str, Any]]:
    """Settings of a build, and the options that are no settings."""
    must, hint = "must be a Model, or a name as edgeq.load takes it", "edgeq.trace(module, input_shape) makes one"
    expect(model, (Model, str, Path), "model", must, hint)
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    others: dict[str, Any] = {
        name: given.pop(name) for name in ("config", "benchmark_model", "locked") if name in given
    }
    if isinstance(model, Model):
        stated = sorted({"weights", "input_shape", "mean", "std", "task"} & set(given))
        if stated:
            raise ConflictError(f"{stated[0]} of a loaded model", hint="give it to edgeq.load or edgeq.trace")
        return settings({**model.given, **given}, optional_path(others.get("config"), "config")), others
    return settings({"model": model, **given}, optional_path(others.get("config"), "config")), others
