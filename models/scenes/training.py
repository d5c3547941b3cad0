"""What the recipes of the scene networks share: rendered scenes cached on disk, and one training loop."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from scenes import Scenes, render_scenes
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "signs"))
try:
    from resume import Run
finally:
    del sys.path[0]

__all__ = ["Loss", "Settings", "run", "scenes_to_train_on", "tensor"]

ROOT = Path(__file__).resolve().parents[2]

Loss = Callable[[nn.Module, Tensor, npt.NDArray[np.int64], npt.NDArray[np.bool_]], Tensor]
"""Network, normalised images, which scenes they are, which of them are mirrored -> the loss to lower."""


@dataclass(frozen=True)
class Settings:
    """A training run. `brightness` is the largest relative gain; half of the scenes are mirrored left to right."""

    epochs: int
    scenes: int = 6000
    seed: int = 0
    batch: int = 48
    rate: float = 6e-3
    decay: float = 0.02
    warmup: float = 0.2
    brightness: float = 0.1
    clip: float = 2.0
    threads: int = 1


def scenes_to_train_on(settings: Settings) -> Scenes:
    """Scenes of split ``scenes``, from a cache under ``build/`` that the first call fills."""
    path = ROOT / "build" / "scenes" / f"scenes-{settings.seed}-{settings.scenes}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        made = render_scenes(settings.scenes, seed=settings.seed)
        ends = np.cumsum([len(labels) for labels in made.labels])
        partial = path.with_suffix(".partial.npz")
        boxes, labels = np.concatenate(made.boxes), np.concatenate(made.labels)
        np.savez(partial, images=made.images, masks=made.masks, boxes=boxes, labels=labels, ends=ends)
        partial.replace(path)
        print(f"rendered {settings.scenes} scenes in {time.perf_counter() - start:.0f} s", flush=True)
    with np.load(path) as kept:
        ends = kept["ends"][:-1]
        return Scenes(kept["images"], kept["masks"], np.split(kept["boxes"], ends), np.split(kept["labels"], ends))


def tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 ``(N, H, W, 3)`` to float32 ``(N, 3, H, W)`` in 0..1, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(torch.float32).div_(255)


def run(
    name: str, folder: Path, build: Callable[[], nn.Module], scenes: Scenes, loss: Loss, settings: Settings
) -> nn.Module:
    """Train a network from its seed, AdamW on one cycle of the learning rate; write ``<folder>/<name>.safetensors``.

    A checkpoint of every epoch stands in ``build/scenes``; training with the same settings resumes from it.
    """
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    network = build().train().to(memory_format=torch.channels_last)
    steps = settings.scenes // settings.batch
    optimizer = torch.optim.AdamW(_groups(network, settings.decay), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * steps, pct_start=settings.warmup, cycle_momentum=False
    )
    rng = np.random.default_rng(settings.seed)
    progress = Run(settings, network, optimizer, schedule, ROOT / "build" / "scenes" / f"{name}.checkpoint")
    progress.resume()
    for epoch in range(progress.epoch, settings.epochs):
        progress.start_epoch(epoch, rng)
        order, total = rng.permutation(settings.scenes), 0.0
        for step in range(steps):
            chosen = order[step * settings.batch : (step + 1) * settings.batch]
            mirrored = rng.random(len(chosen)) < 0.5
            images = np.where(mirrored[:, None, None, None], scenes.images[chosen, :, ::-1], scenes.images[chosen])
            gain = rng.uniform(1 - settings.brightness, 1 + settings.brightness, (len(chosen), 1, 1, 1))
            x = (tensor(images) * torch.from_numpy(gain.astype(np.float32))).clamp_(0, 1)
            value = loss(network, x, chosen, mirrored)
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            total += value.item()
        progress.keep(epoch + 1, 0, rng)
        seconds = progress.spent()
        left = seconds / (epoch + 1) * (settings.epochs - epoch - 1)
        print(
            f"{name} epoch {epoch + 1}/{settings.epochs} loss {total / steps:.4f} {seconds:.0f} s of processor, "
            f"{left:.0f} s left",
            flush=True,
        )
    seconds = progress.spent()
    network.eval()
    # step counters of the batch norms are left out: inference has no use for them
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, folder / f"{name}.safetensors")
    parameters = sum(p.numel() for p in network.parameters())
    size = (folder / f"{name}.safetensors").stat().st_size
    print(
        f"{name}: {parameters} parameters, {size} bytes, trained in {progress.spent():.0f} s with {settings}",
        flush=True,
    )
    return network


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weights decay; biases, scales and shifts do not."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
