"""Small networks with attention, written as people write them: each spells one idiom of the papers' own code."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ATTENTION", "weighted"]

WIDTH, HEADS, SIDE = 16, 2, 4


def weighted(module: nn.Module, seed: int = 0) -> nn.Module:
    """Eval mode; weights large enough that attention is not even, and no norm or position left as it is made."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.dim() > 1 and "embed" not in name and "token" not in name:
                fan = parameter[0].numel()
                parameter.normal_(0, fan**-0.5 * 1.5, generator=generator)
            elif "weight" in name:
                parameter.uniform_(0.6, 1.4, generator=generator)
            else:
                parameter.normal_(0, 0.3, generator=generator)
    return module.eval()


class SelfAttention(nn.Module):
    """As in timm: one layer for queries, keys and values, a permutation that puts the three in front of the batch."""

    def __init__(self, fused: bool = True) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fused = fused

    def forward(self, x: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`bias` (heads, tokens, tokens), and `mask` (windows, tokens, tokens) where the batch holds windows too."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q * (width // HEADS) ** -0.5) @ k.transpose(-2, -1)
            scores = scores if bias is None else scores + bias.unsqueeze(0)
            if mask is not None:
                windows = scores.view(batch // len(mask), len(mask), HEADS, tokens, tokens)
                scores = (windows + mask.unsqueeze(1).unsqueeze(0)).view(-1, HEADS, tokens, tokens)
            x = scores.softmax(dim=-1) @ v
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Patches as tokens, `tokens` in front of them, a position for each, and the first token's answer."""

    def __init__(self, fused: bool = True, tokens: int = 1, depth: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 4, 4)
        self.cls_token = nn.Parameter(torch.zeros(1, tokens, WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, SIDE * SIDE + tokens, WIDTH))
        self.blocks = nn.Sequential(*(Block(SelfAttention(fused)) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class Distilled(ViT):
    """DeiT: two tokens, two heads, and their mean."""

    def __init__(self) -> None:
        super().__init__(tokens=2, depth=1)
        self.head_dist = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1) + self.pos_embed
        x = self.norm(self.blocks(x))
        return (self.head(x[:, 0]) + self.head_dist(x[:, 1])) / 2


class OfPixels(nn.Module):
    """A convolution to 4 x 4 pixels of 16 channels, `attention` among pixels ``(N, C, H, W)``, and a head."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 4, 4), nn.ReLU())
        self.attention, self.head = attention, nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head((x + self.attention(x)).mean((2, 3)))


class OfTokens(nn.Module):
    """As `OfPixels`, for attention that takes tokens ``(N, L, C)``."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 4, 4)
        self.attention, self.head = attention, nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        return self.head((x + self.attention(x)).mean(1))


class Shifted(nn.Module):
    """Swin: windows of 2 x 2, rolled by one, with a table of relative positions and a mask between what was apart."""

    def __init__(self, window: int = 2, shift: int = 1) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm, self.attention = nn.LayerNorm(WIDTH), SelfAttention(fused=False)
        area = window * window
        self.table_embed = nn.Parameter(torch.zeros((2 * window - 1) ** 2, HEADS))
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = (places[:, :, None] - places[:, None, :] + window - 1).permute(1, 2, 0)
        self.register_buffer("index", apart[..., 0] * (2 * window - 1) + apart[..., 1])
        region = torch.zeros(1, SIDE, SIDE, 1)
        cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
        for i, (rows, columns) in enumerate((a, b) for a in cuts for b in cuts):
            region[:, rows, columns] = i
        parts = self.partition(region).view(-1, area)
        mask = (parts[:, None] - parts[:, :, None]).ne(0) * -100.0
        self.register_buffer("mask", mask)

    def partition(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        x = x.view(n, h // self.window, self.window, w // self.window, self.window, c)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, self.window * self.window, c)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = torch.roll(self.norm(x.permute(0, 2, 3, 1)), (-self.shift, -self.shift), (1, 2))
        area = self.window**2
        bias = self.table_embed[self.index.view(-1)].view(area, area, HEADS).permute(2, 0, 1).contiguous()
        y = self.attention(self.partition(y), bias, self.mask)
        y = y.view(n, h // self.window, w // self.window, self.window, self.window, c)
        y = y.permute(0, 1, 3, 2, 4, 5).contiguous().view(n, h, w, c)
        return torch.roll(y, (self.shift, self.shift), (1, 2)).permute(0, 3, 1, 2)


class Unfolded(nn.Module):
    """MobileViT: attention among the pixels that have one place in their 2 x 2 patches."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.norm = Block(SelfAttention()), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2)
        x = x.reshape(n, c, h * w // 4, 4).transpose(1, 3).reshape(n * 4, -1, c)
        x = self.norm(self.block(x))
        x = x.contiguous().view(n, 4, h * w // 4, -1).transpose(1, 3).reshape(n * c * (h // 2), w // 2, 2, 2)
        return x.transpose(1, 2).reshape(n, c, h, w)


class Spatial(nn.Module):
    """YOLO11's: keys narrower than values, products of (channels, pixels), and the positions from a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.key = WIDTH // HEADS, WIDTH // HEADS // 2
        self.qkv = nn.Conv2d(WIDTH, WIDTH + 2 * self.key * HEADS, 1)
        self.pe, self.proj = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(x).view(n, HEADS, 2 * self.key + self.depth, h * w)
        q, k, v = qkv.split([self.key, self.key, self.depth], dim=2)
        scores = (q.transpose(-2, -1) @ k * self.key**-0.5).softmax(dim=-1)
        x = (v @ scores.transpose(-2, -1)).view(n, c, h, w) + self.pe(v.reshape(n, c, h, w))
        return self.proj(x)


class TalkingHeads(nn.Module):
    """CaiT: layers over the heads, before and after the softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.before, self.after = nn.Linear(HEADS, HEADS), nn.Linear(HEADS, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * (c // HEADS) ** -0.5, qkv[1], qkv[2]
        scores = self.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        scores = self.after(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.proj((scores @ v).transpose(1, 2).reshape(n, t, c))


class CrossCovariance(nn.Module):
    """XCiT: attention among channels, of vectors of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, HEADS, c // HEADS).permute(2, 0, 3, 4, 1).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        return self.proj((scores.softmax(-1) @ v).permute(0, 3, 1, 2).reshape(n, t, c))


class Linear(nn.Module):
    """EfficientViT's: ReLU in place of softmax, and a sum of the keys, as a column of ones, to divide by."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(WIDTH, 3 * WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        qkv = self.qkv(x).reshape(n, HEADS, 3 * c // HEADS, h * w).transpose(-1, -2)
        q, k, v = qkv.chunk(3, dim=-1)
        q, k, v = F.relu(q), F.relu(k), F.pad(v, (0, 1), mode="constant", value=1.0)
        out = q @ (k.transpose(-1, -2) @ v)
        out = out[..., :-1] / (out[..., -1:] + 1e-2)
        return self.proj(out.transpose(-1, -2).reshape(n, c, h, w))


class Separable(nn.Module):
    """MobileViTv2: one score per pixel, its softmax, and a weighted sum."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(WIDTH, 1 + 2 * WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c, 4, h * w // 4)
        q, k, v = self.qkv(x).split([1, c, c], dim=1)
        context = (k * F.softmax(q, dim=-1)).sum(dim=-1, keepdim=True)
        x = self.proj(F.relu(v) * context.expand_as(v))
        return x.reshape(n, c, 2, 2, h // 2, w // 2).permute(0, 1, 4, 2, 5, 3).reshape(n, c, h, w)


class Reduced(nn.Module):
    """PVT: keys and values from a map made smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.sr, self.norm = nn.Conv2d(WIDTH, WIDTH, 2, 2), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q = self.q(x).reshape(n, t, HEADS, -1).permute(0, 2, 1, 3)
        y = self.sr(x.permute(0, 2, 1).reshape(n, c, SIDE, SIDE)).reshape(n, c, -1).permute(0, 2, 1)
        k, v = self.kv(self.norm(y)).reshape(n, -1, 2, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(n, t, c))


class Latent(nn.Module):
    """A pool by attention: one learned query, keys and values from the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_embed = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.q, self.kv, self.proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q = self.q(self.latent_embed.expand(n, -1, -1)).reshape(n, 1, HEADS, -1).transpose(1, 2)
        k, v = self.kv(x).reshape(n, t, 2, HEADS, -1).permute(2, 0, 3, 1, 4).unbind(0)
        x = (q * (c // HEADS) ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(n, 1, c))


class Pooling(nn.Module):
    """CLIP: a mean in front of the pixels, `nn.MultiheadAttention` of it alone."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(SIDE * SIDE + 1, 1, WIDTH))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x], 0) + self.pos_embed
        x, _ = self.attention(x[:1], x, x, need_weights=False)
        return x.transpose(0, 1)


class NonLocal(nn.Module):
    """Wang et al. 2018: products among all pixels, of halves of the channels."""

    def __init__(self) -> None:
        super().__init__()
        half = WIDTH // 2
        self.theta, self.phi, self.g = (nn.Conv2d(WIDTH, half, 1) for _ in range(3))
        self.out = nn.Conv2d(half, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        theta, phi, g = (part(x).flatten(2) for part in (self.theta, self.phi, self.g))
        scores = torch.bmm(theta.transpose(1, 2), phi).softmax(-1)
        return self.out(torch.bmm(scores, g.transpose(1, 2)).transpose(1, 2).reshape(n, c // 2, h, w))


class Einsum(nn.Module):
    """Products by `einsum`, as in lucidrains' networks."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Conv2d(WIDTH, 3 * WIDTH, 1, bias=False), nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = (t.reshape(n, HEADS, -1, h * w) for t in self.qkv(x).chunk(3, dim=1))
        scores = torch.einsum("b h d i, b h d j -> b h i j", q * (c // HEADS) ** -0.5, k).softmax(dim=-1)
        return self.proj(torch.einsum("b h i j, b h d j -> b h d i", scores, v).reshape(n, c, h, w))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)


class Attends(nn.Module):
    """`nn.MultiheadAttention` with the batch in front."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


ATTENTION: dict[str, Callable[[], nn.Module]] = {
    "vit": ViT,
    "vit_unfused": lambda: ViT(fused=False, depth=1),
    "deit": Distilled,
    "swin": lambda: OfPixels(Shifted()),
    "mobilevit": lambda: OfPixels(Unfolded()),
    "yolo11": lambda: OfPixels(Spatial()),
    "cait": lambda: OfTokens(TalkingHeads()),
    "xcit": lambda: OfTokens(CrossCovariance()),
    "efficientvit": lambda: OfPixels(Linear()),
    "mobilevitv2": lambda: OfPixels(Separable()),
    "pvt": lambda: OfTokens(Reduced()),
    "latent": lambda: OfTokens(Latent()),
    "clip_pool": lambda: OfTokens(Pooling()),
    "nonlocal": lambda: OfPixels(NonLocal()),
    "einsum": lambda: OfPixels(Einsum()),
    "multihead": lambda: OfTokens(Attends()),
    "encoder": lambda: OfTokens(encoder()),
}
"""Name -> factory; all take ``(3, 16, 16)``."""
