"""Read a ``.pt2`` archive within limits, and write a copy that holds only tensors and a clean program.

Both forms of file that torch writes are read: records of raw bytes with tables (torch 2.8 on), and pickles of tensors
(before), which are opened with ``weights_only``. Pickles of anything else, compiled code and custom objects are
refused; example inputs and extra files are left out.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgeq.model.pt2_program import ForeignError, clean_payloads, clean_program

__all__ = ["clean_archive"]

MOST_MEMBERS = 20_000
LARGEST_JSON = 64 * 2**20
"""Largest size of the program's JSON in bytes; that of a large detector is a tenth of it."""
SLACK = 64 * 2**20
"""Bytes that an archive may unpack to beyond four times its size; torch does not compress, other tools do."""

_PROGRAM = "models/model.json"
_OLD_PROGRAM = "serialized_exported_program.json"


def clean_archive(path: Path) -> io.BytesIO:
    """The archive, clean for torch. Raises `ForeignError`, `UnsupportedError`, `OSError`, `BadZipFile`."""
    with zipfile.ZipFile(path) as archive:
        members = _members(archive, path.stat().st_size)
        for name in members:
            if "aotinductor" in name or "custom_obj" in name or "opaque_obj" in name:
                raise ForeignError(f"it holds code or custom objects: {name[:100]}")
        old = _OLD_PROGRAM in members
        (program,) = [_OLD_PROGRAM] if old else [n for n in members if f"/{n}".endswith(f"/{_PROGRAM}")][:1] or [""]
        if not program:
            raise ForeignError("it holds no program")
        root = program.removesuffix(_OLD_PROGRAM if old else _PROGRAM)
        files = {name.removeprefix(root): info for name, info in members.items() if name.startswith(root)}
        if "byteorder" in files and archive.read(files["byteorder"]) != b"little":
            raise ForeignError("its tensors are not stored in little-endian order")
        records: dict[str, bytes] = {
            "archive_format": b"pt2",
            "archive_version": b"0",
            "byteorder": b"little",
            ".data/version": b"6\n",
            _PROGRAM: _dump(clean_program(_json(archive, members[program]))),
            "data/sample_inputs/model.pt": b"",
        }
        for kind in ("weights", "constants"):
            pickle = files.get(
                {"weights": "serialized_state_dict.pt", "constants": "serialized_constants.pt"}[kind]
                if old
                else f"data/{kind}/model.pt"
            )
            if pickle is not None:
                records[f"data/{kind}/model.pt"] = _tensors(archive.read(pickle))
            else:
                records |= _records(archive, files, f"data/{kind}/", f"model_{kind}_config.json")
    return _write(records)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's files by name. Refuses more or larger files than such an archive can have."""
    members = archive.infolist()
    names = {info.filename: info for info in members}
    if len(members) > MOST_MEMBERS or len(names) < len(members):
        raise ForeignError(f"it holds {len(members)} files" + ", some twice" * (len(names) < len(members)))
    total = sum(info.file_size for info in members)
    if total > 4 * size + SLACK:
        raise ForeignError(f"its {size:,} bytes unpack to {total:,}")
    return names


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo | None) -> Any:
    if member is None:
        raise ForeignError("a table of its tensors is missing")
    if member.file_size > LARGEST_JSON:
        raise ForeignError(f"{member.filename} has {member.file_size:,} bytes, more than {LARGEST_JSON:,}")
    try:
        return json.loads(archive.read(member))
    except RecursionError:
        raise ForeignError(f"{member.filename} is nested too deeply") from None


def _records(
    archive: zipfile.ZipFile, files: Mapping[str, zipfile.ZipInfo], folder: str, table: str
) -> dict[str, bytes]:
    """Files of the raw tensor records, and of the table that describes them, by path."""
    config, records, sizes = clean_payloads(_json(archive, files.get(folder + table)))
    stored = {name: files[folder + name].file_size for name in records if folder + name in files}
    if lost := [name for name in records if name not in stored]:
        raise ForeignError(f"{folder}{lost[0]} is missing")
    if sum(sizes.values()) > 4 * sum(stored.values()) + SLACK:
        raise ForeignError(f"its tensors would take {sum(sizes.values()):,} bytes, it holds {sum(stored.values()):,}")
    for path, entry in config["config"].items():
        if not stored[entry["path_name"]] and sizes[path]:
            raise ForeignError(f"{path} has no bytes")
    return {folder + table: _dump(config)} | {folder + name: archive.read(files[folder + name]) for name in records}


def _tensors(data: bytes) -> bytes:
    """A pickled dictionary of tensors, opened without running anything, and pickled anew."""
    if not data:
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        _members(archive, len(data))
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(type(value) in (Tensor, torch.nn.Parameter) for value in state.values()):
        raise ForeignError("its weights are not a dictionary of tensors")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _dump(data: Any) -> bytes:
    return json.dumps(data).encode()


def _write(files: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"model/{name}"), data)
    buffer.seek(0)
    return buffer
