import pytest

from forecastd.__main__ import main


@pytest.mark.parametrize("partitions", ["0", "-1", "2.5", "some"])
def test_refuses_a_count_that_no_topic_has(
    partitions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kafka takes -1 for its own default, which nobody asked for."""
    with pytest.raises(SystemExit, match="2"):
        main(["feed", "--broker", "localhost:1", "--partitions", partitions])
    said = f"argument --partitions: '{partitions}', wanted a whole number, at least 1"
    assert said in capsys.readouterr().err
