"""What a network looks like: all that must be known to build it and to put windows before it.

Pure, so that settings can be checked against a stored model before the seconds that Keras takes to
load. A model's metadata carries it; `forecast.*` only says what the trainer builds.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from forecastd.errors import ModelError
from forecastd.scaling import Anchor, Scaling
from forecastd.settings import Settings

Cell = Literal["lstm", "gru"]
Count = Annotated[int, msgspec.Meta(ge=1)]

STATE_PARTS: dict[Cell, tuple[str, ...]] = {"lstm": ("h", "c"), "gru": ("h",)}
"""What a cell carries from step to step: its output, and the LSTM's memory."""


class Recurrent(msgspec.Struct, frozen=True, kw_only=True):
    """One recurrent layer, in Keras's own words (`keras.layers.LSTM`, `keras.layers.GRU`)."""

    cell: Cell
    units: Count
    activation: str = "tanh"
    recurrent_activation: str = "sigmoid"
    use_bias: bool = True
    reset_after: bool = True
    """Of a GRU: where its reset gate acts. Means nothing for an LSTM."""

    @property
    def state_parts(self) -> tuple[str, ...]:
        """Names of the layer's state arrays, each of shape (rows, units)."""
        return STATE_PARTS[self.cell]


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """Recurrent layers on top of each other, and one dense head on the last.

    Attributes:
        cells: at least one layer, the lowest first.
        timesteps: steps in a window (T); None where a network takes any (an import).
        features: values of a step (F).
        outputs: numbers in an output row. Number (k * Q + q) * targets + f is lead k + 1,
            quantile q, value f.
        segment: steps folded into one recurrent step (S), a divisor of `timesteps`.
        scaling: what the window is divided by; see `forecastd.scaling`.
        anchor: what the output is added to; see `forecastd.scaling`.
        quantiles: of the outputs, ascending; empty for a point model, whose one output (Q = 1) is
            taken as the median.
        values: names of the values, in the order of the features; empty where nobody knows.
        output_activation: of the head, by Keras's name.
        output_bias: whether the head has a bias.
        horizon: leads that the head forecasts (H); None where only the settings can tell (an
            import of several values may forecast all of them, or the first alone).
    """

    cells: tuple[Recurrent, ...]
    timesteps: Count | None
    features: Count
    outputs: Count
    segment: Count = 1
    scaling: Scaling = "series"
    anchor: Anchor = "last"
    quantiles: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    output_activation: str = "linear"
    output_bias: bool = True
    horizon: Count | None = None

    def __post_init__(self) -> None:
        """Refuse what no network can be built from; msgspec words it as a fault of the text."""
        if not self.cells:
            raise ValueError("no recurrent layer")
        horizon, count, targets = self.head_shape
        if horizon * count * targets != self.outputs or targets not in (1, self.features):
            leads = f"{horizon} leads of {count} quantiles"
            raise ValueError(f"{self.outputs} outputs do not hold {leads}")
        if self.timesteps is None and self.anchor != "none":
            raise ValueError("an anchor, and windows of any length")
        if (self.timesteps or self.segment) % self.segment:
            raise ValueError(f"segment {self.segment} does not divide {self.timesteps} timesteps")

    @property
    def quantile_count(self) -> int:
        """Numbers that forecast one lead of one value (Q)."""
        return max(1, len(self.quantiles))

    @property
    def step_features(self) -> int:
        """Numbers that the lowest layer reads at a recurrent step.

        The segment's values, and with an anchor the move of the last of them since the segment
        before.
        """
        moves = 0 if self.anchor == "none" else 1
        return (self.segment + moves) * self.features

    @classmethod
    def from_settings(cls, settings: Settings) -> Architecture:
        """What the trainer builds: a point model unless the loss is for quantiles."""
        forecast = settings.forecast
        quantiles = forecast.quantiles if settings.training.loss == "pinball" else ()
        features = len(settings.ingest.values)
        return cls(
            cells=(Recurrent(cell=forecast.cell, units=forecast.units),) * forecast.layers,
            timesteps=settings.windows.timesteps,
            features=features,
            outputs=forecast.horizon * max(1, len(quantiles)) * features,
            segment=forecast.segment,
            scaling=forecast.scaling,
            anchor=forecast.anchor,
            quantiles=quantiles,
            values=settings.ingest.values,
            horizon=forecast.horizon,
        )

    def fit(self, settings: Settings) -> Architecture:
        """The same network with what an import leaves open, T and H, taken from the settings.

        Raises:
            ModelError: it does not fit them.
        """
        self.check_fits(settings)
        timesteps, horizon = settings.windows.timesteps, settings.forecast.horizon
        return msgspec.structs.replace(self, timesteps=timesteps, horizon=horizon)

    def targets(self, horizon: int) -> int:
        """Values that are forecast: all F, or 1 where the head has room for the first alone.

        Raises:
            ModelError: the head holds neither.
        """
        leads = horizon * self.quantile_count
        if self.horizon not in (None, horizon):
            leads = 0
        if self.outputs == leads * self.features:
            return self.features
        if self.outputs == leads:
            return 1
        raise ModelError(
            f"model: {self.outputs} outputs ({' or '.join(map(str, self.horizons))} leads), wanted "
            f"forecast.horizon ({horizon}) leads"
        )

    def fits(self, settings: Settings) -> bool:
        """Whether these settings can serve it."""
        try:
            self.check_fits(settings)
        except ModelError:
            return False
        return True

    def check_fits(self, settings: Settings) -> None:
        """Whether these settings can serve it: T, H and the values must be the same.

        Names are compared only where there are several: one value cannot be mistaken for another.

        Raises:
            ModelError: they cannot; one sentence a fault.
        """
        faults = []
        timesteps = settings.windows.timesteps
        if self.timesteps not in (None, timesteps):
            faults.append(
                f"model: windows of {self.timesteps} steps, wanted windows.timesteps ({timesteps})"
            )
        names = settings.ingest.values
        if self.features != len(names):
            found = "1 value" if self.features == 1 else f"{self.features} values"
            faults.append(
                f"model: {found} a step, wanted the {len(names)} of ingest.values "
                f"({', '.join(names)})"
            )
        elif self.features > 1 and self.values and self.values != names:
            faults.append(
                f"model: values {', '.join(self.values)}, wanted ingest.values ({', '.join(names)})"
            )
        try:
            self.targets(settings.forecast.horizon)
        except ModelError as error:
            faults.append(str(error))
        if faults:
            raise ModelError("\n".join(faults))

    def describe(self) -> str:
        """The network in a few words, for logs and people.

        >>> cells = (Recurrent(cell="lstm", units=64), Recurrent(cell="gru", units=32))
        >>> Architecture(cells=cells, timesteps=16, features=1, outputs=16, segment=4).describe()
        'lstm 64, gru 32, dense 16; 16 steps in segments of 4; scaling series, anchor last'
        """
        layers = ", ".join(f"{layer.cell} {layer.units}" for layer in self.cells)
        steps = "any" if self.timesteps is None else self.timesteps
        segments = f" in segments of {self.segment}" if self.segment > 1 else ""
        return (
            f"{layers}, dense {self.outputs}; {steps} steps{segments}; "
            f"scaling {self.scaling}, anchor {self.anchor}"
        )

    @property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the network's weights in Keras's order.

        Of each layer kernel, recurrent kernel and bias, then kernel and bias of the head.

        >>> cells = (Recurrent(cell="gru", units=2),)
        >>> Architecture(cells=cells, timesteps=4, features=1, outputs=3).weight_shapes
        [(2, 6), (2, 6), (2, 6), (2, 3), (3,)]
        """
        shapes: list[tuple[int, ...]] = []
        width = self.step_features
        for layer in self.cells:
            gates = (4 if layer.cell == "lstm" else 3) * layer.units
            shapes += [(width, gates), (layer.units, gates)]
            if layer.use_bias:
                is_double = layer.cell == "gru" and layer.reset_after
                shapes.append((2, gates) if is_double else (gates,))
            width = layer.units
        shapes.append((width, self.outputs))
        if self.output_bias:
            shapes.append((self.outputs,))
        return shapes

    def to_json(self) -> bytes:
        """UTF-8 JSON, every field present."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, text: bytes) -> Architecture:
        """What `to_json` wrote.

        Raises:
            ModelError: it is something else.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ModelError(f"architecture: {error}, wanted what forecastd wrote") from error

    @property
    def head_shape(self) -> tuple[int, int, int]:
        """(H, Q, targets) of an output row; all F values are forecast where nobody said."""
        count = self.quantile_count
        all_values = self.features if self.outputs % (count * self.features) == 0 else 1
        horizon = self.horizon or max(1, self.outputs // (count * all_values))
        return horizon, count, self.outputs // (horizon * count)

    @property
    def horizons(self) -> list[int]:
        """What H can be: where all values are forecast, and where the first alone is."""
        if self.horizon is not None:
            return [self.horizon]
        each = {self.quantile_count * self.features, self.quantile_count}
        return sorted(self.outputs // numbers for numbers in each if self.outputs % numbers == 0)
