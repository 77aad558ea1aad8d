"""The command `python -m fuzz`: words on the command line → calls.

Exit status: 0 clean, 1 a failure was found, 2 usage, 3 infrastructure, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from pathlib import Path
from typing import Final

import click

from fuzz.campaign.engine import Engine
from fuzz.campaign.hunt import Hunt
from fuzz.campaign.interrupt import interruptible
from fuzz.campaign.isolation import InfrastructureError, IsolatedTarget, UsageError
from fuzz.campaign.ledger import read_ledger
from fuzz.campaign.plan import Plan
from fuzz.campaign.reading import read_case, read_summary
from fuzz.campaign.sanitizer import TOOLS
from fuzz.campaign.sanitizer import sanitize as sanitize_case
from fuzz.case import DTYPES, Case, Dtype, Precision
from fuzz.cli_gate import gate, profile
from fuzz.cli_mutants import mutants
from fuzz.layout import CaseError
from fuzz.options import CORPUS, TARGET_HELP, complain, device_option, resolved, seconds_of, worker_count
from fuzz.report.progress import Progress
from fuzz.report.summary import summary_text
from fuzz.report.text import verdict_text

_DEFAULT_SECONDS: Final = 60.0
_REPRO_SECONDS: Final = 120.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    with interruptible():
        status = _run(arguments)
    _let_go()
    return status


def _run(arguments: list[str] | None) -> int:
    try:
        status = int(command.main(arguments, prog_name="python -m fuzz", standalone_mode=False) or 0)
        sys.stdout.flush()
        return status
    except click.ClickException as error:
        return complain(error.format_message(), 2)
    except (UsageError, CaseError) as error:
        return complain(str(error), 2)
    except InfrastructureError as error:
        return complain(str(error), 3)
    except OSError as error:
        return complain(f"{error.filename or 'standard output'}: {error.strerror or error}", 3)
    except SystemExit:  # click's answer to a pipe that nobody reads
        return complain("standard output: nobody reads it", 3)
    except (KeyboardInterrupt, click.Abort):
        return complain("interrupted", 130)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Hunt flaws in kernels of min over channels of (conv2d(x, weight) + bias) · scale."""


command.add_command(gate)
command.add_command(profile)
command.add_command(mutants)


@command.command()
@click.option("--target", default="fused", show_default=True, help=TARGET_HELP)
@click.option("--time", help="How long: 60s, 30m, 8h.  [default: 60s]")
@click.option("--max-cases", type=click.IntRange(min=1), help="End after this many cases.")
@click.option("--workers", default="auto", show_default=True, help="Processes that run the target: a number, or auto.")
@click.option("--seed", type=click.IntRange(min=0), help="Repeat a hunt's draws.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="fuzz-out", show_default=True)
@device_option
@click.option("--dtype", type=click.Choice(DTYPES), multiple=True, help="Repeat for several.")
@click.option("--precision", type=click.Choice(["tf32", "ieee"]), help="How float32 is judged.")
@click.option("--resume", is_flag=True, help="Go on where the last hunt in the folder ended.")
@click.option(
    "--database", envvar="FUZZ_DATABASE", help="redis://HOST:PORT/DB or a folder: share cases with other hunts."
)
@click.option("--ledger", type=click.Path(path_type=Path), help="Known bugs that do not count, as TOML.")
@click.option("-x", "--exit-first", is_flag=True, help="Stop after the first failure.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Where workers run: here, or on a Ray cluster.")  # fmt: skip
def run(
    *,
    target: str,
    time: str | None,
    max_cases: int | None,
    workers: str,
    seed: int | None,
    out: Path,
    device: str,
    dtype: tuple[Dtype, ...],
    precision: Precision | None,
    resume: bool,
    database: str | None,
    ledger: Path | None,
    exit_first: bool,
    engine: str,
) -> int:
    """Hunt: draw cases, try them, shrink what fails, keep it, go on."""
    seconds = seconds_of(time) if time else None if max_cases else _DEFAULT_SECONDS
    plan = Plan(
        target=resolved(target),
        out=out,
        seed=_seed(seed, out, resume),
        seconds=seconds,
        max_cases=max_cases,
        workers=None if workers == "auto" else worker_count(workers),
        device=device,
        dtypes=dtype or None,
        precisions=(precision,) if precision else None,
        corpus=(CORPUS,) if CORPUS.is_dir() else (),
        resume=resume,
        database=database,
        ledger=read_ledger(ledger) if ledger else (),
        exit_first=exit_first,
    )
    try:
        with Progress() as progress:
            hunt = Hunt(plan, progress, engine=_engine(engine, plan))
            status = hunt.run()
    except KeyboardInterrupt:
        _write_page_if_any(out)
        return complain("interrupted; what was found is kept", 130)
    except InfrastructureError:
        _write_page_if_any(out)
        raise
    print(summary_text(hunt.summary(status), str(out)), end="")
    _write_page(out)
    return status


@command.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--target", help=TARGET_HELP + "  [default: the one it was found on]")
@device_option
@click.option("--sanitize", type=click.Choice(TOOLS), help="Run it under compute-sanitizer, on a GPU.")
def repro(*, path: Path, target: str | None, device: str, sanitize: str | None) -> int:
    """Run a kept case again."""
    kept = read_case(path)
    name = resolved(target or kept.target)
    if sanitize:
        return _replay_sanitized(kept.case, name, sanitize)
    return replay_case(kept.case, target=name, device=device)


@command.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), required=True, help="Where to put the cases.")
def distill(*, folder: Path, into: Path) -> int:
    """Keep the fewest of a hunt's cases that reach all that it has reached, as files."""
    from fuzz.campaign.distill import distill as distill_hunt

    cases, reached = distill_hunt(folder, into)
    print(f"{cases} cases keep {reached} features: {into}")
    return 0


