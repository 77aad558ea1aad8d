"""`summary.json` as text, for the end of a hunt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_SOURCE_WIDTH: Final = 70


def summary_text(summary: Mapping[str, Any], folder: str) -> str:
    """Return what a hunt found, the result first."""
    lines = [_headline(summary), ""]
    for failure in summary["failures"]:
        lines += [
            f"  {failure['id']}  {failure['bucket']}",
            f"          {failure['message']}",
            f"          {found_words(failure)}",
            f"          again: python -m fuzz repro {folder}/failures/{failure['id']}",
            "",
        ]
    lines += [f"  {case} is waived and no longer fails: take it out of the ledger" for case in summary["mended"]]
    features = summary["features"]
    for prefix in ("dtype", "lane", "values"):
        counts = {name.partition(": ")[2]: count for name, count in features.items() if name.startswith(f"{prefix}: ")}
        lines.append(f"  {prefix:8}{_counts(counts)}")
    rest = {name: count for name, count in features.items() if ": " not in name}
    if rest:
        lines.append(f"  {'with':8}{_counts(rest)}")
    for name, ratio in summary["worst_error_ratio"].items():
        lines.append(f"  largest error in {name}: {ratio:.3g} of what is allowed")
    for reason, count in summary["declined_reasons"].items():
        lines.append(f"  declined {count} times: {reason}")
    lines += _mask_lines(summary["mask_coverage"])
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _mask_lines(coverage: Sequence[Mapping[str, Any]]) -> list[str]:
    """Show how often each line's mask was all true, mixed and all false: a mask never mixed was never tested."""
    if not coverage:
        return []
    lines = ["", f"  masks: {'all true':>8} {'mixed':>8} {'all false':>9}"]
    file = ""
    for line in coverage:
        if line["file"] != file:
            file = line["file"]
            lines.append(f"  {file}")
        counts = f"{line['all_true']:>8} {line['mixed']:>8} {line['all_false']:>9}"
        ran = line["all_true"] + line["mixed"] + line["all_false"]
        note = "" if ran else "  never reached"
        lines.append(f"  {line['line']:>6} {counts}  {line['text'][:_SOURCE_WIDTH]}{note}")
    return lines


def _headline(summary: Mapping[str, Any]) -> str:
    ran = f"{summary['cases']} cases in {summary['seconds']:.0f} s, seed {summary['seed']}, {summary['device']}"
    if not summary["cases"]:
        return f"{summary['target']}: no case could be run, {summary['declined']} declined"
    return f"{summary['target']}: {verdict_words(summary)} in {ran}"


def verdict_words(summary: Mapping[str, Any]) -> str:
    """What came of a hunt, in a few words."""
    if not summary["cases"]:
        return "no case could be run"
    waived = sum(bool(failure["waived"]) for failure in summary["failures"])
    count, mended = len(summary["failures"]) - waived, len(summary["mended"])
    words = [f"{count} failure{'s' if count > 1 else ''}" if count else "no failure"]
    words += [f"{waived} waived"] if waived else []
    words += [f"{mended} waived that no longer fail{'s' if mended == 1 else ''}"] if mended else []
    return ", ".join(words)


def found_words(failure: Mapping[str, Any]) -> str:
    """How soon a bug was found, how often it was hit, and whether it counts."""
    hits = f", hit {failure['hits']} times" if failure["hits"] > 1 else ""
    waived = f"; waived: {failure['waived']}" if failure["waived"] else ""
    merged = f"; kept as {', '.join(failure['earlier_ids'])} before" if failure["earlier_ids"] else ""
    return f"found after {failure['cases_to_find']} cases, {failure['seconds_to_find']} s{hits}{merged}{waived}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
