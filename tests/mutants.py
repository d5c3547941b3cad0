"""Damage done on purpose: to bytes, to the structure of TFLite and ONNX models, and to JSON.

Shared by the suite and `benchmarks/fuzz.py`: same seed, same damage. Each function takes what is whole and a random
generator, and returns what is damaged.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ONNX", "TFLITE", "Reader", "damage", "hostile_json", "mutate_onnx", "mutate_tflite"]

Random = np.random.Generator

EXTREMES = (0, -1, 1, 2**31 - 1, -(2**31), 2**62, 10**9)
NAMES = ("", "\x1b[2J\x1b[32mpassed", "\u202egnp", "../../etc/passwd", "a" * 10_000, "\0", "[red]x[/red]")


def damage(data: bytes, random: Random, text: bool = False) -> bytes:
    """Change bytes, make numbers extreme, zero or repeat a stretch, or cut the end off; a `text` stays one."""
    array = np.frombuffer(data, np.uint8).copy()
    size, how = len(array), random.integers(6)
    if text and how in (1, 2, 3):
        how = 0
    start = int(random.integers(size))
    stop = min(size, start + int(random.integers(1, 64)))
    if how <= 1:
        places = random.integers(size, size=int(random.integers(1, 12)))
        signs = np.frombuffer(b"0123456789.-+e[]{}\"'=#,\n aZ/\\", np.uint8) if text else np.arange(256, dtype=np.uint8)
        array[places] = random.choice(signs, len(places))
    elif how == 2:
        place = int(random.integers(max(1, size - 4)))
        extreme = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000)[int(random.integers(5))]
        array[place : place + 4] = np.frombuffer(np.uint32(extreme).tobytes(), np.uint8)[: len(array) - place]
    elif how == 3:
        array[start:stop] = 0
    elif how == 4:
        return bytes(np.concatenate([array[:stop], array[start:stop], array[stop:]]))
    else:
        return bytes(array[:start])
    return bytes(array)


def pick(random: Random, values: Any) -> Any:
    return values[int(random.integers(len(values)))]


def hostile_json(text: str, random: Random) -> str:
    """One value of a JSON document taken away, or replaced by one of another type or size."""
    whole = json.loads(text)
    paths = [path for path in _paths(whole) if path]
    path = pick(random, paths)
    inner = whole
    for key in path[:-1]:
        inner = inner[key]
    values = (
        None,
        True,
        -1,
        0,
        2.0,
        1e308,
        math.nan,
        math.inf,
        "",
        *NAMES,
        [],
        {},
        [[[]]],
        {"a": 1},
        10**400,
        "0" * 64,
    )
    how = int(random.integers(len(values) + 2))
    if how == len(values):
        del inner[path[-1]]
    elif how == len(values) + 1:
        doubled = json.dumps(whole)
        return doubled[:-1] + f', "{path[0]}": {json.dumps(whole[path[0]])}}}' if isinstance(whole, dict) else doubled
    else:
        inner[path[-1]] = values[how]
    return json.dumps(whole)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(inner for key, item in items for inner in _paths(item, (*path, key)))]


def mutate_onnx(data: bytes, random: Random) -> tuple[str, bytes]:
    """Return the name of what was done, and the file."""
    import onnx

    proto = onnx.ModelProto.FromString(data)
    name = pick(random, sorted(ONNX))
    ONNX[name](proto, random)
    return name, bytes(proto.SerializeToString())


def _cycle(proto: Any, random: Random) -> None:
    first, last = sorted(int(n) for n in random.integers(len(proto.graph.node), size=2))
    if proto.graph.node[first].input:
        proto.graph.node[first].input[0] = proto.graph.node[last].output[0]


def _external(proto: Any, random: Random) -> None:
    tensor = pick(random, proto.graph.initializer)
    tensor.data_location = 1
    tensor.ClearField("raw_data")
    for key, value in (
        ("location", pick(random, ("../../../etc/passwd", "/etc/passwd", "gone.bin", "C:\\x"))),
        ("offset", "0"),
        ("length", "16"),
    ):
        tensor.external_data.add(key=key, value=value)


def _dims(proto: Any, random: Random) -> None:
    value = pick(random, [*proto.graph.input, *proto.graph.output, *proto.graph.value_info])
    dims = value.type.tensor_type.shape.dim
    if random.integers(4) == 0:
        for _ in range(pick(random, (1, 40, 3000))):
            dims.add(dim_value=pick(random, EXTREMES))
    elif dims:
        pick(random, dims).dim_value = pick(random, EXTREMES)


def _tensor(proto: Any, random: Random) -> None:
    tensor = pick(random, proto.graph.initializer)
    how = random.integers(5)
    if how == 0:
        tensor.dims[:] = [pick(random, EXTREMES) for _ in range(int(random.integers(0, 6)))]
    elif how == 1:
        tensor.data_type = int(random.integers(0, 40))
    elif how == 2:
        tensor.raw_data = tensor.raw_data[: int(random.integers(len(tensor.raw_data) + 1))]
    elif how == 3:
        tensor.raw_data = np.full(
            max(1, len(tensor.raw_data) // 4), pick(random, (np.nan, np.inf, 0.0, -1.0)), np.float32
        ).tobytes()
    else:
        proto.graph.initializer.remove(tensor)


def _node(proto: Any, random: Random) -> None:
    node = pick(random, proto.graph.node)
    how = random.integers(7)
    if how == 0:
        node.op_type = pick(random, ("NoSuchOp", "Conv", "Loop", "If", "Reshape", "SequenceEmpty", "Shape", *NAMES))
    elif how == 1:
        node.domain = pick(random, ("com.microsoft", "ai.onnx.ml", "nobody", *NAMES))
    elif how == 2:
        del node.input[int(random.integers(len(node.input) + 1)) :]
    elif how == 3:
        node.output[0] = pick(random, proto.graph.node).output[0]
    elif how == 4 and node.attribute:
        attribute = pick(random, node.attribute)
        attribute.i, attribute.f = pick(random, EXTREMES), pick(random, (math.nan, math.inf, 0.0))
        attribute.ints[:] = [pick(random, EXTREMES) for _ in attribute.ints]
    elif how == 5:
        del node.attribute[:]
    else:
        node.name = pick(random, NAMES)


def _ends(proto: Any, random: Random) -> None:
    graph = proto.graph
    how = random.integers(6)
    if how == 0:
        graph.input.add().CopyFrom(graph.input[0])
        graph.input[-1].name = "second"
    elif how == 1:
        graph.output.add().CopyFrom(graph.output[0])
        graph.output[-1].name = pick(random, graph.node).output[0]
    elif how == 2:
        pick(random, [*graph.input, *graph.output]).type.tensor_type.elem_type = int(random.integers(0, 30))
    elif how == 3:
        del graph.input[:]
    elif how == 4:
        del graph.output[:]
    else:
        graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1


def _version(proto: Any, random: Random) -> None:
    if random.integers(2):
        proto.opset_import[0].version = pick(random, EXTREMES)
    else:
        proto.ir_version = pick(random, EXTREMES)


def _recursion(proto: Any, random: Random) -> None:
    function = proto.functions.add(name="Again", domain="own", input=["a"], output=["b"])
    function.node.add(op_type="Again", domain="own", input=["a"], output=["b"])
    function.opset_import.add(domain="own", version=1)
    proto.opset_import.add(domain="own", version=1)
    node = pick(random, proto.graph.node)
    node.op_type, node.domain = "Again", "own"
    del node.input[1:]


def _nested(proto: Any, random: Random) -> None:
    node = pick(random, proto.graph.node)
    inner = copy.deepcopy(proto.graph)
    node.op_type = pick(random, ("Loop", "If", "Scan"))
    for _ in range(int(random.integers(1, 4))):
        attribute = node.attribute.add(name=pick(random, ("body", "then_branch", "else_branch")), type=5)
        attribute.g.CopyFrom(inner)


def _endless(proto: Any, random: Random) -> None:
    """Put a loop of 2^62 rounds before the first op."""
    import onnx
    from onnx import helper

    graph = proto.graph
    for name, kind, value in (("/rounds", onnx.TensorProto.INT64, 2**62), ("/yes", onnx.TensorProto.BOOL, True)):
        graph.initializer.append(helper.make_tensor(name, kind, [], [value]))
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["/in"], ["/go"]), helper.make_node("Identity", ["/v"], ["/w"])],
        "body",
        [info("/n", onnx.TensorProto.INT64, []), info("/in", onnx.TensorProto.BOOL, []), info("/v", 1, None)],
        [info("/go", onnx.TensorProto.BOOL, []), info("/w", 1, None)],
    )
    first = graph.input[0].name
    loop = helper.make_node("Loop", ["/rounds", "/yes", first], ["/looped"], body=body)
    for node in graph.node:
        node.input[:] = ["/looped" if name == first else name for name in node.input]
    graph.node.insert(0, loop)


def _sparse(proto: Any, random: Random) -> None:
    tensor = pick(random, proto.graph.initializer)
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(tensor)
    sparse.indices.CopyFrom(tensor)
    sparse.dims[:] = [pick(random, EXTREMES)]
    proto.graph.initializer.remove(tensor)


def _labels(proto: Any, random: Random) -> None:
    proto.doc_string = pick(random, NAMES)
    proto.metadata_props.add(key=pick(random, NAMES), value=pick(random, NAMES))
    proto.graph.name = pick(random, NAMES)


ONNX: dict[str, Callable[[Any, Random], None]] = {
    "cycle": _cycle,
    "dims": _dims,
    "endless": _endless,
    "ends": _ends,
    "external": _external,
    "labels": _labels,
    "nested": _nested,
    "node": _node,
    "recursion": _recursion,
    "sparse": _sparse,
    "tensor": _tensor,
    "version": _version,
}


def mutate_tflite(data: bytes, random: Random) -> tuple[str, bytes]:
    """Return the name of what was done, and the file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    name = pick(random, sorted(TFLITE))
    TFLITE[name](model, random)
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return name, bytes(builder.Output())


