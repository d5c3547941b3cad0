"""torch.export, and what has to be true of its programs before `capture` walks over one."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from edgeq.errors import ConfigError, UnsupportedError

__all__ = ["check_program", "export", "functionalize", "in_eval_mode", "packet", "quiet", "stays", "writes_alone"]


def export(module: nn.Module, input_shape: tuple[int, ...], name: str) -> ExportedProgram:
    full = tuple(input_shape) if len(input_shape) == 4 and input_shape[0] == 1 else (1, *input_shape)
    if len(full) < 2 or any(not isinstance(size, int) or size < 1 for size in full):
        raise ConfigError(f"{input_shape} is not an input shape", where=name, hint="e.g. (3, 224, 224)")
    _one_input(module, name)
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    example = torch.zeros(full, dtype=next(floats, torch.float32))
    with in_eval_mode(module), quiet(), _without_stack_traces(), torch.no_grad():
        try:
            return torch.export.export(module, (example,))
        except (Exception, SystemExit) as error:  # whatever the user's forward raises
            answer = _run(module, example, name)
            if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
                with contextlib.suppress(Exception):
                    torch.export.register_dataclass(type(answer))
                    return torch.export.export(module, (example,))
            raise UnsupportedError(
                "the network cannot be traced",
                where=name + _line(error),
                why=_first_line(error),
                hint="make forward a fixed sequence of tensor calls: no branches or loops that read tensor values",
            ) from error


@contextlib.contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Every part in eval mode inside, and as it was behind. Raises `ConfigError` where its `eval` does."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
    except Exception as error:  # networks may define what it does
        raise ConfigError("the network cannot be brought to eval mode", why=_first_line(error)) from error
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


@contextlib.contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Nobody here asks a node which lines of Python called it, and finding that out is a good part of an export.

    A setting of newer torch; where there is none, an export takes its time.
    """
    settings, name = torch.fx.config, "do_not_emit_stack_traces"
    if not hasattr(settings, name):
        yield
        return
    kept = getattr(settings, name)
    setattr(settings, name, True)
    try:
        yield
    finally:
        setattr(settings, name, kept)


def _run(module: nn.Module, example: Tensor, name: str) -> object:
    """The answer of a network that cannot be traced. Raises what it says of its input, if it cannot be run either."""
    entered: list[str] = []
    try:
        with note_entered(module, entered):
            return module(example)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            "the network does not run on its input",
            where=".".join([name, *entered[-1:]]).rstrip("."),
            why=_first_line(error),
            hint=f"the input shape given is {list(example.shape[1:])}",
        ) from error


@contextlib.contextmanager
def note_entered(module: nn.Module, entered: list[str]) -> Iterator[None]:
    """Keep the paths of the parts of `module` that are running in `entered`, the innermost last."""

    def leave(*_: object) -> None:
        if entered:
            entered.pop()

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda *_, path=path: entered.append(path), prepend=True))
        handles.append(part.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _one_input(module: nn.Module, name: str) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedError(
            "the network is a TorchScript program",
            where=name,
            why="its Python code is lost",
            hint="capture the module it was made from",
        )
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return  # a forward without a signature; running it shows what it takes
    needed = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(needed) > 1:
        raise UnsupportedError(
            f"the network takes {len(needed)} inputs ({', '.join(needed)})",
            where=name,
            hint="wrap it to take one image",
        )


def check_program(program: ExportedProgram, name: str) -> ExportedProgram:
    """The program if it takes one image of a static shape, batch 1; one of an open batch is exported anew for that."""
    users = [spec for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    if len(users) != 1:
        raise UnsupportedError(f"the program takes {len(users)} inputs", where=name, hint="wrap it to take one image")
    (value,) = (n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name == users[0].arg.name)
    if not isinstance(value, Tensor):
        raise UnsupportedError("the program's input is not a tensor", where=name)
    shape = tuple(value.shape)
    if not any(isinstance(size, torch.SymInt) for size in shape):
        if not shape or shape[0] != 1:
            raise UnsupportedError(
                f"the program's input has shape {list(shape)}", where=name, hint="export it with a batch of 1"
            )
        return program
    if any(isinstance(size, torch.SymInt) for size in shape[1:]):
        raise UnsupportedError(
            "the program's image size is dynamic", where=name, hint="export it for one height and width"
        )
    example = torch.zeros((1, *shape[1:]), dtype=value.dtype)
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(program.module(), (example,))
        except Exception as error:
            raise _not_functional(name, error) from error


def functionalize(program: ExportedProgram, name: str) -> ExportedProgram:
    """No in-place calls, composite calls (conv2d, linear) kept whole."""
    with quiet(), torch.no_grad():
        try:
            result: ExportedProgram = program.run_decompositions({})
            return result
        except Exception as error:
            raise _not_functional(name, error) from error


def _not_functional(name: str, error: Exception) -> UnsupportedError:
    return UnsupportedError("the program cannot be made functional", where=name, why=_first_line(error))


_MAKES_NEW = frozenset(
    f"aten.{name}" for name in ("conv2d", "conv_transpose2d", "linear", "batch_norm", "add", "sub", "mul", "cat")
)
_WRITES = frozenset(
    f"aten.{name}_"
    for name in ("relu", "relu6", "hardtanh", "leaky_relu", "silu", "hardswish", "hardsigmoid", "sigmoid", "add", "mul")
)
"""In-place calls whose result is the tensor they wrote, which rules read like the call without underscore."""


def writes_alone(program: ExportedProgram) -> bool:
    """Whether all in-place calls write tensors made for them that nobody else reads: they might as well make new ones.

    Dropout in evaluation mode writes nothing.
    """
    alone: set[torch.fx.Node] = set()
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        if packet(node) == "aten.dropout_" and node.args[2:] == (False,):
            continue
        written = node.args[0] if node.args else None
        if packet(node) not in _WRITES or not isinstance(written, torch.fx.Node) or len(written.users) != 1:
            return False
        if written not in alone and packet(written) not in _MAKES_NEW:
            return False
        alone.add(node)
    return True


def stays(node: torch.fx.Node) -> bool:
    """Whether `functionalize` leaves this call as it is: it writes nothing and torch does not make it of other
    calls."""
    call = node.target
    return isinstance(call, torch._ops.OpOverload) and not call._schema.is_mutable and not call._can_decompose()


def packet(node: torch.fx.Node) -> str:
    """The call's name without its overload."""
    return ".".join(str(node.target).split(".")[:2])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Torch's tracer logs and prints what it then raises; the raised error is enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        printed = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(error: BaseException) -> str:
    """File and line of the call that torch blames, where its message names them."""
    blamed = str(error).partition("The following call raised this error:")[2]
    places = re.findall(r'^  File "([^"]+)", line (\d+)', blamed, re.MULTILINE)
    return f", {Path(places[-1][0]).name} line {places[-1][1]}" if places else ""


def _first_line(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
