"""Defenses' accounts of themselves: whether they are true, and what happens to one that is false."""

import pytest
import torch

import leakbench
from leakbench.bench.attacks import ATTACKS, Knows
from leakbench.bench.trial import prepare
from leakbench.defenses import DEFENSES, Account, ContractError
from leakbench.defenses.account import Mean

GRADIENT = {
    "a": torch.randn(40, 50, generator=torch.Generator().manual_seed(0)),
    "b": torch.tensor([3.0, 0.0]),
}
HEAD = (
    "from dataclasses import dataclass, replace\nimport torch\nfrom leakbench import Account, Defense\n"
    "from leakbench.defenses.clipping import Clip\n"
    "from leakbench.defenses.noise import Gaussian\nfrom leakbench.defenses.pruning import Prune\n"
    "from leakbench.defenses.qsgd import QSGD\n"
    "@dataclass(frozen=True)\n"
)


def shared(defense, gradient=GRADIENT):
    return DEFENSES.parse(defense)(gradient, torch.Generator().manual_seed(1))


def account(defense, gradient=GRADIENT):
    parsed = DEFENSES.parse(defense)
    return parsed.checked_account(shared(defense, gradient))


def test_nothing_was_done_to_an_undefended_gradient():
    assert account("none") == Account()


@pytest.mark.parametrize("noise", ["gaussian", "laplacian"])
def test_noise_gives_its_variance_and_less_of_it_over_several_rounds(noise):
    assert account(f"{noise}(std=0.1)") == Account(variance=pytest.approx(0.01))
    parsed = DEFENSES.parse(f"{noise}(variance=0.01)")
    assert parsed.checked_account(GRADIENT, Mean(rounds=4)).variance == pytest.approx(0.0025)


@pytest.mark.parametrize("noise", ["gaussian", "laplacian"])
@pytest.mark.parametrize("relative", [0.1, 1.0])
@pytest.mark.parametrize("rounds", [1, 4])
def test_relative_noise_gives_a_variance_for_each_tensor(noise, relative, rounds):
    """Estimated from what is shared, in which noise is contained."""
    gradient = {name: scale * torch.randn(100_000) for name, scale in (("a", 3.0), ("b", 1e-3))}
    gradient["zeros"] = torch.zeros(5)
    defense, draws = DEFENSES.parse(f"{noise}(relative={relative})"), torch.Generator().manual_seed(0)
    sent = [defense(gradient, draws) for _ in range(rounds)]
    mean = {name: sum(each[name] for each in sent) / rounds for name in gradient}
    told = defense.checked_account(mean, Mean(rounds)).variance
    for name in ("a", "b"):
        noise = mean[name] - gradient[name]
        assert told[name] == pytest.approx(float(noise.square().mean()), rel=0.03)
    assert told["zeros"] == 0


def test_clipping_says_that_the_scale_is_unknown_where_it_may_have_acted():
    norm = float(torch.cat(list(GRADIENT.values())[:1]).norm())
    assert account("clip(norm=1)") == Account(scaled=True)
    assert account(f"clip(norm={2 * norm})") == Account(scaled=False)
    clip = DEFENSES.parse("clip(norm=1)")
    mean = {name: each / 2 for name, each in shared("clip(norm=1)").items()}
    assert clip.checked_account(
        mean, Mean(clients=2)
    ).scaled  # clients' updates may be longer than their mean
    assert not clip.checked_account(mean, Mean(rounds=2)).scaled  # the same update, shared again
    assert clip.checked_account(mean, Mean(rounding=1.0)).scaled  # rounding may have made it shorter


def test_noise_on_a_sum_of_examples_is_divided_with_it():
    defense = DEFENSES.parse("dp_gaussian(noise_multiplier=0.5, clip=4)")
    assert defense.checked_account(GRADIENT) == Account(variance=4.0, scaled=True)
    assert defense.checked_account(GRADIENT, Mean(rounds=2, examples=10)) == Account(
        variance=0.02, scaled=True
    )
    noise = DEFENSES.parse("gaussian(std=2)")
    assert noise.checked_account(GRADIENT, Mean(examples=10)) == Account(variance=4.0)  # on the mean itself


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_pruning_says_which_entries_it_kept(scope):
    defense = f"prune(ratio=0.3, scope={scope})"
    kept = account(defense).kept
    assert kept["a"].shape == GRADIENT["a"].shape
    assert torch.equal(kept["a"], shared(defense)["a"] != 0)
    assert 0.6 < float(kept["a"].double().mean()) < 0.8


def test_zeros_of_the_gradients_own_are_known_to_be_zeros():
    """More of them than are pruned: then only zeros were pruned, and nothing is unknown."""
    gradient = {"dead": torch.cat([torch.zeros(6), torch.ones(4)])}
    assert account("prune(ratio=0.5)", gradient).kept["dead"].all()
    assert account("prune(ratio=0.6)", gradient).kept["dead"].tolist() == 6 * [False] + 4 * [True]


@pytest.mark.parametrize("defense", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1.0, 1e4])
def test_rounding_says_how_far_an_entry_was_moved_and_not_much_more(defense, scale):
    gradient = {name: scale * each for name, each in GRADIENT.items()}
    bound = account(defense, gradient).rounding
    off = {name: (each - gradient[name]).abs() for name, each in shared(defense, gradient).items()}
    assert all((each <= bound[name] * 1.0001).all() for name, each in off.items())
    assert float(off["a"].max()) > 0.4 * float(bound["a"].max()) or (defense == "float16" and scale < 1e-7)


