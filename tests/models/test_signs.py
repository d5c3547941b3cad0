"""The shipped networks: their files load safely, fit, have the promised shape and score what their cards say."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgeq.model.modeltoml import DEFAULT_MODEL, ModelFile, read_model_file, shipped_model, shipped_models
from edgeq.model.pycode import import_callable

NETWORKS = ("signs-mobilenetv2", "signs-fixup", "signs-vit")

Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


def _network(loaded: ModelFile) -> nn.Module:
    network: nn.Module = import_callable(loaded.factory)(**loaded.arguments)
    network.load_state_dict(load_file(loaded.weights), strict=False)
    return network.eval()


def test_default_is_shipped() -> None:
    assert DEFAULT_MODEL in shipped_models()


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_fit_and_are_small(name: str) -> None:
    loaded = read_model_file(shipped_model(name))
    assert loaded.weights.suffix == ".safetensors"
    assert loaded.weights.stat().st_size < 3_000_000
    network = import_callable(loaded.factory)(**loaded.arguments)
    missing, unexpected = network.load_state_dict(load_file(loaded.weights), strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)


@pytest.fixture(scope="module")
def images() -> Labelled:
    """200 of the 2,000 evaluation images, five of each class."""
    loaded = read_model_file(shipped_model(DEFAULT_MODEL))
    assert loaded.spec.evaluation is not None
    made: Labelled = import_callable(loaded.spec.evaluation)(200)
    return made


@pytest.mark.parametrize(
    ("name", "whole", "some"),
    [("signs-mobilenetv2", 97.30, 199), ("signs-fixup", 95.55, 191), ("signs-vit", 96.35, 197)],
)
def test_accuracy_leaves_room_for_damage_to_show(name: str, whole: float, some: int, images: Labelled) -> None:
    """`some` of the 200 were right when `whole` percent of the 2,000 were, which the card says."""
    loaded = read_model_file(shipped_model(name))
    network, (pixels, labels) = _network(loaded), images
    assert len(pixels) == 200
    with torch.inference_mode():
        answers = network(torch.from_numpy(loaded.spec.normalise(pixels))).argmax(1).numpy()
    assert int((answers == labels).sum()) == pytest.approx(some, abs=1)  # other processors round differently
    card = (loaded.path.parent / "README.md").read_text(encoding="utf-8")
    assert f"top-1 on 2,000 test images | {whole:.2f} % |" in card
    assert 93.0 <= whole <= 98.0


def test_mobilenet_has_the_familys_shape() -> None:
    network = _network(read_model_file(shipped_model("signs-mobilenetv2")))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert sum(c.groups == c.in_channels > 1 for c in convolutions) >= 8
    assert any(isinstance(m, nn.ReLU6) for m in network.modules())
    assert sum(getattr(m, "residual", False) for m in network.modules()) >= 4


def test_fixup_holds_no_normalisation_and_no_scalars() -> None:
    network = _network(read_model_file(shipped_model("signs-fixup")))
    assert {type(m) for m in network.modules() if not list(m.children())} <= {nn.Conv2d, nn.Linear, nn.Identity}
    exported = torch.export.export(network, (torch.zeros(1, 3, 64, 64),))
    calls = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert calls <= {
        "aten.conv2d.default",
        "aten.relu.default",
        "aten.add.Tensor",
        "aten.adaptive_avg_pool2d.default",
        "aten.flatten.using_ints",
        "aten.linear.default",
    }


def test_vit_begins_as_the_mobilenet_and_holds_no_batch_norm() -> None:
    vit, mobilenet = (_network(read_model_file(shipped_model(name))) for name in ("signs-vit", "signs-mobilenetv2"))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in vit.modules())
    x = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = vit.stem(x), mobilenet.blocks[:6](mobilenet.stem(x))
    assert ours.shape == (2, 32, 8, 8)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.fixture
def recipe() -> ModuleType:
    folder = str(Path(__file__).resolve().parents[2] / "models" / "signs")
    sys.path.insert(0, folder)
    try:
        import recipe as module  # type: ignore[import-not-found]
    finally:
        sys.path.remove(folder)
    return module  # type: ignore[no-any-return]


@pytest.mark.parametrize("place", [(2, 0), (1, 1)], ids=["after an epoch", "within an epoch"])
def test_interrupted_training_resumes_to_the_same_weights(
    place: tuple[int, int], recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "ROOT", tmp_path)
    monkeypatch.setattr("resume.INTERVAL", 0.0)  # a checkpoint after every step
    settings = recipe.Settings(epochs=3, images=40, batch=20)
    factory = import_callable(read_model_file(shipped_model("signs-mobilenetv2")).factory)

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        network: nn.Module = factory()
        return network

    monkeypatch.setattr(recipe, "render_set", lambda count, **_: _noise(count))
    whole, stopped, resumed = fresh(), fresh(), fresh()
    recipe.train(whole, settings)
    checkpoint = tmp_path / "checkpoint"
    keep = recipe.Run.keep

    def interrupt(run: object, epoch: int, step: int, rng: object = None) -> None:
        keep(run, epoch, step, rng)
        if (epoch, step) == place:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(recipe.Run, "keep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            recipe.train(stopped, settings, checkpoint)
    recipe.train(resumed, settings, checkpoint)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def _noise(count: int) -> Labelled:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 64, 64, 3)).astype(np.uint8), np.arange(count) % 40
