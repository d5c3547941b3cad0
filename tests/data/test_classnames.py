"""Names of classes to numbers: what matches, what is refused, and what is only guessed and says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.data.classnames import ClassNames, number_folders
from edgeq.data.evaluation import calibration_from_images, load_images
from edgeq.errors import ConfigError
from edgeq.model.spec import ModelSpec

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEC = ModelSpec("digits", (3, 4, 4), (0.5,) * 3, (0.25,) * 3, classes=10)
NAMED = replace(SPEC, labels=DIGITS)


def folders(root: Path, names: tuple[str, ...]) -> Path:
    """One picture in each, its brightness being the number of the folder."""
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((4, 4, 3), index, np.uint8)).save(root / name / "a.png")
    return root


def numbered(root: Path, spec: ModelSpec) -> dict[int, int]:
    """Number of the folder, as it was made, to the class of its picture."""
    found = load_images(root, spec)
    return dict(zip(found.images[:, 0, 0, 0].tolist(), found.labels.tolist(), strict=True))


@pytest.mark.parametrize(
    "style",
    ["{}", "{name:_^9}", " {}", "Class", "007_{}", "3-{}"],
    ids=["same", "_", "space", "case", "prefix", "dash"],
)
def test_folders_are_the_labels_they_are_called_after(tmp_path: Path, style: str) -> None:
    names = [name.upper() if style == "Class" else style.format(name, name=name) for name in DIGITS]
    assert numbered(folders(tmp_path, tuple(names)), NAMED) == {index: index for index in range(10)}
    assert load_images(tmp_path, NAMED).note == ""


def test_some_of_the_classes_are_enough_where_names_match(tmp_path: Path) -> None:
    folders(tmp_path, ("nine", "two"))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes").mkdir()
    assert numbered(tmp_path, NAMED) == {0: 9, 1: 2}


def test_what_matches_no_label_is_refused_with_both_sides(tmp_path: Path) -> None:
    folders(tmp_path, (*DIGITS[:8], "acht", "neun"))
    with pytest.raises(ConfigError, match=r"'acht', 'neun'.*match no label.*'eight', 'nine'"):
        load_images(tmp_path, NAMED)
    assert len(calibration_from_images(tmp_path, NAMED, 4)) == 4


def test_two_folders_of_one_class_are_refused(tmp_path: Path) -> None:
    folders(tmp_path, ("nine", "Nine"))
    with pytest.raises(ConfigError, match=r"'Nine' and 'nine'.*both class 9"):
        load_images(tmp_path, NAMED)


@pytest.mark.parametrize("spec", [SPEC, NAMED], ids=["no labels", "labels"])
@pytest.mark.parametrize("style", ["{}", "{:03}"])
def test_numbers_are_class_numbers_and_no_words(tmp_path: Path, spec: ModelSpec, style: str) -> None:
    """Sorted as words, 10 comes before 2."""
    spec = replace(spec, classes=12, labels=(*DIGITS, "ten", "eleven") if spec.labels else ())
    folders(tmp_path, tuple(style.format(index) for index in range(12)))
    assert numbered(tmp_path, spec) == {index: index for index in range(12)}


def test_numbers_from_one_are_noticed(tmp_path: Path) -> None:
    assert numbered(folders(tmp_path / "a", tuple(map(str, range(1, 11)))), SPEC) == {i: i for i in range(10)}
    assert "numbered 1 to 10" in load_images(tmp_path / "a", SPEC).note
    folders(tmp_path / "b", ("3", "12"))
    with pytest.raises(ConfigError, match="go from 3 to 12"):
        load_images(tmp_path / "b", SPEC)


def test_names_without_labels_are_sorted_and_that_is_said(tmp_path: Path) -> None:
    assert numbered(folders(tmp_path / "a", DIGITS), SPEC)[0] == 9  # zero is the last word
    note = load_images(tmp_path / "a", SPEC).note
    assert "sorted order (eight = 0, five = 1, four = 2, ...)" in note
    assert "labels under [output]" in note
    folders(tmp_path / "b", DIGITS[:3])
    assert "3 folders for 10 classes" in load_images(tmp_path / "b", SPEC).note


def test_a_csv_calls_classes_by_name_or_number(tmp_path: Path) -> None:
    folders(tmp_path, ("x",))
    rows = ["nine", "Two", "7", " three", "007_seven"]
    (tmp_path / "a.csv").write_text("filename,label\n" + "".join(f"x/a.png,{row}\n" for row in rows))
    assert load_images(tmp_path / "a.csv", NAMED).labels.tolist() == [9, 2, 7, 3, 7]
    (tmp_path / "b.csv").write_text("filename,label\nx/a.png,zehn\n")
    with pytest.raises(ConfigError, match=r"'zehn' at .*line 2.*one of the model's labels"):
        load_images(tmp_path / "b.csv", NAMED)


def test_an_npz_calls_classes_by_name(tmp_path: Path) -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(["nine", "two"]))
    assert load_images(tmp_path / "a.npz", NAMED).labels.tolist() == [9, 2]
    with pytest.raises(ConfigError, match="must be 2 integers"):
        load_images(tmp_path / "a.npz", SPEC)
    np.savez(tmp_path / "b.npz", images=images, labels=np.array(["nine", "zehn"]))
    with pytest.raises(ConfigError, match=r"\['zehn'\].*'zero', 'one', 'two', \.\.\."):
        load_images(tmp_path / "b.npz", NAMED)


def test_labels_that_say_synsets_and_synonyms() -> None:
    names = ClassNames(("n01440764 tench, Tinca tinca", "n01443537 goldfish", "n02012849 crane", "n03126707 crane"))
    for name in ("n01440764", "tench", "Tinca_tinca", "n01440764 tench, Tinca tinca"):
        assert names.find(name) == 0
    assert (names.find("n03126707"), names.find("crane"), names.find("shark")) == (3, None, None)


def test_labels_that_are_numbers_are_names_first() -> None:
    names = ClassNames(("5", "3", "1"))
    assert [names.find(name) for name in ("5", "3", "1", "0")] == [0, 1, 2, None]


def test_all_of_imagenet_s_synsets_are_in_their_order() -> None:
    spec = replace(SPEC, classes=1000)
    names = [f"n{index * 7:08}" for index in range(1000)]
    assert number_folders(names[::-1], spec, "x") == (list(range(1000))[::-1], "")


def test_one_logit_has_two_classes(tmp_path: Path) -> None:
    spec = replace(SPEC, classes=1)
    assert numbered(folders(tmp_path / "a", ("0", "1")), spec) == {0: 0, 1: 1}
    named = replace(spec, labels=("no", "yes"))
    assert numbered(folders(tmp_path / "b", ("yes", "no")), named) == {0: 1, 1: 0}
    with pytest.raises(ConfigError, match="has 2 classes"):
        replace(spec, labels=("no",))


def test_numbers_from_one_are_noticed_beside_labels_too(tmp_path: Path) -> None:
    found, note = number_folders([str(n) for n in range(1, 11)], NAMED, "photos")
    assert (found, "folder 1 was taken for class 0" in note) == (list(range(10)), True)
