"""Zombies: one of two instances is frozen past its session and comes back to life.

Its partitions are taken over meanwhile. What it was about to do when it was frozen, it then does:
exactly once, nothing of that may be seen; at least once, its rows may lie on the state topic, and
no restore may use one of a lower offset than another that it could have read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import kafka
from kafka import KafkaConsumer

from forecastd.clock import ManualClock
from forecastd.memory.log import MemoryBroker, MemoryRowReader
from forecastd.records import Column, Message, TopicPartition
from forecastd.state.restorer import Restorer
from forecastd.state.row_codec import RowCodec, read_row
from forecastd.state.row_key import decode_key
from forecastd.state.row_saver import RowSaver
from forecastd.state.table import SeriesTable
from tests.chaos.harness import Case, Report, Run
from tests.end_to_end.daemons import World
from tests.in_memory import Telemetry

SERVED = '"partition is served"'

_SavedRow = tuple[int, bytes, bytes | None]
"""Offset on the state topic, key and row."""


def zombie(case: Case, times: int) -> Report:
    """Freeze one of two instances `times` times, each in the midst of its work."""
    draw = case.draw
    ends: list[dict[int, int]] = []
    with Run(case, ["a", "b"]) as run:
        for instance in run.instances:
            instance.start()
        for goal in case.goals(draw, times):
            run.until_served(*run.instances)
            run.until_committed(goal)
            frozen, other = draw.sample(run.instances, 2)
            if draw.random() < 0.5:
                run.until_published()
            frozen.freeze()
            run.until_served(other)
            ends.append(state_ends(run.world))
            frozen.thaw()
        report = run.finish()
        ends.append(state_ends(run.world))
        rows = state_rows(run.world)
    overtaken = sum(map(count_overtaken, rows.values()))
    report.figures |= {"times frozen": times, "rows behind a newer one": overtaken}
    if overtaken and case.delivery == "exactly_once":
        report.faults.append(f"{overtaken} rows of a zombie are visible")
    for end in ends:
        report.faults += restore_faults(rows, end)
    return report


def state_ends(world: World) -> dict[int, int]:
    """Where each partition of the state topic ends now."""
    consumer = KafkaConsumer(bootstrap_servers=world.bootstrap, group_id=None)
    parts = [kafka.TopicPartition(world.state, number) for number in range(world.partitions)]
    ends = consumer.end_offsets(parts)
    consumer.close()
    return {part.partition: end for part, end in ends.items()}


def state_rows(world: World) -> dict[int, list[_SavedRow]]:
    """What lies on the state topic, by partition and in order."""
    rows: dict[int, list[_SavedRow]] = {number: [] for number in range(world.partitions)}
    for record in world.read(world.state):
        rows[record.partition].append((record.offset, record.key, record.value))
    return rows


def count_overtaken(rows: Sequence[_SavedRow]) -> int:
    """Rows that came after another row of their series which is of a higher offset."""
    highest: dict[str, int] = {}
    count = 0
    for _, key, row in rows:
        if row is not None:
            series, offset = decode_key(key)[0], int(read_row(row).columns["offset"])
            count += offset < highest.get(series, -1)
            highest[series] = max(offset, highest.get(series, -1))
    return count


def restore_faults(rows: Mapping[int, Sequence[_SavedRow]], ends: Mapping[int, int]) -> list[str]:
    """Series for which a restore from these ends would not use the newest row that is there."""
    found = []
    for partition, saved in rows.items():
        readable = [(key, row) for offset, key, row in saved if offset < ends[partition]]
        wanted = newest_offsets(readable)
        used = restored_offsets(readable)
        found += [
            f"state[{partition}] up to {ends[partition]}: {series} restored at"
            f" {used.get(series)}, wanted {offset}"
            for series, offset in wanted.items()
            if used.get(series) != offset
        ]
    return found


def newest_offsets(rows: Sequence[tuple[bytes, bytes | None]]) -> dict[str, int]:
    """By series, the highest offset among the rows that no tombstone has removed."""
    live: dict[bytes, bytes] = {}
    for key, row in rows:
        live.pop(key, None)
        if row is not None:
            live[key] = row
    newest: dict[str, int] = {}
    for key, row in live.items():
        series, offset = decode_key(key)[0], int(read_row(row).columns["offset"])
        newest[series] = max(offset, newest.get(series, -1))
    return newest


def restored_offsets(rows: Sequence[tuple[bytes, bytes | None]]) -> dict[str, int]:
    """By series, the offset of the row that the daemon's own restore uses."""
    at, clock, heard = TopicPartition("records", 0), ManualClock(), Telemetry()
    meaning = next((read_row(row).meaning for _, row in rows if row is not None), "")
    table = SeriesTable([Column("steps", "<i8")])
    codec = RowCodec(table, meaning)
    saver = RowSaver(table, codec, clock, str, 1, 1, 1, 1.0, 1)
    saver.open(at, "nobody")
    broker = MemoryBroker(sent=[Message("state", key, row, 0) for key, row in rows])
    reader = MemoryRowReader(broker, "state")
    restorer = Restorer(table, codec, saver, reader, clock, heard, 60.0, stop_on_mismatch=True)
    restorer.add(at)
    while restorer.step(0.0) is None:
        pass
    slots = table.slots(at)
    return dict(zip(table.names(slots), table["offset"][slots].tolist(), strict=True))
