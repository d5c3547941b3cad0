"""The command as one of several processes: the first is the command, the others fine-tune with it and say nothing.

Only fine-tuning is shared out. Every other verb and stage runs in the first process while the others wait.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn

import click

from edgeq.cli.shell import INTERRUPTED, explain

if TYPE_CHECKING:  # torch takes seconds to import
    from edgeq.finetune.world import Several

__all__ = ["launched", "run_as_one_of_several"]


def launched(environment: Mapping[str, str]) -> bool:
    """Whether torchrun, or what sets the same variables, started this process as one of several."""
    size = environment.get("WORLD_SIZE", "")
    return (
        size.isdecimal() and int(size) > 1 and all(environment.get(v) for v in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    )


def run_as_one_of_several(cli: click.Group) -> NoReturn:
    """Never returns. The first process's exit status is the command's, the others end with 0 when it lets them go."""
    from edgeq.finetune.world import joined

    try:
        with joined() as world:
            status = _lead(cli, world) if world.leads else _follow(world)
    except Exception as error:
        sys.exit(explain(error))
    if not world.together:  # torch, taking down connections whose other ends are gone, may abort the interpreter
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _lead(cli: click.Group, world: Several) -> int:
    # torchrun ends the others when one has failed, by SIGTERM: `edgeq.cli.main` has made an ordinary exit of that, so
    # what is half written is removed on the way out.
    try:
        cli(prog_name="edgeq", obj=world)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is on its way out already
    return 0


def _follow(world: Several) -> int:
    from edgeq.finetune.world import Lost
    from edgeq.pipeline.finetune import take_part

    try:
        take_part(world)
    except Lost as error:  # the first says so, or was the one that ended
        return error.exit_status
    except KeyboardInterrupt:
        world.together = False
        return INTERRUPTED
    except Exception as error:
        status = explain(error, f"edgeq: process {world.rank}")
        world.fail(status)
        return status
    return 0
