"""What every test run shares: interpreter or GPU, Hypothesis profiles, the kernels under test."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from fuzz.target import Target

pytest_plugins = ["fuzz.testing.sharding", "fuzz.testing.database"]

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    # Read by triton when it is imported, so before any test module is.
    os.environ["TRITON_INTERPRET"] = "1"
INTERPRETING = os.environ.get("TRITON_INTERPRET") == "1"
_HUGE_BYTES = 40 * 10**9

_SHARED = {
    "deadline": None,  # a trial's time says something about the machine, not about the kernel
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": False,  # a case prints as the call that rebuilds it
}
# Where Hypothesis sees CI, its default draws the same each time and remembers nothing; nights are not to.
_OWN = settings.get_profile("default")
settings.register_profile("dev", _OWN, max_examples=40, **_SHARED)
settings.register_profile("ci", _OWN, max_examples=40, derandomize=True, database=None, **_SHARED)
settings.register_profile("nightly", _OWN, max_examples=2000, **_SHARED)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fuzz")
    group.addoption(
        "--target", action="append", help="kernel under test: fused, two-pass, FILE.py, FILE.py:NAME or module:NAME"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Hypothesis has a profile of its own named ci that it loads where it sees CI; ours is loaded by name either way.
    if not config.getoption("--hypothesis-profile", default=None):
        settings.load_profile("ci" if os.environ.get("CI") else "dev")
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if HAS_GPU and worker.startswith("gw"):
        torch.cuda.set_device(int(worker[2:]) % torch.cuda.device_count())
    torch.set_num_threads(1)


def pytest_report_header(config: pytest.Config) -> str:
    import triton

    from fuzz.testing.sharding import PLAN

    place = "Triton's interpreter" if INTERPRETING else torch.cuda.get_device_name()
    profile = config.getoption("--hypothesis-profile", default=None) or ("ci" if os.environ.get("CI") else "dev")
    plan, seed = config.stash[PLAN], config.getoption("--hypothesis-seed", default=None)
    is_random = seed is None and plan.count == 1
    seeding = "fixed seed" if settings().derandomize else f"seed {'random' if is_random else plan.seed}"
    return f"fuzz: torch {torch.__version__}, triton {triton.__version__}, {place}, profile {profile}, {seeding}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        on_gpu, is_huge = item.get_closest_marker("gpu"), item.get_closest_marker("huge")
        if (on_gpu or is_huge) and INTERPRETING:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device: a machine with a GPU runs it"))
        elif is_huge and torch.cuda.get_device_properties(0).total_memory < _HUGE_BYTES:
            item.add_marker(pytest.mark.skip(reason="needs 40 GB on the GPU: a larger card runs it"))
        elif item.get_closest_marker("perf") and os.environ.get("PYTEST_XDIST_WORKER"):
            item.add_marker(pytest.mark.skip(reason="measures time: `pytest -m perf`, without -n, runs it"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        names = metafunc.config.getoption("--target") or ["fused", "two-pass"]
        metafunc.parametrize("target", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    """The kernel under test, loaded once."""
    from fuzz.target import TargetError, load_target

    try:
        return load_target(request.param)
    except TargetError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the tensors of a trial live."""
    return torch.device("cpu" if INTERPRETING else "cuda")
