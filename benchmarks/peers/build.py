"""Make the peers' files of the benchmark networks: ``python benchmarks/peers/build.py [NETWORK ...]``.

Sets up the peers' environment when it is not there, exports each network with `torch.export`, and has the official
PyTorch-to-TFLite converter and onnxruntime's quantizer turn the same exported program and the same real images into
their float and int8 files, under ``build/peers/NETWORK/``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cases import CASES, PEERS, ROOT, Case, data_folder

from edgeq.data.evaluation import calibration_from_images
from edgeq.model.load import load_model

HERE = Path(__file__).resolve().parent

IMAGES = 64
"""What both quantizers calibrate with. More is not better for min-max ranges: on MobileNetV1-0.25 onnxruntime's u8s8
gave 48.4 % with the first 32 photographs, 45.9 with 64, 38.3 with 128, and 43.3 with the 64 picked here."""

PYTHON = ROOT / ".peers" / "venv" / "bin" / "python"


def prepare(case: Case) -> Path:
    """``network.pt2`` and ``calibration.npy`` (float32 ``(N, C, H, W)``, normalised), the converters' common input."""
    folder = PEERS / case.name
    folder.mkdir(parents=True, exist_ok=True)
    loaded = load_model(str(case.toml))
    assert isinstance(loaded.module, torch.nn.Module)
    images = calibration_from_images(data_folder() / case.training, loaded.spec, IMAGES).inputs
    np.save(folder / "calibration.npy", images)
    torch.export.save(torch.export.export(loaded.module, (torch.from_numpy(images[:1]),)), folder / "network.pt2")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(CASES)}; default all")
    names = parser.parse_args().networks or list(CASES)
    data_folder()
    if not PYTHON.exists():
        subprocess.run(["sh", str(HERE / "setup.sh")], check=True)
    failed = []
    for name in names:
        folder = prepare(CASES[name])
        for script in ("convert_litert.py", "convert_onnx.py"):
            with (folder / f"{script}.log").open("w") as log:
                command = [str(PYTHON), str(HERE / script), str(folder)]
                status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
            print(f"{name}: {script} {'done' if status == 0 else 'failed, see ' + log.name}", flush=True)
            failed += [f"{name}/{script}"] * bool(status)
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
