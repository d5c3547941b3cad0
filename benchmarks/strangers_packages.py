"""Networks for faces, sound, text, pictures and persons, out of the packages that people install for them.

A row is a name, the class or function that makes the network, its arguments, and the shape of its input ``(C, H, W)``
or ``(C, T)``. Sizes are the packages' own where a small network has one, else fewer blocks of the same kind. Nothing is
downloaded: weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgeq.model.torchvision import import_torchvision

__all__ = ["PACKAGED", "made"]

Row = tuple[str, str, dict[str, Any], tuple[int, ...]]

_SR = "spandrel.architectures"
_OCR = "doctr.models.recognition"
_TEXT = "doctr.models.detection"
_PLAIN = {"pretrained": False}
_DETECTS = _PLAIN | {"pretrained_backbone": False, "exportable": True}
_READS = _PLAIN | {"pretrained_backbone": False, "exportable": True, "input_shape": (3, 32, 128)}

PACKAGED: tuple[Row, ...] = (
    # faces
    ("facexlib RetinaFace mobile0.25", "facexlib.detection.retinaface:RetinaFace",
     {"network_name": "mobile0.25", "device": torch.device("cpu")}, (3, 96, 96)),
    ("facexlib RetinaFace resnet50", "facexlib.detection.retinaface:RetinaFace",
     {"device": torch.device("cpu")}, (3, 96, 96)),
    ("facexlib BiSeNet", "facexlib.parsing.bisenet:BiSeNet", {"num_class": 19}, (3, 128, 128)),
    ("facexlib ParseNet", "facexlib.parsing.parsenet:ParseNet", {}, (3, 128, 128)),
    ("facexlib FAN", "strangers_packages:fan", {}, (3, 256, 256)),
    ("facexlib MODNet", "strangers_packages:modnet", {}, (3, 128, 128)),
    ("facexlib HopeNet", "facexlib.headpose.hopenet_arch:HopeNet",
     {"block": "torchvision.models.resnet:Bottleneck", "layers": [3, 4, 6, 3], "num_bins": 66}, (3, 224, 224)),
    ("facexlib ArcFace IR-50", "facexlib.recognition.arcface_arch:Backbone",
     {"num_layers": 50, "drop_ratio": 0.4, "mode": "ir_se"}, (3, 112, 112)),
    ("kornia YuNet", "kornia.models.yunet:YuNet", {"phase": "test", "pretrained": False}, (3, 96, 96)),
    # persons
    ("torchreid HACNN", "torchreid.reid.models.hacnn:HACNN", {"num_classes": 751, "use_gpu": False}, (3, 160, 64)),
    *((f"torchreid {name}", f"torchreid.reid.models.{module}:{name}", _PLAIN | {"num_classes": 751}, (3, 256, 128))
      for module, name in (("osnet", "osnet_x0_25"), ("osnet", "osnet_ibn_x1_0"), ("osnet_ain", "osnet_ain_x0_25"),
                           ("mlfn", "mlfn"), ("pcb", "pcb_p6"), ("mudeep", "MuDeep"))),
    # features of pictures
    *((f"kornia {name}", f"kornia.feature:{name}", _PLAIN, (1, 32, 32)) for name in ("HardNet", "HyNet", "SOSNet")),
    ("kornia TFeat", "kornia.feature:TFeat", _PLAIN, (1, 32, 32)),
    ("kornia DexiNed", "kornia.models.dexined:DexiNed", _PLAIN, (3, 96, 96)),
    # super-resolution and restoration
    ("spandrel SRVGG compact", f"{_SR}.Compact.__arch.SRVGG:SRVGGNetCompact", {"num_conv": 16}, (3, 32, 32)),
    ("spandrel RealESRGAN RRDB", f"{_SR}.ESRGAN.__arch.RRDB:RRDBNet", {"num_blocks": 6}, (3, 32, 32)),
    ("spandrel SwinIR", f"{_SR}.SwinIR.__arch.SwinIR:SwinIR",
     {"img_size": 32, "window_size": 8, "depths": [2, 2], "num_heads": [6, 6], "embed_dim": 60, "upscale": 2,
      "upsampler": "pixelshuffledirect"}, (3, 32, 32)),
    ("spandrel Swin2SR", f"{_SR}.Swin2SR.__arch.Swin2SR:Swin2SR",
     {"img_size": 32, "window_size": 8, "depths": [2, 2], "num_heads": [6, 6], "embed_dim": 60, "upscale": 2,
      "upsampler": "pixelshuffledirect"}, (3, 32, 32)),
    ("spandrel SPAN", f"{_SR}.SPAN.__arch.span:SPAN", {"num_in_ch": 3, "num_out_ch": 3}, (3, 32, 32)),
    ("spandrel SAFMN", f"{_SR}.SAFMN.__arch.safmn:SAFMN", {"dim": 36}, (3, 32, 32)),
    ("spandrel DnCNN", f"{_SR}.DnCNN.__arch.network_dncnn:DnCNN", {}, (1, 32, 32)),
    ("spandrel NAFNet", f"{_SR}.NAFNet.__arch.NAFNet_arch:NAFNet",
     {"width": 16, "enc_blk_nums": [1, 1, 1], "dec_blk_nums": [1, 1, 1]}, (3, 64, 64)),
    ("spandrel RCAN", f"{_SR}.RCAN.__arch.rcan_arch:RCAN", {"n_resgroups": 2, "n_resblocks": 4, "scale": 2},
     (3, 32, 32)),
    ("spandrel OmniSR", f"{_SR}.OmniSR.__arch.OmniSR:OmniSR", {"up_scale": 2}, (3, 32, 32)),
    ("spandrel PLKSR", f"{_SR}.PLKSR.__arch.PLKSR:PLKSR", {"n_blocks": 6, "upscaling_factor": 2}, (3, 32, 32)),
    ("spandrel SwiftSRGAN", f"{_SR}.SwiftSRGAN.__arch.SwiftSRGAN:Generator", {"upscale_factor": 2}, (3, 32, 32)),
    ("spandrel FBCNN", f"{_SR}.FBCNN.__arch.FBCNN:FBCNN", {}, (3, 64, 64)),
    ("spandrel RealCUGAN", f"{_SR}.RealCUGAN.__arch.upcunet_v3:UpCunet2x", {}, (3, 64, 64)),
    # text
    ("easyocr recognizer, VGG", "strangers_packages:easyocr", {}, (1, 64, 128)),
    ("easyocr CRAFT", "easyocr.craft:CRAFT", {}, (3, 96, 96)),
    ("doctr crnn_mobilenet_v3_small", f"{_OCR}.crnn.pytorch:crnn_mobilenet_v3_small", _READS, (3, 32, 128)),
    ("doctr vitstr_small", f"{_OCR}.vitstr.pytorch:vitstr_small", _READS, (3, 32, 128)),
    ("doctr viptr_tiny", f"{_OCR}.viptr.pytorch:viptr_tiny", _READS, (3, 32, 128)),
    ("doctr db_mobilenet_v3_large", f"{_TEXT}.differentiable_binarization.pytorch:db_mobilenet_v3_large", _DETECTS,
     (3, 128, 128)),
    ("doctr linknet_resnet18", f"{_TEXT}.linknet.pytorch:linknet_resnet18", _DETECTS, (3, 128, 128)),
    ("doctr fast_tiny", f"{_TEXT}.fast.pytorch:fast_tiny", _DETECTS, (3, 128, 128)),
    # sound and other signals
    ("torchaudio Wav2Letter", "torchaudio.models:Wav2Letter", {"input_type": "mfcc", "num_features": 13}, (13, 100)),
    ("torchaudio ConvTasNet", "torchaudio.models:ConvTasNet",
     {"enc_num_feats": 128, "msk_num_hidden_feats": 128, "msk_num_layers": 4, "msk_num_stacks": 1}, (1, 4000)),
    ("torchaudio Conformer", "strangers_packages:conformer", {}, (64, 80)),
    ("conformer Conformer", "conformer:Conformer",
     {"dim": 64, "depth": 2, "dim_head": 16, "heads": 4, "conv_kernel_size": 31}, (64, 64)),
    ("torchaudio DeepSpeech", "torchaudio.models:DeepSpeech", {"n_feature": 40, "n_hidden": 128}, (1, 50, 40)),
    ("speechbrain ECAPA-TDNN", "speechbrain.lobes.models.ECAPA_TDNN:ECAPA_TDNN",
     {"input_size": 80, "channels": [128, 128, 128, 128, 384]}, (100, 80)),
    ("speechbrain x-vector", "speechbrain.lobes.models.Xvector:Xvector", {"in_channels": 40}, (100, 40)),
    ("torchvggish VGGish", "strangers_packages:vggish", {}, (1, 96, 64)),
    ("pytorch-tcn TCN", "pytorch_tcn:TCN", {"num_inputs": 9, "num_channels": [32, 32, 32]}, (9, 64)),
    ("openunmix", "openunmix.model:OpenUnmix", {"nb_bins": 128, "hidden_size": 64}, (2, 128, 40)),
    ("transformers PatchTST", "strangers_packages:patch_tst", {}, (96, 7)),
    ("transformers PatchTSMixer", "strangers_packages:patch_mixer", {}, (96, 7)),
)  # fmt: skip


def made(row: Row) -> Callable[[tuple[int, ...]], nn.Module]:
    """What makes the network of `row`, for `Stranger.make`."""
    _, place, arguments, _ = row

    def make(shape: tuple[int, ...]) -> nn.Module:
        import_torchvision()
        given = {name: _object(value) if _is_place(value) else value for name, value in arguments.items()}
        network: nn.Module = _object(place)(**given)
        return network

    return make


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and ":" in value


def _object(place: str) -> Any:
    """The thing that ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


