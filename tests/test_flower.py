"""A federation of Flower, end to end in one process: what its server sees, and what a defense leaves of it.

`make flower` runs this in an environment of its own: flwr contradicts the versions of the other packages.
"""

import logging
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

import leakbench
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.gradients import norm_of, shared_gradient
from leakbench.bench.models import MODELS
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES
from leakbench.federation.rounds import read_rounds

pytest.importorskip("flwr", reason="flwr is not installed here; make flower runs these tests")

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg as OlderFedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp.strategy import FedAvg
from in_process_grid import InProcessGrid

from leakbench.flower import Recording, RecordingSum, defend

EXAMPLE = Path(__file__).parent.parent / "examples" / "flower"
LR = 0.1
IMAGES = open_dataset(DATASETS.parse("cifar10-sample"), Path())


@pytest.fixture(autouse=True)
def quiet():
    """Flower logs each round at length."""
    logging.getLogger("flwr").setLevel(logging.ERROR)


def lenet():
    return MODELS.parse("lenet").build((3, 32, 32), 10, 0)


class Normed(nn.Sequential):
    """With buffers."""

    def __init__(self):
        torch.manual_seed(0)
        layers = nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.BatchNorm1d(4), nn.Linear(4, 10)
        super().__init__(*layers)


def gradient_of(number, network):
    """What the client of that number takes, at the weights of the first round."""
    return shared_gradient(network(), *IMAGES.batch(range(number, number + 1)))


def client(*mods, network=lenet, steps=1, images=1):
    """An app that takes steps on the images from its number on."""
    app = ClientApp()

    @app.train(mods=list(mods))
    def train(message: Message, context: Context) -> Message:
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        first = context.node_config["partition-id"]
        batch, labels = IMAGES.batch(range(first, first + images))
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        for _ in range(steps):
            optimizer.zero_grad()
            functional.cross_entropy(model(batch), labels).backward()
            optimizer.step()
        content = {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": images}),
        }
        return Message(RecordDict(content), reply_to=message)

    return app


def federate(folder, app, nodes=2, rounds=1, network=lenet, **setting):
    """What the server has recorded, and what it has learned."""
    setting = {"lr": LR, "local_steps": 1} | setting
    strategy = Recording(FedAvg(fraction_evaluate=0.0), folder, **setting)
    result = strategy.start(InProcessGrid(app, nodes), ArrayRecord(network().state_dict()), num_rounds=rounds)
    return read_rounds(folder), result


def error(found, expected):
    """Relative, of the norm."""
    return norm_of(difference(found, expected)) / norm_of(expected)


def difference(found, expected):
    return {name: found[name] - each for name, each in expected.items()}


def cosine(one, other):
    return sum(float((one[name] * other[name]).sum()) for name in one) / norm_of(one) / norm_of(other)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """What the server app of the example records."""
    monkeypatch.syspath_prepend(EXAMPLE)
    from recorded import client_app, server_app

    context = Context(1, 0, {}, RecordDict(), {"folder": str(tmp_path / "rounds"), "num-server-rounds": 1})
    server_app.app(InProcessGrid(client_app.app, 2), context)
    for name in [name for name in sys.modules if name.partition(".")[0] == "recorded"]:
        del sys.modules[name]
    return tmp_path / "rounds"


def test_one_step_over_flower_is_the_gradient(recorded):
    (only,) = read_rounds(recorded)
    assert only.clients.keys() == {"101", "102"}
    for number, name in enumerate(only.clients):
        assert error(only.gradient(name), gradient_of(number, lenet)) < 4e-7
        assert only.clients[name].examples == 1
    assert list(only.setting.caveats()) == []


