"""Random small networks around every op kind, and whether each is torch's in every file.

`GENERATORS` holds, by op kind, functions that draw a layer with random parameters for a value of a given shape. A case
is one of them, with up to two random layers around it, drawn from a seed: the same everywhere. `check` compares what
torch computes with the graph, both float files, the integer reference and both integer files.

The suite runs a few seeds (`test_sweep.py`), `benchmarks/op_sweep.py` thousands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeq.graph.ops import (
    OPS,
    Shape,
    elementwise,  # noqa: F401 - they register op kinds
    norms,  # noqa: F401 - they register op kinds
)

__all__ = ["GENERATORS", "Case", "Draw", "Network", "case", "form_of"]

Body = Callable[[Any, Tensor], Tensor]


class Step(nn.Module):
    """One drawn layer: a function of the module, which holds parameters and parts, and of a value."""

    def __init__(self, body: Body, said: str, **parts: Any) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                setattr(self, name, part)
            else:
                self.register_buffer(name, torch.as_tensor(part, dtype=torch.float32))
        self.body, self.said = body, said

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


class Network(nn.Module):
    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    @property
    def said(self) -> str:
        return " -> ".join(str(step.said) for step in self.steps)


class Draw:
    """Random numbers of one case."""

    def __init__(self, seed: Sequence[int]) -> None:
        self.rng = np.random.default_rng(seed)

    def whole(self, low: int, high: int) -> int:
        """Both ends included."""
        return int(self.rng.integers(low, high + 1))

    def real(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[self.whole(0, len(choices) - 1)]

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def pair(self, low: int, high: int) -> tuple[int, int]:
        """Mostly two numbers, now and then one twice."""
        first = self.whole(low, high)
        return (first, first if self.chance(0.4) else self.whole(low, high))

    def weights(self, *shape: int) -> np.ndarray:
        """Weights as networks have them and as they have not: tiny, large, with channels of zeros, all alike."""
        size = 1 / math.sqrt(max(1, math.prod(shape[1:])))
        made = self.rng.normal(0, size, shape)
        kind = self.whole(0, 9)
        if kind == 0:
            made *= 10.0 ** self.rng.uniform(-3, 1, (shape[0], *[1] * (len(shape) - 1)))
        elif kind == 1:
            made[self.whole(0, shape[0] - 1)] = 0
        elif kind == 2:
            made = np.full(shape, self.real(-1, 1))
        elif kind == 3:
            made = np.abs(made)
        return made.astype(np.float32)

    def layer(self, module: Any) -> Any:
        """A module with drawn parameters."""
        for name, parameter in module.named_parameters():
            drawn = self.weights(*parameter.shape) if parameter.dim() > 1 else self.rng.normal(0, 0.5, parameter.shape)
            if name.endswith("weight") and parameter.dim() == 1:
                drawn = self.rng.normal(1, 0.5, parameter.shape)
            parameter.data = torch.as_tensor(np.asarray(drawn), dtype=torch.float32)
        return module


Generator = Callable[[Draw, Shape], "Step | None"]
"""A layer for a value of this shape (batch left out); None where it takes no such value."""

GENERATORS: dict[str, list[Generator]] = {kind: [] for kind in OPS}


def draws(*kinds: str) -> Callable[[Generator], Generator]:
    def add(generator: Generator) -> Generator:
        for kind in kinds:
            GENERATORS[kind].append(generator)
        return generator

    return add


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def pictures(generator: Generator) -> Generator:
    """Only for ``(C, H, W)``."""
    return lambda d, shape: generator(d, shape) if len(shape) == 3 else None


@draws("Conv2d", "Requantize")
@pictures
def convolution(d: Draw, shape: Shape) -> Step:
    c, h, w = shape
    kernel, dilation = d.pair(1, 4), d.pair(1, 2) if d.chance(0.3) else (1, 1)
    groups = d.one(_divisors(c)) if d.chance(0.6) else 1
    outputs = groups * d.whole(1, 3)
    stride: Any = d.pair(1, 3)
    padding: Any = d.pair(0, 3)
    mode = "zeros"
    if d.chance(0.2):
        stride, padding = 1, "same"
    elif d.chance(0.2):
        mode = d.one(["reflect", "replicate", "circular"])
        padding = (min(padding[0], h - 1), min(padding[1], w - 1))
    module = nn.Conv2d(c, outputs, kernel, stride, padding, dilation, groups, d.chance(0.7), mode)
    return Step(lambda m, x: m.layer(x), repr(module), layer=d.layer(module))


@draws("Conv2d")
def convolution_1d(d: Draw, shape: Shape) -> Step | None:
    if len(shape) != 2:
        return None
    groups = d.one(_divisors(shape[0]))
    module = nn.Conv1d(shape[0], groups * d.whole(1, 3), d.whole(1, 4), d.whole(1, 3), d.whole(0, 3), 1, groups)
    return Step(lambda m, x: m.layer(x), repr(module), layer=d.layer(module))


@draws("ConvTranspose2d")
@pictures
def transposed(d: Draw, shape: Shape) -> Step:
    groups = d.one(_divisors(shape[0]))
    kernel, stride = d.pair(1, 5), d.pair(1, 3)
    padding = tuple(d.whole(0, k - 1) for k in kernel)
    extra = tuple(d.whole(0, s - 1) for s in stride)
    module = nn.ConvTranspose2d(shape[0], groups * d.whole(1, 3), kernel, stride, padding, extra, groups, d.chance(0.7))
    return Step(lambda m, x: m.layer(x), repr(module), layer=d.layer(module))


@draws("Linear")
def linear(d: Draw, shape: Shape) -> Step:
    module = nn.Linear(shape[-1], d.whole(1, 9), bias=d.chance(0.7))
    return Step(lambda m, x: m.layer(x), repr(module), layer=d.layer(module))


@draws("Linear")
def flat_linear(d: Draw, shape: Shape) -> Step:
    module = nn.Linear(math.prod(shape), d.whole(1, 9), bias=d.chance(0.7))
    return Step(lambda m, x: m.layer(x.flatten(1)), f"flatten, {module}", layer=d.layer(module))


@draws("BatchNorm")
def batch_norm(d: Draw, shape: Shape) -> Step:
    kind = {1: nn.BatchNorm1d, 2: nn.BatchNorm1d, 3: nn.BatchNorm2d}[len(shape)]
    module: Any = kind(shape[0], eps=d.one([1e-5, 1e-3, 1e-1]), affine=d.chance(0.8))
    d.layer(module)
    module.running_mean = torch.as_tensor(d.rng.normal(0, 1, shape[0]), dtype=torch.float32)
    module.running_var = torch.as_tensor(10 ** d.rng.uniform(-3, 1, shape[0]), dtype=torch.float32)
    return Step(lambda m, x: m.layer(x), repr(module), layer=module)


@draws("Clamp")
def limits(d: Draw, shape: Shape) -> Step:
    low, high = sorted((d.real(-2, 1), d.real(-1, 2)))
    name, body = d.one(
        [
            ("relu", lambda m, x: F.relu(x)),
            ("relu6", lambda m, x: F.relu6(x)),
            ("hardsigmoid", lambda m, x: F.hardsigmoid(x)),
            (f"hardtanh({low}, {high})", lambda m, x: F.hardtanh(x, low, high)),
            (f"clamp(min={low})", lambda m, x: x.clamp(min=low)),
            (f"clamp(max={high})", lambda m, x: x.clamp(max=high)),
            (f"clamp(max={low})", lambda m, x: x.clamp(max=low)),
            (f"clamp(min={high})", lambda m, x: x.clamp(min=high)),
            ("clip(-1, 1)", lambda m, x: x.clip(-1, 1)),
            ("clamp(0, 1)", lambda m, x: x.clamp(0, 1)),
        ]
    )
    return Step(body, name)


@draws("LeakyReLU", "Maximum")
def leaky(d: Draw, shape: Shape) -> Step:
    if d.chance(0.4):
        slope = d.one([0.01, 0.2, 1.0, 0.0, 1.5, -0.5, d.real(0, 1)])
        return Step(lambda m, x: F.leaky_relu(x, slope), f"leaky_relu({slope})")
    module = nn.PReLU(1 if d.chance(0.2) else shape[0])
    slopes = d.rng.uniform(*d.one([(0, 1), (-1, 1), (-0.3, 1.6), (0.2, 0.2)]), module.weight.shape)
    module.weight.data = torch.as_tensor(slopes, dtype=torch.float32)
    return Step(lambda m, x: m.layer(x), f"{module} {np.round(slopes, 3).tolist()}", layer=module)


@draws("Maximum")
def maximum(d: Draw, shape: Shape) -> Step:
    factors = d.rng.uniform(-1, 1, (shape[0], *[1] * (len(shape) - 1)))
    factors[0] = 0.5
    return Step(lambda m, x: F.prelu(x, m.factors.flatten()), "prelu", factors=factors)


@draws("Softmax")
def softmax(d: Draw, shape: Shape) -> Step:
    dim = d.one([1, 1, -3, -1]) if len(shape) == 3 else d.one([-1, len(shape)])
    factor = d.one([1.0, 0.125, 3.3])  # which the softmax takes along
    return Step(lambda m, x: torch.softmax(x * factor, dim), f"softmax({dim}) of {factor}")


@draws("MatMul")
def matrices(d: Draw, shape: Shape) -> Step | None:
    """Rows of a value by themselves, by its columns, or by a function of them."""
    if len(shape) < 2:
        return None
    second, said = d.one([(torch.tanh, "tanh"), (torch.relu, "relu"), (lambda x: x, "x")])
    if len(shape) == 3 and d.chance():
        return Step(lambda m, x: x @ second(x).transpose(-1, -2), f"x @ {said}(x).mT")
    rows = d.chance()

    def body(m: Any, x: Tensor) -> Tensor:
        flat = x.flatten(2) if len(shape) == 3 else x
        other = second(flat).transpose(1, 2)
        return flat @ other if rows else other @ flat

    return Step(body, f"{'rows' if rows else 'columns'} by {said}")


@draws("Constant")
def constant(d: Draw, shape: Shape) -> Step | None:
    """A number for every place, added, multiplied or joined."""
    if len(shape) < 2:
        return None
    places = torch.as_tensor(d.weights(1, *shape), dtype=torch.float32)
    kind = d.whole(0, 2)
    if kind == 2:
        return Step(lambda m, x: torch.cat([m.places, x], 1), "cat(places, x)", places=places)
    return Step((lambda m, x: x + m.places) if kind else (lambda m, x: x * m.places), "places", places=places)


def _other(d: Draw, shape: Shape) -> tuple[Body, str]:
    """A second value made of the first, of its shape or one that repeats along it."""
    dims = [axis for axis in range(1, len(shape) + 1) if d.chance(0.3)]
    chosen: list[tuple[Body, str]] = [
        (lambda m, x: x, "x"),
        (lambda m, x: -x, "-x"),
        (lambda m, x: torch.tanh(x), "tanh(x)"),
        (lambda m, x: torch.sigmoid(x), "sigmoid(x)"),
        (lambda m, x: F.relu(x), "relu(x)"),
        (lambda m, x: 0.37 * x + 0.1, "0.37 x + 0.1"),
    ]
    if len(shape) == 3:
        chosen += [(lambda m, x: x.mean((2, 3), keepdim=True), "mean")] * 2
        chosen += [(lambda m, x: x.amax((2, 3), keepdim=True) if False else F.adaptive_max_pool2d(x, 1), "max")]
        chosen += [(lambda m, x: x.mean(dims or 1, keepdim=True), f"mean({dims or 1})")]
        chosen += [(lambda m, x: m.layer(x), "conv 1x1")]
    return d.one(chosen)


@draws("Add")
def addition(d: Draw, shape: Shape) -> Step:
    body, name = _other(d, shape)
    alpha = d.one([1, 1, 2, -0.5])
    how, said = d.one(
        [
            (lambda m, x: torch.add(x, body(m, x), alpha=alpha), f"x + {alpha} {name}"),
            (lambda m, x: torch.sub(body(m, x), x, alpha=alpha), f"{name} - {alpha} x"),
            (lambda m, x: F.relu(x + body(m, x)), f"relu(x + {name})"),
            (lambda m, x: F.relu6(x + body(m, x)), f"relu6(x + {name})"),
        ]
    )
    return Step(how, said, layer=d.layer(nn.Conv2d(shape[0], shape[0], 1)))


@draws("Mul")
def product(d: Draw, shape: Shape) -> Step:
    body, name = _other(d, shape)
    return Step(lambda m, x: x * body(m, x), f"x * {name}", layer=d.layer(nn.Conv2d(shape[0], shape[0], 1)))


@draws("Affine")
def affine(d: Draw, shape: Shape) -> Step:
    one = (shape[0], *[1] * (len(shape) - 1))
    number, factor = d.real(-2, 2), d.one([2.0, -1.7, 0.25, 1.0, -1.0, 1e-3])
    how, said = d.one(
        [
            (lambda m, x: x * m.scale + m.shift, "x * scale + shift"),
            (lambda m, x: m.shift - x, "shift - x"),
            (lambda m, x: (x - m.shift) / m.divisor, "(x - shift) / divisor"),
            (lambda m, x: number - factor * x, f"{number:g} - {factor} x"),
            (lambda m, x: (x + number) / factor, f"(x + {number:g}) / {factor}"),
            (lambda m, x: -x, "-x"),
        ]
    )
    parts = {"scale": d.rng.normal(0, 1, one), "shift": d.rng.normal(0, 1, one)}
    return Step(how, said, **parts, divisor=d.rng.uniform(0.3, 3, one))


def _window(d: Draw, shape: Shape) -> dict[str, Any]:
    """Parameters both pools have."""
    kernel = tuple(d.whole(1, min(5, size + 2)) for size in shape[1:])
    options: dict[str, Any] = {"kernel_size": kernel, "padding": tuple(d.whole(0, k // 2) for k in kernel)}
    if d.chance(0.7):
        options["stride"] = d.pair(1, 4)
    return options | {"ceil_mode": d.chance(0.4)}


@draws("MaxPool2d")
@pictures
def max_pool(d: Draw, shape: Shape) -> Step:
    if d.chance(0.15):
        size = tuple(d.whole(1, s) for s in shape[1:])
        return Step(lambda m, x: F.adaptive_max_pool2d(x, size), f"adaptive_max_pool2d{size}")
    options = _window(d, shape)
    sides = [d.whole(0, 2) for _ in range(4)]
    value = d.one([0.0, 0.0, -math.inf])
    if d.chance(0.4):
        return Step(
            lambda m, x: F.max_pool2d(F.pad(x, sides, value=value), **options),
            f"pad({sides}, {value}), max_pool2d({options})",
        )
    return Step(lambda m, x: F.max_pool2d(x, **options), f"max_pool2d({options})")


@draws("AvgPool2d")
@pictures
def average_pool(d: Draw, shape: Shape) -> Step:
    if d.chance(0.2):
        size = tuple(d.whole(1, s + 1) for s in shape[1:])
        return Step(lambda m, x: F.adaptive_avg_pool2d(x, size), f"adaptive_avg_pool2d{size}")
    options = _window(d, shape)
    if d.chance(0.5):
        options["padding"] = (0, 0)
    options |= {"count_include_pad": d.chance(0.5)}
    if d.chance(0.1):
        options["divisor_override"] = d.whole(1, 9)
    sides = [d.whole(0, 2) for _ in range(4)]
    if d.chance(0.25):
        return Step(lambda m, x: F.avg_pool2d(F.pad(x, sides), **options), f"pad({sides}), avg_pool2d({options})")
    return Step(lambda m, x: F.avg_pool2d(x, **options), f"avg_pool2d({options})")


@draws("GlobalAvgPool")
def mean(d: Draw, shape: Shape) -> Step:
    rank = len(shape) + 1
    dims = [axis - d.one([0, rank]) for axis in range(1, rank) if d.chance(0.6)] or [rank - 1]
    if rank == 4 and d.chance(0.4):
        dims = [2, 3]
    keep = d.chance()
    return Step(lambda m, x: x.mean(dims, keepdim=keep), f"mean({dims}, keepdim={keep})")


@draws("Pad")
def pad(d: Draw, shape: Shape) -> Step:
    places = d.whole(1, len(shape))
    mode = d.one(["constant"] * 3 + ["reflect", "replicate", "circular"])
    if mode != "constant":
        places = min(places, len(shape) - 1) or 1
    counts = []
    for place in range(places):
        size = shape[len(shape) - 1 - place]
        most = {"constant": 3, "replicate": 3, "reflect": min(3, size - 1), "circular": min(3, size)}[mode]
        low = -min(1, (size - 1) // 2) if mode == "constant" and d.chance(0.3) else 0
        counts += [d.whole(low, most), d.whole(low, most)]
    value = d.one([0.0, 0.0, 0.0, 1.0, -0.5]) if mode == "constant" else None
    return Step(lambda m, x: F.pad(x, counts, mode, value), f"pad({counts}, {mode}, {value})")


@draws("Slice")
def cut(d: Draw, shape: Shape) -> Step:
    dim = d.whole(1, len(shape))
    size = shape[dim - 1]
    first, step = d.whole(0, size - 1), d.whole(1, 3)
    last = d.whole(first + 1, size)
    signed = d.one([dim, dim - len(shape) - 1])
    parts = d.whole(1, size)
    place = d.whole(0, len(range(0, size, -(-size // parts))) - 1)
    everything = [slice(None)] * dim
    how, said = d.one(
        [
            (lambda m, x: x[(*everything, slice(first, last, step))], f"[{first}:{last}:{step}] of {dim}"),
            (lambda m, x: x[(*everything, slice(first - size, None, step))], f"[{first - size}::{step}] of {dim}"),
            (lambda m, x: x.narrow(signed, first, last - first), f"narrow({signed}, {first}, {last - first})"),
            (lambda m, x: x.select(signed, first), f"select({signed}, {first})"),
            (lambda m, x: x.chunk(parts, signed)[place], f"chunk({parts}, {signed})[{place}]"),
            (lambda m, x: x.split(step, signed)[-1], f"split({step}, {signed})[-1]"),
        ]
    )
    return Step(how, said)


@draws("Reshape")
def reshape(d: Draw, shape: Shape) -> Step:
    total = math.prod(shape)
    first = d.one(_divisors(total))
    second = d.one(_divisors(total // first))
    target = d.one([(total,), (first, total // first), (first, second, total // first // second), (-1, first)])
    return Step(lambda m, x: x.reshape(x.shape[0], *target), f"reshape{target}")


@draws("Permute")
def permute(d: Draw, shape: Shape) -> Step:
    order = (0, *(int(i) + 1 for i in d.rng.permutation(len(shape))))
    if d.chance(0.3) and len(shape) > 1:
        return Step(lambda m, x: x.transpose(-1, -2), "transpose(-1, -2)")
    return Step(lambda m, x: x.permute(order), f"permute{order}")


@draws("Permute")
@pictures
def shuffle(d: Draw, shape: Shape) -> Step:
    groups = d.one(_divisors(shape[0]))
    blocks = [n for n in (1, 2, 3) if shape[0] % n**2 == 0]
    whole = [n for n in (1, 2, 3) if shape[1] % n == 0 and shape[2] % n == 0]
    up, down = d.one(blocks), d.one(whole)
    how, said = d.one(
        [
            (lambda m, x: F.channel_shuffle(x, groups), f"channel_shuffle({groups})"),
            (lambda m, x: F.pixel_shuffle(x, up), f"pixel_shuffle({up})"),
            (lambda m, x: F.pixel_unshuffle(x, down), f"pixel_unshuffle({down})"),
        ]
    )
    return Step(how, said)


@draws("Concat")
def join(d: Draw, shape: Shape) -> Step:
    dim = d.whole(1, len(shape))
    signed = d.one([dim, dim - len(shape) - 1])
    several: list[tuple[Body, str]] = [
        (lambda m, x: x, "x"),
        (lambda m, x: F.relu(x), "relu"),
        (lambda m, x: torch.sigmoid(x), "sigmoid"),
        (lambda m, x: 3 * x, "3 x"),
        (lambda m, x: x.narrow(dim, 0, 1), "first"),
    ]
    chosen = [d.one(several) for _ in range(d.whole(1, 4))]
    return Step(
        lambda m, x: torch.cat([body(m, x) for body, _ in chosen], signed),
        f"cat([{', '.join(name for _, name in chosen)}], {signed})",
    )


@draws("Resize2d")
@pictures
def resize(d: Draw, shape: Shape) -> Step:
    mode = d.one(["nearest", "nearest", "nearest-exact", "bilinear", "bilinear"])
    options: dict[str, Any] = {"mode": mode}
    if mode == "bilinear":
        options["align_corners"] = d.chance()
    if d.chance(0.5):
        options["size"] = tuple(d.whole(1, 3 * s) for s in shape[1:])
    else:
        options["scale_factor"] = tuple(d.one([2, 3, 0.5, 1.5, 4, 1, 0.7]) for _ in shape[1:])
        if d.chance(0.3):
            options["recompute_scale_factor"] = True
    return Step(lambda m, x: F.interpolate(x, **options), f"interpolate({options})")


@draws("Resize2d")
@pictures
def expand(d: Draw, shape: Shape) -> Step:
    size = d.pair(1, 7)
    return Step(lambda m, x: F.adaptive_avg_pool2d(x, 1).expand(-1, -1, *size), f"mean, expand{size}")


def _function(kind: str, *forms: tuple[str, Callable[[Tensor], Tensor]]) -> None:
    def generator(d: Draw, shape: Shape) -> Step:
        name, function = d.one(forms)
        return Step(lambda m, x: function(x), name)

    draws(kind)(generator)


_function("Sigmoid", ("sigmoid", torch.sigmoid), ("silu", F.silu))
_function("Tanh", ("tanh", torch.tanh))
_function(
    "HardSigmoid",
    ("x relu6(x + 3) / 6", lambda x: x * F.relu6(x + 3) / 6),
    ("hardswish", F.hardswish),
    ("hard gate", lambda x: x * F.hardsigmoid(x)),
)
_function("HardSwish", ("hardswish", F.hardswish))
_function("GELU", ("gelu", F.gelu), ("gelu tanh", lambda x: F.gelu(x, approximate="tanh")))
_function(
    "ELU",
    ("elu", F.elu),
    ("elu(0.3)", lambda x: F.elu(x, 0.3)),
    ("selu", F.selu),
    ("celu", F.celu),
    ("celu(0.4)", lambda x: F.celu(x, 0.4)),
    ("celu(2)", lambda x: F.celu(x, 2.0)),
)
_function(
    "Softplus",
    ("softplus", F.softplus),
    ("softplus(2)", lambda x: F.softplus(x, 2.0)),
    ("softplus(0.3, 50)", lambda x: F.softplus(x, 0.3, 50)),
    ("logsigmoid", F.logsigmoid),
)
_function("Mish", ("mish", F.mish))
_function("Exp", ("exp", torch.exp), ("expm1", torch.expm1), ("exp(-x)", lambda x: (-x).exp()))
_function("Log", ("log of sigmoid", lambda x: x.sigmoid().log()), ("log1p of relu", lambda x: F.relu(x).log1p()))
_function("Sin", ("sin", torch.sin), ("cos", torch.cos), ("sin(3 x)", lambda x: (3 * x).sin()))
_function(
    "Power",
    ("sqrt of relu", lambda x: F.relu(x).sqrt()),
    ("1 / softplus", lambda x: 1 / F.softplus(x)),
    ("x / (1 + |x|)", F.softsign),
    ("x ** 5", lambda x: x**5),
    ("softplus ** -1.5", lambda x: F.softplus(x) ** -1.5),
)


@draws("MeanSquare", "Rsqrt")
def norm(d: Draw, shape: Shape) -> Step:
    count = d.whole(1, len(shape))
    groups = d.one(_divisors(shape[0]))
    eps = d.one([1e-5, 1e-3, 1e-6])
    modules: list[nn.Module] = [
        nn.LayerNorm(shape[-count:], eps, d.chance()),
        nn.RMSNorm(shape[-1:], eps),
        nn.GroupNorm(groups, shape[0], eps),
    ]
    if len(shape) == 3 and shape[1] * shape[2] > 1:
        modules.append(nn.InstanceNorm2d(shape[0], eps, affine=d.chance()))
    module = d.layer(d.one(modules))
    return Step(lambda m, x: m.layer(x), repr(module), layer=module)


RANGES = [(-2.0, 2.0), (-1.0, 1.0), (0.0, 1.0), (-2.5, 2.1), (-30.0, 30.0), (-0.05, 0.05), (0.0, 255.0)]
"""Ranges of the input's values."""


