"""Evaluation sets and the user's own calibration pictures: every container, every way they can be wrong."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from edgeq.data import evaluation as data
from edgeq.data.calibration import CalibrationSet
from edgeq.data.evaluation import EvaluationSet, calibration_from_images, load_images
from edgeq.errors import ConfigError
from edgeq.model.load import import_torchvision
from edgeq.model.spec import ModelSpec
from edgeq.model.tasks import Detection, GridDetection, Segmentation

SPEC = ModelSpec("tiny", (3, 6, 8), (0.5,) * 3, (0.25,) * 3, classes=4)
GREY = ModelSpec("grey", (1, 6, 8), (0.5,), (0.25,), classes=4)


def pixels(count: int = 8, height: int = 6, width: int = 8) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def npz(path: Path, **arrays: npt.ArrayLike) -> Path:
    np.savez_compressed(path, **{"images": pixels(), "labels": np.arange(8) % 4} | arrays)
    return path


def picture(path: Path, image: npt.NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def class_folders(root: Path) -> Path:
    for index, image in enumerate(pixels()):
        picture(root / f"class{index % 4}" / f"{index}.png", image)
    return root


def fails(path: str | Path, *parts: str, spec: ModelSpec = SPEC) -> None:
    with pytest.raises(ConfigError) as caught:
        load_images(path, spec)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line, line


def test_npz(tmp_path: Path) -> None:
    found = load_images(npz(tmp_path / "a.npz"), SPEC)
    assert np.array_equal(found.images, pixels())
    assert found.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (len(found), found.source) == (8, str(tmp_path / "a.npz"))


def test_every_container_of_the_same_images_has_the_same_digest(tmp_path: Path) -> None:
    labels = np.arange(8) % 4
    order = np.argsort(labels, kind="stable")
    sorted_npz = load_images(
        npz(tmp_path / "a.npz", images=pixels()[order], labels=labels[order].astype(np.uint8)), SPEC
    )
    folders = load_images(class_folders(tmp_path / "folders"), SPEC)
    rows = "\n".join(f"class{labels[i]}/{i}.png,{labels[i]}" for i in order)
    (tmp_path / "folders" / "beside.csv").write_text("filename,label\n" + rows)
    beside = load_images(tmp_path / "folders" / "beside.csv", SPEC)
    (tmp_path / "folders").rename(tmp_path / "images")
    (tmp_path / "above.csv").write_text(
        "label,filename\n" + "\n".join(",".join(r.split(",")[::-1]) for r in rows.split("\n"))
    )
    above = load_images(tmp_path / "above.csv", SPEC)
    (tmp_path / "code.py").write_text(
        f"import numpy\nf = numpy.load({str(tmp_path / 'a.npz')!r})\ndef made():\n    return f['images'], f['labels']\n"
        "def table():\n    return dict(f, boxes=None)\n"
    )
    made = load_images(f"{tmp_path}/code.py:made", SPEC)
    table = load_images(f"{tmp_path}/code.py:table", SPEC)
    assert len({s.sha256 for s in (sorted_npz, folders, beside, above, made, table)}) == 1
    other = load_images(npz(tmp_path / "b.npz"), SPEC)
    assert other.sha256 != folders.sha256


def test_batches_are_normalised_and_whole(tmp_path: Path) -> None:
    found = load_images(npz(tmp_path / "a.npz"), SPEC)
    batches = list(found.batches(SPEC, 3))
    assert [len(x) for x, _ in batches] == [3, 3, 2]
    assert batches[0][0].dtype == np.float32
    assert batches[0][0].shape == (3, 3, 6, 8)
    joined = np.concatenate([x for x, _ in batches])
    assert np.allclose(joined, ((pixels() / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2), atol=1e-6)
    assert np.concatenate([y for _, y in batches]).tolist() == found.labels.tolist()


def test_limit_spreads_over_classes(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folders")
    assert load_images(folder, SPEC, limit=4).labels.tolist() == [0, 1, 2, 3]
    assert len(load_images(folder, SPEC, limit=400)) == 8
    assert len(load_images(npz(tmp_path / "a.npz"), SPEC, limit=3)) == 3


def test_large_sets_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(tmp_path / "folders")
    small = load_images(folder, SPEC)
    monkeypatch.setattr(data, "IN_MEMORY", 100)
    large = load_images(folder, SPEC)
    assert isinstance(large.images, np.memmap)
    assert large.sha256 == small.sha256


def test_grey_networks_get_grey_pictures(tmp_path: Path) -> None:
    found = load_images(class_folders(tmp_path / "folders"), GREY)
    assert found.images.shape == (8, 6, 8, 1)
    assert np.array_equal(found.images[0, :, :, 0], np.asarray(Image.fromarray(pixels()[0]).convert("L")))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (33, 33), (31, 47)])
def test_resize_and_crop_are_torchvision_s(tmp_path: Path, size: tuple[int, int]) -> None:
    transforms = import_torchvision().transforms.functional
    spec = ModelSpec("square", (3, 24, 24), (0.5,) * 3, (0.25,) * 3, resize=28, crop=24, classes=4)
    images = pixels(2, *size)
    for index, image in enumerate(images):
        picture(tmp_path / "c0" / f"{index}.png", image)
    resized = transforms.resize(Image.fromarray(images[1]), 28, transforms.InterpolationMode.BILINEAR)
    expected = np.asarray(transforms.center_crop(resized, [24, 24]))
    assert np.array_equal(load_images(tmp_path, spec).images[1], expected)
    npz(tmp_path / "a.npz", images=images, labels=np.zeros(2, np.int64))
    assert np.array_equal(load_images(tmp_path / "a.npz", spec).images[1], expected)


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"labels": np.arange(8)}, ("labels", "go from 0 to 7", "tiny has 4 classes, 0 to 3")),
        ({"labels": np.arange(8) % 4 - 1}, ("go from -1 to 2",)),
        ({"labels": np.arange(7) % 4}, ("labels", "must be 8 integers")),
        ({"labels": np.zeros(8)}, ("are float64", "must be 8 integers")),
        ({"images": pixels().astype(np.float32)}, ("are float32", "must be uint8 (N, H, W, C)")),
        ({"images": pixels()[..., 0]}, ("[8, 6, 8]", "must be uint8 (N, H, W, C)")),
        ({"images": pixels().transpose(0, 3, 1, 2)}, ("[8, 3, 6, 8]", "channels first", "transpose(0, 2, 3, 1)")),
        ({"images": pixels(8, 12, 12)}, ("[12, 12, 3]", "takes [6, 8, 3]")),
        ({"images": pixels()[:0], "labels": np.zeros(0, np.int64)}, ("holds no images",)),
        ({"images": np.array([{}] * 8, object)}, ("cannot be read", "allow_pickle=False")),
    ],
)
def test_bad_npz(tmp_path: Path, arrays: dict[str, npt.ArrayLike], parts: tuple[str, ...]) -> None:
    fails(npz(tmp_path / "a.npz", **arrays), *parts)


def test_an_npz_without_labels_calibrates_and_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=pixels())
    fails(path, "without labels", ".npz with images and labels")
    assert calibration_from_images(path, SPEC, 3).labels.tolist() == [-1] * 3


def test_pictures_that_would_be_read_wrong_or_take_all_memory(tmp_path: Path) -> None:
    grey = replace(SPEC, input_shape=(1, 6, 8), mean=(0.5,), std=(0.5,))
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((6, 8), 4000, np.uint16)).save(tmp_path / "deep" / "a.png")
    with pytest.raises(ConfigError, match="more than 8 bits"):
        calibration_from_images(tmp_path / "deep", grey, 1)
    (tmp_path / "strip").mkdir()
    Image.fromarray(np.zeros((1, 60000, 3), np.uint8)).save(tmp_path / "strip" / "a.png")
    with pytest.raises(ConfigError, match="a strip, not a picture"):
        calibration_from_images(tmp_path / "strip", replace(SPEC, resize=256), 1)


def test_corrupt_npz(tmp_path: Path) -> None:
    whole = npz(tmp_path / "a.npz").read_bytes()
    for broken in (b"", b"no zip", whole[:-40], whole[:60] + b"\0" * 40 + whole[100:]):
        (tmp_path / "b.npz").write_bytes(broken)
        fails(tmp_path / "b.npz", "b.npz cannot be read")
    np.savez(tmp_path / "c.npz", pictures=pixels())
    fails(tmp_path / "c.npz", "has no array 'images'", "it holds pictures")


def test_an_npz_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_LARGEST_FILE", "1000")
    fails(npz(tmp_path / "a.npz"), "unpacks to")


def test_missing_and_empty(tmp_path: Path) -> None:
    fails(tmp_path / "gone", "do not exist")
    fails(tmp_path, "holds no pictures")
    (tmp_path / "list.txt").write_text("")
    fails(tmp_path / "list.txt", "must be an .npz")
    (tmp_path / "empty.csv").write_text("filename,label\n")
    fails(tmp_path / "empty.csv", "holds no pictures")
    picture(tmp_path / "plain" / "a.png", pixels()[0])
    fails(tmp_path / "plain", "pictures without labels")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("file,label\na.png,1\n", ("has columns", "must have filename and label")),
        ("filename,label\na.png,cat\n", ("label 'cat'", "line 2", "must be an integer")),
        ("filename,label\na.png\n", ("label None", "line 2")),
        ("filename,label\na.png,1\nb.png,1\n", ("'b.png'", "neither beside the CSV nor in images/", "line 3")),
        ("filename,label\na.png,4\n", ("go from 4 to 4",)),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    picture(tmp_path / "a.png", pixels()[0])
    (tmp_path / "list.csv").write_text(text)
    fails(tmp_path / "list.csv", *parts)


def bomb(path: Path, side: int = 30000) -> Path:
    """A PNG of a few bytes whose header promises `side` squared pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))
    return path


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folders")
    victim = folder / "class2" / "2.png"
    whole = victim.read_bytes()
    for broken in (b"", b"no picture", whole[: len(whole) // 2]):
        victim.write_bytes(broken)
        fails(folder, str(victim), "cannot be read")
    for side in (10000, 30000):  # Pillow warns of the first and refuses the second
        bomb(victim, side)
        fails(folder, str(victim), "cannot be read", "decompression bomb")
    picture(victim, pixels(1, 5, 8)[0])
    fails(folder, str(victim), "5 x 8", "takes 6 x 8")


def test_functions_that_return_something_else(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("def none():\n    pass\ndef breaks():\n    return 1 / 0\n")
    fails(f"{tmp_path}/code.py:none", "returned NoneType", "must return (images, labels)")
    fails(f"{tmp_path}/code.py:breaks", "ZeroDivisionError")
    fails(f"{tmp_path}/gone.py:none", "does not exist")


SEGMENTER = ModelSpec(
    "seg", (3, 6, 8), (0.5,) * 3, (0.25,) * 3, task="segmentation", classes=2, dense=Segmentation(("none", "sign"))
)
DETECTOR = ModelSpec(
    "det",
    (3, 6, 8),
    (0.5,) * 3,
    (0.25,) * 3,
    task="detection",
    classes=2,
    dense=Detection(("sign",), ((3, 4),), ((2.0,),)),
)


def test_masks_come_with_their_images(tmp_path: Path) -> None:
    images = pixels()
    masks = np.random.default_rng(0).integers(0, 2, images.shape[:3]).astype(np.uint8)
    masks[0, 0, 0] = 255
    np.savez(tmp_path / "a.npz", images=images, masks=masks)
    found = load_images(tmp_path / "a.npz", SEGMENTER)
    assert np.array_equal(found.labels, masks)
    half = found.part(3)
    assert np.array_equal(half.labels[-1], masks[-1])
    (inputs, truths), *_ = found.batches(SEGMENTER, 2)
    assert (inputs.shape[0], truths.shape) == (2, (2, 6, 8))
    np.savez(tmp_path / "b.npz", images=images, masks=masks[:, :5])
    fails(tmp_path / "b.npz", "masks of", spec=SEGMENTER)
    np.savez(tmp_path / "c.npz", images=images, masks=np.where(masks == 1, 7, 0))
    fails(tmp_path / "c.npz", "hold [7]", spec=SEGMENTER)
    fails(npz(tmp_path / "d.npz"), "without labels", spec=SEGMENTER)


def test_boxes_listed_together_belong_to_their_images(tmp_path: Path) -> None:
    images = pixels()
    boxes = np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.3, 0.9, 0.9], [0.0, 0.0, 1.0, 1.0]])
    given = {"boxes": boxes, "labels": np.zeros(3, np.int64), "image": np.array([2, 0, 2])}
    np.savez(tmp_path / "a.npz", images=images, **given)
    heads = replace(DETECTOR, classes=1, dense=GridDetection(("sign",), "detect", (2.0,)))
    assert [len(boxes) for boxes, _ in load_images(tmp_path / "a.npz", heads).labels][:3] == [1, 0, 2]
    found = load_images(tmp_path / "a.npz", DETECTOR)
    assert [len(boxes) for boxes, _ in found.labels] == [1, 0, 2, *[0] * (len(images) - 3)]
    moved = {**given, "image": np.array([2, 1, 2])}
    np.savez(tmp_path / "b.npz", images=images, **moved)
    assert load_images(tmp_path / "b.npz", DETECTOR).sha256 != found.sha256
    for change, what in (
        ({"image": np.array([2, 0, 99])}, "goes up to 99"),
        ({"labels": np.array([0, 1, 0])}, "labels of image"),
        ({"boxes": boxes * 100}, "as fractions"),
        ({"boxes": boxes[:, :3]}, "must be (n, 4)"),
    ):
        np.savez(tmp_path / "bad.npz", images=images, **{**given, **change})
        with pytest.raises(ConfigError) as caught:
            load_images(tmp_path / "bad.npz", DETECTOR)
        assert what in str(caught.value)


