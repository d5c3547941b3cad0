"""The model contract: every form of MODEL, and every way a model file can be wrong."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeq.errors import ConfigError, UnsupportedError
from edgeq.model.load import load_model
from edgeq.model.modeltoml import DEFAULT_MODEL, read_model_file, shipped_models
from edgeq.model.pycode import import_callable
from edgeq.model.spec import ModelSpec
from edgeq.model.weights import digest, read_weights

NET = """
import torch
from torch import nn

def tiny(num_classes=4):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))

def carries_a_config():
    net = tiny()
    net.default_cfg = {"input_size": (3, 8, 8), "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    return net

def breaks():
    raise RuntimeError("first line\\nno such layer")

def leaves():
    raise SystemExit(3)

def number():
    return 3
"""

TOML = """
name = "tiny"
[network]
factory = "net.py:tiny"
arguments = { num_classes = 4 }
weights = "tiny.safetensors"
[input]
shape = [3, 8, 8]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[output]
task = "classification"
classes = 4
[evaluation]
images = "test.npz"
"""


def tiny() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "model.toml").write_text(TOML)
    save_file(tiny().state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path


def edited(folder: Path, before: str, after: str) -> str:
    assert before in TOML
    (folder / "model.toml").write_text(TOML.replace(before, after))
    return str(folder / "model.toml")


def fails(reference: str, *parts: str, **options: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(reference, **options)  # type: ignore[arg-type]
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_status == 2
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize("form", ["model.toml", "."])
def test_model_toml_gives_the_network_with_its_weights(folder: Path, form: str) -> None:
    loaded = load_model(str(folder / form))
    assert loaded.spec == ModelSpec(
        name="tiny",
        input_shape=(3, 8, 8),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        classes=4,
        evaluation=str(folder / "test.npz"),
    )
    assert isinstance(loaded.module, nn.Module)
    assert not loaded.module.training
    expected = tiny().eval()
    sample = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded.module(sample), expected(sample))


def test_same_weights_in_another_container_have_the_same_digest(folder: Path) -> None:
    digest = load_model(str(folder)).weights_sha256()
    wrapped = {"state_dict": {f"module.{k}": v for k, v in tiny().state_dict().items()}, "epoch": 3}
    torch.save(wrapped, folder / "tiny.pth")
    assert load_model(str(folder), weights=str(folder / "tiny.pth")).weights_sha256() == digest
    state = tiny().state_dict()
    state["5.bias"] = state["5.bias"] + 1
    save_file(state, folder / "tiny.safetensors")
    assert load_model(str(folder)).weights_sha256() != digest


def test_random_weights_are_the_same_every_time_and_leave_torch_s_generator_alone(folder: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first = load_model(str(folder), weights="random").weights_sha256()
    assert torch.equal(torch.rand(1), expected)
    assert load_model(str(folder), weights="random").weights_sha256() == first
    assert load_model(str(folder)).weights_sha256() != first


def test_factory_in_a_file(folder: Path) -> None:
    loaded = load_model(f"{folder}/net.py:tiny", weights=str(folder / "tiny.safetensors"), input_shape=(3, 8, 8))
    assert (loaded.spec.name, loaded.spec.classes, loaded.spec.assumed) == ("net-tiny", 4, ("mean", "std", "task"))
    stated = load_model(f"{folder}/net.py:tiny", input_shape=(3, 8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    assert (stated.spec.input_range(), stated.spec.assumed) == ((0.0, 1.0), ("task",))


def test_factory_that_carries_its_preprocessing(folder: Path) -> None:
    spec = load_model(f"{folder}/net.py:carries_a_config").spec
    assert (spec.input_shape, spec.mean, spec.assumed) == ((3, 8, 8), (0.1, 0.2, 0.3), ("task",))


def test_factory_in_a_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "edgeq_test_package").mkdir()
    (folder / "edgeq_test_package" / "__init__.py").write_text("")
    (folder / "edgeq_test_package" / "nets.py").write_text(NET)
    monkeypatch.syspath_prepend(str(folder))
    assert load_model("edgeq_test_package.nets:tiny", input_shape=(3, 8, 8)).spec.name == "nets-tiny"
    fails("edgeq_test_package.nots:tiny", "cannot import edgeq_test_package.nots", "ModuleNotFoundError")


def test_packages_in_the_working_directory_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "edgeq_local_package").mkdir()
    (folder / "edgeq_local_package" / "nets.py").write_text(NET)
    monkeypatch.chdir(folder)
    before = list(sys.path)
    assert load_model("edgeq_local_package.nets:tiny", input_shape=(3, 8, 8)).spec.name == "nets-tiny"
    assert sys.path == before


def test_python_is_not_imported_twice_under_one_name(tmp_path: Path) -> None:
    for number, name in ((4, "a"), (5, "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text(NET.replace("num_classes=4", f"num_classes={number}"))
        assert load_model(f"{tmp_path}/{name}/net.py:tiny", input_shape=(3, 8, 8)).spec.classes == number
    assert str(tmp_path / "a") not in sys.path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    """Any name with an accent is one to a process that runs with ``LC_ALL=C``."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    (folder / "net.py").write_text("def make():\n    return 3\n")
    assert import_callable(f"{folder}/net.py:make")() == 3


def test_every_shipped_model_file_is_valid() -> None:
    names = shipped_models()
    assert DEFAULT_MODEL in names
    for name in names:
        assert load_model(name).spec.name


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        ("classes = 4", "clases = 4", ("unknown key 'clases'", "[output]", "did you mean 'classes'?")),
        ("[evaluation]", "[evalution]", ("unknown key 'evalution'", "did you mean 'evaluation'?")),
        ("shape = [3, 8, 8]", "", ("key 'shape' is missing", "[input]")),
        ("shape = [3, 8, 8]", "shape = [3]", ("input shape [3]", "model.toml")),
        ("shape = [3, 8, 8]", "shape = [1, 8, 8]", ("mean", "one per channel")),
        ("shape = [3, 8, 8]", 'shape = "3x8x8"', ("must be a list of integers",)),
        ("shape = [3, 8, 8]", "shape = [3, 8, 8]\ncrop = 7", ("crop = 7", "8 x 8")),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25, 0.0, 0.25]", ("std", "must be positive")),
        ("\nclasses = 4", "\nclasses = 5", ("has 4 outputs", "classes = 5")),
        ('task = "classification"', 'task = "clasification"', ("did you mean 'classification'?",)),
        ('name = "tiny"', 'name = "../tiny"', ("no slash",)),
        ('name = "tiny"', 'name = "ti\\u001b[31mny"', ("name 'ti\\x1b[31mny'", "control character")),
        ('name = "tiny"', f'name = "{"x" * 200}"', ("must have 1 to 150 bytes",)),
        ('name = "tiny"', "name = tiny", ("is not valid TOML",)),
        ("net.py:tiny", "net.py", ("must be file.py:callable",)),
        ("net.py:tiny", "gone.py:tiny", ("gone.py does not exist",)),
        ("net.py:tiny", "net.py:huge", ("has no callable 'huge'",)),
        ("{ num_classes = 4 }", "{ classes = 4 }", ("net.py:tiny failed", "unexpected keyword argument")),
        ("tiny.safetensors", "gone.safetensors", ("gone.safetensors does not exist",)),
        ("tiny.safetensors", "net.py", ("is none of .safetensors",)),
        ("tiny.safetensors", "${EDGEQ_NOT_SET}/tiny.safetensors", ("environment variable EDGEQ_NOT_SET is not set",)),
    ],
)
def test_mistakes_in_model_toml(folder: Path, before: str, after: str, parts: tuple[str, ...]) -> None:
    fails(edited(folder, before, after), *parts)


