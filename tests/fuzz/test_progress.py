"""What a hunt shows while it runs: it fits the terminal, it says what counts, and it costs a trial nothing."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fuzz.campaign.census import known_features
from fuzz.campaign.hunt import Hunt
from fuzz.campaign.plan import Plan
from fuzz.campaign.status import FailureStatus, Status
from fuzz.case import Case
from fuzz.report.progress import Progress, status_panel
from fuzz.verdict import Verdict

BUSY = Status(
    elapsed=754.0, seconds=3600.0, cases=12345, cases_per_second=45.3, declined=3, restarts=2, features_met=61,
    features_known=74, worst_error_ratio={"float32": 0.71, "float16": 0.12},
    failures=(FailureStatus("52922c", "out[0] = 3, must be 4", 12),), workers=("drawing", "case 0.3 s"),
)  # fmt: skip

SMALL = st.integers(0, 2000)
STATUSES = st.builds(
    Status,
    elapsed=st.floats(0, 1e6),
    seconds=st.none() | st.floats(1, 1e6),
    cases=SMALL,
    cases_per_second=st.floats(0, 1e5),
    declined=SMALL,
    restarts=SMALL,
    features_met=SMALL,
    features_known=SMALL,
    worst_error_ratio=st.dictionaries(st.sampled_from(["float16", "float32 tf32"]), st.floats(0, 1)),
    failures=st.lists(
        st.builds(FailureStatus, st.text("0123456789abcdef", min_size=6, max_size=6), st.text(), SMALL)
    ).map(tuple),
    workers=st.lists(st.text(max_size=30), max_size=40).map(tuple),
)


def terminal(width: int = 100, *, is_one: bool = True) -> tuple[Console, io.StringIO]:
    """A terminal without colours, or a file, and what is written there."""
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=is_one, width=width, height=50, color_system=None, legacy_windows=False,
        highlight=False,
    )  # fmt: skip
    return console, written


def shown(status: Status, width: int = 100) -> str:
    console, written = terminal(width)
    console.print(status_panel(status))
    return written.getvalue()


@given(status=STATUSES, width=st.integers(30, 140))
def test_the_panel_fits_whatever_a_kernel_says(status: Status, width: int) -> None:
    text = shown(status, width)
    for line in text.splitlines():
        assert cell_len(line) == width, f"a line of {cell_len(line)} cells tears the panel: {line!r}"
    controls = {sign for sign in text if unicodedata.category(sign) == "Cc"} - {"\n"}
    assert not controls, "a kernel's message may move the cursor"
    assert len(text.splitlines()) <= 50, "a panel that is higher than the terminal is cut below, where workers are"


def test_the_panel_says_what_counts() -> None:
    text = shown(BUSY)
    for words in (
        "1 failure", "0:12:34, 0:47:26 left", "12345 cases", "45.3/s", "61 of 74 features met", "3 declined",
        "2 processes lost", "52922c", "×12", "must be 4", "0.71 of allowed", "1 drawing · 2 case 0.3 s",
    ):  # fmt: skip
        assert words in text, f"{words} is missing in\n{text}"


class Counted:
    """Says what a hunt is at, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> Status:
        self.asked += 1
        return BUSY


def test_a_terminal_shows_the_panel_and_keeps_the_news() -> None:
    console, written = terminal()
    status = Counted()
    with Progress(console) as progress:
        progress(status, "failure 52922c: \x1b[2Jwrong")
        for _ in range(5000):
            progress(status, "")
    text = written.getvalue()
    assert "0:12:34  failure 52922c:  [2Jwrong" in text
    assert "61 of 74 features met" in text
    assert status.asked < 1000, "each trial pays for a status that nobody sees"


def test_without_a_terminal_there_are_plain_lines_now_and_then() -> None:
    console, written = terminal(40, is_one=False)
    status = Counted()
    with Progress(console) as progress:
        progress(status, "hunting one.py on cpu, which has a name that is longer than a line")
        for _ in range(5000):
            progress(status, "")
    news, line = written.getvalue().splitlines()
    assert news.endswith("longer than a line"), "a log has no width"
    words = "12345 cases · 45.3/s · 3 declined · 2 processes lost · 1 failure · worst error 0.71 of allowed (float32)"
    assert line == f"0:12:34  {words}"
    assert status.asked == 2


def test_a_hunt_says_what_it_is_at(tmp_path: Path) -> None:
    hunt = Hunt(Plan(target="one.py", out=tmp_path, seed=1, seconds=60.0))
    assert hunt.status().features_met == 0
    hunt.census.add(Case(values="gaussian"), Verdict(status="pass", lane="interval", error_ratio=0.5), [])
    hunt.census.add(Case(), Verdict(status="declined", kind="declined", message="no"), [])
    hunt.census.features["a feature of a later version"] = 1
    status = hunt.status()
    assert (status.cases, status.declined, status.seconds) == (1, 1, 60.0)
    assert status.worst_error_ratio == {"float32": 0.5}
    assert 0 < status.features_met < status.features_known == len(known_features())
    assert status.features_met == len(known_features() & hunt.census.features.keys())
