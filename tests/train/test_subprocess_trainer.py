"""A training process may do what it likes: it costs one run, and leaves nothing behind.

Children are small programs that misbehave in one way, or the real one before a broker that does not
answer.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from forecastd.clock import ManualClock
from forecastd.settings import Settings
from forecastd.train.run_outcome import TrainingJob, TrainingOutcome
from forecastd.train.subprocess_trainer import TrainerProcess

JOB = TrainingJob.of(Settings())
TIMEOUT_MS, PATIENCE_S = 60_000, 120

ANSWER = """
import sys
from forecastd.train.run_outcome import TrainingJob, TrainingOutcome
job = TrainingJob.from_line(sys.stdin.buffer.readline())
facts = {"group": job.settings["kafka"]["group_id"], "large": "x" * 3_000_000}
sys.stderr.write("chatter\\n" * 100_000)
outcome = TrainingOutcome(status="rejected", reason="no better", facts=facts)
sys.stdout.buffer.write(outcome.to_bytes())
"""
WAIT = "import sys; sys.stdin.buffer.read()"


class Run:
    """A trainer whose child runs `program`; the real one where there is none."""

    def __init__(self, program: str | None = None, job: TrainingJob = JOB) -> None:
        self.clock = ManualClock()
        command = {} if program is None else {"command": (sys.executable, "-c", program)}
        self.trainer = TrainerProcess(TIMEOUT_MS, self.clock, **command)
        self.trainer.start(job)
        self.pid = self.trainer.pid
        assert self.pid is not None

    def outcome(self) -> TrainingOutcome:
        """What came of it, once it has ended by itself."""
        assert self.pid is not None
        wait_for_end(self.pid)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        found = self.trainer.poll()
        assert found is not None
        return found


def wait_for_end(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        assert select.select([handle], [], [], PATIENCE_S)[0], "it goes on"
    finally:
        os.close(handle)


def is_gone(pid: int | None) -> bool:
    """Whether not even a zombie is left."""
    assert pid is not None
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Neither threads nor pipes: a daemon trains for months."""

    def there() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    before = there()
    yield
    assert there() == before


@pytest.fixture
def silent_broker(nothing_left: None) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        yield server


def job_at(server: socket.socket, **training: object) -> TrainingJob:
    port = server.getsockname()[1]
    settings = {"kafka": {"bootstrap_servers": f"127.0.0.1:{port}"}, "training": training}
    return TrainingJob.of(Settings.model_validate(settings))


class TestOutcome:
    def test_comes_back_whole_whatever_else_was_said(self) -> None:
        """Results and chatter larger than a pipe holds must not wait for each other."""
        run = Run(ANSWER)
        found = run.outcome()
        assert (found.status, found.reason) == ("rejected", "no better")
        assert found.facts["group"] == "forecastd"
        assert len(found.facts["large"]) == 3_000_000
        assert not run.trainer.is_running
        assert is_gone(run.pid)

    def test_comes_once(self) -> None:
        run = Run(ANSWER)
        run.outcome()
        assert run.trainer.poll() is None

    def test_is_none_while_it_runs(self) -> None:
        run = Run(WAIT)
        assert run.trainer.is_running
        assert run.trainer.poll() is None
        run.trainer.kill()

    def test_lets_the_next_run_begin(self) -> None:
        run = Run("raise SystemExit(3)")
        run.outcome()
        run.trainer.start(JOB)
        run.pid = run.trainer.pid
        assert run.outcome().status == "failed"


