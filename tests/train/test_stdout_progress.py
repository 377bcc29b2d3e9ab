import io

from rich.console import Console

from forecastd.train.keras_trainer import Epoch
from forecastd.train.stdout_progress import TrainingProgress, epoch_line

EPOCH = Epoch(
    number=2, train_loss=0.5, validation_loss=0.25, error=1, naive_error=2, skill=0.5, seconds=1.25
)


def shown(*, is_terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=80)
    with TrainingProgress(20, 100, console) as progress:
        progress.advance(60)
        progress.epoch(EPOCH)
    return text.getvalue()


def test_a_line_an_epoch_says_both_losses_and_the_skill() -> None:
    assert epoch_line(EPOCH, 20) == (
        "epoch  2/20: train loss 0.5000, validation loss 0.2500, skill +0.500 against naive, 1.2 s"
    )


def test_a_file_gets_the_lines_alone() -> None:
    assert shown(is_terminal=False) == epoch_line(EPOCH, 20) + "\n"


def test_a_terminal_gets_a_bar_below_them() -> None:
    text = shown(is_terminal=True)
    assert epoch_line(EPOCH, 20) in text
    assert "/100" in text
