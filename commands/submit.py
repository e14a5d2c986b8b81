"""`leakbench submit`: put a defense through the protocol of the leaderboard, and write an entry."""

import argparse
import shutil
from contextlib import chdir, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import TRIALS_FAILED
from leakbench.commands.common import (
    PROTOCOL,
    USER_FILE,
    Verbs,
    add_data_root,
    add_executor,
    add_workers,
    named_after,
    run_options,
)
from leakbench.commands.running import attacker_for, load, run_sweep, run_trainings
from leakbench.commands.sweep import costs_of
from leakbench.commands.victims import parts_under

if TYPE_CHECKING:
    from leakbench.board.entry import Entry
    from leakbench.sweeps.options import RunOptions
    from leakbench.sweeps.store import Store


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    submit = verbs.add_parser("submit", help="put a defense through the leaderboard's protocol: an entry")
    submit.add_argument(
        "defense",
        metavar="DEFENSE",
        help="file.py, file.py:Class or a known name, with all settings of its `grid`",
    )
    submit.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="ATTACK",
        help="one more attack, such as file.py:Class; the strongest counts; may be given several times",
    )
    submit.add_argument(
        "--found",
        type=Path,
        metavar="DIR",
        help="what you rebuilt elsewhere of the output of `leakbench victims`; counts, with a mark",
    )
    submit.add_argument("--name", help="of the entry (default: that of the defense)")
    submit.add_argument("--paper", default="", help="where the defense is described, such as a DOI")
    submit.add_argument("--authors", default="", help="of the entry")
    submit.add_argument("--protocol", default=PROTOCOL, metavar="VERSION", help=f"default: {PROTOCOL}")
    submit.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the entry (default: entries/NAME)"
    )
    submit.add_argument("--dry-run", action="store_true", help="show what would run and what it would take")
    add_workers(submit)
    add_executor(submit)
    add_data_root(submit)
    submit.set_defaults(command=run_submit)


def run_submit(options: argparse.Namespace, console: Console) -> int:
    """`leakbench submit`: run what is missing of each part, then write the entry."""
    from leakbench.board.benchmark import read_benchmark, write_parts
    from leakbench.board.handed_in import take_in
    from leakbench.board.submission import make_entry
    from leakbench.sweeps.conformance import defenses_in

    benchmark = read_benchmark(options.protocol)
    name = options.name or named_after(options.defense)
    own = replace(run_options(options), data_root=options.data_root.absolute())
    found = options.found and options.found.absolute()
    with TemporaryDirectory() as draft:
        folder = Path(draft) if options.dry_run else (options.out or Path("entries") / name).absolute()
        runs = Path("runs", f"submit-{name}").absolute()
        defense, *attacks = _copied([options.defense, *options.attack], folder)
        with chdir(folder):  # names of files decide the keys of rows: so they are the same everywhere
            defenses = [str(each) for each in defenses_in(defense)]
            if found:
                attacks += take_in(found, parts_under(defense, benchmark, own), folder)
            files = write_parts(benchmark, defenses, attacks, folder if options.dry_run else runs)
            outs = {part: replace(own, out=runs / file.stem) for part, file in files.items()}
            if options.dry_run:
                return _foretell(files, outs, console)
            stores = {part: _run(part, file, outs[part], console) for part, file in files.items()}
        about = {
            "name": name, "defenses": defenses, "attacks": attacks, "paper": options.paper,
            "authors": options.authors,
        }  # fmt: skip
        entry = make_entry(folder, about, benchmark, stores)
    console.print(f"\nentry    {entry.folder}\ncheck it with: leakbench verify {entry.folder}")
    return _show_failed(entry, console)


def _copied(names: list[str], folder: Path) -> list[str]:
    """The same plug-ins by the names that they have in a folder, to which their files are copied.

    Raises:
        UserError: there is no such file.
    """
    from leakbench.core.errors import UserError

    folder.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in names:
        match = USER_FILE.fullmatch(name)
        if match:
            path = Path(match["file"])
            if not path.is_file():
                raise UserError(f"no file {str(path)!r} (looked in {Path.cwd()})")
            if path.resolve() != (folder / path.name).resolve():
                shutil.copyfile(path, folder / path.name)
            name = path.name + match["rest"]
        copied.append(name)
    return copied


def _run(part: str, file: Path, options: "RunOptions", console: Console) -> "Store":
    """Run what a part lacks: trials, or trainings where it has no examples to attack."""
    console.print(f"\n{part}")
    sweep = load(file, options)
    return run_sweep(sweep, options, console) if sweep.datasets else run_trainings(sweep, options, console)


def _foretell(files: dict[str, Path], options: dict[str, "RunOptions"], console: Console) -> int:
    """What would run, and what it would take."""
    from leakbench.sweeps.plan import plan_of
    from leakbench.sweeps.store import Store

    for part, file in files.items():
        sweep, own = load(file, options[part]), options[part]
        console.print(f"\n{part}: {sweep.describe() if sweep.datasets else sweep.describe_training()}")
        if sweep.datasets:
            with closing(attacker_for(sweep, own)) as executor:
                store = Store.open_for(own.folder(file), sweep, create=False)
                todo = plan_of(sweep, store, ahead=True)
                if todo:
                    console.print(costs_of(todo, executor.devices, executor.free(), own))
    console.print("\nnothing was run")
    return 0


def _show_failed(entry: "Entry", console: Console) -> int:
    """How many rows of an entry have no result, and why; the exit status.

    That nothing was handed in for a victim is no failure.
    """
    from leakbench.bench.attacks.handed_in import NOTHING
    from leakbench.reports.selection import with_result

    failed = 0
    for rows, parts in ((entry.trials, entry.trials["part"]), (entry.trainings, "accuracy")):
        without = rows.assign(part=parts).drop(with_result(rows).index)
        without = without[~without["reason"].str.endswith(NOTHING)]
        failed += len(without)
        for part, own in without.groupby("part"):
            for reason, count in own["reason"].value_counts().items():
                console.print(f"{part}: {count} failed: {reason}", style="red")
    return TRIALS_FAILED if failed else 0
