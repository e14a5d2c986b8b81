"""Training with defended gradients: compared with plain SGD, and its rows."""

import copy
import dataclasses
import os
import pickle
import re
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from running import command, inside, no_space, start, wait_for
from torch.nn import functional

from leakbench import commands
from leakbench.bench.attacks import Status
from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.lock_step import train_together
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.bench.training import WIDTH, Examples, Recipe, Training
from leakbench.bench.training_row import Trained, training_row
from leakbench.commands.utility import show_accuracies
from leakbench.core.configured import SettingError
from leakbench.core.errors import StoppedError
from leakbench.core.randomness import generator_for
from leakbench.defenses import DEFENSES
from leakbench.reports.utility import summarize_utility
from leakbench.sweeps.records import checkpoint, to_record
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TRAININGS
from leakbench.sweeps.training import plan_trainings, trainings_of

DATA = Path("data")
DIGITS = DATASETS.parse("mnist-5k")


def training(
    defense="none",
    model="lenet",
    train=range(80),
    test=range(4000, 4100),
    seed=0,
    protocol="fedsgd",
    **recipe,
):
    own, others = (Examples(DIGITS, tuple(each)) for each in (train, test))
    settings = {"epochs": 1, **recipe}
    parts = MODELS.parse(model), seed, Recipe(**settings), DEFENSES.parse(defense), PROTOCOLS.parse(protocol)
    return Training(own, others, *parts)


def by_plain_sgd(wanted, change=lambda images: images):
    """PyTorch's optimizer on the mean of what clients share, one client after the other."""
    images, labels = wanted.train.read(wanted.model, DATA)
    source, recipe = open_dataset(DIGITS, DATA), wanted.recipe
    network = wanted.model.build(source.shape, source.classes, wanted.seed)
    if recipe.optimizer == "adam":
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe.lr)
    else:
        optimizer = torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=recipe.momentum)
    order = generator_for("order of examples", wanted.seed)
    draws = generator_for("defense in training", wanted.defense.name, wanted.seed)
    names = [name for name, _ in network.named_parameters()]
    for _ in range(recipe.epochs):
        for step in torch.randperm(len(images), generator=order).split(recipe.clients * recipe.batch_size):
            if len(step) < recipe.clients * recipe.batch_size:
                continue
            shared = []
            for client in step.split(recipe.batch_size):
                loss = functional.cross_entropy(network(change(images[client])), labels[client])
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                shared.append(wanted.defense(dict(zip(names, gradients, strict=True)), draws))
            for name, parameter in network.named_parameters():
                parameter.grad = sum(each[name] for each in shared) / recipe.clients
            optimizer.step()
    return network


