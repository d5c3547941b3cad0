"""A folder is replaced only where every name in it is one that edgeq writes; nothing else is ever deleted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq import files
from edgeq.errors import ArtifactError
from edgeq.files import check_replaceable, stage_folder
from edgeq.products import BUILD, CALIBRATION_SET, MARKER, Product

KIND = {"build": BUILD, "calibration set": CALIBRATION_SET}


def product(folder: Path, kind: Product) -> Path:
    """A folder with every name that `kind` may have."""
    folder.mkdir()
    for name in kind.files - {MARKER}:
        (folder / name).write_text("old")
    for name in kind.folders:
        (folder / name).mkdir()
        (folder / name / "00000-label-3.png").write_text("old")
        (folder / name / "labels.csv").write_text("old")
    (folder / MARKER).write_text(json.dumps({"schema": 1, "model": {}, "kind": kind.kind}))
    return folder


def tree(folder: Path) -> dict[str, bytes | str]:
    """Every path below `folder`, hidden ones too, with what it holds or points to."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("kind", KIND.values(), ids=KIND)
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-steps"])
def test_every_name_of_an_earlier_product_may_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Product, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    folder = product(tmp_path / "out", kind)
    with stage_folder(folder, kind) as staging:
        (staging / MARKER).write_text(json.dumps({"schema": 1, "model": {}, "kind": kind.kind}))
    assert os.listdir(folder) == [MARKER]
    assert os.listdir(tmp_path) == ["out"]


def _note(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")


def _hidden(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").write_text("mine")


def _link(folder: Path) -> None:
    (folder.parent / "weights.tflite").write_text("mine")
    for name in ("model.tflite", "contact.png"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder.parent / "weights.tflite")


def _folder_of_that_name(folder: Path) -> None:
    for name in ("report.json", "images.npz"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")


def _picture(folder: Path) -> None:
    (folder / "png").mkdir(exist_ok=True)
    (folder / "png/holiday.png").write_text("mine")


def _lock_of_another_tool(folder: Path) -> None:
    (folder / MARKER).write_text("lockfile-version: 3\n")


def _lock_that_is_a_folder(folder: Path) -> None:
    (folder / MARKER).unlink()
    (folder / MARKER).mkdir()


def _no_lock(folder: Path) -> None:
    (folder / MARKER).unlink()


@pytest.mark.parametrize("kind", KIND.values(), ids=KIND)
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_note, "notes.txt"),
        (_hidden, ".git"),
        (_link, "(model.tflite|contact.png)"),
        (_folder_of_that_name, "(report.json|images.npz)"),
        (_picture, "png"),
        (_lock_of_another_tool, MARKER),
        (_lock_that_is_a_folder, MARKER),
        (_no_lock, MARKER),
    ],
)
def test_a_name_that_edgeq_does_not_make_is_named_and_kept(
    tmp_path: Path, kind: Product, spoil: Callable[[Path], None], named: str
) -> None:
    folder = product(tmp_path / "out", kind)
    spoil(folder)
    before = tree(tmp_path)
    with pytest.raises(ArtifactError, match=rf"would be replaced.*{named}.*choose another"), stage_folder(folder, kind):
        pytest.fail("the work must not begin")
    assert tree(tmp_path) == before


def test_a_picture_of_the_user_is_named_with_its_folder(tmp_path: Path) -> None:
    _picture(product(tmp_path / "out", CALIBRATION_SET))
    with pytest.raises(ArtifactError, match=r"png/holiday\.png in it is no part of a calibration set"):
        check_replaceable(tmp_path / "out", CALIBRATION_SET)


def test_one_product_does_not_replace_another(tmp_path: Path) -> None:
    product(tmp_path / "build", BUILD)
    product(tmp_path / "set", CALIBRATION_SET)
    with pytest.raises(ArtifactError, match="it holds a calibration set"):
        check_replaceable(tmp_path / "set", BUILD)
    with pytest.raises(ArtifactError, match="it holds a build"):
        check_replaceable(tmp_path / "build", CALIBRATION_SET)
    for name in os.listdir(tmp_path / "set"):  # only the names that both have
        if name not in BUILD.files:
            path = tmp_path / "set" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ArtifactError, match="it holds a calibration set"):
        check_replaceable(tmp_path / "set", BUILD)


