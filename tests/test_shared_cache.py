"""Results that machines share: found from an empty cache, never half or altered, and never in the way of a build."""

import hashlib
import json

import pytest

from edgeq.cache import StageCache
from edgeq.config.build import resolve_table
from edgeq.errors import ArtifactError, ConfigError, VariableError
from edgeq.sealed import open_json, seal_json
from edgeq.sharedcache import SharedCache
from edgeq.store import Bucket


class Memory:
    """A store in memory; `broken` has it refuse everything, `room` lets it die after so many objects."""

    address = "s3://team/edgeq"

    def __init__(self):
        self.objects, self.broken, self.room, self.asked = {}, False, 100, 0

    def get(self, key, most):
        self._check()
        data = self.objects.get(key)
        if data is not None and len(data) > most:
            raise ValueError("too large")
        return data

    def create(self, key, data):
        self._check()
        if len(self.objects) >= self.room:
            raise KeyboardInterrupt
        return self.objects.setdefault(key, data) is data

    def sizes(self, prefix):
        return {key: len(data) for key, data in self.objects.items() if key.startswith(f"{prefix}/")}

    def _check(self):
        self.asked += 1
        if self.broken:
            raise ArtifactError("the shared store does not work")


class Notes:
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)

    def stage(self, name): ...

    def done(self, name, seconds, cached): ...


def run(folder, store, name="set.npz", stage="synthesize"):
    """One build on a machine of its own: whether the stage was found, its file, and what was said."""
    notes = Notes()

    def work(_, space):
        (space.folder / name).write_bytes(b"made")
        (space.folder / "more.json").write_bytes(b"{}")
        return {"answer": 42}

    shared = SharedCache(store, notes.note)
    result = StageCache(folder, notes, shared=shared).run(stage, {"seed": 0}, work)
    return result.cached, result.files[name].read_bytes(), notes.lines


def test_another_machine_finds_what_one_made(tmp_path):
    store = Memory()
    assert run(tmp_path / "a", store) == (False, b"made", [])
    assert run(tmp_path / "b", store) == (True, b"made", [])
    asked = store.asked
    assert run(tmp_path / "b", store) == (True, b"made", [])
    assert store.asked == asked  # the local cache has it now


@pytest.mark.parametrize("harm", [lambda data: b"evil", lambda data: data[:-1], lambda data: data + b"x", None])
def test_a_damaged_blob_is_reported_and_made_anew(tmp_path, harm):
    store = Memory()
    run(tmp_path / "a", store)
    key = f"blobs/{hashlib.sha256(b'made').hexdigest()}"
    if harm is None:
        del store.objects[key]
    else:
        store.objects[key] = harm(store.objects[key])
    cached, made, notes = run(tmp_path / "b", store)
    assert (cached, made, len(notes)) == (False, b"made", 1)
    assert "is not used" in notes[0]


@pytest.mark.parametrize(
    "name", ["../../evil.json", "code.pkl", "/etc/evil.json", "facts.json", ".hidden.json", "a.pt"]
)
def test_foreign_names_are_refused(tmp_path, name):
    store = Memory()
    run(tmp_path / "a", store)
    (key,) = store.sizes("entries")
    body = open_json(store.objects[key])
    body["files"][name] = body["files"].pop("set.npz")
    store.objects[key] = seal_json(body).encode()
    cached, made, notes = run(tmp_path / "b", store)
    assert (cached, made, len(notes)) == (False, b"made", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", json.dumps({"sha256": "0", "body": {}}).encode()])
def test_foreign_entries_are_reported(tmp_path, text):
    store = Memory()
    run(tmp_path / "a", store)
    (key,) = store.sizes("entries")
    store.objects[key] = text
    cached, _, notes = run(tmp_path / "b", store)
    assert (cached, len(notes)) == (False, 1)


def test_a_writer_that_dies_leaves_no_half_result(tmp_path):
    store = Memory()
    for room in (0, 1, 2):
        store.room = room
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(room), store)
        assert not store.sizes("entries")
    store.room = 100
    assert run(tmp_path / "next", store)[0] is False
    assert run(tmp_path / "last", store) == (True, b"made", [])


def test_a_store_that_does_not_answer_gives_one_line(tmp_path):
    store = Memory()
    store.broken = True
    cached, made, notes = run(tmp_path / "a", store)
    assert (cached, made, len(notes), store.asked) == (False, b"made", 1, 1)


@pytest.mark.parametrize(
    ("name", "stage"), [("model.tflite", "calibrate"), ("a.json", "measure"), ("a.json", "verify")]
)
def test_model_files_and_measurements_stay_local(tmp_path, name, stage):
    store = Memory()
    run(tmp_path / "a", store, name, stage)
    assert not store.objects


@pytest.mark.parametrize("address", ["http://host/x", "s3://", "s3://me:secret@bucket/x", "s3://bucket/x?key=secret"])
def test_an_address_that_is_none_is_refused_without_its_secret(address):
    with pytest.raises(VariableError) as refused:
        Bucket(address)
    assert "secret" not in str(refused.value)


def test_an_address_is_no_folder(tmp_path):
    plain, shared = (resolve_table(None, {}, given, tmp_path) for given in ({}, {"EDGEQ_CACHE": "s3://team/edgeq"}))
    assert shared.config.cache == plain.config.cache
    with pytest.raises(ConfigError, match="names a folder"):
        resolve_table(None, {"cache": "s3://team/edgeq"}, {}, tmp_path)
    with pytest.raises(ConfigError, match="names a folder"):
        resolve_table({"cache": "s3://team/edgeq"}, {}, {}, tmp_path)
