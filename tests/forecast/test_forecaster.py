from __future__ import annotations

from typing import Any

import jsonschema
import numpy as np
import pytest

from forecastd.forecast import forecaster
from forecastd.forecast.forecaster import ServedModel
from forecastd.forecast.model import Model
from forecastd.memory.log import MemoryBroker
from forecastd.memory.network import MemoryNetwork
from forecastd.observe.events import (
    ForecastsScored,
    ModelCalled,
    RowsUnreadable,
    StateReset,
)
from forecastd.publish.message import forecast_schema
from forecastd.records import Float32s, Floats, Slots
from forecastd.settings import Settings
from tests.in_memory import (
    P0,
    START_MS,
    Obs,
    Telemetry,
    assert_same,
    by_id,
    copy_input,
    drain,
    encode,
    feed,
    feed_more,
    fields,
    make_model,
    make_settings,
    numbers,
    published,
    run,
    start,
)
from tests.slow_daemon import SlowDaemon, SlowSeries

SCHEMA = jsonschema.Draft202012Validator(forecast_schema())


def one_series(values: Floats | list[float], name: str = "a", first: int = 0) -> MemoryBroker:
    """A record a second, one observation each."""
    broker = MemoryBroker()
    append(broker, values, name, first)
    return broker


def append(
    broker: MemoryBroker, values: Floats | list[float], name: str = "a", first: int = 0
) -> None:
    for at, value in enumerate(np.asarray(values, np.float64).tolist(), first):
        at_ms = START_MS + 1_000 * at
        broker.append(P0, encode([Obs(name, at_ms, (value,))]), at_ms)


def windows(broker: MemoryBroker) -> list[dict[str, Any]]:
    """The forecasts that a window made, in order."""
    return [message for message in published(broker) if "cold" not in message["flags"]]


