"""BuildConfig: everything a build is told, and where each setting came from.

A setting comes from the command line, else from the environment (``EDGEQ_<KEY>``), else from ``edgeq.toml``, else from
its default. `BuildConfig`'s fields are the single list of settings: options, environment and file are read from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeq.config import settings
from edgeq.config.find import CONFIG_FILE, find_config
from edgeq.config.recipe import RECIPE
from edgeq.config.settings import Kind
from edgeq.config.tasks import KINDS
from edgeq.config.tomlfile import read_toml
from edgeq.config.typed import refuse_unknown
from edgeq.errors import ConfigError, ConflictError, TomlError, VariableError
from edgeq.registry import OBSERVERS, closest
from edgeq.store import is_address

__all__ = [
    "CONFIG_FILE",
    "EFFORTS",
    "FORCEABLE",
    "Budget",
    "BuildConfig",
    "Effective",
    "Setting",
    "refuse_misspelt",
    "resolve",
    "resolve_table",
    "settings_of",
]

EFFORTS = ("fast", "balanced", "best")
ALIKE = 0.88
"""Similarity above which an unknown variable counts as a typo: a letter or two in a dozen."""
VARIABLES: Mapping[str, str] = {
    "EDGEQ_BENCHMARK_MODEL": "path of the program that runs TFLite files on Android phones",
    "EDGEQ_BOARD_LOCK": "on a board, or on the machine a phone is plugged into: the folder that stands for the lock",
    "EDGEQ_DEBIAN": "address of the Debian archive that the emulated Arm is fetched from",
    "EDGEQ_DEVICE_CACHE": "on a board: the folder in which edgeq makes its own; without it ~/.cache",
    "EDGEQ_LARGEST_FILE": "largest file, or unpacked contents of one, that edgeq reads, such as 16G",
    "EDGEQ_SSH_CONFIG": "configuration file of ssh that replaces ~/.ssh/config",
    "EDGEQ_TRACEBACK": "1 prints where in edgeq's code an error came from",
}
"""Environment variables that edgeq reads beside those of the settings, and what each says."""
FORCEABLE = ("all", "synthesize", "statistics", "calibrate", "finetune", "write", "verify", "measure")
FINETUNE = ("none", "kd", "zaq", "dfq-akd")


def _setting(default: Any, kind: Kind, text: str, flag: str = "") -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, "flag": flag})


@dataclass(frozen=True)
class BuildConfig:
    """One build, or one per target. None means: the model's, the target's, or whatever suits the method."""

    model: str | None = _setting(
        None,
        settings.TEXT,
        "models/ name, torchvision:NAME, timm:NAME, ultralytics:NAME, model.toml, file.py:factory, a.b:factory, .pt2",
    )
    weights: str | None = _setting(
        None, settings.TEXT, "weights file, FILE:KEY of several in it, or 'random' (structure tests only)"
    )
    input_shape: tuple[int, ...] | None = _setting(
        None, settings.SHAPE, "C,H,W of one image, or C,L of one series, where the model does not say"
    )
    mean: tuple[float, ...] | None = _setting(None, settings.NUMBERS, "per channel, on the 0..1 scale")
    std: tuple[float, ...] | None = _setting(None, settings.NUMBERS, "per channel, on the 0..1 scale")
    task: str | None = _setting(
        None, settings.one_of(*KINDS), "what the outputs mean, where the model does not say or says otherwise"
    )
    targets: tuple[str, ...] = _setting(
        ("tflite-arm",), settings.NAMES, "target to build for; may be repeated", "--target"
    )
    method: str = _setting(
        "auto", settings.TEXT, "calibration images: auto, gznq, ... or images:PATH; zaq and dfq-akd also fine-tune"
    )
    finetune: str = _setting(
        "none", settings.one_of(*FINETUNE), "train the quantized network to answer as the float one"
    )
    precision: Literal["float32", "mixed"] = _setting(
        "float32", settings.one_of("float32", "mixed"), "of fine-tuning; mixed: teacher and generator in bfloat16"
    )
    images: int = _setting(32, settings.IMAGES, "number of calibration images")
    bits: str = _setting("w8a8", settings.BITS, "bits of weights (2-8) and activations (2-8, 16), such as w4a8")
    layer_bits: tuple[str, ...] = _setting(
        (),
        settings.LAYER_BITS,
        "other bits for layers whose module path matches; the last match counts; may be repeated",
    )
    all_layers: bool = _setting(
        False, settings.SWITCH, "few bits in the first and last layer too, which otherwise keep 8"
    )
    seed: int = _setting(0, settings.SEED, "seed of everything random")
    effort: str = _setting("balanced", settings.one_of(*EFFORTS), "how long synthesis and fine-tuning may take")
    recipe: tuple[str, ...] = _setting(
        (), RECIPE, "settings that replace those of the effort, see --print-recipe; may be repeated"
    )
    observer: str = _setting(
        "mse", settings.name_in(OBSERVERS), "how ranges are picked: minmax, percentile, mse or another package's"
    )
    io: str | None = _setting(None, settings.one_of("int8", "uint8", "int16", "float32"), "type of inputs and outputs")
    weight_storage: str | None = _setting(
        None, settings.one_of("int8", "int4"), "how weights of 4 bits or fewer are stored, default the target's"
    )
    raw_pixels: str | None = _setting(
        None,
        settings.one_of("yes", "free", "no"),
        "inputs are pixels 0..255 as they are, uint8 unless --io says otherwise; free: only where that adds no op",
    )
    metadata: str | None = _setting(
        None, settings.one_of("yes", "no"), "whether the file tells apps its normalisation and labels"
    )
    output: Path | None = _setting(None, settings.PATH, "folder to write, default build/MODEL-TARGET")  # noqa: RUF009
    threads: int | None = _setting(
        None, settings.THREADS, "threads of the work itself [default: chosen from the machine and the network]"
    )
    bench_threads: int | None = _setting(
        None, settings.THREADS, "threads of the runtime while latency is measured [default: the target's]"
    )
    cache: Path = _setting(Path(".edgeq-cache"), settings.PATH, "folder of finished stages")  # noqa: RUF009
    evaluation: str | None = _setting(
        None, settings.TEXT, "labelled images to measure with, in place of the model's own"
    )
    eval_limit: int | None = _setting(None, settings.COUNT, "measure on this many of them, evenly spaced")
    show_images: bool = _setting(
        False,
        settings.SWITCH,
        "show evaluation images in report.html, of those that float and integer answer differently",
    )
    devices: tuple[str, ...] = _setting(
        (),
        settings.DEVICES,
        "also measure there: user@host, adb:SERIAL, emulator:cortex-a76 (see edgeq devices); may be repeated",
        "--device",
    )
    strict: bool = _setting(False, settings.SWITCH, "exit 5 when a measurement must not be believed")
    force: tuple[str, ...] = _setting(
        (), settings.some_of(*FORCEABLE), "stage to run again although cached ('all' for all); may be repeated"
    )

    @property
    def target(self) -> str:
        """The one target of this build; `split` makes builds of one target each."""
        (name,) = self.targets
        return name

    def split(self) -> list[BuildConfig]:
        """One config per target. With several, each writes into its own folder under `output`.

        Raises `ConfigError` where two of these would be one folder.
        """
        if len(self.targets) == 1:
            return [self]
        stems: dict[str, str] = {}
        for name in self.targets:  # folders are told apart by these, on some disks without regard to case
            other = stems.setdefault(Path(name).stem.casefold(), name)
            if other != name:
                raise ConflictError(
                    f"--target {other} --target {name}",
                    why="both would write into one folder, named after the target",
                    hint="rename one of the files, or build one after the other with an --output each",
                )
        outputs = [None if self.output is None else self.output / Path(name).stem for name in self.targets]
        return [
            dataclasses.replace(self, targets=(name,), output=output)
            for name, output in zip(self.targets, outputs, strict=True)
        ]

    def output_folder(self, model_name: str) -> Path:
        """The folder that this build writes, for a model of this name."""
        return self.output if self.output is not None else Path("build") / f"{model_name}-{Path(self.target).stem}"

    def arguments(self) -> list[str]:
        """The command line that says the same: the model, the targets, and what is not the default."""
        words = ["edgeq", "build", *([self.model] if self.model else [])]
        for name, setting in settings_of(BuildConfig).items():
            value = getattr(self, name)
            if name in ("model", "cache", "force") or (value == setting.default and name != "targets"):
                continue
            if setting.kind.switch:
                words.append(setting.flag)
            elif setting.kind.repeated:
                words += [word for item in value for word in (setting.flag, item)]
            else:
                words += [setting.flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
        return words


@dataclass(frozen=True)
class Budget:
    """What `edgeq check` holds a finished build to. None: not checked."""

    max_drop: float | None = _setting(None, settings.AMOUNT, "largest loss of the score (top-1, mIoU, mAP), in points")
    min_score: float | None = _setting(None, settings.PERCENT, "smallest score of the integer model, in percent")
    min_agreement: float | None = _setting(
        None, settings.SHARE, "smallest share of images with the float network's answer"
    )
    max_error: float | None = _setting(
        None,
        settings.AMOUNT,
        "largest difference to the float network that 95 % of the answers keep, in the output's unit",
    )
    max_mae: float | None = _setting(None, settings.AMOUNT, "largest mean absolute error of an output, in its unit")
    min_snr_db: float | None = _setting(None, settings.AMOUNT, "smallest signal to noise of an output, in decibels")
    min_cosine: float | None = _setting(
        None, settings.SHARE, "smallest cosine to the float network's embedding that 95 % of the images reach"
    )
    max_bytes: int | None = _setting(None, settings.SIZE, "largest file, e.g. 300k or 4M")
    max_latency_ratio: float | None = _setting(None, settings.AMOUNT, "largest integer / float latency")
    max_device_drop: float | None = _setting(
        None, settings.AMOUNT, "largest loss of a device against the float network, in points"
    )
    min_device_score: float | None = _setting(None, settings.PERCENT, "smallest score of a device, in percent")
    min_device_agreement: float | None = _setting(
        None, settings.SHARE, "smallest share a device answers as the same file did on the building machine"
    )
    max_device_latency_ratio: float | None = _setting(None, settings.AMOUNT, "largest integer / float latency there")
    max_device_ms: float | None = _setting(None, settings.AMOUNT, "longest inference there, median milliseconds")
    max_device_bytes: int | None = _setting(None, settings.SIZE, "most memory there, e.g. 64M")
    max_baseline_drop: float | None = _setting(
        None, settings.AMOUNT, "largest loss of the score against --against, in points, default 1.0"
    )
    max_baseline_error_ratio: float | None = _setting(
        None, settings.AMOUNT, "largest mean error of real values / the baseline's, default 1.1"
    )
    max_baseline_size_ratio: float | None = _setting(None, settings.AMOUNT, "largest file / the baseline's")
    max_baseline_latency_ratio: float | None = _setting(
        None, settings.AMOUNT, "largest latency / the baseline's, where both were timed under the same conditions"
    )
    min_images: int | None = _setting(
        None, settings.COUNT, "fewest images that limits on accuracy are judged on, default 100"
    )
    allow_simulated: bool = _setting(
        False, settings.SWITCH, "judge the accuracy of activations below 8 bits, which no file can have"
    )

    @property
    def limits(self) -> dict[str, float | None]:
        """What a build is held to, by name, without the settings that only say how."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in ("min_images", "allow_simulated")}

    @property
    def against_baseline(self) -> dict[str, float | None]:
        """Those of the limits that compare a build with a baseline."""
        return {name: limit for name, limit in self.limits.items() if name.startswith("max_baseline")}

    def refuse_empty(self, devices: Sequence[str], build: str = "") -> None:
        """Raise `ConfigError` where no limit is set for `build`, or none of devices although `devices` are named.

        Limits against a baseline do not count: without one there is nothing to hold them to.
        """
        known = self.against_baseline
        given = [name for name, limit in self.limits.items() if limit is not None and name not in known]
        if not given:
            hint = "give a limit such as --max-drop 1.0, or [budget] in edgeq.toml"
            raise ConfigError(f"nothing to check{build and f' in {build}'}", hint=hint)
        if devices and not any("device" in name for name in given):
            raise ConfigError(f"nothing to check on {devices[0]}", hint="give a limit such as --max-device-drop 1.0")


