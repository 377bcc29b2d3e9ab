"""The forecast as the world reads it: one JSON message a window. Public and versioned.

Numbers are rounded to nine significant digits, or to a millionth of the series' spread where that
is finer: short to read, and nothing that matters is lost in a large counter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from msgspec import Meta

from forecastd.records import Floats, Forecasts, Message

SCHEMA: Literal[1] = 1
"""Version of the message; raised when a reader of the old one would misread the new one."""

Flag = Literal["cold", "reset", "restored", "primed", "imputed"]


class Input(msgspec.Struct, frozen=True):
    """The records that the window spans."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class ForecastMessage(msgspec.Struct, frozen=True):
    """One forecast of one series, from the end of one window."""

    schema: Annotated[Literal[1], Meta(description="version of this form")]
    id: Annotated[
        str,
        Meta(
            description="<topic>-<partition>-<series>-<origin_ms>, with -cold behind it where no "
            "window made the forecast; the same forecast has the same id if it is sent twice"
        ),
    ]
    series: Annotated[str, Meta(description="series name")]
    origin_ms: Annotated[int, Meta(description="event time of the window's last step, ms, UTC")]
    step_ms: Annotated[
        int | None,
        Meta(description="row k of a forecast is at origin_ms + (k + 1) * step_ms; null: unknown"),
    ]
    quantiles: Annotated[list[float], Meta(description="ascending")]
    forecasts: Annotated[
        dict[str, list[list[float]]],
        Meta(description="by target: horizon rows, one number a quantile, in the series' unit"),
    ]
    source: Annotated[Literal["model", "baseline"], Meta(description="what made it")]
    model_version: Annotated[str | None, Meta(description="null for a baseline")]
    input: Input
    flags: Annotated[list[Flag], Meta(description="what a reader should know")]


def forecast_schema() -> dict[str, Any]:
    """JSON Schema of the message."""
    return msgspec.json.schema(ForecastMessage)


def encode_forecasts(forecasts: Forecasts, topic: str, targets: Sequence[str]) -> list[Message]:
    """One message a series.

    Args:
        forecasts: of one round.
        topic: the output topic.
        targets: names of the values that are forecast.
    """
    rounded = round_to_spread(forecasts.values, forecasts.spread)
    tables = np.moveaxis(rounded, 3, 1).tolist()  # by series, target, lead, quantile
    numbers = zip(
        forecasts.origin_ms.tolist(),
        forecasts.step_ms.tolist(),
        forecasts.first_offsets.tolist(),
        forecasts.last_offsets.tolist(),
        forecasts.is_model.tolist(),
        strict=True,
    )
    encode = msgspec.json.Encoder().encode
    quantiles, tail = list(forecasts.quantiles), "-cold" if forecasts.is_cold else ""
    messages = []
    for at, (origin_ms, step_ms, first, last, is_model) in enumerate(numbers):
        series, read = forecasts.series[at], forecasts.partitions[at]
        message = ForecastMessage(
            schema=SCHEMA,
            id=f"{read.topic}-{read.partition}-{series}-{origin_ms}{tail}",
            series=series,
            origin_ms=origin_ms,
            step_ms=step_ms or None,
            quantiles=quantiles,
            forecasts=dict(zip(targets, tables[at], strict=True)),
            source="model" if is_model else "baseline",
            model_version=forecasts.model_version if is_model else None,
            input=Input(read.topic, read.partition, first, last),
            flags=["cold"] if forecasts.is_cold else list(forecasts.flags[at]),  # type: ignore[arg-type]  # from the closed list
        )
        messages.append(Message(topic, series.encode(), encode(message)))
    return messages


def round_to_spread(values: Floats, spread: Floats) -> Floats:
    """Values with the digits that matter.

    Args:
        values: (B, H, Q, V).
        spread: (B, V) positive.

    >>> round_to_spread(np.full((1, 1, 1, 1), 1 / 3), np.ones((1, 1))).item()
    0.333333333
    """
    size = np.abs(values)
    digits = 8 - np.floor(np.log10(np.where(size > 0, size, 1.0)))
    wanted = 6 - np.floor(np.log10(spread))
    decimals = np.maximum(digits, wanted[:, None, None])
    # Division by a power of ten gives the float that prints shortest; above 1e22 it is not exact.
    factor = 10.0 ** np.abs(np.clip(decimals, -300, 22))
    scaled = np.where(decimals >= 0, values * factor, values / factor)
    exact = np.abs(scaled) < 2.0**53
    whole = np.rint(scaled)
    rounded = np.where(decimals >= 0, whole / factor, whole * factor)
    result: Floats = np.where(exact & (decimals <= 22), rounded, values)
    return result
