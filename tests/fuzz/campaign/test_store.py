"""A hunt's folder: one hunt at a time, and files that say what was put into them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_records
from fuzz.campaign.store import Store, json_text
from fuzz.cli import main

HOLD = """
import sys, time
from pathlib import Path
from fuzz.campaign.store import Store
store = Store(Path(sys.argv[1]))
print("here", flush=True)
time.sleep(60)
"""


def test_a_second_hunt_in_a_folder_is_told_who_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Store(tmp_path)
    with pytest.raises(UsageError, match=f"another hunt, process {os.getpid()}, is writing there"):
        Store(tmp_path)
    assert main(["run", "--max-cases", "1", "--workers", "1", "--out", str(tmp_path)]) == 2
    assert "is writing there" in capsys.readouterr().err
    first.record({"event": "still mine"})
    first.close()
    Store(tmp_path).close()
    assert list(read_records(tmp_path / "records.jsonl")) == [{"event": "still mine"}]


def test_a_hunt_that_was_killed_leaves_its_folder_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        with pytest.raises(UsageError, match=f"process {process.pid}"):
            Store(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    Store(tmp_path).close()


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    NUMBERS | st.booleans() | st.text(max_size=8) | st.none(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(value=VALUES | st.lists(NUMBERS))
@example(value="[ 1 ]")
@example(value=["[ 1,\n 2 ]"])
def test_json_that_people_read_is_json(value: object) -> None:
    assert json.loads(json_text(value)) == value


def test_numbers_are_on_one_line() -> None:
    assert json_text({"times": [1.5, -2e-7, 3]}) == '{\n "times": [1.5, -2e-7, 3]\n}\n'
