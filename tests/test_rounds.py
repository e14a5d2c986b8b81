"""Recorded rounds: written and read again, in every format, and every way in which they can be wrong."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES
from leakbench.federation.defended import defend_update, gradient_defense
from leakbench.federation.rounds import Returned, new_folder, read_rounds, write_round
from leakbench.federation.setting import Setting, setting_of

SENT = {
    "conv.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    "norm.running_mean": torch.tensor([0.5]),
    "norm.num_batches_tracked": torch.tensor(3),
}
GRADIENT = torch.tensor([[1.0, 0.0], [-2.0, 4.0]])
SGD = Setting(optimizer="sgd", lr=0.5, local_steps=1, local_batch=2)


def after(gradient=GRADIENT, lr=0.5):
    """What a client has after a step: in numbers that float32 holds exactly."""
    return {
        "conv.weight": SENT["conv.weight"] - lr * gradient,
        "norm.running_mean": torch.tensor([0.75]),
        "norm.num_batches_tracked": torch.tensor(4),
    }


@pytest.fixture
def rounds(tmp_path):
    """Two rounds of two clients each."""
    folder = new_folder(tmp_path / "rounds")
    returned = {"a": Returned(after(), 2), "b": Returned(after(2 * GRADIENT), 7)}
    write_round(folder, 1, SENT, returned, SGD)
    write_round(folder, 2, SENT, returned, SGD)
    return folder


def save(path, tensors):
    if path.suffix == ".npz":
        np.savez(path, **{name: each.numpy() for name, each in tensors.items()})
    elif path.suffix == ".safetensors":
        save_file(dict(tensors), path)
    else:
        torch.save(dict(tensors), path)


def change(file, **keys):
    """Other settings in a round.json; None takes one away."""
    content = json.loads(file.read_text()) | keys
    file.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def problems_of(folder):
    with pytest.raises(UserError) as caught:
        read_rounds(folder)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_what_was_written_is_read_again(rounds, suffix):
    for path in list(rounds.glob("*/*.pt")):
        tensors = torch.load(path)
        path.unlink()
        save(path.with_suffix(suffix), tensors)
    first, second = read_rounds(rounds)
    assert (first.number, second.number) == (1, 2)
    assert first.weights.keys() == {"conv.weight"}
    assert torch.equal(first.weights["conv.weight"], SENT["conv.weight"])
    assert {name: each.tolist() for name, each in first.buffers.items()} == {
        "norm.running_mean": [0.5],
        "norm.num_batches_tracked": 3,
    }
    assert first.clients.keys() == {"a", "b"}
    a, b = first.clients.values()
    assert torch.equal(a.change["conv.weight"], -0.5 * GRADIENT)
    assert {name: each.tolist() for name, each in a.buffers.items()} == {
        "norm.running_mean": [0.75],
        "norm.num_batches_tracked": 4,
    }
    assert (a.examples, a.summed, b.examples) == (2, 1, 7)
    buffers = ("norm.running_mean", "norm.num_batches_tracked")
    assert first.setting == Setting(optimizer="sgd", lr=0.5, local_steps=1, local_batch=2, buffers=buffers)
    assert torch.equal(first.gradient("b")["conv.weight"], 2 * GRADIENT)


def test_a_round_by_hand_needs_little(tmp_path):
    """Weights, an update without buffers, and how it came about."""
    folder = tmp_path / "round-7"
    folder.mkdir()
    save(folder / "weights.npz", SENT)
    save(folder / "client-it.is-me_1.npz", {"conv.weight": -0.5 * GRADIENT})
    (folder / "round.json").write_text(
        '{"optimizer": "sgd", "lr": 0.5, "local_steps": 1, "holds": "updates"}'
    )
    (only,) = read_rounds(tmp_path)
    assert only.number == 7
    assert torch.equal(only.gradient("it.is-me_1")["conv.weight"], GRADIENT)
    assert only.clients["it.is-me_1"].buffers == {}
    assert only.clients["it.is-me_1"].examples is None


@pytest.mark.parametrize("holds", ["weights", "updates"])
def test_a_sum_of_clients_is_a_mean_gradient(tmp_path, holds):
    total = {name: 3 * each for name, each in after().items()}
    if holds == "updates":
        total["conv.weight"] = total["conv.weight"] - 3 * SENT["conv.weight"]
    setting = Setting(optimizer="sgd", lr=0.5, local_steps=1, holds=holds)
    write_round(tmp_path, 1, SENT, {"sum": Returned(total, 6, summed=3)}, setting)
    (only,) = read_rounds(tmp_path)
    assert only.clients["sum"].summed == 3
    assert torch.equal(only.clients["sum"].change["conv.weight"], 3 * -0.5 * GRADIENT)
    assert torch.equal(only.gradient("sum")["conv.weight"], GRADIENT)


def test_rate_steps_and_weight_decay_are_taken_out_of_a_gradient(tmp_path):
    lr, decay = {"conv.weight": 0.25}, {"conv.weight": 0.5}
    setting = Setting(optimizer="sgd", lr=lr, weight_decay=decay, local_steps=2)
    returned = after(2 * (GRADIENT + 0.5 * SENT["conv.weight"]), lr=0.25)
    write_round(tmp_path, 1, SENT, {"a": Returned(returned)}, setting)
    assert torch.equal(read_rounds(tmp_path)[0].gradient("a")["conv.weight"], GRADIENT)


def test_of_an_unknown_optimizer_there_are_updates_and_no_gradients(rounds):
    for file in rounds.glob("*/round.json"):
        change(file, optimizer=None, lr=None, local_steps=None)
    first = read_rounds(rounds)[0]
    assert torch.equal(first.clients["a"].change["conv.weight"], -0.5 * GRADIENT)
    with pytest.raises(UserError, match=r"^round 1: expected steps of sgd, .*, got optimizer 'unknown'$"):
        first.gradient("a")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (Setting(), "the optimizer is unknown"),
        (Setting(optimizer="adam", lr=0.1, local_steps=1), "a step of adam does not have the gradient's"),
        (Setting(optimizer="sgd", lr=0.1, local_steps=5), "the mean gradient of 5 steps"),
        (Setting(optimizer="sgd", lr=0.1, local_steps=1, momentum=0.9), "with momentum"),
        (Setting(optimizer="sgd", lr=0.1, local_steps=1, momentum={"a": 0, "b": 0.9}), "with momentum"),
    ],
)
def test_what_keeps_an_update_from_being_a_gradient_is_said(setting, words):
    (caveat,) = setting.caveats()
    assert words in caveat
    assert list(SGD.caveats()) == []


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (
            lambda folder: (folder / "weights.pt").unlink(),
            "round-001/weights: expected one file of tensors (.pt, .npz or .safetensors), found none",
        ),
        (
            lambda folder: (folder / "client-b.pt").unlink(),
            "round-001/client-b: expected one file of tensors (.pt, .npz or .safetensors), found none",
        ),
        (
            lambda folder: save(folder / "client-a.npz", after()),
            "round-001/client-a: expected one file of tensors (.pt, .npz or .safetensors), found"
            " client-a.pt, client-a.npz",
        ),
        (
            lambda folder: (folder / "client-a.pt").write_bytes(b"nothing of the kind"),
            "round-001/client-a.pt: expected tensors written by torch.save, got UnpicklingError",
        ),
        (
            lambda folder: torch.save([torch.ones(1)], folder / "client-a.pt"),
            "round-001/client-a.pt: expected a dict {name: tensor}, got list",
        ),
        (
            lambda folder: torch.save({"model": {}, "epoch": 3}, folder / "client-a.pt"),
            "round-001/client-a.pt: model and 1 more: expected tensors by name, found something else",
        ),
        (
            lambda folder: save(folder / "client-a.pt", after(GRADIENT / 0)),
            "round-001/client-a.pt: conv.weight: expected finite numbers, found NaN or infinity",
        ),
        (
            lambda folder: save(folder / "client-a.pt", {"norm.running_mean": torch.ones(1)}),
            "round-001/client-a: conv.weight: expected this tensor, as in weights, found none",
        ),
        (
            lambda folder: save(folder / "client-a.pt", after() | {"head.bias": torch.ones(1)}),
            "round-001/client-a: head.bias: expected only tensors that weights has, and it has no such one",
        ),
        (
            lambda folder: save(folder / "client-a.pt", after() | {"conv.weight": torch.ones(3)}),
            "round-001/client-a: conv.weight: expected shape (2, 2), as in weights, got (3,)",
        ),
        (
            lambda folder: save(folder / "client-a.pt", {"conv.weight": torch.ones(2, 2, dtype=torch.long)}),
            "round-001/client-a: conv.weight: expected torch.float32, as in weights, got torch.int64",
        ),
        (
            lambda folder: (folder / "round.json").unlink(),
            "round-001/round.json: no such file; one that holds {} says that nothing is known",
        ),
        (
            lambda folder: (folder / "round.json").write_text("{"),
            "round-001/round.json: expected JSON, got Expecting property name",
        ),
        (
            lambda folder: (folder / "round.json").write_text("[]"),
            'round-001/round.json: expected {"optimizer": ..., "clients": {NAME: {...}}}',
        ),
        (
            lambda folder: change(folder / "round.json", clients=["a"]),
            'round-001/round.json: expected {"optimizer": ..., "clients": {NAME: {...}}}',
        ),
        (
            lambda folder: change(folder / "round.json", clients={"a": 2}),
            'round-001/round.json: clients.a: expected {"examples": ..., "summed": ...}, got 2',
        ),
        (
            lambda folder: change(folder / "round.json", clients={"a": {"examples": "2"}}),
            "round-001/round.json: clients.a: examples: expected a whole number, got '2'",
        ),
        (
            lambda folder: change(folder / "round.json", clients={"a": {"summed": 0}}),
            "round-001/round.json: clients.a: summed: expected a whole number >= 1, got 0",
        ),
        (
            lambda folder: change(folder / "round.json", lr=None),
            "round-001/round.json: lr: expected a number > 0 with the optimizer sgd, got none; without it say"
            ' "optimizer": "unknown", and no gradient can be taken of an update',
        ),
        (
            lambda folder: change(folder / "round.json", local_steps=None),
            "round-001/round.json: local_steps: expected a number > 0 with the optimizer sgd, got none",
        ),
        (
            lambda folder: change(folder / "round.json", lr="fast"),
            "round-001/round.json: lr: expected a number or a number for each name, got 'fast'",
        ),
        (
            lambda folder: change(folder / "round.json", lr={"conv.weight": -1}),
            "round-001/round.json: lr: expected a number > 0, got -1",
        ),
        (
            lambda folder: change(folder / "round.json", lr={"head.weight": 1}),
            "round-001/round.json: lr: expected a number for conv.weight, found none",
        ),
        (
            lambda folder: change(folder / "round.json", local_batch=0),
            "round-001/round.json: local_batch: expected a whole number >= 1, got 0",
        ),
        (
            lambda folder: change(folder / "round.json", momentum=1.0),
            "round-001/round.json: momentum: expected a number in [0, 1), got 1.0",
        ),
        (
            lambda folder: torch.save({0: torch.ones(1)}, folder / "client-a.pt"),
            "round-001/client-a.pt: 0: expected tensors by name, found something else",
        ),
        (
            lambda folder: change(folder / "round.json", holds="gradients"),
            "round-001/round.json: holds: expected one of weights, updates, got 'gradients'",
        ),
        (
            lambda folder: change(folder / "round.json", learning_rate=0.1),
            "round-001/round.json: learning_rate: unknown setting 'learning_rate'",
        ),
        (
            lambda folder: change(folder / "round.json", buffers=["norm.runing_mean"]),
            "round-001/round.json: buffers: expected names of tensors that were sent, got norm.runing_mean",
        ),
        (
            lambda folder: change(folder / "round.json", buffers=[]),
            "round-001/round.json: buffers: expected norm.num_batches_tracked among them: whole numbers are"
            " not trained",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_round_is_a_line(rounds, damage, text):
    damage(rounds / "round-001")
    found = problems_of(rounds)
    assert any(problem.startswith(text) for problem in found), found


def test_all_problems_are_said_at_once(rounds):
    (rounds / "round-001" / "client-a.pt").unlink()
    change(rounds / "round-001" / "round.json", lr=-1)
    save(rounds / "round-002" / "client-b.pt", after(GRADIENT / 0))
    found = problems_of(rounds)
    assert [problem.partition(":")[0] for problem in found] == [
        "round-001/round.json", "round-001/client-a", "round-002/client-b.pt"
    ]  # fmt: skip


def test_rounds_of_two_models_do_not_go_together(rounds):
    other = {"fc.weight": torch.ones(2)}
    write_round(rounds, 3, other, {"a": Returned(other)}, SGD)
    found = problems_of(rounds)
    first = "round-003: conv.weight: expected this tensor, as in "
    assert found[0].startswith(first)
    assert found[0].endswith("round-001, found none")
    assert found[1].startswith("round-003: fc.weight: expected only tensors that ")
    assert len(found) == 2


def test_a_folder_without_rounds_or_without_clients(tmp_path):
    (line,) = problems_of(tmp_path)
    assert line.endswith("expected folders round-001, round-002, ..., found none")
    write_round(tmp_path, 1, SENT, {}, SGD)
    assert problems_of(tmp_path) == ["round-001: expected a file client-NAME.pt for each client, found none"]


def test_a_round_has_one_folder(rounds):
    (rounds / "round-1").mkdir()
    (line,) = problems_of(rounds)
    assert re.search("expected one folder for each round, found round-(1|001) of the same number$", line)


def test_a_recording_starts_in_a_folder_of_its_own(rounds, tmp_path):
    with pytest.raises(UserError, match="expected a new or empty folder, found recorded rounds"):
        new_folder(rounds)
    with pytest.raises(UserError, match=r"^client '\.\./a': expected a name of letters"):
        write_round(tmp_path, 1, SENT, {"../a": Returned(after())}, SGD)
    with pytest.raises(UserError, match="round-002: expected a round that is not recorded yet"):
        write_round(rounds, 2, SENT, {"a": Returned(after())}, SGD)
    assert sorted(path.name for path in rounds.iterdir()) == ["round-001", "round-002"]


def test_settings_are_checked_with_all_their_problems():
    with pytest.raises(UserError) as caught:
        setting_of("Recording", {"optimizer": "sgd", "lr": 0, "local_stepps": 1})
    assert caught.value.problems == [
        "Recording: local_stepps: unknown setting 'local_stepps'; did you mean 'local_steps'?"
        f" known: {', '.join(Setting().settings())}"
    ]
    with pytest.raises(SettingError, match="lr: expected a number > 0, got 0"):
        Setting(optimizer="sgd", lr=0, local_steps=1)


def test_a_defense_is_applied_at_the_scale_of_a_gradient():
    """Of five steps at 0.1: half of the entries are pruned, and the rest is sent as it was."""
    update = {"conv.weight": SENT["conv.weight"] - 0.1 * 5 * GRADIENT}
    returned = after() | update
    shared = defend_update(gradient_defense("prune(ratio=0.5)"), SENT, returned, 0.1, 5, torch.Generator())
    kept = torch.tensor([[0.0, 0.0], [-2.0, 4.0]])
    torch.testing.assert_close(shared["conv.weight"], SENT["conv.weight"] - 0.5 * kept)
    assert list(shared) == list(returned)
    assert all(torch.equal(shared[name], returned[name]) for name in shared if name.startswith("norm"))
    noisy = defend_update(
        DEFENSES.parse("gaussian(std=2)"), {"w": torch.zeros(100_000)}, {"w": torch.zeros(100_000)}, 0.1, 5,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert float(noisy["w"].std()) == pytest.approx(0.1 * 5 * 2, rel=0.01)
    alone = defend_update(DEFENSES.parse("none"), SENT, returned, 0.1, 5, torch.Generator())
    assert torch.equal(alone["conv.weight"], returned["conv.weight"])


def test_a_defense_has_to_act_on_gradients(write):
    with pytest.raises(UserError, match="^defense: unknown defense 'prun'; did you mean 'prune'"):
        gradient_defense("prun(ratio=0.5)")
    text = (
        "from dataclasses import dataclass\nfrom leakbench import Defense\n\n@dataclass(frozen=True)\n"
        "class Flip(Defense):\n    def change_batch(self, images, labels, generator):\n"
        "        return images.flip(-1), labels\n"
    )
    with pytest.raises(UserError, match="expected a defense that changes gradients alone.*change_batch$"):
        gradient_defense(f"{write('flip.py', text)}:Flip")
