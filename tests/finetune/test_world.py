"""Two processes train one student: the same bits in both after every step, and after an interruption."""

import dataclasses
import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, MeasurementError
from edgeq.finetune.loop import Job, _Run, finetune
from edgeq.finetune.settings import Settings
from edgeq.finetune.world import ALONE, Several, joined
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import RELU, BatchNorm, Conv2d, GlobalAvgPool, Linear, Reshape
from edgeq.graph.passes import optimize
from edgeq.quant.bits import Scheme
from edgeq.quant.calibrate import calibrate
from edgeq.quant.freeze import freeze
from tests.warm import warm

STEPS = 6


def job(method, **more):
    rng = np.random.default_rng(0)

    def weight(*shape):
        return rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    nodes = (
        Node("a", Conv2d(padding=(1, 1, 1, 1)), ("x", "a.w")),
        Node("n", BatchNorm(), ("a", "n.g", "n.b", "n.m", "n.v")),
        Node("r", RELU, ("n",)),
        Node("b", Conv2d(stride=(2, 2), padding=(1, 1, 1, 1), activation=RELU), ("r", "b.w")),
        Node("mean", GlobalAvgPool(), ("b",)),
        Node("flat", Reshape((8,)), ("mean",)),
        Node("fc", Linear(), ("flat", "fc.w")),
    )
    one, none = np.ones(8, np.float32), np.zeros(8, np.float32)
    constants = {"a.w": weight(8, 3, 3, 3), "b.w": weight(8, 8, 3, 3), "fc.w": weight(4, 8)}
    constants |= {"n.g": one, "n.b": none, "n.m": none, "n.v": one}
    raw = Graph("net", ("x",), ("fc",), nodes, constants, {"x": (1, 3, 8, 8)})
    images = CalibrationSet(rng.normal(0, 1, (24, 3, 8, 8)).astype(np.float32), np.full(24, -1, np.int64), "test")
    graph = optimize(raw)
    decided = calibrate(graph, images, (-2.0, 2.0), scheme=Scheme.of("w4a4", all_layers=True))
    settings = {"steps": STEPS, "batch": 8, "turns": 2, "warm_up": 1, "width": 8, "latent": 8} | more
    low, high = torch.full((3,), -2.0), torch.full((3,), 2.0)
    return Job(graph, raw, decided, images, low, high, Settings(method, **settings))


class StoppedError(Exception):
    pass


class Stop:
    def step(self, done, total, note=""):
        if done == 3:
            raise StoppedError


def words(world):
    """What each method gives, of values that differ by process."""
    weight = torch.nn.Parameter(torch.ones(3))
    rows = torch.arange(12.0).view(4, 3)
    loss = (rows[world.rank :: world.size] @ weight).square().mean()
    loss.backward()
    mean = world.average([weight], loss)
    mine = torch.full((2,), float(world.rank))
    found = {"loss": mean, "gradient": weight.grad.tolist(), "total": world.total(mine + 1).tolist()}
    found["gathered"] = [value.tolist() for value in world.gather(mine)]
    world.compare([torch.ones(2)])
    try:
        world.compare([torch.ones(2), mine])
    except MeasurementError as error:
        found["differing"] = str(error)
    world.align([mine])
    told = world.tell({"rank": world.rank} if world.leads else None)
    return found | {"aligned": mine.tolist(), "told": told, "drawn": torch.rand(2, generator=world.stream(7)).tolist()}


def recorded(given, world):
    """What a run makes, and the bits of all that moves after each of its steps."""
    digests, whole = [], _Run.advance

    def advance(self):
        whole(self)
        bits = b"".join(value.detach().numpy().tobytes() for value in self._moving())
        digests.append(hashlib.sha256(bits).hexdigest())

    _Run.advance = advance
    try:
        made = finetune(given, world)
    finally:
        _Run.advance = whole
    integers = freeze(made.graph, made.decided).graph.to_bytes()
    return {"digests": digests, "facts": dict(made.facts), "curves": dict(made.curves), "integers": integers}