def test_variables_stand_in_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_TEST_FOLDER", str(folder / "data"))
    path = edited(folder, '"test.npz"', '"${EDGEQ_TEST_FOLDER}/test.npz"')
    assert read_model_file(Path(path)).spec.evaluation == str(folder / "data" / "test.npz")


def test_wrong_input_shape_is_the_network_s_own_complaint(folder: Path) -> None:
    fails(
        f"{folder}/net.py:tiny", "net-tiny cannot take an input of shape [1, 8, 8]", "channels", input_shape=(1, 8, 8)
    )
    fails(f"{folder}/net.py:tiny", "--input-shape")


@pytest.mark.parametrize(
    ("name", "part"), [("breaks", "RuntimeError: no such layer"), ("leaves", "SystemExit"), ("number", "returned int")]
)
def test_factories_that_fail(folder: Path, name: str, part: str) -> None:
    fails(f"{folder}/net.py:{name}", f"net.py:{name}", part, input_shape=(3, 8, 8))


def test_weights_that_do_not_fit_name_the_keys(folder: Path) -> None:
    state = tiny().state_dict()
    state["extra.weight"] = torch.zeros(3)
    state["5.weight"] = torch.zeros(7, 4)
    del state["0.bias"]
    save_file(state, folder / "tiny.safetensors")
    fails(str(folder), "missing 0.bias", "unexpected extra.weight", "5.weight is [7, 4], the network's [4, 4]")


