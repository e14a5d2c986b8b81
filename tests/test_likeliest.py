"""The text that explains a gradient best: its likelihood against slow renderings, and what it finds."""

import dataclasses

import pytest
import torch
from torch.nn import functional

import leakbench
from leakbench.bench.attacks import ATTACKS, Resources
from leakbench.bench.attacks.likeliest import _Search
from leakbench.bench.attacks.text_likelihood import TextLikelihood
from leakbench.bench.attacks.token_layers import token_layers
from leakbench.bench.attacks.word_rows import decoded, outside
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import trained_parameters
from leakbench.bench.modalities.texts import NOT_ASKED
from leakbench.bench.posterior import kept_of, variance_of
from leakbench.bench.trial import prepare

pytestmark = pytest.mark.numeric
SMALL = "bert(depth=1, hidden=64, heads=2)"
GUESSING = "bert(depth=1, hidden=64, heads=2, task=mlm)"


@pytest.fixture
def trial_of(make_trial, write):
    """A trial of a text of eight tokens, with a word twice."""
    path = write("mine.txt", "the army and the fleet .\nwe will act now\n")

    def trial(**names):
        given = {"dataset": f"text(path={path})", "model": SMALL, "attack": "likeliest"} | names
        return make_trial(index=0, **given)

    return trial


def row_of(trial):
    (result,) = run_trials([trial], Conditions(Resources()))
    return result.row


# under noise


@pytest.mark.parametrize("model", [SMALL, GUESSING])
@pytest.mark.parametrize("defense", ["none", "float16", "gaussian(relative=0.2)", "clip(norm=0.01)"])
def test_the_text_is_found(trial_of, model, defense):
    row = row_of(trial_of(model=model, defense=defense))
    assert (row.status, row.exact, row.rouge_l) == ("converged", 1, 1)
    assert row.threat == "defense, labels, length"


def test_it_finds_a_text_that_noise_hides_from_the_rows(trial_of):
    defense = "gaussian(relative=0.5)"
    assert row_of(trial_of(attack="rows", defense=defense)).score < 0.5
    assert row_of(trial_of(defense=defense)).score == 1


def test_a_search_that_finds_nothing_ends(trial_of):
    """Under noise that hides all words, some other text is always a little likelier."""
    row = row_of(trial_of(defense="gaussian(variance=0.01)"))
    assert (row.status, row.bag_recall) == ("converged", 0)
    assert row.iterations <= 8


def test_nothing_is_tried_twice_for_the_same_text(trial_of, monkeypatch):
    tried = []

    def noted(search, place):
        tried.append((place, *search.text.tolist()))
        return supported(search, place)

    supported = _Search._supported
    monkeypatch.setattr(_Search, "_supported", noted)
    row = row_of(trial_of(defense="gaussian(relative=0.5)"))
    assert row.exact == 1
    assert len(tried) == len(set(tried)) > 8


# by hand and by loops


@pytest.mark.parametrize("model", [SMALL, GUESSING])
@pytest.mark.parametrize("defense", ["gaussian(relative=0.1)", "top_k(ratio=0.5)"])
def test_what_is_missing_is_that_of_a_slow_rendering(trial_of, model, defense):
    """With the whole gradient of one text after the other, and of the word embedding every row."""
    case, victim, _ = prepare(trial_of(model=model, defense=defense), 0, None)
    layers = token_layers(case.model, case.spec)
    likelihood = TextLikelihood(case, layers, "cpu")
    length = victim.inputs.shape[1]
    texts = torch.randint(1000, 30000, (5, length), generator=torch.Generator().manual_seed(0))
    texts[0], texts[1, 2:] = victim.inputs[0], victim.inputs[0, 2:]
    explained = likelihood.explained(texts)
    for number, text in enumerate(texts):
        missing, rows = by_hand(case, layers, text)
        assert explained[number].missing == pytest.approx(missing, rel=1e-4, abs=1e-6)
        assert torch.allclose(explained[number].rows, rows, rtol=1e-3, atol=1e-3 * float(rows.abs().max()))
    assert explained.missing.argmin() == 0


