"""`defended`, which runs each client's defense on its dummy image: for sums of pruned updates."""

import pytest
import torch

from leakbench.bench.attacks import ATTACKS, attacks_of
from leakbench.bench.attacks.runs import Run
from leakbench.bench.client import client_update
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import shared_gradient
from leakbench.bench.protocols import FedAvg, FedSGD, SecureSum
from leakbench.bench.trial import prepare
from leakbench.core.errors import UserError
from leakbench.defenses import DEFENSES, Client
from leakbench.sweeps.checks import load_sweep
from leakbench.sweeps.grid import trials
from leakbench.sweeps.refusals import refusal

NOT_SCALING = "expected a defense that leaves out or scales entries of an update, and draws nothing"
SUM = "secure_sum(clients=3, digits=3)"
SCALING = ["prune(ratio=0.5)", "top_k", "dual_prune", "clip(norm=1.0)", "soteria(ratio=0.6)"]


def case_of(make_trial, tmp_path, **names):
    return prepare(make_trial(**{"attack": "defended", "protocol": SUM, **names}), 0, tmp_path)[0]


def entered(case, variable, place=1):
    """A run that enters a stage at a variable."""
    (candidate, *_) = ATTACKS.parse("defended").candidates(case)
    return Run(case, candidate, None, variable.flatten(), variable.flatten(), place=place)


@pytest.mark.parametrize("defense", SCALING)
def test_of_the_right_images_nothing_is_left_over(make_trial, tmp_path, defense):
    """The sum of what the clients' defense leaves is reproduced to rounding, but not otherwise."""
    attack, case = ATTACKS.parse("defended"), case_of(make_trial, tmp_path, defense=defense)
    images = torch.rand(case.spec.batch_shape, generator=torch.Generator().manual_seed(3))
    run = entered(case, images.logit())
    labels = run.candidate.labels
    known = DEFENSES.parse(defense)
    batches = [*zip(images.split(1), labels.argmax(1).split(1), strict=True)]
    sent = [
        known.share(
            client_update(case.model, case.protocol, *batch),
            torch.Generator(),
            client=Client(case.model, *batch),
        ).gradients
        for batch in batches
    ]
    shared = {name: torch.stack([each[name] for each in sent]).mean(0) for name in case.shared}

    def gradient(_weights, image, label):
        return shared_gradient(case.model, image, label.argmax(1))

    def update(terms):
        return case.protocol.expected(gradient, {}, images, labels, attack.simulated(terms))

    simulated, plain = update(attack.renewed(run)), update(run.candidate.terms)
    for name, each in shared.items():
        torch.testing.assert_close(simulated[name], each, rtol=1e-4, atol=1e-7)
    assert any(float((plain[name] - each).norm()) > 0.1 * float(each.norm()) for name, each in shared.items())


def test_total_variation_makes_up_for_what_is_not_simulated_right(make_trial, tmp_path):
    case, attack = case_of(make_trial, tmp_path, defense="prune(ratio=0.5)"), ATTACKS.parse("defended")
    grey = entered(case, torch.zeros(case.spec.batch_shape), place=len(attack.falling) - 1)
    assert float(attack.renewed(grey)["tv"]) > 10 * grey.stage.terms["tv"]
    first = attack.renewed(entered(case, torch.zeros(case.spec.batch_shape), place=0))
    assert first == {"tv": torch.tensor(10.0)}


def test_it_finds_what_adaptive_does_not(make_trial):
    """Three digits, of whose gradients half is left out."""
    names = {"dataset": "mnist-5k", "index": 8, "protocol": SUM, "defense": "prune(ratio=0.5)"}
    trials = [make_trial(attack=each, **names) for each in ("adaptive", "defended")]
    plain, simulated = sorted(
        run_trials(trials, Conditions()), key=lambda each: ["adaptive", "defended"].index(each.row.attack)
    )
    assert simulated.row.ssim > plain.row.ssim + 0.1
    assert simulated.row.threat == "defense, protocol"


@pytest.mark.parametrize(
    "protocol", [FedSGD(), FedAvg(local_steps=3), SecureSum(batch_size=2), SecureSum(clients=3, colluders=2)]
)
def test_it_is_for_sums_of_clients_with_an_image_each(make_trial, tmp_path, protocol):
    case = case_of(make_trial, tmp_path, protocol=str(protocol))
    text = "expected a sum of gradients of several clients with one image each"
    assert refusal(ATTACKS.parse("defended"), case) == text


@pytest.mark.parametrize("defense", SCALING)
def test_defenses_that_scale_entries_can_be_simulated(make_trial, tmp_path, defense):
    case, attack = case_of(make_trial, tmp_path), ATTACKS.parse("defended")
    assert (refusal(attack, case), refusal(attack, case, DEFENSES.parse(defense))) == ("", "")


ROUNDING = ["none", "float16", "int8", "sign", "gaussian(variance=1e-10)", "random_sparsify(ratio=0.5)"]


@pytest.mark.parametrize("defense", [*ROUNDING, "mixup", "precode", "dp_gaussian(noise_multiplier=0.0)"])
def test_others_cannot(make_trial, tmp_path, defense):
    found = refusal(ATTACKS.parse("defended"), case_of(make_trial, tmp_path), DEFENSES.parse(defense))
    assert found == NOT_SCALING


def test_a_users_defense_that_draws_cannot(make_trial, tmp_path, write):
    write(
        "mine.py",
        "import torch\nfrom leakbench import Defense\nclass Mine(Defense):\n"
        "    def apply(self, gradients, generator):\n"
        "        return {n: g * torch.rand(1, generator=generator).round() for n, g in gradients.items()}\n",
    )
    defense = DEFENSES.parse(f"{tmp_path}/mine.py:Mine")
    found = refusal(ATTACKS.parse("defended"), case_of(make_trial, tmp_path), defense)
    assert found == NOT_SCALING


def test_only_attacks_that_know_defenses_get_it(make_trial, tmp_path):
    defense = DEFENSES.parse("top_k")
    assert case_of(make_trial, tmp_path, defense="top_k").defense == defense
    assert case_of(make_trial, tmp_path, defense="top_k", attack="cosine").defense is None


FILE = "datasets: [mnist-sample]\nmodels: [lenet]\nprotocols: [secure_sum]\n"


def test_it_joins_a_suite_under_the_defenses_that_it_can_simulate(write, tmp_path):
    assert "defended" not in attacks_of("standard", [FedSGD()])
    assert "defended" in attacks_of("standard", [FedSGD(), SecureSum()])
    defenses = "defenses: [none, {name: prune, ratio: 0.5}, float16]\n"
    sweep = load_sweep(write("mine.yaml", FILE + defenses + "suite: standard\n"), tmp_path)
    notices = [each for each in sweep.notices if each.startswith("defended")]
    assert notices == [f"defended is skipped on lenet with none, float16: {NOT_SCALING}"]
    of_it = [str(each.defense) for each in trials(sweep) if each.attack.name == "defended"]
    assert of_it == ["prune(ratio=0.5)"] * len(sweep.datasets[0].indices)
    assert len(list(trials(sweep))) == len(sweep)


def test_listed_where_it_never_applies_it_is_a_problem(write, tmp_path):
    file = write("mine.yaml", FILE + "defenses: [none, float16]\nattacks: [defended]\n")
    with pytest.raises(
        UserError, match=r"attacks\[0\]: defended on lenet and mnist-sample: expected a defense"
    ):
        load_sweep(file, tmp_path)