@pytest.mark.parametrize(
    ("defense", "model", "optimizer"),
    [
        ("none", "lenet", {"lr": 0.05}),
        ("gaussian(variance=0.01)", "lenet", {"lr": 0.05}),
        ("prune(ratio=0.5)", "mlp(hidden=[20], activation=tanh)", {"lr": 0.05}),
        ("float16", "lenet(weights=default, activation=relu)", {"lr": 0.05}),
        ("gaussian(variance=0.01)", "lenet", {"lr": 0.001, "optimizer": "adam"}),
    ],
)
def test_training_is_descent_on_what_the_defense_lets_through(defense, model, optimizer):
    recipe = {"train": range(90), "clients": 3, "batch_size": 4, "epochs": 2, **optimizer}
    wanted, others = training(defense, model, **recipe), [training("float16", model, **recipe)]
    _, trained = train_together([*others, wanted], DATA, keep=[0, 2])
    network = by_plain_sgd(wanted)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(trained.weights[2][name], parameter.detach(), rtol=1e-3, atol=1e-5)
        assert not torch.equal(trained.weights[0][name], trained.weights[2][name])
    images, labels = wanted.test.read(wanted.model, DATA)
    right = (network(images).argmax(1) == labels).double().mean()
    assert trained.row.accuracy == pytest.approx(float(right), abs=0.02)
    assert (trained.row.status, trained.row.steps) == ("converged", 2 * (90 // 12))


def by_averaging(wanted):
    """Federated averaging: the server takes the mean of the weights that clients come back with."""
    images, labels = wanted.train.read(wanted.model, DATA)
    source, recipe, protocol = open_dataset(DIGITS, DATA), wanted.recipe, wanted.protocol
    network = wanted.model.build(source.shape, source.classes, wanted.seed)
    order = generator_for("order of examples", wanted.seed)
    for step in torch.randperm(len(images), generator=order).split(recipe.clients * protocol.batch_size):
        if len(step) < recipe.clients * protocol.batch_size:
            continue
        returned = []
        for chosen in step.split(protocol.batch_size):
            client = copy.deepcopy(network)
            optimizer = torch.optim.SGD(client.parameters(), lr=protocol.lr)
            for batch in chosen.split(protocol.local_batch):
                optimizer.zero_grad()
                functional.cross_entropy(client(images[batch]), labels[batch]).backward()
                optimizer.step()
            returned.append(client.state_dict())
        network.load_state_dict(
            {name: torch.stack([each[name] for each in returned]).mean(0) for name in returned[0]}
        )
    return network


def test_training_by_federated_averaging():
    protocol = "fedavg(batch_size=8, local_steps=2, local_batch=4, lr=0.1)"
    wanted = training(model="mlp(hidden=[20])", train=range(100), clients=3, protocol=protocol)
    (trained,) = train_together([wanted], DATA, keep=[1])
    assert (trained.row.protocol, trained.row.steps) == (protocol, 100 // (3 * 8))
    for name, parameter in by_averaging(wanted).named_parameters():
        torch.testing.assert_close(trained.weights[1][name], parameter.detach(), rtol=1e-3, atol=1e-5)


def test_training_with_sums_differs_by_what_they_round():
    names = {"model": "mlp(hidden=[20])", "train": range(100), "clients": 3}
    texts = ["fedavg(batch_size=8, lr=0.1)"]
    texts += [f'secure_sum(digits={digits}, batch_size=8, of="fedavg(lr=0.1)")' for digits in (2, 7)]
    plain, coarse, fine = (
        train_together([training(**names, protocol=text)], DATA, keep=[1])[0].weights[1] for text in texts
    )
    for name, weight in plain.items():
        torch.testing.assert_close(fine[name], weight, rtol=0, atol=1e-5)
    assert float((coarse["1.weight"] - plain["1.weight"]).abs().max()) > 1e-4


def test_training_with_clipped_examples_is_that_of_one_example_after_the_other():
    """DP-SGD (Abadi et al. 2016) with clients: each clips its own examples, and adds noise to their sum."""
    multiplier, clip, clients, size = 0.1, 0.5, 2, 3
    wanted = training(
        f"dp_gaussian(noise_multiplier={multiplier}, clip={clip})", train=range(12), clients=clients,
        batch_size=size, lr=0.05, momentum=0.0,
    )  # fmt: skip
    (trained,) = train_together([wanted], DATA, keep=[0, 1])
    images, labels = wanted.train.read(wanted.model, DATA)
    network = wanted.model.build((1, 28, 28), 10, wanted.seed)
    order = torch.randperm(12, generator=generator_for("order of examples", wanted.seed))
    draws, norms = generator_for("defense in training", "dp_gaussian", wanted.seed), []
    parameters = list(network.parameters())
    for step in order.split(clients * size):
        move = [torch.zeros_like(each) for each in parameters]
        for client in step.split(size):
            total = [torch.zeros_like(each) for each in parameters]
            for example in client.split(1):
                loss = functional.cross_entropy(network(images[example]), labels[example])
                own = torch.autograd.grad(loss, parameters)
                norms.append(float(torch.cat([each.flatten() for each in own]).norm()))
                for place, each in zip(total, own, strict=True):
                    place += each * min(1, clip / norms[-1])
            for place, each in zip(move, total, strict=True):
                noise = multiplier * clip * torch.randn(each.shape, generator=draws)
                place += (each + noise) / size / clients
        for parameter, each in zip(parameters, move, strict=True):
            parameter.data.sub_(each, alpha=0.05)
    assert max(norms) > clip
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(trained.weights[1][name], parameter.detach(), rtol=1e-3, atol=1e-5)
        assert not torch.equal(trained.weights[0][name], trained.weights[1][name])


def test_a_training_does_not_depend_on_its_company():
    """To the bit, whatever is trained along with it and in whatever place."""
    wanted, noise = training("int8"), training("gaussian(variance=0.1)")
    others = [training("prune(ratio=0.3)"), training("none"), noise]
    alone = train_together([wanted], DATA, keep=[1])[0]
    crowded = train_together([*others, wanted], DATA, keep=[1])
    assert len(crowded) == WIDTH
    for name, weight in alone.weights[1].items():
        assert torch.equal(weight, crowded[-1].weights[1][name])
    (again,) = train_together([noise], DATA, keep=[1])
    assert torch.equal(again.weights[1]["0.weight"], crowded[2].weights[1]["0.weight"])
    different = {float(each.weights[1]["0.weight"].sum()) for each in crowded}
    assert len(different) == WIDTH


BAD = """
from dataclasses import dataclass
from leakbench import Defense

@dataclass(frozen=True)
class Late(Defense):
    def apply(self, gradients, generator):
        if float(next(iter(gradients.values())).sum()) > 0:
            raise ValueError("no more")
        return gradients
"""


def test_a_defense_that_raises_ends_its_own_training_only(write):
    path = write("bad.py", BAD)
    failed, fine = train_together([training(f"{path}:Late"), training("none")], DATA)
    assert (failed.row.status, failed.row.reason) == ("error", "ValueError: no more")
    assert failed.row.accuracy is None
    assert failed.row.steps is None
    (alone,) = train_together([training("none")], DATA)
    assert dataclasses.replace(fine.row, seconds=0) == dataclasses.replace(alone.row, seconds=0)


def test_a_training_whose_gradients_explode_has_diverged():
    (trained,) = train_together([training(model="lenet(activation=relu)", lr=1e20)], DATA)
    assert (trained.row.status, trained.row.reason) == ("diverged", "a gradient became NaN or infinite")
    assert trained.row.steps < 4
    assert 0 <= trained.row.accuracy <= 0.3


def test_what_is_trained_on_other_things_has_another_key():
    changes = [
        {"defense": "int8"}, {"model": "mlp"}, {"train": range(81)}, {"test": range(4000, 4101)}, {"seed": 1},
        {"protocol": "fedavg"}, {"lr": 0.1}, {"clients": 2}, {"batch_size": 2}, {"epochs": 2},
        {"momentum": 0.0}, {"optimizer": "adam"},
    ]  # fmt: skip
    keys = {training(**change).key for change in changes} | {training().key}
    assert len(keys) == len(changes) + 1
    again = pickle.loads(pickle.dumps(training("gaussian(std=0.1)")))
    assert again == training("gaussian(std=0.1)")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"clients": 0}, "clients: expected a whole number >= 1, got 0"),
        ({"lr": 0}, "lr: expected a number > 0, got 0"),
        ({"momentum": 1}, "momentum: expected a number in [0, 1), got 1"),
        ({"optimizer": "lbfgs"}, "optimizer: expected one of sgd, adam, got 'lbfgs'"),
    ],
)
def test_recipes_that_cannot_be(settings, text):
    with pytest.raises(SettingError, match=re.escape(text)):
        Recipe(**settings)


