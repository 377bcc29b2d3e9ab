from __future__ import annotations

from forecastd.train.schedule import EARLY, JITTER, RETRY_MS, LastRun, Schedule

HOUR = 3_600_000
SCHEDULE = Schedule(every_ms=6 * HOUR, min_windows=1_000, group="g")


def due(now_ms: int, last: LastRun | None, *, windows: int = 1_000, dropped: bool = False) -> bool:
    return SCHEDULE.is_due(now_ms, lambda: windows, last, is_urgent=dropped)


class TestFirstRun:
    def test_begins_as_soon_as_there_are_enough_windows(self) -> None:
        assert due(0, None)
        assert not due(0, None, windows=999)


class TestNextRun:
    def test_asks_for_windows_only_when_it_is_time(self) -> None:
        """The loop waits for the answer of a broker."""
        asked: list[bool] = []

        def windows() -> int:
            asked.append(True)
            return 1_000

        last = LastRun(1, ended_ms=0, failures=0)
        for now_ms in (HOUR, 7 * HOUR):
            SCHEDULE.is_due(now_ms, windows, last, is_urgent=False)
        assert len(asked) == 1

    def test_begins_after_the_time_between_two_give_or_take_the_jitter(self) -> None:
        last = LastRun(1, ended_ms=5 * HOUR, failures=0)
        assert not due(last.ended_ms + round(6 * HOUR * (1 - JITTER)) - 1, last)
        assert due(last.ended_ms + round(6 * HOUR * (1 + JITTER)), last)

    def test_does_not_begin_where_windows_have_gone(self) -> None:
        """Retention took them: there is nothing to learn from."""
        assert not due(100 * HOUR, LastRun(1, 0, 0), windows=10)

    def test_varies_from_run_to_run_and_from_group_to_group(self) -> None:
        pauses = {SCHEDULE.pause_ms(LastRun(number, 0, 0), False) for number in range(20)}  # noqa: FBT003
        other = Schedule(6 * HOUR, 1_000, "other")
        pauses |= {other.pause_ms(LastRun(number, 0, 0), False) for number in range(20)}  # noqa: FBT003
        assert len(pauses) == 40
        assert max(pauses) - min(pauses) > 6 * HOUR * JITTER

    def test_begins_early_when_skill_has_dropped_and_not_at_once(self) -> None:
        last = LastRun(1, 0, 0)
        early = round(6 * HOUR * EARLY)
        assert due(early, last, dropped=True)
        assert not due(early - 1, last, dropped=True)
        assert not due(early, last)


class TestFailedRuns:
    def test_back_off_up_to_the_time_between_two_runs(self) -> None:
        assert due(RETRY_MS, LastRun(1, 0, failures=1))
        assert not due(RETRY_MS, LastRun(2, 0, failures=2))
        assert due(6 * HOUR, LastRun(500, 0, failures=500))

    def test_do_not_begin_sooner_because_skill_has_dropped(self) -> None:
        assert not due(RETRY_MS, LastRun(3, 0, failures=3), dropped=True)
