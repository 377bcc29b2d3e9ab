"""Training runs without a process: the twin of `train/subprocess_trainer.py`, for tests."""

from __future__ import annotations

from forecastd.train.run_outcome import TrainingJob, TrainingOutcome


class MemoryTrainer:
    """A run lasts until a test says what came of it.

    Attributes:
        started, killed: how many runs were.
    """

    def __init__(self) -> None:
        self.started = self.killed = 0
        self._is_running = False
        self._outcome: TrainingOutcome | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run has begun whose outcome nobody has got yet."""
        return self._is_running

    def start(self, _job: TrainingJob) -> None:
        """Begin a run."""
        assert not self._is_running, "two runs at once"
        self._is_running = True
        self.started += 1

    def end(self, outcome: TrainingOutcome) -> None:
        """End the run with an outcome that waits to be asked for."""
        assert self._is_running, "no run to end"
        self._outcome = outcome

    def poll(self) -> TrainingOutcome | None:
        """The outcome, once; None while there is none."""
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            self._is_running = False
        return outcome

    def kill(self) -> None:
        """End a run, if there is one, without an outcome."""
        self.killed += self._is_running
        self._is_running, self._outcome = False, None
