"""Suggest torchvision or timm for the name of a network that edgeq does not ship."""

from __future__ import annotations

from importlib.util import find_spec

from edgeq.errors import ConfigError
from edgeq.model.timm import import_timm
from edgeq.model.torchvision import import_torchvision
from edgeq.registry import closest

__all__ = ["suggest"]

ALIKE = 0.8
"""Similarity from 0 to 1 above which a name counts as a misspelling: ``mobilnet_v2`` but not ``mynet``."""


def suggest(name: str) -> str:
    """What to type for a network that another source has under `name` or a similar name; "" if none has.

    Sources that are not installed are passed over.
    """
    suggestions = [f"{source}:{names[0]}" for source, names in _sources(name) if names]
    return f"did you mean {' or '.join(suggestions)}?" if suggestions else ""


def _sources(name: str) -> list[tuple[str, list[str]]]:
    sources = []
    for source, load in (("torchvision", _torchvision_names), ("timm", _timm_names)):
        if find_spec(source) is None:
            continue
        try:
            names = load()
        except ConfigError:  # installed and yet not to be imported: it can suggest nothing
            continue
        meant = name if name in names else closest(_plain(name), names, ALIKE)
        sources.append((source, [meant] if meant else []))
    exact = [(source, names) for source, names in sources if name in names]
    return exact or sources


def _plain(name: str) -> str:
    """A name such as ``MobileNet-V2`` in the spelling of the lists: ``mobilenet_v2``."""
    return name.lower().replace("-", "_")


def _torchvision_names() -> list[str]:
    return list(import_torchvision().models.list_models())


def _timm_names() -> list[str]:
    return list(import_timm().list_models())
