"""The command line of LeakBench."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

from rich.console import Console

from leakbench import sweeps
from leakbench.commands import (
    BROKEN_PIPE,
    INTERRUPTED,
    STOPPED,
    USER_ERROR,
    about,
    attack,
    audit,
    author,
    board,
    compare,
    completion,
    diff,
    index,
    paper,
    private_inference,
    rows,
    runs,
    site,
    submit,
    sweep,
    utility,
    verify,
    victims,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    from leakbench.core.errors import StoppedError, UserError  # brings in PyTorch: not for `--help`
    from leakbench.core.interrupts import InterruptedRunError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: batch systems send it
    command: Callable[[argparse.Namespace, Console], int]
    command = about.show_version if options.version else options.command
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        return command(options, console)
    except UserError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return STOPPED if isinstance(error, StoppedError) else USER_ERROR
    except InterruptedRunError:
        console.print(
            f"stopped; what is finished is stored: the same command{_without(options)} runs the rest"
        )
        return INTERRUPTED
    except KeyboardInterrupt:
        print("stopped; what was stored is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `leakbench rows RUN | head`, which stops reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python writes on exit
        return BROKEN_PIPE
    except OSError as error:
        print(f"{error.filename or 'leakbench'}: {error.strerror or error}", file=sys.stderr)
        return STOPPED


def _without(options: argparse.Namespace) -> str:
    """`, without --force,`: of the given options, those that would not run the rest but all of it again."""
    given = [f"--{name}" for name in ("fresh", "force") if getattr(options, name, None)]
    return f", without {' and '.join(given)}," if given else ""


def make_parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    parser = argparse.ArgumentParser(
        prog="leakbench",
        description="Attack shared gradients, and show which defenses stop the attacks.",
        epilog=_first_steps().replace("%", "%%"),
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="store_true", help="show the versions of leakbench and PyTorch")
    parser.set_defaults(command=partial(_show_help, parser))
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND")  # not required: `_show_help`
    for command in (
        sweep,
        compare,
        utility,
        index,
        attack,
        private_inference,
        audit,
        paper,
        author,
        runs,
        rows,
        diff,
        submit,
        verify,
        victims,
        board,
        site,
        about,
        completion,
    ):
        command.add(verbs)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Each verb and its help on one line; argparse itself breaks the line after a long name."""

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text

    def _iter_indented_subactions(self, action: argparse.Action) -> Generator[argparse.Action, None, None]:
        yield from getattr(action, "_choices_actions", ())


def _show_help(parser: argparse.ArgumentParser, _options: argparse.Namespace, _console: Console) -> int:
    """A bare `leakbench`: an error, so that a script that lost its command does not go on."""
    parser.print_help(sys.stderr)
    return USER_ERROR


def _first_steps() -> str:
    quick = os.path.relpath(Path(sweeps.__file__).with_name("quick.yaml"))
    return f"""\
try first:
  leakbench sweep {quick}
                  two images, eight settings of defenses, two attacks: 2 minutes
  leakbench new-defense my_defense
                  write my_defense.py, to turn into your own defense
  leakbench compare my_defense.py
                  compare it with noise and pruning: leakage and accuracy
  leakbench COMMAND --help
                  the options of a command"""