def test_many_wrong_keys_are_counted_not_listed(folder: Path) -> None:
    save_file({f"x{k}": v for k, v in tiny().state_dict().items()}, folder / "tiny.safetensors")
    fails(str(folder), "missing 0.weight, 0.bias, 1.weight and ", " more; unexpected ")


def test_step_counters_may_be_missing(folder: Path) -> None:
    save_file({k: v for k, v in tiny().state_dict().items() if "num_batches" not in k}, folder / "tiny.safetensors")
    assert load_model(str(folder)).spec.classes == 4


def test_corrupt_weights(folder: Path) -> None:
    whole = (folder / "tiny.safetensors").read_bytes()
    for broken in (b"", b"not a tensor in sight", whole[: len(whole) // 2]):
        (folder / "tiny.safetensors").write_bytes(broken)
        fails(str(folder), "tiny.safetensors cannot be read")
    torch.save(tiny().state_dict(), folder / "tiny.pth")
    whole = (folder / "tiny.pth").read_bytes()
    for broken in (b"", b"neither", whole[: len(whole) // 2]):
        (folder / "cut.pth").write_bytes(broken)
        fails(str(folder), "cut.pth", weights=str(folder / "cut.pth"))


class Payload:
    """What a hostile checkpoint does when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.mark,))


def test_checkpoints_that_carry_code_are_refused_unrun(folder: Path) -> None:
    torch.save({"state_dict": Payload(folder / "ran")}, folder / "evil.pth")
    fails(str(folder), "evil.pth holds more than tensors", "safetensors", weights=str(folder / "evil.pth"))
    torch.save(tiny(), folder / "module.pth")
    fails(str(folder), "module.pth holds more than tensors", weights=str(folder / "module.pth"))
    assert not (folder / "ran").exists()


def test_weights_that_are_not_finite(folder: Path) -> None:
    state = tiny().state_dict()
    state["5.weight"][0, 0] = float("nan")
    save_file(state, folder / "tiny.safetensors")
    fails(str(folder), "not finite", "5.weight")


def test_no_state_dict(folder: Path) -> None:
    torch.save([1, 2], folder / "list.pth")
    fails(str(folder), "holds no state dict: it is a list", weights=str(folder / "list.pth"))
    torch.save({"epoch": 3, "loss": 0.5}, folder / "notes.pth")
    fails(str(folder), "holds no state dict: it is a dict of epoch, loss", weights=str(folder / "notes.pth"))


def test_the_state_dict_inside_a_training_checkpoint(folder: Path) -> None:
    state = tiny().state_dict()
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    torch.save({"model": wrapped, "optimizer": {"state": {}}, "epoch": 3}, folder / "last.pth")
    assert digest(read_weights(folder / "last.pth")) == digest(state)


def test_a_torchscript_program_is_called_one(folder: Path) -> None:
    torch.jit.save(torch.jit.trace(tiny().eval(), torch.zeros(1, 3, 8, 8)), folder / "script.pt")
    fails(str(folder), "script.pt is a TorchScript program", "state_dict()", weights=str(folder / "script.pt"))


def test_names_that_differ_by_a_prefix_say_so(folder: Path) -> None:
    longer = {f"backbone.{name}": tensor for name, tensor in tiny().state_dict().items()}
    torch.save(longer | {"loss.weight": torch.zeros(1)}, folder / "longer.pth")
    fails(str(folder), "the file's names begin with 'backbone.'", weights=str(folder / "longer.pth"))
    (folder / "net.py").write_text(NET + "\ndef wrapped():\n    return nn.Sequential(tiny())\n")
    torch.save(tiny().state_dict(), folder / "shorter.pth")
    reference, weights = f"{folder}/net.py:wrapped", str(folder / "shorter.pth")
    fails(reference, "the network's names begin with '0.'", weights=weights, input_shape=(3, 8, 8))


def test_a_network_of_two_inputs_is_not_supported(folder: Path) -> None:
    code = """
class Two(nn.Module):
    def forward(self, image, other):
        return image + other

def two():
    return Two()
"""
    (folder / "net.py").write_text(NET + code)
    with pytest.raises(UnsupportedError, match="does not take one image alone: missing a required argument: 'other'"):
        load_model(f"{folder}/net.py:two", input_shape=(3, 8, 8))


@pytest.mark.parametrize(
    "reference", ["no-such-model", "weights.pth", "net.onnx", "torchvision:mobilenet_v22", "torchvision:"]
)
def test_references_that_name_nothing(reference: str) -> None:
    fails(reference, reference.partition(":")[2] or "torchvision" if ":" in reference else reference, weights="random")


def test_a_file_or_folder_alone_is_told_what_is_missing(folder: Path) -> None:
    fails(f"{folder}/net.py", "net.py:FUNCTION")
    (folder / "model.toml").unlink()
    fails(str(folder), "holds no model.toml")


def test_means_of_pixels_of_0_to_255_are_refused(folder: Path) -> None:
    fails(str(folder), "stated on the 0..1 scale", "divide mean and std by 255", mean=(123.7, 116.3, 103.5))


def test_a_near_miss_is_suggested() -> None:
    fails("torchvision:mobilenet_v22", "did you mean 'mobilenet_v2'?", weights="random")


def test_shipped_models_are_found_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.model.modeltoml.data_folder", lambda name: folder.parent)
    assert folder.name in shipped_models()
    assert load_model(folder.name).spec.name == "tiny"
    fails(folder.name + "s", f"unknown model '{folder.name}s'", f"did you mean '{folder.name}'?", "torchvision:NAME")


def test_torchvision_random_and_from_file(tmp_path: Path) -> None:
    random = load_model("torchvision:squeezenet1_1", weights="random")
    assert (random.spec.input_shape, random.spec.resize, random.spec.classes) == ((3, 224, 224), 256, 1000)
    assert isinstance(random.module, nn.Module)
    torch.save(random.module.state_dict(), tmp_path / "mine.pt")
    again = load_model("torchvision:squeezenet1_1", weights=str(tmp_path / "mine.pt"), input_shape=(3, 96, 96))
    assert again.weights_sha256() == random.weights_sha256()
    assert (again.spec.input_shape, again.spec.resize, again.spec.crop) == ((3, 96, 96), None, None)


def test_published_weights_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    fails("torchvision:squeezenet1_1", "cannot fetch the published weights of squeezenet1_1", "--weights FILE")


def test_exported_program(tmp_path: Path) -> None:
    program = torch.export.export(tiny().eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, tmp_path / "tiny.pt2")
    loaded = load_model(str(tmp_path / "tiny.pt2"))
    assert loaded.weights_sha256() == digest(program.state_dict)
    assert isinstance(loaded.module, torch.export.ExportedProgram)
    assert (loaded.spec.name, loaded.spec.input_shape, loaded.spec.classes) == ("tiny", (3, 8, 8), 4)
    sample = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded.module.module()(sample), tiny().eval()(sample))
    fails(str(tmp_path / "tiny.pt2"), "was exported for input [3, 8, 8]", input_shape=(3, 9, 9))
    fails(str(tmp_path / "tiny.pt2"), "carries its own weights", weights="random")


def test_bad_exported_programs(tmp_path: Path) -> None:
    fails(str(tmp_path / "gone.pt2"), "does not exist")
    (tmp_path / "noise.pt2").write_bytes(b"noise")
    fails(str(tmp_path / "noise.pt2"), "is no exported program")
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as archive:
        archive.writestr("hello", "there")
    fails(str(tmp_path / "other.pt2"), "is no exported program")
    with zipfile.ZipFile(tmp_path / "code.pt2", "w") as archive:
        archive.writestr("code/data/aotinductor/model/run.so", "there")
    fails(str(tmp_path / "code.pt2"), "holds code")


def test_pixels_become_input_as_torchvision_does() -> None:
    from edgeq.model.load import import_torchvision

    transforms = import_torchvision().transforms.functional
    spec = ModelSpec("x", (3, 4, 5), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    expected = transforms.normalize(pixels.permute(0, 3, 1, 2).float() / 255, spec.mean, spec.std)
    assert torch.allclose(torch.from_numpy(spec.normalise(pixels.numpy())), expected, atol=1e-6)
    low, high = spec.input_range()
    assert (low, high) == pytest.approx((-0.485 / 0.229, (1 - 0.406) / 0.225))
