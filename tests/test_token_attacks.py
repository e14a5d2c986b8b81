"""Texts from gradients: attacks against slow renderings, hand-made gradients and real sentences."""

import dataclasses
from itertools import permutations, product
from pathlib import Path

import pytest
import torch

import leakbench
from leakbench.bench.attacks import ATTACKS, Resources
from leakbench.bench.attacks.dlg_text import _Run
from leakbench.bench.attacks.rows import _assigned
from leakbench.bench.attacks.token_layers import token_layers
from leakbench.bench.attacks.word_rows import outside, row_space, standing_out
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.trial import prepare, victim_of

pytestmark = pytest.mark.numeric
SMALL = "bert(depth=2, hidden=128, heads=2)"
GUESSING = "bert(depth=2, hidden=128, heads=2, task=mlm)"


@pytest.fixture
def rows_of(make_trial):
    def run(count=1, **names):
        names = {"dataset": "sotu-sample", "model": SMALL, "attack": "rows"} | names
        first = names.pop("index", 0)
        trials = [make_trial(index=index, **names) for index in range(first, first + count)]
        return [result.row for result in run_trials(trials, Conditions(Resources()))]

    return run


@pytest.fixture
def lines(write):
    """The dataset of these lines."""

    def dataset(*texts, **settings):
        given = "".join(f", {name}={value}" for name, value in settings.items())
        return f"text(path={write('mine.txt', chr(10).join(texts) + chr(10))}{given})"

    return dataset


# exact without a defense


@pytest.mark.parametrize("model", [SMALL, GUESSING])
@pytest.mark.parametrize("attack", ["rows", "span"])
def test_an_undefended_text_is_found_to_the_last_piece(rows_of, model, attack):
    for row in rows_of(4, model=model, attack=attack):
        assert (row.exact, row.rouge_l, row.token_accuracy, row.score) == (1, 1, 1, 1), row.reason
        assert row.match_loss < 1e-9 * row.shared_norm**2  # its answers were found as well
        assert row.label_correct
        assert row.threat == "nothing"


@pytest.mark.parametrize("model", [SMALL, GUESSING])
def test_a_bag_has_all_pieces_and_no_other(rows_of, model):
    for row in rows_of(4, model=model, attack="bag"):
        assert (row.bag_recall, row.bag_precision) == (1, 1)
        assert row.rouge_l < 0.9  # in no order
        assert row.match_loss is None


def test_a_bag_of_several_texts_is_that_of_all(rows_of):
    (row,) = rows_of(attack="bag", protocol="fedsgd(batch_size=2)")
    assert row.bag_recall == 1
    assert row.bag_precision < 1


def test_frozen_embeddings_hide_nothing_from_the_span(rows_of):
    for row in rows_of(2, attack="span", defense="freeze_embeddings"):
        assert row.exact == 1
    (row,) = rows_of(attack="span", defense="freeze_embeddings", model=GUESSING, index=3)  # six hidden
    assert (row.exact, row.label_recall) == (1, 1)
    for attack in ("rows", "bag"):
        (row,) = rows_of(attack=attack, defense="freeze_embeddings")
        assert (row.status, row.score) == ("error", None)
        assert "expected a trained word embedding" in row.reason


@pytest.mark.parametrize("defense", ["prune(ratio=0.5)", "gaussian(variance=1e-9)"])
def test_rows_tell_a_hidden_word_from_the_same_word_in_sight(rows_of, defense):
    row = rows_of(model=GUESSING, defense=defense, index=4)[
        0
    ]  # `the` and `.` are hidden once, and can be seen
    assert (row.exact, row.label_recall) == (1, 1), row.reason


@pytest.mark.parametrize(
    "defense", ["float16", "bfloat16", "prune(ratio=0.7)", "prune(ratio=0.5, scope=global)"]
)
def test_rows_stand_rounding_and_pruning(rows_of, defense):
    assert [row.exact for row in rows_of(3, defense=defense)] == [1, 1, 1]