def _small(random: Random) -> int:
    """An extreme that a field of 32 bits can hold."""
    return int(pick(random, (0, -1, 1, 5, 2**31 - 1, -(2**31), 10**9, 255)))


def _t_index(model: Any, random: Random) -> None:
    op = pick(random, model.subgraphs[0].operators)
    side = pick(random, ("inputs", "outputs"))
    indices = [int(n) for n in getattr(op, side)]
    if indices:
        indices[int(random.integers(len(indices)))] = _small(random)
    setattr(op, side, indices if random.integers(4) else indices[:-1])


def _t_cycle(model: Any, random: Random) -> None:
    ops = model.subgraphs[0].operators
    pick(random, ops).inputs = [int(n) for n in pick(random, ops).outputs] * max(1, len(ops[0].inputs))


def _t_op(model: Any, random: Random) -> None:
    how = random.integers(5)
    code = pick(random, model.operatorCodes)
    if how == 0:
        code.builtinCode = int(random.integers(0, 220))
        code.deprecatedBuiltinCode = min(127, code.builtinCode)
    elif how == 1:
        code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, pick(random, NAMES).encode()
    elif how == 2:
        code.version = _small(random)
    elif how == 3:
        pick(random, model.subgraphs[0].operators).opcodeIndex = abs(_small(random))
    else:
        pick(random, model.subgraphs[0].operators).builtinOptions = None


