"""Read ``.pt2`` exported programs as data; nothing in them is run.

torch's loader evaluates, imports and unpickles what it finds. It gets to see a copy of the archive that holds tensors
and a program held to a plain grammar, and nothing else (`pt2_archive`, `pt2_program`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from edgeq.errors import EdgeqError, ModelError
from edgeq.graph.capture.torch_export import quiet
from edgeq.model.pt2_archive import clean_archive
from edgeq.model.pt2_program import ForeignError
from edgeq.model.pycode import last_line

__all__ = ["load_program"]

_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def load_program(path: Path) -> tuple[ExportedProgram, tuple[int, int, int], int]:
    """The program, its input shape ``(C, H, W)`` and its number of outputs (0 when it is no classifier).

    Raises `ConfigError` for files that are missing, corrupt, hold code, or do not take one image batch.
    """
    if not path.is_file():
        raise ModelError(f"{path} does not exist")
    try:
        archive = clean_archive(path)
        with _weights_only(), quiet():
            program = torch.export.load(archive)
    except EdgeqError:
        raise
    except ForeignError as error:
        raise ModelError(
            f"{path} is no exported program edgeq reads", why=str(error), hint="save it with torch.export.save"
        ) from error
    except Exception as error:  # the loader raises anything from KeyError to AssertionError on a bad file
        raise ModelError(f"{path} is no exported program", why=last_line(error)) from error
    inputs = program.graph_signature.user_inputs
    shapes = [tuple(node.meta["val"].shape) for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(
            f"{path} takes inputs of shapes {[list(s) for s in shapes]}", why="must take one (N, C, H, W) image batch"
        )
    _, *image = shapes[0]
    if not all(isinstance(size, int) for size in image):
        raise ModelError(f"{path} has a dynamic image size", hint="export it for one size; the batch may stay dynamic")
    channels, height, width = image
    return program, (channels, height, width), _classes(program)


def _classes(program: ExportedProgram) -> int:
    output = next(node for node in program.graph.nodes if node.op == "output").args[0]
    values = [node.meta["val"] for node in output[-1:] if hasattr(node, "meta")]
    if len(output) == 1 and values and isinstance(values[0], Tensor) and values[0].dim() == 2:
        return int(values[0].shape[1])
    return 0


@contextmanager
def _weights_only() -> Iterator[None]:
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before
