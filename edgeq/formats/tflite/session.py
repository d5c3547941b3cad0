"""TFLite files run by LiteRT (or its predecessor tflite-runtime): ours and anybody else's.

One of the two packages per process: loading both crashes. `ai_edge_litert` wins; `tflite_runtime` is taken only beside
numpy 1, because with numpy 2 its import succeeds and its first interpreter does not.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeq.errors import ArtifactError, ConfigError, NoRuntimeError
from edgeq.formats.session import Session
from edgeq.isolation import alive, read_untrusted
from edgeq.limits import read_bytes

__all__ = ["KERNELS", "FileTensor", "LiteRTSession", "file_tensors", "interpreter_module"]

KERNELS = ("xnnpack", "builtin", "reference")
INSTALL = "pip install ai-edge-litert  (armv7l or Python 3.9: pip install tflite-runtime 'numpy<2')"
DELEGATE = "DELEGATE"
LONGEST_REASON = 200
"""The most characters of the runtime's own message that are passed on; it repeats itself for each tensor."""
_IMAGE_CHANNELS = (1, 3, 4)


def interpreter_module() -> tuple[ModuleType, str]:
    """The interpreter module found and its ``"package version"``. `DeviceError` with the pip line if there is none."""
    packages = [("ai_edge_litert.interpreter", "ai-edge-litert"), ("tflite_runtime.interpreter", "tflite-runtime")]
    for module, package in packages[: 2 if int(np.__version__.split(".")[0]) < 2 else 1]:
        try:
            return importlib.import_module(module), f"{package} {importlib.metadata.version(package)}"
        except ImportError:
            continue
    raise NoRuntimeError("no TFLite runtime is installed", hint=INSTALL)