FILE = """
defenses: [gaussian(variance=0.1), float16, int8, prune(ratio=0.3)]
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  epochs: 2
  seeds: 0-1
  checkpoints: [0, 2]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("utility")
    (folder / "mine.yaml").write_text(FILE)
    return folder, command("utility", "mine.yaml", "--out", "out", cwd=folder)


def test_trainings_in_this_process_are_those_of_workers(trained, tmp_path):
    (tmp_path / "mine.yaml").write_text(FILE)
    assert inside(tmp_path, "utility", "mine.yaml", "--out", "here", "--executor", "inline") == 0
    ours, theirs = (
        pd.read_parquet(folder / "trainings.parquet")
        .drop(columns="seconds")
        .sort_values("key", ignore_index=True)
        for folder in (tmp_path / "here", trained[0] / "out")
    )
    pd.testing.assert_frame_equal(ours, theirs)
    assert ours.groupby("seed")["accuracy"].sum().nunique() == 2


def test_the_command_trains_every_defense_with_every_seed(trained):
    folder, done = trained
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "mine.yaml: 10 trainings = 5 defenses x 2 seeds; cpu: 2 workers x 1 thread" in done.stdout
    assert re.search(r"100%, .* 10/10 trainings", done.stdout)
    assert re.search(r"^int8: 2 converged; mean accuracy \d+\.\d%$", done.stdout, re.MULTILINE)
    rows = pd.read_parquet(folder / "out" / "trainings.parquet")
    assert len(rows) == rows["key"].nunique() == 10
    csv = pd.read_csv(folder / "out" / "trainings.csv")
    assert list(csv["defense"][:5]) == [
        "gaussian(variance=0.1)",
        "float16",
        "int8",
        "none",
        "prune(ratio=0.3)",
    ]
    assert list(csv.columns) == list(TRAININGS.dtypes)
    for line in summarize_utility(csv.astype(TRAININGS.dtypes)).itertuples():
        own = csv[csv["defense"] == line.defense].set_index("seed")["accuracy"]
        none = csv[csv["defense"] == "none"].set_index("seed")["accuracy"]
        assert line.accuracy == pytest.approx(own.mean())
        assert line.change == pytest.approx((own - none).mean())
        assert f"{100 * own.mean():.1f}" in done.stdout
    weights = torch.load(folder / "out" / "checkpoints" / "lenet-none-seed1-epoch2.pt", weights_only=True)
    model = MODELS.build(
        "lenet", {"weights": f"checkpoint:{folder}/out/checkpoints/lenet-int8-seed0-epoch2.pt"}
    )
    assert weights.keys() == model.build((1, 28, 28), 10, 0).state_dict().keys()


def test_what_is_trained_already_is_not_trained_again(trained, tmp_path, capsys):
    folder, _ = trained
    assert inside(folder, "utility", "mine.yaml", "--out", "out") == 0
    assert "out: 10 trainings are there already, 0 to run" in capsys.readouterr().out
    (folder / "out" / "checkpoints" / "lenet-none-seed1-epoch2.pt").unlink()
    (folder / "more.yaml").write_text(FILE.replace("[gaussian", "[bfloat16, gaussian"))
    (folder / "more.yaml").rename(folder / "mine.yaml")
    before = pd.read_csv(folder / "out" / "trainings.csv")
    assert inside(folder, "utility", "mine.yaml", "--out", "out", "--jobs", "1") == 0
    after = pd.read_csv(folder / "out" / "trainings.csv")
    assert len(after) == after["key"].nunique() == 12
    both = after[after["key"].isin(before["key"])]
    pd.testing.assert_frame_equal(both.reset_index(drop=True), before)
    assert (folder / "out" / "checkpoints" / "lenet-none-seed1-epoch2.pt").exists()
    assert inside(folder, "status", "out") == 0
    assert "of 12 trainings: 12 converged" in capsys.readouterr().out


@pytest.mark.usefixtures("without_rehearsal")
def test_a_failed_training_is_reported_and_run_again_on_request(write, tmp_path, capsys):
    write("bad.py", BAD.replace("if float(", "import os\n        if not os.path.exists('mended') and float("))
    write(
        "mine.yaml",
        FILE.replace("[gaussian(variance=0.1), float16, int8, prune(ratio=0.3)]", "['bad.py:Late']"),
    )
    arguments = ("utility", "mine.yaml", "--out", "out", "--executor", "inline")
    assert inside(tmp_path, *arguments) == commands.TRIALS_FAILED
    assert "2 trainings failed: ValueError: no more" in capsys.readouterr().out
    write("mended", "")
    assert inside(tmp_path, *arguments) == commands.TRIALS_FAILED
    assert inside(tmp_path, *arguments, "--retry", "errors") == 0
    assert len(pd.read_csv(tmp_path / "out" / "trainings.csv")) == 4


DEED = """
import os
import time
from dataclasses import dataclass
from leakbench import Defense

