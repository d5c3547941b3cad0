"""ONNX Runtime on this machine's CPU."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgeq.errors import ArtifactError, ConfigError, UnsupportedError
from edgeq.formats.onnx.file import Grid, read_model
from edgeq.formats.session import Session
from edgeq.isolation import alive
from edgeq.scratch import scratch

__all__ = ["OrtPieces", "OrtSession"]

_INT8_ALLOWED = "session.qdqisint8allowed"
_TYPES: Mapping[str, Any] = {"tensor(float)": np.float32, "tensor(int8)": np.int8, "tensor(uint8)": np.uint8}
_CHUNK = 32
"""Samples given to the runtime at once: enough to keep it busy, few enough for activations to stay in memory."""


class OrtSession(Session):
    """A loaded ONNX model with one input. Takes any number of samples, also where the file says batch 1."""

    kernels = "mlas"

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int = 1,
        allow_int8: bool = True,
        session: Mapping[str, str] | None = None,
    ) -> None:
        """Load `model`, a path or a file's bytes.

        Args:
            threads: threads inside an op; ops run one after another.
            allow_int8: let int8 activations fuse on x86, as they do on Arm without asking. Without it a network meant
                for Arm runs partly in float here, and its accuracy is not the device's.
            session: further onnxruntime session options by name.

        Raises:
            ArtifactError: the file is missing, is no ONNX model, or onnxruntime refuses it.
        """
        self._model, self._data = read_model(model)
        self._where = "" if isinstance(model, bytes) else str(model)
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self.threads = threads
        self._config = dict(session or {})
        if allow_int8 and self._model.signed_activations():
            self._config = _int8_allowed() | self._config
        self._session = self._load(self._data)
        first = self._session.get_inputs()
        if (
            len(first) != 1
            or first[0].type not in _TYPES
            or any(o.type not in _TYPES for o in self._session.get_outputs())
        ):
            raise ArtifactError("edgeq runs models of one float32, int8 or uint8 input", where=self._where)
        self._input = first[0]
        self._outputs = [output.name for output in self._session.get_outputs()]
        batch = self._input.shape[0] if self._input.shape else None
        self._batch: int | None = batch if isinstance(batch, int) else None
        self._wide: onnxruntime.InferenceSession | None = None if self._batch else self._session
        self._narrow_only = False
        self._prepared: dict[str, npt.NDArray[Any]] = {}

    def run(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        return self.real_outputs(self._raw(self._fed(inputs)))

    def run_integers(self, inputs: npt.NDArray[np.float32]) -> list[npt.NDArray[Any]]:
        raw = self._raw(self._fed(inputs))
        return [
            array if array.dtype != np.float32 else self._grid(name).quantize(array)
            for name, array in zip(self._outputs, raw, strict=True)
        ]

    @property
    def file_batch(self) -> int | None:
        """Samples the file takes at a time; None where it leaves that open."""
        return self._batch

    def run_raw(self, inputs: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Outputs exactly as the file makes them, for inputs already in the type the file takes."""
        return self._raw(inputs)

    def real_outputs(self, raw: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
        """What `run_raw` gives, here or on another machine, as real values."""
        return [
            array if array.dtype == np.float32 else self._grid(name).dequantize(array)
            for name, array in zip(self._outputs, raw, strict=True)
        ]

    def prepare(self, sample: npt.NDArray[np.float32]) -> None:
        self._prepared = {self._input.name: self._fed(sample)}

    def invoke(self) -> None:
        self._session.run(self._outputs, self._prepared)

    def file_input(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Real-valued samples ``(N, C, H, W)`` as the file takes them."""
        return self._fed(inputs)

    def optimized(self) -> bytes:
        """The model as onnxruntime runs it on this machine, fusions done."""
        with scratch() as folder:
            path = folder / "optimized.onnx"
            self._load(self._data, path)
            return path.read_bytes()

    def _load(self, data: bytes, optimized: Path | None = None) -> onnxruntime.InferenceSession:
        return _load(data, self.threads, self._config, self._where, optimized)

    def _fed(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Real inputs in the type the file takes."""
        wanted = self._input.shape
        fixed = [(w, s) for w, s in zip(wanted[1:], inputs.shape[1:], strict=False) if isinstance(w, int)]
        if inputs.ndim != len(wanted) or any(w != s for w, s in fixed):
            shape = "x".join(str(size) for size in wanted[1:])
            raise ConfigError(f"the model takes inputs of {shape}", why=f"got {list(inputs.shape[1:])}")
        if self._input.type == "tensor(float)":
            return np.ascontiguousarray(inputs, np.float32)
        grid = self._model.input_grid(self._input.name)
        if grid is None or _TYPES[self._input.type] != grid.dtype:
            raise UnsupportedError(f"the file does not say what its integer input {self._input.name} means")
        return grid.quantize(inputs)

    def _grid(self, output: str) -> Grid:
        grid = self._model.output_grid(output)
        if grid is None:
            raise UnsupportedError(f"output {output} is not quantized with one scale", where=self._where)
        return grid

    def _raw(self, file_input: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        chunks = self._run_wide(file_input) if len(file_input) != self._batch and not self._narrow_only else None
        if chunks is None:
            size = self._batch or 1
            if len(file_input) % size:
                raise ConfigError(f"the model runs {size} samples at a time", why=f"got {len(file_input)}")
            chunks = [self._run(self._session, file_input[i : i + size]) for i in range(0, len(file_input), size)]
        return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]

    def _run_wide(self, file_input: npt.NDArray[Any]) -> list[list[npt.NDArray[Any]]] | None:
        """Chunks through a copy with an open batch; None when this file has the batch baked in (a Reshape, say)."""
        try:
            if self._wide is None:
                self._wide = self._load(self._model.with_open_batch())
            chunks = [self._run(self._wide, file_input[i : i + _CHUNK]) for i in range(0, len(file_input), _CHUNK)]
        except ArtifactError:
            self._narrow_only = True
            return None
        if any(
            len(array) != len(file_input[i * _CHUNK : (i + 1) * _CHUNK])
            for i, part in enumerate(chunks)
            for array in part
        ):
            self._narrow_only = True
            return None
        return chunks

    def _run(self, session: onnxruntime.InferenceSession, file_input: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return _run(session, {self._input.name: file_input}, self._where)


class OrtPieces:
    """A model of any inputs and outputs, by name, as `edgeq.formats.onnx.verify` cuts them. int8 may fuse."""

    def __init__(self, data: bytes) -> None:
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self._session = _load(data, 1, _int8_allowed(), "")

    def run(self, values: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """All outputs by name; `values` may hold more than the model takes."""
        taken = {value.name: values[value.name] for value in self._session.get_inputs()}
        names = [value.name for value in self._session.get_outputs()]
        return dict(zip(names, _run(self._session, taken, ""), strict=True))


def _int8_allowed() -> dict[str, str]:
    """The session option under which int8 activations fuse on this machine."""
    return {_INT8_ALLOWED: "1"} if platform.machine().lower() in ("x86_64", "amd64") else {}


def _load(
    data: bytes, threads: int, config: Mapping[str, str], where: str, optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they also arrive as exceptions
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if optimized:
        options.optimized_model_filepath = str(optimized)
    try:
        for key, value in config.items():
            options.add_session_config_entry(key, value)
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        raise ArtifactError("onnxruntime cannot load the model", where=where, why=_short(error)) from error


def _run(
    session: onnxruntime.InferenceSession, feeds: Mapping[str, npt.NDArray[Any]], where: str
) -> list[npt.NDArray[Any]]:
    alive()
    try:
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # as above
        raise ArtifactError("onnxruntime failed to run the model", where=where, why=_short(error)) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