def trained(world, folder):
    found = {}
    for method in ("zaq", "kd"):
        found[method] = recorded(job(method), world)
        kept = dataclasses.replace(job(method), checkpoint=folder / method)
        try:
            finetune(dataclasses.replace(kept, progress=Stop()), world)
        except StoppedError:
            world.together = True  # both were stopped at the same step
        found[f"{method} again"] = recorded(kept, world)
    found["after one"] = recorded(dataclasses.replace(job("kd"), checkpoint=folder / "alone"), world)
    try:
        finetune(job("kd", weight_rate=float("inf")), world)
    except MeasurementError as error:
        found["diverged"] = str(error)
    return found | {"still": world.tell("together" if world.leads else None)}


def one_of_two(rank, port, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    with joined() as world:
        found = {"words": words(world)} | trained(world, folder)
    (folder / f"{rank}.pkl").write_bytes(pickle.dumps(found))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    try:
        finetune(dataclasses.replace(job("kd"), checkpoint=folder / "alone", progress=Stop()))
    except StoppedError:
        assert (folder / "alone" / "state.pt").is_file()
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun keeps it for its processes
    processes = [warm().Process(target=one_of_two, args=(rank, store.port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [pickle.loads((folder / f"{rank}.pkl").read_bytes()) for rank in range(2)]  # noqa: S301  # written above


def test_processes_average_add_gather_and_agree(both):
    one, other = (found["words"] for found in both)
    weight = torch.ones(3, requires_grad=True)
    loss = (torch.arange(12.0).view(4, 3) @ weight).square().mean()
    loss.backward()
    for found in (one, other):
        assert found["loss"] == pytest.approx(loss.item())
        assert found["gradient"] == pytest.approx(weight.grad.tolist())
        assert found["total"] == [3.0, 3.0]
        assert found["gathered"] == [[0.0, 0.0], [1.0, 1.0]]
        assert found["aligned"] == [0.0, 0.0]
        assert found["told"] == {"rank": 0}
        assert "process 1 no longer trains" in found["differing"]


def test_each_process_draws_its_own_and_the_first_what_one_alone_would(both):
    one, other = (found["words"]["drawn"] for found in both)
    assert one == torch.rand(2, generator=torch.Generator().manual_seed(7)).tolist()
    assert one == torch.rand(2, generator=ALONE.stream(7)).tolist()
    assert one != other


@pytest.mark.parametrize("method", ["zaq", "kd"])
def test_what_moves_is_the_same_bits_in_both_after_every_step(both, method):
    one, other = (found[method] for found in both)
    assert one["digests"] == other["digests"]
    assert len(set(one["digests"])) == STEPS
    assert one["integers"] == other["integers"]
    assert one["curves"] == other["curves"]
    assert len(one["curves"]["generator"]) == (1 + 3 if method == "zaq" else 0)
    alone = finetune(job(method))
    assert one["facts"]["gap_before"] == pytest.approx(alone.facts["gap_before"], rel=1e-5)
    # Other images, as many: each step's loss is its images', their mean is the run's.
    assert np.mean(one["curves"]["student"]) == pytest.approx(np.mean(alone.curves["student"]), rel=0.25)


@pytest.mark.parametrize("method", ["zaq", "kd"])
def test_two_interrupted_processes_continue_to_the_same_bytes(both, method):
    for found in both:
        whole, again = found[method], found[f"{method} again"]
        assert again["facts"]["resumed_at"] == 3
        assert again["digests"] == whole["digests"][3:]
        assert again["curves"] == whole["curves"]
        assert again["integers"] == whole["integers"]


def test_what_one_process_began_two_begin_anew(both):
    for found in both:
        assert found["after one"]["facts"]["resumed_at"] == 0
        assert found["after one"]["digests"] == found["kd"]["digests"]


def test_both_see_a_divergence_and_can_go_on_together(both):
    assert both[0]["diverged"] == both[1]["diverged"]
    assert "diverged at step" in both[0]["diverged"]
    assert [found["still"] for found in both] == ["together", "together"]


@pytest.mark.parametrize(("processes", "batch"), [(3, 8), (8, 8), (16, 8)])
def test_a_batch_that_cannot_be_shared_out_is_refused(processes, batch):
    world = Several(0, processes, 0, 1, None)
    with pytest.raises(ConfigError, match=rf"{processes} processes for a batch of 8.*start 1, 2 or 4"):
        world.check(batch)
    with pytest.raises(ConfigError):
        finetune(job("kd"), world)
    assert Several(0, 4, 0, 1, None).share(8) == 2


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"2 processes for 1 GPU.*--nproc-per-node 1"):
        Several(0, 2, 0, 2, None).check(8)