@dataclass(frozen=True)
class Deed(Defense):
    kind: str = "exit"

    def apply(self, gradients, generator):
        if self.kind == "exit":
            os._exit(3)
        time.sleep(1000)
"""
SHORT = """
models: ['mlp(hidden=[16])']
defenses: [DEFENSE]
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  epochs: 1
"""


@pytest.mark.usefixtures("without_rehearsal")
@pytest.mark.parametrize(
    ("kind", "timeout", "reason"),
    [
        ("exit", "0", "worker died (exit code 3) twice while running this training"),
        pytest.param("hang", "30s", "no result after 30 s (timeout)", marks=pytest.mark.long),
    ],
)
def test_a_training_that_ends_or_stops_its_worker_is_found_among_those_beside_it(
    write, tmp_path, kind, timeout, reason
):
    write("bad.py", DEED)
    write("mine.yaml", SHORT.replace("DEFENSE", f"'bad.py:Deed(kind={kind})'"))
    arguments = ("--out", "out", "--jobs", "1", "--timeout", timeout)
    assert inside(tmp_path, "utility", "mine.yaml", *arguments) == commands.TRIALS_FAILED
    rows = pd.read_csv(tmp_path / "out" / "trainings.csv").set_index("family")
    assert rows.loc["bad.py:Deed", "reason"] == reason
    assert (rows.drop("bad.py:Deed")["status"] == "converged").all()
    assert len(rows) == 2
    (session,) = Store.existing(tmp_path / "out").manifest()["sessions"]["trainings"]
    assert session["timeout"] == int(timeout.removesuffix("s"))


def test_a_part_is_trained_again_where_it_is_forced(trained, capsys):
    folder, _ = trained
    before = pd.read_csv(folder / "out" / "trainings.csv").set_index("key")
    arguments = ("utility", "mine.yaml", "--out", "out", "--jobs", "1", "--force")
    assert inside(folder, *arguments, "prune*") == 0
    output = capsys.readouterr().out
    assert "out: 2 stored trainings are removed, to be run again" in output
    after = pd.read_csv(folder / "out" / "trainings.csv").set_index("key")
    columns = ["defense", "seed", "accuracy"]
    pd.testing.assert_frame_equal(after[columns].loc[before.index], before[columns])
    again = after.index[after["seconds"] != before["seconds"].reindex(after.index)]
    assert set(after.loc[again, "family"]) == {"prune"}
    assert inside(folder, *arguments, "int9*") == commands.USER_ERROR
    assert "--force: expected a pattern of a name in the sweep, such as 'prune*', got 'int9*'" in (
        capsys.readouterr().err
    )


def small_plan(write, text=FILE):
    """The sweep, its trainings and an empty store for them, of a file of its own."""
    sweep, problems = read_sweep(write("small.yaml", text))
    assert not problems
    return sweep, trainings_of(sweep), Store.open_for(write("small.yaml", text).with_name("out"), sweep)


def made_up(wanted, status=Status.CONVERGED):
    """A training as it is stored, whose weights after both epochs are its key's hash."""
    row = training_row(wanted, (status, ""), 8, 0.5, 1.0, "cpu")
    weights = {"w": torch.tensor(hash(wanted.key))}
    return to_record(Trained(row, {} if status == Status.ERROR else {0: weights, 2: weights}))


