"""The integers ONNX Runtime's CPU kernels compute: the second, named rounding mode beside the exact reference.

Sums are the same integers everywhere. What differs is how a sum becomes an 8-bit output: TFLite multiplies by a 31-bit
fixed-point number, ONNX Runtime (MLAS) converts the sum to float32, multiplies by a float32 factor and rounds half to
even. Near a tie the two may differ by one step; these functions say on which side ONNX Runtime falls.

Everything here is in signed integers; uint8 files hold the same numbers shifted by 128. One file per op family.
"""

from edgeq.formats.onnx.reference import attention, elementwise, layers, moves, norms
from edgeq.formats.onnx.reference.moves import interpolates
from edgeq.formats.onnx.reference.runner import evaluate, run_ort_rounding
from edgeq.formats.onnx.reference.table import KERNELS

__all__ = [
    "KERNELS",
    "attention",
    "elementwise",
    "evaluate",
    "interpolates",
    "layers",
    "moves",
    "norms",
    "run_ort_rounding",
]
