"""Calls on constants alone, which capture evaluates: those that may be, and how large their results may grow.

An exported program may come from a stranger's file, so only calls that compute a result and do nothing else are
evaluated. Which these are is taken from torch's own tags (value by value, core, view) and the list below.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.aten import ATEN

__all__ = ["Folding", "is_known_call", "is_random", "is_uninitialised"]

LARGEST_RESULT = 2**28
"""Bytes of one evaluated constant: far above any anchor grid or position table."""
LARGEST_SUM = 2**30
"""Bytes of all evaluated constants of a network, beside what its weights take."""

_ALSO = frozenset(
    (
        "_unsafe_view",
        "_weight_norm",
        "_weight_norm_interface",
        "adaptive_max_pool2d",
        "all",
        "argsort",
        "argwhere",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
        "batch_norm",
        "block_diag",
        "broadcast_tensors",
        "bucketize",
        "cartesian_prod",
        "clamp_max",
        "clamp_min",
        "column_stack",
        "concat",
        "concatenate",
        "conv1d",
        "conv2d",
        "conv_transpose2d",
        "count_nonzero",
        "cross",
        "cummax",
        "cummin",
        "cumprod",
        "diag",
        "diag_embed",
        "diff",
        "divide",
        "dot",
        "dstack",
        "einsum",
        "expand_copy",
        "eye",
        "fliplr",
        "flipud",
        "floor_divide",
        "ger",
        "group_norm",
        "hamming_window",
        "hann_window",
        "hstack",
        "index_add",
        "index_fill",
        "inner",
        "instance_norm",
        "item",
        "kron",
        "layer_norm",
        "lift_fresh_copy",
        "linalg_inv",
        "linalg_norm",
        "linalg_vector_norm",
        "linear",
        "linspace",
        "log_softmax",
        "logspace",
        "logsumexp",
        "masked_fill",
        "masked_select",
        "matmul",
        "max_pool2d",
        "meshgrid",
        "moveaxis",
        "msort",
        "multiply",
        "mv",
        "nansum",
        "new_full",
        "new_ones",
        "new_zeros",
        "norm",
        "numpy_T",
        "one_hot",
        "ones",
        "ones_like",
        "outer",
        "pad",
        "permute_copy",
        "pixel_shuffle",
        "pixel_unshuffle",
        "prelu",
        "repeat_interleave",
        "rms_norm",
        "roll",
        "rot90",
        "softmax",
        "stack",
        "std",
        "std_mean",
        "subtract",
        "swapaxes",
        "swapdims",
        "take",
        "take_along_dim",
        "tensor_split",
        "tensordot",
        "tile",
        "trace",
        "tril",
        "tril_indices",
        "triu",
        "triu_indices",
        "type_as",
        "unflatten",
        "unsafe_chunk",
        "unsafe_split",
        "upsample_bicubic2d",
        "var_mean",
        "view_copy",
        "vstack",
        "zero",
        "zeros",
        "zeros_like",
    )
)
_UNINITIALISED = frozenset(("empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"))
_OVERWRITES = frozenset(
    ("copy", "fill", "full_like", "new_full", "new_ones", "new_zeros", "ones_like", "sym_size", "zero", "zeros_like")
)
"""Calls that read none of their first argument's values."""
_PASSIVE = frozenset(
    (
        "_assert_async",
        "_assert_scalar",
        "_assert_tensor_metadata",
        "_check_is_size",
        "sym_constrain_range",
        "sym_constrain_range_for_size",
        "sym_numel",
        "sym_size",
        "sym_storage_offset",
        "sym_stride",
    )
)
_NEVER = _UNINITIALISED | {"native_dropout", "resize"}
_INNER = frozenset(
    (
        "_adaptive_avg_pool2d",
        "_conj",
        "_log_softmax",
        "_native_batch_norm_legit_no_training",
        "_reshape_alias",
        "_softmax",
        "_to_copy",
        "_unsafe_view",
        "_weight_norm",
        "_weight_norm_interface",
    )
)
"""Calls of torch's own kitchen that programs hold; others have kernels that trust their callers."""
_PURE_OVERLOADS = frozenset(("aten._native_batch_norm_legit.no_stats",))
"""Overloads that only compute, where others of the call write: this one standardises weights."""
_RECURRENT = frozenset(("gru", "lstm", "rnn_relu", "rnn_tanh"))
"""Calls that torch tags as random for the dropout between their layers."""


@functools.cache
def _overloads(name: str) -> tuple[Any, ...]:
    """The overloads of ``aten.add``; none where torch has no such call."""
    packet = getattr(torch.ops.aten, name.removeprefix("aten."), None) if name.startswith("aten.") else None
    return tuple(getattr(packet, overload) for overload in packet.overloads()) if packet is not None else ()


def _has_tag(name: str, *tags: torch.Tag) -> bool:
    return any(tag in overload.tags for overload in _overloads(name) for tag in tags)


