"""A trained generator as a file: weights as safetensors, what it takes and makes as JSON in the file's own header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from edgeq.errors import ArtifactError
from edgeq.synth.distil import Pixel
from edgeq.synth.generators import Generator

__all__ = ["GENERATOR", "Trained", "generator_bytes", "load_generator"]

GENERATOR = "generator.safetensors"
"""Its name among what a synthesis leaves behind."""


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
    """The file. Same generator, same bytes."""
    made = trained.generator
    facts = {
        "shape": list(made.shape), "latent": made.latent, "width": made.width, "classes": made.classes,
        "low": trained.low.tolist(), "high": trained.high.tolist(),
    }  # fmt: skip
    tensors = {name: value.contiguous() for name, value in made.state_dict().items()}
    return save(tensors, metadata={"edgeq.generator": json.dumps(facts, sort_keys=True)})


def load_generator(path: Path) -> Trained:
    """Read what `generator_bytes` wrote. Raises `ArtifactError` for anything else."""
    try:
        with safe_open(str(path), "pt") as file:
            facts = json.loads((file.metadata() or {})["edgeq.generator"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no iteration otherwise
        channels, height, width = (int(n) for n in facts["shape"])
        made = Generator(
            (channels, height, width), latent=int(facts["latent"]), width=int(facts["width"]),
            classes=int(facts["classes"]),
        )  # fmt: skip
        made.load_state_dict(tensors)
        return Trained(made.eval(), torch.tensor(facts["low"]), torch.tensor(facts["high"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path} is not a generator", why=why) from error
