"""An audit of recorded rounds, with and without the true images; and what becomes of rows without truth."""

import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from made_up import settings, table
from running import NET, stored
from torch.nn import functional

import leakbench
from leakbench import commands
from leakbench.bench.datasets import DATASETS, Recorded, open_dataset
from leakbench.bench.verdicts import Scale
from leakbench.core.configured import SettingError
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import Setting
from leakbench.reports.flags import Flag
from leakbench.reports.recorded import Update, sentences
from leakbench.reports.run import Run
from leakbench.reports.selection import counted, strongest
from leakbench.sweeps.plan import plan_of
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TRIALS

FOLDER = Path("rounds")  # in the test's own folder
LR = 0.1
SGD = Setting(optimizer="sgd", lr=LR, local_steps=1)
UNKNOWN = ["--shape", "1x28x28", "--classes", "10"]
KNOWN = ["--data", "mnist-sample", "--index", "0"]  # the images of the updates follow one another
DLG = ["--attack", "dlg(steps=60)", "--restarts", "2"]
SHORT = ["--attack", "dlg(steps=2)"]


def add_round(number, counts, network, setting=SGD):
    """A round in which each client takes a step on digits of its own; the network becomes the last one's."""
    images = open_dataset(DATASETS.parse("mnist-sample"), None)
    returned, first = {}, (number - 1) * sum(counts.values())
    for name, count in counts.items():
        own = deepcopy(network)
        batch, labels = images.batch(range(first, first + count))
        functional.cross_entropy(own(batch), labels).backward()
        torch.optim.SGD(own.parameters(), lr=LR).step()
        returned[name], first = Returned(own.state_dict(), count), first + count
    write_round(FOLDER, number, network.state_dict(), returned, setting)


def make_network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 32), torch.nn.Sigmoid(), torch.nn.Linear(32, 10)
    )


@pytest.fixture
def rounds(tmp_path, monkeypatch, without_rehearsal):
    """Two rounds of the clients a, with one image, and b, with two."""
    monkeypatch.chdir(tmp_path)
    open_dataset.cache_clear()  # its paths are relative to this folder
    (tmp_path / "net.py").write_text(NET)
    new_folder(FOLDER)
    for number in (1, 2):
        add_round(number, {"a": 1, "b": 2}, make_network(number))
    return tmp_path


def audit(*arguments):
    typed = ["audit", "rounds", "--model", "net.py:Net", *arguments, "--executor", "inline"]
    return leakbench.main(typed)


def finished(name="runs/audit-rounds"):
    return Run(Store.existing(Path(name)))


def test_every_client_of_every_round_is_attacked(rounds, capsys):
    assert audit(*KNOWN, *DLG) == 0
    output = capsys.readouterr().out
    updates = finished().updates
    assert [each.name for each in updates] == [f"round {r}, client {c}" for r in (1, 2) for c in "ab"]
    assert [each.images for each in updates] == [1, 2, 1, 2]
    images = open_dataset(DATASETS.parse("mnist-sample"), rounds)
    for number, each in enumerate(updates):
        first = number // 2 * 3 + number % 2
        for own, original in enumerate(each.originals):
            np.testing.assert_allclose(original, images[first + own][0], atol=2**-11)
        if each.verdict == "leak":
            assert each.labels == [images[first + own][1] for own in range(each.images)]
            assert each.matches
    leaked = sum(each.verdict == "leak" for each in updates)
    assert leaked >= 2
    assert output.splitlines()[-1].startswith(f"{leaked} of 4 updates were rebuilt (SSIM 0.9 or more).")
    page = (rounds / "runs/audit-rounds/report.html").read_text()
    for each in updates:
        assert f'<th scope="row" class="name">{each.name}</th>' in page
        assert f"<td>{each.ssim:.3f}</td>" in page
    assert page.count('src="data:image/png') == 8
    assert "Defenses</h3>" not in page


