"""Calls of several candidates in turns, each in a process of its own.

Frameworks fight in one process: their thread pools wait by spinning, which would count as somebody
else's CPU time, and the number of threads is often a setting of the process. A turn is one call to
warm the caches and then calls for at least `LEAST_S`; candidates take turns, so that all meet the
same machine.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np

Call: TypeAlias = Callable[[], object]
Open: TypeAlias = Callable[..., Callable[[Any], Call]]

LEAST_S = 0.02  # CPU seconds of one turn
LONG_S = 0.2  # calls that take longer need no caches warmed
PAUSE_S = 0.02  # between turns: threads that spin behind a call come to rest


@dataclass(frozen=True)
class Spent:
    """Milliseconds of one call: `cpu` of all its threads, `wall` on the clock."""

    cpu: float
    wall: float


class Candidate:
    """A process that holds one candidate.

    open        called there with `arguments`; gives a function of the input that gives the call
    threads     for those who read OMP_NUM_THREADS; `open` is to set the others
    """

    def __init__(self, name: str, open: Open, arguments: Sequence[Any], threads: int) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(threads)
        self._process = context.Process(target=_serve, args=(there, open, arguments), daemon=True)
        try:
            self._process.start()
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
        there.close()

    def prepare(self, given: Any) -> np.ndarray:
        """Take an input; the result of its call."""
        made: np.ndarray = self._ask(("prepare", given))
        return made

    def turn(self) -> Spent:
        """Mean of one turn."""
        spent: Spent = self._ask(("turn", None))
        time.sleep(PAUSE_S)
        return spent

    def close(self) -> None:
        self._pipe.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, question: tuple[str, Any]) -> Any:
        try:
            self._pipe.send(question)
            answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise SystemExit(f"{self.name} ended; its own message is above") from error
        return answer


def _serve(pipe: Connection, open: Open, arguments: Sequence[Any]) -> None:
    prepare, call = open(*arguments), None
    while True:
        try:
            asked, given = pipe.recv()
        except EOFError:
            return
        if asked == "prepare":
            call = prepare(given)
            pipe.send(np.asarray(call()))
        else:
            assert call is not None
            pipe.send(_turn(call))


def _turn(call: Call) -> Spent:
    once = spent(call, 0)
    return once if once.cpu > LONG_S * 1e3 else spent(call, LEAST_S)


def spent(call: Call, least_s: float, clock: Callable[[], float] = time.process_time) -> Spent:
    """Of one call; short ones are repeated for `least_s` CPU seconds: clocks take a microsecond.

    clock   of CPU time; time.thread_time where one thread computes
    """
    cpu, wall, calls = clock(), time.perf_counter(), 0
    while True:
        call()
        calls += 1
        taken = clock() - cpu
        if taken >= least_s:
            return Spent(taken * 1e3 / calls, (time.perf_counter() - wall) * 1e3 / calls)


def medians(candidates: Sequence[Candidate], runs: int) -> Mapping[str, Spent]:
    """Median CPU and wall milliseconds of each; those of a candidate need not be of one turn."""
    turns: dict[str, list[Spent]] = {c.name: [] for c in candidates}
    for _ in range(runs):
        for candidate in candidates:
            turns[candidate.name].append(candidate.turn())
    return {
        name: Spent(*(statistics.median(getattr(t, f) for t in taken) for f in ("cpu", "wall")))
        for name, taken in turns.items()
    }
