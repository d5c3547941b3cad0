"""What to do about an ATen call edgeq cannot express: the nearest form it can."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["hint_for"]

_ACTIVATION = "use ReLU, LeakyReLU, ELU, hard swish, SiLU or GELU and fine-tune"
_LOGITS = "end the network at its logits"
_SIZE = "the image size changes by pooling, strides, and bilinear or nearest F.interpolate only"
_EVAL = "call model.eval() before exporting, and keep track_running_stats=True"
_MATRIX = "use nn.Linear on (N, features) with a constant weight"

_ANY = "build it from convolutions, pools, sums, products and activations, or leave it to the app"

_HINTS = {
    **dict.fromkeys(("threshold", "rrelu", "rrelu_with_noise_functional"), _ACTIVATION),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), "recurrence has no integer form here: use convolutions"),
    **dict.fromkeys(
        ("gt", "ge", "lt", "le", "eq", "ne", "logical_and", "logical_or", "logical_not"),
        "compare constants only; where it depends on the input, multiply with a gate such as a sigmoid",
    ),
    "sign": "use the tanh of a multiple",
    "erf": "use GELU, or tanh",
    **dict.fromkeys(("argmax", "argmin", "topk", "sort"), _LOGITS),
    **dict.fromkeys(
        ("grid_sampler_2d", "grid_sampler"),
        _SIZE,
    ),
    **dict.fromkeys(
        ("_native_batch_norm_legit", "_native_batch_norm_legit_functional", "bernoulli", "rand", "rand_like"), _EVAL
    ),
    **dict.fromkeys(("matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention"), _MATRIX),
    **dict.fromkeys(
        ("conv_transpose3d", "adaptive_max_pool3d", "upsample_trilinear3d", "upsample_nearest3d"),
        "no runtime has integer kernels of three dimensions: use those of two, on one frame",
    ),
    **dict.fromkeys(("index_put", "masked_scatter", "scatter"), "build a new tensor instead of writing into one"),
}


def hint_for(name: str, known: Iterable[str]) -> str:
    """Advice for the unknown call `name` (``aten.silu``): a written one, the nearest spelling, or what goes for any."""
    bare = name.removeprefix("aten.")
    if bare in _HINTS:
        return _HINTS[bare]
    choices = sorted(k.removeprefix("aten.") for k in known if not k.endswith("_"))
    close = difflib.get_close_matches(bare, choices, n=1, cutoff=0.7)
    return f"the nearest supported is {close[0]}" if close else _ANY
