"""`python -m fuzz gate …`: from what a user asks for to what is printed, and the exit status."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import msgspec

from fuzz.abilities import BUILT_IN
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.store import write
from fuzz.gate.baseline import BASELINE, Baseline, read_baseline, write_baseline
from fuzz.gate.build import Build
from fuzz.gate.devices import CARDS, Card
from fuzz.gate.static import build, judge
from fuzz.report.gate import static_text


def gate_static(
    targets: tuple[str, ...],
    card_name: str,
    workers: int,
    baseline_file: Path | None,
    *,
    update: bool,
    json_file: Path | None,
) -> tuple[str, int]:
    """Build targets for a card, judge what came out, and return what to print and the exit status.

    Args:
        targets: Their names; those of this repository if there are none.
        card_name: A name of `CARDS`.
        workers: Processes that compile.
        baseline_file: What to compare with; None for the one that is kept here.
        update: Write the baseline anew instead of comparing with it.
        json_file: Where to write all builds, or None.

    Raises:
        UsageError: There is no such card, a target cannot be loaded, or the baseline cannot be read.
        InfrastructureError: A process died, or a target launches nothing.
    """
    card = _card(card_name)
    kept = baseline_file or BASELINE
    before = None if update else read_baseline(kept)
    built = build(targets or tuple(BUILT_IN), card, workers)
    findings = [judge(target, builds, card, before) for target, builds in built.items()]
    if update:
        write(kept, write_baseline(_updated(kept, card, built)))
    if json_file:
        write(json_file, msgspec.json.format(msgspec.json.encode(built), indent=1).decode() + "\n")
    text = "".join(static_text(finding, card) for finding in findings)
    return text, 1 if any(finding.complaints for finding in findings) else 0


def _card(name: str) -> Card:
    if name not in CARDS:
        raise UsageError(f"--card {name}: there is a description of {', '.join(CARDS)}")
    return CARDS[name]


def _updated(kept: Path, card: Card, built: dict[str, list[Build]]) -> Baseline:
    """The baseline with these builds; those of other targets stay, if they are of the same card and version."""
    here = version("triton")
    old = read_baseline(kept) if kept.exists() else None
    same = old is not None and (old.card, old.triton) == (card.name, here)
    return Baseline(card=card.name, triton=here, targets={**(old.targets if old and same else {}), **built})
