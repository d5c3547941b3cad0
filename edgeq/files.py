"""Files and folders that are there whole or not at all.

Everything is written beside its destination, flushed to the disk and renamed into place. A writer holds a lock on what
it is writing; the kernel drops it when the process dies, however it dies, so the next writer can tell what a killed run
left behind from what a living one is still filling.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from edgeq.errors import ArtifactError, EdgeqError, OccupiedError
from edgeq.products import Product

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["beside", "check_replaceable", "replace_folder", "stage_folder", "write_atomic"]

_PARTIAL = ".partial"
_STAGING = ".staging"
_PREVIOUS = ".previous"

_GRACE = 2.0
"""Seconds a new name may stand unlocked: its writer has just made it and is about to lock it."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_atomic(path: str | Path, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`: afterwards it holds all of it, or what it held before.

    Raises `ArtifactError` when the disk is full, the folder is missing, writing is forbidden, or `path` is a device.
    """
    final = Path(os.path.realpath(path))
    if os.path.lexists(final) and not (final.is_file() or final.is_dir()):  # renamed over, /dev/null would be a file
        raise ArtifactError(f"cannot write {path}", why="a device or pipe would be replaced", hint="name a file")
    payload = data.encode() if isinstance(data, str) else data
    _sweep(final, _PARTIAL)
    partial = _beside(final, _PARTIAL)
    try:
        with partial.open("xb") as file:
            _lock(file.fileno())
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                os.replace(partial, final)
        if fcntl is None:  # Windows renames no file that is open
            os.replace(partial, final)
        _sync(final.parent)
    except OSError as error:
        raise _write_error(final, error) from error
    finally:
        _discard(partial)


@contextlib.contextmanager
def stage_folder(final: str | Path, product: Product) -> Iterator[Path]:
    """A fresh folder beside `final` to fill; it takes `final`'s place when the block ends without an exception.

    Until then, and after any failure or interruption, `final` is what it was. The block writes a whole `product`, with
    no name that `product` does not list. Raises `ArtifactError`, at once when `final` may not be replaced.
    """
    check_replaceable(final, product)
    with beside(final) as staging:
        yield staging
        if why := product.foreign(staging):
            raise RuntimeError(f"the next run could not replace {final}: {why}")
        replace_folder(staging, final, product)


def check_replaceable(final: str | Path, product: Product) -> None:
    """Raise `ArtifactError` now where `stage_folder` would: `final` holds what `product` does not make, or is not
    writable.

    Call it before any work. The working directory, the home folder, ``/`` and mount points are refused as well.
    """
    target = Path(os.path.realpath(final))
    _recover(target, product)
    _refuse_foreign(target, product)
    existing = next(folder for folder in target.parents if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise _write_error(target, OSError(errno.EACCES, os.strerror(errno.EACCES)))


@contextlib.contextmanager
def beside(final: str | Path) -> Iterator[Path]:
    """A fresh folder next to `final`, gone again when the block ends unless the block has moved it.

    What killed runs left under the same name is removed first. Raises `ArtifactError`.
    """
    target = Path(os.path.realpath(final))
    _sweep(target, _STAGING)
    staging = _beside(target, _STAGING)
    handle, own = -1, None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            staging.mkdir()
            if fcntl is not None:
                handle = os.open(staging, os.O_RDONLY)
                _lock(handle)
            own = os.lstat(staging)
        except OSError as error:
            raise _write_error(target, error) from error
        try:
            yield staging
        except OSError as error:  # a disk that fills up while a library writes into the folder
            raise _write_error(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            # After an exchange the name belongs to the folder that was there before, which is not ours to remove.
            if own is not None and os.path.samestat(own, os.lstat(staging)):
                shutil.rmtree(staging, ignore_errors=True)
        if handle >= 0:
            os.close(handle)


def replace_folder(staging: str | Path, final: str | Path, product: Product) -> None:
    """Put the finished folder `staging` in the place of `final`, which must be missing, empty or an earlier `product`.

    Both must be on one filesystem. Where the system can exchange two folders there is no moment without `final`; where
    it cannot, the earlier folder stands beside for a moment, and is brought back by the next run should this one die
    just then. Only names of `product` are deleted from the earlier folder. Raises `ArtifactError`, with `final` as it
    was.
    """
    source, target = Path(staging), Path(os.path.realpath(final))
    _refuse_foreign(target, product)
    try:
        _sync_tree(source)
        if not target.exists():
            os.replace(source, target)
        elif _exchange(source, target):
            if product.foreign(source):  # somebody wrote into the earlier folder while this one was made
                _exchange(source, target)
                _refuse_foreign(target, product)
            _retire(source, target, product)
        else:
            _swap_in_two_steps(source, target, product)
        _sync(target.parent)
    except OSError as error:
        raise _write_error(target, error) from error


def _swap_in_two_steps(source: Path, target: Path, product: Product) -> None:
    previous = _beside(target, _PREVIOUS)
    os.replace(target, previous)
    try:
        if why := product.foreign(previous):
            raise _foreign(target, why)
        os.replace(source, target)
    except BaseException:
        os.replace(previous, target)
        raise
    _retire(previous, target, product)


def _retire(previous: Path, target: Path, product: Product) -> None:
    """Delete the earlier folder; what is not of `product` stays, under a name that people see."""
    try:
        product.remove(previous)
    except OSError:
        os.replace(previous, target.with_name(f"{target.name}-kept-{secrets.token_hex(6)}"))


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names in one step, as Linux can on most filesystems; False where that is not to be had."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _refuse_foreign(target: Path, product: Product) -> None:
    """Never delete what edgeq did not make: `--output ~/photos` must cost nobody their photos."""
    if not os.path.lexists(target):
        return
    try:
        why = _place(target) or product.foreign(target)
    except OSError as error:
        raise _write_error(target, error) from error
    if why:
        raise _foreign(target, why)


def _place(target: Path) -> str:
    """Why the folder `target` is never replaced, whatever is in it; empty for most."""
    with contextlib.suppress(OSError):  # a working directory that is gone
        if Path(os.path.realpath(os.curdir)).is_relative_to(target):
            return "the working directory is in it" if Path.cwd() != target else "it is the working directory"
    with contextlib.suppress(RuntimeError):  # nobody's home
        if Path(os.path.realpath(Path.home())).is_relative_to(target):
            return "your home folder is in it"
    return "it is a mount point" if os.path.ismount(target) else ""


def _foreign(target: Path, why: str) -> ArtifactError:
    return OccupiedError(f"{target} would be replaced", why=why, hint="choose another --output")


def _beside(final: Path, suffix: str) -> Path:
    """A new name in the same folder, so that renaming moves no bytes; recognised again by `_leftovers`."""
    return final.with_name(f".{final.name}.edgeq-{secrets.token_hex(6)}{suffix}")


def _leftovers(final: Path, suffix: str) -> list[Path]:
    """What killed runs left beside `final`: files for `_PARTIAL`, else folders. No link."""
    form = re.compile(re.escape(f".{final.name}.edgeq-") + "[0-9a-f]{12}" + re.escape(suffix))
    is_kind = stat.S_ISREG if suffix == _PARTIAL else stat.S_ISDIR
    leftovers = []
    with contextlib.suppress(OSError):
        for path in sorted(final.with_name(name) for name in os.listdir(final.parent) if form.fullmatch(name)):
            if is_kind(path.lstat().st_mode):
                leftovers.append(path)
    return leftovers


def _sweep(final: Path, suffix: str) -> None:
    """Remove what killed runs left; what a living process holds is not ours to touch."""
    for path in _leftovers(final, suffix):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _GRACE and not _is_held(path):
                _discard(path)


def _recover(target: Path, product: Product) -> None:
    """After a run died between the two steps of a swap: the earlier folder back in place, or away when not needed."""
    for path in _leftovers(target, _PREVIOUS):
        with contextlib.suppress(OSError):
            if product.foreign(path):
                continue
            if target.exists():
                product.remove(path)
            else:
                os.replace(path, target)


def _discard(path: Path) -> None:
    if os.path.isdir(path) and not os.path.islink(path):  # pathlib raises for a name that is too long
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _lock(handle: int) -> None:
    """Lock the file or folder itself: a lock file, as the filelock package makes, would lie beside a user's output."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):  # some network filesystems have no locks; nothing else depends on one
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(path: Path) -> bool:
    """Whether a living process is filling `path`. True where nobody can tell."""
    if fcntl is None:
        return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _sync(folder: Path) -> None:
    """Make a rename outlast a power cut; some filesystems refuse, and lose nothing but that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_tree(folder: Path) -> None:
    if fcntl is None:  # Windows flushes no file that was opened for reading
        return
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(handle)  # a full disk may show only here
            finally:
                os.close(handle)
        _sync(Path(root))


_HINTS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EROFS: "choose a folder you may write to",
    errno.EBUSY: "the folder is a mount point: choose one inside it",
    errno.ENOENT: "create the folder first",
}


def _write_error(path: Path, error: OSError) -> EdgeqError:
    why = error.strerror or str(error) or type(error).__name__
    return ArtifactError(f"cannot write {path}", why=why, hint=_HINTS.get(error.errno or 0, ""))