def test_an_image_comes_back_from_what_the_server_has_recorded(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["--before", "rounds/round-001/weights.pt", "--after", "rounds/round-001/client-101.pt"]
    known = ["--lr", str(LR), "--model", "lenet", "--data", "cifar10-sample", "--index", "0"]
    attack = ["--attack", "recursive", "--restarts", "1", "--out", "out"]
    assert leakbench.main(["attack", *files, *known, *attack]) == 0
    assert pd.read_csv("out/trials.csv")["ssim"][0] > 0.99


def test_the_server_sees_the_defended_gradient(tmp_path):
    (only,), _ = federate(tmp_path, client(defend("prune(ratio=0.99)", lr=LR)))
    for number, name in enumerate(only.clients):
        expected = DEFENSES.parse("prune(ratio=0.99)")(gradient_of(number, lenet), torch.Generator())
        assert error(only.gradient(name), expected) < 4e-7
        change = only.clients[name].change
        assert all(torch.equal(change[each] != 0, expected[each] != 0) for each in expected)


def test_of_several_steps_it_is_the_mean_gradient_that_is_defended(tmp_path):
    """Clipped at 1, whatever the rate and the number of steps."""
    app = client(defend("clip(norm=1)", lr=LR, local_steps=3), steps=3)
    (only,), _ = federate(tmp_path / "clipped", app, local_steps=3)
    (plain,), _ = federate(tmp_path / "plain", client(steps=3), local_steps=3)
    for name in only.clients:
        gradient = plain.gradient(name)
        clipped = {each: value / norm_of(gradient) for each, value in gradient.items()}
        assert norm_of(gradient) > 1
        assert error(only.gradient(name), clipped) < 1e-5


def test_noise_is_another_in_each_round_and_client_and_the_same_again(tmp_path):
    def noise(name, **options):
        """Of the first client in two rounds, and of the second in the first."""
        app = client(defend("gaussian(std=0.1)", lr=LR, **options))
        rounds, _ = federate(tmp_path / name, app, rounds=2)
        first, second = (each.gradient("101") for each in rounds)
        return [
            difference(first, gradient_of(0, lenet)),
            difference(second, gradient_at(rounds[1].weights)),
            difference(rounds[0].gradient("102"), gradient_of(1, lenet)),
        ]

    def gradient_at(weights):
        network = lenet()
        network.load_state_dict(weights)
        return shared_gradient(network, *IMAGES.batch(range(1)))

    draws = noise("a")
    entries = sum(each.numel() for each in draws[0].values())
    assert [norm_of(each) for each in draws] == pytest.approx([0.1 * entries**0.5] * 3, rel=0.05)
    assert all(abs(cosine(draws[i], draws[j])) < 0.05 for i, j in [(0, 1), (0, 2), (1, 2)])
    again = noise("b")
    assert all(cosine(*pair) > 0.9999 for pair in zip(draws, again, strict=True))
    assert abs(cosine(draws[0], noise("c", seed=1)[0])) < 0.05


def test_buffers_pass_as_they_are_and_a_warning_says_so(tmp_path):
    def update(*mods):
        app = client(*mods, network=Normed, images=3)
        (only,), _ = federate(tmp_path / str(len(list(tmp_path.iterdir()))), app, network=Normed)
        return only.clients["101"]

    with pytest.warns(UserWarning, match=r"2\.running_mean and 2 more: buffers leave the client undefended"):
        pruned = update(defend("prune(ratio=0.99)", lr=LR))
    plain = update()
    assert all(torch.equal(pruned.buffers[name], plain.buffers[name]) for name in plain.buffers)
    mean = Normed()[1](IMAGES.batch(range(3))[0].flatten(1)).mean(0)
    torch.testing.assert_close(pruned.buffers["2.running_mean"], 0.1 * mean)  # they leak
    assert float((pruned.change["1.weight"] != 0).float().mean()) < 0.02
    with pytest.warns(UserWarning, match="2.num_batches_tracked: buffers leave the client"):
        named = update(defend("prune(ratio=0.99)", lr=LR, buffers=["2.num_batches_tracked"]))
    assert not torch.equal(named.buffers["2.running_mean"], plain.buffers["2.running_mean"])


def test_a_server_averages_counts_and_the_next_round_is_read_all_the_same(tmp_path):
    """Counts of batches, and a buffer of whole numbers whose name says nothing."""

    def counting():
        model = Normed()
        model.register_buffer("seen", torch.tensor([1, 2]))
        return model

    app = client(defend("prune(ratio=0.5)", lr=LR), network=counting, images=3)
    with pytest.warns(UserWarning, match="seen and 3 more: buffers"):
        rounds, _ = federate(tmp_path, app, rounds=3, network=counting)
    statistics = {"2.running_mean", "2.running_var", "2.num_batches_tracked"}
    assert [each.buffers.keys() for each in rounds] == [statistics | {"seen"}] * 3
    assert rounds[2].buffers["2.num_batches_tracked"].dtype == torch.float64


def test_recording_leaves_the_training_as_it_is(tmp_path):
    _, recorded = federate(tmp_path, client(), rounds=2)
    strategy = FedAvg(fraction_evaluate=0.0)
    plain = strategy.start(InProcessGrid(client(), 2), ArrayRecord(lenet().state_dict()), num_rounds=2)
    for name, each in plain.arrays.to_torch_state_dict().items():
        assert torch.equal(recorded.arrays.to_torch_state_dict()[name], each)


def instruction(content=None, type_="train"):
    """A message from the server, and where it arrives."""
    grid = InProcessGrid(None, 1)
    plain = {"arrays": ArrayRecord(lenet().state_dict()), "config": ConfigRecord({"server-round": 1})}
    message = Message(RecordDict(plain if content is None else content), dst_node_id=101, message_type=type_)
    return message, grid.contexts[101]


def returns(content):
    return lambda message, _: Message(content, reply_to=message)


def test_the_mod_lets_pass_what_is_not_its_business():
    message, context = instruction(type_="evaluate")
    answer = defend("prune(ratio=0.5)", lr=LR)(message, context, returns(RecordDict()))
    assert len(answer.content.array_records) == 0
    message, context = instruction()
    answer = defend("prune(ratio=0.5)", lr=LR)(message, context, returns(Error(1, "no data")))
    assert answer.error.reason == "no data"


WEIGHTS = ArrayRecord({"a": torch.zeros(1)})
ROUND = ConfigRecord({"server-round": 1})


@pytest.mark.parametrize(
    ("sent", "returned", "text"),
    [
        (
            {"arrays": WEIGHTS},
            {"arrays": WEIGHTS},
            "expected 'server-round' in the ConfigRecord of a message",
        ),
        ({"config": ROUND}, {}, "expected one ArrayRecord in a message, found none"),
        ({"arrays": WEIGHTS, "config": ROUND}, {"x": WEIGHTS, "y": WEIGHTS}, "expected one ArrayRecord in a"),
        (
            {"arrays": WEIGHTS, "config": ROUND},
            {"arrays": ArrayRecord({"a": torch.zeros(2)})},
            r"defend: a: expected shape \(1,\), as in what was sent, got \(2,\)",
        ),
    ],
)
def test_a_message_that_cannot_be_defended_is_a_line(sent, returned, text):
    message, context = instruction(sent)
    with pytest.raises(UserError, match=text):
        defend("prune(ratio=0.5)", lr=LR)(message, context, returns(RecordDict(returned)))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda _: defend("prun", lr=LR), "^defense: unknown defense 'prun'; did you mean 'prune'"),
        (lambda _: defend("prune(ratio=0.5)", lr=0), "^defend: lr: expected a number > 0, got 0"),
        (
            lambda _: defend("prune(ratio=0.5)", lr=1, local_steps=0),
            "^defend: local_steps: expected a whole number >= 1",
        ),
        (
            lambda folder: Recording(FedAvg(), folder),
            "^Recording: lr: expected a number > 0 with the optimizer sgd",
        ),
        (lambda folder: Recording(FedAvg(), folder, rate=1), "^Recording: rate: unknown setting 'rate'"),
        (lambda folder: RecordingSum(OlderFedAvg(), folder, []), "^RecordingSum: lr: expected a number > 0"),
    ],
)
def test_what_cannot_be_set_up_is_a_line(tmp_path, make, text):
    with pytest.raises(UserError, match=text):
        make(tmp_path)


