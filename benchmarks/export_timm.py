"""The networks of `export.py --timm`: one of each family of timm that has convolutions, and a few with attention.

Weights are random, as everywhere in `export.py`; timm need not be installed to import this.
"""

from __future__ import annotations

from export_networks import Subject

from edgeq.model.timm import timm_model

__all__ = ["TIMM"]

SIDE = 96
NAMES = (
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "tf_mobilenetv3_small_minimal_100",
    "mobilenetv4_conv_small",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "efficientnet_es",
    "mixnet_s",
    "tf_mixnet_s",
    "mnasnet_100",
    "fbnetc_100",
    "lcnet_050",
    "tinynet_e",
    "hardcorenas_a",
    "rexnet_100",
    "ghostnet_100",
    "ghostnetv2_100",
    "repghostnet_050",
    "mobileone_s0",
    "repvgg_a0",
    "repvit_m0_9",
    "fastvit_t8",
    "starnet_s1",
    "resnet18",
    "resnet18d",
    "resnetblur18",
    "seresnet18",
    "resnetv2_50",
    "nf_resnet26",
    "ecaresnet26t",
    "resnext50_32x4d",
    "res2net50_26w_4s",
    "regnetx_002",
    "regnety_002",
    "dpn48b",
    "densenet121",
    "vovnet39a",
    "ese_vovnet19b_dw",
    "dla34",
    "hrnet_w18_small",
    "cspresnet50",
    "darknet53",
    "selecsls42b",
    "gernet_s",
    "hgnet_tiny",
    "tresnet_m",
    "xception41",
    "inception_v4",
    "skresnet18",
    "resnest14d",
    "resnetv2_50x1_bit",
    "convnext_atto",
    "poolformer_s12",
    "edgenext_xx_small",
    "mobilevit_xxs",
)

TIMM: dict[str, Subject] = {
    name: Subject(name, lambda name=name: timm_model(name, None)[1], (3, SIDE, SIDE))  # type: ignore[misc]
    for name in NAMES
}
