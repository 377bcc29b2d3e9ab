from __future__ import annotations

from forecastd.observe.standstill import Reach, Standstill
from forecastd.records import TopicPartition

P0, P1 = TopicPartition("forecasts", 0), TopicPartition("forecasts", 1)


def looks(*reaches: Reach, period_s: float = 10.0) -> list[float]:
    """Seconds of standstill at one look after the other."""
    standstill = Standstill()
    return [
        standstill.seconds({P0: reach}, number * period_s)[P0]
        for number, reach in enumerate(reaches)
    ]


class TestStandstill:
    def test_grows_while_messages_wait_behind_the_same_offset(self) -> None:
        assert looks(Reach(7, 9), Reach(7, 9), Reach(7, 400)) == [0, 10, 20]

    def test_is_nothing_while_transactions_follow_each_other(self) -> None:
        """Whenever one looks at a busy daemon a transaction is open, and never the same."""
        assert looks(Reach(7, 9), Reach(11, 13), Reach(90, 92)) == [0, 0, 0]

    def test_is_nothing_on_an_idle_topic(self) -> None:
        assert looks(Reach(9, 9), Reach(9, 9), Reach(9, 9)) == [0, 0, 0]

    def test_of_an_idle_topic_begins_when_a_message_waits(self) -> None:
        assert looks(Reach(9, 9), Reach(9, 9), Reach(9, 12), Reach(9, 12)) == [0, 0, 0, 10]

    def test_ends_when_readers_get_on(self) -> None:
        assert looks(Reach(7, 9), Reach(7, 9), Reach(9, 9), Reach(9, 12)) == [0, 10, 0, 0]

    def test_is_told_of_every_partition_apart(self) -> None:
        standstill = Standstill()
        standstill.seconds({P0: Reach(7, 9), P1: Reach(7, 9)}, 0.0)
        assert standstill.seconds({P0: Reach(7, 9), P1: Reach(8, 9)}, 30.0) == {P0: 30, P1: 0}

    def test_is_not_remembered_of_a_partition_that_nobody_told_of(self) -> None:
        """Without a leader nobody knows whether its readers got on meanwhile."""
        standstill = Standstill()
        standstill.seconds({P0: Reach(7, 9)}, 0.0)
        assert standstill.seconds({}, 10.0) == {}
        assert standstill.seconds({P0: Reach(7, 9)}, 20.0) == {P0: 0}
