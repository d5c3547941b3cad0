"""Synthesizers: data-free methods that make a calibration set out of the network itself."""

from edgeq.synth.base import SYNTHESIZERS, Request, Synthesizer, passes_needed

__all__ = ["SYNTHESIZERS", "Request", "Synthesizer", "passes_needed"]
