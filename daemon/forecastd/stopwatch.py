"""How long each stage of a turn took, however often it was entered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from forecastd.observe.events import StageTimed, Telemetry
from forecastd.records import Stage


@dataclass(slots=True)
class Stopwatch:
    """Adds up wall and CPU time by stage until it is told to report."""

    telemetry: Telemetry
    _seconds: dict[Stage, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: Stage) -> Iterator[None]:
        """Add the time of a block to a stage."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        so_far = self._seconds.get(stage, (0.0, 0.0))
        passed, used = time.perf_counter() - wall, time.process_time() - cpu
        self._seconds[stage] = (so_far[0] + passed, so_far[1] + used)

    def report(self) -> None:
        """Emit one event a stage, and begin again."""
        for stage, (passed, used) in self._seconds.items():
            self.telemetry.emit(StageTimed(stage, passed, used))
        self._seconds.clear()
