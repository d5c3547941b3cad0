"""From how many bits on weights may go to their nearest integers: `edgeq.quant.rounding.COMPENSATED`.

    python benchmarks/compensation.py            # prints, and writes benchmarks/results/compensation.md

The PTQ networks of `low_bit.py`, all layers, activations of 8 bits, calibrated on the same images; weights rounded
together (`round_layer`) and each to its nearest integer, biases corrected in both. No training. The gap on synthetic
images and the time decide; evaluation images are only reported.
"""

from __future__ import annotations

from unittest import mock

from cases import ROOT
from ptq_pairs import Way, write_page

from edgeq.data.calibration import CalibrationSet
from edgeq.graph.ir import Graph
from edgeq.quant import layerwise as lockstep
from edgeq.quant.calibrate import Calibration, calibrate
from edgeq.quant.scheme import Scheme

HEAD = (
    "# Weights rounded together, and each to its nearest integer",
    "",
    "Printed by `benchmarks/compensation.py`. All layers, activations of 8 bits, no training.",
)


def rounded(*, together: bool) -> Way:
    def way(
        graph: Graph, images: CalibrationSet, pixels: tuple[float, float], scheme: Scheme
    ) -> tuple[Graph, Calibration]:
        with mock.patch.object(lockstep, "COMPENSATED", 7):
            return graph, calibrate(graph, images, pixels, scheme=scheme, compensate=together)

    return way


def main() -> None:
    ways = {"together": rounded(together=True), "nearest": rounded(together=False)}
    write_page(ROOT / "benchmarks" / "results" / "compensation.md", HEAD, "weights", ("w7a8", "w6a8"), ways)


if __name__ == "__main__":
    main()
