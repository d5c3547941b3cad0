"""Energy of one inference, out of what a board draws at rest and under load; or the reason why it is not known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["energy_facts", "energy_text"]

ENOUGH = {"mj", "load_w", "idle_w", "rails", "source"}
"""Keys of an energy that is known."""

CERTAIN = 3.0
"""Standard errors by which the draw under load must stand out from that at rest."""

SOURCE = "vcgencmd pmic_read_adc"


def energy_facts(power: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an energy in a report.

    `power` is what the agent gives (`edgeq.device.runners.agent.power`). Energies are millijoules of one inference,
    the board's draw at rest subtracted; draws are watts, summed over all rails. Where they are not known they are left
    out, and `reason` says why.
    """
    if why := power.get("why"):
        return {"reason": why}
    facts: dict[str, Any] = {
        "reason": None,
        "source": SOURCE,
        "rails": len(power["rails"]),
        "idle_w": statistics.fmean(power["idle"]),
        "readings": min(map(len, (power["idle"], *(load["watts"] for load in power["loads"].values())))),
    }
    for name, load in power["loads"].items():
        if not _stands_out(power["idle"], load["watts"]):
            called = "integer" if name == "model" else name
            return {"reason": f"the board draws no more with the {called} file than at rest, within the noise"}
        prefix, draw = "" if name == "model" else f"{name}_", statistics.fmean(load["watts"])
        facts[f"{prefix}load_w"] = draw
        facts[f"{prefix}mj"] = 1000 * (draw - facts["idle_w"]) * load["seconds"] / load["inferences"]
    return facts


def energy_text(energy: Mapping[str, Any]) -> str:
    """An energy in one line, with its conditions."""
    if energy["reason"] or not energy.keys() >= ENOUGH:
        return f"not known: {energy['reason'] or 'the report does not say why'}"
    text = f"{energy['mj']:.3g} mJ per inference"
    if "float_mj" in energy:
        text += f", float {energy['float_mj']:.3g} mJ"
    draws = f"{energy['load_w']:.2f} W less {energy['idle_w']:.2f} W at rest"
    return f"{text} ({draws}, {energy['rails']} rails of {energy['source']})"


def _stands_out(idle: Sequence[float], load: Sequence[float]) -> bool:
    error = math.sqrt(sum(statistics.variance(each) / len(each) for each in (idle, load)))
    return statistics.fmean(load) - statistics.fmean(idle) > CERTAIN * error
