from __future__ import annotations

import threading

from forecastd.watchdog import Watchdog


class TestWatchdog:
    def test_ends_the_process_when_a_block_does_not_end(self) -> None:
        """A call of the client that never returns must not become a daemon that never does."""
        said: list[str] = []
        ended: list[int] = []
        bitten = threading.Event()

        def end(status: int) -> None:
            ended.append(status)
            bitten.set()

        with Watchdog(said.append, end).bound("commit", 0.01):
            assert bitten.wait(10)
        assert said == ["commit: no answer in 0.01 s, wanted one; the process ends"]
        assert ended == [1]

    def test_lets_a_block_go_that_ends_in_time(self) -> None:
        ended: list[int] = []
        before = threading.active_count()
        with Watchdog(lambda _: None, ended.append).bound("commit", 60):
            pass
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(10)
        assert threading.active_count() <= before
        assert ended == []
