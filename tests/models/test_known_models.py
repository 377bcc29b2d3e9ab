from __future__ import annotations

import pytest

from forecastd.errors import ModelError
from forecastd.models.known_models import KnownModels
from forecastd.models.model_records import encode_entry
from tests.models.some_models import NOW_MS, TOPIC, some_model


def known(count: int) -> KnownModels:
    """So many models, each in one part."""
    models = KnownModels(TOPIC)
    for number in range(1, count + 1):
        entry, messages = encode_entry(TOPIC, some_model(number), number, NOW_MS)
        models.take_part(entry.version, 0, messages[0].value)
        models.take_entry(entry.version, messages[-1].value)
    return models


def test_names_some_of_those_that_are_there() -> None:
    with pytest.raises(ModelError) as caught:
        known(7).entry("9-abcdef")
    sentence = str(caught.value)
    assert sentence.endswith(", ...")
    assert sentence.count(",") == 6


def test_forgets_a_model_part_by_part() -> None:
    models = known(1)
    (version,) = (entry.version for entry in models.whole())
    models.take_part(version, 0, None)
    assert models.whole() == []
    models.take_entry(version, None)
    assert models.named() == []
    assert models.faults() == []


def test_refuses_weights_of_another_network() -> None:
    entry, messages = encode_entry(TOPIC, some_model(), 1, NOW_MS)
    models = KnownModels(TOPIC)
    models.take_part(entry.version, 0, (messages[0].value or b"")[:-4])
    models.take_entry(entry.version, messages[-1].value)
    assert not models.is_whole(entry.version)
