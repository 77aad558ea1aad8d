"""Engines: where the workers of a hunt come from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from fuzz.campaign.crew import Crewman, HunterProcess
from fuzz.campaign.hunter import Assignment, Hunter
from fuzz.campaign.nursery import Nursery
from fuzz.campaign.plan import Plan


class Engine(Protocol):
    """Gives workers, on this machine or on others."""

    @property
    def workers(self) -> int:
        """How many there can be."""

    def hire(self, rank: int) -> Crewman:
        """Return a worker that has loaded the target.

        Args:
            rank: Its number, from 0.

        Raises:
            UsageError: The target cannot be loaded.
            InfrastructureError: No worker can be had.
            NoRoomError: There is nowhere to put it for the time being.
            LostHunterError: The worker was lost before it was ready.
        """

    def close(self) -> None:
        """Let go of whatever the engine holds; workers are closed one by one before."""


@dataclass
class LocalEngine:
    """Workers on this machine; a single one draws in this very process.

    Args:
        plan: What the user asked for.
        nursery: Forks the processes that run the target, if there is one.
    """

    plan: Plan
    nursery: Nursery | None = None
    _room: int | None = None

    @property
    def workers(self) -> int:
        """As many as the user asked for, or as there are cores and, once one is hired, as the GPUs have memory for."""
        return self.plan.workers or min(cores(), self._room or cores())

    def hire(self, rank: int) -> Crewman:
        """Return a worker."""
        assignment = assignment_of(self.plan, rank)
        hired: Crewman = Hunter(assignment, self.nursery) if self.workers == 1 else HunterProcess(assignment)
        self._room = hired.room
        return hired

    def close(self) -> None:
        """There is nothing to let go of."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def assignment_of(plan: Plan, rank: int, *, remote: bool = False) -> Assignment:
    """Return what a worker is told once; a remote one cannot write into the hunt's folder."""
    return Assignment(
        target=plan.target,
        device=plan.device,
        seed=plan.seed,
        rank=rank,
        dtypes=plan.dtypes,
        precisions=plan.precisions,
        sources=dict(plan.sources),
        journal=None if remote else str(plan.out.resolve() / "trying" / f"{rank}.json"),
    )
