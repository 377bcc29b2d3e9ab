"""Group equivalence: three instances join, leave, are killed and started again in turn.

Some of them again while they restore the partitions that they were just given.
"""

from __future__ import annotations

from tests.chaos.crash import RESTORE_BEGINS
from tests.chaos.harness import Case, Instance, Report, Run
from tests.chaos.zombie import SERVED

DEEDS = ("kill", "kill in restore", "leave")


def group(case: Case, deeds: int) -> Report:
    """Do `deeds` things to three instances, one after the other."""
    draw = case.draw
    todo = [DEEDS[number % 3] if number < 3 else draw.choice(DEEDS) for number in range(deeds)]
    with Run(case, ["a", "b", "c"]) as run:
        away = list(run.instances)
        for number, (goal, deed) in enumerate(zip(case.goals(draw, deeds), todo, strict=True)):
            for instance in away:
                instance.start()
            # Now and then the next thing happens before all have come back.
            if number < 3 or draw.random() < 0.5:
                for instance in run.instances:
                    run.until_said(instance, SERVED)
            run.until_committed(goal)
            if draw.random() < 0.5:
                run.until_published()
            away = _do(run, run.instances[number % 3], deed)
        report = run.finish()
    report.figures |= {deed: todo.count(deed) for deed in DEEDS}
    return report


def _do(run: Run, one: Instance, deed: str) -> list[Instance]:
    """Do it; returns who is away then."""
    if deed == "leave":
        one.stop()
        return [one]
    one.kill()
    one.start()
    if deed == "kill in restore":
        run.until_said(one, RESTORE_BEGINS)
        one.kill()
        one.start()
    return []
