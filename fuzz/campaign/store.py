"""What a hunt leaves in its folder, and reading it back.

Every file is complete at every moment: records are appended and flushed line by line, everything else is written beside
its place and moved there. A torn last line of the records, from a machine that went down, is skipped on reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from fuzz.campaign.buckets import Bucket
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.journal import journaled_cases
from fuzz.case import Case, CaseFile, case_of, encode_case, read_case_file, write_case_file
from fuzz.layout import CaseError
from fuzz.verdict import Verdict

# What a killed hunt was at is looked for among the records of the last while.
_LATELY_BYTES: Final = 2**20
_DRAWN_BYTES: Final = 2**25
# Its line ends are outside of strings: those have none that is not escaped.
_NUMBERS: Final = re.compile(r"\[\n((?:\s*[-+.\deE]+,?\n\s*)+)\]")
_SCRIPT: Final = '''\
"""Shows one failure again: run it with Python where `fuzz` is installed.

Found on {target}: {message}
"""

from fuzz.case import Case, Sprinkle  # noqa: F401  # the case may need any of these
from fuzz.cli import replay_case
from fuzz.layout import Layout  # noqa: F401

CASE = {case!r}

if __name__ == "__main__":
    raise SystemExit(replay_case(CASE, target={target!r}))
'''


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One bug that a hunt found, as `summary.json` lists it.

    Attributes:
        id: Derived from the bucket: the same defect found twice is one failure.
        bucket: How the failure shows, and what it depends on.
        message: The verdict on the shrunk case.
        case_file: Path of the shrunk case, from the hunt's folder.
        cases_to_find: How many cases had run when it was first seen.
        seconds_to_find: How long the hunt had run by then.
        hits: How many cases showed it, that one and those of its corpus included.
        waived: Link of the issue for which the ledger waives it; empty if it counts.
        earlier_ids: Under which ids it was kept before a simpler form of it was seen.
    """

    id: str
    bucket: str
    message: str
    case_file: str
    cases_to_find: int
    seconds_to_find: float
    hits: int = 1
    waived: str = ""
    earlier_ids: tuple[str, ...] = ()


class KeptFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What a failure's folder says of it, in `failure.json`: enough to know the bug again."""

    failure: Failure
    bucket: Bucket


def failure_id(bucket: str) -> str:
    """Return the name of a bucket's folder."""
    return hashlib.sha256(bucket.encode()).hexdigest()[:6]


