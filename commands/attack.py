"""`leakbench attack`: the images behind a gradient from a training of the user's own."""

import argparse
import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands.common import Verbs, add_data_root, positive, problems_of, writing_reports

if TYPE_CHECKING:
    from torch import Tensor, nn

    from leakbench.bench.saved import Recorded

SECONDS_BETWEEN_LINES = 15


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    attack = verbs.add_parser("attack", help="rebuild the images behind a gradient that was saved")
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
    attack.add_argument(
        "--model", required=True, help="whose it is, such as 'net.py:Net(weights=checkpoint:weights.pt)'"
    )
    attack.add_argument("--data", metavar="NAME", help="a data set of such images, such as folder:PATH")
    attack.add_argument(
        "--index", type=int, metavar="I", help="of --data: the image behind it, to compare with"
    )
    attack.add_argument("--shape", metavar="CxHxW", help="without --data: of the images, such as 3x32x32")
    attack.add_argument("--classes", type=positive, metavar="K", help="without --data: how many there are")
    attack.add_argument("--attack", default="dlg", help="default: dlg; or such as 'dlg(steps=600)'")
    attack.add_argument(
        "--protocol", default="fedsgd", help="default: fedsgd; of two images: 'fedsgd(batch_size=2)'"
    )
    attack.add_argument("--restarts", type=positive, default=4, metavar="N", help="starts (default: 4)")
    attack.add_argument("--device", default="cpu", help="cpu or cuda:0 (default: cpu)")
    attack.add_argument("--out", type=Path, metavar="DIR", help="default: runs/attack-NAME-OF-FILE")
    add_data_root(attack)
    attack.set_defaults(command=run_attack)


def run_attack(options: argparse.Namespace, console: Console) -> int:
    """`leakbench attack`: a line a start, and pictures of the one that an attacker would keep."""
    import pandas as pd

    from leakbench.bench.attacks import ATTACKS, Resources, Spec
    from leakbench.bench.gradients import norm_of, plain_match_loss
    from leakbench.bench.models import MODELS
    from leakbench.bench.protocols import PROTOCOLS
    from leakbench.bench.saved import invert
    from leakbench.core.process import prepare_worker
    from leakbench.reports.saved import measured, starts_table, write_pictures

    with problems_of("--attack"):
        attack = ATTACKS.parse(options.attack)
    with problems_of("--protocol"):
        count = PROTOCOLS.parse(options.protocol).batch_size
    shape, classes, truth = _images(options, count)
    with problems_of("--model"):
        model = MODELS.parse(options.model)
        network = model.build(shape, classes, seed=0)
    recorded = _recorded(options, network)
    shared = recorded.shared
    if recorded.ignored:
        console.print(f"note: buffers are no part of a gradient and ignored: {', '.join(recorded.ignored)}")
    if options.before is None and model.weights in ("uniform", "default"):
        text = f"the model has {model.weights} weights, and the gradient those of its training"
        console.print(f"note: {text}: name them by weights=checkpoint:FILE")
    resources = Resources(options.device, slots=options.restarts)
    prepare_worker()
    spec = Spec(shape, classes, count)
    watch = Watch(console, options.restarts * attack.budget)
    with watch.progress:
        found = invert(shared, network, spec, attack, options.restarts, resources, watch)
    losses = [
        math.inf if each.labels is None else plain_match_loss(network, shared, each.images, each.labels)
        for each in found
    ]
    starts = zip(found, losses, strict=True)
    rows = pd.DataFrame([dict(measured(*start, norm_of(shared), truth)) for start in starts])
    objectives = [math.inf if each.objective is None else each.objective for each in found]
    best = objectives.index(min(objectives))
    console.print(starts_table(rows, best, f"{options.gradient or options.after} · {model} · {attack}"))
    folder = options.out or Path("runs") / f"attack-{(options.gradient or options.after).stem}"
    with writing_reports(folder):
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_csv(folder / "starts.csv", index_label="start")
        console.print(f"starts   {folder / 'starts.csv'}")
        for path in write_pictures(found[best], truth, folder):
            console.print(f"picture  {path}")
    return 0


def rate(text: str) -> float:
    """A number above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number > 0, got {text!r}")
    return value


def _recorded(options: argparse.Namespace, network: "nn.Module") -> "Recorded":
    """The gradient that was named."""
    from leakbench.bench.saved import gradient_of_step, load_gradient
    from leakbench.core.errors import UserError

    step = (options.before, options.after, options.lr)
    if options.gradient is not None and step == (None, None, None):
        return load_gradient(options.gradient, network)
    if options.gradient is not None or None in step:
        raise UserError("expected either --gradient FILE, or all of --before FILE, --after FILE and --lr R")
    return gradient_of_step(*step, network)


class Watch:
    """Shows how far an attack is: as a bar, or in lines every 15 seconds. Used as its `Observer`."""

    def __init__(self, console: Console, most: int):
        from rich.progress import Progress

        self.console, self.most, self.done = console, most, 0  # outer steps, at most and taken
        self.began = self.told = time.monotonic()
        self.progress = Progress(console=console, transient=True, disable=not console.is_terminal)
        self.bar = self.progress.add_task("attack", total=most)

    def __call__(
        self, numbers: list[int], steps: list[int], images: "Tensor", labels: "Tensor | None" = None
    ) -> None:
        """See `Observer`."""
        self.done += sum(step > 0 for step in steps)
        self.progress.update(self.bar, completed=self.done)
        if not self.console.is_terminal and time.monotonic() - self.told > SECONDS_BETWEEN_LINES:
            self.told = time.monotonic()
            seconds = self.told - self.began
            self.console.print(f"{self.done} of {self.most} steps at most, {seconds:.0f} s elapsed")


def _images(options: argparse.Namespace, count: int) -> "tuple[tuple[int, int, int], int, Tensor | None]":
    """Shape and number of classes of the images behind the gradient; and they, (N, C, H, W), if known."""
    from leakbench.bench.datasets import DATASETS, open_dataset
    from leakbench.core.errors import UserError
    from leakbench.sweeps.checks import image_problems

    if options.data is None:
        size = re.fullmatch(r"(\d+)x(\d+)x(\d+)", options.shape or "")
        if size is None or options.classes is None:
            raise UserError("expected --data NAME, or --shape CxHxW (such as 3x32x32) and --classes K")
        channels, height, width = map(int, size.groups())
        return (channels, height, width), options.classes, None
    with problems_of("--data"):
        images = open_dataset(DATASETS.parse(options.data), options.data_root)
    if options.index is None:
        return images.shape, images.classes, None
    problems = list(image_problems(images, (options.index,), count))
    if problems:
        raise UserError(*(f"--index{problem.removeprefix('.indices')}" for problem in problems))
    truth, _ = images.batch(range(options.index, options.index + count))
    return images.shape, images.classes, truth