def test_without_the_truth_a_match_is_all_that_is_said(rounds, capsys):
    assert audit(*KNOWN, *DLG) == 0
    assert audit(*UNKNOWN, *DLG, "--out", "blind") == 0
    output = capsys.readouterr().out
    known, unknown = finished(), finished("blind")
    for one, other in zip(known.updates, unknown.updates, strict=True):
        assert other.of_norm == one.of_norm  # the truth changes nothing of what is found
        assert sorted(other.labels) == sorted(one.labels)
        assert np.isnan(other.ssim)
        assert (other.verdict, other.originals) == ("", [])
        assert len(other.rebuilt) == other.images
    matched = sum(each.of_norm <= 1e-4 for each in unknown.updates)
    assert matched >= 2
    last = output.splitlines()[-1]
    assert last.startswith(f"For {matched} of 4 updates, the images that an attack found match the gradient")
    assert "do not say whether they were rebuilt" in last
    assert unknown.settings == []
    blind, seen = (yaml.safe_load(each.manifest["text"]) for each in (unknown, known))
    assert blind["exhaustive"]  # no attack waits for scores that never come
    assert "exhaustive" not in seen
    page = (rounds / "blind/report.html").read_text()
    assert page.count('src="data:image/png') == 4
    assert 'class="leak"' not in page
    assert 'class="no-leak"' not in page


def test_reports_of_such_a_run_are_written_again(rounds, capsys):
    assert audit(*UNKNOWN, *SHORT) == 0
    for verb in ("report", "figures", "csv", "export", "rows", "status"):
        assert leakbench.main([verb, "runs/audit-rounds"]) == 0
    run = rounds / "runs/audit-rounds"
    assert {path.name for path in (run / "figures").iterdir()} == {
        "round-1-a.png", "round-1-b.png", "round-2-a.png", "round-2-b.png",
    }  # fmt: skip
    assert not (run / "export/defenses.csv").exists()
    assert len(pd.read_csv(run / "trials.csv")) == 4


