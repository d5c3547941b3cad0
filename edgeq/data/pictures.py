"""Picture files: finding them with their labels, and decoding one to the network's input size."""

from __future__ import annotations

import csv
import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from edgeq.data.classnames import ClassNames, number_folders
from edgeq.errors import ConfigError, ImagesError, LabelsError
from edgeq.limits import check_regular, read_text
from edgeq.model.spec import ModelSpec

__all__ = ["PICTURES", "beside", "find_labelled", "find_plain", "fit_picture", "read_picture"]

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM", "TIFF")
"""Formats that Pillow may open, whatever the file's name; others, such as EPS, would start another program."""

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")

LONGEST = 64
"""Largest ratio of a picture's long side to its short side."""

_MODES = {1: "L", 3: "RGB"}


def find_labelled(path: Path, spec: ModelSpec, *, numbered: bool = True) -> tuple[list[Path], list[int], str]:
    """Files and class indices of a folder of class folders, or of a CSV with columns filename,label.

    The text says what a person should know about how classes were numbered (see `number_folders`). Without `numbered`
    folders only tell classes apart, whatever they are called.
    """
    if path.suffix == ".csv":
        return *_csv(path, spec), ""
    files: list[Path] = []
    labels: list[int] = []
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    pictures = {folder.name: find_plain(folder) for folder in folders}
    if not any(pictures.values()):
        return [], [], ""
    # An empty folder still counts in an order; among names that match labels it may be anything.
    names = [name for name, found in pictures.items() if found or not spec.labels]
    numbers, note = number_folders(names, spec, str(path)) if numbered else (list(range(len(names))), "")
    for label, name in sorted(zip(numbers, names, strict=True)):
        files += pictures[name]
        labels += [label] * len(pictures[name])
    return files, labels, note


def find_plain(folder: Path) -> list[Path]:
    """Pictures directly in a folder, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in PICTURES) if folder.is_dir() else []


def _csv(path: Path, spec: ModelSpec) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    known = ClassNames(spec.labels)
    try:
        rows = csv.DictReader(io.StringIO(read_text(path).removeprefix("\ufeff"), newline=""))
        if not {"filename", "label"} <= set(rows.fieldnames or ()):
            raise LabelsError(f"{path} has columns {rows.fieldnames or []}", why="must have filename and label")
        for row in rows:
            where = f"{path} line {rows.line_num}"
            labels.append(_label(row["label"], known, where))
            files.append(beside(path, row["filename"] or "", where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ImagesError(f"{path} cannot be read", why=str(error)) from error
    return files, labels


def _label(text: str | None, known: ClassNames, where: str) -> int:
    """The class that a CSV calls `text`: by name where the model's labels have it, else by number."""
    named = known.find(text.strip()) if text else None
    if named is not None:
        return named
    try:
        return int(np.int64(int(text or "")))
    except (ValueError, OverflowError) as error:
        why = "must be an integer, or one of the model's labels"
        raise LabelsError(f"label {text!r}", where=where, why=why) from error


def beside(path: Path, name: str, where: str) -> Path:
    """The picture `name` beside the table at `path`, or in ``images/`` there. Raises `ConfigError`."""
    for folder in (path.parent, path.parent / "images"):
        if name and (folder / name).is_file():
            return folder / name
    raise ImagesError(f"picture {name!r} is neither beside the CSV nor in images/", where=where)


def read_picture(path: Path, spec: ModelSpec) -> npt.NDArray[np.uint8]:
    """One picture, ``(H, W, C)`` at the network's input size, upright as its EXIF orientation says.

    Palettes, grey, CMYK and bits become the network's 1 or 3 channels; an alpha channel is left out. Of a file with
    several frames, the first is taken. Raises `ConfigError` naming the file, also for more than 8 bits per value.
    """
    channels = spec.input_shape[0]
    if channels not in _MODES:
        raise ImagesError(f"{spec.name} takes {channels} channels", why="pictures give 1 or 3", hint="use an .npz")
    try:
        check_regular(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Pillow only warns of pictures that unpack to gigabytes, until they are twice as large as that.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                if picture.mode.startswith(("I", "F")):  # Pillow would clip everything above 255 to white
                    raise ImagesError(
                        f"picture {path} has more than 8 bits per value", hint="convert it to 8 bits the way you train"
                    )
                image = _upright(picture).convert(_MODES[channels])
    except ConfigError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds on a damaged file
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = f"pictures are {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else ""
        raise ImagesError(f"picture {path} cannot be read", why=why, hint=hint) from error
    return fit_picture(image, spec, str(path))


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as cameras and phones note it; one whose note cannot be read stays as it is."""
    picture.load()
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # damaged EXIF says nothing about the pixels
        return picture


def fit_picture(image: Image.Image, spec: ModelSpec, source: str) -> npt.NDArray[np.uint8]:
    """Resize the short side to `spec.resize` and crop the centre, where the spec says so; the size must then be right.

    The same arithmetic as torchvision's Resize (bilinear, antialiased) and CenterCrop on pictures.
    """
    channels, height, width = spec.input_shape
    if spec.resize is not None:
        short, long = sorted(image.size)
        scaled = int(spec.resize * long / short)
        if scaled > LONGEST * spec.resize:  # a strip of a few kilobytes would take gigabytes
            raise ImagesError(f"picture {source} is {image.height} x {image.width}", why="a strip, not a picture")
        wide = image.width > image.height
        image = image.resize((scaled, spec.resize) if wide else (spec.resize, scaled), Image.Resampling.BILINEAR)
    if (spec.resize is not None or spec.crop is not None) and image.width >= width and image.height >= height:
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    if image.size != (width, height):
        raise ImagesError(
            f"picture {source} is {image.height} x {image.width}",
            why=f"{spec.name} takes {height} x {width}",
            hint="set resize and crop under [input]",
        )
    return np.asarray(image, np.uint8).reshape(height, width, channels)
