from __future__ import annotations

import numpy as np
import pytest

from forecastd.architecture import Architecture, Recurrent
from forecastd.errors import ModelError
from forecastd.evaluate.gate import Scores
from forecastd.model_weights import pack_weights
from forecastd.settings import Settings
from forecastd.train.run_outcome import Candidate, TrainingJob, TrainingOutcome

SMALL = Architecture(
    cells=(Recurrent(cell="lstm", units=2),), timesteps=4, features=1, outputs=1, horizon=1
)


def outcome(**changed: object) -> TrainingOutcome:
    weights = [np.full(shape, 0.5, np.float32) for shape in SMALL.weight_shapes]
    candidate = Candidate(
        architecture=SMALL, packed=pack_weights(weights), parent="3-abcdef", facts={"seconds": 1.5}
    )
    scores = Scores(
        challenger=0.5, champion=None, naive={"last": 1.0}, best_naive="last", series=2, windows=80
    )
    fields = {"status": "promoted", "reason": "better", "candidate": candidate, "scores": scores}
    return TrainingOutcome(**{**fields, **changed})  # type: ignore[arg-type]  # by name


class TestJob:
    def test_carries_every_setting(self) -> None:
        settings = Settings.model_validate({
            "kafka": {
                "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN",
                "sasl_username": "u", "sasl_password": "secret\n1",
            },
            "windows": {"timesteps": 10, "season": 24},
            "training": {
                "exclude": ["2026-01-31T00:00Z/2026-02-01T00:00Z"],
                "every": "90s", "memory": "3MiB",
            },
        })  # fmt: skip
        line = TrainingJob.of(settings).to_line()
        assert line.count(b"\n") == 1
        assert TrainingJob.from_line(line).read_settings() == settings

    def test_of_the_defaults_is_the_defaults(self) -> None:
        assert TrainingJob.of(Settings()).read_settings() == Settings()


class TestOutcome:
    def test_is_read_as_it_was_written(self) -> None:
        read = TrainingOutcome.from_bytes(outcome().to_bytes())
        assert read == outcome()
        assert read.candidate is not None
        assert [weight.shape for weight in read.candidate.weights()] == SMALL.weight_shapes

    @pytest.mark.parametrize("cut", [0, 1, 100])
    def test_that_is_not_whole_is_refused(self, cut: int) -> None:
        """The process was killed while it wrote."""
        with pytest.raises(ModelError, match="a result that cannot be read"):
            TrainingOutcome.from_bytes(outcome().to_bytes()[:cut])

    def test_with_weights_that_fit_no_network_is_refused(self) -> None:
        weights = [np.full(shape, np.nan, np.float32) for shape in SMALL.weight_shapes]
        packed = pack_weights(weights)
        for wrong in (packed, packed[:-4]):
            candidate = Candidate(architecture=SMALL, packed=wrong, parent=None, facts={})
            with pytest.raises(ModelError, match=r"^training: .*wanted"):
                TrainingOutcome.from_bytes(outcome(candidate=candidate).to_bytes())

    def test_that_contradicts_itself_is_refused(self) -> None:
        for wrong in (outcome(candidate=None), outcome(status="rejected")):
            with pytest.raises(ModelError, match="the network does not agree"):
                TrainingOutcome.from_bytes(wrong.to_bytes())
