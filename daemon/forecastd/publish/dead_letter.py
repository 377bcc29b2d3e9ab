"""A record that could not be used, kept as it was, with where it came from and why in its headers."""

from __future__ import annotations

from forecastd.records import Message, Reject

ROOM_BYTES = 64 * 1024
"""What the dead-letter topic takes beyond the largest record of the input, for the headers."""

_ERROR_BYTES_MAX = 2048


def dead_letter(reject: Reject, topic: str, stage: str = "decode") -> Message:
    """The message for one rejected record: raw key, value and headers, then ours.

    Header names that begin with `forecastd.` are ours; one that the record already carries (it was
    a dead letter before) stays, in front.
    """
    record, read = reject.record, reject.partition
    provenance = {
        "topic": read.topic,
        "partition": str(read.partition),
        "offset": str(record.offset),
        "timestamp": str(record.timestamp),
        "stage": stage,
        "reason": reject.reason,
        "error": reject.error,
    }
    ours = [(f"forecastd.{name}", _short(text)) for name, text in provenance.items()]
    return Message(topic, record.key, record.value, headers=[*record.headers, *ours])


def truncated(message: Message, bytes_max: int) -> Message:
    """A dead letter cut to what its topic takes, and labelled `forecastd.truncated`.

    The provenance is kept whole; the value loses its end, then foreign headers and the key go.
    """
    ours = [header for header in message.headers if header[0].startswith("forecastd.")]
    value = message.value or b""
    kept = max(bytes_max - ROOM_BYTES, 0)
    size = str(len(value)).encode()
    return message._replace(
        key=(message.key or b"")[: ROOM_BYTES // 4] if message.key is not None else None,
        value=value[:kept],
        headers=[*ours, ("forecastd.truncated", size)],
    )


def _short(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")[:_ERROR_BYTES_MAX]