def _t_option(model: Any, random: Random) -> None:
    options = pick(random, model.subgraphs[0].operators).builtinOptions
    names = [name for name, value in vars(options or object).items() if type(value) is int]
    if names:
        setattr(options, pick(random, names), int(pick(random, (0, 1, 2, 5, 100, 127))))


def _t_shape(model: Any, random: Random) -> None:
    tensor = pick(random, model.subgraphs[0].tensors)
    shape = [int(n) for n in tensor.shape] if tensor.shape is not None else []
    how = random.integers(4)
    if how == 0 and shape:
        shape[int(random.integers(len(shape)))] = _small(random)
    elif how == 1:
        shape = shape[:-1]
    elif how == 2:
        shape = [1] * pick(random, (0, 9, 40, 3000))
    else:
        tensor.shapeSignature = [-1] * len(shape)
    tensor.shape = shape


def _t_type(model: Any, random: Random) -> None:
    pick(random, model.subgraphs[0].tensors).type = int(random.integers(0, 25))


def _t_scale(model: Any, random: Random) -> None:
    tensor = pick(random, [t for t in model.subgraphs[0].tensors if t.quantization is not None])
    grid = tensor.quantization
    how = random.integers(5)
    if how == 0:
        tensor.quantization = None
    elif how == 1:
        grid.scale = [pick(random, (0.0, -1.0, math.nan, math.inf, 1e-45, 3e38))] * max(1, len(_list(grid.scale)))
    elif how == 2:
        grid.scale = _list(grid.scale) * pick(random, (0, 2, 100))
    elif how == 3:
        grid.zeroPoint = [pick(random, EXTREMES)] * max(1, len(_list(grid.zeroPoint)))
    else:
        grid.quantizedDimension = _small(random)


