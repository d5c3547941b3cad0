"""What this machine computes exactly: without VNNI, x86 kernels add two u8 x s8 products in 16 bits, which weights of
8 bits overflow. Builds give weights 7 bits there, and so do tests that run ONNX files of unsigned activations."""

from edgeq.config.targets import load_target
from edgeq.measure.conditions import this_machine

__all__ = ["LARGEST", "WIDEST"]

WIDEST = load_target("onnx-x86").bits_of_weights(vnni=this_machine().vnni)
"""Bits of weights."""
LARGEST = 2 ** (WIDEST - 1) - 1
"""Integer of a weight."""
