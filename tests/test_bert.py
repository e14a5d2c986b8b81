"""The language model, and what it is given of a text."""

import sys

import pytest
import torch

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.models import MODELS
from leakbench.bench.models.bert import load_transformers
from leakbench.bench.victim import with_layers
from leakbench.core.configured import SettingError
from leakbench.defenses import DEFENSES

SMALL = "bert(depth=1, hidden=32, heads=2)"
GUESSING = "bert(depth=1, hidden=32, heads=2, task=mlm)"


@pytest.fixture
def sotu(tmp_path):
    return open_dataset(DATASETS.parse("sotu-sample"), tmp_path)


def build(model, source):
    return model.build(source.shape, source.classes, 0)


@pytest.mark.parametrize("name", [SMALL, GUESSING])
def test_padding_changes_nothing(sotu, name):
    network = build(MODELS.parse(name), sotu)
    batch, _ = sotu.batch(range(3))
    alone = network(sotu[0][0][None])
    together = network(batch)
    if name == GUESSING:
        together = together[:, :, : alone.shape[2]]
    assert torch.allclose(alone[0], together[0], atol=1e-5)


def test_what_is_hidden_depends_on_the_text_alone(sotu):
    model = MODELS.parse(GUESSING)
    batch, labels = sotu.batch(range(4))
    places = [("sotu", index) for index in range(4)]
    inputs, answers = model.given(sotu, batch, labels, places)
    text, label = sotu.batch([2])
    alone, own = model.given(sotu, text, label, places[2:3])
    length = alone.shape[1]  # without the padding to the longest of the four
    assert torch.equal(alone[0], inputs[2, :length])
    assert torch.equal(own[0], answers[2, :length])
    hidden = answers != NOT_ASKED
    assert hidden.any(1).all()  # at least one of each
    assert torch.equal(inputs[hidden], torch.full_like(inputs[hidden], sotu.vocabulary.mask))
    assert torch.equal(inputs[~hidden], batch[~hidden])
    assert torch.equal(answers[hidden], batch[hidden])
    assert not torch.isin(batch[hidden], torch.tensor(list(sotu.vocabulary.special))).any()


def test_scores_at_some_places_are_those_of_all(sotu):
    network = build(MODELS.parse(GUESSING), sotu)
    batch, _ = sotu.batch(range(3))
    places = torch.zeros_like(batch, dtype=torch.bool)
    places[[0, 1, 2, 2], [3, 1, 0, 5]] = True
    assert torch.allclose(network(batch, places), network(batch).transpose(1, 2)[places], atol=1e-5)


def test_of_every_text_at_least_one_piece_is_hidden(sotu):
    """Also where no draw is below 15 %, as of text 15; a gradient of no answers would be NaN."""
    model = MODELS.parse(GUESSING)
    inputs, answers = model.given(
        sotu, *sotu.batch(range(200)), [("sotu-sample", number) for number in range(200)]
    )
    assert (answers != NOT_ASKED).any(1).all()
    assert (answers[15] != NOT_ASKED).sum() == (inputs[15] == sotu.vocabulary.mask).sum() == 1


def test_about_a_seventh_is_hidden(sotu):
    batch, labels = sotu.batch(range(100))
    _, answers = MODELS.parse(GUESSING).given(sotu, batch, labels, [("x", n) for n in range(100)])
    special = torch.isin(batch, torch.tensor(list(sotu.vocabulary.special)))
    assert 0.12 < float((answers != NOT_ASKED).sum() / (~special).sum()) < 0.18


def test_a_text_to_classify_is_given_whole(sotu):
    batch, labels = sotu.batch(range(2))
    inputs, answers = MODELS.parse(SMALL).given(sotu, batch, labels, [(), ()])
    assert torch.equal(inputs, batch)
    assert torch.equal(answers, labels)


@pytest.mark.parametrize("name", [SMALL, GUESSING])
def test_layers_that_a_defense_adds_are_computed_with(sotu, name):
    model = MODELS.parse(name)
    plain = build(model, sotu)
    changed = with_layers(DEFENSES.parse("precode(size=4)"), plain, name, 0)
    tokens, labels = sotu.batch([0])
    inputs, answers = model.given(sotu, tokens, labels, [("x", 0)])
    assert not torch.equal(changed.eval()(inputs), plain.eval()(inputs))
    shared = shared_gradient(changed, inputs, answers)
    assert any("encode" in each and bool(shared[each].any()) for each in shared)


def test_weights_of_a_folder(sotu, tmp_path):
    config = load_transformers().BertConfig(
        vocab_size=len(sotu.vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    saved = load_transformers().BertForSequenceClassification(config)
    saved.save_pretrained(tmp_path / "mine")
    model = MODELS.parse(f"bert(weights=folder:{tmp_path / 'mine'})")
    network = build(model, sotu)
    state = saved.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in network.state_dict().items())
    key = model.canonical()
    next((tmp_path / "mine").glob("*.safetensors")).write_bytes(b"other")
    assert model.canonical() != key


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert(depth=0)", "depth: expected a whole number >= 1, got 0"),
        (
            "bert(weights=folder:nowhere)",
            "weights: expected a folder with a config.json at 'nowhere', found none",
        ),
        ("bert(weights=trained)", "weights: expected uniform, default or checkpoint:PATH, got 'trained'"),
        ("bert(task=guess)", "task: expected one of classification, mlm, got 'guess'"),
    ],
)
def test_bad_settings_are_lines(name, message):
    with pytest.raises(SettingError, match=message.replace("(", r"\(").replace(".", r"\.")):
        MODELS.parse(name)


def test_a_vocabulary_of_another_model_is_a_line(tmp_path, sotu):
    config = load_transformers().BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    load_transformers().BertForSequenceClassification(config).save_pretrained(tmp_path / "mine")
    model = MODELS.parse(f"bert(weights=folder:{tmp_path / 'mine'})")
    with pytest.raises(SettingError, match="weights: expected a vocabulary of 50 pieces, got 30522"):
        build(model, sotu)


def test_without_transformers_it_says_what_to_install(monkeypatch, sotu):
    load_transformers.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        SettingError, match=r"expected the package transformers for this model: pip install -e"
    ):
        build(MODELS.parse(SMALL), sotu)
    load_transformers.cache_clear()
