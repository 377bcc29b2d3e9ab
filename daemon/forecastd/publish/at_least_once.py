"""At least once: publish, then save, then commit, each acknowledged before the next begins."""

from __future__ import annotations

from dataclasses import dataclass

from forecastd.ports import Sink, Source, Timer
from forecastd.records import Turn


@dataclass(frozen=True, slots=True)
class AtLeastOnce:
    """Delivers a turn in three steps.

    Rows leave only after every forecast and dead letter that they imply is acknowledged: were a
    row to arrive without its forecast, a restart would skip the window and the forecast would be
    lost, and so would the window that is to be learnt from. Offsets leave last: until then a
    restart reads the records again.
    """

    source: Source
    sink: Sink

    def deliver(self, turn: Turn, timer: Timer) -> None:
        """Publish, save and commit.

        Raises:
            BrokerError: something was not acknowledged.
            TopicError: a message is too large for its topic.
        """
        with timer.timed("publish"):
            self.sink.send([*turn.published, *turn.windows])
        with timer.timed("save"):
            self.sink.send(turn.rows)
        with timer.timed("commit"):
            if turn.commits:
                self.source.commit(turn.commits)

    def close(self, timeout_s: float) -> None:
        """Give up whatever is not acknowledged yet."""
        self.sink.close(timeout_s)
