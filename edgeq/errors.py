"""Errors a person can act on: what happened, where, why, and what to do next.

Every failure edgeq foresees is an :class:`EdgeqError`. The command line prints its one line with the class's `code`
and exits with its status; nothing else in edgeq calls ``sys.exit`` or prints a traceback for bad input.

The first digit of a code is the exit status. A code keeps its meaning for ever: a new kind of failure gets a new class
with a new code, and an entry in ``edgeq/cli/codes.toml``, which `edgeq explain` and docs/reference/codes.md print.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

__all__ = [
    "ArtifactError",
    "ConfigError",
    "ConflictError",
    "DeviceBusyError",
    "DeviceError",
    "DivergedError",
    "EdgeqError",
    "EmulatorError",
    "GateError",
    "ImagesError",
    "InexactError",
    "InputError",
    "InstallError",
    "LabelsError",
    "LeakError",
    "LockError",
    "MeasurementError",
    "MethodLimitError",
    "ModelError",
    "NetworkFormError",
    "NoRuntimeError",
    "OccupiedError",
    "PluginError",
    "RuntimeCrashError",
    "TargetError",
    "TargetLimitError",
    "TaskError",
    "TimingError",
    "TomlError",
    "TooLargeError",
    "UnknownDeviceError",
    "UnknownNameError",
    "UnreachableError",
    "UnsupportedError",
    "VariableError",
    "WeightsError",
    "coded",
    "printable",
]


Error = TypeVar("Error", bound="EdgeqError")


class EdgeqError(Exception):
    """One line for a person: *what*, *where* (a module path, file or op), *why*, and a *hint* for the next step."""

    exit_status: ClassVar[int] = 2
    code: ClassVar[str] = "E200"

    def __init_subclass__(cls, *, code: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        if code:
            cls.code, cls.exit_status = code, int(code[1])

    def __init__(self, what: str, *, where: str = "", why: str = "", hint: str = "") -> None:
        self.what, self.where, self.why, self.hint = what, where, why, hint
        line = what
        if where:
            line += f" at {where}"
        if why:
            line += f": {why}"
        if hint:
            line += f" ({hint})"
        super().__init__(printable(" ".join(line.split())))

    def at(self: Error, where: str) -> Error:
        """The same error, said to be `where` unless it says so itself."""
        return self if self.where else type(self)(self.what, where=where, why=self.why, hint=self.hint)


def printable(text: str, *, keep: str = "") -> str:
    """Return `text` with every character that is not shown as itself spelt out, except those in `keep`.

    Names out of files and answers of devices must not steer a terminal: control characters, text direction, invisible
    characters and line separators become what Python writes for them (``\\x1b``, ``\\u202e``).
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else repr(sign)[1:-1] for sign in text)


def coded(code: str, text: str) -> str:
    """Return a warning with its code behind it, as the command line shows an error: ``text [W130]``."""
    return f"{text} [{code}]"


class GateError(EdgeqError, code="E100"):
    """A measured value missed a threshold the user set."""


class InexactError(GateError, code="E110"):
    """A written file computes other integers than the reference."""


class ConfigError(EdgeqError, code="E200"):
    """The command line, a TOML file, weights or images are not what they should be."""


class UnknownNameError(ConfigError, code="E202"):
    """A name is not among the choices."""


class ConflictError(ConfigError, code="E203"):
    """Settings that exclude each other, or of which one needs another."""


class TomlError(ConfigError, code="E210"):
    """A TOML file cannot be read, or holds an unknown key or a wrong value."""


class VariableError(ConfigError, code="E211"):
    """An environment variable is misspelt or not set."""


class TargetError(ConfigError, code="E212"):
    """A target is unknown, or its file says what no format has."""


class ModelError(ConfigError, code="E220"):
    """A network cannot be found, imported or made."""


class WeightsError(ConfigError, code="E221"):
    """Weights are missing, damaged, or of another network."""


class InputError(ConfigError, code="E222"):
    """A network's input shape, mean, std, crop or labels are wrong or not stated."""


class TaskError(ConfigError, code="E223"):
    """A network's outputs are not what its task says."""


class InstallError(ConfigError, code="E224"):
    """An optional package is not installed."""


class ImagesError(ConfigError, code="E230"):
    """Images, for calibration or evaluation, are missing or not of the right kind."""


class LabelsError(ConfigError, code="E231"):
    """Labels, masks, boxes or values do not fit the network or the images."""


class PluginError(ConfigError, code="E240"):
    """Another package's plug-in cannot be loaded, or failed."""


class LockError(ConfigError, code="E250"):
    """A build cannot be repeated from its lock."""


class ArtifactError(ConfigError, code="E260"):
    """A file could not be read or written whole."""


class OccupiedError(ArtifactError, code="E261"):
    """A folder would be replaced that must not be."""


class TooLargeError(ArtifactError, code="E262"):
    """A file is larger, or unpacks to more, than edgeq reads."""


class RuntimeCrashError(ArtifactError, code="E263"):
    """A runtime or parser crashed, hung or ran out of memory on a file."""


class UnsupportedError(EdgeqError, code="E300"):
    """The network holds something edgeq, or the chosen target, cannot express in integers."""


class NetworkFormError(UnsupportedError, code="E310"):
    """A network's form is not supported: it takes no single image, or holds no plain weights."""


class TargetLimitError(UnsupportedError, code="E320"):
    """The target's file format or kernels cannot compute this."""


class MethodLimitError(UnsupportedError, code="E330"):
    """A method needs something that the network does not have."""


class DeviceError(EdgeqError, code="E400"):
    """A device could not do its part."""


class UnknownDeviceError(DeviceError, code="E401"):
    """A name is not that of a device."""


class UnreachableError(DeviceError, code="E402"):
    """A device does not answer, or the program that reaches it is missing."""


class DeviceBusyError(DeviceError, code="E403"):
    """Somebody else is using the device."""


class NoRuntimeError(DeviceError, code="E410"):
    """A runtime is not installed, or does not run there."""


class EmulatorError(DeviceError, code="E420"):
    """The emulated Arm is missing or cannot be made."""


class MeasurementError(EdgeqError, code="E500"):
    """A measurement ran but must not be believed."""


class TimingError(MeasurementError, code="E510"):
    """A latency was disturbed."""


class LeakError(MeasurementError, code="E520"):
    """Evaluation images were touched before evaluation."""


class DivergedError(MeasurementError, code="E530"):
    """Training diverged."""
