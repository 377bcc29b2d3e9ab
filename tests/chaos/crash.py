"""Crash equivalence: one daemon is killed again and again, and started again.

At random places of the stream; and, once it is back, in the midst of reading its rows, or of the
silent replay. In between an orderly stop.
"""

from __future__ import annotations

import random

from tests.chaos.harness import Case, Report, Run

RESTORE_BEGINS, REPLAY_BEGINS = '"restore begins"', '"series restored"'

_WORDS = {"kill in restore": RESTORE_BEGINS, "kill in replay": REPLAY_BEGINS}


def crash(case: Case, kills: int) -> Report:
    """SIGKILL `kills` times in all, with a SIGTERM now and then."""
    draw = case.draw
    deeds = schedule(draw, kills)
    with Run(case, ["one"]) as run:
        (one,) = run.instances
        one.start()
        for goal, deed in zip(case.goals(draw, len(deeds)), deeds, strict=True):
            run.until_committed(goal)
            if deed == "stop":
                one.stop()
                one.start()
                continue
            if draw.random() < 0.5:
                run.until_published()
            one.kill()
            one.start()
            if deed in _WORDS:
                run.until_said(one, _WORDS[deed])
                one.kill()
                one.start()
        report = run.finish()
    report.figures |= {"kills": kills} | {f"times {deed}": deeds.count(deed) for deed in set(deeds)}
    return report


def schedule(draw: random.Random, kills: int) -> list[str]:
    """What is done in turn: a kill in restore or replay follows another, and makes two."""
    deeds: list[str] = []
    while kills > 0:
        if len(deeds) % 4 == 3:
            deeds.append("stop")
        elif len(deeds) % 2 and kills > 1:
            deeds.append(draw.choice(list(_WORDS)))
            kills -= 2
        else:
            deeds.append("kill")
            kills -= 1
    return deeds
