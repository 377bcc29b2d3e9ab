"""What can go wrong, typed by who must act.

    ForecastdError
    ├── SettingsError   operator: refuse to start
    ├── TopicError      operator: refuse to start (a topic is missing or has the wrong shape)
    ├── DecodeError     one record: dead-letter it, go on
    ├── FileError       the caller of a command: a file cannot be read as what it should be
    ├── ModelError      operator: a model cannot be read, or does not fit the settings
    ├── RestoreError    operator: the state does not fit the offsets, and `state.on_gap` is to stop
    ├── RowError        one series: its saved row cannot be read
    ├── WindowError     one window of the windows topic: it is not learnt from
    ├── StateError      the caller of a command: what it asks of the saved state cannot be done
    └── BrokerError     this client: drop it, back off, build a new one, go on

Every sentence reads `<where>: <found>, wanted <wanted>[; <what to do>]`: lower case, no final stop.
"""

from __future__ import annotations

from collections.abc import Sequence


class ForecastdError(Exception):
    """A failure with one sentence for the person who must act."""


class SettingsError(ForecastdError):
    """The settings cannot be used; one sentence a fault, all faults at once.

    Attributes:
        faults: one sentence each, naming the setting, what was found and what was wanted.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class TopicError(ForecastdError):
    """A topic that the daemon needs is missing or has the wrong shape."""


class DecodeError(ForecastdError):
    """One record cannot be used.

    Attributes:
        reason: one of `forecastd.records.REJECT_REASONS`, a metric label.
    """

    def __init__(self, at: str, reason: str, found: str, wanted: str) -> None:
        self.at, self.reason, self.found, self.wanted = at, reason, found, wanted
        super().__init__(f"{at}: {found}, wanted {wanted}")


class FileError(ForecastdError):
    """A file given to a command cannot be read as what it should be."""


class ModelError(ForecastdError):
    """A model cannot be read, or does not fit what it is asked to do."""


class RestoreError(ForecastdError):
    """The saved state of a partition does not fit its committed offsets."""


class RowError(ForecastdError):
    """A saved row of a series cannot be read."""


class WindowError(ForecastdError):
    """A record of the windows topic cannot be learnt from.

    Attributes:
        fault: one of `forecastd.train.window_record.Fault`, by which such records are counted.
    """

    def __init__(self, fault: str, found: str, wanted: str) -> None:
        self.fault = fault
        super().__init__(f"window: {found}, wanted {wanted}")


class StateError(ForecastdError):
    """What a command asks of the saved state cannot be done."""


class BrokerError(ForecastdError):
    """The broker did not do what was asked in the time it was given."""
