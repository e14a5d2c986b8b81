"""The reference engine: two parties with additive shares mod 2^64, and a dealer's triples; see `Parties`."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from leakbench.bench.private.answers import Answers, Observer
from leakbench.bench.private.network import SharedNetwork
from leakbench.bench.private.parties import Parties, Sender
from leakbench.bench.private.steps import Step
from leakbench.bench.sharing import FixedPoint


def classify(
    steps: Sequence[Step],
    images: Tensor,
    encoding: FixedPoint,
    generator: torch.Generator,
    batch: int,
    observe: Observer = lambda _: None,
) -> Answers:
    """The scores of secret-shared images (N, C, H, W), by a secret-shared network.

    Args:
        steps: of the network.
        images: float32.
        encoding: of images and weights; `overflows` says whether there is room for it.
        generator: of all masks.
        batch: images at once.
        observe: see `Observer`.
    """
    parties = Parties(generator)
    network = SharedNetwork(parties, steps, encoding)
    setup, rounds = dict(parties.sent), parties.rounds
    began, scores = time.process_time(), []
    for part in images.split(batch):
        scores.append(network(part))
        observe(sum(map(len, scores)))
    seconds = time.process_time() - began
    return Answers(
        torch.cat(scores),
        seconds,
        party_bytes=parties.sent[Sender.PARTY] - setup[Sender.PARTY],
        dealer_bytes=parties.sent[Sender.DEALER] - setup[Sender.DEALER],
        setup_bytes=sum(setup.values()),
        rounds=(parties.rounds - rounds) / len(scores),
        truncations=network.truncations,
    )
