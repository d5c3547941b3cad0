"""Settings: precedence, provenance, and mistakes that name where they were made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import pytest

from edgeq.cli.build import build
from edgeq.config.build import Budget, BuildConfig, refuse_misspelt, resolve, settings_of
from edgeq.config.settings import parse_size
from edgeq.errors import ConfigError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(text: str, path: str = "edgeq.toml") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_defaults() -> None:
    found = resolve({}, {})
    assert found.config == BuildConfig()
    assert found.budget == Budget()
    assert set(found.origin.values()) == {"default"}


def test_flag_beats_environment_beats_file_beats_default() -> None:
    write('seed = 1\nimages = 10\neffort = "fast"\n')
    found = resolve({"seed": "3"}, {"EDGEQ_SEED": "2", "EDGEQ_IMAGES": "20"})
    config = found.config
    assert (config.seed, config.images, config.effort, config.observer) == (3, 20, "fast", "mse")
    origin = [found.origin[key] for key in ("seed", "images", "effort", "observer")]
    assert origin == ["--seed", "EDGEQ_IMAGES", "edgeq.toml", "default"]


def test_numbers_are_read_as_python_spells_them() -> None:
    write("mean = 0.5\nstd = [1, 0.25]\n")
    found = resolve({"max_drop": ".5", "images": " 8 "}, {"EDGEQ_INPUT_SHAPE": "3x8x9"})
    assert (found.config.mean, found.config.std, found.config.input_shape) == ((0.5,), (1.0, 0.25), (3, 8, 9))
    assert (found.budget.max_drop, found.config.images) == (0.5, 8)
    for wrong in ("1_0", "8.5", "1e400", True, "nan"):
        with pytest.raises(ConfigError, match="must be a whole number"):
            resolve({"images": wrong}, {})


def test_falsy_values_are_values() -> None:
    write("seed = 5\nstrict = true\n[budget]\nmax_drop = 2.0\n")
    found = resolve({"seed": "0", "strict": False, "max_drop": "0"}, {})
    assert (found.config.seed, found.config.strict, found.budget.max_drop) == (0, False, 0.0)


def test_command_line_says_the_same_again() -> None:
    flags = {
        "model": "nets.py:make",
        "input_shape": "1,8,9",
        "mean": "0.5",
        "std": "0.25",
        "method": "images:my photos",
        "targets": ("onnx-arm", "tflite-arm"),
        "seed": "3",
        "strict": True,
        "output": "out",
    }
    config = resolve(flags, {}).config
    words = config.arguments()
    assert words[:3] == ["edgeq", "build", "nets.py:make"]
    command = click.Command("build", params=build.params, callback=lambda **given: given)
    given = command.main(words[2:], standalone_mode=False)
    again = resolve({k: v for k, v in given.items() if k in settings_of(BuildConfig)}, {})
    assert again.config == config


def test_force_takes_stages_only() -> None:
    assert resolve({"force": "measure,verify"}, {}).config.force == ("measure", "verify")
    with pytest.raises(ConfigError, match="did you mean 'measure'"):
        resolve({"force": ("mesure",)}, {})


def test_every_setting_survives_print_config() -> None:
    flags = {
        "model": "net.toml",
        "weights": 'a"b\\c.pth',
        "input_shape": "1,8,9",
        "mean": "0.5",
        "std": "0.25",
        "task": "regression",
        "targets": ("onnx-arm", "tflite-arm"),
        "method": "images:pictures",
        "images": "7",
        "seed": "3",
        "effort": "best",
        "observer": "minmax",
        "io": "uint8",
        "output": "out",
        "threads": "2",
        "bench_threads": "3",
        "cache": "c",
        "evaluation": "e.npz",
        "eval_limit": "50",
        "show_images": True,
        "strict": True,
        "force": ("synthesize",),
        "bits": "w4a8",
        "layer_bits": ("f.*=w8a8", "g=w2a8"),
        "recipe": ("gznq.fine=3",),
        "all_layers": True,
        "finetune": "kd",
        "precision": "mixed",
        "weight_storage": "int8",
        "metadata": "yes",
        "raw_pixels": "free",
        "devices": ("pi@a", "adb:R58M1"),
        "max_device_drop": "1",
        "min_device_agreement": "0.9",
        "max_device_latency_ratio": "0.8",
        "max_device_ms": "20",
        "max_device_bytes": "64M",
        "max_baseline_drop": "0.5",
        "max_baseline_error_ratio": "1.2",
        "max_baseline_size_ratio": "1.05",
        "max_baseline_latency_ratio": "1.3",
        "max_drop": "0.5",
        "min_agreement": "0.97",
        "max_bytes": "4M",
        "max_latency_ratio": "1.1",
        "min_score": "90",
        "max_error": "2.5",
        "max_mae": "1e3",
        "min_snr_db": "30",
        "min_cosine": "0.99",
        "min_device_score": "89.5",
        "min_images": "50",
        "allow_simulated": True,
    }
    first = resolve(flags, {})
    assert not [key for key, origin in first.origin.items() if origin == "default"]
    write(first.to_toml())
    again = resolve({}, {})
    assert (again.config, again.budget) == (first.config, first.budget)
    assert {origin for key, origin in again.origin.items()} == {"edgeq.toml"}
    assert "seed = 3  # --seed" in first.to_toml()
    write(resolve({}, {}, Path("edgeq.toml")).to_toml())
    assert resolve({}, {}).config == first.config


def test_print_config_of_defaults_is_loadable() -> None:
    text = resolve({}, {}).to_toml()
    assert "# model is not set  # default" in text
    assert 'targets = ["tflite-arm"]  # default' in text
    write(text)
    assert resolve({}, {}).config == BuildConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", r"unknown key 'sed' at edgeq.toml \(did you mean 'seed'\?\)"),
        ("[budget]\nmax_dorp = 1", r"unknown key 'max_dorp' at edgeq.toml \[budget\] \(did you mean 'max_drop'\?\)"),
        ("seed = -1", "edgeq.toml seed -1: must be a whole number"),
        ("seed = true", "edgeq.toml seed True: must be a whole number"),
        ('effort = "bets"', r"edgeq.toml effort 'bets' \(did you mean 'best'\?\)"),
        ("targets = []", "must be one name or more"),
        ('target = "onnx-arm"\ntargets = ["onnx-arm"]', "both target and targets"),
        ('device = "adb"\ndevices = ["pi@a"]', "both device and devices"),
        ("devices = [3]", "devices.*must be one name or more"),
        ("model = 3", "must be a non-empty string"),
        ("budget = 3", "must be a table"),
        ("seed = ", "edgeq.toml is not valid TOML"),
        ('bits = "w9a8"', "edgeq.toml bits 'w9a8': must be wNaM"),
        ('bits = "w4"', "edgeq.toml bits 'w4': must be wNaM"),
    ],
)
def test_mistakes_in_the_file(text: str, message: str) -> None:
    write(text)
    with pytest.raises(ConfigError, match=message):
        resolve({}, {})


def test_mistakes_elsewhere_name_their_place() -> None:
    with pytest.raises(ConfigError, match="--images 'many': must be a whole number from 1 to 1,000,000"):
        resolve({"images": "many"}, {})
    with pytest.raises(ConfigError, match="EDGEQ_IMAGES '0': must be a whole number from 1 to 1,000,000"):
        resolve({}, {"EDGEQ_IMAGES": "0"})
    with pytest.raises(ConfigError, match="--input-shape '32': must be C,H,W"):
        resolve({"input_shape": "32"}, {})
    with pytest.raises(ConfigError, match="--min-agreement '97': must be a share between 0 and 1"):
        resolve({"min_agreement": "97"}, {})
    with pytest.raises(ConfigError, match=r"cannot read gone\.toml"):
        resolve({}, {}, Path("gone.toml"))


def test_a_variable_that_is_almost_a_setting_is_not_passed_over() -> None:
    with pytest.raises(ConfigError, match="there is no setting EDGEQ_EFORT") as refused:
        refuse_misspelt({"EDGEQ_EFORT": "fast"})
    assert refused.value.hint == "EDGEQ_EFFORT is one"
    with pytest.raises(ConfigError, match=r"there is no setting EDGEQ_LARGETS_FILE .*EDGEQ_LARGEST_FILE is one"):
        refuse_misspelt({"EDGEQ_LARGETS_FILE": "16G"})
    others = ("DATA", "TRACEBACK", "SSH_CONFIG", "DEVICE_CACHE", "DEBIAN", "BENCHMARK_MODEL", "EMULATED")
    refuse_misspelt({f"EDGEQ_{name}": "x" for name in others})


def test_target_in_file_and_environment() -> None:
    write('target = "onnx-arm"')
    assert resolve({}, {}).config.targets == ("onnx-arm",)
    assert resolve({}, {"EDGEQ_TARGET": "onnx-x86, tflite-x86"}).config.targets == ("onnx-x86", "tflite-x86")


def test_another_model_does_not_inherit_the_file_s_model_s_settings() -> None:
    write('model = "a.toml"\nweights = "a.pth"\ninput_shape = [3, 8, 8]\nseed = 4\noutput = "a"\n')
    assert resolve({}, {}).config.weights == "a.pth"
    config = resolve({"model": "b.toml"}, {}).config
    assert (config.model, config.weights, config.input_shape, config.output, config.seed) == (
        "b.toml",
        None,
        None,
        None,
        4,
    )
    assert resolve({}, {"EDGEQ_MODEL": "b.toml"}).config.weights is None
    assert resolve({"model": "b.toml"}, {}).unused == ("weights", "input_shape", "output")


def test_the_file_s_settings_stay_with_its_model_and_with_any_where_it_names_none() -> None:
    write('model = "a.toml"\nweights = "a.pth"\n')
    named = resolve({"model": "a.toml"}, {})
    assert (named.config.weights, named.unused) == ("a.pth", ())
    write('evaluation = "test.npz"\n[layer_bits]\n"head" = "w8a16"\n')
    assert resolve({"model": "b.toml"}, {}).config.evaluation == "test.npz"
    assert resolve({"model": "b.toml"}, {}).config.layer_bits == ("head=w8a16",)


def test_yes_and_no_may_be_toml_s_own() -> None:
    write("raw_pixels = true\nmetadata = false\n")
    config = resolve({}, {}).config
    assert (config.raw_pixels, config.metadata) == ("yes", "no")
    write("io = true\n")
    with pytest.raises(ConfigError, match="io True"):
        resolve({}, {})


def test_paths_in_a_file_elsewhere_are_relative_to_it() -> None:
    write('model = "net.toml"\nweights = "random"\nmethod = "images:pictures"\noutput = "out"\n', "team/edgeq.toml")
    write("", "team/net.toml")
    Path("team/pictures").mkdir()
    config = resolve({}, {}, Path("team/edgeq.toml")).config
    assert (config.model, config.weights, config.method) == ("team/net.toml", "random", "images:team/pictures")
    assert config.output == Path("team/out")
    write('model = "net.py:make"\n', "team/edgeq.toml")
    write("", "team/net.py")
    assert resolve({}, {}, Path("team/edgeq.toml")).config.model == "team/net.py:make"
    write('model = "torchvision:resnet18"\n', "team/edgeq.toml")
    assert resolve({}, {}, Path("team/edgeq.toml")).config.model == "torchvision:resnet18"


def test_several_targets_are_several_builds() -> None:
    config = BuildConfig(model="m", targets=("onnx-arm", "tflite-arm"))
    assert [one.target for one in config.split()] == ["onnx-arm", "tflite-arm"]
    assert [one.output_folder("m") for one in config.split()] == [Path("build/m-onnx-arm"), Path("build/m-tflite-arm")]
    chosen = dataclasses.replace(config, output=Path("out"))
    assert [one.output_folder("m") for one in chosen.split()] == [Path("out/onnx-arm"), Path("out/tflite-arm")]
    single = dataclasses.replace(chosen, targets=("onnx-arm",))
    assert [one.output_folder("m") for one in single.split()] == [Path("out")]


@pytest.mark.parametrize(
    ("text", "size"),
    [("4M", 4_000_000), ("300k", 300_000), ("1.5MiB", 1_572_864), ("2Ki", 2048), ("17", 17), (17, 17), ("1 GB", 10**9)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-4M", "4Q", "4i", "4 M M", "1e3", True])
def test_sizes_that_are_none(text: str | bool) -> None:
    with pytest.raises(ConfigError, match="must be a size such as"):
        parse_size(text)


def test_flags_and_variables_are_unique_and_documented() -> None:
    every = [*settings_of(BuildConfig).values(), *settings_of(Budget).values()]
    assert len({s.flag for s in every}) == len({s.variable for s in every}) == len(every)
    assert all(s.help for s in every)


def test_bits_of_layers_are_a_table_in_a_file_and_pairs_elsewhere() -> None:
    write('[layer_bits]\n"features.3.*" = "w4a8"\nfc = "w8a8"\n')
    assert resolve({}, {}).config.layer_bits == ("features.3.*=w4a8", "fc=w8a8")
    assert resolve({"layer_bits": ("a=w2a8",)}, {}).config.layer_bits == ("a=w2a8",)
    assert resolve({}, {"EDGEQ_LAYER_BITS": "a=w2a8,b.*=w4a8"}).config.layer_bits == ("a=w2a8", "b.*=w4a8")
    for wrong in ("a", "=w4a8", "a=w4", "a=4/8"):
        with pytest.raises(ConfigError, match=r"features.3"):
            resolve({"layer_bits": (wrong,)}, {})
    write("[layer_bits]\nfc = 4\n")
    with pytest.raises(ConfigError, match=r"edgeq.toml layer_bits 'fc=4'"):
        resolve({}, {})
