"""Saved gradients and recorded rounds of language models: whose words they give away, known or not."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from torch.nn import functional

import leakbench
from leakbench import commands
from leakbench.bench.datasets import DATASETS, Recorded, open_dataset
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.models import MODELS
from leakbench.bench.models.bert import load_transformers
from leakbench.bench.vocabulary import SPECIAL
from leakbench.core.configured import SettingError
from leakbench.reports.run import Run
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

pytestmark = pytest.mark.numeric

TEXT = "we the people fleet army peace of in year and is strong was long no war this a new ##ly"
WORDS = TEXT.split()
PIECES = [*SPECIAL, *WORDS, *(f"other{number}" for number in range(3000))]  # most pieces occur in no text
LINES = [
    "1\tthe army of the people is strong",
    "0\tthis was a long year of peace",
    "1\twe the people in peace and in war",
    "0\tno war is newly new",
    "1\tthe fleet and the army and the fleet",
    "0\tpeace was in the people",
]
MINE = 'text(path=mine.txt, vocabulary="pieces.txt")'
TINY = "bert(depth=2, hidden=64, heads=2, longest=32"
MODEL = {"classification": f"{TINY})", "mlm": f"{TINY}, task=mlm)"}
READ = ["--attack", "rows", "--attack", "span", "--restarts", "1", "--executor", "inline"]
UNKNOWN = ["--shape", "16", "--classes", "2", "--vocabulary", "pieces.txt"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A user's folder: texts, a vocabulary, and what networks share of the third text."""
    monkeypatch.chdir(tmp_path)
    open_dataset.cache_clear()  # its paths are relative to this folder
    Path("mine.txt").write_text("\n".join(LINES) + "\n")
    Path("pieces.txt").write_text("\n".join(PIECES) + "\n")
    source = texts()
    for task, name in MODEL.items():
        model = MODELS.parse(name)
        network = model.build(source.shape, source.classes, 7)
        torch.save(network.state_dict(), f"{task}-weights.pt")
        inputs, answers = model.given(source, *source.batch([2]), [("mine", 2)])
        torch.save(shared_gradient(network, inputs, answers), f"{task}.pt")
    return tmp_path


def texts():
    return open_dataset(DATASETS.parse(MINE), None)


def line(index):
    """The words of a line, as they are shown."""
    return " ".join(texts().vocabulary.words(texts()[index][0].tolist()))


def weighted(task):
    return MODEL[task].replace("(", f"(weights=checkpoint:{task}-weights.pt, ")


def attack(task, *arguments):
    typed = ["attack", "--gradient", f"{task}.pt", "--model", weighted(task), *arguments]
    return leakbench.main([*typed, *READ])


@pytest.mark.parametrize("task", MODEL)
def test_the_text_behind_a_gradient_is_found_and_scored(here, capsys, task):
    assert attack(task, "--data", MINE, "--index", "2", "--exhaustive") == 0
    rows = pd.read_csv(f"runs/attack-{task}/trials.csv")
    assert list(rows["exact"]) == list(rows["rouge_l"]) == [1, 1]
    assert rows["label_correct"].all() or task == "mlm"  # which words were hidden was not recorded
    output = capsys.readouterr().out
    assert f"\n{task}: {line(2)}\n" in output
    assert "1 of 1 update was rebuilt (ROUGE-L 0.9 or more)" in output
    page = Path(f"runs/attack-{task}/report.html").read_text()
    assert page.count(f"<p>{line(2)}</p>") == 2  # what was rebuilt, and the original
    assert '<td class="leak">leak</td>' in page
    assert Path(f"runs/attack-{task}/figures/{task}.txt").read_text() == 2 * f"{line(2)}\n"
    assert f"text     runs/attack-{task}/figures/{task}.txt" in output


