"""Read arrays from an untrusted ``.npz``: without pickles, and with a limit on the unpacked size."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ArtifactError
from edgeq.limits import check_archive

__all__ = ["read_npz"]


def read_npz(
    source: Path | bytes, needed: Sequence[str] = (), optional: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """The arrays `needed`, and those of `optional` that are there (None: all there are), by name.

    Raises `ArtifactError` where `source` is no ``.npz``, unpacks to too much, or lacks a needed array.
    """
    name = str(source) if isinstance(source, Path) else "the archive"
    try:
        check_archive(source if isinstance(source, Path) else io.BytesIO(source))
        with np.load(source if isinstance(source, Path) else io.BytesIO(source), allow_pickle=False) as archive:
            for wanted in needed:
                if wanted not in archive.files:
                    holds = f"it holds {', '.join(archive.files) or 'nothing'}"
                    raise ArtifactError(f"{name} has no array {wanted!r}", hint=holds)
            wanted_too = archive.files if optional is None else [each for each in optional if each in archive.files]
            arrays = {each: archive[each] for each in dict.fromkeys([*needed, *wanted_too])}
    except ArtifactError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on a bad file
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{name} cannot be read", why=why) from error
    for each, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy gives the bytes of what has no header
            raise ArtifactError(f"{name} cannot be read", why=f"{each} is no array")
    return arrays
