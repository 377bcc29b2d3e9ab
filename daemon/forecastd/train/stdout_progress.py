"""What `forecastd train` shows: a line an epoch, and on a terminal a bar below them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from forecastd.train.keras_trainer import Epoch


class TrainingProgress:
    """A context in which epochs are run.

    Args:
        epochs: at most.
        windows: of one epoch.
        console: where to; None for standard output.
    """

    def __init__(self, epochs: int, windows: int, console: Console | None = None) -> None:
        self._epochs = epochs
        self._console = console or Console()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("windows"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task(f"epoch 1/{epochs}", total=windows)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, windows: int) -> None:
        """That many windows are done."""
        self._bar.advance(self._task, windows)

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        line = epoch_line(epoch, self._epochs)
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._bar.reset(self._task, description=f"epoch {epoch.number + 1}/{self._epochs}")


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """One epoch in words.

    >>> epoch_line(Epoch(number=3, train_loss=0.5, seconds=1.25), epochs=20)
    'epoch  3/20: train loss 0.5000, 1.2 s'
    """
    parts = [f"train loss {epoch.train_loss:.4f}"]
    if epoch.validation_loss is not None:
        parts.append(f"validation loss {epoch.validation_loss:.4f}")
    if epoch.skill is not None:
        parts.append(f"skill {epoch.skill:+.3f} against naive")
    width = len(str(epochs))
    return (
        f"epoch {epoch.number:>{width}}/{epochs}: {', '.join([*parts, f'{epoch.seconds:.1f} s'])}"
    )
