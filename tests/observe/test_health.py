from __future__ import annotations

from functools import reduce

from forecastd.observe.events import (
    BrokerLost,
    Event,
    LoopTurned,
    PartitionReady,
    Rebalanced,
    RestoreStarted,
    StateReset,
    Stopping,
    TurnCompleted,
)
from forecastd.observe.health import STARTUP_S, Health, liveness, readiness
from forecastd.records import TopicPartition

P0, P1 = TopicPartition("records", 0), TopicPartition("records", 1)
JOINED = Rebalanced("assigned", (P0, P1))
SERVING = (
    LoopTurned(1.0, broker_reachable=True),
    JOINED,
    PartitionReady(P0, 5),
    PartitionReady(P1, 7),
)


def health_after(*events: Event) -> Health:
    return reduce(Health.after, events, Health(started_s=0.0))


class TestReadiness:
    def test_nothing_is_ready_before_a_broker_has_answered(self) -> None:
        verdict = readiness(Health(started_s=0.0))
        assert not verdict.ok
        assert [sentence.split(":")[0] for sentence in verdict.waiting_for] == ["broker", "group"]

    def test_ready_once_broker_group_and_state_are_there(self) -> None:
        assert readiness(health_after(*SERVING)).ok

    def test_names_the_partitions_that_are_still_restored(self) -> None:
        health = health_after(*SERVING[:3])
        assert readiness(health).waiting_for == ("state: restoring records[1]",)

    def test_counts_partitions_that_are_too_many_to_name(self) -> None:
        many = tuple(TopicPartition("records", number) for number in range(30))
        health = health_after(LoopTurned(1.0, broker_reachable=True), Rebalanced("assigned", many))
        (sentence,) = readiness(health).waiting_for
        assert sentence.endswith("records[4] and 25 more")

    def test_a_member_without_partitions_is_ready(self) -> None:
        """A spare instance waits for its turn; it must not look broken."""
        spare = health_after(LoopTurned(1.0, broker_reachable=True), Rebalanced("assigned", ()))
        assert readiness(spare).ok

    def test_a_partition_that_is_taken_away_is_no_longer_waited_for(self) -> None:
        assert readiness(health_after(*SERVING[:3], Rebalanced("revoked", (P1,)))).ok

    def test_a_broker_that_does_not_answer_says_why_until_it_answers(self) -> None:
        silent = health_after(*SERVING, LoopTurned(2.0, broker_reachable=False))
        assert readiness(silent).waiting_for == ("broker: the broker does not answer",)
        assert readiness(silent.after(LoopTurned(3.0, broker_reachable=True))).ok

    def test_a_lost_client_must_join_and_restore_again(self) -> None:
        """Else a probe between the new client's first turn and its assignment would say ready."""
        lost = health_after(*SERVING, BrokerLost("no answer in 10s", 1.0))
        back = lost.after(LoopTurned(2.0, broker_reachable=False))
        assert "broker: no answer in 10s" in readiness(back).waiting_for
        answering = back.after(LoopTurned(3.0, broker_reachable=True))
        assert [one.split(":")[0] for one in readiness(answering).waiting_for] == ["group"]
        assert readiness(reduce(Health.after, SERVING, answering)).ok

    def test_a_commit_proves_that_the_broker_answers(self) -> None:
        turn = TurnCompleted(1, 1, 0, 0, 0, 0, at_ms=0, delay_seconds=())
        silent = health_after(*SERVING, LoopTurned(2.0, broker_reachable=False))
        assert readiness(silent.after(turn)).ok

    def test_lost_membership_is_not_ready(self) -> None:
        assert not readiness(health_after(*SERVING, Rebalanced("lost", (P0, P1)))).ok

    def test_a_partition_that_is_restored_anew_is_waited_for(self) -> None:
        assert not readiness(health_after(*SERVING, RestoreStarted(P0, 10))).ok

    def test_stopping_sends_nobody_here_any_more(self) -> None:
        assert readiness(health_after(*SERVING, Stopping("SIGTERM"))).waiting_for == (
            "loop: stopping",
        )

    def test_other_events_change_nothing(self) -> None:
        health = health_after(*SERVING)
        assert health.after(StateReset(1)) is health


class TestLiveness:
    def test_lives_while_the_loop_turns(self) -> None:
        assert liveness(health_after(LoopTurned(100.0, broker_reachable=True)), 220.0, 120.0).ok

    def test_a_loop_that_hangs_is_dead_and_the_sentence_says_since_when(self) -> None:
        verdict = liveness(health_after(LoopTurned(100.0, broker_reachable=True)), 221.0, 120.0)
        assert verdict.waiting_for == (
            "loop: the last turn is 121 s ago, wanted a turn within 120 s",
        )

    def test_an_unreachable_broker_is_no_reason_to_restart(self) -> None:
        health = health_after(BrokerLost("gone", 1.0), LoopTurned(100.0, broker_reachable=False))
        assert liveness(health, 110.0, 120.0).ok

    def test_the_start_may_take_longer_than_a_turn_but_not_for_ever(self) -> None:
        starting = Health(started_s=0.0)
        assert liveness(starting, STARTUP_S, 120.0).ok
        assert not liveness(starting, STARTUP_S + 1, 120.0).ok
