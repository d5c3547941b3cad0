"""The grammar of a ``.pt2``'s program: which parts of its JSON may reach torch.

torch evaluates, imports or compiles many strings of an exported program: symbolic sizes and guards are evaluated as
Python, names of nodes become source code, tree specs import modules, targets are looked up attribute by attribute.
`clean_program` therefore builds the JSON anew from the fields that capture needs, each held to a plain grammar. What
is not named here does not reach torch.
"""

from __future__ import annotations

import ast
import json
import keyword
import math
import re
from collections.abc import Callable
from typing import Any

from edgeq.errors import UnsupportedError
from edgeq.graph.capture.constants import is_known_call
from edgeq.graph.capture.suggestions import hint_for

__all__ = ["ForeignError", "clean_payloads", "clean_program"]

ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 12: 1, 13: 2}
"""Bytes of an element by torch's number for its type: integers, floats of 16 to 64 bits, and bool."""
LONGEST_NAME = 1000
LONGEST_EXPRESSION = 2000
LARGEST_TENSOR = 2**31
"""Largest number of elements of an activation; no file for a device can hold a larger one."""

_SYMBOL = re.compile(r"s\d{1,6}")
_PATH = re.compile(r"[\w+/:-]+(\.[\w+/:-]+)*")
_MODULES = re.compile(r"[\w.,;@\[\]()'<>:+/ -]*")
_ATEN = re.compile(r"torch\.ops\.(aten\.[A-Za-z]\w*|aten\._[A-Za-z]\w*)\.\w+")
_SIZE_CALLS = frozenset(
    (
        *(
            f"_operator.{name}"
            for name in (
                "add",
                "sub",
                "mul",
                "floordiv",
                "mod",
                "neg",
                "eq",
                "ne",
                "le",
                "ge",
                "lt",
                "gt",
                "and_",
                "or_",
            )
        ),
        *(f"torch.sym_{name}" for name in ("max", "min", "not", "int")),
    )
)
"""Calls that compute sizes, in a program with a dynamic batch."""
_FUNCTIONS = frozenset(
    (
        "Add",
        "Mul",
        "FloorDiv",
        "Mod",
        "PythonMod",
        "CleanDiv",
        "CeilDiv",
        "Max",
        "Min",
        "Eq",
        "Ne",
        "Equality",
        "Unequality",
        "GreaterThan",
        "LessThan",
        "StrictGreaterThan",
        "StrictLessThan",
        "And",
        "Or",
        "Not",
    )
)


class ForeignError(ValueError):
    """The file holds something that `torch.export.save` of a plain network does not write."""


Check = Callable[[Any], Any]
"""A check of a JSON value: returns the part to keep, or raises `ForeignError`."""


def _name(value: Any) -> str:
    """Check a name of a node or argument; torch turns these into Python source."""
    plain = isinstance(value, str) and value.isidentifier() and len(value) <= LONGEST_NAME
    if not plain or keyword.iskeyword(value) or value.startswith("__"):
        raise ForeignError(f"{_short(value)} is not the name of a value")
    return str(value)


