"""A hybrid vision transformer for 64x64 images: convolutions make tokens, three transformer blocks read them.

The convolutions are the first six blocks of signs-mobilenetv2, their batch norms folded into weights and biases, so the
network holds no batch norm. Each of the 8x8 places of their map becomes a token, as in the hybrid of Dosovitskiy et al.
(2021, arXiv 2010.11929); the blocks are DeiT's (Touvron et al. 2021, arXiv 2012.12877).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["SignsViT", "signs_vit"]

# expansion, output channels, blocks, first stride: as signs-mobilenetv2 begins
_STAGES = ((1, 16, 1, 1), (3, 24, 2, 2), (4, 32, 3, 2))
_WIDTH, _DEPTH, _HEADS, _HIDDEN = 96, 3, 3, 192
_SIDE = 8
"""Tokens along each side of the image."""


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; no activation after the projection."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _unit(inputs, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(hidden, hidden, 3, stride, hidden)
        self.project = nn.Conv2d(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def _stem() -> tuple[nn.Sequential, int]:
    """Convolutions that make a map of an eighth of the image's side, and its channels."""
    channels = _STAGES[0][1]
    layers: list[nn.Module] = [_unit(3, channels, 3, stride=2)]
    for expansion, outputs, count, stride in _STAGES:
        for index in range(count):
            layers.append(InvertedResidual(channels, outputs, stride if index == 0 else 1, expansion))
            channels = outputs
    return nn.Sequential(*layers), channels


class Attention(nn.Module):
    """Multi-head self-attention over tokens ``(N, T, width)``; one linear layer gives queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.project = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.project(y.transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    """Attention, then two linear layers around a GELU; each reads its input through a layer norm and adds to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.expand = nn.Linear(_WIDTH, _HIDDEN)
        self.reduce = nn.Linear(_HIDDEN, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.reduce(F.gelu(self.expand(self.norm2(x))))


class SignsViT(nn.Module):
    """Input ``(N, 3, 64, 64)`` in 0..1, logits ``(N, classes)``, read from the class token."""

    def __init__(self, num_classes: int = 40) -> None:
        super().__init__()
        self.stem, channels = _stem()
        self.embedding = nn.Conv2d(channels, _WIDTH, 1)
        self.class_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 1 + _SIDE * _SIDE, _WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(_DEPTH)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.classifier = nn.Linear(_WIDTH, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embedding(self.stem(x)).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        return self.classifier(self.norm(self.blocks(x))[:, 0])


def signs_vit(num_classes: int = 40) -> SignsViT:
    return SignsViT(num_classes)


def start_training(network: SignsViT, teacher: nn.Module) -> None:
    """Give the stem what signs-mobilenetv2 has learned, and keep it; DeiT's initialisation for all else.

    `teacher` is that network; its batch norms are folded into the copied weights.
    """
    pairs = [module for module in teacher.eval().modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    layers = [module for module in network.stem.modules() if isinstance(module, nn.Conv2d)]
    for layer, convolution, norm in zip(layers, pairs[::2], pairs[1::2], strict=False):
        fused = nn.utils.fuse_conv_bn_eval(convolution, norm)
        layer.load_state_dict(fused.state_dict())
    network.stem.requires_grad_(False)
    nn.init.trunc_normal_(network.class_token, std=0.02)
    nn.init.trunc_normal_(network.positions, std=0.02)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