@command.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
def report(*, folder: Path) -> int:
    """Write a hunt's page, report.html, and junit.xml, from what is kept in its folder."""
    from fuzz.report.page import write_report

    print(write_report(folder))
    return 0


def _write_page_if_any(out: Path) -> None:
    """Write the page of a hunt that ended early: it will be read in the morning. One that did not begin has none."""
    with contextlib.suppress(OSError, UsageError):
        _write_page(out)


def _write_page(out: Path) -> None:
    """Write a hunt's page and its JUnit XML."""
    from fuzz.report.page import write_report  # a second of imports, which need not come before the hunt

    write_report(out)


def replay_case(case: Case, *, target: str, device: str = "auto") -> int:
    """Run one case on a target, print the verdict and return the exit status.

    Args:
        case: The case.
        target: A target's name, as for `--target`.
        device: `auto`, `cpu` or `cuda`.
    """
    with IsolatedTarget(target, device) as isolated:
        verdict = isolated.run(case, _REPRO_SECONDS)
        versions = ", ".join(f"{name} {version}" for name, version in isolated.versions.items())
        place = "Triton's interpreter on the CPU" if isolated.device == "cpu" else isolated.device
    print(f"{target} on {place}, {versions}")
    print(verdict_text(case, verdict))
    return 1 if verdict.failed else 3 if verdict.status == "declined" else 0


def _replay_sanitized(case: Case, target: str, tool: str) -> int:
    found = sanitize_case(case, target, tool)
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    print(f"{target} on cuda under compute-sanitizer's {tool}, {versions}")
    print(verdict_text(case, found.verdict))
    print(f"{tool}: {found.errors} error{'' if found.errors == 1 else 's'}")
    if found.errors:
        print(found.log)
    return 1 if found.errors or found.verdict.failed else 3 if found.verdict.status == "declined" else 0


def _let_go() -> None:
    """Let Python not try once more when it ends, and fail, to print what nobody takes."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _engine(name: str, plan: Plan) -> Engine | None:
    if name == "local":
        return None
    from fuzz.campaign.ray_engine import RayEngine  # as heavy as torch

    return RayEngine(plan)


def _seed(asked: int | None, out: Path, resume: bool) -> int:
    """Return the seed that was asked for, or that the resumed hunt used, or a new one."""
    if asked is not None:
        return asked
    if resume:
        earlier = read_summary(out).get("seed")
        if isinstance(earlier, int):
            return earlier
    return secrets.randbits(32)
