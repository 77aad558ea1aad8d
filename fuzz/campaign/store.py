"""What a hunt leaves in its folder.

Every file is complete at every moment: records are appended and flushed line by line, everything else is written beside
its place and moved there. A torn last line of the records, from a machine that went down, is skipped on reading, and so
is one whose checksum says that it is not what was written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from fuzz.campaign.failure import KeptFailure
from fuzz.campaign.isolation import UsageError
from fuzz.campaign.journal import journaled_cases
from fuzz.campaign.reading import read_cases, read_records, trial_of
from fuzz.case import Case, CaseFile, encode_case, write_case_file
from fuzz.checksum import sealed
from fuzz.verdict import Verdict

# What a killed hunt was at is looked for among the records of the last while.
_LATELY_BYTES: Final = 2**20
_DRAWN_BYTES: Final = 2**25
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
            self._tidy()
            (self.folder / "trying").mkdir(exist_ok=True)
            # Without a buffer, so that what could not be written is not written later on.
            self._records = stack.enter_context((self.folder / "records.jsonl").open("ab", buffering=0))
            if self._records.tell() and not _ends_with_newline(self.folder / "records.jsonl"):
                self._append(b"\n")
            stack.pop_all()

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
        with _named(self.folder / "records.jsonl"), self._lock:
            self._records.close()

    def record(self, event: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system.

        Raises:
            OSError: The disk is full, for one; the error names the file.
        """
        self._append(msgspec.json.encode(sealed(event)) + b"\n")

    def _append(self, line: bytes) -> None:
        with _named(self.folder / "records.jsonl"):
            while line:
                line = line[self._records.write(line) :]

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

    def write_state(self, state: dict[str, Any]) -> None:
        """Write `state.json`, what the records up to now come to, once these are on the disk."""
        with _named(self.folder / "records.jsonl"):
            os.fsync(self._records.fileno())
        write(self.folder / "state.json", msgspec.json.encode(sealed(state)).decode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`."""
        write(self.folder / "summary.json", json_text(sealed(summary)))


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
        # Whatever it is, a half-written file must not stay.
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
