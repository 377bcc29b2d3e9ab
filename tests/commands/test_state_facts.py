"""What is told of a row, held against what the daemon published and against plain arithmetic."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from forecastd.commands.state_facts import SeriesFacts, event_time, facts_of
from forecastd.commands.state_words import facts_in_words, iso
from forecastd.memory.log import MemoryBroker
from forecastd.records import Column
from forecastd.scaling import tail_spread
from forecastd.state.reset import cold_row
from forecastd.state.row_codec import Row, RowCodec, read_row, row_meaning
from forecastd.state.saved_rows import SavedRows
from forecastd.state.table import SeriesTable
from tests.in_memory import (
    P0,
    START_MS,
    STATE_TOPIC,
    Obs,
    drain,
    encode,
    fields,
    make_model,
    make_settings,
    published,
    start,
)

STRIDE, TIMESTEPS, LEADS = 2, 4, 5
SETTINGS = make_settings(
    windows={"timesteps": TIMESTEPS, "stride": STRIDE},
    forecast={"horizon": LEADS},
    ingest={"values": fields(2)},
    state={"row_every": 1},
)
MEANING = row_meaning(TIMESTEPS, fields(2))


def values_at(at: int) -> tuple[float, float]:
    return math.sin(at / 3), 1000.0 * at


def lived(steps: int, *, has_model: bool = True) -> MemoryBroker:
    """A daemon that has read as many steps of one series, a record each."""
    broker = MemoryBroker()
    for at in range(steps):
        observation = Obs("a", START_MS + 10_000 * at, values_at(at))
        broker.append(P0, encode([observation]), START_MS + 10_000 * at)
    model = make_model(SETTINGS, version="7-3fa9c1") if has_model else None
    drain(start(broker, SETTINGS, model, poll_records=1))
    return broker


def both(row: bytes, content: Row) -> tuple[bytes, Row]:
    return row, content


def told(*rows: tuple[bytes, bytes | None], meaning: str = MEANING) -> SeriesFacts:
    saved = SavedRows(meaning, both)
    saved.take(rows)
    return facts_of(P0, "a", saved.series["a"], {})


def last_told(broker: MemoryBroker) -> SeriesFacts:
    return told(*((m.key or b"", m.value) for m in broker.messages(STATE_TOPIC)))


class TestFacts:
    @pytest.mark.parametrize("steps", range(4, 24, 2))
    def test_count_steps_and_windows(self, steps: int) -> None:
        """A row is saved when a window ends; with a stride two of them overlap."""
        facts = last_told(lived(steps))
        assert (facts.steps, facts.open_steps) == (steps, 0)
        assert facts.windows == sum(end % STRIDE == 0 for end in range(TIMESTEPS, steps + 1))
        assert facts.step_ms == 10_000
        assert facts.at_ms == START_MS + 10_000 * (steps - 1)

    def test_show_the_newest_steps_and_the_scale_of_the_last_window(self) -> None:
        steps = 50  # more than the tail holds: its ring has gone round
        facts = last_told(lived(steps))
        past = np.array([values_at(at) for at in range(steps)])
        assert facts.last_values == past[-8:].tolist()
        kept = past[-SETTINGS.tail_steps :]
        assert len(kept) < steps
        median, spread = tail_spread(kept[None], np.array([len(kept)]))
        assert facts.median == pytest.approx(median[0].tolist())
        assert facts.spread == pytest.approx(spread[0].tolist())

    def test_hold_the_forecasts_that_wait_as_they_were_published(self) -> None:
        broker = lived(20)
        facts = last_told(broker)
        windows = [m for m in published(broker) if "cold" not in m["flags"]]
        assert len(facts.pending) == math.ceil(LEADS / STRIDE)
        for pending, message in zip(facts.pending, windows[-3:], strict=True):
            assert pending.origin_ms == message["origin_ms"]
            assert pending.source == message["source"]
            names = fields(2)
            middle = message["quantiles"].index(0.5)
            medians = [[path[middle] for path in message["forecasts"][name]] for name in names]
            median = np.array(pending.median, np.float64).T
            np.testing.assert_allclose(median, medians, rtol=1e-4, atol=1e-4)

    def test_name_the_models_of_all_phases(self) -> None:
        broker = lived(20)
        facts = last_told(broker)
        assert facts.state_arrays == {"h0": [2, 3], "c0": [2, 3]}
        (version,) = set(facts.model_versions or [])
        assert version is not None
        assert version.startswith("weights ")
        baseline = last_told(lived(20, has_model=False))
        assert baseline.model_versions == [None, None]
        assert (baseline.state_arrays, baseline.model_error) == ({}, None)

    def test_are_json_without_numbers_that_json_lacks(self) -> None:
        """A young tail is half NaN."""
        text = json.dumps(last_told(lived(6)).as_json(), allow_nan=False)
        assert json.loads(text)["columns"]["tail"][-1] == [None, None]

    def test_of_columns_that_nobody_knows_stand_there_too(self) -> None:
        """A later daemon's rows, or a stage that is not built yet."""
        columns = [Column("steps", "<i8"), Column("at_ms", "<i8"), Column("odd", "<f4", (2,))]
        table = SeriesTable(columns, capacity=1)
        slots = table.admit(P0, ["a"])
        table["steps"][slots], table["odd"][slots] = 3, [0.5, np.inf]
        (row,) = RowCodec(table, MEANING).encode(slots)
        facts = told((b'["a","w"]', row))
        assert facts.columns["odd"] == [0.5, None]
        assert (facts.windows, facts.last_values, facts.pending) == (None, [], [])
        assert any(line.startswith("  steps ") for line in facts_in_words(facts))

    def test_of_a_series_that_was_reset_are_few(self) -> None:
        facts = told((b'["a","reset-1"]', cold_row(MEANING, 41)))
        assert (facts.steps, facts.at_ms, facts.offset, facts.reset) == (0, None, 41, True)
        assert event_time(read_row(cold_row(MEANING, 41))) is None

    def test_of_a_row_that_cannot_be_read_say_why(self) -> None:
        facts = told((b'["a","w"]', b"noise"))
        assert facts.fault is not None
        assert facts.offset is None
        assert [line.split()[0] for line in facts_in_words(facts)] == ["series", "cannot", "writer"]


class TestWords:
    def test_give_each_value_a_line(self) -> None:
        lines = list(facts_in_words(last_told(lived(20))))
        labels = [line[2:18].strip() for line in lines[1:]]
        for label in ("last values", "scale", "error"):
            assert labels.count(label) == 2
        assert labels.count("pending") == 6

    @pytest.mark.parametrize("at_ms", [2**62, -(2**62)])
    def test_of_an_absurd_time_are_its_number(self, at_ms: int) -> None:
        assert iso(at_ms) == f"{at_ms}ms"