class TestFailure:
    def test_of_a_killed_process_says_so(self) -> None:
        run = Run(WAIT)
        assert run.pid is not None
        os.kill(run.pid, signal.SIGKILL)
        found = run.outcome()
        assert found.status == "failed"
        assert found.reason == (
            "training: the process ended with SIGKILL, wanted a result; too little memory ends it "
            "like that, see training.memory"
        )
        assert is_gone(run.pid)

    def test_of_one_that_hangs_comes_after_the_timeout(self) -> None:
        run = Run(WAIT)
        run.clock.advance(TIMEOUT_MS / 1_000)
        assert run.trainer.poll() is None
        run.clock.advance(1)
        found = run.trainer.poll()
        assert found is not None
        assert (found.status, found.seconds) == ("failed", TIMEOUT_MS / 1_000 + 1)
        assert found.reason == (
            "training: not done after 1m, wanted it within that time; raise "
            "training.timeout, or leave it a processor that is idle at times"
        )
        assert is_gone(run.pid)

    def test_is_told_in_the_words_of_the_process(self) -> None:
        found = Run("import sys; sys.exit('training: too little, wanted more')").outcome()
        assert found.reason == "training: too little, wanted more"

    def test_of_a_crash_quotes_its_last_words(self) -> None:
        program = """
import os, sys
print("thread creation failed\\n*** stack trace: ***\\n    @ 0x7f f()", file=sys.stderr, flush=True)
os.abort()
"""
        reason = Run(program).outcome().reason
        assert reason.startswith(
            "training: the process ended with SIGABRT, its last words being 'thread creation "
            "failed', wanted a result; "
        )

    def test_of_a_traceback_is_its_last_line(self) -> None:
        assert Run("[][1]").outcome().reason == "IndexError: list index out of range"

    @pytest.mark.parametrize("answer", ["", "nothing that we know"])
    def test_of_a_result_that_cannot_be_read_says_so(self, answer: str) -> None:
        found = Run(f"print({answer!r}, end='')").outcome()
        assert found.status == "failed"
        assert found.reason.startswith("training: a result that cannot be read")

    def test_to_begin_is_an_outcome_too(self) -> None:
        trainer = TrainerProcess(TIMEOUT_MS, ManualClock(), command=("/nowhere/python",))
        trainer.start(JOB)
        found = trainer.poll()
        assert found is not None
        assert found.reason == "training: No such file or directory, wanted to start a process"
        assert not trainer.is_running


class TestKill:
    def test_ends_the_run_without_an_outcome(self) -> None:
        run = Run(WAIT)
        run.trainer.kill()
        assert is_gone(run.pid)
        assert run.trainer.poll() is None

    def test_of_nothing_does_nothing(self) -> None:
        TrainerProcess(TIMEOUT_MS, ManualClock()).kill()


class TestProcess:
    """The real one, which waits for a broker that does not answer."""

    def test_inherits_no_sockets(self) -> None:
        program = """
import os, sys
from forecastd.train.run_outcome import TrainingOutcome
names = [f for f in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{f}")]
outcome = TrainingOutcome(status="rejected", reason=" ".join(sorted(names)))
sys.stdout.buffer.write(outcome.to_bytes())
"""
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.set_inheritable(True)
            assert Run(program).outcome().reason == "0 1 2"

    def test_takes_what_the_daemon_leaves(self, silent_broker: socket.socket) -> None:
        run = Run(job=job_at(silent_broker, memory="3000MB"))
        connection, _ = silent_broker.accept()
        assert run.pid is not None
        try:
            assert os.getpriority(os.PRIO_PROCESS, run.pid) == 19
            assert os.sched_getscheduler(run.pid) == os.SCHED_IDLE
            assert resource.prlimit(run.pid, resource.RLIMIT_DATA)[0] == 3_000_000_000
            assert resource.prlimit(run.pid, resource.RLIMIT_CORE)[0] == 0
            assert Path(f"/proc/{run.pid}/oom_score_adj").read_text().strip() == "1000"
            # Niceness counts within a session; Ctrl-C goes to a process group.
            assert os.getsid(run.pid) == os.getsid(0)
            assert os.getpgid(run.pid) == run.pid
            assert b"secret" not in Path(f"/proc/{run.pid}/cmdline").read_bytes()
        finally:
            run.trainer.kill()
            connection.close()

    def test_that_wants_more_memory_than_it_may_have_costs_one_run(
        self, silent_broker: socket.socket
    ) -> None:
        found = Run(job=job_at(silent_broker, memory="60MB")).outcome()
        assert found.status == "failed"
        assert "training.memory" in found.reason

    def test_says_that_the_broker_does_not_answer(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            job = job_at(server)
        found = Run(job=job).outcome()
        assert found.status == "failed"
        assert "127.0.0.1" in found.reason

    def test_ends_with_the_daemon_however_that_ended(self, silent_broker: socket.socket) -> None:
        program = """
import sys
from forecastd.clock import SystemClock
from forecastd.train.run_outcome import TrainingJob
from forecastd.train.subprocess_trainer import TrainerProcess
trainer = TrainerProcess(60_000, SystemClock())
trainer.start(TrainingJob.from_line(sys.stdin.buffer.readline()))
print(trainer.pid, flush=True)
sys.stdin.buffer.read()
"""
        command = [sys.executable, "-c", program]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as daemon:
            assert daemon.stdin is not None
            assert daemon.stdout is not None
            daemon.stdin.write(job_at(silent_broker).to_line())
            daemon.stdin.flush()
            pid = int(daemon.stdout.readline())
            connection, _ = silent_broker.accept()
            daemon.kill()
            wait_for_end(pid)
            connection.close()
