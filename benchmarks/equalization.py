"""Up to how many bits activations gain from channel scales: `edgeq.quant.equalize.EQUALIZED`.

    python benchmarks/equalization.py            # prints, and writes benchmarks/results/equalization.md

The PTQ networks of `low_bit.py`, all layers, calibrated on the same images; activations equalized and not, weights
rounded and biases corrected alike. No training. The gap on synthetic images decides; evaluation images are only
reported.
"""

from __future__ import annotations

from unittest import mock

from cases import ROOT
from ptq_pairs import Way, write_page

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.quant import equalize as equalizing
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.scheme import Scheme

HEAD = (
    "# Activations equalized, and not",
    "",
    "Printed by `benchmarks/equalization.py`. All layers, no training.",
)


def made(*, even: bool) -> Way:
    def way(
        graph: Graph, images: CalibrationSet, pixels: tuple[float, float], scheme: Scheme
    ) -> tuple[Graph, Calibration]:
        if even:
            with mock.patch.object(equalizing, "EQUALIZED", 8):
                graph = equalizing.equalize(graph, images, pixels, scheme)
        return graph, calibrate(graph, images, pixels, scheme=scheme)

    return way


def main() -> None:
    ways = {"equalized": made(even=True), "not": made(even=False)}
    bits = ("w4a4", "w6a6", "w8a8")
    write_page(ROOT / "benchmarks" / "results" / "equalization.md", HEAD, "activations", bits, ways)


if __name__ == "__main__":
    main()
