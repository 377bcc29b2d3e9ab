"""What a restart makes of a reset, with the whole daemon in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from forecastd.errors import RowError
from forecastd.loop import Loop
from forecastd.memory.log import MemoryBroker, MemoryRowReader
from forecastd.records import Column, Committed, Message
from forecastd.state.reset import cold_offset, cold_row, cold_start, removals, replacement
from forecastd.state.row_codec import RowCodec, row_meaning
from forecastd.state.saved_rows import SavedRows
from forecastd.state.table import SeriesTable
from forecastd.wiring import build_table
from tests.in_memory import (
    P0,
    START_MS,
    STATE_TOPIC,
    Obs,
    assert_same,
    by_id,
    drain,
    encode,
    make_model,
    make_settings,
    published,
    start,
)

SERIES = ("a", "b", "c")
STOPPED_AT, RECORDS = 100, 190
SETTINGS = make_settings(state={"row_every": 3})
MODEL = make_model(SETTINGS)
MEANING = row_meaning(SETTINGS.windows.timesteps, SETTINGS.ingest.values)


def records(broker: MemoryBroker, begin: int, end: int, series: Iterable[str] = SERIES) -> None:
    """Records `begin` to `end` of all series in turn.

    Those of series that are not wanted are tombstones, so that the others keep their offsets.
    """
    for at in range(begin, end):
        name = SERIES[at % 3]
        value = math.sin(at / 5) + 10 * (at % 3) + (at % 7) / 3
        wanted = encode([Obs(name, START_MS + 1000 * at, (value,))]) if name in series else None
        broker.append(P0, wanted, START_MS + 1000 * at)


def stopped(at: int = STOPPED_AT) -> MemoryBroker:
    """What a daemon leaves behind that is killed when rows lag behind the committed position."""
    broker = MemoryBroker()
    records(broker, 0, at)
    drain(start(broker, SETTINGS, MODEL, poll_records=7))
    committed = broker.committed[P0]
    assert committed.resume_from is not None
    assert committed.resume_from < committed.position - len(SERIES), "nothing would be replayed"
    return broker


def restarted(broker: MemoryBroker) -> Loop:
    """A restart that reads what came meanwhile."""
    records(broker, STOPPED_AT, RECORDS)
    loop = start(broker, SETTINGS, MODEL)
    drain(loop)
    return loop


def saved(broker: MemoryBroker) -> SavedRows[None]:
    rows = SavedRows(MEANING, lambda *_: None)
    reader = MemoryRowReader(broker, STATE_TOPIC)
    reader.start(P0)
    rows.take(reader.read(0.0)[0])
    return rows


def reset_one(broker: MemoryBroker, series: str) -> int:
    """What `forecastd state reset SERIES` sends; returns the offset that it begins behind."""
    one = saved(broker).series[series]
    at = cold_offset(broker.committed[P0], one.offset)
    assert at is not None
    row = cold_row(MEANING, at)
    broker.sent.append(replacement(STATE_TOPIC, 0, series, "reset-1", row))
    broker.sent.extend(removals(STATE_TOPIC, 0, one.keys))
    return at


def of(broker: MemoryBroker, series: str) -> dict[str, dict[str, Any]]:
    """Forecasts by id, of records that came after the stop."""
    return {
        name: message
        for name, message in by_id(broker).items()
        if message["series"] == series and message["input"]["last_offset"] >= STOPPED_AT
    }


def only_of(series: str, begin: int) -> dict[str, dict[str, Any]]:
    """What a daemon publishes that knows nothing of the series before record `begin`."""
    broker = MemoryBroker()
    records(broker, 0, begin, ())
    records(broker, begin, RECORDS, (series,))
    drain(start(broker, SETTINGS, MODEL))
    return of(broker, series)


class TestResetOfOneSeries:
    def test_lets_it_begin_where_the_group_stands(self) -> None:
        """Not in the midst of the silent replay, where only its neighbours' rows would put it."""
        broker = stopped()
        assert reset_one(broker, "b") == STOPPED_AT - 1
        restarted(broker)
        found, wanted = of(broker, "b"), only_of("b", STOPPED_AT)
        assert found.keys() == wanted.keys()
        for name, message in found.items():
            assert_same(message, wanted[name], flags=("reset", "restored"))
        assert min(message["input"]["first_offset"] for message in found.values()) >= STOPPED_AT

    def test_flags_its_first_window(self) -> None:
        broker = stopped()
        reset_one(broker, "b")
        restarted(broker)
        windows = [m for m in of(broker, "b").values() if "cold" not in m["flags"]]
        assert ["reset" in message["flags"] for message in windows] == [True, *[False] * 6]

    def test_changes_no_forecast_of_the_others(self) -> None:
        reset, calm = stopped(), stopped()
        reset_one(reset, "b")
        restarted(reset)
        restarted(calm)
        for series in ("a", "c"):
            found, wanted = of(reset, series), of(calm, series)
            assert found.keys() == wanted.keys()
            for name, message in found.items():
                assert_same(message, wanted[name])

    def test_without_a_cold_row_would_begin_in_the_replay(self) -> None:
        """Why tombstones alone are not enough."""
        broker = stopped()
        broker.sent.extend(removals(STATE_TOPIC, 0, saved(broker).series["b"].keys))
        restarted(broker)
        assert of(broker, "b").keys() != only_of("b", STOPPED_AT).keys()

    def test_goes_no_further_back_than_what_is_published(self) -> None:
        """A crash between the save and the commit leaves rows that are ahead of the commit.

        Their forecasts are out, and must not be made again with other numbers.
        """
        broker = stopped()
        ahead = saved(broker).series["b"].offset
        assert broker.committed[P0].resume_from is not None
        broker.committed[P0] = Committed(ahead - 10, broker.committed[P0].resume_from)
        assert reset_one(broker, "b") == ahead

    def test_is_overtaken_by_the_next_row_of_the_series(self) -> None:
        broker = stopped()
        reset_one(broker, "b")
        restarted(broker)
        (writer,) = {key.rpartition(b'"')[0] for key in saved(broker).series["b"].keys}
        assert b"reset-1" not in writer

    @pytest.mark.parametrize("committed", [None, Committed(50, None)])
    def test_needs_no_cold_row_where_the_whole_partition_starts_cold(
        self, committed: Committed | None
    ) -> None:
        assert cold_offset(committed, 40) is None


