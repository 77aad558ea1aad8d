"""What the profiles promise, also where Hypothesis sees CI and would choose otherwise."""

from __future__ import annotations

import pytest
from hypothesis import settings


@pytest.mark.parametrize("name", ["dev", "nightly"])
def test_profiles_for_people_and_nights_draw_anew_and_remember(name: str) -> None:
    profile = settings.get_profile(name)
    assert not profile.derandomize
    assert profile.database is not None


def test_the_profile_for_ci_draws_the_same_and_remembers_nothing() -> None:
    profile = settings.get_profile("ci")
    assert profile.derandomize
    assert profile.database is None