@pytest.mark.parametrize("task", MODEL)
def test_without_the_text_there_are_its_words_and_no_score(here, capsys, task):
    assert attack(task, *UNKNOWN) == 0
    rows = pd.read_csv(f"runs/attack-{task}/trials.csv")
    scores = ["score", "rouge_l", "exact", "bag_recall", "label_true", "label_correct"]
    assert rows[scores].isna().all(axis=None)
    output = capsys.readouterr().out
    assert f"\n{task}: {line(2)}\n" in output
    assert "For 1 of 1 update, the texts that an attack found match the gradient" in output
    page = Path(f"runs/attack-{task}/report.html").read_text()
    assert page.count(f"<p>{line(2)}</p>") == 1
    assert "ROUGE-L</th>" not in page
    (update,) = Run(Store.existing(Path(f"runs/attack-{task}"))).updates
    assert update.labels_read == {"classification": "1", "mlm": "1 hidden word"}[task]
    assert f"<td>{update.labels_read}</td>" in page
    for verb in ("report", "figures", "csv", "export", "rows", "status"):
        assert leakbench.main([verb, f"runs/attack-{task}"]) == 0


def test_the_truth_changes_nothing_of_what_is_found(here):
    assert attack("mlm", "--data", MINE, "--index", "2", "--exhaustive", "--out", "known") == 0
    assert attack("mlm", "--data", MINE, "--out", "unknown") == 0
    columns = ["attack", "status", "match_loss", "label_recovered", "neg_log_posterior"]
    known, unknown = (pd.read_csv(f"{name}/trials.csv")[columns] for name in ("known", "unknown"))
    pd.testing.assert_frame_equal(known, unknown)


def test_what_has_to_be_told_labels_is_skipped_where_nobody_knows_them(here, capsys):
    model = ["--gradient", "mlm.pt", "--model", weighted("mlm"), "--executor", "inline"]
    assert leakbench.main(["attack", *model, "--data", MINE, "--index", "2", "--restarts", "1"]) == 0
    told = "it has to be told what is not known of a recorded update: labels"
    output = capsys.readouterr().out
    for name in ("likeliest", "dlg-text", "tag"):
        assert re.search(rf"note: {name} is skipped on bert.*: {told}\n", output)
    known = ["attack", *model, "--data", MINE, "--index", "2", "--attack", "dlg-text"]
    assert leakbench.main(known) == commands.USER_ERROR
    assert told in capsys.readouterr().err
    assert attack("classification", *UNKNOWN, "--attack", "tag") == commands.USER_ERROR
    assert f"{told} and length" in capsys.readouterr().err


def test_of_a_known_text_labels_and_length_can_be_told(here):
    known = ["--data", MINE, "--index", "2", "--attack", "dlg-text(steps=2)", "--exhaustive"]
    assert attack("classification", *known) == 0
    rows = pd.read_csv("runs/attack-classification/trials.csv").set_index("attack")
    assert rows.loc["dlg-text(steps=2)", "threat"] == "labels, length"


def test_a_step_of_sgd_is_a_gradient(here):
    model, source = MODELS.parse(MODEL["classification"]), texts()
    network = model.build(source.shape, source.classes, 7)
    torch.save(network.state_dict(), "before.pt")
    tokens, labels = source.batch([4])
    functional.cross_entropy(network(tokens), labels).backward()
    torch.optim.SGD(network.parameters(), lr=0.5).step()
    torch.save(network.state_dict(), "after.pt")
    step = ["attack", "--before", "before.pt", "--after", "after.pt", "--lr", "0.5"]
    known = ["--model", MODEL["classification"], "--data", MINE, "--index", "4"]
    assert leakbench.main([*step, *known, *READ]) == 0
    rows = pd.read_csv("runs/attack-after/trials.csv")
    assert rows["exact"].max() == 1


