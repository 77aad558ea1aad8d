"""A hunt's folder → one page that needs nothing beside it, and JUnit's XML: what was tried, and what failed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import jinja2
import markupsafe
import msgspec

from fuzz.campaign.census import census_of, known_features
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.reading import read_case, read_summary
from fuzz.campaign.sighting import read_sighting
from fuzz.campaign.store import write
from fuzz.coverage import LineCoverage
from fuzz.layout import CaseError
from fuzz.report.hunt_pictures import error_svg, saturation_svg, sizes_svg
from fuzz.report.source_coverage import count_words, covered_files
from fuzz.report.summary import found_words, verdict_words
from fuzz.report.wrong_elements import caption, wrong_svg

_TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
)
_MACHINE_FAILED: Final = 3
# What XML cannot hold, though a kernel's message may: control characters.
_NOT_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_report(folder: Path) -> Path:
    """Write `report.html` and `junit.xml` into a hunt's folder, from what is kept there; returns the page's path.

    Raises:
        UsageError: There is no hunt in the folder.
    """
    summary = read_summary(folder)
    if not summary or not (folder / "records.jsonl").is_file():
        raise UsageError(
            f"{folder}: there is no hunt in it: summary.json and records.jsonl are what a report is made of"
        )
    write(folder / "report.html", page(folder, summary))
    write(folder / "junit.xml", junit(folder, summary))
    return folder / "report.html"


def page(folder: Path, summary: Mapping[str, Any]) -> str:
    """Return the page of a hunt, with all pictures in it."""
    found = census_of(folder)
    text: str = _TEMPLATES.get_template("page.html.j2").render(
        summary=summary,
        name=Path(summary["target"]).name,
        verdict=verdict_words(summary),
        duration=_duration(summary["seconds"]),
        failures=[{**failure, **_shown(folder, failure)} for failure in summary["failures"]],
        saturation=_inline(saturation_svg(found)),
        sizes=_inline(sizes_svg(found)),
        errors=_inline(error_svg(found)),
        missing=sorted(known_features() - found.reached.keys()),
        features=sorted(summary["features"].items(), key=lambda item: (-item[1], item[0])),
        files=covered_files(msgspec.convert(summary["mask_coverage"], tuple[LineCoverage, ...])),
        count_words=count_words,
        found_words=found_words,
        is_bad=bool(summary["mended"]) or any(not failure["waived"] for failure in summary["failures"]),
    )
    return text


def junit(folder: Path, summary: Mapping[str, Any]) -> str:
    """Return JUnit's XML: the hunt is one test, and each bug is one that failed."""
    failures, mended = summary["failures"], summary["mended"]
    counted = [failure for failure in failures if not failure["waived"]]
    suite = ElementTree.Element(
        "testsuite",
        name=f"fuzz {summary['target']}",
        tests=str(1 + len(failures) + len(mended)),
        failures=str(len(counted) + len(mended)),
        errors=str(int(summary["exit"] == _MACHINE_FAILED)),
        skipped=str(len(failures) - len(counted)),
        time=str(summary["seconds"]),
    )
    hunt = ElementTree.SubElement(suite, "testcase", classname="fuzz", name=f"{summary['cases']} cases", time="0")
    if summary["exit"] == _MACHINE_FAILED:
        ElementTree.SubElement(hunt, "error", message="the machine ended the hunt before its time", type="error")
    for failure in failures:
        test = ElementTree.SubElement(suite, "testcase", classname="fuzz", name=_clean(failure["bucket"]), time="0")
        if failure["waived"]:
            ElementTree.SubElement(test, "skipped", message=_clean(f"waived: {failure['waived']}"))
            continue
        told = ElementTree.SubElement(test, "failure", message=_clean(failure["message"]), type="failure")
        told.text = _clean(_report(folder, failure))
    for case in mended:
        test = ElementTree.SubElement(suite, "testcase", classname="fuzz", name=_clean(f"waived: {case}"), time="0")
        ElementTree.SubElement(test, "failure", message="no longer fails: take it out of the ledger", type="failure")
    text: str = ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
    return text + "\n"


def _shown(folder: Path, failure: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a failure besides its line in the summary."""
    kept = folder / "failures" / str(failure["id"])
    sighting = read_sighting(kept)
    wrong = sighting.verdict.wrong if sighting else None
    has_shape = wrong is not None and wrong.has_shape
    where = f"; {sighting.verdict.where}" if sighting and sighting.verdict.where else ""
    return {
        "again": f"python -m fuzz repro {shlex.quote(str(kept))}",
        "case": _shrunk_case(kept),
        "report": _report(folder, failure),
        "picture": markupsafe.Markup(wrong_svg(wrong)) if wrong and has_shape else "",
        "caption": caption(wrong) + where if wrong else "",
    }


def _shrunk_case(kept: Path) -> str:
    try:
        return repr(read_case(kept).case)
    except CaseError:
        return ""


def _report(folder: Path, failure: Mapping[str, Any]) -> str:
    try:
        return (folder / "failures" / str(failure["id"]) / "report.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return str(failure["message"])


def _inline(svg: str) -> markupsafe.Markup:
    """A picture to put into the page: without the heading of a file of its own. Matplotlib has escaped its words."""
    return markupsafe.Markup(svg[svg.index("<svg") :])


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
