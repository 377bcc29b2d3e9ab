"""Two series that a network learns in a second, as a file and as the windows topic have them."""

from __future__ import annotations

import numpy as np

from forecastd.architecture import Architecture
from forecastd.records import Floats, TopicPartition
from forecastd.settings import Settings
from forecastd.train.recorded_series import RecordedSeries
from forecastd.train.stretches import Layout, spread_at, window_ends
from forecastd.train.window_record import WindowRecord

T, STEPS = 8, 960
SIZES = {
    "windows": {"timesteps": T},
    "forecast": {"units": 8, "horizon": 4},
    "training": {"epochs": 5, "prime_windows": 3},
}
SETTINGS = Settings.model_validate(SIZES)
ARCHITECTURE = Architecture.from_settings(SETTINGS)


def wave(period: float, steps: int = STEPS) -> Floats:
    values: Floats = 50 + np.sin(np.arange(steps, dtype=np.float64) / period)
    return values


def recording(name: str, values: Floats) -> RecordedSeries:
    rows = np.arange(len(values))
    return RecordedSeries(name, (1_600_000_000 + rows) * 1_000, values[:, None], rows)


WAVES = [recording("a", wave(3)), recording("b", wave(5))]


def window_records(series: RecordedSeries) -> list[WindowRecord]:
    """What the daemon would have written of a series that it saw from the beginning."""
    ends = window_ends(len(series), T)
    median, spread = spread_at(series, ends, Layout.of(ARCHITECTURE, SETTINGS))
    nothing = np.full(1, np.nan)
    return [
        WindowRecord(
            TopicPartition("records", 0),
            series.name,
            number,
            end + 1 - T,
            end,
            series.at_ms[end + 1 - T : end + 1],
            series.values[end + 1 - T : end + 1],
            series.values[end - T] if number else nothing,
            median[number],
            spread[number],
        )
        for number, end in enumerate(ends.tolist())
    ]
