"""The Python API: what the command line does, as functions. `import edgeq` offers all names of this module.

`edgeq` loads this module when the first of its names is used, because torch takes seconds to import. Nothing here
prints: progress goes to the logger ``edgeq`` (stages and notes at INFO, steps at DEBUG). Errors are subclasses of
`edgeq.errors.EdgeqError`; each says in one line what happened, where, why, and what to do.
"""

from __future__ import annotations

from edgeq.api.builds import Report, build, check, plan
from edgeq.api.measurement import bench, evaluate, evaluate_on, inspect, verify
from edgeq.api.models import Model, load, trace
from edgeq.api.options import BuildOptions, Limits
from edgeq.api.quantization import finetune, quantize, synthesize, write
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet
from edgeq.formats.exactness import Exactness
from edgeq.graph.ir import Graph
from edgeq.integer.graph import IntegerGraph
from edgeq.measure.accuracy import Accuracy
from edgeq.report.check import CheckResult

__all__ = [
    "Accuracy",
    "BuildOptions",
    "CalibrationSet",
    "CheckResult",
    "EvaluationSet",
    "Exactness",
    "Graph",
    "IntegerGraph",
    "Limits",
    "Model",
    "Report",
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