def test_a_training_that_failed_is_not_run_again_for_its_weights(write):
    sweep, (first, *others), store = small_plan(write)
    store.append([made_up(first, Status.ERROR), *map(made_up, others)])
    assert list(plan_trainings(sweep, store)) == []
    assert list(plan_trainings(sweep, store, retry_errors=True)) == [first]


def test_weights_of_another_recipe_are_not_taken_for_ones_own(write):
    first, wanted, store = small_plan(write)
    second, others, _ = small_plan(write, FILE.replace("epochs: 2", "epochs: 3"))
    store.append(list(map(made_up, wanted)))
    assert list(plan_trainings(first, store)) == []
    store.append(list(map(made_up, others)))
    assert list(plan_trainings(second, store)) == []
    assert list(plan_trainings(first, store)) == wanted


@pytest.mark.parametrize(("text", "epochs"), [("0", (0,)), ("[]", ()), ("0-2", (0, 1, 2))])
def test_epochs_whose_weights_are_kept(write, text, epochs):
    sweep, _, _ = small_plan(write, FILE.replace("[0, 2]", text))
    assert sweep.training.checkpoints == epochs


def test_a_table_that_cannot_be_written_is_written_by_the_command_that_trains(write, monkeypatch, capsys):
    _, wanted, store = small_plan(write)
    store.append(list(map(made_up, wanted)))
    monkeypatch.setattr("leakbench.reports.csv_file.write_csv", no_space)
    with pytest.raises(StoppedError, match=f"`leakbench utility FILE --out {store.folder}` writes the rest$"):
        show_accuracies(store, Console())