@dataclass(frozen=True)
class Case:
    """A network, one sample's shape, and inputs within a range."""

    network: Network
    shape: Shape
    limits: tuple[float, float]
    inputs: np.ndarray = field(repr=False)

    def __str__(self) -> str:
        return f"{list(self.shape)} in {list(self.limits)}: {self.network.said}"


def case(kind: str, seed: int) -> Case:
    """The case of an op kind and a seed."""
    d = Draw([sorted(OPS).index(kind), seed])
    shape: Shape = (d.whole(1, 9), d.one([1, 2, 3, 5, 8, d.whole(1, 13)]), d.whole(1, 13))
    start = shape
    steps: list[Step] = []
    if d.chance(0.5):
        steps.append(_stem(d, shape))
    generators = GENERATORS[kind]
    if d.chance(0.25):
        steps.append(_any(d, _shape(steps, start)))
    shape = _shape(steps, start)
    made = [step for step in (d.one(generators)(d, shape) for _ in range(8)) if step is not None and _runs(step, shape)]
    if not made and len(shape) != 3:  # a step before it took the picture away
        steps, shape = [], start
        made = [s for s in (g(d, shape) for _ in range(8) for g in generators) if s is not None and _runs(s, shape)]
    steps.extend(made[:1])
    if d.chance(0.3) or not steps:
        steps.append(_any(d, _shape(steps, start)))
    low, high = d.one(RANGES)
    return Case(Network(steps).eval(), start, (low, high), _inputs(d, start, low, high))


