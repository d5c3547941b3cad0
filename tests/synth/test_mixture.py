"""Several methods in one set: equal shares, in turns, resumed and refused like any other."""

import dataclasses

import numpy as np
import pytest
from test_zs_cgan import graph, request  # noqa: F401  # a fixture

from edgeq.errors import ConfigError
from edgeq.synth import SYNTHESIZERS, passes_needed, synthesizer_of
from edgeq.synth.mixture import _turns


class Seen:
    def __init__(self) -> None:
        self.shares: list[float] = []

    def stage(self, name): ...

    def done(self, name, seconds, cached): ...

    def step(self, done, total, note=""):
        self.shares.append(done / total)


def test_each_method_makes_its_share_and_they_take_turns(graph):  # noqa: F811
    made = synthesizer_of("gznq+leaves+noise")(request(graph, images=11))
    parts = [
        SYNTHESIZERS.get(name)(request(graph, images=size)) for name, size in (("gznq", 4), ("leaves", 4), ("noise", 3))
    ]
    assert made.method == "gznq+leaves+noise"
    order = [(0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (0, 1), (0, 2), (1, 2), (2, 2), (1, 3), (0, 3)]
    assert np.array_equal(made.inputs, np.stack([parts[part].inputs[place] for part, place in order]))
    assert made.labels.tolist() == [int(parts[part].labels[place]) for part, place in order]
    assert made.notes == parts[0].notes


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


def test_progress_never_goes_back(graph):  # noqa: F811
    seen = Seen()
    synthesizer_of("inversion+gznq")(request(graph, progress=seen))
    assert seen.shares == sorted(seen.shares)
    assert seen.shares[-1] == 1.0


def test_names_nobody_has_are_refused():
    with pytest.raises(ConfigError, match="unknown synthesizer 'gznk'"):
        synthesizer_of("leaves+gznk")
    with pytest.raises(ConfigError, match="there twice"):
        synthesizer_of("gznq+gznq")
    with pytest.raises(ConfigError, match="unknown synthesizer ''"):
        synthesizer_of("gznq+")


def test_passes_are_the_sum_of_the_shares():
    assert passes_needed("zeroq+leaves", "best", 11) == passes_needed("zeroq", "best", 6)
    both = passes_needed("gznq", "fast", 5) + passes_needed("inversion", "fast", 5)
    assert passes_needed("gznq+inversion", "fast", 10) == both
