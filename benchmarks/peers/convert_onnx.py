"""Float ONNX by `torch.onnx.export` and static u8s8 QDQ by `onnxruntime.quantization`. Runs in the peers' environment.

The recipe is onnxruntime's documented one: `quant_pre_process`, then `quantize_static` with QUInt8 activations, QInt8
per-channel weights, QDQ format, min-max ranges.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Images(CalibrationDataReader):
    """One image at a time for the input called `name`."""

    def __init__(self, name: str, images: np.ndarray) -> None:
        self.feeds = ({name: image[None]} for image in images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds network.pt2 and calibration.npy, gets the .onnx files")
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights, for hosts without VNNI")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.folder
    images = np.load(folder / "calibration.npy")
    program = torch.export.load(folder / "network.pt2")
    start, worked = time.perf_counter(), time.process_time()
    float_path, prepared = folder / "ort_float.onnx", folder / "ort_prepared.onnx"
    torch.onnx.export(
        program, (torch.from_numpy(images[:1]),), str(float_path), input_names=["input"], external_data=False
    )
    exported = time.perf_counter()
    quant_pre_process(str(float_path), str(prepared))
    quantize_static(
        str(prepared),
        str(folder / ("ort_u8s8_7bit.onnx" if arguments.reduce_range else "ort_u8s8.onnx")),
        Images("input", images),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=arguments.reduce_range,
        calibrate_method=CalibrationMethod.MinMax,
    )
    prepared.unlink()
    record = {
        "onnxruntime": version("onnxruntime"),
        "torch": torch.__version__,
        "calibration_images": len(images),
        "export_seconds": round(exported - start, 1),
        "seconds": round(time.perf_counter() - exported, 1),
        "cpu_seconds": round(time.process_time() - worked, 1),
    }
    (folder / "ort.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
