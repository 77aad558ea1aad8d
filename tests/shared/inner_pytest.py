"""Runs pytest on tests in a folder of their own, as a user does, without this repository's conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What pytest, Hypothesis and the plugins go by; and by what Hypothesis knows that it runs in a CI.
FORGOTTEN = (
    *("PYTEST", "HYPOTHESIS", "CI", "FUZZ_"),
    *("__TOX", "TF_BUILD", "bamboo", "BUILDKITE", "CODEBUILD", "GITHUB_ACTIONS", "GITLAB_CI", "HEROKU", "TEAMCITY"),
)


def run_pytest(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, f"--rootdir={folder}", "-p", "no:cacheprovider"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FORGOTTEN)}
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=folder,
        env={**kept, "PYTHONPATH": paths, "COLUMNS": "300", **environment},
    )