def test_a_defense_says_nothing_unless_it_is_written_to(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + "class Mine(Defense):\n    def apply(self, gradients, generator):\n"
                    "        return {n: g.clone() for n, g in gradients.items()}\n")  # fmt: skip
    assert DEFENSES.parse(f"{path}:Mine").account(GRADIENT) is None


LENET = "'0.weight' of a gradient of a LeNet"
LIES = {
    "class Mine(Gaussian):\n    def account(self, shared): return Account(variance=2 * self.strength)\n":
        "expected errors of the variance that its account says, 2, got 1",
    "class Mine(Gaussian):\n    def account(self, shared): return Account()\n":
        f"expected entries of {LENET} to be off by at most what its account says, ",
    "class Mine(Gaussian):\n    def apply(self, gradients, generator):\n"
    "        return super().apply({n: g.clamp(-0.01, 0.01) for n, g in gradients.items()}, generator)\n":
        "expected errors of the variance that its account says, 1, got ",
    "class Mine(Prune):\n    def account(self, shared):\n"
    "        return Account(kept={n: torch.ones_like(s, dtype=torch.bool) for n, s in shared.items()})\n":
        f"expected entries of {LENET} to be off by at most what its account says, ",
    "class Mine(Prune):\n    def account(self, shared):\n"
    "        return Account(kept={n: torch.zeros_like(s, dtype=torch.bool) for n, s in shared.items()})\n":
        f"expected zeros in {LENET} where its account says that nothing was kept, got others",
    "class Mine(Prune):\n    def account(self, shared): return 3\n":
        "account: expected an Account or None, got int",
    "class Mine(Prune):\n    def account(self, shared): return Account(variance=-1.0)\n":
        "account: expected a variance >= 0, got -1.0",
    "class Mine(Prune):\n    def account(self, shared): return Account(scaled=1)\n":
        "account: expected scaled to be true or false, got 1",
    "class Mine(Clip):\n    grid = {'norm': [0.1]}\n    def account(self, shared): return Account()\n":
        f"expected entries of {LENET} to be off by at most what its account says, ",
    "class Mine(Prune):\n    def account(self, shared): return Account(variance={})\n":
        "account: variance: expected numbers named ['0.weight', ",
    "class Mine(Prune):\n    def account(self, shared):\n"
    "        return Account(variance=dict.fromkeys(shared, 1e999))\n":
        "account: expected a variance >= 0, got inf",
    "class Mine(Gaussian):\n    def apply(self, gradients, generator):\n"
    "        return Gaussian(relative=1).apply(gradients, generator)\n"
    "    def account(self, shared): return Gaussian(relative=0.9).account(shared)\n":
        "expected errors of the variance that its account says, ",
    "class Mine(Prune):\n    def account(self, shared):\n"
    "        return Account(rounding=shared, mean_squares={})\n":
        "account: mean_squares: expected numbers named ['0.weight', ",
    "class Mine(Prune):\n    def account(self, shared):\n"
    "        return Account(rounding=shared, mean_squares=dict.fromkeys(shared, -1.0))\n":
        "account: expected mean squares >= 0, got -1.0",
    "class Mine(QSGD):\n    grid = {'levels': [8]}\n    def account_of_rounds(self, shared, rounds):\n"
    "        told = super().account_of_rounds(shared, rounds)\n"
    "        return replace(told, mean_squares={n: s / 100 for n, s in told.mean_squares.items()})\n":
        "expected rounding errors of about the mean squares that its account says, got ",
    "class Mine(Prune):\n    def account(self, shared): return Account(kept={})\n":
        "account: kept: expected tensors named ['0.weight', ",
    "class Mine(Prune):\n    def account(self, shared): return Account(kept=shared)\n":
        "account: kept of '0.weight': expected torch.bool, got torch.float32",
}  # fmt: skip


@pytest.mark.parametrize("body", LIES)
def test_a_defense_that_lies_about_itself_is_caught(tmp_path, monkeypatch, capsys, body):
    monkeypatch.chdir(tmp_path)
    grid = "    grid = {'variance': [1.0]}\n" if "Gaussian" in body else "    grid = {'ratio': [0.5]}\n"
    grid = "" if "grid" in body else grid
    (tmp_path / "mine.py").write_text(HEAD + body + grid)
    assert leakbench.main(["check", "mine.py"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "its account: " in line]
    assert line.startswith("  wrong  its account: ")
    assert LIES[body] in line


def test_a_missing_account_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert leakbench.main(["new-defense", "mine"]) == 0
    assert leakbench.main(["check", "mine.py"]) == 0
    told = "not for its account: none is given, so attacks that know defenses learn nothing about it"
    assert told in capsys.readouterr().out


def test_only_an_attack_that_knows_defenses_gets_the_account(make_trial, tmp_path):
    def told(attack, **names):
        return prepare(make_trial(attack=attack, **names), 0, tmp_path)[0].account

    assert told("dlg", defense="gaussian(variance=0.01)") is None
    assert told("adaptive", defense="gaussian(variance=0.01)") == Account(variance=0.01)
    assert told("adaptive", defense="gaussian(variance=0.01)", protocol="fedsgd(rounds=10)").variance == 0.001
    knowing = {"adaptive", "linear", "recursive", "hybrid", "unrolled", "defended", "likeliest"}
    assert {attack.name for attack in ATTACKS if Knows.DEFENSE in attack.knows} == knowing


def test_a_bad_account_is_a_contract_error_of_its_trial(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(HEAD + "class Mine(Prune):\n    def account(self, shared): return 3\n")
    with pytest.raises(ContractError, match="account: expected an Account or None, got int"):
        DEFENSES.parse(f"{path}:Mine(ratio=0.5)").checked_account(GRADIENT)
