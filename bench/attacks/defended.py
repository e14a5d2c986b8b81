"""Each client's defense is simulated: an attack on sums, in which nobody sees what one client left out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from leakbench.bench.attacks.adaptive import FREE, Adaptive, least_weight, smoothing
from leakbench.bench.attacks.base import Case, Knows
from leakbench.bench.attacks.optimised import Terms
from leakbench.bench.attacks.runs import Run
from leakbench.bench.client import client_update
from leakbench.bench.protocols.base import Sent, mean_of
from leakbench.defenses import Client, Defense, Gradients, Point

ROUNDS = 22  # how often the clients' defenses are simulated
ABOVE = 1e-3  # relative: rounding, by which an entry may seem to have grown


@dataclass(frozen=True)
class Defended(Adaptive):
    """`adaptive`, with each client's entries scaled as its defense would scale those of its dummy image.

    What one client leaves out, another one sends, so the sum does not show which entries a client kept. From
    stage to stage the defense is run on the gradient of each dummy image, and the share of each entry that
    it leaves counts until the next stage. A defense that draws at random cannot be run again like this.
    """

    name: ClassVar[str] = "defended"
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.DEFENSE, Knows.PROTOCOL})
    falling: ClassVar[tuple[float, ...]] = (10.0, *(9.0 * 0.75**place for place in range(ROUNDS)))
    shares: ClassVar[tuple[float, ...]] = (0.12, *[0.88 / ROUNDS] * ROUNDS)

    def refusal(self, example: Case) -> str:
        """See `Attack.refusal`."""
        protocol = example.protocol
        if protocol is None or protocol.seen == 1 or protocol.batch_size > 1 or example.spec.signed:
            return "expected a sum of gradients of several clients with one image each"
        return ""

    def refusal_under(self, defense: Defense, example: Case) -> str:
        """See `Attack.refusal_under`."""
        if _scales(defense, example):
            return ""
        return "expected a defense that leaves out or scales entries of an update, and draws nothing"

    def weights(self, case: Case) -> Sequence[float]:
        """See `Regularised.weights`; `renewed` knows how far they may fall."""
        return self.falling

    def terms(self, case: Case) -> Terms:
        """See `Regularised.terms`: those of `adaptive`, until there is a dummy to simulate defenses with."""
        parts = {
            _part(client, name): torch.ones_like(each)
            for client in range(case.spec.count)
            for name, each in case.shared.items()
        }
        return {**super().terms(case), **parts}

    def renewed(self, run: Run) -> Terms:
        """See `Optimised.renewed`: the share of each entry that each client's defense leaves.

        With these, a zero of the sum says as much as any other entry, and the scale is known. Entries whose
        clients are not simulated right yet are noise, which total variation makes up for.
        """
        case, variable = run.case, run.variable.cpu()
        weight = max(run.stage.terms["tv"], least_weight(case))
        if run.place == 0:
            return {"tv": torch.tensor(weight)}
        shape = run.candidate.images.shape
        images = self.pixels(variable[: shape.numel()].view(shape))
        labels = run.candidate.labels_at(variable)
        classes = labels.argmax(-1) if labels.is_floating_point() else labels
        assert case.protocol is not None  # see `refusal`
        assert case.defense is not None
        terms = {**super().terms(replace(case, account=None)), FREE: torch.tensor(0.0)}
        left = []
        for client, (image, label) in enumerate(zip(images.split(1), classes.split(1), strict=True)):
            update = client_update(case.model, case.protocol, image, label)
            sent = _sent(case.defense, update, Client(case.model, image, label))
            left.append(sent)
            for name, each in update.items():
                terms[_part(client, name)] = torch.where(each == 0, 1.0, sent[name] / each)
        misfit = float(self.distance(mean_of(left), case.shared, terms))
        least = smoothing(misfit / sum(each.numel() for each in left[0].values()), case.spec)
        return {**terms, "tv": torch.tensor(max(weight, least))}

    def simulated(self, terms: Terms) -> Sent:
        """See `Optimised.simulated`: the share of each entry that is in the terms."""
        return lambda client, update: {
            name: terms[_part(client, name)] * each for name, each in update.items()
        }


def _part(client: int, name: str) -> str:
    """The term of what the defense leaves of a client's entries."""
    return f"part {client} {name}"


def _sent(defense: Defense, update: Gradients, client: Client, seed: int = 0) -> Gradients:
    """What a defense of the update makes of it."""
    return defense.share(update, torch.Generator().manual_seed(seed), client=client).gradients


def _scales(defense: Defense, example: Case) -> bool:
    """Whether a defense multiplies entries by numbers in [0, 1], not all by 1, and by the same each time."""
    if not defense.points() or defense.points() - {Point.KNOWING, Point.GRADIENT}:
        return False
    draws = torch.Generator().manual_seed(0)
    update = {name: torch.randn(each.shape, generator=draws) for name, each in example.shared.items()}
    image, label = torch.rand(1, *example.spec.image_shape, generator=draws), torch.zeros(1, dtype=torch.long)
    client = Client(example.model, image, label)
    sent, again = (_sent(defense, update, client, seed) for seed in (0, 1))
    parts = [sent[name] / each for name, each in update.items()]
    if any(bool((part < 0).any() or (part > 1 + ABOVE).any()) for part in parts):
        return False
    same = all(torch.equal(each, again[name]) for name, each in sent.items())
    return same and any(bool((part < 1 - ABOVE).any()) for part in parts)
