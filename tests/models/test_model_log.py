from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from forecastd.errors import ModelError
from forecastd.models import model_records
from forecastd.models.model_log import ModelLog
from forecastd.models.model_records import (
    OnProbation,
    Pointer,
    Run,
    encode_entry,
    encode_pointer,
    encode_probation,
    encode_run,
    entry_key,
    weights_key,
)
from forecastd.records import Message
from tests.models.some_models import NOW_MS, TOPIC, Topic, fold, serves, some_model


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    """A topic whose models are of several parts."""
    monkeypatch.setattr(model_records, "CHUNK_BYTES", 100)
    return Topic()


class TestEmpty:
    def test_lets_the_baseline_serve(self, topic: Topic) -> None:
        log = topic.log
        assert (log.pointer, log.champion, log.versions, log.last_run) == (None, None, [], None)
        assert (log.next_number(), log.is_held, log.faults) == (1, False, [])

    def test_says_that_there_are_no_models(self, topic: Topic) -> None:
        with pytest.raises(ModelError) as caught:
            topic.log.promote("7-3fa9c1", "operator", NOW_MS, "")
        assert str(caught.value) == (
            "g-models 7-3fa9c1: no such model, wanted one; the group has no models yet"
        )


class TestModels:
    def test_give_back_their_weights(self, topic: Topic) -> None:
        entry = topic.add()
        found = topic.log.models.weights(entry.version)
        for one, other in zip(found, some_model(1).weights, strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == np.float32

    def test_do_not_serve_before_somebody_says_so(self, topic: Topic) -> None:
        topic.add()
        assert topic.log.champion is None

    def test_come_newest_first(self, topic: Topic) -> None:
        numbers = [topic.add().number for _ in range(3)]
        assert numbers == [1, 2, 3]
        assert [entry.number for entry in topic.log.versions] == [3, 2, 1]

    def test_count_only_with_all_of_their_weights(self, topic: Topic) -> None:
        entry, messages = encode_entry(TOPIC, some_model(), 1, NOW_MS)
        for missing in range(len(messages)):
            log = ModelLog(TOPIC)
            fold(log, *messages[:missing], *messages[missing + 1 :])
            assert log.versions == []
            assert log.next_number() == 2, "its number is taken all the same"
        fold(log, *messages)
        assert log.versions == [entry]

    def test_count_in_whatever_order_compaction_leaves_them(self, topic: Topic) -> None:
        entry, messages = encode_entry(TOPIC, some_model(), 1, NOW_MS)
        for order in itertools.permutations(messages):
            log = ModelLog(TOPIC)
            fold(log, *order)
            assert log.versions == [entry]

    def test_that_are_damaged_are_left_out_with_a_sentence(self, topic: Topic) -> None:
        version = topic.add().version
        part = next(m for m in topic.messages if m.key == weights_key(version, 0))
        topic.log.fold(part.key, bytes(reversed(part.value or b"")))
        assert topic.log.versions == []
        (fault,) = topic.log.faults
        assert fault == (
            f"g-models {version}: its weights differ from their checksum, wanted them as they were "
            "written; it is ignored"
        )

    def test_with_numbers_that_are_not_finite_are_left_out(self, topic: Topic) -> None:
        model = some_model()
        model.weights[0][0, 0] = np.nan
        fold(topic.log, *encode_entry(TOPIC, model, 1, NOW_MS)[1])
        assert topic.log.versions == []
        assert "not finite" in topic.log.faults[0]

    def test_are_not_believed_under_the_key_of_another(self, topic: Topic) -> None:
        entry, messages = encode_entry(TOPIC, some_model(), 1, NOW_MS)
        topic.log.fold(b"entry/2-abcdef", messages[-1].value)
        (fault,) = topic.log.faults
        assert fault == (
            f"g-models entry/2-abcdef: entry of {entry.version}, wanted that of its key; it is "
            "ignored"
        )

    def test_keep_their_number_for_themselves_after_they_are_gone(self, topic: Topic) -> None:
        """A number names one model in dashboards and forecasts."""
        version = topic.add().version
        topic.promote(version)
        topic.point(topic.log.rollback("rollback", NOW_MS, ""))
        topic.write(Message(TOPIC, entry_key(version), None, 0))
        assert topic.log.next_number() == 2


class TestProbation:
    def test_is_that_of_what_a_trainer_lets_serve(self, topic: Topic) -> None:
        watched = probation(topic)
        assert topic.log.on_probation is None, "the pointer comes after it"
        topic.promote(watched.version)
        assert topic.log.on_probation == topic.read_late().on_probation == watched

    def test_ends_when_its_version_has_proved_itself(self, topic: Topic) -> None:
        topic.promote(probation(topic).version)
        topic.write(encode_probation(TOPIC, None))
        assert topic.log.on_probation is None
        assert topic.read_late().on_probation is None

    def test_ends_when_something_else_serves(self, topic: Topic) -> None:
        first = probation(topic).version
        topic.promote(first)
        topic.promote(topic.add().version)
        assert topic.log.on_probation is None

    @pytest.mark.parametrize("by", ["operator", "release"])
    def test_ends_with_the_word_of_a_person(self, topic: Topic, by: str) -> None:
        version = probation(topic).version
        topic.promote(version)
        topic.promote(version, by)
        assert topic.log.on_probation is None


def probation(topic: Topic) -> OnProbation:
    """That of a model which is there and does not serve yet."""
    watched = OnProbation(version=topic.add().version, skill_before=0.25)
    topic.write(encode_probation(TOPIC, watched))
    return watched


class TestPromotion:
    def test_is_followed(self, topic: Topic) -> None:
        version = topic.add().version
        topic.promote(version)
        assert serves(topic.log) == serves(topic.read_late()) == version

    def test_of_a_model_that_is_not_there_is_refused(self, topic: Topic) -> None:
        version = topic.add().version
        with pytest.raises(ModelError) as caught:
            topic.promote("9-abcdef")
        assert str(caught.value) == f"g-models 9-abcdef: no such model, wanted one of {version}"

    def test_without_all_weights_leaves_what_served_before(self, topic: Topic) -> None:
        """Two owners for a moment: one points at what the other has removed."""
        first, second = topic.add().version, topic.add().version
        topic.promote(first)
        topic.promote(second)
        topic.write(Message(TOPIC, weights_key(second, 1), None, 0))
        for log in (topic.log, topic.read_late()):
            assert serves(log) == first
            assert f"{second} is not there with all its weights" in "\n".join(log.faults)

    def test_counts_as_soon_as_the_weights_are_there(self, topic: Topic) -> None:
        entry, messages = encode_entry(TOPIC, some_model(), 1, NOW_MS)
        pointer = Pointer(sequence=1, version=entry.version, by="trainer", at_ms=1, reason="")
        topic.write(encode_pointer(TOPIC, pointer), *messages[:-1])
        assert topic.log.champion is None
        topic.write(messages[-1])
        assert serves(topic.log) == entry.version
        assert topic.log.faults == []

    def test_that_is_cut_short_leaves_a_champion_with_all_its_weights(self, topic: Topic) -> None:
        """Whatever message the trainer dies behind, early readers and late ones agree."""
        first = topic.add().version
        topic.promote(first)
        writer = Topic()
        writer.write(*topic.messages)
        second = writer.add(parent=first).version
        writer.promote(second)
        writer.write(*writer.log.tombstones_beyond(1))
        for message in writer.messages[len(topic.messages) :]:
            topic.write(message)
            champion = serves(topic.log)
            assert champion == serves(topic.read_late())
            assert champion in (first, second)
            assert topic.log.models.weights(champion or "")
        assert serves(topic.log) == second

    def test_that_came_last_wins(self, topic: Topic) -> None:
        """Whatever number it has: two owners may count the same."""
        first, second = topic.add().version, topic.add().version
        pointers = [topic.log.promote(v, "trainer", NOW_MS, "") for v in (second, first)]
        assert len({pointer.key for pointer in pointers}) == 1
        for pointer in pointers:
            topic.point(pointer)
        assert serves(topic.log) == serves(topic.read_late()) == first


class TestOperator:
    def test_holds_the_pointer_until_release(self, topic: Topic) -> None:
        first, second = topic.add().version, topic.add().version
        topic.promote(first, "operator")
        assert topic.log.is_held
        held = "operator holds the pointer, wanted forecastd models release"
        with pytest.raises(ModelError, match=held):
            topic.log.promote(second, "trainer", NOW_MS, "")
        with pytest.raises(ModelError, match=held):
            topic.log.rollback("rollback", NOW_MS, "")
        topic.point(topic.log.release(NOW_MS, ""))
        assert (serves(topic.log), topic.log.is_held) == (first, False)
        topic.promote(second)
        assert serves(topic.log) == serves(topic.read_late()) == second

    def test_is_not_overruled_by_a_trainer_that_has_not_heard(self, topic: Topic) -> None:
        """Nor by compaction: the trainer's pointer has a key of its own."""
        first, second = topic.add().version, topic.add().version
        late = topic.log.promote(second, "trainer", NOW_MS, "")
        topic.promote(first, "operator")
        topic.point(late)
        for log in (topic.log, topic.read_late()):
            assert serves(log) == first
            (fault,) = log.faults
            assert fault == (
                f"g-models pointer/1-trainer: an operator holds {first}, wanted a release first; "
                "it is ignored"
            )

    def test_may_move_what_an_operator_holds(self, topic: Topic) -> None:
        first, second = topic.add().version, topic.add().version
        topic.promote(first, "operator")
        topic.promote(second, "operator")
        assert serves(topic.log) == second

    def test_does_not_stop_models_from_being_added(self, topic: Topic) -> None:
        topic.promote(topic.add().version, "operator")
        topic.add()
        assert len(topic.log.versions) == 2

    def test_can_hold_the_baseline(self, topic: Topic) -> None:
        version = topic.add().version
        topic.promote(version)
        topic.point(topic.log.rollback("operator", NOW_MS, "nonsense at night"))
        assert (topic.log.champion, topic.log.is_held) == (None, True)
        with pytest.raises(ModelError, match="holds the pointer"):
            topic.promote(topic.add().version)

    def test_has_nothing_to_release_where_nothing_is_held(self, topic: Topic) -> None:
        topic.promote(topic.add().version)
        with pytest.raises(ModelError, match="no version is held"):
            topic.log.release(NOW_MS, "")


class TestRollback:
    def test_goes_back_to_what_served_before(self, topic: Topic) -> None:
        first, second = topic.add().version, topic.add().version
        topic.promote(first)
        topic.promote(second)
        topic.point(topic.log.rollback("rollback", NOW_MS, "worse"))
        assert serves(topic.log) == serves(topic.read_late()) == first
        assert topic.log.barred == (second,)

    def test_of_the_first_model_goes_back_to_the_baseline(self, topic: Topic) -> None:
        topic.promote(topic.add().version)
        topic.point(topic.log.rollback("rollback", NOW_MS, "worse"))
        assert topic.log.champion is None
        with pytest.raises(ModelError, match="the baseline serves, wanted a model to roll back"):
            topic.log.rollback("rollback", NOW_MS, "worse")

    def test_bars_the_version_for_all_but_operators(self, topic: Topic) -> None:
        version = topic.add().version
        stale = topic.promote(version)
        topic.point(topic.log.rollback("rollback", NOW_MS, "worse"))
        with pytest.raises(ModelError, match="it was rolled back, wanted another"):
            topic.promote(version)
        topic.point(msgspec.structs.replace(stale, sequence=9))
        assert topic.log.champion is None, "one who has not heard is not believed either"
        topic.promote(version, "operator")
        assert (serves(topic.log), topic.log.barred) == (version, ())

    def test_twice_goes_back_to_where_both_came_from(self, topic: Topic) -> None:
        first = topic.add().version
        second = topic.add(parent=first).version
        third = topic.add(parent=second).version
        for version in (first, second, third):
            topic.promote(version)
        for _ in range(2):
            topic.point(topic.log.rollback("rollback", NOW_MS, "worse"))
        assert serves(topic.log) == first
        assert topic.log.barred == (third, second)

    def test_passes_over_what_is_not_there_any_more(self, topic: Topic) -> None:
        first = topic.add().version
        second = topic.add(parent=first).version
        third = topic.add(parent=second).version
        for version in (first, second, third):
            topic.promote(version)
        topic.write(Message(TOPIC, weights_key(second, 0), None, 0))
        topic.point(topic.log.rollback("rollback", NOW_MS, "worse"))
        assert serves(topic.log) == first


class TestRun:
    def test_is_the_last_one(self, topic: Topic) -> None:
        runs = [
            Run(number=n, began_ms=n, ended_ms=n + 1, status="rejected", reason="worse")
            for n in (1, 2)
        ]
        topic.write(*(encode_run(TOPIC, run) for run in runs))
        assert topic.log.last_run == topic.read_late().last_run == runs[1]


class TestTombstones:
    def test_leave_the_newest(self, topic: Topic) -> None:
        versions = [topic.add().version for _ in range(5)]
        topic.write(*topic.log.tombstones_beyond(2))
        for log in (topic.log, topic.read_late()):
            assert [entry.version for entry in log.versions] == versions[:2:-1]
            assert log.models.named() == [*versions[3:]] * 2
            assert log.faults == []

    def test_leave_what_serves_what_did_before_and_their_parents(self, topic: Topic) -> None:
        versions = [topic.add().version]
        versions += [topic.add(parent=v).version for v in versions]
        for _ in range(6):
            versions.append(topic.add(parent=versions[-1]).version)
        topic.promote(versions[3])
        topic.promote(versions[5], "operator")
        topic.write(*topic.log.tombstones_beyond(1))
        kept = {entry.version for entry in topic.log.versions}
        assert kept == {versions[n] for n in (2, 3, 4, 5, 7)}
        assert serves(topic.log) == versions[5]

    def test_come_for_an_entry_before_its_weights(self, topic: Topic) -> None:
        """A crash in between leaves weights without an entry, which nobody takes for a model."""
        version = topic.add().version
        topic.add()
        keys = [message.key for message in topic.log.tombstones_beyond(1)]
        assert keys[0] == entry_key(version)
        assert len(keys) == 1 + topic.log.models.entry(version).weights.chunks

    def test_come_for_weights_that_never_got_an_entry(self, topic: Topic) -> None:
        _, messages = encode_entry(TOPIC, some_model(9), 1, NOW_MS)
        topic.write(*messages[:-1])
        assert topic.log.tombstones_beyond(5) == [], "somebody may be writing it right now"
        topic.add()
        assert len(topic.log.tombstones_beyond(5)) == len(messages) - 1

    def test_leave_what_another_version_of_forecastd_wrote(self, topic: Topic) -> None:
        entry, messages = encode_entry(TOPIC, some_model(9), 1, NOW_MS)
        topic.write(*messages[:-1], Message(TOPIC, entry_key(entry.version), b'{"schema":2}', 0))
        topic.add()
        assert topic.log.tombstones_beyond(1) == []

    def test_come_for_old_pointers_and_change_nothing(self, topic: Topic) -> None:
        versions = [topic.add().version for _ in range(2)]
        for at in range(60):
            topic.promote(versions[at % 2])
        gone = topic.log.tombstones_beyond(5)
        assert len(gone) == 40
        topic.write(*gone)
        assert serves(topic.log) == serves(topic.read_late()) == versions[1]
        assert topic.log.tombstones_beyond(5) == []

    def test_never_come_for_the_pointer_that_counts(self, topic: Topic) -> None:
        version = topic.add().version
        topic.promote(version, "operator")
        for sequence in range(2, 60):
            topic.point(
                Pointer(sequence=sequence, version=version, by="trainer", at_ms=1, reason="")
            )
        topic.write(*topic.log.tombstones_beyond(5))
        assert topic.log.is_held
        assert topic.read_late().is_held


class TestGarbage:
    @pytest.mark.parametrize(
        ("key", "value"),
        [
            (None, b"x"),
            (b"", b"x"),
            (b"\xff\xfe", b"x"),
            (b"weights/7-3fa9c1/one", b"x"),
            (b"weights/../0", b"x"),
            (b"entry/0-3fa9c1", b"{}"),
            (b"pointer/2-trainer", b"not json"),
            (b"run", b'{"schema":1}'),
        ],
    )
    def test_is_left_out_with_a_sentence(
        self, topic: Topic, key: bytes | None, value: bytes
    ) -> None:
        topic.promote(topic.add().version)
        topic.log.fold(key, value)
        assert serves(topic.log) is not None
        (fault,) = topic.log.faults
        assert fault.startswith("g-models ")
        assert fault.endswith("; it is ignored")

    def test_is_forgotten_with_its_tombstone(self, topic: Topic) -> None:
        topic.log.fold(b"x", b"x")
        topic.log.fold(b"x", None)
        assert topic.log.faults == []
