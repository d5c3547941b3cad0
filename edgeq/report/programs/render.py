"""The program for a build: the languages and runtimes that there are for its file, and the template filled in."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import msgspec

from edgeq import decode, decode_grid
from edgeq.errors import ArtifactError, ConfigError
from edgeq.report.fields.use import GridHeads, Use
from edgeq.report.programs.literals import FILTERS, float32
from edgeq.report.schema import validate

__all__ = ["LANGUAGES", "Program", "program", "programs"]


@dataclass(frozen=True)
class Language:
    """`title` is what people call it, `template` and `file` name our template and the user's file.

    `runtimes` maps what runs a file to what has to be installed for it.
    """

    title: str
    template: str
    file: str
    runtimes: Mapping[str, str]


_TFLITE_JAVA = {
    "litert": "com.google.ai.edge.litert:litert:1.4.0",
    "tflite-runtime": "org.tensorflow:tensorflow-lite:2.16.1",
}
LANGUAGES: Mapping[str, Language] = {
    "python": Language(
        "Python",
        "python.j2",
        "use.py",
        {
            "litert": "numpy ai-edge-litert",
            "tflite-runtime": "'numpy<2' tflite-runtime",
            "onnxruntime": "numpy onnxruntime",
        },
    ),
    "kotlin": Language("Kotlin (Android)", "kotlin.j2", "Model.kt", _TFLITE_JAVA),
    "c++": Language("C++", "cpp.j2", "use.cc", {"litert": "", "tflite-runtime": ""}),
}
MODULES = {"litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}

_GRID = (
    decode.Detections,
    decode.iou,
    decode.nms,
    decode_grid.GridDecoding,
    decode_grid.decode_grid,
    decode_grid.detect_grid,
    decode_grid.instance_masks,
    decode_grid._branches,
    decode_grid._cells,
    decode_grid._sides,
    decode_grid._oriented,
    decode_grid._keypoints,
    decode_grid._around,
    decode_grid._sigmoid,
)
_HOST: Mapping[str, tuple[Any, ...]] = {
    "grid": _GRID,
    "anchors": (
        decode.Detections,
        decode.priors,
        decode.decode_boxes,
        decode.iou,
        decode.nms,
        decode.detect,
    ),
    "segmentation": (decode.enlarge,),
}
"""What the host computes behind the file, by what its outputs mean: code that a Python program takes along."""

_ERROR = """class ConfigError(ValueError):
    def __init__(self, what: str, why: str = "", hint: str = "") -> None:
        super().__init__(f"{what}: {why}")
"""


@dataclass(frozen=True)
class Program:
    """`text` of a whole program in `language`, called `title`; a user keeps it as `file`, `runtime` runs the model."""

    language: str
    title: str
    runtime: str
    file: str
    text: str


def program(report: Mapping[str, Any], language: str = "python", runtime: str | None = None) -> Program:
    """The program that runs the file of the build that `report` is about.

    `runtime` is one of those that the report names for the file, by default the target's. Raises `ArtifactError` for a
    report that is not whole or of an earlier edgeq, and `ConfigError` where no program in `language` runs such a file.
    """
    if faults := validate(report):
        raise ArtifactError("the report is not whole", why=faults[0], hint="build again")
    if "use" not in report:
        raise ArtifactError(
            "the report does not say how its file is used", why="an earlier edgeq wrote it", hint="build again"
        )
    use = msgspec.convert(report["use"], Use)
    name = str(report["artifact"]["path"])
    choices = _runtimes(use, language)
    if not choices:
        raise ConfigError(
            f"no {LANGUAGES[language].title} program for {name}",
            why="it is for TFLite files",
            hint="build for a tflite target",
        )
    runtime = runtime or choices[0]
    if runtime not in choices:
        raise ConfigError(f"--runtime {runtime} for {name}", hint=f"choose from {', '.join(choices)}")
    return _fill(report, use, language, runtime)


def programs(report: Mapping[str, Any]) -> list[Program]:
    """A program in every language that can run the file; none for a report that does not say how."""
    if "use" not in report:
        return []
    use = msgspec.convert(report["use"], Use)
    return [program(report, language) for language in LANGUAGES if _runtimes(use, language)]


def _runtimes(use: Use, language: str) -> list[str]:
    return [name for name in use.runtimes if name in LANGUAGES[language].runtimes]


def _fill(report: Mapping[str, Any], use: Use, language: str, runtime: str) -> Program:
    known = LANGUAGES[language]
    channels, height, width = _check(use)
    meaning = _meaning(report, use)
    series = height == 1 < width and "raw_pixels" not in report
    deltas = _deltas(use)
    scores = _scores(use, meaning, deltas)
    binary = meaning == "classification" and scores == 1 and len(use.labels) == 2
    picture = channels in (1, 3) and height > 1
    text = _template(known.template).render(
        about=f"{report['model']} for {report['target']}: what the network answers. Printed by edgeq.",
        file=str(report["artifact"]["path"]),
        program=known.file,
        packages=known.runtimes[runtime] + " pillow" * (picture and language == "python"),
        example="picture.jpg" if picture else "input.npy",
        runtime=runtime,
        module=MODULES.get(runtime),
        onnx=runtime == "onnxruntime",
        builtin=use.kernels == "builtin",
        use=use,
        labels=use.labels if binary or len(use.labels) == scores else [],
        channels=channels,
        height=height,
        width=width,
        resize=use.resize or 0,
        picture=picture,
        values=series,
        raw="raw_pixels" in report,
        shape=tuple(use.input.shape),
        limits=LIMITS.get(use.input.type),
        outputs=", ".join(f"{each.type} {tuple(each.shape)}" for each in use.outputs),
        maps=any(len(each.shape) == 4 for each in use.outputs),
        floats_out=all(each.type == "float32" for each in use.outputs),
        grids=_grids(use),
        meaning=meaning,
        binary=binary,
        host=_host_code(meaning),
        decoding=repr(_decoding(use.heads)) if use.heads else "",
        deltas=deltas,
        boxes=meaning in ("grid", "anchors"),
        suppress=_overlap(use),
        third=_third(use),
        left=str(report["host"]["work"]) + " is left to you." if "host" in report else "",
    )
    return Program(language, known.title, runtime, known.file, text)


def _meaning(report: Mapping[str, Any], use: Use) -> str:
    """What the outputs mean: grid and anchors for detectors that are decoded, "" for raw values."""
    if use.heads or use.anchors:
        return "grid" if use.heads else "anchors"
    task = str(report.get("task", ""))
    if task == "segmentation" and len(use.outputs[0].shape) != 4:
        return ""
    return task if task in ("classification", "segmentation", "regression", "embedding") else ""


def _deltas(use: Use) -> int:
    """Which output of a detector with anchors holds the deltas: runtimes may list them first."""
    last = [each.shape[-1] if each.shape else 0 for each in use.outputs]
    return 0 if use.anchors and last[0] == 4 != last[-1] else 1


def _scores(use: Use, meaning: str, deltas: int) -> int:
    """How many classes the outputs tell apart, a detector's background not counted."""
    if use.heads:
        return use.heads.classes
    first = use.outputs[0].shape
    if meaning == "anchors":
        return use.outputs[1 - deltas].shape[-1] - 1
    if meaning == "segmentation":
        return first[-1] if use.channels_last else first[1]
    return first[-1] if meaning == "classification" else 0