class TestColdRow:
    def test_leaves_nothing_of_the_past_in_a_full_table(self) -> None:
        """Every stage's columns begin anew, those in the model's bank too."""
        table = build_table(SETTINGS, make_model(SETTINGS))
        used, fresh = table.admit(P0, ["used"]), table.admit(P0, ["fresh"])
        for column in table.columns:
            table.write(column.name, used, np.ones((1, *column.shape), column.dtype))
        RowCodec(table, MEANING).decode([cold_row(MEANING, 41)], used)
        for column in table.columns:
            if column.saved and column.name not in ("offset", "reset"):
                cells = [table.read(column.name, slots).tobytes() for slots in (used, fresh)]
                assert cells[0] == cells[1], column.name
        assert table["offset"][used].tolist() == [41]
        assert table["reset"][used].tolist() == [True]

    def test_cannot_be_read_by_a_daemon_of_other_settings(self) -> None:
        table = SeriesTable([Column("steps", "<i8")])
        codec = RowCodec(table, "timesteps=5 values=value")
        with pytest.raises(RowError, match="saved with timesteps=4 values=value"):
            codec.offset(cold_row(MEANING, 41))


def disown(broker: MemoryBroker) -> None:
    broker.committed[P0] = Committed(broker.committed[P0].position, None)


def bury(broker: MemoryBroker) -> None:
    broker.sent.extend(removals(STATE_TOPIC, 0, saved(broker).keys))


def commit(broker: MemoryBroker) -> None:
    begin = cold_start(broker.committed[P0], 0, broker.end(P0))
    assert begin is not None
    broker.committed[P0] = begin


class TestResetOfAllSeries:
    @pytest.mark.parametrize("done", [1, 2, 3], ids=["disowned", "buried", "whole"])
    def test_starts_all_of_them_cold_however_far_it_came(self, done: int) -> None:
        """The tool may be killed after any of its steps: a restart does what was asked for."""
        broker = stopped()
        for step in (disown, bury, commit)[:done]:
            step(broker)
        before = len(published(broker))
        restarted(broker)
        for series in SERIES:
            found, wanted = of(broker, series), only_of(series, STOPPED_AT)
            assert found.keys() == wanted.keys()
            for name, message in found.items():
                assert_same(message, wanted[name], flags=("reset",))
        again = published(broker)[before:]
        assert min(message["input"]["first_offset"] for message in again) >= STOPPED_AT

    def test_without_the_first_step_would_mix_two_pasts(self) -> None:
        """Why the commits lose their metadata first.

        A crash among the tombstones would let a restart replay what lies before the committed
        position into series without a past.
        """
        broker = stopped()
        broker.sent.extend(removals(STATE_TOPIC, 0, saved(broker).keys[1:]))
        restarted(broker)
        assert any(
            of(broker, series).keys() != only_of(series, STOPPED_AT).keys() for series in SERIES
        )

    def test_replays_nothing(self) -> None:
        broker = stopped()
        for step in (disown, bury, commit):
            step(broker)
        assert broker.committed[P0] == Committed(STOPPED_AT, STOPPED_AT)
        assert saved(broker).keys == []

    def test_goes_on_at_the_first_record_that_is_left(self) -> None:
        assert cold_start(Committed(50, 40), 60, 90) == Committed(60, 60)
        assert cold_start(Committed(70, None), 60, 90) == Committed(70, 70)

    def test_begins_anew_with_a_log_that_was_begun_anew(self) -> None:
        """A topic that was deleted and made again under the same name."""
        assert cold_start(Committed(50, 40), 0, 12) is None


def test_removals_are_tombstones_in_the_partition_of_the_rows() -> None:
    assert list(removals(STATE_TOPIC, 3, [b"k"])) == [Message(STATE_TOPIC, b"k", None, 3)]
