"""The processes that fine-tune together: which of them this one is, and how all of them keep one student.

Started as torchrun starts them: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT are in the
environment. The first leads: it alone reads, writes and speaks. What it tells the others is pickled, so the processes
of one run trust each other, as torch.distributed does.

Gradients are averaged after backward and not by DistributedDataParallel: that averages whatever backward passes, in a
generator's turn the student's gradients too, which nobody asked for, and it knows no forward but `forward`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgeq.errors import ConfigError, EdgeqError, MeasurementError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

__all__ = ["ALONE", "Lost", "Several", "World", "joined"]

PATIENCE = datetime.timedelta(days=7)
"""How long the others wait while the first does what only it does, such as making images. A process that dies is
noticed at once, however long this is."""

FEWEST = 2
"""Images of a process's share: one from the set and one from the generator."""

T = TypeVar("T")


class Lost(EdgeqError):  # noqa: N818  # a state of the run, not an error of this process
    """Another process of the run ended before its time."""


class World:
    """One process alone. `Several` has the same methods for one of many."""

    rank, size = 0, 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this process trains, and the first one makes images."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def __fingerprint__(self) -> tuple[str, int]:
        """What a result depends on: the kind of device, and how many processes share out its batches."""
        return self.device.type, self.size

    def check(self, batch: int) -> None:
        """Raise `ConfigError` where a batch cannot be shared out, or a device would have to be."""

    def share(self, batch: int) -> int:
        """Images of a batch that are this process's."""
        self.check(batch)
        return batch // self.size

    def stream(self, seed: int) -> torch.Generator:
        """This process's random numbers. The first has those of a process alone."""
        if self.rank:
            seed = int(np.random.SeedSequence((seed, self.rank)).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        """Replace the gradients of `parameters` by their means over all processes; returns the loss's mean."""
        return float(loss.detach())

    def total(self, value: Tensor) -> Tensor:
        """The sum of every process's `value`."""
        return value

    def align(self, tensors: Iterable[Tensor]) -> None:
        """Fill `tensors` with the first process's, in place."""

    def tell(self, value: T) -> T:
        """The first process's `value`."""
        return value

    def gather(self, value: Tensor) -> list[Tensor]:
        """Every process's `value`, a tensor on the CPU of one shape and type."""
        return [value]

    def compare(self, tensors: Iterable[Tensor]) -> None:
        """Raise `MeasurementError`, in every process, where `tensors` are not the same bits in all of them."""

    @contextlib.contextmanager
    def in_step(self) -> Iterator[None]:
        """Around what all processes do together."""
        yield


ALONE = World()


class Several(World):
    """One of `size` processes, the `local`-th of `here` on its machine. `together`: all wait for each other at the same
    place, so that the first can tell the others something."""

    def __init__(self, rank: int, size: int, local: int, here: int, store: Store) -> None:
        self.rank, self.size, self._local, self._here, self._store = rank, size, local, here, store
        self.together = True

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", self._local) if torch.cuda.is_available() else torch.device("cpu")

    def check(self, batch: int) -> None:
        if batch % self.size or batch < FEWEST * self.size:
            fitting = [n for n in range(1, batch // FEWEST + 1) if batch % n == 0]
            raise ConfigError(
                f"{self.size} processes for a batch of {batch}",
                why=f"each takes as many of its images, and at least {FEWEST}",
                hint=f"start {', '.join(map(str, fitting[:-1]))} or {fitting[-1]}" if fitting[1:] else "start one",
            )
        found = torch.cuda.device_count()
        if found and self._here > found:
            raise ConfigError(
                f"{self._here} processes for {found} GPU{'s' if found > 1 else ''}", why="each needs one of its own",
                hint=f"--nproc-per-node {found}, or CUDA_VISIBLE_DEVICES= to train on the CPU",
            )  # fmt: skip

    def average(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> float:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(g.reshape(-1) for g in gradients), loss.detach().reshape(1)]) / self.size
        with self._linked():
            dist.all_reduce(flat)
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()
        return float(flat[-1])

    def total(self, value: Tensor) -> Tensor:
        summed = value.clone()
        with self._linked():
            dist.all_reduce(summed)
        return summed

    def align(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            with self._linked():
                dist.broadcast(tensor.detach(), 0)

    def tell(self, value: T) -> T:
        box: list[Any] = [value if self.leads else None]
        with self._linked():
            dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        told: T = box[0]
        return told

    def gather(self, value: Tensor) -> list[Tensor]:
        found = [torch.empty_like(value) for _ in range(self.size)]
        with self._linked():
            dist.all_gather(found, value)
        return found

    def compare(self, tensors: Iterable[Tensor]) -> None:
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        found = self.gather(torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8))
        differing = [rank for rank, other in enumerate(found) if not torch.equal(other, found[0])]
        if differing:
            raise MeasurementError(
                f"process {differing[0]} no longer trains the student that process 0 trains",
                why="one step came out differently", hint="run on machines and GPUs of one kind",
            )  # fmt: skip

    @contextlib.contextmanager
    def in_step(self) -> Iterator[None]:
        """A `MeasurementError` comes of what all have averaged, so all raise it and can go on together; after any other
        error this process is somewhere else than the others."""
        self.together = False
        try:
            yield
        except MeasurementError:
            self.together = True
            raise
        self.together = True

    def fail(self, status: int) -> None:
        """Tell the others that this process has said why it ends, with what exit status."""
        self.together = False
        with contextlib.suppress(RuntimeError):  # the store may have ended with the first process
            self._store.add(_FAILED, status)

    def leave(self) -> None:
        """The first process lets the others go. Out of step, the end of this process is what ends them."""
        if not self.together:
            return
        with contextlib.suppress(Lost):
            if self.leads:
                self.tell(None)
            dist.destroy_process_group()

    @contextlib.contextmanager
    def _linked(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            self.together = False
            said = self._said() if self.leads else 0
            if said:
                raise SystemExit(said) from error
            hint = "its own output, or the system's, says why; the same command continues at the last checkpoint"
            raise Lost("another process of this run has ended", hint=hint) from error

    def _said(self) -> int:
        """The exit status of the process that has told the user why it ended; 0 for none."""
        try:
            return int(self._store.add(_FAILED, 0))
        except RuntimeError:
            return 0


_FAILED = "edgeq/failed"


@contextlib.contextmanager
def joined() -> Iterator[Several]:
    """The world that the environment describes, left again when the block ends.

    Processes of one machine talk over its loopback interface, unless GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME say
    otherwise. Raises `ConfigError` where the processes do not find each other.
    """
    if not dist.is_available():
        raise ConfigError("several processes", why="this build of torch has no torch.distributed", hint="start one")
    from torch.distributed.rendezvous import rendezvous

    here = int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ["WORLD_SIZE"])
    local = int(os.environ.get("LOCAL_RANK") or os.environ["RANK"])
    if here == int(os.environ["WORLD_SIZE"]):
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(variable, "lo0" if sys.platform == "darwin" else "lo")
    if torch.cuda.is_available() and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(rendezvous("env://"))
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except (RuntimeError, ValueError, OSError) as error:
        why = (str(error).splitlines() or [""])[0]
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise ConfigError(f"the processes do not find each other at {address}", why=why) from error
    world = Several(rank, size, local, here, store)
    try:
        yield world
    finally:
        world.leave()
