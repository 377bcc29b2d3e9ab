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
            ("forecastd-windows", "windows"),
            ("forecastd-models", "models"),
        ]

    def test_gives_a_state_topic_the_partitions_of_its_input(self) -> None:
        """A row lives on the partition of its series; with another count it would not be found."""
        there = {"a": TopicShape(partitions=3, replicas=1), "b": TopicShape(7, 1)}
        plans = plan_topics(settings(ingest={"topics": ["a", "b"]}), there)
        assert [plan.partitions for plan in plans if plan.purpose == "state"] == [3, 7]

    def test_leaves_partitions_to_the_broker_where_nothing_says(self) -> None:
        shaped = {plan.purpose: plan.partitions for plan in plan_topics(settings(), {})}
        assert shaped.pop("models") == 1
        assert {*shaped.values()} == {None}

    def test_lets_forecasts_be_read_by_as_many_as_write_records(self) -> None:
        assert plan("output", {"records": RECORDS}).partitions == 4

    def test_compacts_state_and_makes_room_for_large_rows(self) -> None:
        configs = plan("state", {}).configs
        assert configs["cleanup.policy"] == "compact"
        assert configs["min.cleanable.dirty.ratio"] == "0.1"
        assert int(configs["max.message.bytes"]) > 1_048_588

    def test_deletes_windows_by_the_time_of_their_writing(self) -> None:
        """A history that is read on the first day must not be gone on the second."""
        found = plan("windows", {"records": RECORDS}, training={"retention": "2h"})
        assert (found.partitions, found.configs["cleanup.policy"]) == (4, "delete")
        assert found.configs["retention.ms"] == "7200000"
        assert found.configs["message.timestamp.type"] == "LogAppendTime"
        assert int(found.configs["max.message.bytes"]) > 1_048_588

    @pytest.mark.parametrize(
        "sections", [{"training": {"enabled": False}}, {"models": {"serve": "7-3fa9c1"}}]
    )
    def test_has_no_windows_topic_where_nothing_is_trained(self, sections: dict[str, Any]) -> None:
        plans = plan_topics(settings(**sections), {})
        assert not [plan for plan in plans if plan.purpose == "windows"]

    def test_keeps_models_in_one_partition_compacted(self) -> None:
        """The order of what is written there says which model serves."""
        found = plan("models", {"records": RECORDS})
        assert (found.partitions, found.configs["cleanup.policy"]) == (1, "compact")
        assert found.operations == {"DESCRIBE", "READ", "WRITE"}
        assert not found.is_optional

    def test_only_reads_models_where_none_are_trained(self) -> None:
        idle = plan("models", {}, training={"enabled": False})
        pinned = plan("models", {}, models={"serve": "7-3fa9c1"})
        assert idle.operations == pinned.operations == {"DESCRIBE", "READ"}
        assert idle.is_optional
        assert not pinned.is_optional

    def test_has_no_models_topic_where_a_path_serves(self) -> None:
        plans = plan_topics(settings(models={"serve": "models/first"}), {})
        assert not [plan for plan in plans if plan.purpose == "models"]

    def test_makes_room_for_a_dead_letters_headers(self) -> None:
        there = {"records": TopicShape(1, 1, configs={"max.message.bytes": "2000000"})}
        assert plan("dead letters", there).configs == {"max.message.bytes": "2065536"}


class TestFaults:
    def test_are_none_where_all_is_well(self) -> None:
        """An unlisted permission, and settings that we may not read, accuse nobody."""
        for purpose in ("input", "output", "dead letters", "state", "windows", "models"):
            assert not list(faults_of(plan(purpose, {"records": RECORDS}), TopicShape(4, 1)))

    @pytest.mark.parametrize("policy", ["delete", "compact,delete"])
    def test_name_a_state_topic_that_forgets(self, policy: str) -> None:
        shape = TopicShape(4, 3, configs={"cleanup.policy": policy})
        (sentence,) = faults_of(plan("state", {"records": RECORDS}), shape)
        assert sentence.startswith(
            f"forecastd-records-state: cleanup.policy {policy}, wanted compact"
        )

    @pytest.mark.parametrize("policy", ["compact", "compact,delete"])
    def test_name_a_windows_topic_that_keeps_one_of_each_series(self, policy: str) -> None:
        shape = TopicShape(1, 3, configs={"cleanup.policy": policy})
        (sentence,) = faults_of(plan("windows", {}), shape)
        assert sentence == (
            f"forecastd-windows: cleanup.policy {policy}, wanted delete;"
            " of each series only the newest window would be kept"
        )

    @pytest.mark.parametrize("policy", ["delete", "compact,delete"])
    def test_name_a_models_topic_that_forgets(self, policy: str) -> None:
        shape = TopicShape(1, 3, configs={"cleanup.policy": policy})
        (sentence,) = faults_of(plan("models", {}), shape)
        assert sentence == (
            f"forecastd-models: cleanup.policy {policy}, wanted compact; models would be lost"
        )

    def test_name_a_models_topic_that_takes_no_weights(self) -> None:
        """Where models are written: who only reads them takes what is there."""
        shape = TopicShape(1, 3, configs={"max.message.bytes": "100000"})
        (sentence,) = faults_of(plan("models", {}), shape)
        assert sentence == (
            "forecastd-models: max.message.bytes 100000, wanted 1048588; models could not be"
            " written"
        )
        reader = plan("models", {}, training={"enabled": False})
        assert not [*faults_of(reader, shape), *hints_of(reader, shape, 3)]

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
        for purpose in ("input", "output", "dead letters", "state", "windows", "models"):
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

    def test_name_windows_that_are_kept_for_another_time(self) -> None:
        """The setting says how a topic is made; of one that is there it changes nothing."""
        shape = TopicShape(1, 3, configs={**self.good.configs, "retention.ms": "1000"})
        (hint,) = hints_of(plan("windows", {}), shape, 3)
        assert hint == (
            "forecastd-windows: retention.ms 1000, wanted 604800000;"
            " training.retention is what a new topic gets"
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
