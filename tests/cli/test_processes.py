"""Two processes of one command: the first speaks, the other is silent, and neither outlives the other."""

import dataclasses
import json
import os
import signal
import sys

import click
import pytest
from torch.distributed import TCPStore

from edgeq.cli import main
from edgeq.cli.processes import launched, run_as_one_of_several
from edgeq.cli.shell import Shell
from tests.warm import warm

NET = """
from torch import nn

def make():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )
"""

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
THERE = {"TORCHELASTIC_USE_AGENT_STORE": "True"}
"""The processes meet at a store that the launcher keeps."""


@click.command()
@click.argument("what")
@click.argument("rank", type=int)
@click.pass_obj
def meet(world, what, rank):
    """Stands for a build: tells the other what to do, and does it too."""
    world.tell((what, rank))
    met((what, rank), world)


def met(job, world):
    import torch

    what, rank = job
    with world.in_step():
        assert float(world.total(torch.ones(()))) == 2
        if world.rank == rank and what == "raise":
            raise MemoryError("no more memory")
        if world.rank == rank and what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        world.total(torch.ones(()))


def quick(method, effort, graph):
    from edgeq.finetune.settings import settings_for

    return dataclasses.replace(settings_for(method, effort, graph), steps=4, batch=8, latent=8, width=8)


def one_of_two(rank, port, folder, arguments, stand_in):
    import edgeq.pipeline.finetune as stage

    os.environ.update(TORCHRUN | THERE, RANK=str(rank), MASTER_PORT=str(port))
    os.chdir(folder)
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{name}{rank}", os.O_CREAT | os.O_WRONLY), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["edgeq", *arguments]
    if stand_in:
        stage.finetune = met
        run_as_one_of_several(Shell("edgeq", {"meet": f"{__name__}:meet"}, help=""))
    stage.settings_for, stage.IMAGES = quick, 8
    main()


@pytest.fixture
def two(tmp_path):
    """Run `edgeq` with these arguments in two processes: exit status, output and errors of each."""

    def run(*arguments, stand_in=False):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # as torchrun keeps it
        places = [(rank, store.port, tmp_path, arguments, stand_in) for rank in range(2)]
        processes = [warm().Process(target=one_of_two, args=place) for place in places]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
        hanging = [process for process in processes if process.is_alive()]
        for process in hanging:
            process.kill()
        assert not hanging
        said = [[(tmp_path / f"{name}{rank}").read_text() for name in ("out", "err")] for rank in range(2)]
        return [(p.exitcode, *texts) for p, texts in zip(processes, said, strict=True)]

    return run


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        (TORCHRUN, True),
        ({}, False),
        (TORCHRUN | {"WORLD_SIZE": "1"}, False),
        (TORCHRUN | {"WORLD_SIZE": "many"}, False),
        ({"WORLD_SIZE": "4"}, False),  # what some clusters say to every job
    ],
)
def test_only_what_torchrun_says_makes_several(environment, several):
    assert launched(environment) == several


def test_a_build_of_two_processes_is_one_build(two, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    command = (
        "build net.py:make --weights random --input-shape 3,8,8 --target tflite-x86 --bits w4a4 --all-layers "
        "--method noise --finetune zaq --images 8 --output out --cache cache"
    )
    (status, _, told), (others, out, err) = two(*command.split())
    assert (status, others) == (0, 0), told + err
    assert "finetune" in told
    assert (out, err) == ("", "")
    facts = json.loads((tmp_path / "out" / "report.json").read_text())["finetune"]
    assert (facts["processes"], facts["device"], facts["precision"]) == (2, "cpu", "float32")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "on 2 processes" in page
    assert "torchrun --nproc-per-node 2 -m edgeq build net.py:make" in page
    locked = json.loads((tmp_path / "out" / "edgeq.lock").read_text())
    assert locked["finetune"] == {"processes": 2, "device": "cpu"}


def test_a_usage_error_is_said_once(two):
    (status, _, told), (others, out, err) = two("build", "--bits", "few")
    assert (status, others) == (2, 0)
    assert told.count("edgeq: ") == 1
    assert (out, err) == ("", "")


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_of_one_ends_both_and_is_said_once(two, failing):
    ends = two("meet", "raise", str(failing), stand_in=True)
    assert ends[failing][0] == 70
    assert ends[1 - failing][0] != 0
    told = "".join(err for _, _, err in ends)
    assert told.count("edgeq: ") == 1
    assert "no more memory" in ends[failing][2]
    assert ("process 1: " in told) == (failing == 1)
    assert "Traceback" not in told


def test_a_process_that_was_killed_ends_the_other_which_says_so(two):
    (status, _, told), (others, _, err) = two("meet", "kill", "1", stand_in=True)
    assert (status, others) == (2, -signal.SIGKILL)
    assert "another process of this run has ended" in told
    assert told.count("\n") == 1
    assert err == ""


def test_a_first_process_that_was_killed_ends_the_other_in_silence(two):
    (status, _, _), (others, out, err) = two("meet", "kill", "0", stand_in=True)
    assert (status, others) == (-signal.SIGKILL, 2)
    assert (out, err) == ("", "")
