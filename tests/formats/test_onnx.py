"""The ONNX writers on a whole network, and the census of files."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch

from edgeq.errors import ArtifactError, UnsupportedError
from edgeq.formats.onnx.census import census, optimized_census
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.verify import verify_onnx
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.graph.ir import Node
from edgeq.graph.ops import RELU, Conv2d, MaxPool2d
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph, Quantization
from tests.formats.residual import frozen, images, residual_network

FUSED = {
    "Concat": 1,
    "DequantizeLinear": 1,
    "Flatten": 1,
    "NhwcMaxPool": 1,
    "QGemm": 1,
    "QLinearAdd": 1,
    "QLinearConv": 5,
    "QLinearGlobalAveragePool": 1,
    "QLinearLeakyRelu": 1,
    "QuantizeLinear": 1,
    "Slice": 1,
}


@pytest.fixture(scope="module")
def network() -> IntegerGraph:
    return frozen(residual_network())


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("batch", [1, None])
def test_everything_fuses(network, activations, batch) -> None:  # type: ignore[no-untyped-def]
    found = optimized_census(write_onnx(network, activations=activations, batch=batch), activations)
    kinds = {kind: count for kind, count in found.kinds.items() if kind not in ("Transpose", "Pad", "Clip")}
    assert kinds == FUSED
    assert found.kinds["Pad"] == (2 if activations == "uint8" else 1)
    assert (found.float_ops, found.float_convolutions, found.float_matmuls) == (0, 0, 0)
    assert (found.quantize, found.dequantize, found.spatial_pads) == (0, 0, 0)
    assert found.transposes <= 3  # the runtime's own, around its channels-last kernels


def test_signed_activations_need_permission_on_x86(network) -> None:  # type: ignore[no-untyped-def]
    data = write_onnx(network, activations="int8")
    session = OrtSession(data, allow_int8=False)
    if optimized_census(session).float_convolutions == 0:
        pytest.skip("this machine fuses signed activations unasked")
    assert optimized_census(data, "int8").float_convolutions == 0


@pytest.mark.parametrize("activations", ["uint8", "int8"])
@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
def test_the_integers_are_the_graphs(network, activations, io) -> None:  # type: ignore[no-untyped-def]
    data = write_onnx(network, activations=activations, io=io)
    own = verify_onnx(network, data, images(6), activations, rounding="onnxruntime")
    assert own.exact, own.first_difference
    assert set(own.per_op) == {node.name for node in network.nodes}
    reference = verify_onnx(network, data, images(6), activations)
    assert reference.max_step <= 1
    assert reference.shares[0] > 0.99
    assert reference.beyond == 0


def test_inputs_and_outputs_have_the_types_asked_for_and_mean_the_same(network) -> None:  # type: ignore[no-untyped-def]
    x = images(4)
    wanted = OrtSession(write_onnx(network, activations="uint8")).run(x)[0]
    for io, kind in (
        ("float32", onnx.TensorProto.FLOAT),
        ("int8", onnx.TensorProto.INT8),
        ("uint8", onnx.TensorProto.UINT8),
    ):
        data = write_onnx(network, activations="uint8", io=io)  # type: ignore[arg-type]
        graph = onnx.load_from_string(data).graph
        assert [value.name for value in (*graph.input, *graph.output)] == ["x", "fc"]
        assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {kind}
        np.testing.assert_array_equal(OrtSession(data).run(x)[0], wanted)
        edges = optimized_census(data)
        assert (edges.quantize, edges.dequantize) == (0, 0)


def test_float_file_equals_the_graph() -> None:
    for softmax in (False, True):
        graph = residual_network(softmax=softmax)
        with torch.no_grad():
            wanted = GraphModule(graph)(torch.from_numpy(images(5)))
        data = write_onnx_float(graph)
        np.testing.assert_allclose(OrtSession(data).run(images(5))[0], wanted.numpy(), atol=1e-4)
        found = census(data)
        assert found.float_convolutions == 5
        assert found.float_ops == found.ops
        assert found.kinds["Clip"] == 1


def test_softmax_output(network) -> None:  # type: ignore[no-untyped-def]
    graph = frozen(residual_network(softmax=True))
    data = write_onnx(graph, activations="uint8")
    (chances,) = OrtSession(data).run(images(4))
    assert np.all(np.abs(chances.sum(axis=1) - 1) < 0.05)
    assert optimized_census(data).kinds["QLinearSoftmax"] == 1


def test_same_arguments_same_bytes(network) -> None:  # type: ignore[no-untyped-def]
    one, other = (write_onnx(network, activations="int8") for _ in range(2))
    assert one == other
    graph = residual_network()
    assert write_onnx_float(graph) == write_onnx_float(graph)


def test_names_are_module_paths(network) -> None:  # type: ignore[no-untyped-def]
    model = onnx.load_from_string(write_onnx(network, activations="int8"))
    named = {node.name: node.op_type for node in model.graph.node if node.name}
    assert set(named) == {node.name for node in network.nodes}
    assert named["layer1.0.conv2"] == "Conv"
    tensors = {output for node in model.graph.node for output in node.output}
    assert {node.name for node in network.nodes} - tensors == set()
    text = model.SerializeToString()
    assert b"/home" not in text and b"/work" not in text  # noqa: PT018


def test_size_of_a_network_like_resnet20() -> None:
    """Ten kilobytes of weights per op, as there: the budget of 1.03 x (weights + biases + 200 bytes an op) holds."""
    rng = np.random.default_rng(0)
    nodes, constants, grids = [], {}, {"x": Quantization(np.asarray(np.float32(0.02)), np.asarray(3))}
    value = "x"
    for number in range(12):
        name = f"layer{number // 6 + 1}.{number % 6}.conv1"
        shape = (48, 3 if number == 0 else 48, 3, 3)
        scale = rng.uniform(1e-3, 2e-3, 48).astype(np.float32)
        zeros = np.zeros(48, np.int32)
        constants |= {f"{name}.w": rng.integers(-127, 128, shape).astype(np.int8)}
        constants |= {f"{name}.b": rng.integers(-9999, 9999, 48).astype(np.int32)}
        grids |= {f"{name}.w": Quantization(scale, zeros, "int8", 0)}
        grids |= {f"{name}.b": Quantization(grids[value].scale * scale, zeros, "int32", 0)}
        grids |= {name: Quantization(np.asarray(np.float32(rng.uniform(0.01, 0.1))), np.asarray(-128))}
        nodes.append(Node(name, Conv2d((1, 1), (1, 1, 1, 1), activation=RELU), (value, f"{name}.w", f"{name}.b")))
        value = name
    graph = IntegerGraph("n", ("x",), (value,), tuple(nodes), constants, grids, {"x": (1, 3, 8, 8)})
    weights = sum(array.size for array in constants.values() if array.dtype == np.int8)
    budget = 1.03 * (weights + 4 * 48 * 12 + 2000 * 12 / 10)
    for activations in ("uint8", "int8"):
        assert len(write_onnx(graph, activations=activations)) <= budget  # type: ignore[arg-type]


def test_seven_bit_weights_are_checked_not_made() -> None:
    narrow, wide = (frozen(residual_network(), limit=limit) for limit in (63, 127))
    assert write_onnx(narrow, activations="uint8", weight_bits=7) == write_onnx(narrow, activations="uint8")
    with pytest.raises(UnsupportedError, match=r"conv1.*±64"):
        write_onnx(wide, activations="uint8", weight_bits=7)


def test_what_would_not_run_in_integers_is_refused(network) -> None:  # type: ignore[no-untyped-def]
    bias = network.quantizations["fc.bias"]
    wrong = dict(network.quantizations)
    wrong["fc.bias"] = dataclasses.replace(bias, scale=bias.scale * np.float32(1.01))
    with pytest.raises(UnsupportedError, match=r"bias scale .* at fc"):
        write_onnx(dataclasses.replace(network, quantizations=wrong), activations="uint8")
    moved = dict(network.quantizations)
    moved["pool"] = Quantization(np.asarray(np.float32(0.5)), np.asarray(0))
    nodes = tuple(node for node in network.nodes if not isinstance(node.op, MaxPool2d) or node.name == "pool")
    cut = dataclasses.replace(
        network, quantizations=moved, nodes=nodes[: [n.name for n in nodes].index("pool") + 1], outputs=("pool",)
    )
    with pytest.raises(UnsupportedError, match="at pool"):
        write_onnx(cut, activations="uint8")
    with pytest.raises(UnsupportedError, match="int16"):
        write_onnx(network, activations="int16")  # type: ignore[arg-type]


def test_a_file_of_another_graph_is_not_verified(network) -> None:  # type: ignore[no-untyped-def]
    other = write_onnx_float(residual_network(softmax=True))
    with pytest.raises(ArtifactError):
        verify_onnx(network, other.replace(b"fire.leaky", b"fire.other"), images(1), "uint8")


def test_census_of_files_others_made(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """onnxruntime's own quantizer on our float file: its padded shortcut stays in float, and the census says so."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        feeds = iter([{"x": images(1)}])

        def get_next(self):  # type: ignore[no-untyped-def]
            return next(self.feeds, None)

    (tmp_path / "float.onnx").write_bytes(write_onnx_float(residual_network()))
    quantize_static(
        str(tmp_path / "float.onnx"),
        str(tmp_path / "peer.onnx"),
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    written, run = census(tmp_path / "peer.onnx"), optimized_census(tmp_path / "peer.onnx", "uint8")
    assert written.kinds["Conv"] == 5
    assert written.float_convolutions == 0
    assert run.kinds["QLinearConv"] == 5
    assert run.float_convolutions == 0
    assert run.kinds["Pad"] == 1
    assert run.float_ops == 1
    assert run.quantize >= 1
    assert run.dequantize >= 1
    assert not run.clean