def wave(count: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    made: Floats = 50 + 5 * np.sin(np.arange(count) / 3) + rng.normal(size=count)
    return made


def primed_by_hand(settings: Settings, model: Model, values: Floats) -> Floats:
    """What `model` forecasts at the end of `values` after reading the tail from zero.

    Every window is measured as it was at its own end, the due one as well.
    """
    slow = SlowDaemon(settings, model)
    one, timesteps = SlowSeries(rows={}), settings.windows.timesteps
    ends = list(range(len(values), timesteps - 1, -timesteps))  # the same phase, newest first
    ends = ends[: settings.training.prime_windows + 1]
    model.bank.grow(1)
    broker = one_series(values)
    made = np.zeros(0)
    for end in reversed(ends):
        reader = SlowDaemon(settings, None)
        for record in broker.records[P0][:end]:
            reader.record(P0, record)
        one = reader.series[P0, "a"]
        one.rows = dict.fromkeys(range(settings.windows.phases), 0)
        window = (end - timesteps) // settings.windows.stride_steps
        made = slow.modelled(one, window)
    return made


class TestStaleStates:
    @pytest.mark.parametrize(("count", "stride"), [(120, 4), (117, 4), (12, 4), (120, 2), (7, 1)])
    def test_are_primed_from_the_tail_at_their_first_window(self, count: int, stride: int) -> None:
        """New weights cannot use the old state: they read the tail themselves, from zero."""
        settings = make_settings(
            windows={"stride": stride}, training={"prime_windows": 3}, state={"row_every": 1}
        )
        values, more = wave(count), 4 - (count % 4 or 4) or 4
        broker = one_series(values)
        run(broker, settings, make_model(settings, seed=1))
        sent = len(windows(broker))
        values = np.concatenate([values, wave(more, seed=9)])
        append(broker, values[count:], first=count)
        new = make_model(settings, seed=2, version="2-bb")
        run(broker, settings, new)
        first = windows(broker)[sent:][-1 if stride == 4 else 0]
        used = count + (more if stride == 4 else (4 - count % stride) % stride or stride)
        assert set(first["flags"]) == {"primed", "restored"}
        assert (first["source"], first["model_version"]) == ("model", "2-bb")
        assert first["origin_ms"] == START_MS + 1_000 * (used - 1)
        by_hand = make_model(settings, seed=2)
        wanted = primed_by_hand(settings, by_hand, values[:used])
        np.testing.assert_allclose(numbers(first)[0], wanted[..., 0], rtol=1e-6)

    def test_are_primed_once_for_each_phase(self) -> None:
        settings = make_settings(windows={"stride": 2})
        broker = one_series(wave(40))
        run(broker, settings, make_model(settings))
        sent = len(windows(broker))
        append(broker, wave(20, seed=1), first=40)
        run(broker, settings, make_model(settings, seed=2, version="2-bb"))
        flags = [message["flags"] for message in windows(broker)[sent:]]
        assert flags == [["restored", "primed"], ["primed"], *[[]] * 8]

    def test_are_not_primed_before_a_phase_had_a_window(self) -> None:
        """Its state rightly is zero, whatever the weights."""
        settings = make_settings(windows={"stride": 2}, state={"row_every": 1})
        broker = one_series(wave(5))
        run(broker, settings, make_model(settings))
        append(broker, wave(4, seed=1), first=5)
        run(broker, settings, make_model(settings, seed=2, version="2-bb"))
        assert [message["flags"] for message in windows(broker)[1:]] == [["restored"], ["primed"]]

    def test_are_left_alone_by_a_replay(self) -> None:
        """What was published under old weights is not forecast again; only the tail is read."""
        settings = make_settings(state={"row_every": 3})
        broker = one_series(wave(40))
        run(broker, settings, make_model(settings), 1)
        resumed = broker.committed[P0].resume_from
        assert resumed is not None
        assert resumed < 40  # a window was published that is in no row
        heard = run(broker, settings, make_model(settings, seed=2, version="2-bb"))
        assert not heard.heard(ModelCalled)
        assert not heard.heard(ForecastsScored)

    @pytest.mark.parametrize("bytes_per_second", [1, 10**8])
    def test_once_primed_survive_a_crash(self, bytes_per_second: int) -> None:
        """The primed state is in the commit that published it, whatever rows may cost.

        Primed again, from a later tail, it would be another.
        """
        state = {"row_every": 1_000, "bytes_per_second": bytes_per_second}
        settings = make_settings(state=state)
        before = feed(120, seed=5, broken=0)
        saves = make_settings(state={"row_every": 1})
        run(before, saves, make_model(saves))
        feed_more(before, 100, seed=6, broken=0)
        once, crashed = _copy(before), _copy(before)
        run(once, settings, make_model(settings, seed=2, version="2-bb"))
        for turns in (3, 4, 5, 4, 6):
            model = make_model(settings, seed=2, version="2-bb")
            loop = start(crashed, settings, model, poll_records=20)
            for _ in range(turns):
                loop.run_once()
        run(crashed, settings, make_model(settings, seed=2, version="2-bb"))
        found, wanted = by_id(crashed), by_id(once)
        assert found.keys() == wanted.keys()
        assert sum("primed" in message["flags"] for message in found.values()) == 8
        for key, message in found.items():
            assert_same(message, wanted[key], flags={"restored"})


def _copy(broker: MemoryBroker) -> MemoryBroker:
    copied = copy_input(broker)
    copied.committed, copied.sent = dict(broker.committed), list(broker.sent)
    return copied


class TestStatesThatARowDoesNotHold:
    @pytest.mark.parametrize("between", [None, {"seed": 2, "version": "2-bb", "units": 5}])
    @pytest.mark.parametrize("stride", [4, 1])
    def test_are_primed_when_the_first_model_comes_back(
        self, between: dict[str, Any] | None, stride: int
    ) -> None:
        """A row saved without the state, or with that of another network, must not vouch for one.

        Its series would go on from zero as if nothing had happened.
        """
        settings = make_settings(windows={"stride": stride}, state={"row_every": 1})
        values = wave(61)
        broker = one_series(values[:40])
        run(broker, settings, make_model(settings))
        append(broker, values[40:41], first=40)
        run(broker, settings, None if between is None else make_model(settings, **between))
        broker.sent = [message for message in broker.sent if message.topic != "forecasts"]
        # What was behind after one step is saved all the same, without a window of its own.
        saver = make_settings(windows={"stride": stride}, state={"row_every": 1, "max_replay": 1})
        append(broker, values[41:42], first=41)
        run(broker, saver, None if between is None else make_model(saver, **between))
        broker.sent = [message for message in broker.sent if message.topic != "forecasts"]
        append(broker, values[42:], first=42)
        model = make_model(settings)
        run(broker, settings, model)
        first = windows(broker)[0]
        assert "primed" in first["flags"]
        end = (first["origin_ms"] - START_MS) // 1_000 + 1
        wanted = primed_by_hand(settings, make_model(settings), values[:end])
        np.testing.assert_allclose(numbers(first)[0], wanted[..., 0], rtol=1e-6)
        phases = settings.windows.phases
        primed = ["primed" in message["flags"] for message in windows(broker)]
        assert primed == [True] * phases + [False] * (len(primed) - phases)


class Explodes(MemoryNetwork):
    """A network that some windows make overflow: state and outputs are no numbers any more."""

    __slots__ = ()

    def predict(self, windows: Float32s, rows: Slots) -> Float32s:
        outputs = MemoryNetwork.predict(self, windows, rows)
        hit = np.abs(windows).max(axis=(1, 2)) >= 10
        outputs[hit] = np.nan
        self.write_state(
            0, "c", rows[hit], np.full((int(hit.sum()), self.units), np.nan, np.float32)
        )
        return outputs


class TestOutputsThatAreNoNumbers:
    VALUES = np.concatenate([wave(24), [50, 1e9, 50, 51], wave(12, seed=1)])

    def test_let_the_baseline_speak_and_the_state_begin_anew(self) -> None:
        settings = make_settings()
        broker, calm = one_series(self.VALUES), one_series(self.VALUES)
        heard = run(broker, settings, make_model(settings, network=Explodes))
        run(calm, settings)
        exploded = [m for m in windows(broker) if m["source"] == "baseline"]
        assert [m["origin_ms"] for m in exploded] == [START_MS + 1_000 * 27]
        assert sum(event.count for event in heard.heard(StateReset)) == 1
        (found,), wanted = exploded, by_id(calm)[exploded[0]["id"]]
        assert_same(found, wanted)
        assert found["model_version"] is None
        # From zero, the next window is the first that the state has read.
        after = windows(broker)[7]
        assert after["source"] == "model"
        alone = make_settings(training={"prime_windows": 1})
        model = make_model(alone)
        model.bank.grow(1)
        reader = SlowDaemon(settings, None)
        for record in broker.records[P0][:32]:
            reader.record(P0, record)
        one = reader.series[P0, "a"]
        one.rows = {0: 0}
        wanted_numbers = SlowDaemon(settings, model).modelled(one, 7)
        np.testing.assert_allclose(numbers(after)[0], wanted_numbers[..., 0], rtol=1e-6)

    def test_do_not_touch_the_other_series_of_the_call(self) -> None:
        settings = make_settings()
        both, alone = one_series(self.VALUES), one_series(wave(40, seed=3), "b")
        append(both, wave(40, seed=3), "b")
        run(both, settings, make_model(settings, network=Explodes))
        run(alone, settings, make_model(settings, network=Explodes))
        wanted = numbers_by_origin(alone)
        found = numbers_by_origin(both)
        assert found.keys() == wanted.keys()
        for at, cells in found.items():
            np.testing.assert_allclose(cells, wanted[at], rtol=1e-6)

    @pytest.mark.parametrize("poll_records", [1, 7])
    def test_are_the_same_however_the_records_fall_into_polls(self, poll_records: int) -> None:
        settings = make_settings()
        whole, cut = one_series(self.VALUES), one_series(self.VALUES)
        run(whole, settings, make_model(settings, network=Explodes))
        run(cut, settings, make_model(settings, network=Explodes), poll_records)
        found, wanted = by_id(cut), by_id(whole)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert_same(message, wanted[key])


def numbers_by_origin(broker: MemoryBroker, series: str = "b") -> dict[int, Floats]:
    return {m["origin_ms"]: numbers(m) for m in published(broker) if m["series"] == series}


class TestSlots:
    def test_that_another_series_had_begin_anew(self) -> None:
        """With room for one series, every newcomer gets the slot and bank row of the last."""
        settings = make_settings(windows={"max_series": 1})
        broker = MemoryBroker()
        for number in range(4):
            append(broker, wave(9, seed=number), f"s{number}")
        run(broker, settings, make_model(settings), 5)
        for number in range(4):
            alone = one_series(wave(9, seed=number), f"s{number}")
            run(alone, settings, make_model(settings))
            wanted, found = (
                numbers_by_origin(alone, f"s{number}"),
                numbers_by_origin(broker, f"s{number}"),
            )
            assert found.keys() == wanted.keys()
            for at, cells in found.items():
                np.testing.assert_allclose(cells, wanted[at], rtol=1e-6)


class TestCalls:
    def test_are_cut_to_a_bounded_number_of_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = make_settings()
        broker = feed(100, broken=0, series=6)
        whole, cut = copy_input(broker), copy_input(broker)
        run(whole, settings, make_model(settings))
        monkeypatch.setattr(forecaster, "WINDOWS_MAX", 2)
        heard = run(cut, settings, make_model(settings))
        assert max(event.windows for event in heard.heard(ModelCalled)) == 2
        found, wanted = by_id(cut), by_id(whole)
        assert found.keys() == wanted.keys()
        for key, message in found.items():
            assert_same(message, wanted[key])


CHANGES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"forecast": {"horizon": 3}}, {"forecast": {"horizon": 7}}),
    ({"forecast": {"horizon": 7}}, {"forecast": {"horizon": 3}}),
    ({"forecast": {"horizon": 4}}, {"forecast": {"horizon": 3}}),  # as many pending ones
    ({"training": {"prime_windows": 1}}, {"training": {"prime_windows": 8}}),
    ({"training": {"prime_windows": 8}}, {"training": {"prime_windows": 1}}),
    ({}, {"windows": {"season": 60}}),
    ({"windows": {"season": 60}}, {}),
    ({}, {"windows": {"stride": 2}}),
    ({"windows": {"stride": 1}}, {"windows": {"stride": 2}}),
    ({}, {"forecast": {"quantiles": [0.25, 0.5]}}),
]


