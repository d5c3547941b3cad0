"""What a stage computes with beside its arguments: packages, sources, processor, threads, environment variables.

All of it can change a bit of a result, so it is one of every stage's inputs, and in the key of every cached result.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgeq.measure.conditions import this_machine
from edgeq.versions import package_versions, source_digest

__all__ = ["RUNTIMES", "TRAINING", "Environment", "environment"]

TRAINING = ("python", "torch", "numpy", "safetensors")
"""Packages that images, ranges and trained weights are computed with. A new runtime does not touch these."""

RUNTIMES = (
    *TRAINING,
    "onnx",
    "onnxruntime",
    "ai-edge-litert",
    "flatbuffers",
    "protobuf",
    "pillow",
    "torchmetrics",
    "pycocotools",
)
"""Packages that files are written, run and measured with."""

VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "OPENBLAS_CORETYPE",
    "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
)
"""Environment variables that choose kernels, and so the last bit of sums."""


@dataclass(frozen=True)
class Environment:
    """`packages` are versions by name, `code` is the hash of edgeq's sources, `processor` what decides between kernels.

    `threads` is the number of torch's threads that was requested, None where edgeq chooses: sums of several threads
    have another order. `gpu` names the GPU and its libraries, and is "" on the processor.
    """

    packages: Mapping[str, str]
    code: str
    processor: tuple[str, ...]
    variables: Mapping[str, str]
    threads: int | None
    gpu: str

    @contextlib.contextmanager
    def applied(self) -> Iterator[dict[str, Any]]:
        """Work with the requested threads. Gives what the lock says of this run: threads, device, versions."""
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            device = "cuda" if self.gpu else "cpu"
            yield {"threads": torch.get_num_threads(), "device": device, "packages": dict(self.packages)}
        finally:
            torch.set_num_threads(before)


CPU = torch.device("cpu")


def environment(packages: tuple[str, ...], threads: int | None = None, device: torch.device = CPU) -> Environment:
    """The environment of a stage that runs here and now with `packages`, on `device`."""
    machine = this_machine()
    return Environment(
        packages=package_versions(packages),
        code=source_digest(),
        processor=(machine.architecture, torch.backends.cpu.get_cpu_capability(), *machine.flags),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        threads=threads,
        gpu="" if device.type == "cpu" else _gpu(device),
    )


def _gpu(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if torch.cuda.is_available() else "absent"
    return f"{device.type} {name}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"  # type: ignore[no-untyped-call]
