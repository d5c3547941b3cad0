"""Fixtures shared by the graph tests."""

from __future__ import annotations

import pytest
from graph_networks import NETWORKS, Network, captured


@pytest.fixture(scope="session", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return captured(request.param)
