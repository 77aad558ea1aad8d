"""The command that scores the suite: `mutants`."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz.campaign.store import write
from fuzz.options import CORPUS, TARGET_HELP, complain, resolved, worker_count


@click.command()
@click.option("--target", multiple=True, help=TARGET_HELP + "; repeat for several.  [default: fused and two-pass]")
@click.option("--only", multiple=True, metavar="NAME", help="Mutants whose names begin so; repeat for several.")
@click.option("--max-cases", type=click.IntRange(min=1), default=1000, show_default=True, help="Cases for each mutant.")
@click.option("--sample", type=click.IntRange(min=1), help="So many mutants, chosen by the seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Repeat the draws.")
@click.option("--workers", default="auto", show_default=True, help="Mutants tried at a time: a number, or auto.")
@click.option("--equivalents", type=click.Path(path_type=Path), help="JSON list of changes that make no difference.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write what became of each.")
def mutants(
    *,
    target: tuple[str, ...],
    only: tuple[str, ...],
    max_cases: int,
    sample: int | None,
    seed: int,
    workers: str,
    equivalents: Path | None,
    json_file: Path | None,
) -> int:
    """Plant bugs in a kernel, one at a time, and try each: a score for the suite."""
    # It takes half a second to import, which the other commands need not wait for.
    from fuzz.mutation.command import BUILT_IN_TARGETS, Wish, measure
    from fuzz.mutation.record import write_record
    from fuzz.mutation.trials import WrongByItselfError
    from fuzz.report.mutants import MutantProgress, mutants_text

    wish = Wish(
        targets=tuple(map(resolved, target)) or BUILT_IN_TARGETS,
        only=only,
        max_cases=max_cases,
        sample=sample,
        seed=seed,
        jobs=worker_count(workers),
        equivalents=equivalents,
        corpus=CORPUS,
    )
    try:
        with MutantProgress() as progress:
            record = measure(wish, progress)
    except WrongByItselfError as error:
        return complain(str(error), 1)
    if json_file:
        write(json_file, write_record(record))
    print(mutants_text(record), end="")
    if record.untried:
        return complain(f"interrupted; {record.untried} mutants are left", 130)
    return 1 if any(result.status == "survived" for result in record.results) else 0
