"""sweep.toml: which builds it means, what they are called, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq.config.sweep import MOST_BUILDS, Sweep, read_sweep
from edgeq.errors import ConfigError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(text: str, environment: dict[str, str] | None = None, name: str = "nightly.toml") -> Sweep:
    path = Path(name)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return read_sweep(path, environment or {})


AXES = """
[axes]
models = ["signs-fixup", "signs-mobilenetv2"]
bits = ["w8a8", "w4a8"]
targets = ["tflite-arm"]
"""


def test_every_combination_is_a_build_named_after_what_differs() -> None:
    read = sweep(AXES + '[build]\neffort = "fast"\nseed = 3\n')
    assert [one.name for one in read.builds] == [
        "signs-fixup-w8a8",
        "signs-fixup-w4a8",
        "signs-mobilenetv2-w8a8",
        "signs-mobilenetv2-w4a8",
    ]
    assert {(one.config.effort, one.config.seed, one.config.target) for one in read.builds} == {
        ("fast", 3, "tflite-arm")
    }
    assert [one.config.output for one in read.builds] == [Path("build/nightly") / one.name for one in read.builds]
    assert read.builds[1].axes == {"model": "signs-fixup", "bits": "w4a8", "targets": "tflite-arm"}


def test_a_value_may_set_several_things_and_have_a_name() -> None:
    read = sweep(
        """
        [axes]
        models = ["signs-fixup", { name = "mine", model = "net.py:make", weights = "net.pth", input_shape = [3, 8, 8] }]
        layer_bits = [[], ["first=w8a8"], { name = "both", layer_bits = ["first=w8a8", "last=w8a8"] }]
        """
    )
    assert [one.name for one in read.builds[3:]] == ["mine", "mine-first=w8a8", "mine-both"]
    last = read.builds[-1].config
    assert (last.weights, last.input_shape, last.layer_bits) == ("net.pth", (3, 8, 8), ("first=w8a8", "last=w8a8"))


def test_names_that_would_be_one_folder_are_told_apart() -> None:
    read = sweep('[axes]\nmodels = ["a/net.py:make", "b/net.py:make", "c/NET.py:make"]\n')
    assert [one.name for one in read.builds] == ["net-make", "net-make-2", "NET-make-3"]
    assert all(len(one.name) < 100 for one in sweep(f'[axes]\nmodels = ["{"n" * 300}.py:m"]\n').builds)
    odd = sweep('[axes]\nmodels = [{ name = "../../x y\\n", model = "signs-fixup" }]\n').builds[0]
    assert odd.name == "x-y"
    assert sweep('[axes]\nmodels = [{ name = "Logs", model = "signs-fixup" }]\n').builds[0].name == "Logs-2"


def test_paths_are_relative_to_the_file() -> None:
    Path("team").mkdir()
    Path("team/net.py").write_text("")
    read = sweep('output = "out"\n[axes]\nmodels = ["net.py:make"]\n', name="team/sweep.toml")
    assert read.builds[0].config.model == "team/net.py:make"
    assert read.output == Path("team/out")


def test_the_environment_gives_what_the_file_does_not() -> None:
    read = sweep(AXES, {"EDGEQ_BITS": "w2a8", "EDGEQ_EFFORT": "best", "EDGEQ_OUTPUT": "elsewhere"})
    assert {one.config.effort for one in read.builds} == {"best"}
    assert {one.config.bits for one in read.builds} == {"w8a8", "w4a8"}
    assert read.output == Path("build/nightly")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no \\[axes\\]"),
        ("[axes]\n", "no \\[axes\\]"),
        ("axes = 3\n", "must be a table"),
        ("[axes]\nbit = ['w8a8']\n", "bits"),
        ("[axes]\nbits = 'w8a8'\n", "must be a list"),
        ("[axes]\nbits = []\n", "must be a list"),
        ("[axes]\nbits = ['w9a8']\n", "wNaM|w9a8"),
        ("[axes]\nbits = ['w8a8', 'w8a8']\n", "there twice"),
        ("[axes]\nbits = [{ seed = 1 }]\n", "says nothing of bits"),
        ("[axes]\nmodels = [{ model = 'a', output = 'b' }]\n", "the sweep itself decides"),
        ("[axes]\noutput = ['a', 'b']\n", "unknown|not|output"),
        ("[axes]\nbits = ['w8a8']\n[build]\nbits = 'w4a8'\n", "given twice"),
        ("[axes]\nmodel = ['a']\nmodels = ['b']\n", "given twice"),
        ("[axes]\nbits = ['w8a8']\n[build]\nthreads = 2\n", "the sweep itself decides"),
        ("[axes]\nbits = ['w8a8']\n[build]\nefort = 'fast'\n", "effort"),
        ("[axes]\nbits = ['w8a8']\n[build]\ntargets = ['tflite-arm', 'onnx-arm']\n", "one target"),
        ("output = 3\n[axes]\nbits = ['w8a8']\n", "must be the path"),
        ("[axes]\nseeds = [" + ",".join(map(str, range(MOST_BUILDS + 1))) + "]\n", "the most is"),
        ("[axes", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        sweep(text)
    assert "\n" not in str(caught.value)
    assert "nightly.toml" in str(caught.value)