def _t_buffer(model: Any, random: Random) -> None:
    buffer = pick(random, model.buffers)
    how = random.integers(4)
    if how == 0:
        buffer.offset, buffer.size = pick(random, (2, 2**33, 2**63)), pick(random, (1, 2**20, 2**40, 2**63))
        buffer.data = None
    elif how == 1 and buffer.data is not None:
        buffer.data = np.asarray(buffer.data)[: int(random.integers(len(buffer.data) + 1))]
    elif how == 2:
        pick(random, model.subgraphs[0].tensors).buffer = abs(_small(random))
    elif buffer.data is not None:
        buffer.data = np.full(len(buffer.data), pick(random, (0, 127, 128, 255)), np.uint8)


def _t_ends(model: Any, random: Random) -> None:
    graph = model.subgraphs[0]
    how = random.integers(5)
    side = pick(random, ("inputs", "outputs"))
    if how == 0:
        setattr(graph, side, [])
    elif how == 1:
        setattr(graph, side, [int(n) for n in getattr(graph, side)] * 2)
    elif how == 2:
        setattr(graph, side, [_small(random)])
    elif how == 3:
        graph.inputs = [int(graph.inputs[0]), int(random.integers(len(graph.tensors)))]
    else:
        setattr(graph, side, [int(random.integers(len(graph.tensors)))])


def _t_graphs(model: Any, random: Random) -> None:
    if random.integers(3) == 0:
        model.subgraphs = []
    else:
        model.subgraphs = model.subgraphs * int(random.integers(2, 40))


def _t_labels(model: Any, random: Random) -> None:
    model.description = pick(random, NAMES).encode()
    pick(random, model.subgraphs[0].tensors).name = pick(random, NAMES).encode()
    model.version = int(pick(random, (0, 1, 3, 2**31)))


def _list(values: Any) -> list[Any]:
    return [] if values is None else [value.item() if hasattr(value, "item") else value for value in values]


TFLITE: dict[str, Callable[[Any, Random], None]] = {
    "buffer": _t_buffer,
    "cycle": _t_cycle,
    "ends": _t_ends,
    "graphs": _t_graphs,
    "index": _t_index,
    "labels": _t_labels,
    "op": _t_op,
    "option": _t_option,
    "scale": _t_scale,
    "shape": _t_shape,
    "type": _t_type,
}


class Reader:
    """What `inspect`, `bench` and `eval` do behind their wall, for one mutant after the other in one process."""

    def read(self, path: Path) -> str:
        """Whether it could be read and run; else why not, in edgeq's words."""
        from edgeq.errors import EdgeqError
        from edgeq.formats.foreign import _Session
        from edgeq.formats.read import _entry, _inspect

        try:
            _inspect(path, run=True).to_json()
            _entry(path)
            session = _Session(str(path), 3)
            _, made = session.run(np.zeros((session.batch(), 3, 16, 16), np.float32))
            session.real_outputs(made)
        except EdgeqError as error:
            return str(error)
        return "fine"
