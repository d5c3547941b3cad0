"""The scheme: how many bits the weights and activations of a network get, as the user asked for it.

Two conventions are in use below eight bits. By default the first and the last layer keep eight, as in post-training
quantization papers (BRECQ and after). `all_layers` is the convention of the data-free fine-tuning papers: every
convolution's and linear's weights have the few bits, first and last included. Tables of one do not compare with tables
of the other. `edgeq.quant.bits` applies a scheme to a graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.errors import ConfigError

__all__ = ["LayerBits", "Scheme", "parse_bits"]

_BITS = re.compile(r"w([2-8])a([2-8]|16)")


def parse_bits(text: str) -> tuple[int, int]:
    """Bits of weights and activations from ``w4a8``. Raises `ConfigError` for anything but 2 to 8, or a16."""
    match = _BITS.fullmatch(text)
    if match is None:
        raise ConfigError(f"bits {text!r}", why="must be wNaM with N from 2 to 8 and M from 2 to 8 or 16, such as w4a8")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class LayerBits:
    """Bits of the layers whose module path matches `pattern` (``*`` and ``?`` as in file names).

    `weights` are the bits of their weights, `activations` those of the values they read. A layer that reads 16 bits
    also writes 16.
    """

    pattern: str
    weights: int
    activations: int

    @classmethod
    def of(cls, text: str) -> LayerBits:
        """Parse ``features.3.*=w4a8``; raises `ConfigError` for bits that are none."""
        pattern, _, bits = text.rpartition("=")
        return cls(pattern, *parse_bits(bits))


@dataclass(frozen=True)
class Scheme:
    """The bits of a network. `weight_bits` 8 means integers in ±127, 7 means ±63, 4 means ±7; `activation_bits` 4
    means integers in -8..7. Everything is stored as int8, except for activations of 16 bits, which are int16.

    `edge_bits` are the bits of the first and last layer's weights; with None these have `weight_bits` like all others.
    `layers` override both for the layers they match; of several that match one layer, the last counts. `ends`, 8 or
    16, are the bits of the network's inputs and of its outputs where 8-bit and 16-bit activations mix; with None they
    are those of the ops there.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    edge_bits: int | None = None
    layers: tuple[LayerBits, ...] = ()
    ends: tuple[int | None, int | None] = (None, None)

    @classmethod
    def of(cls, bits: str, *, all_layers: bool = False, widest: int = 8, layers: Iterable[str] = ()) -> Scheme:
        """The scheme of ``w4a8`` for a target whose kernels take weights of up to `widest` bits.

        `layers` are texts ``PATTERN=wNaM``. Raises `ConfigError` for bits that are none.
        """
        weights, activations = parse_bits(bits)
        parsed = (LayerBits.of(text) for text in layers)
        capped = tuple(LayerBits(one.pattern, min(one.weights, widest), one.activations) for one in parsed)
        return cls(min(weights, widest), activations, None if all_layers else widest, capped)

    @property
    def wide(self) -> bool:
        """Whether any activations have 16 bits."""
        return 16 in (self.activation_bits, *(one.activations for one in self.layers))

    @property
    def mixed(self) -> bool:
        """Whether some activations have 16 bits and others not."""
        return self.wide and any((one.activations == 16) != (self.activation_bits == 16) for one in self.layers)

    @property
    def widest_weights(self) -> int:
        return max(self.weight_bits, self.edge_bits or 0, *(one.weights for one in self.layers))

    @property
    def fewest(self) -> int:
        """The fewest bits that any weight or activation has."""
        return min(self.fewest_weights, self.fewest_activations)

    @property
    def fewest_weights(self) -> int:
        return min([self.weight_bits, *(one.weights for one in self.layers)])

    @property
    def fewest_activations(self) -> int:
        return min([self.activation_bits, *(one.activations for one in self.layers)])
