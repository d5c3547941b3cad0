"""edgeq turns a pretrained PyTorch network into an exact integer model for an edge device, without training data.

The functions are those of `edgeq.api`, loaded when the first of them is used: `import edgeq` imports no torch.
docs/how-to/python.md shows how to use them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgeq.errors import (
    ArtifactError,
    ConfigError,
    DeviceError,
    EdgeqError,
    GateError,
    MeasurementError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from edgeq.api import (
        Accuracy,
        BuildOptions,
        CalibrationSet,
        CheckResult,
        EvaluationSet,
        Exactness,
        Graph,
        IntegerGraph,
        Limits,
        Model,
        Report,
        bench,
        build,
        check,
        evaluate,
        evaluate_on,
        finetune,
        inspect,
        load,
        plan,
        quantize,
        synthesize,
        trace,
        verify,
        write,
    )

__all__ = [
    "Accuracy",
    "ArtifactError",
    "BuildOptions",
    "CalibrationSet",
    "CheckResult",
    "ConfigError",
    "DeviceError",
    "EdgeqError",
    "EvaluationSet",
    "Exactness",
    "GateError",
    "Graph",
    "IntegerGraph",
    "Limits",
    "MeasurementError",
    "Model",
    "Report",
    "UnsupportedError",
    "bench",
    "build",
    "check",
    "evaluate",
    "evaluate_on",
    "finetune",
    "inspect",
    "load",
    "plan",
    "quantize",
    "synthesize",
    "trace",
    "verify",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module("edgeq.api"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, where `edgeq.finetune` is the function although there is also a subpackage of that name.

    Importing a subpackage sets it as an attribute of its package, which would hide the function. ``from edgeq.finetune
    import ...`` does not look at the attribute and finds the subpackage.
    """

    @property
    def finetune(self) -> Any:
        return import_module("edgeq.api").finetune

    @finetune.setter
    def finetune(self, subpackage: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
