"""Train LeNet on digits in a federation of four clients, and record every tenth round as its server sees it.

    python examples/record_training.py rounds
    leakbench audit rounds --model lenet --data mnist-5k --index 0

In a recorded round each client takes a step on one digit: 0 to 3 of mnist-5k in the first one, then 4 to 7,
and so on, so that `--index 0` tells the audit where the true images begin. In the other rounds it takes a
step on eight of the digits from 1000 on.
"""

import sys
from copy import deepcopy
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.models import MODELS
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import Setting

CLIENTS, ROUNDS, EVERY, LR = 4, 20, 10, 0.1
SETTING = Setting(optimizer="sgd", lr=LR, local_steps=1)


def step(network, images, labels):
    """What comes back from a client that takes one step on its batch."""
    own = deepcopy(network)
    cross_entropy(own(images), labels).backward()
    torch.optim.SGD(own.parameters(), lr=LR).step()
    return own.state_dict()


def mean(states):
    """The mean of the clients' weights: the next round's."""
    return {name: torch.stack([each[name] for each in states]).mean(0) for name in states[0]}


def main(folder):
    """Train for 191 rounds, and write every tenth to a new folder."""
    digits = open_dataset(DATASETS.parse("mnist-5k"), None)
    tests, answers = digits.batch(range(4000, 5000))
    network = MODELS.parse("lenet").build(digits.shape, digits.classes, 0)
    order = torch.Generator().manual_seed(0)
    folder = new_folder(Path(folder))
    for number in range(1, ROUNDS + 1):
        firsts = range((number - 1) * CLIENTS, number * CLIENTS)
        states = [step(network, *digits.batch([first])) for first in firsts]
        returned = {str(client): Returned(state, examples=1) for client, state in enumerate(states)}
        write_round(folder, number, network.state_dict(), returned, SETTING)
        accuracy = float((network(tests).argmax(1) == answers).double().mean())
        print(f"round {number}: accuracy of the weights that were sent {accuracy:.1%}", flush=True)
        network.load_state_dict(mean(states))
        for _ in range(EVERY - 1 if number < ROUNDS else 0):
            chosen = (1000 + torch.randint(3000, (CLIENTS, 8), generator=order)).tolist()
            network.load_state_dict(mean([step(network, *digits.batch(own)) for own in chosen]))


if __name__ == "__main__":
    main(sys.argv[1] if sys.argv[1:] else "rounds")
