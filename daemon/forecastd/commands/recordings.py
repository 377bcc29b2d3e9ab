"""What the commands that read recorded series have in common: the form of their files."""

from __future__ import annotations

from pathlib import Path

from forecastd.errors import FileError
from forecastd.ingest.event_time import to_ms
from forecastd.records import Observations
from forecastd.settings import Settings
from forecastd.train.disk_recordings import Recording, opened, read_csv, read_json_lines
from forecastd.wiring import json_decoder


def read_recording(path: Path, settings: Settings) -> Observations:
    """All observations of a file, in the order of its rows.

    Raises:
        FileError: it cannot be read, or these settings do not fit its form.
    """
    with opened(path) as recording:
        read = _read_json_lines if recording.is_json_lines else _read_csv
        return read(recording, settings)


def _read_csv(recording: Recording, settings: Settings) -> Observations:
    names = settings.ingest.values
    if len(names) > 1:
        raise FileError(
            f"{recording.path}: CSV, which has one value a series, wanted JSON lines for the "
            f"values of ingest.values ({', '.join(names)})"
        )
    return read_csv(recording, lambda time: to_ms(time, "auto"))


def _read_json_lines(recording: Recording, settings: Settings) -> Observations:
    for name in ("series", "time"):
        if not getattr(settings.ingest, name):
            found = f"JSON lines, which have no {'key' if name == 'series' else 'timestamp'}"
            wanted = f"a field path in ingest.{name}"
            raise FileError(f"{recording.path}: {found}, wanted {wanted}")
    return read_json_lines(recording, json_decoder(settings).decode)
