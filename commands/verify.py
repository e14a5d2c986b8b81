"""`leakbench verify`: check an entry of the leaderboard."""

import argparse
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import TRIALS_FAILED
from leakbench.commands.common import USER_FILE, Verbs, add_data_root, positive, run_options
from leakbench.commands.running import load_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leakbench.board.entry import Entry
    from leakbench.board.verification import Checked

MOST_SHOWN = 20  # problems


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    verify = verbs.add_parser(
        "verify", help="check an entry of the leaderboard; exit status 1 if it is wrong"
    )
    verify.add_argument("entry", type=Path, metavar="ENTRY", help="the folder of an entry")
    verify.add_argument(
        "--cells", type=positive, default=5, metavar="K", help="trials that are run again (default: 5)"
    )
    verify.add_argument(
        "--seed", type=int, metavar="N", help="of the choice of these trials (default: another one each time)"
    )
    add_data_root(verify)
    verify.set_defaults(command=run_verify)


def run_verify(options: argparse.Namespace, console: Console) -> int:
    """`leakbench verify`."""
    from leakbench.board.benchmark import read_benchmark
    from leakbench.board.entry import Entry
    from leakbench.board.verification import Checked, file_problems

    entry = Entry.read(options.entry.absolute())
    benchmark = read_benchmark(entry.about.protocol)
    own = replace(run_options(options), data_root=options.data_root.absolute())
    console.print(f"{options.entry}: {', '.join(entry.about.defenses)}; protocol {benchmark.name}")
    problems = list(file_problems(entry, benchmark))
    if not problems:
        for file in sorted(_code_of(entry)):
            console.print(f"note: {file}, which is part of the entry, is run")
        with chdir(entry.folder):  # as `leakbench submit` did
            sweeps = load_parts(benchmark, entry.about.defenses, entry.about.attacks, own)
            problems = list(_problems(Checked(entry, sweeps, own.data_root), options, console))
    for problem in problems[:MOST_SHOWN]:
        console.print(f"wrong: {problem}", style="red")
    if problems[MOST_SHOWN:]:
        console.print(f"... and {len(problems) - MOST_SHOWN} more", style="red")
    console.print("not verified" if problems else "verified")
    return TRIALS_FAILED if problems else 0


def _code_of(entry: "Entry") -> set[str]:
    """The files of an entry's author that are imported."""
    names = (*entry.about.defenses, *entry.about.attacks)
    return {match["file"] for match in map(USER_FILE.fullmatch, names) if match}


def _problems(checked: "Checked", options: argparse.Namespace, console: Console) -> "Iterator[str]":
    """What is wrong with the rows of an entry; the first kind of problem makes the others meaningless."""
    from leakbench.board.verification import row_problems, score_problems

    entry = checked.entry
    found = list(row_problems(checked))
    if not found:
        console.print(f"complete: {len(entry.trials)} trials and {len(entry.trainings)} trainings")
        found = list(score_problems(checked))
        if not found:
            console.print(f"scores: those of what {len(entry.pictures)} strongest attacks found")
    yield from found
    if not found:
        yield from _run_again(checked, options, console)


def _run_again(checked: "Checked", options: argparse.Namespace, console: Console) -> "Iterator[str]":
    """Run some trials once more, and compare."""
    from secrets import randbelow

    from leakbench.board.benchmark import ACCURACY
    from leakbench.board.entry import records
    from leakbench.board.verification import (
        chosen_cells,
        chosen_training,
        compared,
        computed_again,
        trained_again,
    )

    seed = randbelow(2**32) if options.seed is None else options.seed
    cells = chosen_cells(checked.entry, options.cells, seed)
    trainings = chosen_training(checked.entry, seed)
    console.print(
        f"running {len(cells)} trials and {len(trainings)} training again, chosen with --seed {seed}"
    )
    for row in records(cells):
        where = f"{row['part']}, {row['defense']}, {row['attack']}, index {row['index']}"
        problem = compared(row, computed_again(checked, row), checked.sweeps[row["part"]].scale)
        yield from _said(where, problem, console)
    for row in records(trainings):
        where = f"{ACCURACY}, {row['defense']}, seed {row['seed']}"
        yield from _said(where, compared(row, trained_again(checked, row), None), console)


def _said(where: str, problem: str, console: Console) -> "Iterator[str]":
    """Print whether a row came out again; its problem, if there is one."""
    console.print(f"  {where}: {'differs' if problem else 'confirmed'}")
    if problem:
        yield f"{where}: {problem}"