def _path(value: Any) -> str:
    """Check a path of a parameter, such as ``layer1.0.weight``."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not _PATH.fullmatch(value) or "__" in value[:2]:
        raise ForeignError(f"{_short(value)} is not the path of a parameter")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 2**63:
        raise ForeignError(f"{_short(value)} is not a whole number")
    return value


def _number(value: Any) -> Any:
    if value in ("Infinity", "-Infinity", "NaN") or type(value) is float:
        return value
    return _whole(value)


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ForeignError(f"{_short(value)} is not true or false")
    return value


def _text(value: Any) -> str:
    """Check a text such as a mode, which torch compares and never evaluates."""
    if not isinstance(value, str) or len(value) > LONGEST_NAME or not value.isprintable():
        raise ForeignError(f"{_short(value)} is not a short text")
    return value


def _device(value: Any) -> dict[str, Any]:
    """Replace a device by the CPU, so that networks exported on an accelerator can be read."""
    if not isinstance(value, dict) or value.get("type") not in ("cpu", "cuda", "mps", "xpu"):
        raise ForeignError(f"device {_short(value)} is not one that holds weights")
    return {"type": "cpu", "index": None}


def _expression(value: Any) -> str:
    """Check an expression of integers and symbols of dynamic sizes; torch evaluates it as Python."""
    try:
        if not isinstance(value, str) or len(value) > LONGEST_EXPRESSION:
            raise SyntaxError
        if not _is_arithmetic(ast.parse(value, mode="eval").body):
            raise SyntaxError
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ForeignError(f"size {_short(value)} is not plain arithmetic; export it with fixed sizes") from None
    return value


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int and abs(node.value) < 2**63
    if isinstance(node, ast.Name):
        return _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and _is_arithmetic(node.operand)
    if isinstance(node, ast.BinOp):
        known = isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod))
        return known and _is_arithmetic(node.left) and _is_arithmetic(node.right)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    if node.func.id == "Symbol":
        named = len(node.args) == 1 and isinstance(node.args[0], ast.Constant)
        assumed = all(isinstance(k.value, ast.Constant) and type(k.value.value) is bool for k in node.keywords)
        return named and assumed and _SYMBOL.fullmatch(str(node.args[0].value)) is not None  # type: ignore[attr-defined]
    if node.func.id == "Integer":
        return len(node.args) == 1 and not node.keywords and _is_arithmetic(node.args[0])
    return node.func.id in _FUNCTIONS and not node.keywords and all(map(_is_arithmetic, node.args))


def _maybe(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _each(check: Check) -> Check:
    def clean(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ForeignError(f"{_short(value)} is not a list")
        return [check(item) for item in value]

    return clean


def _table(key: Check, check: Check) -> Check:
    def clean(value: Any) -> dict[str, Any]:
        return {key(name): check(item) for name, item in _mapping(value).items()}

    return clean


def _record(**fields: Check) -> Check:
    """A check of a record with these fields; other fields are dropped."""

    def clean(value: Any) -> dict[str, Any]:
        given = _mapping(value)
        return {name: check(given[name]) for name, check in fields.items() if name in given}

    return clean


def _one_of(**kinds: Check) -> Check:
    """A check of a tagged value: one value under the name of its kind."""

    def clean(value: Any) -> dict[str, Any]:
        given = _mapping(value)
        if len(given) != 1 or next(iter(given)) not in kinds:
            raise ForeignError(f"it holds {_short(', '.join(map(str, given)))}, which edgeq does not read")
        ((kind, item),) = given.items()
        return {kind: kinds[kind](item)}

    return clean


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ForeignError(f"{_short(value)} is not a record")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_hint = _one_of(as_int=_whole, as_bool=_flag, as_float=_number)
_symbolic = _record(expr_str=_expression, hint=_maybe(_hint))
_size = _one_of(as_expr=_symbolic, as_int=_whole)
_tensor = _record(name=_name)
_size_argument = _one_of(as_name=_name, as_int=_whole)
_float_argument = _one_of(as_name=_name, as_float=_number)
_bool_argument = _one_of(as_name=_name, as_bool=_flag)
_optional = _one_of(as_tensor=_tensor, as_none=_flag)
_argument = _one_of(
    as_none=_flag,
    as_tensor=_tensor,
    as_tensors=_each(_tensor),
    as_optional_tensor=_optional,
    as_optional_tensors=_each(_optional),
    as_int=_whole,
    as_ints=_each(_whole),
    as_float=_number,
    as_floats=_each(_number),
    as_bool=_flag,
    as_bools=_each(_flag),
    as_string=_text,
    as_sym_int=_size_argument,
    as_sym_ints=_each(_size_argument),
    as_sym_float=_float_argument,
    as_sym_bool=_bool_argument,
    as_scalar_type=_whole,
    as_memory_format=_whole,
    as_layout=_whole,
    as_device=_device,
)


def _element(value: Any) -> int:
    if value not in ITEM_BYTES or type(value) is not int:
        raise ForeignError(f"a tensor has torch's type number {_short(value)}: not a plain integer, float or bool")
    return value


_tensor_fields = _record(
    dtype=_element,
    sizes=_each(_size),
    requires_grad=_flag,
    device=_device,
    strides=_each(_size),
    storage_offset=_size,
    layout=_whole,
)


def _tensor_meta(value: Any) -> dict[str, Any]:
    meta: dict[str, Any] = _tensor_fields(value)
    if _elements(meta) > LARGEST_TENSOR:
        raise ForeignError(f"a tensor has {_elements(meta)} elements, more than {LARGEST_TENSOR}")
    return meta


def _elements(meta: dict[str, Any]) -> int:
    sizes = [size.get("as_int", 1) for size in meta.get("sizes", [])]
    if min(sizes, default=0) < 0:
        raise ForeignError(f"a tensor has sizes {sizes}")
    return math.prod(sizes)


def _target(value: Any) -> str:
    if isinstance(value, str) and (value in _SIZE_CALLS or _ATEN.fullmatch(value)):
        return value
    raise UnsupportedError(
        f"{_short(value)} is not supported", hint="export the plain network: torch's own calls, no control flow"
    )


def _metadata(value: Any) -> dict[str, str]:
    """Keep of a node's metadata only the module that made the call, for messages and names."""
    modules = _mapping(value).get("nn_module_stack", "")
    plain = isinstance(modules, str) and _MODULES.fullmatch(modules)
    return {"nn_module_stack": str(modules)} if plain and modules else {}


