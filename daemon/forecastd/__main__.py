"""`forecastd`: the command line. Starts a command, and says in one line what went wrong.

Exit status: 0 done, 1 something an operator can mend, 2 a wrong command line, 70 a defect of ours.
"""

from __future__ import annotations

import os
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from forecastd import __version__
from forecastd.commands import (
    Command,
    broker,
    check,
    demo,
    feed,
    forecast,
    models,
    run,
    schema,
    settings,
    state,
    train,
)
from forecastd.errors import ForecastdError

if TYPE_CHECKING:
    from forecastd.settings_sources import Loaded

COMMANDS: tuple[Command, ...] = (
    run,
    check,
    settings,
    schema,
    train,
    forecast,
    models,
    state,
    broker,
    demo,
    feed,
)

_MENDABLE, _DEFECT, _INTERRUPTED, _BROKEN_PIPE = 1, 70, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (None: those of this process) name."""
    start = _Start(sys.argv[1:] if arguments is None else arguments)
    try:
        status = start.run()
        sys.stdout.flush()
    except ForecastdError as error:
        for sentence in str(error).splitlines():
            sys.stderr.write(f"forecastd: {sentence}\n")
        return _MENDABLE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; without this, Python complains at its own exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  # the one place: whatever it is, it gets its line
        sys.stderr.write(f"forecastd: {_defect(error)}\n")
        if start.log_level == "debug":
            traceback.print_exception(error)
        return _DEFECT
    return status


class _Start:
    """One command line, from words to exit status.

    Attributes:
        log_level: `observe.log_level`; until it is known, as the environment has it.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self.log_level = os.environ.get("FORECASTD_OBSERVE__LOG_LEVEL", "")
        self._arguments = arguments
        self._parser = _parser()

    def run(self) -> int:
        """Parse, and do what is asked."""
        from forecastd.settings_sources import load_settings, split_overrides

        words, overrides = split_overrides(self._arguments)
        args = self._parser.parse_args(words)
        if overrides and not args.reads_settings:
            name = overrides[0].partition("=")[0]  # its value may be a secret
            self._parser.error(f"{args.command.NAME} reads no settings, found {name}")

        def load(defaults: Mapping[str, object] | None = None) -> Loaded:
            config, secrets = args.config, args.secrets
            loaded = load_settings(config, secrets, os.environ, overrides, defaults)
            self.log_level = loaded.settings.observe.log_level
            return loaded

        command: Command = args.command
        return command.main(args, load)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="forecastd",
        description="A stateful LSTM forecaster beside your message broker.",
        epilog="forecastd COMMAND --help says more about a command.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"forecastd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        description = f"{command.HELP[:1].upper()}{command.HELP[1:]}."
        added = commands.add_parser(
            command.NAME, help=command.HELP, description=description, allow_abbrev=False
        )
        added.set_defaults(command=command, reads_settings=False)
        command.add_arguments(added)
    return parser


def _defect(error: Exception) -> str:
    """An error that nobody foresaw, in one line, with the place where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "forecastd"
    found = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"{where}: {found}, wanted no error; this is a defect, observe.log_level=debug shows more"
    )


if __name__ == "__main__":
    sys.exit(main())
