"""What the page does with untrusted names: read in its source, and seen in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from forecastd.clock import SystemClock
from forecastd.observe.events import LoopTurned, PartitionReady, Rebalanced
from forecastd.observe.http_server import HttpServer
from forecastd.observe.snapshot import Learning, Promotion, SeriesView, Snapshot
from forecastd.records import TopicPartition

PAGE = resources.files("forecastd.observe").joinpath("page")
SCRIPTS = ("page.js", "charts.js")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = '<script>document.title="owned"</script><b>bold</b>&amp;'


def text_of(name: str) -> str:
    return PAGE.joinpath(name).read_text(encoding="utf-8")


class TestSource:
    @pytest.mark.parametrize("name", SCRIPTS)
    @pytest.mark.parametrize(
        "sink",
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"],
    )
    def test_never_turns_text_into_markup_or_code(self, name: str, sink: str) -> None:
        assert sink not in text_of(name)

    def test_hands_no_text_from_records_to_plotly(self) -> None:
        """Plotly reads tags and links in its labels."""
        uses = re.findall(r"view\.(?:name|topic|target|flags)\b", text_of("charts.js"))
        inside_key = re.findall(
            r"JSON\.stringify\(\[view\.topic, .*view\.target\]\)", text_of("charts.js")
        )
        assert len(inside_key) == 1
        assert len(uses) == 3, "topic, name and target, in the key of a series and nowhere else"

    def test_hands_plotly_no_version_that_is_not_shaped_like_one(self) -> None:
        """The one text that it gets is the label of a line: a number and six hex digits."""
        assert "/^[0-9]+-[0-9a-f]{6}$/.test(version)" in text_of("charts.js")
        assert text_of("charts.js").count("text: ") == 1

    @pytest.mark.parametrize("name", [*SCRIPTS, "index.html", "page.css"])
    def test_asks_nothing_of_the_network(self, name: str) -> None:
        links = re.findall(r"https?://[^\s'\"]+", text_of(name))
        assert [link for link in links if "www.w3.org" not in link] == [], "but XML namespaces"

    def test_has_no_script_of_its_own_inline(self) -> None:
        html = text_of("index.html")
        assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
        assert re.findall(r"\son[a-z]+=", html) == []


@pytest.fixture
def address() -> Iterator[str]:
    """A server that shows one series with a nasty name."""
    clock, at = SystemClock(), TopicPartition("records", 0)
    server = HttpServer("127.0.0.1", 0, CollectorRegistry(), clock)
    server.emit(LoopTurned(clock.monotonic_s(), broker_reachable=True))
    server.emit(Rebalanced("assigned", (at,)))
    server.emit(PartitionReady(at, 0))
    steps = range(40)
    view = SeriesView(
        name=NASTY,
        topic="records",
        partition=0,
        target="<i>value</i>",
        at_ms=[1_700_000_000_000 + 1_000 * step for step in steps],
        actuals=[float(step % 7) for step in steps],
        origin_ms=1_700_000_039_000,
        forecast_at_ms=[1_700_000_039_000 + 1_000 * lead for lead in range(1, 9)],
        quantiles=[0.1, 0.5, 0.9],
        forecast=[[1.0, 3.0, 5.0]] * 8,
        source="model",
        model_version="7-3fa9c1",
        model_from_ms=1_700_000_019_000,
    )
    learning = Learning(
        promotions=(Promotion("7-3fa9c1", "trainer", 1_700_000_030_000, f"better {NASTY}"),),
        running_since_ms=1_700_000_100_000,
        last_outcome="promoted",
        last_reason="error 0.8, wanted below 0.98",
        last_ended_ms=1_700_000_030_000,
        series_in_fallback=3,
    )
    server.publish(
        Snapshot(
            at_ms=1_700_000_150_000,
            records_total=12_345,
            model_version="7-3fa9c1",
            source="model",
            learning=learning,
            series=(view,),
        )
    )
    server.start()
    yield server.address
    server.stop()


@pytest.mark.skipif(BROWSER is None, reason="needs chromium to look at the page")
class TestInABrowser:
    def look(self, address: str, profile: Path) -> str:
        """The page as it stands after some seconds."""
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        quiet += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        look = [f"--user-data-dir={profile}", "--virtual-time-budget=4000", "--dump-dom", address]
        return subprocess.run(
            [str(BROWSER), *quiet, *look], capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def test_a_nasty_name_is_shown_as_it_is_and_charts_are_drawn(
        self, address: str, tmp_path: Path
    ) -> None:
        seen = self.look(address, tmp_path)
        escaped = NASTY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f'<span class="name">{escaped}</span>' in seen
        assert "<title>forecastd</title>" in seen
        assert "&lt;i&gt;value&lt;/i&gt;" in seen
        assert seen.count('class="main-svg"') >= 2, "one chart in focus and a small one"
        assert ">serving</p>" in seen
        assert "12.3K in all" in seen

    def test_a_promotion_is_a_line_in_the_chart_and_learning_is_told(
        self, address: str, tmp_path: Path
    ) -> None:
        seen = self.look(address, tmp_path)
        assert "model 7-3fa9c1</text>" in seen, "beside the line, in the chart in focus"
        assert "records[0] · &lt;i&gt;value&lt;/i&gt; · model 7-3fa9c1" in seen
        assert "7-3fa9c1, promoted by training 2 min ago" in seen
        assert "under way for 50 s" in seen
        assert "promoted 2 min ago" in seen
        assert "error 0.8, wanted below 0.98" in seen
        assert "3 series get the baseline" in seen
        assert "<b>bold</b>" not in seen, "reasons are text, whatever they hold"