@functools.cache
def may_evaluate(name: str) -> bool:
    """Is ``aten.NAME`` a call that computes a result from its arguments and does nothing else?"""
    bare = name.removeprefix("aten.").removesuffix("_")
    inner = (bare.startswith("_") and bare not in _INNER) or "backward" in bare
    if inner or bare in _NEVER or _has_tag(name, torch.Tag.nondeterministic_seeded) or not _overloads(name):
        return False
    views = any(getattr(overload, "is_view", False) for overload in _overloads(name))
    return views or bare in _ALSO or _has_tag(name, torch.Tag.pointwise, torch.Tag.core)


def is_known_call(name: str) -> bool:
    """Does capture read ``aten.NAME``, evaluate it, pass over it, or refuse it with advice of its own?"""
    bare = name.removeprefix("aten.")
    known = name in ATEN or bare in _PASSIVE | _UNINITIALISED or may_evaluate(name)
    return known or _has_tag(name, torch.Tag.nondeterministic_seeded)


def is_random(name: str, arguments: Mapping[str, Any]) -> bool:
    """Does ``aten.NAME`` with these arguments, by schema name, draw random numbers?"""
    if not _has_tag(name, torch.Tag.nondeterministic_seeded) or name.removeprefix("aten.") in _RECURRENT:
        return False
    switches = [arguments[switch] for switch in ("train", "training", "dropout_p") if switch in arguments]
    return any(switches) if switches else not _is_attention(name)


def _is_attention(name: str) -> bool:
    """Attention drops nothing unless it is told how much."""
    return "attention" in name or "sdp" in name


def is_uninitialised(node: torch.fx.Node) -> bool:
    """Does the call read memory nobody has written? One of no numbers does not, nor one whose every reader overwrites
    it."""
    if str(node.target).split(".")[1:2] == [] or _bare(node) not in _UNINITIALISED:
        return False
    made = node.meta.get("val")
    if isinstance(made, Tensor) and made.numel() == 0:
        return False
    return not all(_overwrites(user) and user.args[:1] == (node,) for user in node.users)


def _overwrites(node: torch.fx.Node) -> bool:
    """Random calls overwrite as well, and are refused for what they are."""
    return _bare(node) in _OVERWRITES or _has_tag(f"aten.{_bare(node)}", torch.Tag.nondeterministic_seeded)


def _bare(node: torch.fx.Node) -> str:
    return str(node.target).split(".")[1] if str(node.target).startswith("aten.") else ""


class Folding:
    """Evaluates calls on constants. Results are measured, by a run without values, before they are computed."""

    def __init__(self, weights: int) -> None:
        """`weights` is how many bytes the network's own constants take."""
        self._room = LARGEST_SUM + 4 * weights
        self._shapes = FakeTensorMode(allow_non_fake_inputs=True)

    def __call__(self, node: torch.fx.Node, positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
        """The call's result. Raises `UnsupportedError` for calls that may not be evaluated, fail, or make too much."""
        if is_uninitialised(node):
            raise UnsupportedError(
                f"{node.target} reads uninitialised memory", hint="use torch.zeros or torch.full in its place"
            )
        target: Any = node.target
        if _bare(node) in _UNINITIALISED:  # its readers overwrite it; memory of this process is none of theirs
            target = functools.partial(_clear, target)
        elif not may_evaluate(f"aten.{_bare(node)}") and str(target) not in _PURE_OVERLOADS:
            raise UnsupportedError(
                f"{node.target} is not supported",
                why="it is called on constants, and edgeq does not evaluate it",
                hint="compute it in __init__ and register the result as a buffer",
            )
        self._measure(node, positional, named)
        try:
            return target(*positional, **named)
        except Exception as error:
            line = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise UnsupportedError(f"{node.target} fails on its constants", why=line[0]) from error

    def _measure(self, node: torch.fx.Node, positional: Sequence[Any], named: Mapping[str, Any]) -> None:
        try:
            with self._shapes, torch.no_grad():
                results = node.target(*positional, **named)  # type: ignore[operator]
        except DynamicOutputShapeException:
            return  # such a result, as of `nonzero`, is no larger than eight times the argument
        except Exception as error:
            if _bare(node) == "item":
                return
            line = str(error).strip().splitlines()[:1] or [type(error).__name__]
            raise UnsupportedError(f"{node.target} cannot be evaluated", why=line[0]) from error
        sizes = [t.numel() * t.element_size() for t in pytree.tree_leaves(results) if isinstance(t, Tensor)]
        if not getattr(node.target, "is_view", False):
            self._room -= sum(sizes)
        if max(sizes, default=0) > LARGEST_RESULT or self._room < 0:
            raise UnsupportedError(
                f"{node.target} makes a constant of {max(sizes) / 2**20:,.0f} MiB",
                why=f"at most {LARGEST_RESULT >> 20} MiB are evaluated, {LARGEST_SUM >> 20} MiB in all",
            )


def _clear(target: Any, *positional: Any, **named: Any) -> Any:
    return target(*positional, **named).zero_()
