"""Trains a challenger on recorded series and judges it: all that a training run does but for I/O.

Network, scaling, batching and the handling of state are those of `forecastd train`; on the same
series under the same settings it comes to the same weights, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np

from forecastd.architecture import Architecture
from forecastd.errors import ModelError
from forecastd.evaluate.gate import Verdict, judge
from forecastd.keras_network import KeyedNetwork
from forecastd.keras_runtime import tf
from forecastd.model_weights import Weights, pack_weights, version_hash
from forecastd.records import Float32s, Floats
from forecastd.settings import Settings
from forecastd.train.held_out import (
    HeldOut,
    Measure,
    fed,
    held_out,
    measure,
    naive_candidates,
    read_medians,
)
from forecastd.train.keras_trainer import Trained, Trainer
from forecastd.train.recorded_series import RecordedSeries, holdout_start_ms
from forecastd.train.run_outcome import Candidate, Champion, TrainingOutcome
from forecastd.train.sequences import batches
from forecastd.train.stretches import Layout
from forecastd.train.training_set import training_facts, training_set


def challenge(
    recorded: Sequence[RecordedSeries],
    settings: Settings,
    champion: Champion | None = None,
    barred: Sequence[str] = (),
    source: Mapping[str, Any] = MappingProxyType({}),
) -> TrainingOutcome:
    """Train a network on all but the newest steps, and judge it and the champion on those.

    Args:
        recorded: what is learnt from and judged by; pieces of one series have one name.
        champion: what serves; started from where `training.warm_start` says so and its network is
            the one that is trained; compared with where these settings can serve it.
        barred: versions that were rolled back: such weights are not promoted again.
        source: where the series came from, for the metadata.

    Raises:
        ModelError: there is too little to learn from, or the loss is no longer a number.
        MemoryError: there is too little of it.
    """
    try:
        outcome = _challenge(recorded, settings, _that_fits(champion, settings), barred, source)
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError(str(error)) from error
    served = champion.version if champion is not None else None
    return msgspec.structs.replace(outcome, champion=served)


def _challenge(
    recorded: Sequence[RecordedSeries],
    settings: Settings,
    champion: Champion | None,
    barred: Sequence[str],
    source: Mapping[str, Any],
) -> TrainingOutcome:
    architecture = Architecture.from_settings(settings)
    parent = champion if settings.training.warm_start else None
    if parent is not None and parent.architecture != architecture:
        parent = None
    data = training_set(recorded, architecture, settings)
    start = parent.weights if parent is not None else None
    trained = Trainer(architecture, data, settings.training, start).train(lambda _: None)
    verdict = _verdict(recorded, settings, architecture, trained.weights, champion)
    hashed = version_hash(architecture, trained.weights)
    if verdict.is_promoted and hashed in {version.rpartition("-")[2] for version in barred}:
        reason = f"weights {hashed} were rolled back before, wanted others"
        verdict = Verdict(is_promoted=False, reason=reason, scores=verdict.scores)
    facts = _facts(recorded, settings, source, trained, verdict)
    candidate = Candidate(
        architecture=architecture,
        packed=pack_weights(trained.weights),
        parent=parent.version if parent is not None else None,
        facts=facts,
    )
    return TrainingOutcome(
        status="promoted" if verdict.is_promoted else "rejected",
        reason=verdict.reason,
        candidate=candidate if verdict.is_promoted else None,
        scores=verdict.scores,
        facts=facts,
    )


def median_forecasts(
    architecture: Architecture, weights: Weights, stretches: Sequence[HeldOut], settings: Settings
) -> list[Floats]:
    """Medians (n, H, targets) of the scored windows of every stretch, in the series' unit.

    Each stretch has a bank row of its own, begins at zero and reads its unscored windows first.
    """
    layout = Layout.of(architecture, settings)
    network = KeyedNetwork(architecture, rows=len(stretches))
    network.set_weights(weights)
    inputs, scales = zip(*(fed(one, layout) for one in stretches), strict=True)
    training, quantiles = settings.training, architecture.quantiles
    found: list[list[Float32s]] = [[] for _ in stretches]
    middle = quantiles.index(0.5) if quantiles else 0
    for batch in batches(inputs, training.batch_size, training.bptt_windows):
        outputs = network.predict(batch.windows, batch.rows)
        for row, medians in zip(batch.rows, outputs[:, :, :, middle], strict=True):
            found[row].append(medians)
    return [
        read_medians(one, np.concatenate(outputs), scale)
        for one, outputs, scale in zip(stretches, found, scales, strict=True)
    ]


def _that_fits(champion: Champion | None, settings: Settings) -> Champion | None:
    """The champion as it serves; None where these settings cannot serve it."""
    if champion is None:
        return None
    try:
        fitted = champion.architecture.fit(settings)
    except ModelError:
        return None
    return msgspec.structs.replace(champion, architecture=fitted)


def _verdict(
    recorded: Sequence[RecordedSeries],
    settings: Settings,
    architecture: Architecture,
    weights: Weights,
    champion: Champion | None,
) -> Verdict:
    training, layout = settings.training, Layout.of(architecture, settings)
    cut_ms = holdout_start_ms(recorded, training.holdout)
    if cut_ms is None:
        reason = "no windows held out, wanted training.holdout above 0 to judge by"
        return Verdict(is_promoted=False, reason=reason)
    stretches = held_out(recorded, layout, cut_ms, training.prime_windows)
    measured = measure(stretches, layout)

    def errors(architecture: Architecture, weights: Weights) -> Floats:
        return measured.errors(median_forecasts(architecture, weights, stretches, settings))

    return judge(
        errors(architecture, weights),
        errors(champion.architecture, champion.weights) if champion is not None else None,
        _naive_errors(stretches, measured, layout),
        measured.windows,
        training.min_gain,
    )


def _naive_errors(
    stretches: Sequence[HeldOut], measured: Measure, layout: Layout
) -> dict[str, Floats]:
    return {
        name: measured.errors(medians)
        for name, medians in naive_candidates(stretches, layout).items()
    }


def _facts(
    recorded: Sequence[RecordedSeries],
    settings: Settings,
    source: Mapping[str, Any],
    trained: Trained,
    verdict: Verdict,
) -> dict[str, Any]:
    """What its metadata says of a model, beyond the network itself."""
    facts = training_facts(recorded, settings)
    return {
        **facts,
        "data": {**facts["data"], **source},
        "history": msgspec.to_builtins(trained.history),
        "scores": msgspec.to_builtins(trained.best),
        "gate": msgspec.to_builtins(verdict.scores),
    }