class TestChangedSettings:
    @pytest.mark.parametrize(("before", "after"), CHANGES)
    @pytest.mark.parametrize("with_model", [False, True])
    def test_keep_what_does_not_depend_on_them(
        self,
        before: dict[str, Any],
        after: dict[str, Any],
        with_model: bool,  # noqa: FBT001
    ) -> None:
        """Rows of the old settings are read by the new ones; nobody sees a null or a cold start."""
        old = make_settings(**before, state={"row_every": 1})
        new = make_settings(**after, state={"row_every": 1})
        values = wave(130)
        broker = one_series(values[:102])
        run(broker, old, make_model(old) if with_model else None)
        sent = len(broker.sent)
        append(broker, values[102:], first=102)
        heard = run(broker, new, make_model(new) if with_model else None)
        assert not heard.heard(RowsUnreadable)
        made = windows(MemoryBroker(sent=broker.sent[sent:]))
        assert len(made) == len(published(MemoryBroker(sent=broker.sent[sent:]))) > 5
        for message in made:
            SCHEMA.validate(message)
            assert message["step_ms"] == 1_000
            assert "reset" not in message["flags"]
            found = numbers(message)
            assert found.shape == (1, new.forecast.horizon, len(new.forecast.quantiles))
            assert np.isfinite(found).all()
            if not with_model and not new.windows.season:
                last = values[(message["origin_ms"] - START_MS) // 1_000]
                middle = list(new.forecast.quantiles).index(0.5)
                np.testing.assert_allclose(found[0, :, middle], last, rtol=1e-6)
                assert (np.diff(found[0], axis=1) > 0).all()

    @pytest.mark.parametrize("horizon", [3, 2])
    def test_of_the_horizon_let_nothing_be_scored_that_is_not_there(self, horizon: int) -> None:
        """Pending forecasts of another horizon are gone; what is left of them says nothing."""
        old = make_settings(forecast={"horizon": 4}, state={"row_every": 1})
        new = make_settings(forecast={"horizon": horizon}, state={"row_every": 1})
        values = 1e6 + wave(48)
        broker = one_series(values[:40])
        run(broker, old)
        append(broker, values[40:], first=40)
        heard = run(broker, new).heard(ForecastsScored)
        assert sum(event.leads for event in heard) == horizon

    def test_of_timesteps_or_values_let_every_series_start_cold(self) -> None:
        old = make_settings(state={"row_every": 1})
        broker = feed(100, seed=5)
        run(broker, old, make_model(old))
        sent = len(broker.sent)
        for changed in (
            make_settings(windows={"timesteps": 8}, state={"row_every": 1}),
            make_settings(ingest={"values": fields(2)}, state={"row_every": 1}),
        ):
            again = _copy(broker)
            features = len(changed.ingest.values)
            feed_more(again, 150, seed=7, features=features)
            heard = run(again, changed, make_model(changed))
            assert [event.count for event in heard.heard(RowsUnreadable)] == [4, 4]
            made = windows(MemoryBroker(sent=again.sent[sent:]))
            resets = [(m["input"]["partition"], m["series"]) for m in made if "reset" in m["flags"]]
            assert len(resets) == len(set(resets)) >= 6


class TestExtremes:
    @pytest.mark.parametrize("scaling", ["series", "none"])
    @pytest.mark.parametrize("anchor", ["last", "none", "ewma"])
    @pytest.mark.parametrize("is_point", [False, True])
    def test_of_float32_make_finite_messages(
        self,
        scaling: str,
        anchor: str,
        is_point: bool,  # noqa: FBT001
    ) -> None:
        """One such series must neither publish a null nor end the daemon."""
        settings = make_settings(
            windows={"stride": 2}, forecast={"scaling": scaling, "anchor": anchor}
        )
        end = float(np.finfo(np.float32).max)
        rng = np.random.default_rng(0)
        values = rng.choice([end, -end, 0.0, 1e-320, -1e-30, 1.0], 60)
        for model in (None, make_model(settings, is_point=is_point)):
            broker = one_series(values)
            with np.errstate(over="ignore"):  # inside the network, where it is caught at the end
                run(broker, settings, model, 7)
            assert len(windows(broker)) == 29
            for message in published(broker):
                SCHEMA.validate(message)
                assert (np.diff(numbers(message), axis=2) >= 0).all()


class TestFlags:
    def test_of_a_restart_are_told_once_a_series(self) -> None:
        settings = make_settings(state={"row_every": 1})
        broker = feed(120, seed=5)
        run(broker, settings)
        sent = len(broker.sent)
        feed_more(broker, 100, seed=6)
        run(broker, settings)
        told = [
            (message["input"]["partition"], message["series"])
            for message in windows(MemoryBroker(sent=broker.sent[sent:]))
            if "restored" in message["flags"]
        ]
        assert len(told) == len(set(told)) == 8

    def test_of_a_reset_are_not_told_again_after_a_replay(self) -> None:
        """The row says `reset` as of before the window; the window was told, and is replayed."""
        settings = make_settings(state={"row_every": 1})
        broker = one_series(wave(21))
        run(broker, settings)
        broker.committed = {}
        slow_to_save = make_settings(state={"row_every": 1_000, "max_replay": 1})
        loop = start(broker, slow_to_save, poll_records=3)
        for _ in range(2):  # a row of three steps, no window yet
            loop.run_once()
        never_saves = make_settings(state={"row_every": 1_000})
        drain(start(broker, never_saves, poll_records=3))
        append(broker, wave(8, seed=1), first=21)
        run(broker, never_saves)
        resets = [m["origin_ms"] for m in windows(broker) if "reset" in m["flags"]]
        assert resets == [START_MS + 3_000]


class TestServedModel:
    def test_has_a_version_key_that_is_never_that_of_no_model(self) -> None:
        network = MemoryNetwork(4, 1, (1, 1, 1))
        keys = {
            ServedModel(network, f"{at}-x", (), 1, "series", "last").version_key
            for at in range(200)
        }
        assert 0 not in keys
        assert len(keys) == 200
        assert max(keys) < 2**64


def test_telemetry_of_a_daemon_without_a_model_names_no_model() -> None:
    heard: Telemetry = run(feed(60), make_settings())
    assert not heard.heard(ModelCalled)
    assert {event.source for event in heard.heard(ForecastsScored)} == {"baseline"}
