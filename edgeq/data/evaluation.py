"""Labelled images for measuring, and the user's own pictures for calibrating: two types that never mix.

What measures takes an `EvaluationSet`, what calibrates takes a `CalibrationSet`; only `calibration_from_images` turns
pictures into the latter, and it refuses pictures that are also in the evaluation set.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.config.tasks import UNSCORED
from edgeq.data.calibration import CalibrationSet
from edgeq.data.npz import read_npz
from edgeq.data.pictures import PICTURES, find_labelled, find_plain, read_picture
from edgeq.data.truths import ARRAYS, Truths, check_truths, truths_sha256
from edgeq.data.values import check_pairs, check_values, no_truths, read_pair_table, read_value_table
from edgeq.errors import ImagesError, LabelsError, LeakError
from edgeq.model.pycode import call, import_callable
from edgeq.model.spec import ModelSpec

__all__ = [
    "EvaluationSet",
    "bar_evaluation",
    "calibration_from_images",
    "check_images",
    "evaluation_from_arrays",
    "load_images",
]

Pixels = npt.NDArray[np.uint8]
Choice = Callable[[int], Sequence[int]]
"""From the number of images that exist to the indices of those to read; called before anything is decoded."""

IN_MEMORY = 512 * 2**20
"""Decoded pictures beyond this many bytes live in an unnamed temporary file instead of memory."""

_BARRED: ContextVar[str] = ContextVar("barred", default="")


@contextlib.contextmanager
def bar_evaluation(during: str) -> Iterator[None]:
    """Context in which every access to an evaluation image or label raises `MeasurementError`, which names `during`.

    Types keep evaluation images out of what calibrates and trains; this catches whatever gets around them.
    """
    token = _BARRED.set(during)
    try:
        yield
    finally:
        _BARRED.reset(token)


def _insist(what: str) -> None:
    during = _BARRED.get()
    if during:
        raise LeakError(
            f"{what} touched during {during}",
            why="accuracy on images that steered training proves nothing",
            hint="this is a mistake in edgeq, or in a plug-in",
        )


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Evaluation images: `images` uint8 ``(N, H, W, C)`` at the network's input size, `labels` their `Truths`.

    `source` is what the user named. `sha256` is of pixels and labels, and does not depend on the files they came in.
    `note` is a warning about the labels for the user, or an empty text.
    """

    images: Pixels
    labels: Truths
    source: str
    sha256: str
    note: str = ""

    def __getattribute__(self, name: str) -> Any:
        if name in ("images", "labels"):
            _insist("evaluation images")
        return object.__getattribute__(self, name)

    def __len__(self) -> int:
        return len(self.images)

    def part(self, limit: int) -> EvaluationSet:
        """A set of at most `limit` of the images, evenly spaced."""
        chosen = _spread(len(self), limit)
        pixels, labels = self.images[chosen], self.labels[chosen]
        if len(chosen) == len(self):
            return self
        return replace(self, images=pixels, labels=labels, sha256=_digest(pixels, labels))

    def batches(self, spec: ModelSpec, size: int = 64) -> Iterator[tuple[npt.NDArray[np.float32], Truths]]:
        """Normalised inputs ``(n, C, H, W)`` with their labels, at most `size` at a time."""
        for start in range(0, len(self), size):
            yield spec.normalise(self.images[start : start + size]), self.labels[start : start + size]


def load_images(path: str | Path, spec: ModelSpec, limit: int | None = None) -> EvaluationSet:
    """The labelled images at `path`, every one decoded and checked now rather than after hours of work.

    `path` is an ``.npz`` (uint8 NHWC ``images``, and the arrays `ARRAYS` names for the task), a folder of class folders
    (see `number_folders`), a ``.csv`` (see docs/reference/evaluation.md for its columns), or ``file.py:function``
    returning (images, truths) or a dictionary of both. Labels are class indices, or names where the model has `labels`.
    Regressors and embeddings also take images of which nothing is known. `limit` takes that many, evenly spaced, so
    that sets sorted by class keep every class. Raises `ConfigError`.
    """
    _insist(f"evaluation images {path}")
    pixels, labels, note = _read(str(path), spec, lambda total: _spread(total, limit))
    if labels is None and spec.task in UNSCORED:
        labels = no_truths(spec, len(pixels))
    if labels is None:
        raise LabelsError(
            f"{path} holds pictures without labels",
            hint="use class folders, a CSV with columns filename,label, or an .npz with images and "
            + " and ".join(ARRAYS[spec.task]),
        )
    return _make_set(pixels, labels, str(path), spec, note)


