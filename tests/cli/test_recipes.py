"""`--print-recipe` and `--recipe`: printed, changed, given back, kept in the lock, refused where nobody reads it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgeq.cli import cli
from edgeq.config.build import BuildConfig
from edgeq.errors import ConfigError
from edgeq.pipeline.prepare import prepare
from edgeq.pipeline.recipe import tuning_settings
from edgeq.synth import passes_needed
from edgeq.synth.base import RECIPES, SYNTHESIZERS, settled

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.usefixtures("here")


def edgeq(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="edgeq")


def test_a_printed_recipe_makes_the_same_images_and_a_changed_one_others() -> None:
    printed = edgeq("build", "model.toml", "--effort", "fast", "--print-recipe")
    assert printed.exit_code == 0, printed.stderr
    assert "\n[gznq.pull]\n" in printed.stdout
    Path("same.toml").write_text(printed.stdout)
    Path("less.toml").write_text(printed.stdout.replace("fine = 10", "fine = 2").replace("coarse = 30", "coarse = 4"))
    images = {}
    for name, words in {"plain": [], "same": ["--recipe", "same.toml"], "less": ["--recipe", "less.toml"]}.items():
        done = edgeq("synth", "model.toml", "-n", "4", "--effort", "fast", "-o", name, "--quiet", *words)
        assert done.exit_code == 0, done.stderr
        images[name] = np.load(Path(name) / "calibration.npz")["inputs"]
    assert np.array_equal(images["plain"], images["same"])
    assert not np.array_equal(images["plain"], images["less"])
    assert json.loads((Path("less") / "statistics.json").read_text())["recipe"]["gznq"]["fine"] == 2


def test_a_lock_holds_the_recipe_and_builds_it_again() -> None:
    words = ["--effort", "fast", "--images", "4", "--recipe", "gznq.fine=2", "--quiet"]
    done = edgeq("build", "model.toml", "-o", "out", *words)
    assert done.exit_code == 0, done.stderr
    lock = json.loads(Path("out/edgeq.lock").read_text())
    assert lock["recipe"]["gznq"]["fine"] == 2
    assert lock["recipe"]["gznq"]["coarse"] == 30
    again = edgeq("build", "model.toml", "--locked", "out/edgeq.lock", "-o", "again", "--quiet")
    assert again.exit_code == 0, again.stderr


def test_fine_tuning_reads_its_own_table() -> None:
    config = BuildConfig(model="model.toml", finetune="kd", bits="w4a4", recipe=("kd.steps=3", "gznq.fine=2"))
    job = prepare(config)
    assert tuning_settings("kd", config, job.graph).steps == 3
    assert set(job.recipe) == {"gznq", "kd"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "kd.steps=3"], "recipe kd: this build uses gznq"),
        (["--recipe", "gznk.fine=3"], "did you mean 'gznq'"),
        (["--recipe", "gznq.fine=0"], "fine = 0 at recipe gznq: must be an integer of at least 1"),
        (["--recipe", "gznq.finer=1"], "unknown key 'finer'"),
        (["--method", "noise", "--recipe", "gznq.fine=3"], "noise, which has no settings"),
        (["--recipe", "gznq.pull.rate=inf"], "rate = inf at recipe gznq [pull]: must be a number of at least 0"),
    ],
)
def test_what_nobody_reads_is_refused_before_any_work(words: list[str], message: str) -> None:
    for command in ("build", "synth"):
        done = edgeq(command, "model.toml", "--quiet", *words)
        assert done.exit_code == 2, done.output
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_every_recipe_counts_its_passes_and_survives_its_own_printing() -> None:
    list(SYNTHESIZERS)
    for name, recipe in RECIPES.items():
        fewer, more = (recipe.passes(recipe.settings(effort), 32) for effort in ("fast", "best"))
        assert 0 < fewer < more
        whole = dataclasses.asdict(recipe.settings("fast"))
        assert settled(name, "best", {name: whole}) == recipe.settings("fast")
    assert passes_needed("inversion", "fast", 2, {"inversion": {"iterations": 5}}) == 10


def test_a_setting_of_another_method_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="unknown key 'fine'"):
        settled("inversion", "fast", {"inversion": {"fine": 1}})


def test_weights_of_few_bits_get_closer_images_unless_a_recipe_says_otherwise() -> None:
    def printed(*words: str) -> dict[str, object]:
        done = edgeq("build", "model.toml", "--print-recipe", *words)
        assert done.exit_code == 0, done.stderr
        return tomllib.loads(done.stdout)["gznq"]

    plain = printed()
    assert printed("--bits", "w7a8") == plain
    few = printed("--bits", "w4a8")
    assert few["coarse"] > plain["coarse"]
    assert few["fine"] > plain["fine"]
    assert {key: few[key] for key in ("batch", "loose")} == {key: plain[key] for key in ("batch", "loose")}
    assert printed("--layer-bits", "*=w4a8") == few
    own = printed("--bits", "w4a8", "--recipe", "gznq.fine=3", "--recipe", "gznq.pull.rate=0.5")
    assert (own["fine"], own["coarse"]) == (3, few["coarse"])
    assert own["pull"] == {**few["pull"], "rate": 0.5}


def test_synth_makes_the_images_of_a_build_with_the_same_bits() -> None:
    quick = ["--recipe", "gznq.coarse=2", "--recipe", "gznq.fine=1"]
    made = edgeq("build", "model.toml", "--bits", "w4a8", "--images", "4", "-o", "built", *quick)
    assert made.exit_code == 0, made.stderr
    few = edgeq("synth", "model.toml", "--bits", "w4a8", "-n", "4", "-o", "few", *quick)
    assert "synthesize cached" in few.stderr
    plain = edgeq("synth", "model.toml", "-n", "4", "-o", "plain", *quick)
    assert "synthesize cached" not in plain.stderr
