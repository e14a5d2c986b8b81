"""`leakbench victims`: what the server sees of the leaderboard's victims, for attacks from outside."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import PROTOCOL, Verbs, add_data_root, named_after, run_options
from leakbench.commands.running import load_parts

if TYPE_CHECKING:
    from leakbench.board.benchmark import Benchmark
    from leakbench.board.victims import Victims
    from leakbench.sweeps.options import RunOptions


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    victims = verbs.add_parser(
        "victims", help="write what the server sees of the leaderboard's victims, to attack it elsewhere"
    )
    victims.add_argument(
        "defense", metavar="DEFENSE", help="one setting, such as 'prune(ratio=0.5)' or file.py"
    )
    victims.add_argument("--protocol", default=PROTOCOL, metavar="VERSION", help=f"default: {PROTOCOL}")
    victims.add_argument("--part", metavar="NAME", help="only this part of the protocol (default: all)")
    victims.add_argument("--out", type=Path, metavar="DIR", help="default: victims/NAME-OF-DEFENSE")
    add_data_root(victims)
    victims.set_defaults(command=run_victims)


def run_victims(options: argparse.Namespace, console: Console) -> int:
    """`leakbench victims`: a folder for each part."""
    from leakbench.board.benchmark import read_benchmark

    benchmark = read_benchmark(options.protocol)
    out = options.out or Path("victims") / named_after(options.defense)
    parts = parts_under(options.defense, benchmark, run_options(options))
    for part in _chosen(parts, options.part):
        part.write(out, benchmark.name)
        console.print(f"{out / part.folder}: {len(part.trials)} victims")
    console.print(
        f"hand in what you rebuild as found/PART/NUMBER: leakbench submit '{options.defense}' --found found"
    )
    return 0


def parts_under(defense: str, benchmark: "Benchmark", options: "RunOptions") -> "list[Victims]":
    """The victims of each part under a defense.

    Raises:
        UserError: no defense, or several settings of one.
    """
    from leakbench.board.victims import victims_of
    from leakbench.core.errors import UserError
    from leakbench.sweeps.conformance import defenses_in

    found = defenses_in(defense)
    if len(found) > 1:
        text = f"{defense}: expected one setting of a defense, found {len(found)}"
        raise UserError(f"{text}; choose one, such as '{found[0]}'")
    sweeps = load_parts(benchmark, [str(found[0])], [], options)
    return list(victims_of(sweeps, found[0], options.data_root))


def _chosen(parts: "list[Victims]", name: str | None) -> "list[Victims]":
    """All parts, or the one of that name, with spaces or as its folder is called."""
    from leakbench.board.benchmark import folder_of
    from leakbench.core.errors import UserError
    from leakbench.core.registry import unknown_text

    chosen = [part for part in parts if name is None or part.folder == folder_of(name)]
    if not chosen:
        raise UserError(f"--part: {unknown_text('part', str(name), [part.part for part in parts])}")
    return chosen
