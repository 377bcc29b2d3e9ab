"""What the commands that read recorded series have in common: the form of their files."""

from __future__ import annotations

from pathlib import Path

from forecastd.errors import FileError
from forecastd.ingest.event_time import to_ms
from forecastd.records import Observations
from forecastd.settings import Settings
from forecastd.train.disk_recordings import is_json_lines, read_csv, read_json_lines
from forecastd.wiring import json_decoder


def read_recording(path: Path, settings: Settings) -> Observations:
    """All observations of a file, in the order of its rows.

    Raises:
        FileError: it cannot be read, or these settings do not fit its form.
    """
    if not is_json_lines(path):
        names = ", ".join(settings.ingest.values)
        if len(settings.ingest.values) > 1:
            raise FileError(
                f"{path}: CSV, which has one value a series, wanted JSON lines for the values of "
                f"ingest.values ({names})"
            )
        return read_csv(path, lambda time: to_ms(time, "auto"))
    for name in ("series", "time"):
        if not getattr(settings.ingest, name):
            found = f"JSON lines, which have no {'key' if name == 'series' else 'timestamp'}"
            raise FileError(f"{path}: {found}, wanted a field path in ingest.{name}")
    return read_json_lines(path, json_decoder(settings).decode)
