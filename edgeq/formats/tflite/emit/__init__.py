"""TFLite operators for the ops of the graph, in one file per op family."""

from edgeq.formats.tflite.emit import attention, elementwise, layers, moves, norms
from edgeq.formats.tflite.emit.emitter import Emitter
from edgeq.formats.tflite.emit.table import EMITTERS, emit

__all__ = ["EMITTERS", "Emitter", "attention", "elementwise", "emit", "layers", "moves", "norms"]
