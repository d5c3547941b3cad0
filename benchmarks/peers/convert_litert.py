"""Float and static-int8 TFLite files by the official PyTorch-to-TFLite converter. Runs in the peers' environment.

The int8 recipe is the converter's own: PT2E quantization with `PT2EQuantizer`, symmetric per-channel weights, static
activations. `fold_quantize=False` because the converter refuses graphs with folded weights. The files take and give
int8. NHWC files are of the network wrapped in the converter's own `to_channel_last_io`: no transpose at the file's
start, nor at its end where the network gives pictures.

A file that cannot be made leaves the others alone: the first line of its error is in litert.json, beside their seconds.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import litert_torch
import numpy as np
import torch
from litert_torch.quantize.pt2e_quantizer import PT2EQuantizer, get_symmetric_quantization_config
from litert_torch.quantize.quant_config import QuantConfig
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

FILES = ("int8_nhwc", "int8_nchw", "float_nhwc", "float_nchw")


def quantize(program: torch.export.ExportedProgram, images: torch.Tensor) -> tuple[torch.nn.Module, QuantConfig]:
    """The PT2E-quantized module, calibrated on `images` ``(N, C, H, W)`` one by one."""
    quantizer = PT2EQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False))
    prepared = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for image in images:
            prepared(image[None])
    return convert_pt2e(prepared, fold_quantize=False), QuantConfig(pt2e_quantizer=quantizer)


def convert(module: torch.nn.Module, sample: torch.Tensor, layout: str, config: QuantConfig | None, path: Path) -> None:
    if layout == "nhwc":
        with torch.no_grad():
            made = module(sample)
        values = made if isinstance(made, (tuple, list)) else [made]
        pictures = [i for i, value in enumerate(values) if value.ndim == 4]
        module = litert_torch.to_channel_last_io(module, args=[0], outputs=pictures)
        sample = sample.permute(0, 2, 3, 1).contiguous()
    litert_torch.convert(module, (sample,), quant_config=config).export(str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="holds network.pt2 and calibration.npy, gets the .tflite files")
    parser.add_argument("--files", choices=FILES, nargs="+", default=FILES, metavar="FILE", help=", ".join(FILES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    program = torch.export.load(arguments.folder / "network.pt2")
    images = torch.from_numpy(np.load(arguments.folder / "calibration.npy"))
    record: dict[str, object] = {"litert-torch": version("litert-torch"), "torch": torch.__version__}
    record["calibration_images"] = len(images)
    for name in arguments.files:
        kind, layout = name.split("_")
        path = arguments.folder / f"litert_{name}.tflite"
        start, worked = time.perf_counter(), time.process_time()
        try:
            module, config = quantize(program, images) if kind == "int8" else (program.module(), None)
            convert(module, images[:1], layout, config, path)
            record[f"{name}_seconds"] = round(time.perf_counter() - start, 1)
            record[f"{name}_cpu_seconds"] = round(time.process_time() - worked, 1)
        except Exception as error:  # whatever the converter's many layers raise
            traceback.print_exc()
            record[f"{name}_failed"] = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        # After each: a process that is killed has still said what it made.
        (arguments.folder / "litert.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))
    if failed := [name for name in arguments.files if f"{name}_failed" in record]:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
