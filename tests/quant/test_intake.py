"""Raw pixels: where mean and std go, what a border holds, and that the integers are those of a normalised input."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import UnsupportedError
from edgeq.graph.ir import Graph, Node
from edgeq.graph.ops import Add, Conv2d, MaxPool2d, Op, Sides, Slice
from edgeq.graph.passes.fold_input import fold_input
from edgeq.graph.run import GraphModule
from edgeq.integer.graph import IntegerGraph
from edgeq.integer.reference import run
from edgeq.model.spec import ModelSpec
from edgeq.quant.input_transform import choose_raw_pixels, normalised_input
from edgeq.quant.quantize import quantize
from edgeq.quant.scheme import Scheme

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5,) * 3, (0.5,) * 3)
UNIT = ((0.0,) * 3, (1.0,) * 3)
SHAPE = (3, 9, 8)
NONE: Sides = (0, 0, 0, 0)
ROUND: Sides = (1, 1, 1, 1)

Way = tuple[tuple[float, ...], tuple[float, ...]]


def spec(way: Way) -> ModelSpec:
    return ModelSpec("net", SHAPE, *way, classes=4)


def network(padding: Sides = ROUND, before: tuple[Op, ...] = (), groups: int = 1) -> Graph:
    """Two convolutions of the input, after `before`, and their sum."""
    rng = np.random.default_rng(4)
    nodes, constants, x = [], {}, "x"
    for place, op in enumerate(before):
        nodes.append(Node(f"first{place}", op, (x,)))
        x = f"first{place}"
    for name in ("one", "other"):
        constants[f"{name}.weight"] = rng.normal(0.05, 0.2, (6, 3 // groups, 3, 3)).astype(np.float32)
        constants[f"{name}.bias"] = rng.normal(0, 0.1, 6).astype(np.float32)
        op = Conv2d(padding=padding, groups=groups)
        nodes.append(Node(name, op, (x, f"{name}.weight", f"{name}.bias")))
    nodes.append(Node("sum", Add(), ("one", "other")))
    return Graph("net", ("x",), ("sum",), tuple(nodes), constants, {"x": (1, *SHAPE)})


def pictures(count: int = 6) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (count, 9, 8, 3), np.uint8)


def frozen(graph: Graph, way: Way, io: str = "uint8", raw: bool = True) -> tuple[IntegerGraph, str]:
    """The integers of a build, and the form that was chosen."""
    known = spec(way)
    input_transform = choose_raw_pixels(graph, known, io) if raw else normalised_input(known)
    images = CalibrationSet(known.normalise(pictures()), np.full(6, -1, np.int64), "noise")
    if input_transform.form == "weights":
        images, limits = input_transform.images(images), (0.0, 255.0)
    else:
        limits = known.input_range()
    inner = input_transform.graph(graph)
    made = quantize(inner, images, limits, Scheme())
    return input_transform.integers(made), input_transform.form


def answers(integer: IntegerGraph, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Real values of the first output for pixels put in as they are."""
    integers = (images.astype(np.int16) - 128).astype(np.int8).transpose(0, 3, 1, 2)
    (end,) = integer.outputs
    return integer.quantizations[end].dequantize(run(integer, integers)[end])


