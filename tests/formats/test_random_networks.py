"""Gates, sums, moves and layers in random order: what no one writes down as a case."""

from __future__ import annotations

import pytest
from chance import check


@pytest.mark.parametrize("seed", range(6))
def test_a_random_network_is_itself_in_every_form(seed: int) -> None:
    check(seed)
