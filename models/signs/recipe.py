"""What the recipes in `models/` share: rendered images cached on disk, a training loop, an evaluation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from render import CLASSES, SIZE, render_set
from resume import Run
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Settings", "accuracy", "images_and_labels", "report", "run", "save", "train"]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Settings:
    """A training run. `shift` is the largest random translation in pixels, `brightness` the largest relative gain."""

    epochs: int
    images: int = 60_000
    seed: int = 0
    batch: int = 128
    rate: float = 4e-3
    decay: float = 0.02
    warmup: float = 0.15
    smoothing: float = 0.05
    shift: int = 3
    brightness: float = 0.1
    clip: float = 2.0
    threads: int = 1


def images_and_labels(count: int, seed: int, split: str, workers: int) -> tuple[npt.NDArray[np.uint8], Tensor]:
    """Rendered images, memory-mapped from a cache under ``build/`` that the first call fills."""
    path = ROOT / "build" / "signs" / f"{split}-{seed}-{count}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        print(f"rendering {count} images of split {split!r} on {workers} workers", flush=True)
        images, _ = render_set(count, seed=seed, split=split, workers=workers)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, images)
        partial.replace(path)
        print(f"rendered in {time.perf_counter() - start:.0f} s", flush=True)
    return np.load(path, mmap_mode="r"), torch.arange(count) % len(CLASSES)


def train(network: nn.Module, settings: Settings, checkpoint: Path | None = None) -> float:
    """Train in place: AdamW on one cycle of the learning rate, cross-entropy. Returns the seconds of processor.

    After every minute and every epoch `checkpoint` holds everything needed to go on; where it already does, and the
    settings are the same, training resumes from it.
    """
    torch.set_num_threads(settings.threads)
    images, labels = images_and_labels(settings.images, settings.seed, "train", workers=2)
    steps = settings.images // settings.batch
    optimizer = torch.optim.AdamW(_groups(network, settings.decay), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.rate, total_steps=settings.epochs * steps, pct_start=settings.warmup, cycle_momentum=False
    )
    network.train().to(memory_format=torch.channels_last)
    run = Run(settings, network, optimizer, schedule, checkpoint)
    run.resume()
    for epoch in range(run.epoch, settings.epochs):
        # an order and an augmentation stream per epoch, so that a resumed run equals an uninterrupted one
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(settings.images)
        total = right = 0.0
        first = run.start_epoch(epoch, rng)
        for step in range(first, steps):
            chosen = np.sort(order[step * settings.batch : (step + 1) * settings.batch])
            x, y = _augment(images[chosen], rng, settings), labels[chosen]
            logits = network(x)
            loss = F.cross_entropy(logits, y, label_smoothing=settings.smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            schedule.step()
            run.keep(epoch, step + 1, rng)
            total += loss.item()
            right += (logits.argmax(1) == y).float().mean().item()
            if (step + 1) % 100 == 0 or step + 1 == steps:
                count, done = step + 1 - first, epoch * steps + step + 1
                left = run.spent() / done * (settings.epochs * steps - done)
                print(
                    f"epoch {epoch + 1}/{settings.epochs} step {step + 1}/{steps} loss {total / count:.3f} "
                    f"top-1 {right / count:.3f} {run.spent():.0f} s of processor, about {left:.0f} s to go",
                    flush=True,
                )
        run.keep(epoch + 1, 0)
    return run.spent()


@torch.no_grad()
def accuracy(network: nn.Module, images: npt.NDArray[np.uint8], labels: Tensor, batch: int = 250) -> float:
    """Top-1 in per cent."""
    network.eval()
    right = 0
    for i in range(0, len(images), batch):
        right += int((network(_tensor(images[i : i + batch])).argmax(1) == labels[i : i + batch]).sum())
    return 100 * right / len(images)


def save(network: nn.Module, path: Path) -> None:
    """The state dict as safetensors. Step counters of the batch norms are left out: inference has no use for them."""
    state = {k: v.contiguous() for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, path)


def report(network: nn.Module, weights: Path, seconds: float, settings: Settings) -> None:
    """Print what the model card states, measured on the test split."""
    images, labels = images_and_labels(2000, 0, "test", workers=2)
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"float top-1 {accuracy(network, images, labels):.2f} % on {len(images)} test images, {parameters} parameters, "
        f"{weights.stat().st_size} bytes, trained in {seconds:.0f} s with {settings}"
    )


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Weights decay; biases, scales and shifts do not."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def _tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    values = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)  # NHWC memory is channels_last
    return values.to(torch.float32).div_(255)


def _augment(images: npt.NDArray[np.uint8], rng: np.random.Generator, settings: Settings) -> Tensor:
    """Shift each image by whole pixels, edges repeated, and change its brightness."""
    shift, count = settings.shift, len(images)
    padded = np.pad(images, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    starts = rng.integers(0, 2 * shift + 1, (count, 2)).tolist()
    moved = np.stack([p[y : y + SIZE, x : x + SIZE] for p, (y, x) in zip(padded, starts, strict=True)])
    gain = rng.uniform(1 - settings.brightness, 1 + settings.brightness, (count, 1, 1, 1)).astype(np.float32)
    return (_tensor(moved) * torch.from_numpy(gain)).clamp_(0, 1)


def run(
    name: str,
    folder: Path,
    build: Callable[[], nn.Module],
    settings: Settings,
    finish: Callable[[nn.Module], None] = lambda network: None,
) -> None:
    """Train a network from its seed and write ``<folder>/<name>.safetensors``; `finish` may fold before saving."""
    torch.manual_seed(settings.seed)
    network = build()
    seconds = train(network, settings, ROOT / "build" / "signs" / f"{name}.checkpoint")
    finish(network)
    weights = folder / f"{name}.safetensors"
    save(network, weights)
    report(network, weights, seconds, settings)
