"""Texts from the gradient of a batch: which piece stands where, and which pieces make up a text."""

from itertools import product

import pytest
import torch

from leakbench.bench.attacks import Resources
from leakbench.bench.attacks.placed_words import peeled
from leakbench.bench.attacks.span_several import Possible, separated
from leakbench.bench.attacks.text_search import Search, mixer_of
from leakbench.bench.attacks.token_layers import token_layers
from leakbench.bench.attacks.word_rows import row_space, undecoded_rows
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import prepare

pytestmark = pytest.mark.numeric
SMALL = "bert"
GUESSING = "bert(task=mlm)"
ALIKE = (  # three with the same number of pieces, and words that several have at the same place
    "the fleet and the army sailed",
    "the people and the law won",
    "we saw the army and the law",
    "peace was near",
)


@pytest.fixture
def row_of(make_trial, lines):
    """The row of an attack on a batch of these texts."""

    def run(*texts, count=None, **names):
        protocol = f"fedsgd(batch_size={count or len(texts)})"
        source = {"dataset": lines(*texts)} if texts else {"dataset": "sotu-sample"}
        names = source | {"model": SMALL, "attack": "span", "protocol": protocol} | names
        (result,) = run_trials([make_trial(**names)], Conditions(Resources()))
        return result.row

    return run


@pytest.fixture
def lines(write):
    """The dataset of these lines."""
    return lambda *texts: f"text(path={write('mine.txt', chr(10).join(texts) + chr(10))})"


# exact without a defense


@pytest.mark.parametrize("model", [SMALL, GUESSING])
@pytest.mark.parametrize("texts", [ALIKE[:2], ALIKE[1:3], ALIKE[2:], ALIKE])
def test_texts_that_share_words_are_told_apart(row_of, model, texts):
    row = row_of(*texts, model=model)
    assert (row.exact, row.rouge_l, row.status) == (1, 1, "converged"), row.reason
    assert row.reason.startswith(f"{len(texts)} of {len(texts)} texts found, rank ")


def test_sentences_of_a_dataset_are_told_apart(row_of):
    assert row_of(count=4).exact == 1
    row = row_of(count=2, index=2, model=GUESSING)
    assert row.exact == 1
    assert row.match_loss < 1e-9 * row.shared_norm**2  # the hidden words were found as well


def test_texts_that_differ_in_one_word_are_both_found(row_of):
    row = row_of("the law was new", "the war was new")
    assert (row.exact, row.status) == (1, "converged"), row.reason


def test_frozen_embeddings_hide_nothing_from_it(row_of):
    assert row_of(*ALIKE[2:], defense="freeze_embeddings").exact == 1


# honest about what it did not find


def test_a_text_that_comes_twice_is_found_once(row_of):
    row = row_of(ALIKE[0], ALIKE[0])
    assert (row.exact, row.status) == (0.5, "budget")
    assert row.reason == "1 of 2 texts found, rank 8 of 256"


def test_more_tokens_than_hidden_units_are_a_line(row_of):
    row = row_of(count=4, model="bert(depth=2, hidden=32, heads=2)")
    assert (row.exact, row.status) == (0, "budget")
    assert row.reason == "0 of 4 texts found, rank 25 of 32: expected fewer tokens than hidden units"


def test_noise_leaves_nothing(row_of):
    row = row_of(*ALIKE[:2], defense="gaussian(variance=1e-4)")
    assert row.exact == 0
    assert row.reason.startswith("0 of 2 texts found")


# by hand and by loops


