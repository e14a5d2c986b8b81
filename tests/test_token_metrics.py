"""Scores of texts against known answers."""

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer

from leakbench.bench.modalities import TEXTS, Spec
from leakbench.bench.token_metrics import match, score, token_accuracy
from leakbench.bench.verdicts import Scale, Verdict
from leakbench.bench.vocabulary import vocabulary_of

VOCABULARY = vocabulary_of()
SPEC = Spec((42, len(VOCABULARY)), 2, modality=TEXTS, vocabulary=VOCABULARY)


def tokens(*texts):
    each = [torch.tensor(VOCABULARY.encode(text)) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(each, batch_first=True)


def of(truth, found):
    return score(tokens(truth), tokens(found), VOCABULARY)


def test_equal_texts_score_perfectly():
    perfect = of("our cities are growing", "our cities are growing")
    assert set(vars(perfect).values()) == {1.0}


def test_a_wrong_order_keeps_the_bag():
    turned = of("our cities are growing", "growing are cities our")
    assert (turned.rouge_1, turned.bag_recall, turned.bag_precision, turned.exact) == (1, 1, 1, 0)
    assert turned.rouge_2 == 0
    assert turned.rouge_l == 0.25  # a subsequence of one word
    assert turned.token_accuracy == 0


def test_known_parts():
    found = of("we hold these truths", "we hold the truths dear")
    assert found.rouge_1 == pytest.approx(2 * (3 / 5) * (3 / 4) / (3 / 5 + 3 / 4))
    assert found.rouge_2 == pytest.approx(2 * (1 / 4) * (1 / 3) / (1 / 4 + 1 / 3))
    assert found.token_accuracy == 0.75
    assert (found.bag_recall, found.bag_precision) == (0.75, 0.6)


@pytest.mark.parametrize(
    ("truth", "found"),
    [("but the effects of the revulsion", "the effects of revulsion but the"), ("a b c d e", "e d c b a c")],
)
def test_rouge_is_that_of_rouge_score(truth, found):
    plain = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False).score(truth, found)
    own = of(truth, found)
    assert own.rouge_1 == pytest.approx(plain["rouge1"].fmeasure)
    assert own.rouge_2 == pytest.approx(plain["rouge2"].fmeasure)
    assert own.rouge_l == pytest.approx(plain["rougeL"].fmeasure)


def test_other_letters_count_as_well():
    assert of("我 中 国", "我 中 国").rouge_l == 1  # rouge-score's own tokenizer sees nothing there
    assert of("我 中 国", "国 大 人").rouge_l < 0.4


def test_a_text_of_nothing_and_a_shorter_one():
    nothing = score(tokens("we hold"), torch.tensor([[VOCABULARY.pad]]), VOCABULARY)
    assert (nothing.rouge_l, nothing.token_accuracy, nothing.bag_recall, nothing.bag_precision) == (
        0,
        0,
        0,
        0,
    )
    assert token_accuracy(tokens("we")[0], tokens("we hold")[0], VOCABULARY) == 0.5


def test_several_texts_are_matched_and_scored_one_by_one():
    truth, found = tokens("we hold these truths", "our cities"), tokens("our cities", "we hold these truths")
    order = match(found, truth, VOCABULARY)
    assert order == [1, 0]
    assert score(truth, found[order], VOCABULARY).exact == 1
    half = score(truth, tokens("we hold these truths", "peace"), VOCABULARY)
    assert (half.exact, half.rouge_l) == (0.5, 0.5)


def test_the_way_is_measured_in_wrong_tokens():
    truth, found = tokens("we hold these truths"), tokens("we hold the truths")
    assert TEXTS.errors(torch.stack([found, truth]), torch.stack([truth, truth]), SPEC) == [0.25, 0]


def test_the_scale_of_texts():
    scale = Scale(kind="texts", leak=TEXTS.leak, artifacts=TEXTS.artifacts)
    assert (scale.column, scale.title) == ("rouge_l", "ROUGE-L")
    assert [scale.verdict(each) for each in (0.95, 0.5, 0.25)] == [
        Verdict.LEAK, Verdict.ARTIFACTS, Verdict.NONE,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (torch.zeros(1, 5), "tokens: expected int64 (1, at most 42) in 0..30521, got float32 (1, 5)"),
        (
            torch.zeros(2, 5, dtype=torch.int64),
            "tokens: expected int64 (1, at most 42) in 0..30521, got int64 (2, 5)",
        ),
        (
            torch.zeros(1, 43, dtype=torch.int64),
            "tokens: expected int64 (1, at most 42) in 0..30521, got (1, 43) in 0..0",
        ),
        (torch.full((1, 5), -1), "tokens: expected int64 (1, at most 42) in 0..30521, got (1, 5) in -1..-1"),
        ([1], "tokens: expected int64 (1, at most 42) in 0..30521, got list"),
    ],
)
def test_what_an_attack_must_return(found, problem):
    assert list(TEXTS.problems(SPEC, found, torch.zeros(1))) == [problem]