def evaluation_from_arrays(images: Pixels, truths: Any, spec: ModelSpec) -> EvaluationSet:
    """Labelled images that are in memory: uint8 ``(N, H, W, C)``, and what is true of them as in an ``.npz``.

    `truths` are labels ``(N,)`` of a classifier, else a mapping of the arrays that `ARRAYS` names. Raises
    `ConfigError`.
    """
    _insist("evaluation images")
    pixels, labels = _check(np.asarray(images), truths, "the given images", spec)
    if labels is None and spec.task in UNSCORED:
        labels = no_truths(spec, len(pixels))
    if labels is None:
        raise LabelsError("the given images have no labels")
    return _make_set(pixels, labels, "the given images", spec, "")


def _make_set(pixels: Pixels, labels: Truths, path: str, spec: ModelSpec, note: str) -> EvaluationSet:
    if spec.task == "classification" and (labels.min() < 0 or labels.max() >= spec.decisions):
        raise LabelsError(
            f"labels of {path} go from {labels.min()} to {labels.max()}",
            why=f"{spec.name} has {spec.decisions} classes, 0 to {spec.decisions - 1}",
        )
    return EvaluationSet(pixels, labels, path, _digest(pixels, labels), note)


def calibration_from_images(
    path: str | Path, spec: ModelSpec, count: int, seed: int = 0, *, forbidden: EvaluationSet | None = None
) -> CalibrationSet:
    """``images:PATH``: `count` pictures (or all there are, when fewer), picked at random by `seed`, as calibration set.

    `path` may also be a folder or an ``.npz`` of pictures without labels.
    Raises `ConfigError`, also when a picture is in `forbidden`: accuracy on images that set the ranges proves nothing.
    """
    unnamed = replace(spec, labels=())  # names of folders mean nothing here
    pixels, labels, _ = _read(
        str(path), unnamed, lambda total: sorted(np.random.default_rng(seed).permutation(total)[:count]), numbered=False
    )
    if forbidden is not None:
        taken = {hashlib.sha256(image.tobytes()).digest() for image in forbidden.images}
        shared = sum(hashlib.sha256(image.tobytes()).digest() in taken for image in pixels)
        if shared:
            raise ImagesError(
                f"{shared} of {len(pixels)} calibration images in {path} are also evaluation images",
                where=forbidden.source,
                hint="calibrate with other pictures, such as some of the training set",
            )
    known = labels if labels is not None and labels.dtype == np.int64 else np.full(len(pixels), -1, np.int64)
    return CalibrationSet(spec.normalise(pixels), known, f"images:{Path(path).name}")


def check_images(path: str) -> None:
    """Raise `ConfigError` where there is nothing at `path`, or nothing that holds images; what is in it is not read."""
    module, source = path.rpartition(":")[0], Path(path)
    if not path.strip():
        raise ImagesError("images without a path", hint="such as images:photos/ or images:photos.npz")
    if module.endswith(".py"):
        if not Path(module).exists():
            raise ImagesError(f"images {path}", why=f"Python file {module} does not exist")
        return
    try:
        exists = source.exists()
    except OSError as error:  # a name that is too long
        raise ImagesError(f"images {path[:100]}", why=error.strerror or str(error)) from error
    if not exists:
        raise ImagesError(f"images {path} do not exist")
    if not (source.suffix in (".npz", ".csv") or source.is_dir()):
        raise ImagesError(f"images {path}", why="must be an .npz, a .csv, a folder, or file.py:function")


def _read(path: str, spec: ModelSpec, choose: Choice, *, numbered: bool = True) -> tuple[Pixels, Truths | None, str]:
    """Pixels, truths where there are any, and the note of an `EvaluationSet`."""
    check_images(path)
    source = Path(path)
    if path.rpartition(":")[0].endswith(".py"):
        pixels, labels = _from_function(path, spec)
    elif source.suffix == ".npz":
        pixels, labels = _from_npz(source, spec)
    else:
        return _from_files(source, spec, choose, numbered)
    chosen = choose(len(pixels))
    if len(chosen) == len(pixels):
        return pixels, labels, ""
    return pixels[chosen], None if labels is None else labels[chosen], ""


def _from_npz(path: Path, spec: ModelSpec) -> tuple[Pixels, Truths | None]:
    arrays = read_npz(path, ["images"], [*ARRAYS[spec.task], "prepared"])
    prepared = arrays.pop("prepared", np.array(False))
    if prepared.dtype == np.bool_ and prepared.all():
        spec = replace(spec, resize=None, crop=None)  # as `edgeq synth` writes them: at the input's size
    pixels = arrays.pop("images")
    if set(arrays) != set(ARRAYS[spec.task]):
        return _check(pixels, None, str(path), spec)
    return _check(pixels, arrays if len(arrays) > 1 else next(iter(arrays.values())), str(path), spec)