def test_a_round_that_comes_later_adds_rows_and_changes_none(rounds, capsys):
    assert audit(*UNKNOWN, *SHORT, "--rounds", "2") == 0
    before = stored(rounds / "runs/audit-rounds")
    assert len(before) == 2
    assert audit(*UNKNOWN, *SHORT) == 0
    add_round(3, {"a": 1, "b": 2}, make_network(3))
    open_dataset.cache_clear()
    capsys.readouterr()
    assert audit(*UNKNOWN, *SHORT) == 0
    assert "4 trials are there already, 2 to run" in capsys.readouterr().out
    after = stored(rounds / "runs/audit-rounds")
    kept = after[after["key"].isin(before["key"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)


def add_updates(number, train, setting, counts):
    """A round in which each client trains on digits of its own, by `train(network, images, labels)`."""
    images, network, returned, first = (
        open_dataset(DATASETS.parse("mnist-sample"), None),
        make_network(9),
        {},
        0,
    )
    for name, count in counts.items():
        own = deepcopy(network)
        train(own, *images.batch(range(first, first + count)))
        returned[name], first = Returned(own.state_dict(), count), first + count
    write_round(FOLDER, number, network.state_dict(), returned, setting)


def steps_of(optimizer, count):
    def train(network, images, labels):
        own = optimizer(network.parameters(), lr=LR)
        for _ in range(count):
            own.zero_grad()
            functional.cross_entropy(network(images), labels).backward()
            own.step()

    return train


@pytest.mark.parametrize(
    ("setting", "train", "attack", "protocol", "least"),
    [
        (Setting(optimizer="sgd", lr=LR, local_steps=5), steps_of(torch.optim.SGD, 5), "unrolled(steps=60)",
         "fedavg(local_steps=5, lr=0.1)", 0.9),
        (Setting(optimizer="adam", lr=LR, local_steps=1), steps_of(torch.optim.Adam, 1), "adaptive(steps=60)",
         "fedavg(lr=0.1, optimizer=adam)", 0.5),
    ],
    ids=["five steps", "a step of Adam"],
)  # fmt: skip
def test_an_update_is_attacked_as_what_it_is(rounds, setting, train, attack, protocol, least):
    add_updates(3, train, setting, {"a": 1})
    known = ["--data", "mnist-sample", "--index", "0,1,1,3,0"]
    assert audit(*known, "--rounds", "3", "--attack", attack) == 0
    (row,) = finished().rows.to_dict("records")
    assert row["protocol"] == protocol
    assert row["ssim"] > least


def test_rounds_with_other_steps_are_other_victims(rounds):
    add_updates(3, steps_of(torch.optim.SGD, 2), Setting(optimizer="sgd", lr=LR, local_steps=2), {"a": 1})
    assert audit(*UNKNOWN, *SHORT) == 0
    counts = finished().rows["protocol"].value_counts().to_dict()
    assert counts == {"fedsgd": 2, "fedsgd(batch_size=2)": 2, "fedavg(local_steps=2, lr=0.1)": 1}


def test_rows_without_truth_outlive_a_repair(rounds):
    assert audit(*UNKNOWN, *SHORT) == 0
    store = finished().store
    with store.lock():
        assert len(store.rows()) == 4
    keys = list(store.rows()["key"])
    records = store.records(TRIALS, keys)
    assert {record.row["key"] for record in records} == set(keys)
    assert all(record.others["originals"] == [] for record in records)


def test_what_is_unknown_is_attacked_by_every_attack(rounds, capsys):
    """With the truth known, what has leaked is spared the second attack."""
    sweep = """
datasets: [{{name: recorded, path: rounds, shape: [1, 28, 28], classes: 10, indices: 0{}}}]
models: ['net.py:Net']
attacks: [linear, dlg(steps=2)]
defenses: [none]
exhaustive: false
"""
    for name, truth in (("blind", ""), ("known", ", truth: mnist-sample, truth_indices: [0, 3]")):
        file = rounds / f"{name}.yaml"
        file.write_text(sweep.format(truth))
        assert leakbench.main(["sweep", str(file), "--executor", "inline", "--no-figures"]) == 0
    assert finished("runs/known").updates[0].verdict == "leak"
    assert list(finished("runs/known").rows["attack"]) == ["linear"]
    assert set(finished("runs/blind").rows["attack"]) == {"linear", "dlg(steps=2)"}
    read, _ = read_sweep(rounds / "blind.yaml")
    assert len(plan_of(read, finished("runs/blind").store)) == 0


def test_rows_without_truth_are_never_a_verdict():
    cells = [("none", i, 0, 1e-9, 0.95) for i in range(10)]
    cells += [("int8", i, 0, 1e-9, 0.1) for i in range(10)]
    blind = table(*cells).assign(ssim=np.nan, score=np.nan, psnr=np.nan, mse=np.nan)
    (setting,) = settings(blind)
    assert list(setting.lines["verdict"]) == ["", ""]
    assert list(setting.lines["images"]) == [0, 0]
    assert list(setting.lines["excluded"]) == [0, 0]  # which would say that nothing leaked
    assert not {Flag.BASELINE_FAILED, Flag.LOSS_IMAGE_DISAGREE} & {each.flag for each in setting.raised}
    assert counted(setting.best).empty


def test_without_truth_the_strongest_is_what_an_attacker_would_choose():
    rows = table(*(("none", 0, start, loss, 0.5) for start, loss in enumerate((3.0, 1.0, 2.0))))
    rows = rows.assign(attack=["a", "b", "c"], start=0)
    blind = rows.assign(ssim=np.nan, score=np.nan)
    for likely, expected in (([3.0, 2.0, 1.0], "c"), ([np.nan, np.nan, np.nan], "b")):
        (best,) = strongest(blind.assign(neg_log_posterior=likely), Scale())["attack"]
        assert best == expected
    (best,) = strongest(rows.assign(score=[0.2, 0.1, 0.9]), Scale())["attack"]
    assert best == "c"


def test_each_sentence_counts_only_what_it_is_about():
    known = Update(
        round=1, client="a", images=1, defense="none", attack="dlg", reason="", of_norm=1e-9, labels=[3],
        ssim=0.95, verdict="leak", rebuilt=[], originals=[],
    )  # fmt: skip
    hidden = replace(known, ssim=0.1, verdict="no leak")
    matched = replace(known, ssim=np.nan, verdict="")
    apart, silent = replace(matched, of_norm=0.5), replace(matched, of_norm=np.nan)
    failed = replace(matched, attack="", reason="why")
    texts = list(sentences([known, hidden, matched, apart, silent, failed], Scale()))
    assert [re.findall(r"(\d) of (\d)", text) for text in texts] == [[("1", "2")], [("1", "3")], [("1", "6")]]
    pruned = [replace(each, defense="prune(ratio=0.5)") for each in (known, hidden)]
    texts = list(sentences([known, *pruned], Scale()))
    assert [text.partition(":")[0] for text in texts] == ["none", "prune(ratio=0.5)"]


def test_more_images_than_an_attack_can_take_are_a_line(rounds, capsys):
    change(1, clients={"a": {"examples": 50_000}, "b": {"examples": 2}})
    assert audit(*UNKNOWN) == commands.USER_ERROR
    text = "round.json: client a: batch_size: expected a whole number in [1, 10000], got 50000"
    assert text in capsys.readouterr().err


def test_batches_that_do_not_divide_the_images_are_said(rounds, capsys):
    uneven = Setting(optimizer="sgd", lr=LR, local_steps=3, local_batch=2)
    add_updates(3, steps_of(torch.optim.SGD, 3), uneven, {"a": 5})
    assert audit(*UNKNOWN, *SHORT, "--rounds", "3") == 0
    output = capsys.readouterr().out
    assert "note: 5 images do not divide into batches of 2; the attacks use all of them" in output


def test_notes_say_what_keeps_an_update_from_being_a_gradient(rounds, capsys):
    several = Setting(optimizer="sgd", lr=LR, local_steps=2, local_batch=1, momentum=0.9)
    add_round(3, {"a": 1}, make_network(3), several)
    assert audit(*UNKNOWN, *SHORT, "--rounds", "3", "--examples", "1") == 0
    output = capsys.readouterr().out
    assert output.count("note: an update is the mean gradient of 2 steps, each at other weights") == 1
    assert output.count("note: with momentum an update holds the gradients of earlier steps, too") == 1
    page = (rounds / "runs/audit-rounds/report.html").read_text()
    assert "with momentum an update holds the gradients of earlier steps, too" in page


def change(number, **keys):
    file = FOLDER / f"round-00{number}" / "round.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "expected --data NAME, or --shape CxHxW"),
        ([*UNKNOWN, "--rounds", "2-3"], "--rounds: expected some of 1, 2, as in rounds, got 3"),
        ([*UNKNOWN, "--rounds", "x"], "--rounds: expected whole numbers in"),
        (["--data", "mnist-sample", "--index", "0-2"], "--index: expected one number, or 4, one for each"),
        (["--data", "mnist-sample", "--index", "x"], "--index: expected whole numbers in"),
        (["--data", "mnist-sample", "--index", "18"], "datasets[0]: truth_indices: expected 0..19, got 21"),
        (["--shape", "1x14x14", "--classes", "10"], "1.weight: expected shape (32, 196), got (32, 784)"),
        ([*UNKNOWN, "--attack", "dlg", "--suite", "standard"], "--suite: expected a suite or --attack, got"),
        ([*UNKNOWN, "--attack", "dlgg"], "--attack: unknown attack 'dlgg'"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_explained(rounds, capsys, arguments, text):
    assert audit(*arguments) == commands.USER_ERROR
    assert text in capsys.readouterr().err


def test_rounds_that_cannot_be_attacked_are_explained(rounds, capsys):
    change(1, clients={})
    assert audit(*UNKNOWN) == commands.USER_ERROR
    found = capsys.readouterr().err
    assert re.match(
        r"rounds/round-001/round.json: client a: expected `examples`, or .* pass --examples N", found
    )
    change(1, optimizer="rmsprop")
    assert audit(*UNKNOWN, "--examples", "1") == commands.USER_ERROR
    text = "round 1: expected steps of sgd or adam, to take a gradient of what came back, got optimizer"
    assert f"{text} 'rmsprop'" in capsys.readouterr().err
    change(1, optimizer="adam", lr=None)
    assert audit(*UNKNOWN, "--examples", "1") == commands.USER_ERROR
    assert "lr: expected a number > 0 with the optimizer adam, got none" in capsys.readouterr().err
    (FOLDER / "round-001/client-a.pt").unlink()
    change(1, optimizer="sgd", lr=LR, clients={"a": {"examples": 1}})
    assert audit(*UNKNOWN, "--examples", "1") == commands.USER_ERROR
    assert "client-a: expected one file of tensors" in capsys.readouterr().err
    assert leakbench.main(["audit", "nowhere", "--model", "mlp", *UNKNOWN]) == commands.USER_ERROR
    assert capsys.readouterr().err == "nowhere: expected a folder of recorded rounds, found none\n"


PLAIN = {"path": "rounds", "shape": [1, 28, 28], "classes": 10}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"path": ""}, "path: expected either a path, or all of before, after and lr"),
        ({"before": "net.py"}, "path: expected either a path, or all of before, after and lr"),
        ({"path": "nowhere"}, "path: nowhere: no such file"),
        ({"shape": [28, 28]}, "of an image, or [tokens] of the longest text, got [28, 28]"),
        ({"classes": 1}, "classes: expected a whole number >= 2, got 1"),
        ({"protocol": "fedsgd(batch_size=0)"}, "batch_size: expected a whole number in [1, 10000], got 0"),
        ({"protocol": "fedsdg"}, "unknown protocol 'fedsdg'"),
        (
            {"path": "", "before": "net.py", "after": "net.py", "lr": 0.1, "protocol": "fedavg(lr=0.2)"},
            "protocol: expected lr=0.1 in it, as `lr` says, got fedavg(lr=0.2)",
        ),
        ({"truth": "mnist-sample"}, "truth: expected a dataset and truth_indices of it, or neither"),
    ],
)
def test_settings_that_cannot_be_are_explained(rounds, settings, text):
    with pytest.raises(SettingError) as caught:
        Recorded(**(PLAIN | settings))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            "protocol: fedavg(local_steps=3)",
            "datasets[0]: rounds: expected updates made by fedavg(local_steps=3) (`protocol`), found only"
            " fedsgd; fedsgd(batch_size=2)",
        ),
        (
            "protocol: fedsgd(batch_size=2)",
            "datasets[0]: expected fedsgd(batch_size=2) among the protocols, as its `protocol` says, got",
        ),
        ("truth: mnist-sample, truth_indices: [0]", "truth_indices: expected 2, one for each update, got 1"),
        ("truth: cifar10-sample, truth_indices: [0, 1]", "truth: expected images of `shape` and `classes`"),
        ("indices: 2", "datasets[0].indices: expected 0..1, got 2"),
    ],
)
def test_a_sweep_file_that_does_not_fit_is_explained(rounds, capsys, changes, text):
    (rounds / "own.yaml").write_text(
        f"datasets: [{{name: recorded, path: rounds, shape: [1, 28, 28], classes: 10, {changes}}}]\n"
        "models: ['net.py:Net']\nattacks: [dlg]\ndefenses: [none]\n"
    )
    assert leakbench.main(["sweep", "own.yaml"]) == commands.USER_ERROR
    assert text in capsys.readouterr().err


def test_an_update_begins_where_the_images_of_the_one_before_end(rounds, capsys):
    (rounds / "own.yaml").write_text(
        "datasets: [{name: recorded, path: rounds, shape: [1, 28, 28], classes: 10,"
        " protocol: fedsgd(batch_size=2), indices: 1}]\n"
        "models: ['net.py:Net']\nattacks: [dlg]\ndefenses: [none]\nprotocols: [fedsgd(batch_size=2)]\n"
    )
    assert leakbench.main(["sweep", "own.yaml"]) == commands.USER_ERROR
    assert (
        "datasets[0].indices: expected multiples of 2, the images behind each update, got 1"
        in capsys.readouterr().err
    )


def test_images_that_are_unknown_cannot_be_read(rounds):
    images = Recorded(**PLAIN).open(rounds)
    assert not images.known
    assert len(images) == 2
    with pytest.raises(SettingError, match="the images behind a recorded update are unknown"):
        images[0]