@contextlib.contextmanager
def _hide_greeting() -> Iterator[None]:
    """What a runtime writes to standard error meanwhile, less its news of having started a delegate.

    It knows no way to ask it for silence, and writes past Python.
    """
    try:
        kept = os.dup(2)
    except OSError:  # a program without standard error
        yield
        return
    with tempfile.TemporaryFile() as captured:
        os.dup2(captured.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            captured.seek(0)
            for line in captured:
                if not line.startswith(b"INFO: "):
                    os.write(2, line)


class FileTensor(NamedTuple):
    """An input or output as the file has it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class LiteRTSession(Session):
    """A TFLite file with one input, batch 1, loaded from a path or its bytes.

    `kernels` is ``xnnpack`` (what devices run), ``builtin`` (optimised, no delegate) or ``reference``. `channels` tells
    an NHWC from an NCHW input where the shape leaves it open; `nhwc` settles it. `keep_all` keeps every intermediate
    tensor readable. Raises `ArtifactError` for a file the runtime refuses.
    """

    def __init__(
        self,
        model: Path | str | bytes,
        *,
        kernels: str = "xnnpack",
        threads: int = 1,
        channels: int | None = None,
        nhwc: bool = False,
        keep_all: bool = False,
    ) -> None:
        if kernels not in KERNELS:
            raise ConfigError(f"no TFLite kernels are called {kernels!r}", hint=f"one of {', '.join(KERNELS)}")
        module, self.runtime = interpreter_module()
        self.kernels, self.threads = kernels, threads
        resolver = {
            "xnnpack": module.OpResolverType.BUILTIN,
            "builtin": module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": module.OpResolverType.BUILTIN_REF,
        }[kernels]
        self._where = "model bytes" if isinstance(model, bytes) else str(model)
        data = model if isinstance(model, bytes) else _read(Path(model))
        try:
            with _hide_greeting():
                self._interpreter = module.Interpreter(
                    model_content=data,
                    num_threads=threads,
                    experimental_op_resolver_type=resolver,
                    experimental_preserve_all_tensors=keep_all,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            why = str(error)[:LONGEST_REASON]
            raise ArtifactError("not a TFLite model this runtime can run", where=self._where, why=why) from error
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        if len(self._inputs) != 1:
            raise ArtifactError(f"a model with {len(self._inputs)} inputs", where=self._where, hint="one image goes in")
        self._shape: tuple[int, ...] = tuple(int(n) for n in self._inputs[0]["shape"])
        self._nhwc = len(self._shape) == 4 if nhwc else _is_nhwc(self._shape, channels)
        self._ops: list[dict[str, Any]] = self._interpreter._get_ops_details()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Logical shape of one input: ``(1, C, H, W)``, or what the file says if it is not an image."""
        return tuple(self._shape[i] for i in (0, 3, 1, 2)) if self._nhwc else self._shape

    @property
    def file_tensors(self) -> tuple[FileTensor, list[FileTensor]]:
        """The input, and the outputs in the file's order."""
        tensors = [
            FileTensor(str(detail["name"]), tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"]))
            for detail in (*self._inputs, *self._outputs)
        ]
        return tensors[0], tensors[1:]

    def run(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        return self.real_outputs(self.run_raw(self._to_file(sample[None]) for sample in np.asarray(inputs, np.float32)))

    def run_integers(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        if any(detail["dtype"] == np.float32 for detail in self._outputs):
            raise ConfigError("this file's outputs are float", where=self._where, hint="use run")
        raw = self.run_raw(self._to_file(sample[None]) for sample in np.asarray(inputs, np.float32))
        return [self._logical(output) for output in raw]

    def run_raw(self, samples: Iterable[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Outputs ``(N, ...)`` as the file makes them, type and layout, for samples ``(1, ...)`` as it takes them."""
        rows: list[list[npt.NDArray[Any]]] = [[] for _ in self._outputs]
        for sample in samples:
            alive()
            self._interpreter.set_tensor(self._inputs[0]["index"], sample)
            self._interpreter.invoke()
            for row, detail in zip(rows, self._outputs, strict=True):
                row.append(self._interpreter.get_tensor(detail["index"]))
        return [np.concatenate(row) for row in rows]

    def real_outputs(self, raw: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """What `run_raw` gives, here or on another machine, as real values in logical order."""
        return [self._logical(_dequantize(value, detail)) for value, detail in zip(raw, self._outputs, strict=True)]

    def prepare(self, sample: npt.NDArray[np.float32]) -> None:
        self._interpreter.set_tensor(self._inputs[0]["index"], self._to_file(sample))

    def invoke(self) -> None:
        self._interpreter.invoke()

    def intermediates(self, integers: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
        """The input and every op's output by tensor name, as the file holds them, after one inference on `integers`.

        Needs ``keep_all=True``; tensors a delegate swallowed are absent.
        """
        alive()
        self._interpreter.set_tensor(self._inputs[0]["index"], integers)
        self._interpreter.invoke()
        values: dict[str, npt.NDArray[Any]] = {}
        names = {int(detail["index"]): str(detail["name"]) for detail in self._interpreter.get_tensor_details()}
        indices = [int(i) for op in self._ops for i in op["outputs"]]
        for index in (int(self._inputs[0]["index"]), *indices):
            try:
                values[names[index]] = self._interpreter.get_tensor(index)
            except ValueError:
                continue
        return values

    def file_input(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """One real-valued sample ``(1, C, H, W)`` as the file wants it: layout and integers."""
        return self._to_file(inputs)

    def executed_ops(self) -> dict[str, int]:
        """What runs, by op name with counts: ``DELEGATE`` stands for each piece a delegate took over."""
        taken = self._delegated()
        return dict(Counter(op["op_name"] for op in self._ops if op["index"] not in taken))

    def delegated_ops(self) -> dict[str, int]:
        """The ops inside those pieces, by name with counts. With XNNPACK, what is not here runs as builtin kernels."""
        taken = self._delegated()
        return dict(Counter(op["op_name"] for op in self._ops if op["index"] in taken))

    @property
    def delegated_nodes(self) -> int:
        """How many of the file's ops a delegate took over."""
        return len(self._delegated())

    def _delegated(self) -> set[int]:
        """Indices of ops inside delegated pieces: everything between a piece's outputs and its inputs.

        The interpreter lists the file's ops first and appends one op per piece; it does not say which ones it replaces.
        """
        pieces = [op for op in self._ops if op["op_name"] == DELEGATE]
        makers = {int(t): op for op in self._ops if op["op_name"] != DELEGATE for t in op["outputs"]}
        taken: set[int] = set()
        for piece in pieces:
            edge = {int(t) for t in piece["inputs"]}
            pending = [int(t) for t in piece["outputs"]]
            while pending:
                tensor = pending.pop()
                maker = makers.get(tensor)
                if tensor not in edge and maker is not None and maker["index"] not in taken:
                    taken.add(maker["index"])
                    pending.extend(int(t) for t in maker["inputs"])
        return taken

    def _logical(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return value.transpose(0, 3, 1, 2) if value.ndim == 4 and self._nhwc else value

    def _to_file(self, sample: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        sample = np.asarray(sample, np.float32)
        if sample.shape != self.input_shape:
            raise ConfigError(
                f"sample has shape {list(sample.shape)}",
                where=self._where,
                hint=f"this model takes {list(self.input_shape)}",
            )
        if self._nhwc:
            sample = np.ascontiguousarray(sample.transpose(0, 2, 3, 1))
        return _quantize(sample, self._inputs[0])


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", why=error.strerror or str(error)) from error


def _is_nhwc(shape: tuple[int, ...], channels: int | None) -> bool:
    """NHWC unless the shape says otherwise: TFLite's own layout wins every tie."""
    if len(shape) != 4:
        return False
    accepted = (channels,) if channels is not None else _IMAGE_CHANNELS
    return shape[3] in accepted or shape[1] not in accepted


def _quantize(real: npt.NDArray[np.float32], detail: Mapping[str, Any]) -> npt.NDArray[Any]:
    kind = np.dtype(detail["dtype"])
    if kind.kind == "f":
        return real.astype(kind, copy=False)
    scale, zero = detail["quantization"]
    ratio = real / np.float32(scale)
    nearest = np.sign(ratio) * np.floor(np.abs(ratio) + np.float32(0.5)) + zero
    limits = np.iinfo(kind)
    return np.asarray(np.clip(nearest, limits.min, limits.max).astype(kind))


def _dequantize(value: npt.NDArray[Any], detail: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    if value.dtype.kind == "f":
        return value.astype(np.float32, copy=False)
    scale, zero = detail["quantization"]
    if not scale or math.isnan(scale):
        return value.astype(np.float32)
    return np.asarray((value.astype(np.int32) - zero).astype(np.float32) * np.float32(scale))


def file_tensors(model: str) -> tuple[FileTensor, list[FileTensor]]:
    """Input and outputs of a TFLite file. Call it through `edgeq.isolation.isolated`."""
    with read_untrusted(f"{model} cannot be loaded"):
        return LiteRTSession(model).file_tensors
