"""`leakbench board`: the leaderboard of some entries."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import PROTOCOL, Verbs

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from leakbench.board.benchmark import Benchmark
    from leakbench.board.entry import Entry


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    board = verbs.add_parser("board", help="the leaderboard of entries: what leaks under each defense")
    add_entries(board)
    board.set_defaults(command=run_board)


def add_entries(parser: argparse.ArgumentParser) -> None:
    """Which entries, and of which protocol."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path("entries"),
        metavar="DIR",
        help="a folder of entries (default: entries)",
    )
    parser.add_argument("--protocol", default=PROTOCOL, metavar="VERSION", help=f"default: {PROTOCOL}")


def run_board(options: argparse.Namespace, console: Console) -> int:
    """`leakbench board`."""
    from leakbench.board.benchmark import read_benchmark
    from leakbench.board.draws import agreement, by_draw
    from leakbench.board.lines import contenders, leaderboard, part_lines

    benchmark = read_benchmark(options.protocol)
    entries, others = entries_of(options.folder, benchmark)
    known = contenders(entries)
    parts = part_lines(known, benchmark)
    lines = leaderboard(parts)
    console.print(_whole(lines, benchmark.name))
    console.print(_by_part(lines, parts, benchmark))
    for each in agreement(by_draw(known, benchmark)):
        console.print(f"order of {each.defenses} defenses in {each}")
    if others:
        console.print(f"note: {others} more of another protocol")
    return 0


def entries_of(folder: Path, benchmark: "Benchmark") -> "tuple[list[Entry], int]":
    """The entries of a protocol in a folder, and how many others there are.

    Raises:
        UserError: there is none of that protocol.
    """
    from leakbench.board.entry import ABOUT, Entry
    from leakbench.core.errors import UserError

    found = [Entry.read(path.parent) for path in sorted(folder.glob(f"*/{ABOUT}"))]
    entries = [each for each in found if each.about.protocol_sha256 == benchmark.digest]
    if not entries:
        expected = f"expected a folder of entries of protocol {benchmark.name}"
        others = f"{len(found)} of others" if found else "none"
        raise UserError(f"{folder}: {expected}, found {others}; `leakbench submit` makes one")
    return entries, len(found) - len(entries)


def _whole(lines: "pd.DataFrame", protocol: str) -> "Table":
    """One line per defense setting, of all parts together."""
    from leakbench.board.entry import records
    from leakbench.reports.statistics import percent, with_interval
    from leakbench.reports.terminal import plain_table, put_below

    marked = bool(lines["handed_in"].any())
    headings = ("SSIM", "leaked", "95 % CI", *("by code",) * marked, "accuracy", "sent")
    table = plain_table(f"protocol {protocol}", headings)
    for line in records(lines):
        table.add_row(
            line["defense"],
            with_interval(line, "score", ".3f"),
            f"{line['leaked']}/{line['victims']}"
            + f" (+{line['inputs']} changed)" * bool(line["inputs"])
            + f" ({line['missing']} missing)" * bool(line["missing"]),
            f"{100 * line['low']:.0f}-{100 * line['high']:.0f}%",
            *(f"{line['score_by_code']:.3f}, {line['leaked'] - line['handed_in']}/{line['victims']}",)
            * marked,
            percent(line["accuracy"], line["accuracy_low"]),
            f"{100 * line['sent']:.0f}%",
        )
    by_code = "by code: without reconstructions that were handed in; they count, and could be true images\n"
    put_below(
        table,
        "SSIM: of what the strongest attack found, the mean of the parts' medians, with its 95 % interval\n"
        "leaked: of the images of all parts that leak without a defense\n"
        + by_code * marked
        + "changed: rebuilt as they entered the network, after the defense had changed them; not counted\n"
        * bool(lines["inputs"].any())
        + "missing: parts without a result; such a line cannot be compared with others\n"
        "accuracy: mean over the seeds ± half of its 95 % interval; sent: share of the undefended bytes\n",
    )
    return table


def _by_part(lines: "pd.DataFrame", parts: "pd.DataFrame", benchmark: "Benchmark") -> "Table":
    """The same lines, with what leaked in each part."""
    from leakbench.reports.terminal import plain_table, put_below

    table = plain_table(None, tuple(benchmark.parts))
    for line in lines.to_dict("records"):
        own = parts[(parts["defense"] == line["defense"]) & (parts["entry"] == line["entry"])]
        cells = (
            f"{each['leaked']}/{each['victims']}" + "*" * bool(each["handed_in"])
            for each in own.to_dict("records")
        )
        table.add_row(line["defense"], *(cell if cell != "0/0" else "-" for cell in cells))
    text = "leaked in each part, of what leaks there without a defense; -: nothing does, or no result"
    star = "\n*: some of it was handed in without code" * bool(parts["handed_in"].any())
    put_below(table, text + star)
    return table
