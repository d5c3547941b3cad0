"""Several methods in one set: equal shares, in turns, resumed and refused like any other."""

import contextlib
import dataclasses
from unittest import mock

import numpy as np
import pytest
from test_zs_cgan import graph, request  # noqa: F401  # a fixture

from edgeq.data.calibration import CalibrationSet
from edgeq.errors import ConfigError, UnsupportedError
from edgeq.graph.ir import Graph
from edgeq.graph.passes import optimize
from edgeq.synth import SYNTHESIZERS, Request, gznq, inversion, mixture, passes_needed, synthesizer_of
from edgeq.synth.base import balanced_labels
from edgeq.synth.mixture import _turns
from tests.tinymodel import use_settings


@contextlib.contextmanager
def methods(**ways):
    """`ways` registered for a while."""
    list(SYNTHESIZERS)
    with mock.patch.dict(SYNTHESIZERS._entries, ways):
        yield


def labelled(labels, notes=None):
    labels = np.asarray(labels, np.int64)
    return CalibrationSet(np.zeros((len(labels), 3, 2, 2), np.float32), labels, "test", notes or {})


def asking(images):
    low, high = np.zeros(3, np.float32), np.ones(3, np.float32)
    nothing = Graph("x", ("x",), ("x",), (), {}, {"x": (1, 3, 2, 2)})
    return Request(nothing, low, high, 0, images, seed=3)


class Seen:
    def __init__(self) -> None:
        self.shares: list[float] = []

    def stage(self, name): ...

    def done(self, name, seconds, cached): ...

    def step(self, done, total, note=""):
        self.shares.append(done / total)


@pytest.fixture(autouse=True)
def few_iterations(monkeypatch):
    """What methods make of each other's shares is the subject here, not how good their images are."""
    use_settings(monkeypatch, "gznq", gznq.Settings(coarse=8, fine=20))
    monkeypatch.setitem(inversion.ITERATIONS, "fast", 10)


def test_each_method_makes_its_share_and_they_take_turns(graph):  # noqa: F811
    made = synthesizer_of("gznq+leaves+noise")(request(graph, images=11))
    parts = [
        SYNTHESIZERS.get(name)(request(graph, images=size, seed=5 + index * mixture._APART))
        for index, (name, size) in enumerate((("gznq", 4), ("leaves", 4), ("noise", 3)))
    ]
    assert made.method == "gznq+leaves+noise"
    known = {image.tobytes(): (part, label) for part, some in enumerate(parts) for image, label in pairs(some)}
    found = [known.pop(image.tobytes()) for image in made.inputs]
    assert not known
    assert [part for part, _ in found] == [0, 1, 2, 2, 1, 0, 0, 1, 2, 1, 0]
    assert made.labels.tolist() == [label for _, label in found]
    assert made.notes == parts[0].notes


def pairs(made):
    return zip(made.inputs, made.labels.tolist(), strict=True)


def test_the_order_a_method_gives_its_images_is_lost():
    with methods(ordered=lambda r: labelled(np.arange(r.images))):
        made = synthesizer_of("ordered+noise")(asking(40))
    mine = made.labels[made.labels >= 0]
    assert sorted(mine) == list(range(20))
    assert list(mine) != sorted(mine)


def test_parts_of_many_classes_show_different_ones():
    seen = []

    def part(request):
        seen.append(balanced_labels(request.images, 1000, request.seed).numpy())
        return labelled(seen[-1])

    with methods(one=part, other=part):
        synthesizer_of("one+other")(asking(100))
    assert len(set(seen[0]) | set(seen[1])) > 90


def test_a_note_that_several_tell_is_their_mean_over_images():
    told = {"one": {"wrong": 0.4, "alone": 2.0}, "other": {"wrong": 0.1}}
    ways = {name: lambda r, notes=notes: labelled(np.zeros(r.images), notes) for name, notes in told.items()}
    with methods(**ways):
        made = synthesizer_of("one+other")(asking(3))
    assert made.notes == pytest.approx({"wrong": (2 * 0.4 + 0.1) / 3, "alone": 2.0})


def test_every_second_image_and_the_first_ones_are_as_mixed_as_the_whole():
    for parts in (2, 3):
        kinds = np.array([place // 12 for place in _turns([12] * parts)])
        for some in (kinds[::2], kinds[1::2], kinds[: 4 * parts]):
            assert np.bincount(some, minlength=parts).tolist() == [len(some) // parts] * parts


def test_fewer_images_than_methods_is_a_set_of_the_first(graph):  # noqa: F811
    made = synthesizer_of("leaves+noise")(request(graph, images=1))
    assert np.array_equal(made.inputs, SYNTHESIZERS.get("leaves")(request(graph, images=1)).inputs)


def test_what_is_finished_is_not_made_again(graph, tmp_path):  # noqa: F811
    whole = synthesizer_of("gznq+inversion")(request(graph))
    kept = request(graph, checkpoint=tmp_path)
    synthesizer_of("gznq+inversion")(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gznq", "inversion"]
    seen = Seen()
    again = synthesizer_of("gznq+inversion")(dataclasses.replace(kept, progress=seen))
    assert seen.shares == []
    assert again.digest() == whole.digest()


def test_an_interrupted_one_ends_with_the_same_bytes(graph, tmp_path):  # noqa: F811
    whole = synthesizer_of("gznq+inversion")(request(graph))

    class Stop(Seen):
        def step(self, done, total, note=""):
            if "cross-entropy" in note:  # inversion's
                raise KeyboardInterrupt

    kept = request(graph, checkpoint=tmp_path, progress=Stop())
    with pytest.raises(KeyboardInterrupt):
        synthesizer_of("gznq+inversion")(kept)
    assert [path.name for path in tmp_path.iterdir()] == ["gznq"]
    assert synthesizer_of("gznq+inversion")(dataclasses.replace(kept, progress=Seen())).digest() == whole.digest()


@pytest.mark.parametrize("name", ["inversion+gznq", "gznq+leaves", "leaves+gznq"])
def test_progress_counts_passes_and_ends_at_the_end(graph, name):  # noqa: F811
    seen = Seen()
    synthesizer_of(name)(request(graph, progress=seen))
    assert seen.shares == sorted(seen.shares)
    assert seen.shares[-1] == pytest.approx(1.0, abs=0.01)


def test_a_part_that_cannot_work_is_refused_before_the_others_work(graph):  # noqa: F811
    seen = Seen()
    with pytest.raises(UnsupportedError, match=r"gznq needs batch-norm.*leave it out of --method inversion\+gznq"):
        synthesizer_of("inversion+gznq")(request(optimize(graph), progress=seen))
    assert seen.shares == []


def test_names_nobody_has_are_refused():
    with pytest.raises(ConfigError, match="unknown synthesizer 'gznk'"):
        synthesizer_of("leaves+gznk")
    with pytest.raises(ConfigError, match="there twice"):
        synthesizer_of("gznq+gznq")
    with pytest.raises(ConfigError, match=r"--method gznq\+: nothing stands beside a \+"):
        synthesizer_of("gznq+")
    for part in ("auto", "images:photos"):
        with pytest.raises(ConfigError, match=f"{part} is no method to join"):
            synthesizer_of(f"leaves+{part}")


def test_passes_are_the_sum_of_the_shares():
    assert passes_needed("zeroq+leaves", "best", 11) == passes_needed("zeroq", "best", 6)
    assert passes_needed("images:/photos/a+gznq", "fast", 10) == 0
    both = passes_needed("gznq", "fast", 5) + passes_needed("inversion", "fast", 5)
    assert passes_needed("gznq+inversion", "fast", 10) == both
