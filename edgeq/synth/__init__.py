"""Synthesizers: data-free methods that make a calibration set out of the network itself."""

from edgeq.synth.base import SYNTHESIZERS, Request, Synthesizer, passes_needed
from edgeq.synth.mixture import synthesizer_of

__all__ = ["SYNTHESIZERS", "Request", "Synthesizer", "passes_needed", "synthesizer_of"]