@dataclass(frozen=True)
class Setting:
    """One field of a settings class, as the outside sees it."""

    name: str
    flag: str
    variable: str
    kind: Kind
    help: str
    default: Any


def settings_of(kind: type[BuildConfig] | type[Budget]) -> dict[str, Setting]:
    """Name to setting, in order of declaration."""
    return {
        f.name: Setting(
            f.name,
            f.metadata["flag"] or "--" + f.name.replace("_", "-"),
            "EDGEQ_" + (f.metadata["flag"].strip("-") or f.name).upper(),
            f.metadata["kind"],
            f.metadata["help"],
            f.default,
        )
        for f in dataclasses.fields(kind)
    }


@dataclass(frozen=True)
class Effective:
    """Settings after precedence. `origin` says where each came from: a flag, a variable, a file, or the default.

    `file` is the settings file that was read, or None. `unused` are the file's words about its own network, where
    another was asked for.
    """

    config: BuildConfig
    budget: Budget
    origin: Mapping[str, str]
    unused: tuple[str, ...] = ()
    file: Path | None = None

    def to_toml(self) -> str:
        """The settings as an ``edgeq.toml`` that reproduces them, with a comment per key saying where it came from."""
        lines = [self._line(name, getattr(self.config, name), name) for name in settings_of(BuildConfig)]
        budget = [self._line(name, getattr(self.budget, name), f"budget.{name}") for name in settings_of(Budget)]
        return "\n".join([*lines, "", "[budget]", *budget]) + "\n"

    def to_json(self) -> dict[str, Any]:
        """Key to value and origin."""
        values = dataclasses.asdict(self.config) | {
            f"budget.{k}": v for k, v in dataclasses.asdict(self.budget).items()
        }
        plain = {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}
        return {key: {"value": value, "from": self.origin[key]} for key, value in plain.items()}

    def _line(self, name: str, value: Any, key: str) -> str:
        text = f"# {name} is not set" if value is None else f"{name} = {settings.toml_value(value)}"
        return f"{text}  # {self.origin[key]}"


