"""`leakbench attack`: the images or texts behind a gradient from a training of the user's own."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, problems_of
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
    from leakbench.bench.datasets import Recorded
    from leakbench.bench.protocols import Protocol

RESTARTS = 4


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    attack = verbs.add_parser("attack", help="rebuild the images or texts behind a gradient that was saved")
    attack.add_argument(
        "--gradient",
        type=Path,
        metavar="FILE",
        help="a dict or list of tensors: .pt of torch.save, .npz, .safetensors",
    )
    attack.add_argument(
        "--before", type=Path, metavar="FILE", help="in place of --gradient: the weights before a step of SGD"
    )
    attack.add_argument("--after", type=Path, metavar="FILE", help="with --before: the weights after it")
    attack.add_argument("--lr", type=rate, metavar="R", help="with --before: the learning rate of the step")
    add_target(attack, "index in --data of the true image or text, to compare with")
    attack.add_argument(
        "--protocol", default="fedsgd", help="default: fedsgd; of two images: 'fedsgd(batch_size=2)'"
    )
    attack.add_argument("--out", type=Path, metavar="DIR", help="default: runs/attack-NAME-OF-FILE")
    add_attackers(attack, RESTARTS)
    attack.set_defaults(command=run_attack, verb="attack")


def run_attack(options: argparse.Namespace, console: Console) -> int:
    """`leakbench attack`: a sweep with one recorded victim."""
    from leakbench.bench.protocols import PROTOCOLS
    from leakbench.sweeps.recorded import entry_of

    with problems_of("--protocol"):
        protocol = PROTOCOLS.parse(options.protocol)
    dataset = _recorded(options, protocol)
    check_received(dataset, dataset.uploads, options, console)
    folder = options.out or Path("runs") / f"attack-{(options.gradient or options.after).stem}"
    return run_recorded([entry_of(dataset, [0])], [str(protocol)], folder, options, console)


def rate(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def _recorded(options: argparse.Namespace, protocol: "Protocol") -> "Recorded":
    """The update that was named, as it was made."""
    from leakbench.core.errors import UserError
    from leakbench.sweeps.checks import example_problems

    step = {"before": options.before, "after": options.after, "lr": options.lr}
    if (options.gradient is None) != all(value is not None for value in step.values()) or (
        options.gradient is not None and any(value is not None for value in step.values())
    ):
        raise UserError("expected either --gradient FILE, or all of --before FILE, --after FILE and --lr R")
    about, source = examples_of(options)
    truth = truth_of(options)
    if truth and source is not None:
        problems = list(example_problems(source, truth["truth_indices"], protocol.images))
        if problems:
            raise UserError(*(f"--index{problem.removeprefix('.indices')}" for problem in problems))
    files = {"path": str(options.gradient)} if options.gradient else {}
    files |= {name: str(path) for name, path in step.items() if isinstance(path, Path)}
    return recorded_of(**files, lr=options.lr, protocol=str(protocol), **about, **truth)