_node = _record(
    target=_target,
    inputs=_each(_record(name=_name, arg=_argument, kind=_maybe(_whole))),
    outputs=_each(_argument),
    metadata=_metadata,
    name=_maybe(_name),
)
_graph = _record(
    inputs=_each(_argument),
    outputs=_each(_argument),
    nodes=_each(_node),
    tensor_values=_table(_name, _tensor_meta),
    sym_int_values=_table(_name, _size),
    sym_bool_values=_table(_name, _one_of(as_expr=_symbolic, as_bool=_flag)),
    sym_float_values=_table(_name, _one_of(as_expr=_symbolic, as_float=_number)),
    is_single_tensor_return=_flag,
)
_constant = _one_of(as_none=_flag, as_int=_whole, as_float=_number, as_string=_text, as_bool=_flag)
_signature = _record(
    input_specs=_each(
        _one_of(
            user_input=_record(arg=_argument),
            parameter=_record(arg=_tensor, parameter_name=_path),
            buffer=_record(arg=_tensor, buffer_name=_path, persistent=_flag),
            tensor_constant=_record(arg=_tensor, tensor_constant_name=_path),
            constant_input=_record(name=_name, value=_constant),
        )
    ),
    output_specs=_each(
        _one_of(
            user_output=_record(arg=_argument),
            buffer_mutation=_record(arg=_tensor, buffer_name=_path),
            parameter_mutation=_record(arg=_tensor, parameter_name=_path),
            user_input_mutation=_record(arg=_tensor, user_input_name=_name),
        )
    ),
)


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not _SYMBOL.fullmatch(value):
        raise ForeignError(f"open size {_short(value)} depends on values; export it with fixed sizes")
    return value


_program = _record(
    graph_module=_record(graph=_graph, signature=_signature),
    opset_version=_table(_name, _whole),
    range_constraints=_table(_symbol, _record(min_val=_maybe(_whole), max_val=_maybe(_whole))),
    schema_version=_record(major=_whole, minor=_whole),
)


def clean_program(data: Any) -> dict[str, Any]:
    """The program's JSON, reduced to what capture needs.

    Outputs become a tuple, or one tensor, whatever containers the network returned them in. Raises `ForeignError` for
    what breaks the grammar, and `UnsupportedError` that names them for calls edgeq neither knows nor may evaluate.
    """
    program: dict[str, Any] = _program(data)
    try:
        module = program["graph_module"]
        targets, specs = [node["target"] for node in module["graph"]["nodes"]], module["signature"]
        inputs = sum("user_input" in spec or "constant_input" in spec for spec in specs["input_specs"])
        outputs = sum("user_output" in spec for spec in specs["output_specs"])
    except KeyError as error:
        raise ForeignError(f"{error} is missing") from None
    _refuse_unknown(targets)
    no_keywords = {**_branch("dict", 0), "context": "[]"}
    signature: dict[str, Any] = {
        "inputs": [],
        "outputs": [],
        "forward_arg_names": None,
        "in_spec": _spec({**_branch("tuple", 0), "children_spec": [_branch("tuple", inputs), no_keywords]}),
        "out_spec": _spec(_leaf() if outputs == 1 else _branch("tuple", outputs)),
    }
    module |= {"module_call_graph": [{"fqn": "", "signature": signature}], "metadata": {}}
    return program | {"verifiers": ["TRAINING"], "guards_code": []}


def _refuse_unknown(targets: list[str]) -> None:
    names = [match[1] for target in targets if (match := _ATEN.fullmatch(target))]
    unknown = list(dict.fromkeys(name for name in names if not is_known_call(name)))
    if unknown:
        raise UnsupportedError(f"{', '.join(unknown[:5])} is not supported", hint=hint_for(unknown[0], ()))


def _leaf() -> dict[str, Any]:
    return {"type": None, "context": None, "children_spec": []}


def _branch(kind: str, leaves: int) -> dict[str, Any]:
    return {"type": f"builtins.{kind}", "context": "null", "children_spec": [_leaf()] * leaves}


def _spec(tree: dict[str, Any]) -> str:
    return json.dumps([1, tree])


def _record_name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(weight|tensor)_\d{1,9}", value):
        raise ForeignError(f"{_short(value)} is not a tensor")
    return value


def _no_pickle(value: Any) -> bool:
    if value is not False:
        raise ForeignError("a tensor is pickled, and a pickle may hold code")
    return value


_payloads = _record(
    config=_table(
        _path,
        _record(path_name=_record_name, is_param=_flag, use_pickle=_no_pickle, tensor_meta=_tensor_fields),
    )
)


def clean_payloads(data: Any) -> tuple[dict[str, Any], list[str], dict[str, int]]:
    """The table of an archive's tensors, the records they lie in, and how many bytes each tensor has by its shape."""
    table: dict[str, Any] = _payloads(data)
    try:
        metas = {path: entry["tensor_meta"] for path, entry in table["config"].items()}
        records = sorted({entry["path_name"] for entry in table["config"].values()})
        return table, records, {path: _elements(meta) * ITEM_BYTES[meta["dtype"]] for path, meta in metas.items()}
    except KeyError as error:
        raise ForeignError(f"{error} is missing") from None