def wanted(graph: Graph, way: Way, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        made: npt.NDArray[np.float32] = GraphModule(graph)(torch.from_numpy(spec(way).normalise(images))).numpy()
    return made


@pytest.mark.parametrize(
    ("way", "padding", "io", "form"),
    [
        (UNIT, ROUND, "uint8", "grid"),
        (HALF, ROUND, "uint8", "grid"),
        (((0.2,) * 3, (0.3,) * 3), ROUND, "int8", "grid"),
        (UNIT, ROUND, "float32", "weights"),
        (HALF, NONE, "float32", "weights"),
        (HALF, ROUND, "float32", "op"),
        (IMAGENET, NONE, "uint8", "weights"),
        (IMAGENET, ROUND, "uint8", "op"),
        (((0.0,) * 3, (0.2, 0.3, 0.4)), ROUND, "uint8", "weights"),
        (((1.5,) * 3, (0.3,) * 3), ROUND, "uint8", "op"),
        (((-0.5,) * 3, (0.3,) * 3), NONE, "uint8", "weights"),
        (((0.9, 0.1, 0.5), (0.2, 0.3, 0.4)), ROUND, "uint8", "op"),
    ],
)
def test_pixels_are_answered_as_the_float_network_does_borders_included(
    way: Way, padding: Sides, io: str, form: str
) -> None:
    graph = network(padding)
    integer, chosen = frozen(graph, way, io)
    assert chosen == form
    images = pictures(40)[6:]
    right = wanted(graph, way, images)
    plain, _ = frozen(graph, way, raw=False)
    usual = plain.quantizations["sum"].dequantize(
        run(plain, plain.quantizations["x"].quantize(spec(way).normalise(images)))["sum"]
    )
    for off, normal in zip(*(_parts(found - right) for found in (answers(integer, images), usual)), strict=True):
        assert off < 1.2 * normal  # a border one pixel off is 1.3 and more


def _parts(errors: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Mean error inside, and along the border."""
    off = np.abs(errors).mean((0, 1))
    rim = np.ones(off.shape, bool)
    rim[1:-1, 1:-1] = False
    return float(off[~rim].mean()), float(off[rim].mean())


def test_where_the_grid_takes_it_no_integer_changes() -> None:
    graph = network()
    raw, plain = frozen(graph, UNIT)[0], frozen(graph, UNIT, raw=False)[0]
    assert raw.digest() == plain.digest()


def test_half_a_pixel_goes_into_biases_through_what_moves_values() -> None:
    before = (MaxPool2d((2, 2), (1, 1)), Slice((0, 0, 0, 0), (1, 3, 8, 7), (1, 1, 2, 2)))
    graph = network(before=before)
    raw, plain = frozen(graph, HALF)[0], frozen(graph, HALF, raw=False)[0]
    for name in ("one", "other"):
        total = plain.constants[f"{name}.weight"].astype(int).sum((1, 2, 3))
        added = raw.constants[f"{name}.bias"] - plain.constants[f"{name}.bias"]
        assert np.abs(added - 0.5 * total).max() <= 0.5
    images = pictures(20)
    assert np.abs(answers(raw, images) - wanted(graph, HALF, images)).mean() < 0.01
    half = choose_raw_pixels(graph, spec(HALF), "uint8")
    assert (half.zero, half.border) == (128, 0.5)
    assert choose_raw_pixels(network(NONE), spec(HALF), "uint8").border == 0
    assert choose_raw_pixels(graph, spec(((0.45,) * 3, (0.3,) * 3)), "uint8").border == pytest.approx(0.25)


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("way", [IMAGENET, ((0.9, 0.1, 0.5), (0.2, 0.3, 0.4))])
def test_the_op_puts_every_pixel_on_the_integer_a_normalised_one_would_have(way: Way, bits: int) -> None:
    known = replace(spec(way), input_shape=(3, 16, 16))
    graph = network().replace(input_shapes={"x": (1, 3, 16, 16)})
    noise = CalibrationSet(known.normalise(np.zeros((1, 16, 16, 3), np.uint8)), np.zeros(1, np.int64), "noise")
    plain = quantize(graph, noise, known.input_range(), Scheme())
    input_transform = choose_raw_pixels(graph, known, "uint8")
    integer = input_transform.integers(plain, bits)
    assert np.abs(integer.constants["x.normalised.weight"]).max() == 2 ** (bits - 1) - 1
    every = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), (1, 16, 16, 3))
    real, grid = known.normalise(every), plain.quantizations["x"]
    made = run(integer, (every.astype(np.int16) - 128).astype(np.int8).transpose(0, 3, 1, 2))["x.normalised"]
    assert np.abs(grid.dequantize(made) - real).max() <= 0.51 * grid.scale
    same = made == grid.quantize(real)
    ties = np.abs(np.abs(real / grid.scale) % 1 - 0.5) < 0.01
    assert same[~ties].all()
    assert input_transform.added_macs == 9 * 16 * 16


@pytest.mark.parametrize("groups", [1, 3])
def test_folding_computes_the_same_network(groups: int) -> None:
    graph = network(NONE, groups=groups)
    mean, std = (np.array(v) for v in IMAGENET)
    folded = fold_input(graph, 1 / (255 * std), -mean / std)
    images = pictures()
    with torch.no_grad():
        made = GraphModule(folded)(torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32))).numpy()
    np.testing.assert_allclose(made, wanted(graph, IMAGENET, images), atol=2e-5)
    with pytest.raises(UnsupportedError, match="cannot be folded at one"):
        fold_input(network(ROUND), 1 / (255 * std), -mean / std)


def test_what_costs_an_op_is_refused_where_none_is_wanted() -> None:
    with pytest.raises(UnsupportedError, match=r"one pads with the mean \(123.675, 116.28, 103.53\)"):
        choose_raw_pixels(network(), spec(IMAGENET), "uint8", free=True)
    with pytest.raises(UnsupportedError, match="first0 reads the input and is no convolution"):
        choose_raw_pixels(network(NONE, (MaxPool2d(),)), spec(IMAGENET), "uint8", free=True)
    with pytest.raises(UnsupportedError, match="trained on normalised images"):
        choose_raw_pixels(network(NONE), spec(IMAGENET), "uint8", tuned=True, free=True)
    assert choose_raw_pixels(network(), spec(HALF), "uint8", free=True).form == "grid"


def test_calibration_images_become_what_a_pixel_can_be() -> None:
    known = spec(IMAGENET)
    images = known.normalise(pictures()) + np.float32(0.004)
    images[0, :, 0, 0] = 9.0
    given = CalibrationSet(images, np.zeros(6, np.int64), "gznq")
    fed = choose_raw_pixels(network(), known, "uint8").images(given)
    pixels = pictures().transpose(0, 3, 1, 2).copy()
    pixels[0, :, 0, 0] = 255
    assert np.array_equal(fed.inputs, pixels)
    assert fed.inputs.dtype == np.float32
    assert normalised_input(known).images(given) is given
