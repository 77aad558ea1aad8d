"""The page of a hunt, and JUnit's XML: everything that was kept is on it, whatever a kernel's messages hold."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from everything import EVERYTHING
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.campaign.census import Census, SizeCount, census_of, features, known_features
from fuzz.campaign.failure import failure_id
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.sighting import Sighting, sighting_files
from fuzz.campaign.store import Store
from fuzz.case import Case
from fuzz.cli import main
from fuzz.report.page import write_report
from fuzz.strategies import cases
from fuzz.verdict import Verdict, WrongElements

NASTY = "<script>alert('&')</script> \x00 ]]> \ud7ff"


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        del attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def hunted(folder: Path, trials: list[tuple[Case, Verdict]], failures: list[dict[str, Any]], **changed: Any) -> None:
    """Leave what a hunt leaves."""
    store, census = Store(folder), Census()
    store.record({"event": "hunt", "target": "one.py", "seed": 1, "device": "cpu"})
    for number, (case, verdict) in enumerate(trials):
        store.record_trial(case, verdict, purpose="hunt", at=float(number))
        census.add(case, verdict, [])
    summary = {
        "target": "one.py", "device": "cpu", "versions": {"torch": "2"}, "seed": 1, "rounds": 1, "seconds": 3700.0,
        "cases": census.cases, "cases_per_second": 2.0, "declined": sum(census.declined.values()),
        "declined_reasons": dict(census.declined), "features": dict(census.features), "worst_error_ratio": {},
        "traits": 0, "mask_coverage": [], "restarts": 0, "mended": [], "failures": failures, "exit": 0, **changed,
    }  # fmt: skip
    store.write_summary(summary)
    store.close()


def failure(bucket: str, message: str) -> dict[str, Any]:
    name = failure_id(bucket)
    case_file = f"failures/{name}/case.json"
    found = {"cases_to_find": 7, "seconds_to_find": 1.5, "hits": 1, "waived": "", "earlier_ids": ()}
    return {"id": name, "bucket": bucket, "message": message, "case_file": case_file, **found}


def test_a_failure_is_told_with_its_words_whatever_they_are(tmp_path: Path) -> None:
    trials = [(Case(), Verdict(status="fail", kind="wrong-value", message=NASTY))]
    hunted(tmp_path, trials, [failure(f"wrong result {NASTY}", NASTY)])
    read = _Words()
    read.feed(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "script" not in read.tags, "a kernel's message became a part of the page"
    assert "<script>alert('&')</script>" in read.text
    assert f"python -m fuzz repro {tmp_path}/failures/{failure_id(f'wrong result {NASTY}')}" in read.text
    assert '<span class="bad">1 failure</span>' in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "1 h 1 min" in read.text
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert "<script>" in suite.findall("testcase/failure")[0].get("message", "")


def test_a_failure_is_shown_where_it_was_wrong(tmp_path: Path) -> None:
    told = failure("wrong result", "wrong")
    hunted(tmp_path, [(Case(), Verdict(status="fail", kind="wrong-value"))], [told])
    assert 'class="wrong"' not in write_report(tmp_path).read_text(encoding="utf-8"), "nothing was kept to show"
    folder = tmp_path / "failures" / told["id"]
    folder.mkdir()
    wrong = WrongElements(image=1, images=1, wrong=2, height=2, width=3, rows=("..#", "..#"))
    seen = Verdict(status="fail", kind="wrong-value", message=NASTY, where=NASTY, wrong=wrong)
    for name, text in sighting_files(Sighting(Case(n=2, h=2, w=3), seen), "one.py").items():
        (folder / name).write_text(text)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count('<rect class="wrong"') == 2
    assert "image 1: 2 of 2 × 3 elements wrong" in page
    assert "<script" not in page


def test_masks_are_shown_on_the_source_whatever_it_holds(tmp_path: Path) -> None:
    source = f"def kernel(x):\n    y = {NASTY!r}\n    tl.load(x, mask=x)\n"
    kernel = tmp_path / "<i>kernel.py"
    kernel.write_text(source)
    seen = {"file": str(kernel), "line": 3, "operation": "load", "text": "tl.load(x, mask=x)", "all_true": 71}
    hunted(tmp_path, [(Case(), Verdict(status="pass"))], [], mask_coverage=[seen])
    for line in ('    y = "<script>', ""):
        read = _Words()
        read.feed(write_report(tmp_path).read_text(encoding="utf-8"))
        assert not {"script", "i"} & set(read.tags), "the source became a part of the page"
        for words in ("71", "1 never mixed", "tl.load(x, mask=x)", str(kernel), line):
            assert words in read.text
        kernel.unlink(missing_ok=True)


def test_a_clean_hunt_says_what_it_never_met(tmp_path: Path) -> None:
    hunted(tmp_path, [(Case(values="gaussian"), Verdict(status="pass", lane="interval", error_ratio=0.5))], [])
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<span class="good">no failure</span>' in page
    assert "values: cancelling" in page
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", ""), "the page needs something from elsewhere"


def test_a_hunt_that_was_killed_has_a_page(tmp_path: Path) -> None:
    hunted(tmp_path, [(Case(), Verdict(status="pass"))] * 3, [], exit=None)
    with (tmp_path / "records.jsonl").open("ab") as records:
        records.write(b'{"event":"trial","at":0.1,"purpose":"hunt","case":{"n":-4},"verdict":{"status":"pass"}}\n')
        records.write(b'{"event":"trial","at":0.1,"purpose":"hunt","ca')
    assert "has not ended, or was killed" in write_report(tmp_path).read_text(encoding="utf-8")


def test_an_empty_hunt_has_a_page(tmp_path: Path) -> None:
    hunted(tmp_path, [(Case(), Verdict(status="declined", kind="declined", message="too small"))], [])
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "no case could be run" in page
    assert "too small" in page


def test_a_folder_without_a_hunt_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="there is no hunt in it"):
        write_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@given(case=cases(EVERYTHING), lane=st.sampled_from(["exact", "interval", "errors"]))
@settings(max_examples=150)
def test_every_feature_is_known(case: Case, lane: Any) -> None:
    found = set(features(case, Verdict(status="pass", lane=lane)))
    assert found <= known_features(), f"census.known_features lacks {found - known_features()}"


def test_records_say_what_the_hunt_counted(tmp_path: Path) -> None:
    trials = [
        (Case(values="gaussian", dtype="float16"), Verdict(status="pass", lane="interval", error_ratio=0.25)),
        (Case(c_out=40, h=9), Verdict(status="fail", kind="wrong-value")),
        (Case(), Verdict(status="declined", kind="declined", message="no")),
    ]
    hunted(tmp_path, trials, [])
    found = census_of(tmp_path)
    assert (found.hunts, found.tried, found.declined) == (1, 3, {"no": 1})
    assert found.worst_error_ratio == {"float16": 0.25}
    assert (sum(found.error_ratios["float16"]), found.error_ratios["float16"][10]) == (1, 1)
    assert found.sizes["3 5"] == SizeCount(1, 1)
