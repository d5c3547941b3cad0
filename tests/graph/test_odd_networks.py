"""Whatever network is brought, it is captured rightly or refused in one line that says why."""

from __future__ import annotations

import sys

import pytest
import torch
from odd_networks import FACTORIES, RANDOM, Net, drawing

from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.graph.capture import walk as capturing
from edgeq.graph.capture.aten import ATEN, Call, Value
from edgeq.graph.capture.walk import capture, unsupported_calls
from edgeq.model.load import load_model


@pytest.mark.parametrize("name", FACTORIES)
def test_a_network_is_captured_or_refused_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    factory, shape, outcome = FACTORIES[name]
    monkeypatch.setitem(sys.modules, "edgeq_odd", type("Odd", (), {"network": staticmethod(factory)}))  # type: ignore[arg-type]
    number = (0.5,) * shape[0]
    try:
        loaded = load_model("edgeq_odd:network", input_shape=shape, mean=number, std=number)
        capture(loaded.module, shape, name)  # type: ignore[arg-type]
        refused = None
    except EdgeqError as error:
        refused = error
    if refused is None:
        assert not outcome
    else:
        assert outcome is not None, str(refused)
        assert outcome in str(refused)
        assert refused.exit_status in (2, 3)
        assert "\n" not in str(refused)
        assert "bug in edgeq" not in str(refused)


def test_random_calls_are_named_where_they_stand() -> None:
    """One network draws in every way: what refuses a single one refuses all of them, each at its place."""
    refused = unsupported_calls(drawing(*RANDOM.values()).eval(), (3, 8, 8))
    drawn = [error.where for error in refused if "random numbers" in str(error)]
    assert drawn == [f"parts.{place}" for place in range(len(RANDOM))]


def test_a_mistake_in_a_rule_names_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(call: Call) -> Value:
        return {}[call.name]  # type: ignore[return-value]

    assert "aten.relu" in ATEN
    monkeypatch.setitem(ATEN._entries, "aten.relu", broken)
    with pytest.raises(UnsupportedError, match=r"internal error while reading aten\.relu\.default at net: KeyError"):
        capture(Net(lambda s, x: torch.relu(s.conv(x))).eval(), (3, 8, 8), "net")


def test_a_rule_that_computes_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "aten.relu" in ATEN
    monkeypatch.setitem(ATEN._entries, "aten.relu", lambda call: call.value())
    with pytest.raises(UnsupportedError, match="answers otherwise than torch"):
        capture(Net(lambda s, x: torch.relu(s.conv(x))).eval(), (3, 8, 8), "net")


def test_mistakes_outside_rules_are_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capturing, "final_names", lambda drafts, taken: {}[0])
    with pytest.raises(UnsupportedError, match="internal error while reading the network") as caught:
        capture(Net(lambda s, x: s.conv(x)).eval(), (3, 8, 8), "net")
    assert isinstance(caught.value.__cause__, KeyError)
