"""A training run that can be interrupted: every minute it keeps all that is needed to go on, to the same weights."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["Run"]

INTERVAL = 60.0
"""Seconds between two checkpoints within an epoch."""


@dataclass
class Run:
    """Network, optimizer and schedule of a run, and its place: `step` steps of `epoch`, after `seconds` of processor.

    `settings` is a dataclass; a checkpoint made with others is not resumed from. `random` is the state of the random
    numbers within the epoch, None at its start. Without `checkpoint` nothing is kept.
    """

    settings: Any
    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    checkpoint: Path | None = None
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    random: Any = None
    kept: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.process_time)

    def resume(self) -> None:
        """Go on where the checkpoint ends, if there is one of these settings."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["settings"] != json.dumps(asdict(self.settings)):
            return
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.random = json.loads(state["random"])
        print(f"resuming after epoch {self.epoch}, step {self.step}", flush=True)

    def start_epoch(self, epoch: int, rng: np.random.Generator) -> int:
        """The step to begin `epoch` with; `rng` is set to what it was there."""
        first, state = self.step, self.random
        self.epoch, self.step, self.random = epoch, 0, None
        if state is not None:
            rng.bit_generator.state = state
        return first

    def spent(self) -> float:
        """Seconds of processor of this run, interruptions left out."""
        return self.seconds + time.process_time() - self.started

    def keep(self, epoch: int, step: int, rng: np.random.Generator | None = None) -> None:
        """Write the checkpoint: after every epoch, and after `step` steps of one if the last is a minute old.

        `rng` is what the rest draws from, None where each epoch begins with random numbers of its own.
        """
        due = step == 0 or time.monotonic() - self.kept >= INTERVAL
        if self.checkpoint is None or not due:
            return
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "settings": json.dumps(asdict(self.settings)),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "epoch": epoch,
            "step": step,
            "seconds": self.spent(),
            "random": json.dumps(None if rng is None else rng.bit_generator.state),
        }
        torch.save(state, partial)
        partial.replace(self.checkpoint)
        self.kept = time.monotonic()
