"""Verdicts of every kind, as trials may give them."""

from __future__ import annotations

import math
from typing import get_args

from hypothesis import strategies as st

from fuzz.verdict import Kind, Lane, Verdict

_LANES = st.sampled_from(get_args(Lane))
_PASSED = st.builds(
    Verdict, status=st.just("pass"), lane=_LANES, error_ratio=st.floats(0, 1), seconds=st.floats(0, 100)
)
_FAILED = st.builds(
    Verdict,
    status=st.just("fail"),
    kind=st.sampled_from([kind for kind in get_args(Kind) if kind not in ("ok", "declined")]),
    lane=_LANES,
    message=st.text(max_size=20),
    error_ratio=st.floats(0, 1e300) | st.just(math.inf),
)
_DECLINED = st.builds(
    Verdict, status=st.just("declined"), kind=st.just("declined"), lane=st.just("errors"), message=st.text(max_size=5)
)


def verdicts() -> st.SearchStrategy[Verdict]:
    """Draw what a trial may come to."""
    return st.one_of(_PASSED, _PASSED, _FAILED, _DECLINED)
