"""A disk that is full, or cannot be written: one line, the right status, and nothing lost that was written before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import drills
import pytest
from drills import EAGER, assert_whole, one_line, trials

from fuzz.cli import main

Mount = Callable[[Path, str], None]


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Mounts a small file system until the test is over."""
    mounted = []

    def mounting(place: Path, options: str) -> None:
        place.mkdir(exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            subprocess.run(words, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounts a small file system: run as root, where that is allowed")
        mounted.append(place)

    yield mounting
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing is left, and return the file."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


def test_a_full_disk_ends_a_hunt_that_goes_on_when_there_is_room(tmp_path: Path, mount: Mount) -> None:
    disk = tmp_path / "disk"
    mount(disk, "size=4m")
    out, ballast = disk / "out", disk / "ballast"
    # Room for a part of the records.
    ballast.write_bytes(bytes(2**22 - 2**18))
    hunt = ["run", "--target", EAGER, "--max-cases", "600", "--workers", "1", "--seed", "1", "--out", out]
    ended = drills.run(*hunt)
    assert ended.returncode == 3, ended.stdout
    complaint = one_line(ended.stderr)
    assert "No space left on device" in complaint
    assert str(out) in complaint
    written = trials(out)
    assert written, "what was written before can be read"
    assert (out / "summary.json").exists()

    ballast.unlink()
    assert drills.run(*hunt[:3], "--max-cases", "50", *hunt[5:], "--resume").returncode == 0
    assert trials(out)[: len(written)] == written
    assert len(trials(out)) >= len(written) + 50
    assert not list(out.glob(".*")), "what was half written is taken away"


def test_a_full_disk_from_the_beginning_is_one_line(
    tmp_path: Path, mount: Mount, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    disk = tmp_path / "disk"
    mount(disk, "size=64k")
    fill(disk)
    status = main(["run", "--target", str(EAGER), "--max-cases", "20", "--workers", "1", "--out", str(disk / "out")])
    assert status == 3
    assert "No space left on device" in one_line(capsys.readouterr().err)


def test_a_folder_for_temporary_files_that_is_full_is_no_matter(tmp_path: Path, mount: Mount) -> None:
    disk = tmp_path / "disk"
    mount(disk, "size=64k")
    fill(disk)
    loud = drills.target(tmp_path, "print('x' * 1000)")
    hunted = drills.run(
        *("run", "--target", loud, "--max-cases", "50", "--workers", "1", "--out", tmp_path / "out"),
        environment={"TMPDIR": str(disk)},
    )
    assert hunted.returncode == 0, hunted.stderr
    assert_whole(tmp_path / "out", 0)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/out", "/dev/null/out", "x" * 300, "read-only/out"])
def test_a_folder_that_cannot_be_is_a_mistake_in_the_call(
    place: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str], quick: None
) -> None:
    (tmp_path / "file").touch()
    if place.startswith("read-only"):
        request.getfixturevalue("mount")(tmp_path / "read-only", "ro,size=64k")
    out = tmp_path / place
    status = main(["run", "--target", str(EAGER), "--max-cases", "1", "--workers", "1", "--out", str(out)])
    assert status == 2
    assert str(out) in capsys.readouterr().err.splitlines()[-1]
