from typing import Any

import pytest

from forecastd.settings import Settings
from forecastd.topic_plan import (
    TopicPlan,
    TopicShape,
    faults_of,
    hints_of,
    is_outgrown,
    missing_topic,
    outgrown_topic,
    plan_topics,
)


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def plan(purpose: str, there: dict[str, TopicShape], **sections: Any) -> TopicPlan:
    """The one plan for this purpose."""
    (found,) = [p for p in plan_topics(settings(**sections), there) if p.purpose == purpose]
    return found


RECORDS = TopicShape(partitions=4, replicas=3, configs={"max.message.bytes": "1048588"})


class TestPlan:
    def test_names_every_topic_inputs_first(self) -> None:
        plans = plan_topics(settings(ingest={"topics": ["a", "b"]}), {})
        assert [(plan.name, plan.purpose) for plan in plans] == [
            ("a", "input"),
            ("b", "input"),
            ("forecasts", "output"),
            ("dead-letters", "dead letters"),
            ("forecastd-a-state", "state"),
            ("forecastd-b-state", "state"),
        ]

    def test_gives_a_state_topic_the_partitions_of_its_input(self) -> None:
        """A row lives on the partition of its series; with another count it would not be found."""
        there = {"a": TopicShape(partitions=3, replicas=1), "b": TopicShape(7, 1)}
        plans = plan_topics(settings(ingest={"topics": ["a", "b"]}), there)
        assert [plan.partitions for plan in plans if plan.purpose == "state"] == [3, 7]

    def test_leaves_partitions_to_the_broker_where_nothing_says(self) -> None:
        assert {plan.partitions for plan in plan_topics(settings(), {})} == {None}

    def test_lets_forecasts_be_read_by_as_many_as_write_records(self) -> None:
        assert plan("output", {"records": RECORDS}).partitions == 4

    def test_compacts_state_and_makes_room_for_large_rows(self) -> None:
        configs = plan("state", {}).configs
        assert configs["cleanup.policy"] == "compact"
        assert configs["min.cleanable.dirty.ratio"] == "0.1"
        assert int(configs["max.message.bytes"]) > 1_048_588

    def test_makes_room_for_a_dead_letters_headers(self) -> None:
        there = {"records": TopicShape(1, 1, configs={"max.message.bytes": "2000000"})}
        assert plan("dead letters", there).configs == {"max.message.bytes": "2065536"}


class TestFaults:
    def test_are_none_where_all_is_well(self) -> None:
        """An unlisted permission, and settings that we may not read, accuse nobody."""
        for purpose in ("input", "output", "dead letters", "state"):
            assert not list(faults_of(plan(purpose, {"records": RECORDS}), TopicShape(4, 1)))

    @pytest.mark.parametrize("policy", ["delete", "compact,delete"])
    def test_name_a_state_topic_that_forgets(self, policy: str) -> None:
        shape = TopicShape(4, 3, configs={"cleanup.policy": policy})
        (sentence,) = faults_of(plan("state", {"records": RECORDS}), shape)
        assert sentence.startswith(
            f"forecastd-records-state: cleanup.policy {policy}, wanted compact"
        )

    def test_name_a_state_topic_with_another_number_of_partitions(self) -> None:
        (sentence,) = faults_of(plan("state", {"records": RECORDS}), TopicShape(5, 3))
        assert sentence.startswith(
            "forecastd-records-state: 5 partitions, wanted 4 like records; rows are kept by"
        )

    def test_leave_a_state_topic_that_is_to_grow_to_those_who_may(self) -> None:
        state, shape = plan("state", {"records": RECORDS}), TopicShape(1, 3)
        assert not list(faults_of(state, shape))
        assert is_outgrown(state, shape)
        assert not is_outgrown(state, TopicShape(4, 3))
        assert not is_outgrown(plan("output", {"records": RECORDS}), shape)
        assert outgrown_topic(state, shape, settings()).endswith(
            "1 partition, wanted 4 like records, which has grown; grow it with: kafka-topics.sh"
            " --bootstrap-server localhost:9092 --alter --topic forecastd-records-state"
            " --partitions 4"
        )

    def test_name_a_dead_letter_topic_that_refuses_records_without_a_key(self) -> None:
        shape = TopicShape(1, 3, configs={"cleanup.policy": "compact"})
        (sentence,) = faults_of(plan("dead letters", {}), shape)
        assert "wanted delete; it refuses records without a key" in sentence

    def test_name_permissions_that_are_not_there(self) -> None:
        shape = TopicShape(4, 3, operations=frozenset({"DESCRIBE", "DELETE"}))
        (sentence,) = faults_of(plan("state", {"records": RECORDS}), shape)
        assert sentence == (
            "forecastd-records-state: no permission to READ and WRITE, wanted an ACL that allows it"
        )


class TestHints:
    good = TopicShape(4, 3, configs={"max.message.bytes": "99999999"})

    def test_are_none_where_all_is_well(self) -> None:
        for purpose in ("input", "output", "dead letters", "state"):
            assert not list(hints_of(plan(purpose, {"records": RECORDS}), self.good, 3))

    def test_name_a_topic_that_is_lost_with_its_broker(self) -> None:
        shape = TopicShape(4, 1, configs=self.good.configs)
        assert "1 replica, wanted 3" in "".join(hints_of(plan("input", {}), shape, brokers=3))
        assert not list(hints_of(plan("input", {}), shape, brokers=1))

    def test_name_dead_letters_that_will_be_cut(self) -> None:
        """A warning only: what is refused is sent again, cut, with a header that says so."""
        (hint,) = hints_of(plan("dead letters", {"records": RECORDS}), RECORDS, 3)
        assert hint == (
            "dead-letters: max.message.bytes 1048588, wanted 1114124; larger ones are cut"
        )

    def test_name_partitions_without_a_leader(self) -> None:
        shape = TopicShape(4, 3, leaderless=(1, 3), configs=self.good.configs)
        (hint,) = hints_of(plan("input", {}), shape, 3)
        assert hint == "records[1], records[3]: no leader right now, wanted one"

    def test_name_settings_that_could_not_be_read(self) -> None:
        (hint,) = hints_of(plan("state", {}), TopicShape(4, 3), 3)
        assert "no permission to DESCRIBE_CONFIGS" in hint


class TestMissingTopic:
    def test_comes_with_the_command_that_creates_it(self) -> None:
        found = settings(kafka={"bootstrap_servers": "a:1,b:2", "replication_factor": 3})
        (state,) = [p for p in plan_topics(found, {"records": RECORDS}) if p.purpose == "state"]
        assert missing_topic(state, found) == (
            "forecastd-records-state: no such topic, wanted it, as kafka.create_topics is false;"
            " create it with: kafka-topics.sh --bootstrap-server a:1,b:2"
            " --create --topic forecastd-records-state --partitions 4 --replication-factor 3"
            " --config cleanup.policy=compact --config min.cleanable.dirty.ratio=0.1"
            " --config segment.bytes=67108864 --config segment.ms=3600000"
            " --config max.message.bytes=16777216"
        )

    def test_of_unknown_partitions_says_whose_they_are(self) -> None:
        assert "--partitions PARTITIONS_OF_records" in missing_topic(plan("state", {}), settings())

    def test_behind_a_lock_needs_a_key(self) -> None:
        found = settings(kafka={"security_protocol": "SSL"})
        assert "--command-config client.properties" in missing_topic(plan("input", {}), found)