def resolve(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None = None) -> Effective:
    """Apply precedence. `flags` are settings given on the command line by name (budget keys included), values as typed.

    `file` None reads the nearest ``edgeq.toml``, in the working directory or above it (`find_config`), when there is
    one. Raises `ConfigError` naming the flag, variable or file that is wrong.
    """
    read = find_config(Path.cwd()) if file is None else file
    effective = resolve_table(
        read_toml(read) if read is not None else None, flags, environment, read or Path(CONFIG_FILE)
    )
    if file is None and read is not None and effective.origin["cache"] == "default":
        # One cache for the project, wherever in it one works.
        config = dataclasses.replace(effective.config, cache=read.parent / effective.config.cache)
        effective = dataclasses.replace(effective, config=config)
    return dataclasses.replace(effective, file=read)


def resolve_table(
    table: Mapping[str, Any] | None, flags: Mapping[str, Any], environment: Mapping[str, str], path: Path
) -> Effective:
    """Apply precedence, as `resolve` does, where `table` is what the file `path` says; None where there is no file."""
    origin: dict[str, str] = {}
    values: dict[str, Any] = {}
    budget: dict[str, Any] = {}
    from_file: Mapping[str, Any] = {}
    if table is not None:
        names = list(settings_of(BuildConfig))
        refuse_unknown(table, (*names, *_SINGULAR, "budget"), str(path))
        from_file = {_SINGULAR.get(key, key): value for key, value in table.items() if key != "budget"}
        for one, several in _SINGULAR.items():
            if one in table and several in table:
                raise TomlError(f"both {one} and {several} are given", where=str(path))
    limits = table.get("budget", {}) if table is not None else {}
    if not isinstance(limits, dict):
        raise TomlError(f"budget = {limits!r}", where=str(path), why="must be a table")
    refuse_unknown(limits, (*settings_of(Budget), "builds"), f"{path} [budget]")  # see edgeq.config.budget
    model = flags.get("model") or environment.get("EDGEQ_MODEL")
    unused: tuple[str, ...] = ()
    if model and from_file.get("model", model) != model:
        # The file's network is not the one asked for, so what it says about its network does not apply.
        unused = tuple(key for key in from_file if key in _OF_THE_MODEL)
        from_file = {key: value for key, value in from_file.items() if key not in _OF_THE_MODEL}
    for kind, given, prefix, into in (
        (BuildConfig, from_file, "", values),
        (Budget, limits, "budget.", budget),
    ):
        for name, setting in settings_of(kind).items():
            into[name], origin[prefix + name] = _pick(setting, flags, environment, given, path)
    return Effective(BuildConfig(**values), Budget(**budget), origin, unused)