def test_a_client_that_fails_is_not_recorded(tmp_path):
    app = client()

    def failing(message, context):
        if context.node_id == 102:
            return Message(Error(1, "no data"), reply_to=message)
        return app(message, context)

    (only,), _ = federate(tmp_path, failing)
    assert only.clients.keys() == {"101"}


class OlderClient(NumPyClient):
    """Of the older API, which SecAgg+ needs: one step on an image of its own."""

    def __init__(self, number):
        self.number = number

    def fit(self, parameters, config):
        model = lenet()
        model.load_state_dict(dict(zip(model.state_dict(), map(torch.tensor, parameters), strict=True)))
        image, label = IMAGES[self.number]
        functional.cross_entropy(model(image[None]), torch.tensor([label])).backward()
        torch.optim.SGD(model.parameters(), lr=LR).step()
        return [each.numpy() for each in model.state_dict().values()], 1, {}


def add_securely(folder, *mods, dead=lambda node, message: False, names=None):
    """What the server has recorded of four clients under SecAgg+."""
    app = ClientApp(
        lambda context: OlderClient(context.node_config["partition-id"]).to_client(), mods=list(mods)
    )
    weights = lenet().state_dict()
    initial = ndarrays_to_parameters([each.numpy() for each in weights.values()])
    options = {"min_fit_clients": 4, "min_available_clients": 4, "fraction_evaluate": 0.0}
    strategy = OlderFedAvg(initial_parameters=initial, fit_metrics_aggregation_fn=lambda _: {}, **options)
    recording = RecordingSum(
        strategy, folder, list(weights) if names is None else names, lr=LR, local_steps=1
    )
    context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), ServerConfig(num_rounds=1), recording)
    secure = SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, max_weight=4.0)
    fit = secure if secaggplus_mod in mods else None
    DefaultWorkflow(fit_workflow=fit)(InProcessGrid(app, 4, dead), context)
    (only,) = read_rounds(folder)
    return only


