"""A trained generator as a file: weights as safetensors, its inputs and outputs as JSON in the file's header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgeq.errors import ArtifactError
from edgeq.limits import check_regular
from edgeq.synth.distil import Pixel
from edgeq.synth.generators import Generator

__all__ = ["GENERATOR", "Trained", "generator_bytes", "load_generator"]

GENERATOR = "generator.safetensors"
"""File name of the generator in the folder that a synthesis leaves."""


@dataclass(frozen=True)
class Trained:
    """A generator and the range it draws into: `low` and `high` are the normalised pixel 0 and 255, ``(C,)``."""

    generator: Generator
    low: Tensor
    high: Tensor

    @property
    def pixel(self) -> Pixel:
        low, high = (v.view(1, -1, 1, 1) for v in (self.low, self.high))
        return Pixel((low + high) / 2, (high - low) / 2)

    @torch.no_grad()
    def draw(self, labels: Tensor, random: torch.Generator) -> Tensor:
        """Normalised images ``(N, C, H, W)`` of these classes ``(N,)``; one image does not depend on the others."""
        latents = self.generator.draw(len(labels), random)
        return self.pixel.normalised(self.generator.eval()(latents, labels))


def generator_bytes(trained: Trained) -> bytes:
    """Serialize a generator; equal generators give equal bytes."""
    generator = trained.generator
    facts = {
        "shape": list(generator.shape),
        "latent": generator.latent,
        "width": generator.width,
        "classes": generator.classes,
        "low": trained.low.tolist(),
        "high": trained.high.tolist(),
    }
    tensors = {name: value.contiguous() for name, value in generator.state_dict().items()}
    return save(tensors, metadata={"edgeq.generator": json.dumps(facts, sort_keys=True)})


def load_generator(path: Path) -> Trained:
    """Read what `generator_bytes` wrote. Raises `ArtifactError` for anything else."""
    try:
        check_regular(path)
        with safe_open(str(path), "pt") as file:
            facts = json.loads((file.metadata() or {})["edgeq.generator"])
            names = file.keys()  # the file itself cannot be iterated
            tensors = {name: file.get_tensor(name) for name in names}
        channels, height, width = (int(n) for n in facts["shape"])
        with torch.device("meta"):  # shapes without memory: the facts may ask for any size, the tensors are there
            generator = Generator(
                (channels, height, width),
                latent=int(facts["latent"]),
                width=int(facts["width"]),
                classes=int(facts["classes"]),
            )
        if strange := [name for name, value in tensors.items() if value.dtype not in (torch.float32, torch.int64)]:
            raise ValueError(f"{strange[0]} is {tensors[strange[0]].dtype}")
        generator.load_state_dict(tensors, assign=True)
        low, high = (torch.tensor(facts[name], dtype=torch.float32) for name in ("low", "high"))
        if not low.shape == high.shape == (channels,):
            raise ValueError(f"low and high must be {channels} numbers")
        return Trained(generator.eval(), low, high)
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path} is not a generator", why=why) from error
