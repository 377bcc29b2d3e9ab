"""Looks at the demo's daemon every few seconds, and says what came out so far."""

from __future__ import annotations

import time
from collections.abc import Callable

from forecastd.demo.http_daemon import DaemonPage
from forecastd.demo.learning_news import LearningNews
from forecastd.demo.summary import Summary

_LINE_S = 3.0

_NEWS_S = 0.5
"""Between two looks for what is new of learning."""

_POLL_S = 0.1
"""Between two looks for the first forecast, whose time is of interest."""


class Watch:
    """From the moment the daemon is ready.

    Args:
        page: of the daemon.
        say: where lines for a person go.
        start_s: monotonic time at which the demo was started, as `broker_s`, when it had a broker.
    """

    def __init__(
        self, page: DaemonPage, say: Callable[[str], None], start_s: float, broker_s: float
    ) -> None:
        self._page = page
        self._say = say
        self._start_s, self._broker_s = start_s, broker_s
        self._ready_s = time.monotonic()
        self._first_forecast_s: float | None = None
        self._first_promotion_s: float | None = None
        self._learning = LearningNews()
        self._summary: Summary | None = None

    @property
    def summary(self) -> Summary | None:
        """What the last look saw."""
        return self._summary

    def watch(self, for_s: float | None, check: Callable[[], None]) -> None:
        """Look until `for_s` after the daemon was ready (None: for ever).

        Args:
            for_s: how long.
            check: raises when a part of the demo is gone.
        """
        end_s = self._ready_s + for_s if for_s is not None else float("inf")
        line_s = self._ready_s + _LINE_S
        while (now_s := time.monotonic()) < end_s:
            check()
            self._note_news()
            if now_s >= line_s:
                line_s += _LINE_S
                self.look()
                if self._summary is not None:
                    self._say(self._summary.progress())
            next_s = now_s + (_POLL_S if self._first_forecast_s is None else _NEWS_S)
            pause_s = min(next_s, line_s, end_s) - time.monotonic()
            time.sleep(max(0.0, pause_s))  # noqa: TID251  # paces; Ctrl-C ends it

    def look(self) -> None:
        """Sum up; where the daemon does not answer, what was seen before stays."""
        self._note_news()
        now, forecasts = self._page.snapshot(), self._page.forecasts()
        if now is None or forecasts is None:
            return
        self._summary = Summary(
            seconds=time.monotonic() - self._ready_s,
            records=now.records_total,
            forecasts=sum(forecasts.values()),
            model_forecasts=forecasts.get("model", 0),
            delay_p50_ms=now.delay_p50_ms,
            delay_p99_ms=now.delay_p99_ms,
            skill=now.skill,
            coverage=now.coverage,
            series=now.series_active,
            source=now.source,
            model_version=now.model_version,
            promotions=self._learning.promoted,
            seconds_to_broker=self._broker_s - self._start_s,
            seconds_to_ready=self._ready_s - self._start_s,
            seconds_to_first_forecast=self._since_start(self._first_forecast_s),
            seconds_to_first_promotion=self._since_start(self._first_promotion_s),
            page=self._page.address,
        )

    def _note_news(self) -> None:
        if self._first_forecast_s is None:
            forecasts = self._page.forecasts()
            if forecasts and sum(forecasts.values()):
                self._first_forecast_s = time.monotonic()
                self._say("the first forecast is out")
        now = self._page.snapshot()
        for sentence in self._learning.tell(now.learning) if now is not None else ():
            self._say(sentence)
        if self._learning.promoted and self._first_promotion_s is None:
            self._first_promotion_s = time.monotonic()

    def _since_start(self, at_s: float | None) -> float | None:
        return None if at_s is None else at_s - self._start_s
