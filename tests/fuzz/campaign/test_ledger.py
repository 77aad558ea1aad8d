"""The ledger: what it must hold, and what a waiver does to a hunt."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import TILED, plant

from fuzz.campaign.isolation import UsageError
from fuzz.campaign.ledger import Waiver, read_ledger
from fuzz.case import Case, CaseFile, write_case_file
from fuzz.cli import main

ISSUE = "https://example.org/issues/7"
ENTRY = f'[[waived]]\ncase = "case.json"\nissue = "{ISSUE}"\n'


@given(seeds=st.lists(st.integers(0, 9), max_size=4), as_folder=st.booleans())
def test_a_ledger_is_read_as_it_was_written(
    seeds: list[int], as_folder: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, text = tmp_path_factory.mktemp("ledger"), ""
    for seed in seeds:
        (folder / f"{seed}").mkdir(exist_ok=True)
        (folder / f"{seed}" / "case.json").write_text(write_case_file(CaseFile(case=Case(seed=seed))))
        text += ENTRY.replace("case.json", f"{seed}" if as_folder else f"{seed}/case.json")
    (folder / "ledger.toml").write_text(text)
    paths = [f"{seed}" if as_folder else f"{seed}/case.json" for seed in seeds]
    wanted = [Waiver(Case(seed=seed), path, ISSUE) for seed, path in zip(seeds, paths, strict=True)]
    assert list(read_ledger(folder / "ledger.toml")) == wanted


MALFORMED = {
    "not TOML": ("[[waived]", ("not TOML",)),
    "not UTF-8": ("\udcff", ("not TOML",)),
    "nested without end": ("waived = " + "[" * 9000, ("not TOML",)),
    "unknown table": (ENTRY + "[other]\n", ("[[waived]] and nothing else",)),
    "no tables": ("waived = 7\n", ("[[waived]] and nothing else",)),
    "no table": ("waived = [7]\n", ("number 1", "must have case and issue")),
    "unknown key": (ENTRY + ENTRY + 'why = "so"\n', ("number 2", "must have case and issue, and nothing else")),
    "no issue": ('[[waived]]\ncase = "case.json"\n', ("number 1", "must have case and issue")),
    "no case": (f'[[waived]]\nissue = "{ISSUE}"\n', ("number 1", "must have case and issue")),
    "wrong type": (ENTRY.replace('"case.json"', "7"), ("number 1", "must be strings")),
    "no link": (ENTRY.replace("https://", ""), ("number 1", "issue=", "https://")),
    "no host": (ENTRY.replace("example.org", ""), ("number 1", "issue=", "https://")),
    "broken link": (ENTRY.replace("example.org", "[example"), ("number 1", "issue=", "https://")),
    "other scheme": (ENTRY.replace("https", "ftp"), ("number 1", "issue='ftp://", "https://")),
    "missing file": (ENTRY + ENTRY.replace("case.json", "none.json"), ("number 2", "none.json", "No such file")),
    "malformed case": (ENTRY.replace("case.json", "bad.json"), ("number 1", "bad.json", "c_in=0")),
    "impossible path": (ENTRY.replace("case.json", "a\\u0000b"), ("number 1", "null")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_ledger_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = MALFORMED[name]
    ledger, whole = tmp_path / "ledger.toml", write_case_file(CaseFile(case=Case()))
    ledger.write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "case.json").write_text(whole)
    (tmp_path / "bad.json").write_text(whole.replace('"case": {}', '"case": {"c_in": 0}'))
    with pytest.raises(UsageError) as raised:
        read_ledger(ledger)
    for word in (str(ledger), *words):
        assert word in str(raised.value)
    assert main(["run", "--ledger", str(ledger), "--out", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists(), "a mistake must not leave anything behind"


def test_a_ledger_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(UsageError, match=f"--ledger {path}: "):
            read_ledger(path)


def hunt(target: Path, out: Path, *more: str) -> tuple[int, dict[str, object], ElementTree.Element]:
    """Hunt in this process, and return the exit status, the summary and JUnit's XML."""
    options = ["--seed", "1", "--max-cases", "60", "--workers", "1"]
    status = main(["run", "--target", str(target), "--out", str(out), *options, *more])
    return status, json.loads((out / "summary.json").read_text()), ElementTree.parse(out / "junit.xml").getroot()


def test_a_waived_bug_does_not_count_until_it_is_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flawed, ledger = plant("bias_after_scale", tmp_path), tmp_path / "ledger.toml"
    status, summary, _ = hunt(flawed, tmp_path / "first")
    assert status == summary["exit"] == 1
    names = [failure["id"] for failure in summary["failures"]]  # type: ignore[attr-defined]
    ledger.write_text("".join(ENTRY.replace("case.json", f"first/failures/{name}") for name in names))

    status, summary, suite = hunt(flawed, tmp_path / "second", "--ledger", str(ledger))
    assert status == summary["exit"] == 0, f"a waived bug made the hunt fail: {summary['failures']}"
    assert [(failure["id"], failure["waived"]) for failure in summary["failures"]] == [  # type: ignore[attr-defined]
        (name, ISSUE) for name in names
    ]
    assert summary["mended"] == []
    assert (suite.get("failures"), suite.get("skipped")) == ("0", str(len(names)))
    assert all(ISSUE in str(skipped.get("message")) for skipped in suite.iter("skipped"))
    printed = capsys.readouterr().out
    assert f"{len(names)} waived" in printed
    assert f"waived: {ISSUE}" in printed

    status, summary, suite = hunt(TILED, tmp_path / "third", "--ledger", str(ledger))
    assert status == summary["exit"] == 1, "a waiver that nobody needs went unseen"
    assert summary["failures"] == []
    assert summary["mended"] == [f"first/failures/{name}" for name in names]
    assert int(suite.get("failures", "0")) == len(names)
    assert "no longer fails: take it out of the ledger" in capsys.readouterr().out
