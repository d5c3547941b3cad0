"""A process that holds a device until its standard input ends: says `held`, or why not, and its exit status is 4.

python -m tests.device.holder NAME CACHE WHY [PATIENCE]
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgeq.device import transport
from edgeq.device.open import open_device
from edgeq.errors import EdgeqError


def tell(text: str) -> None:
    """One line for whoever started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    name, cache, why, *rest = sys.argv[1:]
    transport.cache_folder = lambda: Path(cache)
    try:
        with open_device(name, why=why, patience=float(rest[0]) if rest else 0.0, say=lambda text: tell(text)):
            tell("held")
            sys.stdin.read()
    except EdgeqError as error:
        tell(str(error))
        sys.exit(error.exit_status)