def assert_sum(only, gradients):
    """Each client rounds by less than a step of 16 / 2**22, and the mean of n is recorded n-fold."""
    assert only.clients.keys() == {"sum"}
    update, count = only.clients["sum"], len(gradients)
    assert (update.summed, update.examples) == (count, count)
    for name, change in update.change.items():
        expected = -LR * sum(gradient[name] for gradient in gradients)
        assert float((change - expected).abs().max()) < count * 4 * 16 / 2**22 * 1.05


@pytest.mark.parametrize("defense", ["none", "prune(ratio=0.9)"])
def test_under_secure_aggregation_the_server_sees_the_sum(tmp_path, defense):
    only = add_securely(tmp_path, secaggplus_mod, defend(defense, lr=LR))
    known = DEFENSES.parse(defense)
    assert_sum(only, [known(gradient_of(number, lenet), torch.Generator()) for number in range(4)])
    mean = {name: each / -(4 * LR) for name, each in only.clients["sum"].change.items()}
    assert error(only.gradient("sum"), mean) < 1e-6


def test_a_client_that_dies_after_sharing_keys_is_not_in_the_sum(tmp_path):
    def dead(node, message):
        stage = message.content.config_records["secaggplus_configs"]["stage"]
        return node == 104 and stage in ("collect_masked_vectors", "unmask")

    assert_sum(
        add_securely(tmp_path, secaggplus_mod, dead=dead), [gradient_of(number, lenet) for number in range(3)]
    )


def test_without_secure_aggregation_there_is_no_sum(tmp_path):
    with pytest.raises(UserError, match="^RecordingSum: expected the aggregate of SecAggPlusWorkflow"):
        add_securely(tmp_path)
    with pytest.raises(UserError, match="^RecordingSum: names: expected 8, one for each array, got 1"):
        add_securely(tmp_path / "named", secaggplus_mod, names=["a"])
