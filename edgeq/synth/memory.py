"""Keep freed memory in the process, instead of returning it to the system and faulting it in again.

Optimising images frees and allocates the same activations hundreds of times. By default glibc maps each large one anew,
and a third of a distillation's time went into page faults.
"""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's parameters M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Raise glibc's thresholds for this process; returns False, and does nothing, without glibc."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(parameter, _LARGEST) == 1 for parameter in (_MMAP_THRESHOLD, _TRIM_THRESHOLD))