def by_hand(case, layers, text):
    """The share of the gradient that a text (L,) leaves unexplained, and its rows at the best scale."""
    looked_up = []
    words = layers.words

    def keep(_module, _given, found):
        looked_up.append(found.detach().requires_grad_())
        return looked_up[0]

    hook = words.register_forward_hook(keep)
    loss = functional.cross_entropy(layers.model(text[None]), case.labels, ignore_index=NOT_ASKED)
    hook.remove()
    parameters = {n: each for n, each in trained_parameters(layers.model) if len(each) != case.spec.shape[1]}
    *own, rows = torch.autograd.grad(loss, [*parameters.values(), looked_up[0]])
    dummy = dict(zip(parameters, own, strict=True))
    rows = rows[0]
    shared = {name: case.shared[name] for name in parameters}
    table = case.shared[layers.words_name]
    if case.spec.masked:
        space = decoded(table.double()).float()
        table, rows = outside(table, space), outside(rows, space)
    dummy["words"], shared["words"] = torch.zeros_like(table).index_add(0, text, rows), table
    kept = kept_of(case.account, case.shared)
    largest = max(float(each.double().square().mean()) for each in case.shared.values())
    inner = square = whole = 0.0
    for name in shared:
        known = layers.words_name if name == "words" else name
        noise = variance_of(case.account, {known: kept[known]})
        noise += 1e-6 * float(case.shared[known].double().square().mean()) + 1e-12 * largest
        weight = (1 if name == "words" else kept[known].double()) / noise
        inner += float((weight * dummy[name] * shared[name]).sum())
        square += float((weight * dummy[name].double().square()).sum())
        whole += float((weight * shared[name].double().square()).sum())
    scale = max(inner, 0) / square
    return 1 - scale * max(inner, 0) / whole, scale * rows


def test_gains_are_what_the_word_embedding_explains(trial_of):
    case, victim, _ = prepare(trial_of(defense="gaussian(relative=0.1)"), 0, None)
    likelihood = TextLikelihood(case, token_layers(case.model, case.spec), "cpu")
    text = victim.inputs[0]
    rows = likelihood.explained(text[None])[0].rows.double()

    def apart(words):
        summed = torch.zeros_like(likelihood.rows).double().index_add(0, words, rows)
        return float((likelihood.rows.double() - summed).square().sum())

    gains = likelihood.gains(text, 2, rows.float())
    pieces = [int(text[1]), int(text[4]), 1234, 2345]  # `the`, which stands there twice, and others
    by_hand = []
    for piece in pieces:
        words = text.clone()
        words[2] = piece
        by_hand.append(apart(words))
    for piece, distance in zip(pieces, by_hand, strict=True):
        found = 2 * float(gains[pieces[0]] - gains[piece])
        assert found == pytest.approx(distance - by_hand[0], rel=1e-3, abs=1e-3 * float(rows.square().sum()))


def test_what_is_unexplained_is_left_of_each_row(trial_of):
    case, victim, _ = prepare(trial_of(defense="gaussian(relative=0.1)"), 0, None)
    likelihood = TextLikelihood(case, token_layers(case.model, case.spec), "cpu")
    text = victim.inputs[0]
    rows = likelihood.explained(text[None])[0].rows
    left = likelihood.rows.clone()
    for piece, row in zip(text, rows, strict=True):
        left[piece] -= row
    found = likelihood.unexplained(text, rows)
    assert torch.allclose(found, left.square().sum(-1), rtol=1e-4, atol=1e-9)
    assert found[text].max() < likelihood.rows[text].square().sum(-1).min()


@pytest.mark.parametrize(("square", "weight"), [(0.5, 0), (1, 0), (2, 0.5), (4, 0.75)])
def test_what_a_place_adds_lies_between_the_model_and_what_was_shared(trial_of, square, weight):
    """Of a trained model, whose rows depend on all words: what is shared of a place depends on none."""
    case, victim, _ = prepare(trial_of(defense="gaussian(relative=0.1)"), 0, None)
    likelihood = TextLikelihood(case, token_layers(case.model, case.spec), "cpu")
    rows = likelihood.explained(victim.inputs)[0].rows
    noise = 1 / likelihood.precision[likelihood.layers.positions_name]
    signs = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(0)).sign()
    likelihood.places[2] = rows[2] + (square * noise) ** 0.5 * signs
    wanted = rows[2] + weight * (likelihood.places[2] - rows[2])
    assert torch.allclose(likelihood._likely(2, rows[2]), wanted, rtol=1e-3, atol=1e-3 * noise**0.5)


