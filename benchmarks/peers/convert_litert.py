"""Float and static-int8 TFLite files by the official PyTorch-to-TFLite converter. Runs in the peers' environment.

The int8 recipe is the converter's own: PT2E quantization with `PT2EQuantizer`, symmetric per-channel weights, static
activations. `fold_quantize=False` because the converter refuses graphs with folded weights. The files take and give
int8. `--layout nhwc` wraps the network in the converter's own `to_channel_last_io`: no transpose at the file's start.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import litert_torch
import numpy as np
import torch
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e


def quantize(program: torch.export.ExportedProgram, images: torch.Tensor) -> tuple[torch.nn.Module, QuantConfig]:
    """The PT2E-quantized module, calibrated on `images` ``(N, C, H, W)`` one by one."""
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False))
    prepared = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for image in images:
            prepared(image[None])
    return convert_pt2e(prepared, fold_quantize=False), QuantConfig(pt2e_quantizer=quantizer)


def convert(
    module: torch.nn.Module, sample: torch.Tensor, layout: str, config: QuantConfig | None, path: Path
) -> float:
    """Write `path`; seconds it took."""
    start = time.perf_counter()
    if layout == "nhwc":
        module = litert_torch.to_channel_last_io(module, args=[0])
        sample = sample.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module, (sample,), quant_config=config).export(str(path))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds network.pt2 and calibration.npy, gets the .tflite files")
    parser.add_argument("--layout", choices=("nhwc", "nchw"), nargs="+", default=["nhwc", "nchw"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = torch.export.load(arguments.folder / "network.pt2")
    images = torch.from_numpy(np.load(arguments.folder / "calibration.npy"))
    record: dict[str, object] = {"litert-torch": version("litert-torch"), "torch": torch.__version__}
    record["calibration_images"] = len(images)
    for layout in arguments.layout:
        seconds = convert(
            program.module(), images[:1], layout, None, arguments.folder / f"litert_float_{layout}.tflite"
        )
        record[f"float_{layout}_seconds"] = round(seconds, 1)
        start = time.perf_counter()
        module, config = quantize(program, images)
        convert(module, images[:1], layout, config, arguments.folder / f"litert_int8_{layout}.tflite")
        record[f"int8_{layout}_seconds"] = round(time.perf_counter() - start, 1)
    (arguments.folder / "litert.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