class Store:
    """The folder of one hunt, created if need be.

    Args:
        folder: The folder.

    Raises:
        OSError: It cannot be written.
        UsageError: Another hunt is writing there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "failures").mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder / "lock")
        self._tidy()
        (folder / "trying").mkdir(exist_ok=True)
        # Without a buffer, so that what could not be written is not written later on.
        self._records = (folder / "records.jsonl").open("ab", buffering=0)
        if self._records.tell() and not _ends_with_newline(folder / "records.jsonl"):
            self._append(b"\n")

    def _tidy(self) -> None:
        """Put what a killed hunt was about to put in its place there, if it is whole."""
        for beside in list(self.folder.glob("failures/.*")):
            folder = beside.with_name(beside.name.split(".")[1])
            if (beside / "failure.json").exists() and not folder.exists():
                beside.rename(folder)
            else:
                shutil.rmtree(beside)

    def close(self) -> None:
        """Close the records, and let another hunt have the folder."""
        self._records.close()
        self._lock.close()

    def record(self, event: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system.

        Raises:
            OSError: The disk is full, for one; the error names the file.
        """
        self._append(msgspec.json.encode(event) + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            while line:
                line = line[self._records.write(line) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._records.name) from None

    def record_trial(
        self, case: Case, verdict: Verdict, *, purpose: str, at: float, lines: tuple[str, ...] = (), lost: int = 0
    ) -> None:
        """Append what one trial found, without the picture, which outweighs all else.

        Args:
            case: The case.
            verdict: What it gave.
            purpose: What it was tried for.
            at: Seconds into the hunt.
            lines: Lines of the kernel with what was new in how their masks were.
            lost: How many processes were lost on the way.
        """
        self.record(
            {
                "event": "trial",
                "at": round(at, 2),
                "purpose": purpose,
                "case": msgspec.Raw(encode_case(case)),
                "verdict": msgspec.structs.replace(verdict, wrong=None),
                **({"lines": lines} if lines else {}),
                **({"lost": lost} if lost else {}),
            }
        )

    def keep_failure(self, kept: KeptFailure, case: Case, target: str, more: dict[str, str]) -> None:
        """Write the folder of one failure, in one step.

        Args:
            kept: What is known of it.
            case: The shrunk case.
            target: The target's name.
            more: Other files, by name.
        """
        message = kept.failure.message
        folder = self.folder / "failures" / kept.failure.id
        beside = folder.with_name(f".{kept.failure.id}.{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        write(beside / "case.json", write_case_file(CaseFile(case=case, target=target, note=message)))
        write(beside / "repro.py", _SCRIPT.format(target=target, message=_for_docstring(message), case=case))
        for name, text in more.items():
            write(beside / name, text)
        write(beside / "failure.json", json_text(kept))
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)

    def change_failure(self, kept: KeptFailure) -> None:
        """Write anew what a failure's folder says of it."""
        write(self.folder / "failures" / kept.failure.id / "failure.json", json_text(kept))

    def merge_failure(self, name: str, into: str) -> None:
        """Move the folder of a failure into that of another, which is the same one in a simpler form."""
        (self.folder / "failures" / name).rename(self.folder / "failures" / into / f"was-{name}")

    def kept_failures(self) -> list[KeptFailure]:
        """Return the failures that earlier hunts left here, as far as they can be read."""
        found = []
        for path in sorted(self.folder.glob("failures/*/failure.json")):
            with contextlib.suppress(OSError, UnicodeError, msgspec.DecodeError):
                found.append(msgspec.json.decode(path.read_bytes(), type=KeptFailure))
        return found

    def known_cases(self) -> list[tuple[Path, Case]]:
        """Return the cases of the failures that earlier hunts left here."""
        return read_cases(sorted(self.folder.glob("failures/*/case.json")))

    def interrupted_cases(self) -> list[Case]:
        """Return the cases that workers were at when the last hunt was killed, without those whose trial was kept."""
        kept = {case for case, _ in self._lately(_LATELY_BYTES)}
        return [case for case in journaled_cases(self.folder / "trying") if case not in kept]

    def lately_drawn(self) -> set[Case]:
        """Return the cases that were drawn last, by earlier hunts: as many as can be told within seconds."""
        return {case for case, purpose in self._lately(_DRAWN_BYTES) if purpose == "hunt"}

    def _lately(self, size: int) -> Iterator[tuple[Case, str]]:
        path = self.folder / "records.jsonl"
        for record in read_records(path, max(0, path.stat().st_size - size)):
            trial = trial_of(record)
            if trial is not None:
                yield trial[0], str(record.get("purpose"))

    def forget_journals(self) -> None:
        """Remove what says which cases workers were at: the hunt ended in good order."""
        shutil.rmtree(self.folder / "trying", ignore_errors=True)

    @property
    def records_bytes(self) -> int:
        """Length of the records."""
        return self._records.tell()

    def write_state(self, state: bytes) -> None:
        """Write `state.json`, what the records up to now come to, once these are on the disk."""
        os.fsync(self._records.fileno())
        write(self.folder / "state.json", state.decode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`."""
        write(self.folder / "summary.json", json_text(summary))


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the last hunt in this folder; empty if there is none that can be read."""
    try:
        summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeError):
        return {}
    return summary if isinstance(summary, dict) else {}


def read_state(folder: Path) -> bytes:
    """Return what `write_state` wrote last; an empty object if there is nothing to be read."""
    try:
        return (folder / "state.json").read_bytes()
    except OSError:
        return b"{}"


def read_cases(paths: list[Path]) -> list[tuple[Path, Case]]:
    """Return the cases of these files.

    Raises:
        CaseError: One of them is malformed; the message names the file.
    """
    return [(path, read_case(path).case) for path in paths]


def read_case(path: Path) -> CaseFile:
    """Return what a case file, or a failure folder, holds.

    Raises:
        CaseError: There is no such file or it is malformed; the message names it.
    """
    if path.is_dir():
        path = path / "case.json"
    try:
        return read_case_file(path.read_bytes())
    except OSError as error:
        raise CaseError(f"{path}: {error.strerror or error}") from None
    except CaseError as error:
        raise CaseError(f"{path}: {error}") from None


def read_records(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the records of a hunt, from a byte on where one begins, without lines that a crash left torn."""
    with path.open("rb") as lines:
        lines.seek(start)
        for line in lines:
            try:
                record = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeError):
                continue
            if isinstance(record, dict):
                yield record


def trial_of(record: dict[str, Any]) -> tuple[Case, Verdict] | None:
    """Return the case and the verdict of a trial's record; None for another record, and for one that is damaged."""
    if record.get("event") != "trial":
        return None
    try:
        return case_of(record["case"]), verdict_of(record["verdict"])
    except (KeyError, TypeError, ValueError, CaseError, msgspec.ValidationError):
        return None


def verdict_of(fields: Any) -> Verdict:
    """Return the verdict that a JSON object stands for; raises TypeError, ValueError or `msgspec.ValidationError`."""
    verdict = dict(fields)
    if verdict.get("error_ratio", 0.0) is None:  # JSON has no infinity
        verdict["error_ratio"] = math.inf
    return msgspec.convert(verdict, Verdict)


def json_text(value: Any) -> str:
    """Return a value as JSON that people read, too: a line for each attribute, and one for each list of numbers."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
    return _NUMBERS.sub(lambda found: f"[{', '.join(found[1].replace(',', ' ').split())}]", text) + "\n"


def write(path: Path, text: str) -> None:
    """Put a file in its place in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def _locked(path: Path) -> IO[str]:
    """Lock a file until it is closed, or the process ends, however it does."""
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise UsageError(
            f"--out {path.parent}: another hunt, process {holder}, is writing there: take another folder, or let it end"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _for_docstring(message: str) -> str:
    return message.replace("\\", "\\\\").replace('"""', "'''")