def test_some_words_are_moved_together(trial_of):
    case, _, _ = prepare(trial_of(), 0, None)
    search = _Search(ATTACKS.parse("likeliest(candidates=1000)"), case, "cpu")
    search.text[1:-1] = torch.arange(1001, 1007)
    moved = [(row[1:-1] - 1000).tolist() for row in search._moved(2)]
    assert [1, 3, 2, 4, 5, 6] in moved
    assert [2, 3, 1, 4, 5, 6] in moved
    assert [1, 4, 5, 2, 3, 6] in moved
    assert [1, 2, 3, 4, 5, 6] not in moved
    assert {tuple(sorted(each)) for each in moved} == {(1, 2, 3, 4, 5, 6)}
    search.attack = dataclasses.replace(search.attack, candidates=3)
    assert len(search._moved(2)) == 3


def test_a_text_of_one_word_is_found(trial_of, write):
    path = write("one.txt", "army\nfleet\n")
    row = row_of(trial_of(dataset=f"text(path={path})"))
    assert (row.status, row.exact) == ("converged", 1)


def test_a_model_may_have_as_many_places_as_pieces(trial_of, write):
    path = write(
        "many.py",
        "import torch\n\n\nclass Many(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.words, self.places = (torch.nn.Embedding(30522, 8) for _ in range(2))\n"
        "        self.last = torch.nn.Linear(8, 2)\n\n"
        "    def forward(self, tokens):\n        places = torch.arange(tokens.shape[1])\n"
        "        return self.last((self.words(tokens) + self.places(places)).tanh().mean(1))\n",
    )
    assert row_of(trial_of(model=f"{path}:Many")).status == "converged"


def test_of_a_gradient_of_zero_nothing_is_explained(trial_of):
    case, _, _ = prepare(trial_of(), 0, None)
    nothing = {name: torch.zeros_like(each) for name, each in case.shared.items()}
    found = ATTACKS.parse("likeliest").invert(dataclasses.replace(case, shared=nothing))
    assert (found.objective, found.status.value) == (1, "converged")


def test_its_progress_is_kept_in_words(trial_of):
    conditions = Conditions(Resources(), snapshot_every=1)
    (result,) = run_trials([trial_of(attack="likeliest(rounds=3)")], conditions)
    assert list(result.trace.texts.snapshots) == [0, 1, 2, 3]
    assert result.trace.texts.snapshots[0][0].split() == ["[CLS]", *["[UNK]"] * 6, "[SEP]"]
    assert result.row.status == "budget"
    assert result.row.iterations == 3
    history = result.trace.objective
    assert list(history) == sorted(history, reverse=True)


def test_a_smaller_budget_is_fewer_rounds():
    attack = ATTACKS.parse("likeliest")
    assert attack.budget == attack.rounds
    assert attack.with_budget(2).rounds == 2


# refused, in a line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("protocols: [fedsgd(batch_size=2)]\n", "expected a gradient of one text, got 2"),
        (
            "protocols: [fedavg(local_steps=2)]\n",
            "expected a gradient, got how weights moved in several steps",
        ),
        ("models: ['odd.py:Odd']\n", "expected a model that torch.func can run, got"),
        ("attacks: [likeliest(candidates=0)]\n", "candidates: expected a whole number >= 1, got 0"),
    ],
)
def test_what_it_cannot_attack_is_a_line(write, capsys, monkeypatch, tmp_path, content, message):
    monkeypatch.chdir(tmp_path)
    write(
        "odd.py",
        "import torch\n\n\nclass Odd(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.words = torch.nn.Embedding(30522, 8)\n        self.last = torch.nn.Linear(8, 2)\n\n"
        "    def forward(self, tokens):\n        assert int(tokens.max()) >= 0\n"
        "        return self.last(self.words(tokens).mean(1))\n",
    )
    given = {
        "attacks": "attacks: [likeliest]\n",
        "models": f"models: ['{SMALL}']\n",
        "defenses": "defenses: [none]\n",
    }
    lines = "".join(line for name, line in given.items() if not content.startswith(name))
    file = write("a.yaml", f"datasets: [sotu-sample]\n{lines}{content}")
    assert leakbench.main(["sweep", str(file), "--executor", "inline", "--no-figures", "--dry-run"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
