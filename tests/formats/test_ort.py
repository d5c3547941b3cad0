"""The onnxruntime session: real values in and out whatever the file's types, any number of samples, clear errors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeq.errors import ArtifactError, ConfigError, EdgeqError
from edgeq.formats.onnx.census import census
from edgeq.formats.onnx.reference.layers import run_ort_rounding
from edgeq.formats.onnx.session import OrtSession
from edgeq.formats.onnx.writer import write_onnx, write_onnx_float
from edgeq.integer.graph import IntegerGraph
from tests.formats.residual import frozen, images, residual_network


@pytest.fixture(scope="module")
def network() -> IntegerGraph:
    return frozen(residual_network())


@pytest.mark.parametrize("io", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("activations", ["int8", "uint8"])
def test_integers_and_reals(network, io, activations) -> None:  # type: ignore[no-untyped-def]
    session = OrtSession(write_onnx(network, activations=activations, io=io))
    integers = network.quantizations["x"].quantize(images(7))
    wanted = run_ort_rounding(network, integers, activations)["fc"]
    (found,) = session.run_integers(network.quantizations["x"].dequantize(integers))
    unsigned = found.dtype == np.uint8
    assert unsigned == ((activations if io == "float32" else io) == "uint8")
    np.testing.assert_array_equal(found.astype(np.int16) - 128 * unsigned, wanted)
    (real,) = session.run(network.quantizations["x"].dequantize(integers))
    np.testing.assert_allclose(real, network.quantizations["fc"].dequantize(wanted), rtol=1e-6)


def test_any_number_of_samples_through_a_batch_1_file(network) -> None:  # type: ignore[no-untyped-def]
    data = write_onnx(network, activations="uint8")
    together = OrtSession(data).run(images(70))[0]
    session = OrtSession(data)
    apart = np.concatenate([session.run(sample[None])[0] for sample in images(70)])
    np.testing.assert_array_equal(together, apart)
    np.testing.assert_array_equal(
        OrtSession(write_onnx(network, activations="uint8", batch=None)).run(images(70))[0], apart
    )


def test_a_file_with_its_batch_baked_in_runs_sample_by_sample() -> None:
    data = write_onnx_float(residual_network())
    model = onnx.load_from_string(data)
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    model.graph.initializer.append(onnx.helper.make_tensor("baked", onnx.TensorProto.INT64, [2], [1, 24]))
    flatten.CopyFrom(onnx.helper.make_node("Reshape", [flatten.input[0], "baked"], [flatten.output[0]]))
    np.testing.assert_allclose(
        OrtSession(model.SerializeToString()).run(images(5))[0], OrtSession(data).run(images(5))[0], atol=1e-5
    )


def test_timing_interface_and_facts(network, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "n.onnx"
    path.write_bytes(write_onnx(network, activations="int8"))
    session = OrtSession(path, threads=2)
    session.prepare(images(1))
    session.invoke()
    assert session.runtime.startswith("onnxruntime ")
    assert (session.kernels, session.threads) == ("mlas", 2)
    assert census(session.optimized()).kinds["QLinearConv"] == 5
    assert sorted(tmp_path.iterdir()) == [path]


def test_float_outputs_without_a_grid_have_no_integers() -> None:
    with pytest.raises(EdgeqError, match="fc is not quantized"):
        OrtSession(write_onnx_float(residual_network())).run_integers(images(1))


@pytest.mark.parametrize("damage", [b"", b"no model at all", None])
def test_a_damaged_file_is_one_clear_error(network, tmp_path, damage) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.onnx"
    path.write_bytes(write_onnx(network, activations="uint8")[:5000] if damage is None else damage)
    with pytest.raises(ArtifactError, match=r"broken\.onnx"):
        OrtSession(path)


def test_a_missing_file_and_an_unloadable_model(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ArtifactError, match="cannot read"):
        OrtSession(tmp_path / "absent.onnx")
    model = onnx.load_from_string(write_onnx_float(residual_network()))
    model.graph.node[0].op_type = "NoSuchOp"
    with pytest.raises(ArtifactError, match="onnxruntime cannot load"):
        OrtSession(model.SerializeToString())


def test_wrong_shapes_are_named(network) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=r"3x16x16.*\[3, 8, 8\]"):
        OrtSession(write_onnx(network, activations="uint8")).run(np.zeros((1, 3, 8, 8), np.float32))
