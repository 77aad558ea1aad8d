"""What a hunt leaves in its folder, and reading it back.

Every file is complete at every moment: records are appended and flushed line by line, everything else is written beside
its place and moved there. A torn last line of the records, from a machine that went down, is skipped on reading, and so
is one whose checksum says that it is not what was written.
"""

from __future__ import annotations

import contextlib
import errno
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

from fuzz.campaign.isolation import UsageError
from fuzz.case import Case, CaseFile, case_of, encode_case, read_case_file, write_case_file
from fuzz.checksum import sealed, unsealed
from fuzz.layout import CaseError
from fuzz.verdict import Verdict

# Its line ends are outside of strings: those have none that is not escaped.
_NUMBERS: Final = re.compile(r"\[\n((?:\s*[-+.\deE]+,?\n\s*)+)\]")
# Errors that are the machine's; any other says that the path cannot be a hunt's folder.
_NO_FAULT_OF_THE_PATH: Final = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
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
    """

    id: str
    bucket: str
    message: str
    case_file: str
    cases_to_find: int
    seconds_to_find: float


def failure_id(bucket: str) -> str:
    """Return the name of a bucket's folder."""
    return hashlib.sha256(bucket.encode()).hexdigest()[:6]


class Store:
    """The folder of one hunt, created if need be.

    Args:
        folder: The folder.

    Raises:
        OSError: The disk is full, or out of order; the error names the file, here and in all methods.
        UsageError: There can be no such folder, or another hunt is writing there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _named(folder):
            try:
                self._open()
            except OSError as error:
                if error.errno in _NO_FAULT_OF_THE_PATH:
                    raise
                raise UsageError(f"--out {folder}: cannot be written: {error.strerror or error}") from None

    def _open(self) -> None:
        (self.folder / "failures").mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self._lock = stack.enter_context(_locked(self.folder / "lock"))
            self._records = stack.enter_context((self.folder / "records.jsonl").open("ab"))
            if self._records.tell() and not _ends_with_newline(self.folder / "records.jsonl"):
                self._records.write(b"\n")
            stack.pop_all()

    def close(self) -> None:
        """Close the records, and let another hunt have the folder."""
        with _named(self.folder / "records.jsonl"), self._lock:
            self._records.close()

    def record(self, event: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system."""
        with _named(self.folder / "records.jsonl"):
            self._records.write(msgspec.json.encode(sealed(event)) + b"\n")
            self._records.flush()

    def record_trial(self, case: Case, verdict: Verdict, *, purpose: str, at: float) -> None:
        """Append what one trial found, `at` seconds into the hunt."""
        self.record(
            {
                "event": "trial",
                "at": round(at, 2),
                "purpose": purpose,
                "case": msgspec.Raw(encode_case(case)),
                "verdict": verdict,
            }
        )

    def keep_failure(self, bucket: str, case: Case, verdict: Verdict, target: str, report: str) -> str:
        """Write the folder of one failure and return its id."""
        name = failure_id(bucket)
        folder = self.folder / "failures" / name
        folder.mkdir(exist_ok=True)
        write(folder / "case.json", write_case_file(CaseFile(case=case, target=target, note=verdict.message)))
        write(folder / "repro.py", _SCRIPT.format(target=target, message=_for_docstring(verdict.message), case=case))
        write(folder / "report.txt", report)
        return name

    def drop_failure(self, name: str) -> None:
        """Remove the folder of a failure that turned out to be another one, shrunk less far."""
        shutil.rmtree(self.folder / "failures" / name, ignore_errors=True)

    def known_cases(self) -> list[tuple[Path, Case]]:
        """Return the cases of the failures that earlier hunts left here."""
        return read_cases(sorted(self.folder.glob("failures/*/case.json")))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`."""
        write(self.folder / "summary.json", json_text(sealed(summary)))


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the last hunt in this folder; empty if there is none.

    Raises:
        UsageError: It is not what the hunt wrote.
    """
    path = folder / "summary.json"
    try:
        summary = unsealed(path.read_bytes())
    except OSError:
        return {}
    if summary is None:
        raise UsageError(f"{path}: damaged: without this file a resumed hunt counts from 0, and loses nothing else")
    return summary


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


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a hunt, without lines that a crash left torn, or that were damaged later."""
    with path.open("rb") as lines:
        for line in lines:
            record = unsealed(line)
            if record is not None:
                yield record


def trial_of(record: dict[str, Any]) -> tuple[Case, Verdict] | None:
    """Return the case and the verdict of a trial's record; None for another record, and for one that is damaged."""
    if record.get("event") != "trial":
        return None
    try:
        verdict = dict(record["verdict"])
        if verdict.get("error_ratio", 0.0) is None:  # JSON has no infinity
            verdict["error_ratio"] = math.inf
        return case_of(record["case"]), msgspec.convert(verdict, Verdict)
    except (KeyError, TypeError, ValueError, CaseError, msgspec.ValidationError):
        return None


def json_text(value: Any) -> str:
    """Return a value as JSON that people read, too: a line for each attribute, and one for each list of numbers."""
    text = msgspec.json.format(msgspec.json.encode(value), indent=1).decode()
    return _NUMBERS.sub(lambda found: f"[{', '.join(found[1].replace(',', ' ').split())}]", text) + "\n"


def write(path: Path, text: str) -> None:
    """Put a file in its place in one step.

    Raises:
        OSError: It cannot be written; what was there stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with _named(path):
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of the operating system name the file: one that was open already is not named."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


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
    with contextlib.ExitStack() as stack:
        stack.enter_context(file)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        stack.pop_all()
    return file


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _for_docstring(message: str) -> str:
    return message.replace("\\", "\\\\").replace('"""', "'''")
