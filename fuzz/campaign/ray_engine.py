"""Workers on the machines of a Ray cluster: one actor for each core, or several for each GPU.

Ray places them, carries what is said, and notices when a machine is gone. An actor is a hunter with its target in a
process of its own, like a worker on this machine. There must be `fuzz`, and the target under the name that it has here.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final

import msgspec

from fuzz.campaign.crew import Crewman, LostHunterError, NoRoomError, RemoteHunter, ready_of
from fuzz.campaign.engine import assignment_of
from fuzz.campaign.hunter import Hunter, Trial
from fuzz.campaign.isolation import InfrastructureError, UsageError, target_path
from fuzz.campaign.orders import (
    Answer,
    Done,
    Failed,
    Order,
    Ready,
    carry_out,
    decode_order,
    loaded,
)
from fuzz.campaign.plan import Plan

# A GPU is kept busy by several processes: most of a trial is work of the CPU.
_WORKERS_PER_GPU: Final = 8
_ROOM_SECONDS: Final = 10.0
# Answers travel together when they come faster than this.
_TOGETHER_SECONDS: Final = 0.1
_MOST_TOGETHER: Final = 256


class Actor:
    """A hunter on some machine; what Ray calls.

    Args:
        assignment: What it is told once, as JSON.
    """

    def __init__(self, assignment: bytes) -> None:
        self._assignment = assignment
        self._hunter: Hunter | None = None

    def load(self) -> bytes:
        """Load the target and return `Ready`, or `Failed`."""
        self._hunter, outcome = loaded(self._assignment)
        return msgspec.json.encode(outcome)

    def obey(self, order: bytes) -> Iterator[list[bytes]]:
        """Carry out an order, and yield the answers as they come."""
        assert self._hunter is not None
        answers: SimpleQueue[Answer] = SimpleQueue()
        # Hypothesis calls back, and Ray wants a generator.
        Thread(target=carry_out, args=(self._hunter, decode_order(order), answers.put), daemon=True).start()
        last = False
        while not last:
            together = [answers.get()]
            until = time.monotonic() + _TOGETHER_SECONDS
            while len(together) < _MOST_TOGETHER and not isinstance(together[-1], Done | Failed):
                try:
                    together.append(answers.get(timeout=max(0.0, until - time.monotonic())))
                except Empty:
                    break
            last = isinstance(together[-1], Done | Failed)
            yield [msgspec.json.encode(answer) for answer in together]


class RayHunter(RemoteHunter):
    """A hunter in a Ray actor.

    Args:
        ray: The module.
        actor: The actor, which has loaded the target.
        ready: What it answered then.
    """

    def __init__(self, ray: Any, actor: Any, ready: Ready) -> None:
        super().__init__(ready)
        self._ray, self._actor = ray, actor

    def close(self) -> None:
        """End the actor; the process that holds its target ends with it."""
        self._ray.kill(self._actor)

    def _order(self, order: Order, deliver: Callable[[Trial], None]) -> Done:
        try:
            for reference in self._actor.obey.options(num_returns="streaming").remote(msgspec.json.encode(order)):
                for answer in self._ray.get(reference):
                    done = self._take(answer, deliver)
                    if done is not None:
                        return done
        except self._ray.exceptions.RayError as error:
            raise LostHunterError(_first_line(error)) from None
        raise LostHunterError("the actor ended in the middle of an order")


class RayEngine:
    """Workers on a Ray cluster: that of `RAY_ADDRESS`, or of this machine, or a new one on this machine.

    Args:
        plan: What the user asked for.

    Raises:
        UsageError: Ray is not installed.
        InfrastructureError: There is no such cluster, or it has nothing to work with.
    """

    def __init__(self, plan: Plan) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("--engine ray: Ray is not installed: pip install 'fused-fuzz[ray]'") from None
        self._ray: Any = ray
        self._plan = plan
        try:
            ray.init(
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(target_path())}},
            )
        except (ConnectionError, RuntimeError, OSError) as error:
            raise InfrastructureError(f"--engine ray: {_first_line(error)}") from None
        has = ray.cluster_resources()
        gpus = 0 if plan.device == "cpu" else int(has.get("GPU", 0))
        cores = int(has.get("CPU", 0))
        if plan.device == "cuda" and not gpus:
            raise UsageError("--device cuda: the Ray cluster has no GPU")
        each = max(1, min(_WORKERS_PER_GPU, cores // gpus)) if gpus else 0
        self.workers = plan.workers or (gpus * each if gpus else cores)
        if not self.workers:
            raise InfrastructureError("--engine ray: the cluster has neither cores nor GPUs")
        share = gpus / self.workers
        self._needs = {"num_cpus": min(1.0, cores / self.workers), "num_gpus": share if share < 1 else 1}

    def hire(self, rank: int) -> Crewman:
        """Return a worker on a machine that has room for it.

        Raises:
            UsageError: The target cannot be loaded there.
            InfrastructureError: No process can be had for it.
            NoRoomError: No machine has room.
            LostHunterError: The worker was lost before it was ready.
        """
        kind = self._ray.remote(Actor).options(max_restarts=0, **self._needs)
        # Ray gives an actor its own GPUs, so that each counts from 0.
        actor = kind.remote(msgspec.json.encode(assignment_of(self._plan, 0, remote=True)))
        loading = actor.load.remote()
        try:
            self._wait_for_room(actor)
            return RayHunter(self._ray, actor, ready_of(self._ray.get(loading)))
        except self._ray.exceptions.RayError as error:
            raise LostHunterError(_first_line(error)) from None
        # Whatever it is, nobody else knows of the actor.
        except BaseException:
            self._ray.kill(actor)
            raise

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def _wait_for_room(self, actor: Any) -> None:
        try:
            self._ray.get(actor.__ray_ready__.remote(), timeout=_ROOM_SECONDS)
        except self._ray.exceptions.GetTimeoutError:
            raise NoRoomError(
                f"no machine of the Ray cluster had room for a worker within {_ROOM_SECONDS:.0f} s"
            ) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