def refuse_misspelt(environment: Mapping[str, str]) -> None:
    """Raise `ConfigError` for a variable that is almost one of edgeq's: it would be passed over in silence."""
    settings_too = [setting.variable for kind in (BuildConfig, Budget) for setting in settings_of(kind).values()]
    known = [*settings_too, *VARIABLES]
    for name in environment:
        if name.startswith("EDGEQ_") and name not in known and (meant := closest(name, known, cutoff=ALIKE)):
            raise VariableError(f"there is no setting {name}", where="environment", hint=f"{meant} is one")


def _pick(
    setting: Setting, flags: Mapping[str, Any], environment: Mapping[str, str], given: Mapping[str, Any], path: Path
) -> tuple[Any, str]:
    for source, value, where in (
        (setting.flag if setting.name != "model" else "MODEL", flags.get(setting.name), ""),
        (setting.variable, _folder_or_value(setting, environment.get(setting.variable)), ""),
        (str(path), given.get(setting.name), f"{path} "),
    ):
        if value is not None and value != ():  # click's word for an option that may be repeated, and was not given
            if setting.name == "cache" and is_address(str(value)):
                what = f"{where}{setting.name if where else source} is an address"
                hint = "EDGEQ_CACHE names a store that machines share"
                raise ConfigError(what, why="it names a folder on this machine", hint=hint)
            parsed = setting.kind.parse(value, where + (setting.name if where else source))
            if where and path.parent != Path():
                parsed = _resolve_relative(setting, parsed, path.parent)
            return parsed, source
    return setting.default, "default"


def _folder_or_value(setting: Setting, value: str | None) -> str | None:
    """What a variable says; EDGEQ_CACHE may be the address of a shared store, which is no folder (`edgeq.store`)."""
    return None if not value or (setting.name == "cache" and is_address(value)) else value


_SINGULAR = {"target": "targets", "device": "devices"}
"""Keys of a file that may also stand in the singular."""

_OF_THE_MODEL = ("weights", "input_shape", "mean", "std", "task", "evaluation", "output", "layer_bits")
_FILES = ("model", "weights", "evaluation", "method")


def _resolve_relative(setting: Setting, value: Any, folder: Path) -> Any:
    """Paths in a config file elsewhere are relative to it; names that are no paths stay."""
    if isinstance(value, Path):
        return folder / value
    if setting.name not in _FILES:
        return value
    prefix, rest = ("images:", value[7:]) if value.startswith("images:") else ("", value)
    return (
        prefix + str(folder / rest)
        if (folder / rest.rpartition(":")[0]).is_file() or (folder / rest).exists()
        else value
    )