def _overlap(use: Use) -> float | None:
    """The overlap from which boxes are suppressed; None where none are."""
    if use.anchors:
        return use.anchors.overlap
    return use.heads.overlap if use.heads and not use.heads.end_to_end else None


def _third(use: Use) -> str:
    """What is left of a detector's third branch, where programs in Kotlin and C++ decode boxes alone."""
    if not use.heads or use.heads.kind == "detect":
        return ""
    if use.heads.kind == "obb":
        return " Boxes are the upright ones around the oriented ones."
    return f" {'Masks' if use.heads.kind == 'segment' else 'Keypoints'} are left to you; the Python program has them."


def _check(use: Use) -> tuple[int, int, int]:
    """The input's channels, height and width. Raises `ArtifactError` for a section that contradicts itself."""
    wrong = ""
    if len(use.input.shape) != 4 or not use.outputs or not all(each.shape for each in use.outputs):
        wrong = "one picture goes in, and something comes out"
    elif use.anchors and (len(use.outputs) != 2 or len(use.anchors.maps) != len(use.anchors.sizes)):
        wrong = "anchors have logits and deltas, and sizes for each map"
    elif use.anchors and any(len(each) != 2 for each in use.anchors.maps):
        wrong = "maps are pairs of height and width"
    elif any(each.type != "float32" and not each.scale for each in (use.input, *use.outputs)):
        wrong = "integers have a scale"
    if not wrong:
        _, *sizes = use.input.shape
        channels, height, width = (sizes[2], *sizes[:2]) if use.channels_last else sizes
        if len(use.mean) == len(use.std) == channels:
            return channels, height, width
        wrong = "mean and std have a number per channel"
    raise ArtifactError("the report contradicts itself", where="use", why=wrong, hint="build again")


def _grids(use: Use) -> str:
    """Scale and zero point of every output, as Python has them."""
    grids = [f"({float32(each.scale or 1.0)}, {each.zero_point or 0})" for each in use.outputs]
    return f"[{', '.join(grids)}]"


def _decoding(heads: GridHeads) -> decode_grid.GridDecoding:
    """Raises `ConfigError` for heads that contradict themselves."""
    given = msgspec.structs.asdict(heads)
    del given["score"], given["overlap"]
    return decode_grid.GridDecoding(
        **{
            **given,
            "strides": tuple(given["strides"]),
            "keypoints": tuple(given["keypoints"]) if given["keypoints"] else None,
        }
    )


@functools.cache
def _host_code(meaning: str) -> str:
    """Our own functions, so that a program computes what a build measures."""
    parts = [inspect.getsource(part) for part in _HOST.get(meaning, ())]
    return "\n\n".join(([_ERROR] if meaning in ("grid", "anchors") else []) + parts)


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(  # noqa: S701  these are programs, not pages: every text passes a filter
        loader=jinja2.PackageLoader("edgeq.report", "programs"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(name)
