"""`leakbench site`: the leaderboard and the documentation as a static site."""

import argparse
from pathlib import Path

from rich.console import Console

from leakbench.commands.board import add_entries, entries_of
from leakbench.commands.common import Verbs, add_data_root


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    site = verbs.add_parser("site", help="write the leaderboard as a static site, which needs no server")
    add_entries(site)
    site.add_argument(
        "--docs",
        nargs="+",
        type=Path,
        default=[],
        metavar="PATH",
        help="Markdown files, or folders of them, that become pages, too",
    )
    site.add_argument("--out", type=Path, default=Path("site"), metavar="DIR", help="default: site")
    add_data_root(site)
    site.set_defaults(command=run_site)


def run_site(options: argparse.Namespace, console: Console) -> int:
    """`leakbench site`."""
    from leakbench.board.benchmark import read_benchmark
    from leakbench.board.site import write_site

    benchmark = read_benchmark(options.protocol)
    entries, others = entries_of(options.folder, benchmark)
    page = write_site(entries, benchmark, options.docs, options.out, options.data_root)
    console.print(f"{len(entries)} entries: {page}")
    if others:
        console.print(f"note: {others} more of another protocol")
    return 0