def test_checkpoints_of_other_names_are_other_files():
    assert checkpoint("lenet", "none", "fedsgd", 1, 2) == "checkpoints/lenet-none-seed1-epoch2.pt"
    names = [
        ("lenet", "none", "fedsgd"), ("lenet", "none", "fedavg"), ("lenet", "none", "fedavg(lr=0.2)"),
        ("net.py:Net(shift=1)", "none", "fedsgd"), ("net.py:Net(shift=-1)", "none", "fedsgd"),
    ]  # fmt: skip
    assert len({checkpoint(*each, 0, 1) for each in names}) == len(names)


def test_durations_of_trainings_that_are_none(write, tmp_path, capsys):
    write("mine.yaml", FILE + "  timeout: soon\n")
    assert inside(tmp_path, "utility", "mine.yaml", "--out", "out") == commands.USER_ERROR
    assert "mine.yaml: training.timeout: expected" in capsys.readouterr().err


def test_an_interrupt_keeps_what_is_trained(write, tmp_path, monkeypatch, capsys):
    write("mine.yaml", SHORT.replace("DEFENSE", "int8, float16, bfloat16"))
    append = Store.append

    def interrupted(store, records):
        append(store, records)
        signal.raise_signal(signal.SIGINT)

    arguments = ("utility", "mine.yaml", "--out", "out", "--executor", "inline")
    with monkeypatch.context() as patch:
        patch.setattr("leakbench.sweeps.runner.SECONDS_BETWEEN_PARTS", 0)
        patch.setattr(Store, "append", interrupted)
        assert inside(tmp_path, *arguments) == commands.INTERRUPTED
    assert "stopped; what is finished is stored" in capsys.readouterr().out
    kept = len(pd.read_parquet(tmp_path / "out" / "trainings.parquet"))
    assert 0 < kept < 4
    assert inside(tmp_path, *arguments) == 0
    assert re.search(
        rf"out: {kept} trainings? (is|are) there already, {4 - kept} to run", capsys.readouterr().out
    )


