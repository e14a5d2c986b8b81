"""`leakbench audit`: what the server of a real federation could rebuild from what it received."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, positive
from leakbench.commands.recorded import (
    add_attackers,
    add_target,
    check_received,
    examples_of,
    recorded_of,
    run_recorded,
    truth_of,
)

if TYPE_CHECKING:
    from leakbench.bench.datasets.uploads import Upload

RESTARTS = 1


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    audit = verbs.add_parser("audit", help="attack what every client of a recorded federation sent")
    audit.add_argument(
        "folder", type=Path, metavar="DIR", help="the folder of recorded rounds (see docs/AUDIT.md)"
    )
    audit.add_argument("--rounds", metavar="I-J", help="only these, such as 1-3 (default: all)")
    add_target(
        audit,
        "indices in --data of the first true example of each update, such as 0-3, or only of the first one",
    )
    audit.add_argument(
        "--examples",
        type=positive,
        metavar="N",
        help="images or texts behind an update, if round.json does not say",
    )
    audit.add_argument("--out", type=Path, metavar="DIR", help="default: runs/audit-NAME-OF-FOLDER")
    add_attackers(audit, RESTARTS)
    audit.set_defaults(command=run_audit, verb="audit")


def run_audit(options: argparse.Namespace, console: Console) -> int:
    """`leakbench audit`: a sweep with a victim for each client of each round."""
    from leakbench.core.errors import UserError
    from leakbench.sweeps.ranges import parse_ranges
    from leakbench.sweeps.recorded import by_protocol, caveats, entry_of

    if not options.folder.is_dir():
        raise UserError(f"{options.folder}: expected a folder of recorded rounds, found none")
    try:
        chosen = parse_ranges(options.rounds) if options.rounds else None
    except ValueError as error:
        raise UserError(f"--rounds: {error}") from error
    about, _ = examples_of(options)
    protocol = f"fedsgd(batch_size={options.examples or 1})"
    everything = recorded_of(path=str(options.folder), protocol=protocol, **about, **truth_of(options))
    if not options.examples:
        _check_counts(everything.every_upload)
    parts = list(by_protocol(everything, chosen))
    for dataset, indices in parts:
        check_received(dataset, [dataset.upload_at(index) for index in indices], options, console)
    for text in dict.fromkeys(text for dataset, _ in parts for text in caveats(dataset)):
        console.print(f"note: {text}")
    folder = options.out or Path("runs") / f"audit-{options.folder.resolve().name}"
    datasets = [entry_of(*part) for part in parts]
    return run_recorded(datasets, [dataset.protocol for dataset, _ in parts], folder, options, console)


def _check_counts(uploads: "Iterable[Upload]") -> None:
    """Whether it is known how many examples are behind each update."""
    from leakbench.core.errors import UserError

    unknown = [each for each in uploads if each.examples is None]
    if unknown:
        where = f"{unknown[0].path / 'round.json'}: client {unknown[0].client}"
        text = (
            "expected `examples`, or local_batch and local_steps, which tell how many examples are behind it"
        )
        raise UserError(f"{where}: {text}, found neither; or pass --examples N")