class _First(nn.Module):
    """A network of Hugging Face, or one that takes lengths too, as its user calls it on one input."""

    def __init__(self, network: nn.Module, call: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.network = network
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.network, x)


def conformer() -> nn.Module:
    """Two blocks, over a length that is known."""
    models = importlib.import_module("torchaudio.models")
    network = models.Conformer(80, num_heads=4, ffn_dim=128, num_layers=2, depthwise_conv_kernel_size=31)
    return _First(network, lambda net, x: net(x, torch.full((x.shape[0],), x.shape[1]))[0])


def easyocr() -> nn.Module:
    """Its English recognizer; the text that it is given is not read."""
    network = importlib.import_module("easyocr.model.vgg_model").Model(1, 256, 256, 97)
    return _First(network, lambda net, x: net(x, None))


def fan() -> nn.Module:
    """Its last heatmaps of landmarks."""
    network = importlib.import_module("facexlib.alignment.awing_arch").FAN(device="cpu")
    return _First(network, lambda net, x: net(x)[0][-1])


def modnet() -> nn.Module:
    """Its matte alone, as inference computes it."""
    network = importlib.import_module("facexlib.matting.modnet").MODNet(backbone_pretrained=False)
    return _First(network, lambda net, x: net(x, True)[2])


def vggish() -> nn.Module:
    """Without the principal components behind it, which are downloaded."""
    package = importlib.import_module("torchvggish.torchvggish")
    network: nn.Module = package.VGG(package.make_layers(), postprocess=False)
    return network


def patch_tst() -> nn.Module:
    """A forecast of 24 steps of 7 channels."""
    models = importlib.import_module("transformers")
    sizes = {"num_input_channels": 7, "context_length": 96, "prediction_length": 24, "patch_length": 16}
    sizes |= {"patch_stride": 8, "d_model": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "ffn_dim": 64}
    network = models.PatchTSTForPrediction(models.PatchTSTConfig(**sizes, scaling=None))
    return _First(network, lambda net, x: net(past_values=x).prediction_outputs)


def patch_mixer() -> nn.Module:
    """A forecast of 24 steps of 7 channels."""
    models = importlib.import_module("transformers")
    sizes = {"num_input_channels": 7, "context_length": 96, "prediction_length": 24, "patch_length": 16}
    sizes |= {"patch_stride": 16, "d_model": 32, "num_layers": 2}
    network = models.PatchTSMixerForPrediction(models.PatchTSMixerConfig(**sizes, scaling=None))
    return _First(network, lambda net, x: net(past_values=x).prediction_outputs)