def test_a_gradient_of_a_network_of_transformers_fits_by_name(here):
    config = load_transformers().BertConfig(
        vocab_size=len(PIECES), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    network = load_transformers().BertForSequenceClassification(config)
    network.save_pretrained("saved")
    tokens, labels = texts().batch([0])
    network(input_ids=tokens, labels=labels).loss.backward()
    torch.save({name: each.grad for name, each in network.named_parameters()}, "shared.pt")
    model = ["--gradient", "shared.pt", "--model", "bert(weights=folder:saved)"]
    assert leakbench.main(["attack", *model, "--data", MINE, "--index", "0", *READ]) == 0
    assert pd.read_csv("runs/attack-shared/trials.csv")["exact"].max() == 1


# an audit


def train(task, folder="rounds", rounds=3):
    """Train on one text after the other, and record every step."""
    model, source = MODELS.parse(MODEL[task]), texts()
    network = model.build(source.shape, source.classes, 1).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with leakbench.record(network, optimizer, folder, batch_size=1):
        for index in range(rounds):
            optimizer.zero_grad()
            inputs, answers = model.given(source, *source.batch([index]), [("mine", index)])
            functional.cross_entropy(network(inputs), answers).backward()
            optimizer.step()


@pytest.mark.parametrize("task", MODEL)
def test_every_text_of_a_recorded_training_is_found(here, capsys, task):
    train(task)
    typed = ["audit", "rounds", "--model", MODEL[task], "--data", MINE, "--index", "0"]
    assert leakbench.main([*typed, *READ]) == 0
    run = Run(Store.existing(Path("runs/audit-rounds")))
    assert [each.name for each in run.updates] == [f"round {number}, client 0" for number in (1, 2, 3)]
    assert [(each.ssim, each.verdict, each.images) for each in run.updates] == 3 * [(1, "leak", 1)]
    output = capsys.readouterr().out
    for index in range(3):
        assert f"round {index + 1}, client 0: {line(index)}\n" in output
    assert "3 of 3 updates were rebuilt (ROUGE-L 0.9 or more)" in output
    assert "buffers" not in output  # the decoder of a masked model is its word embedding by another name


def test_without_the_texts_every_one_is_found_all_the_same(here, capsys):
    train("classification")
    assert leakbench.main(["audit", "rounds", "--model", MODEL["classification"], *UNKNOWN, *READ]) == 0
    output = capsys.readouterr().out
    for index in range(3):
        assert f"round {index + 1}, client 0: {line(index)}\n" in output
    assert "For 3 of 3 updates, the texts that an attack found match the gradient" in output


@pytest.mark.long
def test_sentences_of_a_recorded_training_on_the_bundled_ones(here, capsys):
    """With BERT's vocabulary, by the whole suite, as a user types it."""
    source, model = open_dataset(DATASETS.parse("sotu-sample"), None), MODELS.parse("bert(hidden=128)")
    network = model.build(source.shape, source.classes, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with leakbench.record(network, optimizer, "rounds", batch_size=1):
        for index in range(4):
            optimizer.zero_grad()
            tokens, labels = source.batch([index])
            functional.cross_entropy(network(tokens), labels).backward()
            optimizer.step()
    typed = ["audit", "rounds", "--model", "bert(hidden=128)", "--executor", "inline"]
    assert leakbench.main([*typed, "--data", "sotu-sample", "--index", "0"]) == 0
    assert "4 of 4 updates were rebuilt (ROUGE-L 0.9 or more)" in capsys.readouterr().out


# what does not fit

PLAIN_MODEL = ["--model", MODEL["classification"]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([*UNKNOWN[:4], *PLAIN_MODEL], "classification.pt: bert.embeddings.word_embeddings.weight: expected"),
        (["--data", "mnist-sample"], "expected a model of images, got one of texts"),
        (["--shape", "1x28x28", "--classes", "2"], "expected a model of images, got one of texts"),
        (["--data", MINE, "--model", "lenet"], "lenet: expected a model of texts, got one of images"),
        (["--data", MINE, "--index", "6"], "--index: expected 0..5, got 6"),
        (["--data", "text:none"], "--data: path: expected a file of texts, found none at 'none'"),
        (["--shape", "16"], "expected --data NAME, or --shape CxHxW"),
        (["--shape", "16x2", "--classes", "2"], "expected --data NAME, or --shape CxHxW"),
        ([*UNKNOWN[:4], "--vocabulary", "none"], "none: no such file"),
        (["--shape", "64", *UNKNOWN[2:]], "expected texts of at most 32 tokens, got 64"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_a_line(here, capsys, arguments, text):
    assert attack("classification", *arguments) == commands.USER_ERROR
    (error,) = capsys.readouterr().err.splitlines()
    assert text in error


def test_updates_of_several_steps_are_a_line(here, capsys):
    """No attack on texts takes them yet."""
    train("classification")
    for file in Path("rounds").glob("*/round.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"local_steps": 2}))
    typed = ["audit", "rounds", "--model", MODEL["classification"], *UNKNOWN, "--executor", "inline"]
    assert leakbench.main(typed) == commands.USER_ERROR
    (error,) = capsys.readouterr().err.splitlines()
    assert "suite: expected an attack that applies, found none: rows: expected a gradient" in error


def test_a_vocabulary_that_is_in_no_file_cannot_be_named(here, capsys, write):
    write("own.py", OWN)
    assert attack("classification", "--data", "own.py:Own") == commands.USER_ERROR
    expected = "--data: expected texts with a vocabulary from a file, see `vocabulary_of`\n"
    assert capsys.readouterr().err == expected


OWN = f"""
from leakbench import TEXTS, Dataset, Texts
from leakbench.bench.vocabulary import Vocabulary
import torch

class Own(Dataset):
    modality = TEXTS

    def open(self, data_root):
        return Texts(Vocabulary({tuple(PIECES)!r}), 4, 2, 1, lambda index: (torch.tensor([2, 6, 7, 3]), 0))
"""


# the dataset

PLAIN = {"path": "classification.pt", "shape": [16], "classes": 2, "vocabulary": "pieces.txt"}


def test_what_is_known_of_unknown_texts(here):
    dataset = Recorded(**PLAIN)
    source = dataset.open(here)
    assert (source.shape, source.classes, len(source), source.known) == ((16, len(PIECES)), 2, 1, False)
    assert source.vocabulary.pieces == tuple(PIECES)
    assert source.modality is dataset.modality is leakbench.TEXTS
    with pytest.raises(SettingError, match="the texts behind a recorded update are unknown"):
        source[0]
    assert Recorded(path="classification.pt", shape=[42], classes=2).input_shape == (42, 30522)


def test_a_vocabulary_counts_by_its_content_and_where_none_is_given_not_at_all(here):
    before = Recorded(**PLAIN).canonical_at(0)
    Path("pieces.txt").write_text("\n".join([*PIECES, "more"]) + "\n")
    assert Recorded(**PLAIN).canonical_at(0) != before
    images = Recorded(path="classification.pt", shape=[1, 28, 28], classes=2)
    assert "vocabulary" not in images.canonical()
    assert "vocabulary" not in images.canonical_at(0)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"shape": [16, 2]}, "shape: expected [channels, height, width] of an image, or [tokens] of the"),
        ({"shape": [1, 28, 28]}, "vocabulary: expected none with the `shape` of an image, got 'pieces.txt'"),
        ({"vocabulary": "none"}, "vocabulary: none: no such file"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_explained(here, settings, text):
    with pytest.raises(SettingError) as caught:
        Recorded(**(PLAIN | settings))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"truth": "mnist-sample"}, "truth: expected texts, as `shape` says, got images"),
        ({"truth": MINE}, "truth: expected texts of `shape` and `classes`, got 6 texts of at most 10"),
        (
            {"truth": "text(path=mine.txt, vocabulary=others.txt)", "shape": [10]},
            "truth: expected texts of the pieces of `vocabulary`, got those of another one",
        ),
    ],
)  # fmt: skip
def test_a_truth_that_cannot_be_is_explained(here, settings, text):
    Path("others.txt").write_text("\n".join([*SPECIAL, *reversed(PIECES[len(SPECIAL) :])]) + "\n")
    with pytest.raises(SettingError) as caught:
        Recorded(**(PLAIN | {"truth_indices": [0]} | settings)).open(here)
    assert text in str(caught.value)


def test_a_sweep_file_of_recorded_texts_is_one_of_texts(here, write):
    content = {"datasets": [{"name": "recorded", **PLAIN}], "defenses": ["none"], "suite": "standard"}
    sweep, problems = read_sweep(write("own.yaml", yaml.safe_dump(content)))
    assert not problems
    assert [str(model.value) for model in sweep.models] == ["bert"]
    assert sweep.scale.kind == "texts"
    assert "rows" in {str(each.value) for each in sweep.attacks}