def test_noise_hides_words(rows_of):
    weak, strong = (rows_of(attack="bag", defense=f"gaussian(variance={each})") for each in (1e-9, 1e-2))
    assert weak[0].bag_recall == 1
    assert strong[0].bag_recall < 0.2


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("the fleet and the army and the fleet", 10),  # words twice and three times
        ("peace", 3),
        ("我们 中国 people", 7),  # some characters are in the vocabulary
        ("ﬁ ⸮ people", 5),
    ],
)
def test_texts_of_all_kinds(rows_of, lines, text, length):
    for attack in ("rows", "span"):
        (row,) = rows_of(dataset=lines(text), attack=attack)
        assert row.exact == 1, row.reason
        assert row.reason.startswith(f"{length} places")


# by hand and by loops


def test_each_place_gets_the_word_that_fits_best_of_all_assignments():
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(5, 8, generator=generator).double()
    truth = torch.tensor([0, 2, 2, 1, 0])  # words 0 and 2 occur twice
    words = torch.zeros(3, 8).double().index_add(0, truth, places)
    words += 0.05 * torch.randn(3, 8, generator=generator)

    def apart(chosen):
        sums = torch.zeros(3, 8).double().index_add(0, torch.tensor(chosen), places)
        return float((words - sums).square().sum())

    best = min(product(range(3), repeat=5), key=apart)
    assert _assigned(places, words).tolist() == list(best) == truth.tolist()


@pytest.mark.parametrize("seed", [21, 32, 36, 42, 46])  # where exchanging two words at a time ends too early
def test_words_that_are_nearly_alike_are_in_the_best_of_all_orders(seed):
    generator = torch.Generator().manual_seed(seed)
    places = 1 + 0.5 * torch.randn(7, 8, generator=generator).double()
    words = places[torch.randperm(7, generator=generator)] + torch.randn(7, 8, generator=generator)

    def apart(chosen):
        return float((words[list(chosen)] - places).square().sum())

    chosen = _assigned(places, words)
    sums = torch.zeros_like(words).index_add(0, chosen, places)
    assert float((words - sums).square().sum()) <= min(map(apart, permutations(range(7)))) + 1e-9


def test_places_that_took_each_others_words_exchange_them(rows_of):
    (row,) = rows_of(index=2)  # single moves end at "these the contemplated treaties surrender"
    assert row.exact == 1


def test_rows_stand_out_of_noise_and_of_zeros():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 64, generator=generator).double()
    assert not standing_out(noise).any()
    noise[[3, 77]] += 2
    assert standing_out(noise).nonzero()[:, 0].tolist() == [3, 77]
    zeros = torch.zeros(100, 4).double()
    zeros[5], zeros[6] = 1, 1e-3
    assert standing_out(zeros).nonzero()[:, 0].tolist() == [5, 6]


@pytest.mark.parametrize("noise", [0, 1e-3])
@pytest.mark.parametrize("count", [30, 2000])
def test_the_space_of_a_matrix_of_low_rank(noise, count):
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(30, 4, generator=generator).double()).Q.T
    matrix = torch.randn(count, 4, generator=generator).double() @ basis
    matrix += noise * torch.randn(count, 30, generator=generator)
    found = row_space(matrix)
    assert found.shape == (4, 30)
    assert outside(basis, found).norm() < 0.05
    inside = torch.randn(7, 4, generator=generator).double() @ found
    assert torch.allclose(outside(inside, found), torch.zeros(7, 30).double(), atol=1e-12)


def test_the_layers_are_found_by_what_passes_them(make_trial, tmp_path):
    trial = make_trial(dataset="sotu-sample", model=GUESSING, attack="rows")
    case, victim, _ = prepare(trial, 0, tmp_path)
    layers = token_layers(case.model, case.spec)
    assert layers.words_name.endswith("word_embeddings.weight")
    assert layers.positions_name.endswith("position_embeddings.weight")
    assert [each.weight.split(".")[-2] for each in layers.linear[:3]] == ["query", "key", "value"]
    assert layers.decoder.weight == layers.words_name  # tied
    seen = []
    query = case.model.bert.encoder.layer[0].attention.self.query
    query.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    case.model(victim.inputs)
    assert torch.equal(layers.inputs(victim.inputs, layers.linear[0].layer), seen[0])