def test_places_that_are_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = product(tmp_path / "out", BUILD)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    for name in (".", folder, tmp_path / "link", "../out"):
        with pytest.raises(ArtifactError, match="it is the working directory"):
            check_replaceable(name, BUILD)
    with pytest.raises(ArtifactError, match="the working directory is in it"):
        check_replaceable("..", BUILD)
    monkeypatch.chdir(tmp_path)
    check_replaceable(folder, BUILD)
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(ArtifactError, match="your home folder is in it"):
        check_replaceable(folder, BUILD)
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.setattr(files.os.path, "ismount", lambda path: path == folder)
    with pytest.raises(ArtifactError, match="it is a mount point"):
        check_replaceable(folder, BUILD)
    with pytest.raises(ArtifactError, match="would be replaced"):
        check_replaceable("/", BUILD)


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two-steps"])
def test_what_is_put_into_the_folder_during_the_work_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    real, folder = files._exchange, product(tmp_path / "out", BUILD)
    before = tree(tmp_path)
    refuse = files._refuse_foreign

    def late(target: Path, kind: Product) -> None:
        refuse(target, kind)
        if (target.parent / "begun").exists():
            (target / "notes.txt").write_text("mine")  # after the last look, before the swap

    monkeypatch.setattr(files, "_refuse_foreign", late)
    monkeypatch.setattr(files, "_exchange", lambda *names: exchange and real(*names))

    def begun() -> None:
        with stage_folder(folder, BUILD) as staging:
            (staging / MARKER).write_text(json.dumps({"schema": 1, "model": {}}))
            (tmp_path / "begun").touch()

    with pytest.raises(ArtifactError, match=r"notes\.txt in it"):
        begun()
    (tmp_path / "begun").unlink()
    assert tree(tmp_path) == before | {"out/notes.txt": b"mine"}


def test_what_cannot_be_deleted_by_name_stays_where_people_see_it(tmp_path: Path) -> None:
    old = product(tmp_path / ".out.edgeq-0123456789ab.previous", BUILD)
    (old / "notes.txt").write_text("mine")
    files._retire(old, tmp_path / "out", BUILD)
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith("out-kept-")
    assert tree(kept) == {"notes.txt": b"mine"}


def test_a_name_missing_from_the_table_is_found_when_it_is_written(tmp_path: Path) -> None:
    def written() -> None:
        with stage_folder(tmp_path / "out", BUILD) as staging:
            (staging / MARKER).write_text(json.dumps({"schema": 1, "model": {}}))
            (staging / "new.bin").touch()

    with pytest.raises(RuntimeError, match=r"new\.bin in it is no part of a build"):
        written()
    assert os.listdir(tmp_path) == []


def test_users_names_that_look_like_leftovers_stay(tmp_path: Path) -> None:
    digits = "0123456789ab"
    (tmp_path / f".out.{digits}.staging").mkdir()
    (tmp_path / f".out.{digits}.previous").mkdir()
    (tmp_path / f".out.edgeq-{digits}.staging").write_text("a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/photo").write_text("dear")
    (tmp_path / ".out.edgeq-ffffffffffff.staging").symlink_to("elsewhere")
    _note(product(tmp_path / f".out.edgeq-{digits}.previous", BUILD))
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    before, names = tree(tmp_path), sorted(os.listdir(tmp_path))
    with stage_folder(tmp_path / "out", BUILD) as staging:
        (staging / MARKER).write_text(json.dumps({"schema": 1, "model": {}}))
    shutil.rmtree(tmp_path / "out")
    assert (tree(tmp_path), sorted(os.listdir(tmp_path))) == (before, names)
