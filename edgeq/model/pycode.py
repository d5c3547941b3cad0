"""Import and call Python that the user named (``file.py:callable``, ``package.module:callable``)."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeq.errors import ConfigError, ModelError

__all__ = ["call", "import_callable", "last_line"]


def last_line(error: BaseException) -> str:
    """The last line that a traceback of this error would have."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[-1].strip()}" if text else type(error).__name__


def aside() -> contextlib.AbstractContextManager[Any]:
    """Context for a user's code: its prints go to standard error, because standard output has edgeq's results."""
    return contextlib.redirect_stdout(sys.stderr)


def import_callable(reference: str) -> Callable[..., Any]:
    """The function `reference` names. Raises `ConfigError` when it cannot be imported, with the error's last line."""
    source, _, name = reference.rpartition(":")
    if not source or not name.isidentifier():
        raise ModelError(f"{reference!r} names no function", why="must be file.py:callable or package.module:callable")
    if source.endswith(".py") and not Path(source).is_file():
        raise ModelError(f"Python file {source} does not exist")
    try:
        with aside():
            module = _from_file(Path(source)) if source.endswith(".py") else _from_path(source)
    except (Exception, SystemExit) as error:
        raise ModelError(f"cannot import {source}", why=last_line(error)) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError(f"{source} has no callable {name!r}")
    return function  # type: ignore[no-any-return]


def _from_path(name: str) -> ModuleType:
    """Import ``package.module``, from the working directory too: the `edgeq` script does not start there."""
    with _importing_from(Path.cwd(), last=True):  # last, so that a stray random.py shadows nothing
        return importlib.import_module(name)


@contextlib.contextmanager
def _importing_from(folder: Path, *, last: bool = False) -> Iterator[None]:
    sys.path.insert(len(sys.path) if last else 0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _from_file(path: Path) -> ModuleType:
    """Import by path under a name of its own; modules beside the file can be imported while it is."""
    path = path.resolve()
    name = f"_edgeq_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not Python source")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up here
    try:
        with _importing_from(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def call(function: Callable[..., Any], reference: str, arguments: Mapping[str, Any]) -> Any:
    """``function(**arguments)``; whatever it raises becomes a `ConfigError` with the error's last line."""
    try:
        with aside():
            return function(**arguments)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{reference} failed", why=last_line(error)) from error
