"""Raw heads of the YOLO family to boxes: against ultralytics' formulas written in torch, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from edgeq.decode_grid import GridDecoding, decode_grid, detect_grid, instance_masks
from edgeq.errors import ConfigError

SIZES, STRIDES = ((4, 6), (2, 3)), (8.0, 16.0)


def heads(channels: tuple[int, ...], images: int = 2, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, count, *size, generator=generator) * 2 for count in channels for size in SIZES]


def joined(maps: list[Tensor], branch: int) -> Tensor:
    return torch.cat([each.flatten(2) for each in maps[2 * branch : 2 * branch + 2]], 2)


def grid() -> tuple[Tensor, Tensor]:
    """Ultralytics' make_anchors: centres (2, cells) and strides (cells,)."""
    centres, strides = [], []
    for (height, width), stride in zip(SIZES, STRIDES, strict=True):
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        centres.append(torch.stack((x, y)).flatten(1))
        strides.append(torch.full((height * width,), stride))
    return torch.cat(centres, 1), torch.cat(strides)


def dfl(box: Tensor, bins: int) -> Tensor:
    images, _, cells = box.shape
    weights = torch.arange(bins, dtype=torch.float32).view(1, bins, 1, 1)
    shares = box.view(images, 4, bins, cells).transpose(2, 1).softmax(1)
    return torch.nn.functional.conv2d(shares, weights).view(images, 4, cells)


@pytest.mark.parametrize("bins", [1, 16])
def test_boxes_and_scores_equal_the_formulas_of_ultralytics(bins: int) -> None:
    maps = heads((4 * bins, 3))
    centres, strides = grid()
    sides = dfl(joined(maps, 0), bins) if bins > 1 else joined(maps, 0)
    low, high = centres - sides[:, :2], centres + sides[:, 2:]
    expected = torch.cat([torch.cat([low, high], 1) * strides, joined(maps, 1).sigmoid()], 1).transpose(1, 2)
    decoding = GridDecoding("detect", STRIDES, bins, 3)
    rows = decode_grid([each.numpy() for each in maps], decoding)
    assert rows.shape == (2, 30, 7)
    np.testing.assert_allclose(rows, expected.numpy(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("plain", [False, True])
def test_oriented_boxes_equal_the_formulas_of_ultralytics(plain: bool) -> None:
    maps = heads((16, 3, 1))
    centres, strides = grid()
    angle = joined(maps, 2) if plain else (joined(maps, 2).sigmoid() - 0.25) * math.pi
    low, high = dfl(joined(maps, 0), 4).split(2, 1)
    x, y = ((high - low) / 2).split(1, 1)
    middle = torch.cat([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], 1) + centres
    box = torch.cat([middle, low + high], 1) * strides
    expected = torch.cat([box, joined(maps, 1).sigmoid(), angle], 1).transpose(1, 2)
    decoding = GridDecoding("obb", STRIDES, 4, 3, extra=1, plain=plain)
    np.testing.assert_allclose(decode_grid([each.numpy() for each in maps], decoding), expected, rtol=0, atol=1e-3)


def test_keypoints_are_in_pixels_and_their_visibility_a_share() -> None:
    maps = heads((4, 1, 6))
    centres, strides = grid()
    points = joined(maps, 2).view(2, 2, 3, -1)
    expected = torch.cat([(points[:, :, :2] * 2 + (centres - 0.5)) * strides, points[:, :, 2:].sigmoid()], 2)
    rows = decode_grid([each.numpy() for each in maps], GridDecoding("pose", STRIDES, 1, 1, 6, (2, 3)))
    np.testing.assert_allclose(rows[:, :, 5:], expected.flatten(1, 2).transpose(1, 2), rtol=0, atol=1e-3)


def one_object(column: int, row: int, label: int, score: float = 4.0) -> list[np.ndarray]:
    """Heads without distributions that see one object of 16 pixels around a cell of the first level."""
    box, scores = (np.zeros((1, 4, 4, 6)), np.full((1, 3, 4, 6), -9.0))
    box[0, :, row, column] = 1.0
    scores[0, label, row, column] = score
    return [box, np.zeros((1, 4, 2, 3)), scores, np.full((1, 3, 2, 3), -9.0)]


def test_an_object_is_found_where_its_cell_says() -> None:
    ((found, extra),) = detect_grid(one_object(2, 1, 1), GridDecoding("detect", STRIDES, 1, 3))
    assert found.labels.tolist() == [1]
    assert extra.shape == (1, 0)
    np.testing.assert_allclose(found.boxes, [[12 / 48, 4 / 32, 28 / 48, 20 / 32]])
    np.testing.assert_allclose(found.scores, [1 / (1 + math.exp(-4))])


def test_overlapping_boxes_are_suppressed_unless_the_network_is_end_to_end() -> None:
    maps = one_object(2, 1, 1)
    maps[2][0, 1, 1, 3] = 3.0  # a neighbour sees the same object
    maps[0][0, :, 1, 3] = [2.0, 1.0, 0.0, 1.0]
    ((one, _),) = detect_grid(maps, GridDecoding("detect", STRIDES, 1, 3))
    ((both, _),) = detect_grid(maps, GridDecoding("detect", STRIDES, 1, 3, end_to_end=True))
    assert (len(one.labels), len(both.labels)) == (1, 2)
    assert both.scores[0] > both.scores[1]


def test_at_most_so_many_objects_and_none_where_nothing_is_likely() -> None:
    maps = [np.zeros((1, 4, 4, 6)), np.zeros((1, 4, 2, 3)), np.zeros((1, 3, 4, 6)), np.zeros((1, 3, 2, 3))]
    decoding = GridDecoding("detect", STRIDES, 1, 3)
    ((many, _),) = detect_grid(maps, decoding, score=0.4, most=5)
    ((none, _),) = detect_grid(maps, decoding, score=0.6)
    assert len(many.labels) == 5
    assert none.boxes.shape == (0, 4)


def test_a_mask_ends_at_its_box() -> None:
    masks = instance_masks(np.array([[1.0]]), np.ones((1, 4, 4)), np.array([[0.25, 0.5, 0.75, 1.0]]))
    assert np.argwhere(masks[0]).tolist() == [[2, 1], [2, 2], [3, 1], [3, 2]]
    assert not instance_masks(np.array([[-1.0]]), np.ones((1, 4, 4)), np.array([[0.0, 0.0, 1.0, 1.0]])).any()


def test_heads_of_other_shapes_are_refused() -> None:
    maps = one_object(0, 0, 0)
    for wrong in (maps[:3], [maps[2], *maps[1:]]):
        with pytest.raises(ConfigError, match="its heads promise 4 maps"):
            decode_grid(wrong, GridDecoding("detect", STRIDES, 1, 3))
    with pytest.raises(ConfigError, match="must all be positive"):
        GridDecoding("detect", (), 1, 3)
    with pytest.raises(ConfigError, match="do not fill"):
        GridDecoding("pose", STRIDES, 1, 3, 5, (2, 3))