@pytest.mark.long
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_of_all_processes_keeps_what_is_trained(write, tmp_path, jobs):
    write(
        "mine.yaml",
        FILE.replace("epochs: 2", "epochs: 40").replace("seeds: 0-1", "seeds: 0-3").replace("[0, 2]", "[]"),
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = start(
        "utility", "mine.yaml", "--out", "out", "--jobs", jobs, cwd=tmp_path, start_new_session=True, **pipes
    )
    wait_for(lambda: list((tmp_path / "out").glob("trainings.parquet/*.parquet")))
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: every process of it
    output, error = running.communicate(timeout=60)
    assert running.returncode == commands.INTERRUPTED
    assert "stopped; what is finished is stored" in output
    assert error == ""
    assert 0 < len(pd.read_parquet(tmp_path / "out" / "trainings.parquet")) < 20


TRAIN = "train: {name: mnist-5k, indices: 0-79}"
MESSAGES = {
    FILE.replace("epochs: 2", "epoch: 2"): "training: unknown key 'epoch'; did you mean 'epochs'?",
    FILE.replace("epochs: 2", "epochs: 0"): "training.epochs: expected a whole number >= 1, got 0",
    FILE.replace("[0, 2]", "[3]"): "training.checkpoints: expected epochs in 0..2, got 3",
    FILE.replace("[0, 2]", ""): "training.checkpoints: expected whole numbers in 0..9999999",
    FILE.replace(TRAIN, "train: mnist-5k"): "training.train: expected a dataset with its indices, got",
    FILE.replace(TRAIN, "train: {name: [a], indices: 3}"): "training.train: expected a dataset by name, or a",
    FILE.replace(TRAIN, "train: {name: mnist, split: [train, test], indices: 3}"):
        "training.train: expected one dataset, got 2",
    FILE.replace("0-79", "0-5000"): "training.train.indices: expected 0..4999, got 5000",
    FILE.replace("0-79", "'0-3,4005-4090'"):
        "training.test.indices: expected test images outside the training set, got 86 that are also in it "
        "(first: 4005)",
    FILE.replace("0-79", "0-9"):
        "training.train.indices: expected 20 images or more for a step of 4 clients x 5 examples, got 10",
    FILE.replace("training:", "training: 3\nno:"): "training: expected the keys train, test, ",
    "defenses: [none]\ndatasets: [mnist-sample]":
        "training: expected a section on how models are trained, found none",
    FILE + "models: ['net.py:Plain']": "models[0]: net.py:Plain: expected a model that torch.func can train",
    FILE + "verdicts: {leak: 2}": "verdicts.leak: expected a number <= 1, got 2",
    FILE + "verdicts: {leak: 0.5, artifacts: 0.6}": "verdicts.artifacts: expected a number in [-1, 0.5]",
    FILE + "verdicts: {leek: 0.5}": "verdicts.leek: unknown setting 'leek'; did you mean 'leak'?",
    FILE + "verdicts: 0.5": "verdicts: expected the keys leak, artifacts, got 0.5",
}  # fmt: skip
NET = """
from torch import nn

class Plain(nn.Linear):
    def __init__(self):
        super().__init__(784, 10)

    def forward(self, images):
        if images.sum() > 1e9:
            return None
        return super().forward(images.flatten(1))
"""


@pytest.mark.parametrize("text", MESSAGES)
def test_a_bad_file_is_answered_in_a_line(write, tmp_path, capsys, text):
    write("mine.yaml", text)
    write("net.py", NET)
    assert inside(tmp_path, "utility", "mine.yaml", "--out", "out") == commands.USER_ERROR
    assert f"mine.yaml: {MESSAGES[text]}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sweep_without_images_is_referred_to_utility(write, tmp_path, capsys):
    write("mine.yaml", FILE)
    assert inside(tmp_path, "sweep", "mine.yaml", "--out", "out") == commands.USER_ERROR
    assert (
        "mine.yaml: datasets: expected images or texts to attack, found none; `leakbench utility"
        in capsys.readouterr().err
    )