# by optimisation


@pytest.mark.parametrize("attack", ["dlg-text(steps=60)", "tag(steps=60)"])
def test_matching_gradients_finds_most_words(rows_of, attack):
    (row,) = rows_of(attack=attack, model=GUESSING)
    assert row.token_accuracy > 0.7
    assert row.threat == "labels, length"
    assert (row.label_recovered, row.label_correct) == (None, None)  # it was told
    assert row.iterations <= 60
    assert row.objective < 0.05


@pytest.mark.parametrize("model", [SMALL, GUESSING])
def test_its_objective_falls_as_in_a_loop_written_by_hand(make_trial, tmp_path, model):
    """With the scores of all places, and every evaluation made anew."""
    trial = make_trial(dataset="sotu-sample", model=model, attack="dlg-text(steps=6)")
    case, _, _ = prepare(trial, 0, tmp_path)
    (_, found), *_ = trial.attack.invert_many(iter([case]), lambda *_: None, Resources())
    run = _Run(trial.attack, case, "cpu")
    dummy, shared = run.dummy, run.shared
    optimizer = torch.optim.LBFGS([dummy.variable], max_iter=1, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        with dummy.looked_up_as(dummy.embeddings()):
            loss = torch.nn.functional.cross_entropy(run.layers.model(dummy.known), run.labels)
        own = torch.autograd.grad(loss, list(run.parameters.values()), create_graph=True)
        parts = run._parts(dict(zip(run.parameters, own, strict=True)))
        apart = [(parts[name] - each).square().sum() / each.square().sum() for name, each in shared.items()]
        objective = torch.stack(apart).mean()
        objective.backward(inputs=[dummy.variable])
        return objective.detach()

    by_hand = [float(optimizer.step(closure)) for _ in range(7)]
    assert found.history == pytest.approx(by_hand, rel=0.01)


def test_its_progress_is_kept_in_words(make_trial):
    trial = make_trial(dataset="sotu-sample", model=SMALL, attack="dlg-text(steps=4)")
    conditions = Conditions(Resources(), snapshot_every=2)
    (result,) = run_trials([trial], conditions)
    trace = result.trace
    assert list(trace.texts.snapshots) == [0, 2, 4]
    assert trace.texts.truth == [
        "[CLS] but the effects of the rev ##ulsion are now slowly but surely passing away . [SEP]"
    ]
    assert len(trace.errors) == len(trace.objective) == 5
    assert all(0 <= each <= 1 for each in trace.errors)


def test_several_texts_at_once(rows_of):
    (row,) = rows_of(attack="dlg-text(steps=30)", protocol="fedsgd(batch_size=2)", model=GUESSING)
    assert row.token_accuracy > 0.2  # hidden words are known
    assert row.status in ("budget", "converged")


def test_equal_trials_give_equal_rows(rows_of):
    first, again = (rows_of(attack="dlg-text(steps=3)")[0] for _ in range(2))
    assert (first.objective, first.rouge_l) == (again.objective, again.rouge_l)


@pytest.mark.parametrize("attack", ["rows", "span", "bag", "likeliest(rounds=8)", "dlg-text(steps=2)"])
def test_wrong_truths_change_nothing_that_an_attack_finds(make_trial, monkeypatch, attack):
    """The client is exchanged for one that has another text, but shares the same gradient."""
    trial = make_trial(dataset="sotu-sample", model=SMALL, attack=attack)
    (honest,) = run_trials([trial], Conditions(Resources()))
    victim = victim_of(trial, Path("data"))
    liar = dataclasses.replace(victim, batch=victim.batch.flip(1))
    monkeypatch.setattr("leakbench.bench.trial.victim_of", lambda *_: liar)
    (misled,) = run_trials([trial], Conditions(Resources()))
    assert torch.equal(honest.trace.reconstruction, misled.trace.reconstruction)
    assert honest.row.score >= misled.row.score


# refused, in a line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "datasets: [sotu-sample]\nattacks: [dlg]\n",
            "dlg on bert and sotu-sample: expected images, got texts",
        ),
        (
            "datasets: [mnist-sample]\nattacks: [rows]\n",
            "rows on lenet and mnist-sample: expected texts, got images",
        ),
        ("datasets: [sotu-sample]\nmodels: [lenet]\n", "expected a model of texts, got one of images"),
        ("datasets: [mnist-sample]\nmodels: [bert]\n", "expected a model of images, got one of texts"),
        (
            "datasets: [sotu-sample, mnist-sample]\n",
            "datasets: expected datasets of one kind in a sweep, got texts and images",
        ),
        (
            "datasets: [sotu-sample]\nmodels: ['bert(longest=20)']\n",
            "expected texts of at most 20 tokens, got 42; the dataset's `longest` cuts them",
        ),
        ("datasets: [sotu-sample]\nmodels: ['bert(heads=3)']\n", "expected a divisor of hidden, 256, got 3"),
        (
            "datasets: [sotu-sample]\nattacks: [dlg-text(steps=0)]\n",
            "expected a whole number in [1, 1000000], got 0",
        ),
        ("datasets: [sotu-sample]\nattacks: [tag(alpha=-1)]\n", "expected a number >= 0, got -1"),
        (
            "datasets: [sotu-sample]\nattacks: [rows]\nprotocols: ['fedsgd(batch_size=2)']\n",
            "expected a gradient of one text, got 2, whose places add up",
        ),
        (
            "datasets: [sotu-sample]\nattacks: [span]\nprotocols: ['fedavg(local_steps=2)']\n",
            "expected a gradient, got how weights moved in several steps or by Adam",
        ),
    ],
)
def test_what_does_not_fit_is_a_line(write, capsys, monkeypatch, tmp_path, content, message):
    monkeypatch.chdir(tmp_path)
    file = write("mine.yaml", content + "defenses: [none]\n")
    assert leakbench.main(["sweep", str(file), "--dry-run"]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_an_attack_that_a_defense_of_the_model_leaves_nothing_is_skipped(
    write, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    content = f"datasets: [sotu-sample]\nmodels: ['{SMALL}']\nattacks: [rows, likeliest, span]\n"
    file = write("a.yaml", content + "defenses: [none, freeze_embeddings]\n")
    assert leakbench.main(["sweep", str(file), "--executor", "inline", "--no-figures"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for name in ("rows", "likeliest"):
        why = f"{name} is skipped on bert(hidden=128, heads=2) with freeze_embeddings: expected a trained"
        assert why in told


def test_a_suite_is_that_of_the_modality(write, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = write(
        "mine.yaml",
        "datasets: [{name: sotu-sample, indices: 0}]\n"
        f"models: ['{SMALL}']\nsuite: standard\ndefenses: [none]\n",
    )
    assert leakbench.main(["sweep", str(file), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {each}  " in told for each in ("rows", "span", "bag", "likeliest", "dlg-text", "tag"))
    assert "adaptive" not in told


def test_every_attack_says_of_which_modality_it_is():
    assert {each.name: each.modality.name for each in ATTACKS} == {
        **dict.fromkeys(
            (
                "dlg",
                "idlg",
                "cosine",
                "adaptive",
                "linear",
                "recursive",
                "hybrid",
                "unrolled",
                "defended",
                "handed-in",
            ),
            "images",
        ),
        **dict.fromkeys(("rows", "span", "bag", "likeliest", "dlg-text", "tag", "handed-in-texts"), "texts"),
    }
