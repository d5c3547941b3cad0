"""Processes for tests of several, forked from one that has imported torch: each would take seconds to import it."""

from __future__ import annotations

import functools
import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

PRELOADED = ["edgeq.pipeline.build", "edgeq.cli.build", "torch._dynamo"]


@functools.cache
def warm() -> ForkServerContext:
    """A context whose processes start in a moment. What runs here already, without torch, is replaced once."""
    context = multiprocessing.get_context("forkserver")
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    context.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()
    return context
