"""A record that could not be used, kept as it was; its headers say where it came from, and why."""

from __future__ import annotations

from forecastd.records import Message, Reject

ROOM_BYTES = 64 * 1024
"""What the dead-letter topic takes beyond the largest record of the input, for the headers."""

_TEXT_BYTES_MAX = 2048
_NAMES = ("topic", "partition", "offset", "timestamp", "stage", "reason", "error")
_PROVENANCE = tuple(f"forecastd.{name}" for name in _NAMES)
_TRUNCATED = "forecastd.truncated"


def dead_letter(reject: Reject, topic: str, bytes_max: int, stage: str = "decode") -> Message:
    """The message for one rejected record: raw key, value and headers, then ours.

    One that is larger than `bytes_max`, what the topic takes, is cut (`truncated`).

    Header names that begin with `forecastd.` are ours; one that the record already carries (it was
    a dead letter before) stays, in front.
    """
    record, read = reject.record, reject.partition
    texts = (
        read.topic,
        str(read.partition),
        str(record.offset),
        str(record.timestamp),
        stage,
        reject.reason,
        reject.error,
    )
    ours = zip(_PROVENANCE, map(_short, texts), strict=True)
    whole = Message(topic, record.key, record.value, headers=[*record.headers, *ours])
    if _size(whole) <= bytes_max:
        return whole
    return truncated(whole, max(bytes_max - ROOM_BYTES, 0))


def truncated(message: Message, value_bytes: int) -> Message:
    """A dead letter cut to the first `value_bytes` of its value.

    It is labelled `forecastd.truncated`, with the bytes that the value had, however often it is
    cut. The provenance is kept whole; all other headers go, and the end of a key beyond 16 KiB.
    """
    value, headers = message.value or b"", dict(message.headers)
    headers.setdefault(_TRUNCATED, str(len(value)).encode())
    ours = [
        (name, (text or b"")[:_TEXT_BYTES_MAX])
        for name, text in headers.items()
        if name in _PROVENANCE or name == _TRUNCATED
    ]
    key = message.key[: ROOM_BYTES // 4] if message.key is not None else None
    return message._replace(key=key, value=value[:value_bytes], headers=ours)


def _short(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")[:_TEXT_BYTES_MAX]


def _size(message: Message) -> int:
    """Bytes that a message takes in a batch of its own, generously."""
    headers = sum(len(name) + len(text or b"") + 12 for name, text in message.headers)
    return len(message.key or b"") + len(message.value or b"") + headers + 256
