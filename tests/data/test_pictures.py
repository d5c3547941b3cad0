"""Picture files: every kind of pixel against known values, cameras' orientation, and files that are something else."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgeq.data.evaluation import calibration_from_images, load_images
from edgeq.data.pictures import FORMATS, read_picture
from edgeq.errors import ConfigError, EdgeqError
from edgeq.model.spec import ModelSpec

Pixels = npt.NDArray[np.uint8]

COLOUR = ModelSpec("tiny", (3, 2, 2), (0.5,) * 3, (0.25,) * 3, classes=4)
GREY = ModelSpec("grey", (1, 2, 2), (0.5,), (0.25,), classes=4)

RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]]], np.uint8)
LUMA = np.array([[76, 150], [29, 90]], np.uint8)
"""What ITU-R 601-2 makes of `RGB`: 0.299 red, 0.587 green, 0.114 blue."""


def kept(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def read(path: Path, spec: ModelSpec = COLOUR) -> list[Any]:
    pixels = read_picture(path, spec)
    return pixels.tolist() if spec is COLOUR else pixels[..., 0].tolist()


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_picture(path, COLOUR)
    assert str(path) in str(caught.value)
    for part in parts:
        assert part in str(caught.value), str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_colours_arrive_as_they_are(tmp_path: Path, suffix: str) -> None:
    path = kept(tmp_path / f"a.{suffix}", Image.fromarray(RGB), **({"lossless": True} if suffix == "webp" else {}))
    assert read(path) == RGB.tolist()
    assert read(path, GREY) == LUMA.tolist()


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.png", Image.fromarray(LUMA))
    assert read(path) == np.repeat(LUMA[..., None], 3, 2).tolist()
    assert read(path, GREY) == LUMA.tolist()


def test_bits_become_black_and_white(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.png", Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1"))
    assert read(path, GREY) == [[0, 255], [255, 0]]


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_becomes_its_colours(tmp_path: Path, transparent: bool) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), mode="P")
    image.putpalette(RGB.reshape(-1).tolist())
    path = kept(tmp_path / "a.png", image, **({"transparency": bytes([0, 128, 255, 255])} if transparent else {}))
    assert read(path) == RGB.tolist()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_is_left_out(tmp_path: Path, mode: str) -> None:
    """The colour that a file has where it is transparent is what networks were trained on."""
    image = Image.fromarray(RGB if mode == "RGBA" else LUMA).convert(mode)
    image.putalpha(Image.fromarray(np.array([[0, 100], [200, 255]], np.uint8)))
    path = kept(tmp_path / "a.png", image)
    assert read(path) == (RGB if mode == "RGBA" else np.repeat(LUMA[..., None], 3, 2)).tolist()


def test_cmyk_becomes_colours(tmp_path: Path) -> None:
    inks = np.array([[[0, 255, 255, 0], [255, 0, 255, 0]], [[255, 255, 0, 0], [0, 0, 0, 165]]], np.uint8)
    assert read(kept(tmp_path / "a.tif", Image.frombytes("CMYK", (2, 2), inks.tobytes()))) == RGB.tolist()


def deep_png(path: Path, colour: int, values: npt.NDArray[np.uint16]) -> Path:
    """A PNG of 16 bits per value, which Pillow cannot write; `colour` is 0 for grey, 2 for RGB."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def test_sixteen_bits_are_refused_or_keep_their_upper_half(tmp_path: Path) -> None:
    refused(deep_png(tmp_path / "grey.png", 0, np.full((2, 2), 4000, np.uint16)), "more than 8 bits per value")
    assert read(deep_png(tmp_path / "rgb.png", 2, RGB.astype(np.uint16) * 256 + 128)) == RGB.tolist()


UPRIGHT = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}
"""What a camera stores for each orientation (Exif 2.3, 4.6.4 A), so that the picture is `UPRIGHT`."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    spec = ModelSpec("grey", (1, 2, 3), (0.5,), (0.25,), classes=4)
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation])).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    (tmp_path / "set/a").mkdir(parents=True)
    path = kept(tmp_path / f"set/a/a.{suffix}", image, exif=exif, **options)
    assert read_picture(path, spec)[..., 0].tolist() == UPRIGHT.tolist()
    assert load_images(tmp_path / "set", spec).images[0, ..., 0].tolist() == UPRIGHT.tolist()
    calibration = calibration_from_images(tmp_path / "set/a", spec, 1)
    assert np.array_equal(calibration.inputs, spec.normalise(UPRIGHT[None, ..., None]))


def test_a_photo_is_turned_before_it_is_cropped(tmp_path: Path) -> None:
    """A JPEG as phones write it: 16 x 32 on its side, left half black."""
    spec = ModelSpec("grey", (1, 8, 8), (0.5,), (0.25,), resize=16, crop=8, classes=4)
    image = np.zeros((16, 32), np.uint8)
    image[:, 16:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_picture(kept(tmp_path / "a.jpg", Image.fromarray(image), exif=exif, quality=95), spec)[..., 0]
    assert pixels[:3].max() < 30
    assert pixels[5:].min() > 225


def test_a_damaged_orientation_leaves_the_picture(tmp_path: Path) -> None:
    path = kept(tmp_path / "a.png", Image.fromarray(RGB), exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    assert read(path) == RGB.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n%%EndComments\n(%pipe%touch ran) (w) file\n",
        b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x02\0\x02\0\0\x02\x02D\n\0;",
        b"%PDF-1.4\n",
        b"8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(64),
    ],
    ids=["eps", "gif", "pdf", "psd"],
)
def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    refused(tmp_path / "a.png", "cannot be read", "pictures are PNG, JPEG")
    assert set(FORMATS) == {"PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF"}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_or_a_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    refused(tmp_path / "a.png", "it is a FIFO")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    refused(tmp_path / "b.png", "it is a device")
    os.mkfifo(tmp_path / "list.csv")
    with pytest.raises(ConfigError, match="it is a FIFO"):
        load_images(tmp_path / "list.csv", COLOUR)


def test_only_the_first_of_several_frames_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(RGB), *(Image.new("RGB", (2, 2), (i, i, i)) for i in range(20))]
    path = kept(tmp_path / "a.tif", frames[0], save_all=True, append_images=frames[1:])
    assert read(path) == RGB.tolist()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "ppm"])
def test_damaged_pictures_end_in_one_line(tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.{suffix}"
    spec = ModelSpec("tiny", (3, 24, 24), (0.5,) * 3, (0.25,) * 3, resize=24, crop=24, classes=4)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8))
    image.save(path, **({} if suffix in ("bmp", "ppm") else {"exif": exif}))
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 3 == 0:
            del damaged[int(random.integers(len(whole))) :]
        else:
            for place in random.integers(0, min(len(whole), 200 if trial % 3 == 1 else len(whole)), 3):
                damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            read_picture(path, spec)
        except EdgeqError as error:
            assert "\n" not in str(error)  # noqa: PT017
    capfd.readouterr()  # libtiff's own words
