"""The command line of LeakBench."""

import argparse
import signal
import sys
from collections.abc import Callable

from rich.console import Console

from leakbench.commands import (
    INTERRUPTED,
    STOPPED,
    USER_ERROR,
    about,
    attack,
    author,
    compare,
    diff,
    index,
    paper,
    runs,
    sweep,
    utility,
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    from leakbench.core.errors import StoppedError, UserError  # brings in PyTorch: not for `--help`
    from leakbench.core.interrupts import InterruptedRunError

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: batch systems send it
    command: Callable[[argparse.Namespace, Console], int] = options.command
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    try:
        return command(options, console)
    except UserError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return STOPPED if isinstance(error, StoppedError) else USER_ERROR
    except InterruptedRunError:
        console.print("stopped; what is finished is stored: the same command runs the rest")
        return INTERRUPTED
    except KeyboardInterrupt:
        print("stopped before anything was run", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        print(f"{error.filename or 'leakbench'}: {error.strerror or error}", file=sys.stderr)
        return STOPPED


def make_parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    parser = argparse.ArgumentParser(
        prog="leakbench", description="Attacks shared gradients, and shows which defenses stop it."
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (sweep, utility, author, compare, diff, index, attack, paper, runs, about):
        command.add(verbs)
    return parser