def form_of(kind: str, seed: int) -> str:
    """The widths a case is quantized to: mostly 8 bits, now and then 16, or one layer in 16 among 8."""
    if kind == "Requantize":
        return "mixed"
    return {6: "w8a16", 7: "mixed"}.get(seed % 8, "w8a8")


def _stem(d: Draw, shape: Shape) -> Step:
    """A layer that changes no shape, so that what follows reads a calibrated value."""
    module = nn.Conv2d(shape[0], d.whole(1, 9), 1)
    return Step(lambda m, x: m.layer(x), "conv 1x1", layer=d.layer(module))


def _any(d: Draw, shape: Shape) -> Step:
    while True:
        step = d.one(GENERATORS[d.one(sorted(GENERATORS))])(d, shape)
        if step is not None and _runs(step, shape):
            return step


def _runs(step: nn.Module, shape: Shape) -> bool:
    try:
        made = _shape([step], shape)
        return len(made) > 0 and min(made) > 0
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError):
        return False


@torch.no_grad()
def _shape(steps: Sequence[nn.Module], shape: Shape) -> Shape:
    x = torch.zeros(1, *shape)
    for step in steps:
        x = step.eval()(x)
    return tuple(x.shape[1:])


def _inputs(d: Draw, shape: Shape, low: float, high: float) -> np.ndarray:
    """Four samples: uniform, normal, at the ends alone, and one value everywhere."""
    uniform = d.rng.uniform(low, high, shape)
    normal = d.rng.normal((low + high) / 2, (high - low) / 6, shape)
    ends = d.rng.choice([low, high], shape)
    alike = np.full(shape, d.one([low, 0.0, d.real(low, high)]))
    return np.clip(np.stack([uniform, normal, ends, alike]), low, high).astype(np.float32)
