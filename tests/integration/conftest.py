"""What several files of integration tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[False, True], ids=["own calls", "LiteLLM's calls"])
def through_litellm(request: pytest.FixtureRequest) -> bool:
    """Run each test with both ways of sending: the rule is the pool's, whoever sends."""
    return bool(request.param)