def test_outputs_that_nobody_explained_are_not_measured(tmp_path: Path) -> None:
    spec = replace(SEGMENTER, dense=None)
    np.savez(tmp_path / "a.npz", images=pixels(), masks=np.zeros((len(pixels()), 6, 8), np.uint8))
    fails(tmp_path / "a.npz", "add a [task] table", spec=spec)


def test_own_pictures_calibrate(tmp_path: Path) -> None:
    for index, image in enumerate(pixels()):
        picture(tmp_path / "plain" / f"{index}.png", image)
    made = calibration_from_images(tmp_path / "plain", SPEC, 5, seed=1)
    assert isinstance(made, CalibrationSet)
    assert not isinstance(made, EvaluationSet)
    assert (made.inputs.shape, made.labels.tolist(), made.method) == ((5, 3, 6, 8), [-1] * 5, "images:plain")
    assert made.digest() == calibration_from_images(tmp_path / "plain", SPEC, 5, seed=1).digest()
    assert made.digest() != calibration_from_images(tmp_path / "plain", SPEC, 5, seed=2).digest()
    everything = SPEC.normalise(pixels())
    assert all(any(np.array_equal(a, b) for b in everything) for a in made.inputs)
    labelled = calibration_from_images(npz(tmp_path / "a.npz"), SPEC, 100)
    assert (len(labelled), sorted(labelled.labels.tolist())) == (8, [0, 0, 1, 1, 2, 2, 3, 3])


def test_evaluation_images_do_not_calibrate(tmp_path: Path) -> None:
    evaluation = load_images(npz(tmp_path / "a.npz"), SPEC)
    mixed = np.concatenate([255 - pixels()[:3], pixels()[:1]])
    own = npz(tmp_path / "b.npz", images=mixed, labels=np.zeros(4, np.int64))
    with pytest.raises(
        ConfigError, match=r"1 of 4 calibration images in .*b.npz are also evaluation images at .*a.npz"
    ):
        calibration_from_images(own, SPEC, 4, forbidden=evaluation)
    own = npz(tmp_path / "b.npz", images=mixed[:3], labels=np.zeros(3, np.int64))
    assert len(calibration_from_images(own, SPEC, 4, forbidden=evaluation)) == 3


def test_calibration_leaves_torch_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    calibration_from_images(npz(tmp_path / "a.npz"), SPEC, 3)
    assert torch.equal(torch.rand(1), before)
