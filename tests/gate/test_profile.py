"""Nsight Compute's figures: what is read of them, and what is said where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.campaign.isolation import UsageError
from fuzz.cli import main
from fuzz.gate.command import profile_targets
from fuzz.gate.profile import METRICS, Profile, known_profiles, parse_profiles, profile
from fuzz.report.gate import profile_text

FIGURES = st.dictionaries(st.sampled_from(METRICS), st.integers(0, 10**9).map(float), min_size=1)


def as_printed(launches: list[tuple[str, dict[str, float]]]) -> list[str]:
    """Launches as `ncu --csv --page raw` prints them, thousands apart, among its remarks."""
    cells = [["ID", "Kernel Name", *METRICS], ["", "", *("unit" for _ in METRICS)]]
    for number, (kernel, figures) in enumerate(launches):
        cells.append([str(number), kernel, *(f"{figures[name]:,.2f}" if name in figures else "" for name in METRICS)])
    lines = [",".join(f'"{cell}"' for cell in row) for row in cells]
    return ["==PROF== Connected to process 1", *lines, "==PROF== Disconnected from process 1"]


@given(launches=st.lists(st.tuples(st.sampled_from(["pack_kernel", "strip_kernel"]), FIGURES), max_size=4))
def test_what_is_printed_is_read(launches: list[tuple[str, dict[str, float]]]) -> None:
    read = list(parse_profiles("one.py", as_printed(launches)))
    assert read == [Profile(target="one.py", kernel=kernel, metrics=figures) for kernel, figures in launches]


def test_the_unfused_kernels_stand_beside() -> None:
    text = profile_text([Profile(target="one.py", kernel="mine", metrics={METRICS[1]: 59.5})], known_profiles())
    line = next(line for line in text.splitlines() if line.startswith(METRICS[1]))
    assert line.split()[1:] == ["59.50", "39.24", "5.07"]


def test_without_nsight_compute_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="ncu must be on the PATH; it comes with"):
        profile("fused")
    assert main(["profile"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.gpu
@pytest.mark.slow
def test_every_metric_is_found(tmp_path: Path) -> None:
    if shutil.which("ncu") is None:
        pytest.skip("needs Nsight Compute: a machine with the CUDA toolkit runs it")
    file = tmp_path / "profile.json"
    text = profile_targets(("fused", "two-pass"), json_file=file)
    for metric in METRICS:
        line = next(line for line in text.splitlines() if line.startswith(metric))
        assert len(line.split()) >= 1 + 5, f"{metric} is missing for a kernel:\n{text}"
    assert "channel_min_kernel" in file.read_text()
