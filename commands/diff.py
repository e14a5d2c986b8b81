"""`leakbench diff`: what changed between two runs, and whether something got worse."""

import argparse
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import TRIALS_FAILED
from leakbench.commands.common import Verbs

if TYPE_CHECKING:
    from rich.table import Table

    from leakbench.reports.difference import Difference


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    diff = verbs.add_parser("diff", help="show what changed between two runs; exit status 1 if worse")
    diff.add_argument("before", type=Path, metavar="BEFORE", help="the folder of a run")
    diff.add_argument("after", type=Path, metavar="AFTER", help="the folder of the other run")
    diff.set_defaults(command=run_diff)


def run_diff(options: argparse.Namespace, console: Console) -> int:
    """`leakbench diff`."""
    from leakbench.reports.difference import WORSENED, Change, attackers, conditions, differences
    from leakbench.sweeps.store import Store
    from leakbench.sweeps.tables import TRAININGS

    one, other = Store.existing(options.before), Store.existing(options.after)
    rows, trainings = (one.rows(), other.rows()), (one.rows(TRAININGS), other.rows(TRAININGS))
    found = list(differences(rows, trainings, other.scale))
    before, after = map(conditions, zip(rows, trainings, strict=True))
    if before and after and before != after:
        text = "single rows may differ in their last digits, and some starts may end differently"
        console.print(f"note: before on {before}, after on {after}: {text}")
    attacked = [attackers(each) for each in rows]
    if all(attacked) and attacked[0] != attacked[1]:
        who = f"before attacked by {attacked[0]}, after by {attacked[1]}"
        console.print(f"note: {who}: this may explain the changes")
    for table in _tables(found):
        console.print(table)
    worse = [each for each in found if each.change in WORSENED]
    told = f"{len(worse)} of {len(found)} got worse" if worse else "nothing got worse"
    for change in (Change.TOO_FEW, Change.MISSING):
        count = sum(each.change == change for each in found)
        told += f"; {count} of {len(found)} {change}" if count else ""
    console.print(told)
    return TRIALS_FAILED if worse else 0


def _tables(found: "list[Difference]") -> "Iterator[Table]":
    from leakbench.reports.terminal import plain_table

    for (place, quantity), alike in groupby(found, key=lambda each: (each.place, each.quantity)):
        table = plain_table(f"{place}: {quantity}", ("n", "before", "after", "change, 95 % CI", ""))
        for each in alike:
            table.add_row(each.defense, *_cells(each))
        yield table


def _cells(each: "Difference") -> list[str]:
    if not each.pairs:
        return ["0", "-", "-", "-", each.change.value]
    low, high = each.interval
    interval = "-" if low != low else f"{low:+.3f} to {high:+.3f}"
    return [str(each.pairs), f"{each.before:.3f}", f"{each.after:.3f}", interval, each.change.value]