def _from_function(reference: str, spec: ModelSpec) -> tuple[Pixels, Truths | None]:
    result = call(import_callable(reference), reference, {})
    names = ARRAYS[spec.task]
    if isinstance(result, Mapping) and {"images", *names} <= set(result):
        result = (result["images"], result[names[0]] if len(names) == 1 else {name: result[name] for name in names})
    if not isinstance(result, tuple) or len(result) != 2:
        raise ImagesError(
            f"{reference} returned {type(result).__name__}",
            why=f"must return (images, {names[0]}), or a dictionary of images, {', '.join(names)}",
        )
    return _check(np.asarray(result[0]), result[1], reference, spec)


def _check(images: npt.NDArray[Any], given: Any | None, source: str, spec: ModelSpec) -> tuple[Pixels, Truths | None]:
    """The images, uint8 at the network's input size, and their truths. Raises `ConfigError` for others."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ImagesError(
            f"images of {source} are {images.dtype} {list(images.shape)}", why="must be uint8 (N, H, W, C)"
        )
    labels = None if given is None else check_truths(given, len(images), source, spec)
    if not len(images):
        raise ImagesError(f"{source} holds no images")
    if images.shape[1] == spec.input_shape[0] != images.shape[3]:
        raise ImagesError(
            f"images of {source} are {list(images.shape)}",
            why="is channels first; must be (N, H, W, C)",
            hint="store images.transpose(0, 2, 3, 1)",
        )
    if spec.task in ("segmentation", "detection"):
        spec = replace(spec, resize=None, crop=None)  # pictures must not move under their masks and boxes
    channels, height, width = spec.input_shape
    fits = images.shape[3] == channels in (1, 3) and 0 not in images.shape
    if fits and (spec.resize is not None or spec.crop is not None):
        from PIL import Image

        from edgeq.data.pictures import fit_picture

        plain = (image if channels == 3 else image[:, :, 0] for image in images)
        images = np.stack([fit_picture(Image.fromarray(image), spec, source) for image in plain])
    if images.shape[1:] != (height, width, channels):
        raise ImagesError(
            f"images of {source} are {list(images.shape[1:])}",
            why=f"{spec.name} takes {[height, width, channels]} (height, width, channels)",
            hint="set resize and crop under [input]",
        )
    return images, labels


def _from_files(path: Path, spec: ModelSpec, choose: Choice, numbered: bool) -> tuple[Pixels, Truths | None, str]:
    if spec.task in UNSCORED:
        return _from_unscored(path, spec, choose)
    files, labels, note = find_labelled(path, spec, numbered=numbered)
    files = files or find_plain(path)
    if not files:
        raise ImagesError(f"{path} holds no pictures", hint=f"they end in {', '.join(PICTURES)}")
    chosen = choose(len(files))
    pixels = _decode([files[i] for i in chosen], spec)
    return pixels, np.array([labels[i] for i in chosen], np.int64) if labels else None, note


def _from_unscored(path: Path, spec: ModelSpec, choose: Choice) -> tuple[Pixels, Truths | None, str]:
    """As `_from_files`, for tasks without classes: folders in a folder mean nothing, and tables hold no labels."""
    truths = None
    if path.suffix != ".csv":
        files = find_plain(path) or find_labelled(path, replace(spec, labels=()), numbered=False)[0]
    elif spec.task == "regression":
        files, values = read_value_table(path, spec)
        truths = check_values(values, len(files), str(path), spec)
    else:
        files, pairs = read_pair_table(path)
        truths = check_pairs(pairs, len(files), str(path))
    if not files:
        raise ImagesError(f"{path} holds no pictures", hint=f"they end in {', '.join(PICTURES)}")
    chosen = choose(len(files))
    return _decode([files[i] for i in chosen], spec), None if truths is None else truths[chosen], ""


def _decode(files: Sequence[Path], spec: ModelSpec) -> Pixels:
    channels, height, width = spec.input_shape
    shape = (len(files), height, width, channels)
    if np.prod(shape, dtype=np.int64) <= IN_MEMORY:
        pixels: Pixels = np.empty(shape, np.uint8)
    else:
        with tempfile.TemporaryFile() as file:  # unlinked at once; the mapping keeps its pages alive
            pixels = np.memmap(file, np.uint8, "w+", shape=shape)
    for index, file_path in enumerate(files):
        pixels[index] = read_picture(file_path, spec)
    return pixels


def _spread(total: int, limit: int | None) -> list[int]:
    """`limit` indices below `total`, evenly spaced; all of them where `limit` is None or large."""
    if limit is None or limit >= total:
        return list(range(total))
    return [int(i) for i in np.linspace(0, total - 1, limit).round()]


def _digest(pixels: Pixels, labels: Truths) -> str:
    total = hashlib.sha256(str(pixels.shape).encode())
    for image in pixels:
        total.update(image.tobytes())
    truths_sha256(total, labels)
    return total.hexdigest()
