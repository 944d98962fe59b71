"""The table of the soak."""

from __future__ import annotations

from importlib.util import find_spec

from tests.faults.soak import PARTS


def test_the_parts_share_the_time_between_them() -> None:
    assert abs(sum(share for _, share in PARTS.values()) - 1) < 1e-9
    assert all(find_spec(module) for module, _ in PARTS.values())
