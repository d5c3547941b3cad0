"""The ``[task]`` table of a model.toml: what the outputs of a network mean. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.config.tasks import Kind
from edgeq.config.typed import Count, Name, Number, read
from edgeq.decode import Detections, detect, priors
from edgeq.decode_grid import GridDecoding, Heads, detect_grid
from edgeq.errors import ConfigError, TaskError

__all__ = [
    "DETECTIONS",
    "Detection",
    "Embedding",
    "GridDetection",
    "Regression",
    "Segmentation",
    "Task",
    "read_task",
    "task_kind",
    "task_table",
]


@dataclass(frozen=True)
class Segmentation:
    """Logits ``(N, classes, h, w)``, at most as fine as the masks; `classes` names them, a background too.

    Pixels whose mask holds `ignore` are not judged. Raises `ConfigError` where `ignore` is a class.
    """

    classes: tuple[Name, ...]
    ignore: Count = 255

    def __post_init__(self) -> None:
        _check_names(self.classes, 2)
        if not len(self.classes) <= self.ignore <= 255:
            raise TaskError(f"ignore = {self.ignore}", why=f"must lie between the {len(self.classes)} classes and 255")

    @property
    def outputs(self) -> int:
        """Number of logits per pixel."""
        return len(self.classes)


@dataclass(frozen=True)
class Detection:
    """Logits ``(N, anchors, 1 + classes)``, background first, and deltas ``(N, anchors, 4)``, in the order of `priors`.

    `maps` are (height, width); `sizes` are the sides of square anchors in pixels, a list per map. Boxes scoring above
    `score` count, those overlapping a better one of their class by more than `overlap` do not. Raises `ConfigError`
    for values that contradict each other.
    """

    classes: tuple[Name, ...]
    maps: tuple[tuple[int, int], ...]
    sizes: tuple[tuple[Number, ...], ...]
    score: Number = 0.5
    overlap: Number = 0.45
    variances: tuple[Number, Number] = (0.1, 0.2)

    def __post_init__(self) -> None:
        _check_names(self.classes, 1)
        if not self.maps or any(min(each) < 1 for each in self.maps):
            raise TaskError(f"maps = {_lists(self.maps)}", why="must be pairs of height and width")
        if len(self.sizes) != len(self.maps) or any(not each or min(each) <= 0 for each in self.sizes):
            raise TaskError(
                f"sizes = {_lists(self.sizes)}", why=f"must be {len(self.maps)} lists of pixels, one per map"
            )
        _check_thresholds(self.score, self.overlap)
        if min(self.variances) <= 0:
            raise TaskError(f"variances = {list(self.variances)}", why="must be two positive numbers")

    @property
    def outputs(self) -> int:
        """Number of logits per anchor."""
        return 1 + len(self.classes)

    def anchors(self, image: tuple[int, int]) -> npt.NDArray[np.float64]:
        """`priors` for an input of (height, width)."""
        return priors(image, self.maps, self.sizes)

    def detect(
        self, outputs: Sequence[npt.NDArray[Any]], anchors: npt.NDArray[np.float64], score: float | None = None
    ) -> list[Detections]:
        """Boxes of every image of a batch. `outputs` are logits and deltas as the network gives them.

        `score` replaces the task's: a mean average precision asks for boxes of any score. Raises `ConfigError` where
        the shapes are not those of the task.
        """
        logits, deltas = (np.asarray(rows) for rows in outputs) if len(outputs) == 2 else (np.empty(0), np.empty(0))
        expected = [(len(logits), len(anchors), self.outputs), (len(logits), len(anchors), 4)]
        if [logits.shape, deltas.shape] != expected:
            raise TaskError(
                f"the network answered with shapes {[list(np.shape(rows)) for rows in outputs]}",
                why=f"[task] maps, sizes and classes promise {[list(shape) for shape in expected]}",
            )
        threshold = self.score if score is None else score
        return [
            detect(one, other, anchors, score=threshold, overlap=self.overlap, variances=self.variances)
            for one, other in zip(logits, deltas, strict=True)
        ]


@dataclass(frozen=True)
class GridDetection:
    """Raw heads of the YOLO family, as `edgeq.decode_grid.GridDecoding` describes them; `classes` has no background.

    Boxes scoring above `score` count, those overlapping a better one of their class by more than `overlap` do not.
    Raises `ConfigError` for values that contradict each other.
    """

    classes: tuple[Name, ...]
    heads: Heads
    strides: tuple[Number, ...]
    reg_max: Count = 16
    extra: Count = 0
    keypoints: tuple[Count, Count] | None = None
    end_to_end: bool = False
    plain: bool = False
    score: Number = 0.25
    overlap: Number = 0.45

    def __post_init__(self) -> None:
        _check_names(self.classes, 1)
        _check_thresholds(self.score, self.overlap)
        _ = self.decoding

    @classmethod
    def of(cls, decoding: GridDecoding, names: Sequence[str] = ()) -> GridDetection:
        """The task of a network whose decoding was cut off; classes without names get numbers."""
        named = tuple(dict.fromkeys(names)) if len(set(names)) == decoding.classes else ()
        values = {field.name: getattr(decoding, field.name) for field in dataclasses.fields(decoding)}
        heads = values.pop("kind")
        classes = named or tuple(f"class {label}" for label in range(values.pop("classes")))
        return cls(**(values | {"classes": classes, "heads": heads}))

    @property
    def decoding(self) -> GridDecoding:
        return GridDecoding(
            kind=self.heads,
            strides=self.strides,
            reg_max=self.reg_max,
            classes=len(self.classes),
            extra=self.extra,
            keypoints=self.keypoints,
            end_to_end=self.end_to_end,
            plain=self.plain,
        )

    @property
    def outputs(self) -> int:
        """Number of scores per cell."""
        return len(self.classes)

    def detect(self, outputs: Sequence[npt.NDArray[Any]], score: float | None = None) -> list[Detections]:
        """Boxes of every image of a batch; `outputs` are the heads in the network's order, `score` replaces the task's.

        Raises `ConfigError` where the shapes are not those of the task.
        """
        threshold = self.score if score is None else score
        found = detect_grid(outputs, self.decoding, score=threshold, overlap=self.overlap)
        return [detections for detections, _ in found]


@dataclass(frozen=True)
class Regression:
    """Real values: all outputs of one image in order, each flattened.

    `names` and `units` are those of each value (or one unit for all); a report uses them. Raises `ConfigError` for
    two values of one name, or another number of units.
    """

    names: tuple[Name, ...] = ()
    units: tuple[Name, ...] | Name = ()

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise TaskError(f"names = {list(self.names)}", why="two values have one name")
        if isinstance(self.units, tuple) and self.units and self.names and len(self.units) != len(self.names):
            raise TaskError(f"units = {list(self.units)}", why=f"must be one text, or {len(self.names)}, as names")

    def unit(self, place: int) -> str:
        """The unit of value number `place`, "" where nothing says."""
        if isinstance(self.units, str):
            return self.units
        return self.units[place] if place < len(self.units) else ""


@dataclass(frozen=True)
class Embedding:
    """One vector per image, ``(N, D)``; of two vectors only the angle counts."""


Task = Segmentation | Detection | GridDetection | Regression | Embedding
DETECTIONS = (Detection, GridDetection)


_TABLES: dict[str, type[Task]] = {
    "segmentation": Segmentation,
    "detection": Detection,
    "regression": Regression,
    "embedding": Embedding,
}


def task_kind(task: Task) -> str:
    """The word that ``[output] task`` has for `task`."""
    if isinstance(task, GridDetection):
        return "detection"
    return next(kind for kind, table in _TABLES.items() if isinstance(task, table))


@dataclass(frozen=True)
class _Kind:
    kind: Kind


def read_task(table: Mapping[str, Any], where: str, task: str, outputs: int) -> Task:
    """The ``[task]`` table, of `where`, of a model whose ``[output]`` says `task` and `outputs` classes.

    Raises `ConfigError`.
    """
    kind = read({key: value for key, value in table.items() if key == "kind"}, _Kind, where).kind
    if kind == "classification":
        raise TaskError("[task] of a classifier", where=where, hint="leave it out; [output] labels names classes")
    if kind != task:
        raise TaskError(f"kind = {kind!r}", where=where, why=f"[output] says task = {task!r}")
    rest = {key: value for key, value in table.items() if key != "kind"}
    result: Task
    try:
        if kind == "detection" and "heads" in rest:
            result = read(rest, GridDetection, where)
        else:
            result = read(rest, _TABLES[kind], where)
    except ConfigError as error:
        raise error.at(where) from error
    if isinstance(result, Regression | Embedding):
        return result
    if result.outputs != outputs:
        raise TaskError(
            f"classes = {list(result.classes)}",
            where=where,
            why=f"makes {result.outputs} outputs{' with the background' * isinstance(result, Detection)}, "
            f"[output] says classes = {outputs}",
        )
    return result


def task_table(kind: str, task: Task) -> dict[str, Any]:
    """The table that `read_task` reads back, of numbers, texts and lists."""
    values = {name: _list_arrays(value) for name, value in dataclasses.asdict(task).items() if value is not None}
    return {"kind": kind, **values}


def _list_arrays(value: Any) -> Any:
    return [_list_arrays(each) for each in value] if isinstance(value, tuple | list) else value


def _check_names(classes: tuple[str, ...], least: int) -> None:
    if len(classes) < least or len(set(classes)) != len(classes):
        raise TaskError(f"classes = {list(classes)}", why=f"must be {least} or more names, none of them twice")


def _check_thresholds(score: float, overlap: float) -> None:
    for name, value in (("score", score), ("overlap", overlap)):
        if not 0 <= value < 1:
            raise TaskError(f"{name} = {value}", why="must be at least 0 and below 1")


def _lists(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(each) for each in rows]
