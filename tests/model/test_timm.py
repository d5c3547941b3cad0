"""``timm:NAME``: what timm says of its networks becomes the spec, and nothing goes out to fetch weights."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgeq.errors import ConfigError
from edgeq.model.load import load_model

SETTINGS = {
    "input_size": (3, 20, 20),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "crop_pct": 0.875,
}


class Named(nn.Sequential):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem, self.pool, self.flat = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(4, classes)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The five calls of timm that edgeq makes, for two networks of which one has weights with a tag."""

    def create(name: str, *, pretrained: bool, num_classes: int = 7) -> nn.Module:
        assert not pretrained
        network = Named(num_classes)
        size = (3, 28, 28) if name.endswith(".large") else (3, 20, 20)
        network.pretrained_cfg = SETTINGS | {"input_size": size}  # type: ignore[assignment]
        return network

    module = ModuleType("timm")
    module.list_models = lambda: ["small_net", "smaller_net"]  # type: ignore[attr-defined]
    module.list_pretrained = lambda pattern: ["small_net.large"]  # type: ignore[attr-defined]
    module.get_pretrained_cfg = lambda name: SimpleNamespace(classifier="head")  # type: ignore[attr-defined]
    module.create_model = create  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def fails(reference: str, *parts: str, weights: str | None = "random") -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(reference, weights=weights)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    fails("timm:resnet18", "timm is not installed", "pip install timm")


@pytest.mark.usefixtures("stand_in")
def test_preprocessing_is_timm_s() -> None:
    spec = load_model("timm:small_net", weights="random").spec
    assert (spec.name, spec.input_shape, spec.resize, spec.crop) == ("small_net", (3, 20, 20), 22, 20)
    assert (spec.mean, spec.std, spec.classes, spec.assumed) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 7, ())
    large = load_model("timm:small_net.large", weights="random").spec
    assert (large.name, large.input_shape, large.resize) == ("small_net.large", (3, 28, 28), 32)


@pytest.mark.usefixtures("stand_in")
def test_classes_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(Named(3).state_dict(), tmp_path / "mine.safetensors")
    loaded = load_model("timm:small_net", weights=str(tmp_path / "mine.safetensors"))
    assert loaded.spec.classes == 3
    save_file(Named(3).stem.state_dict(), tmp_path / "other.safetensors")
    fails("timm:small_net", "do not fit the network", weights=str(tmp_path / "other.safetensors"))


@pytest.mark.usefixtures("stand_in")
def test_names_timm_does_not_have() -> None:
    fails("timm:smal_net", "unknown timm model 'smal_net'", "did you mean 'small_net'?")
    fails("timm:", "unknown timm model ''", "choose from small_net, smaller_net")
    fails("timm:small_net.larg", "no weights 'larg' of small_net", "did you mean 'small_net.large'?")
    fails("timm:small_net", "needs weights", "--weights FILE", weights=None)


def test_timm_itself_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeq.model.torchvision import import_torchvision

    import_torchvision()
    pytest.importorskip("timm")

    def offline(*_: object) -> None:
        raise AssertionError("something was fetched")

    monkeypatch.setattr(socket.socket, "connect", offline)
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    random = load_model("timm:lcnet_050.ra2_in1k", weights="random", input_shape=(3, 64, 64))
    spec = load_model("timm:tf_mobilenetv3_small_minimal_100", weights="random").spec
    assert (spec.mean, spec.input_shape, spec.resize, spec.crop) == ((0.5,) * 3, (3, 224, 224), 256, 224)
    assert isinstance(random.module, nn.Module)
    state = {
        name: tensor[:5] if "classifier" in name else tensor for name, tensor in random.module.state_dict().items()
    }
    save_file(state, tmp_path / "mine.safetensors")
    mine = load_model("timm:lcnet_050", weights=str(tmp_path / "mine.safetensors"), input_shape=(3, 64, 64))
    assert (mine.spec.classes, mine.spec.input_shape) == (5, (3, 64, 64))
