import json

import pytest
from jsonschema import Draft202012Validator

from forecastd.__main__ import main


def test_prints_the_schema_of_a_forecast(capsys: pytest.CaptureFixture[str]) -> None:
    """What consumers of the output topic generate their code from."""
    assert main(["schema", "forecast"]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert "model_version" in json.dumps(schema)


def test_knows_no_other_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["schema", "records"])
    assert "invalid choice: 'records'" in capsys.readouterr().err
