"""ONNX nodes for the ops of the graph, in one file per op family."""

from edgeq.formats.onnx.emit import attention, elementwise, layers, moves, norms
from edgeq.formats.onnx.emit.table import EMITTERS, emit

__all__ = ["EMITTERS", "attention", "elementwise", "emit", "layers", "moves", "norms"]