def made_up_rows(pairs, words=4, places=3, width=16):
    """What the words and places of such occurrences get, and what each word at each place adds up to."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(words, places, width, generator=generator).double()
    rows, columns = torch.zeros(words, width).double(), torch.zeros(places, width).double()
    for word, place in pairs:
        centred = inputs[word, place] - inputs[word, place].mean()
        got = torch.randn(width, generator=generator).double()
        got -= got.mean()
        got -= (got @ centred) / (centred @ centred) * centred  # as a layer norm passes it on
        rows[word] += got
        columns[place] += got
    return rows, columns, inputs


def table(pairs, words=4, places=3):
    found = torch.zeros(words, places, dtype=torch.bool)
    found[tuple(torch.tensor(pairs).T)] = True
    return found


def test_rows_of_one_occurrence_tell_all_others():
    pairs = [(0, 0), (1, 1), (1, 2), (2, 2), (3, 1), (2, 0)]
    everywhere = torch.ones(4, 3, dtype=torch.bool)
    assert torch.equal(peeled(*made_up_rows(pairs), everywhere, count=2), table(pairs))


def test_occurrences_in_a_circle_stay_undecided():
    pairs = [(0, 0), (0, 1), (1, 0), (1, 1), (3, 2)]
    near = table([*pairs, (2, 2), (2, 0)])
    assert torch.equal(peeled(*made_up_rows(pairs), near, count=3), table(pairs))
    rows, columns, inputs = made_up_rows(pairs)
    noisy = peeled(rows + 0.1 * inputs[:, 0], columns + 0.1 * inputs[0], inputs, near, count=3)
    assert torch.equal(noisy, near)


def test_what_a_decoder_adds_is_taken_off(make_trial, tmp_path):
    """Compared with sum (p - y) h^T over the hidden words, by the true text."""
    trial = make_trial(dataset="sotu-sample", model=GUESSING, attack="span", protocol="fedsgd(batch_size=2)")
    case, victim, _ = prepare(trial, 0, tmp_path)
    layers = token_layers(case.model, case.spec)
    hidden = victim.labels != -100
    states = layers.inputs(victim.inputs, layers.decoder.layer)[hidden].double()
    chances = case.model(victim.inputs).detach().transpose(1, 2)[hidden].softmax(-1).double()
    added = chances.T @ states / len(states)
    pieces = victim.inputs[~hidden].unique()
    pieces = pieces[~torch.isin(pieces, torch.tensor([0, *victim.labels[hidden].tolist()]))]
    truth = case.shared[layers.words_name].double()[pieces] - added[pieces]
    found = undecoded_rows(case, layers, pieces)
    assert (found - truth).norm() < 1e-3 * added[pieces].norm()


def test_the_search_finds_the_best_of_all_texts(make_trial, tmp_path, lines):
    texts = "war is old", "law was new"
    trial = make_trial(dataset=lines(*texts), model=SMALL, attack="span", protocol="fedsgd(batch_size=2)")
    case, victim, _ = prepare(trial, 0, tmp_path)
    pieces = victim.inputs.unique()
    index = {piece: number for number, piece in enumerate(pieces.tolist())}
    truth = [[index[piece] for piece in text] for text in victim.inputs.tolist()]
    possible = torch.zeros(len(pieces), 5, dtype=torch.bool)
    for text in truth:
        possible[text, range(5)] = True
    mixer = mixer_of(case, token_layers(case.model, case.spec), 10)
    every = list(product(*[possible[:, place].nonzero()[:, 0].tolist() for place in range(5)]))
    apart = mixer.outside(pieces[torch.tensor(every)]).square().sum((1, 2))
    best = {every[number] for number in apart.argsort()[:2].tolist()}
    gradient = case.shared[mixer.layer.weight].double()
    assert mixer.explains(gradient, victim.inputs)
    assert not mixer.explains(gradient, pieces[torch.tensor([truth[0], every[1]])])
    search = Search(mixer, pieces, torch.Generator().manual_seed(0))
    found, _ = separated(Possible(pieces, possible), 2, search, case.spec.vocabulary, lambda _: True)
    assert {tuple(guess.choice.tolist()) for guess in found} == best == set(map(tuple, truth))


def test_noise_is_not_judged_by_what_may_be_tokens():
    generator = torch.Generator().manual_seed(0)
    matrix = (
        torch.randn(64, 40, generator=generator).double() @ torch.randn(40, 64, generator=generator).double()
    )
    matrix += 1e-6 * torch.randn(64, 64, generator=generator)
    assert len(row_space(matrix, most=50)) == 40
    assert len(row_space(matrix)) < 40  # half of the values are taken for noise
