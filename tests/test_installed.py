"""Defenses of an installed package: found by name, and errors explained."""

import subprocess
import sys

import pytest
from running import ENVIRONMENT

GOOD = """
from dataclasses import dataclass
from leakbench import Defense

@dataclass(frozen=True)
class Halve(Defense):
    factor: float = 0.5

    def apply(self, gradients, generator):
        return {name: self.factor * gradient for name, gradient in gradients.items()}

class Other:
    pass

def function():
    pass
"""


ATTACK = """
from dataclasses import dataclass
import torch
from torch import nn
from leakbench import Attack, Dataset, Found, Images, Protocol

@dataclass(frozen=True)
class Grey(Attack):
    def invert(self, case):
        return Found(torch.full(case.spec.batch_shape, 0.5))

@dataclass(frozen=True)
class Pairs(Protocol):
    batch_size: int = 2

@dataclass(frozen=True)
class Greys(Dataset):
    def open(self, data_root):
        return Images((1, 28, 28), 2, 10, lambda index: (torch.full((1, 28, 28), 0.1 * index), index % 2))

class Linear(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(784, 10))
"""


@pytest.fixture
def package(write):
    """A package as pip leaves it: a module, and metadata with entry points."""
    folder = write("halving.py", GOOD).parent
    write("broken.py", "raise SystemExit('no licence found')")
    write("halving-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: halving\nVersion: 1.0\n")
    write(
        "halving-1.0.dist-info/entry_points.txt",
        "[leakbench.defenses]\nhalve = halving:Halve\nother = halving:Other\nfunction = halving:function\n"
        "broken = broken:Halve\nabsent = halving:Absent\nnone = halving:Halve\n",
    )
    return folder


def outcome(package, code):
    """What a new process prints of `code`, with that package installed."""
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{package}"}
    head = "from leakbench.defenses import DEFENSES\nfrom leakbench.core.configured import SettingError\n"
    return subprocess.run(
        [sys.executable, "-c", head + code],
        text=True,
        capture_output=True,
        env=environment,
        timeout=60,
        check=True,
    ).stdout.strip()


def test_a_defense_of_an_installed_package_is_known_by_its_name(package):
    code = "d = DEFENSES.parse('halve(factor=0.25)')\nprint(d, len(d.origin), d.settings())"
    assert outcome(package, code) == "halve(factor=0.25) 64 {'factor': 0.25}"


def test_every_other_kind_is_found_likewise(package, write):
    write("pictures.py", ATTACK)
    write(
        "pictures-1.0.dist-info/entry_points.txt",
        "[leakbench.attacks]\ngrey = pictures:Grey\n[leakbench.models]\nlinear = pictures:Linear\n"
        "[leakbench.datasets]\ngreys = pictures:Greys\n[leakbench.protocols]\npairs = pictures:Pairs\n",
    )
    write("pictures-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: pictures\nVersion: 1.0\n")
    code = "from leakbench.bench.attacks import ATTACKS\nfrom leakbench.bench.models import MODELS\n"
    code += "print(ATTACKS.parse('grey'), MODELS.parse('linear'), 'grey' in DEFENSES.known())"
    code += (
        "\nfrom leakbench.bench.datasets import DATASETS\nfrom leakbench.bench.protocols import PROTOCOLS\n"
    )
    code += "print(DATASETS.parse('greys'), PROTOCOLS.parse('pairs(rounds=3)').batch_size)"
    code += "\nfrom leakbench.sweeps.conformance import plugins_in\n"
    code += "print(*(each for name in ('grey', 'linear', 'greys', 'pairs') for each in plugins_in(name)))"
    found = outcome(package, code).splitlines()
    assert found == ["grey linear False", "greys 2", "grey linear greys pairs"]


def test_a_name_of_our_own_stays_ours(package):
    assert outcome(package, "print(type(DEFENSES.parse('none')).__module__)") == "leakbench.defenses.none"


def test_a_wrong_one_is_explained_in_a_line(package):
    texts = {
        "broken": "broken of halving: could not be imported: SystemExit: no licence found",
        "function": "function of halving: expected a class at halving:function, got a function",
        "other": "other: expected a complete subclass of leakbench.Defense, got a object",
        "halv": "unknown defense 'halv'; did you mean 'halve'? known: none, gaussian, laplacian, float16,"
        " bfloat16, prune, int8, clip, dp_gaussian, freeze_embeddings, top_k, sign, qsgd, terngrad,"
        " random_sparsify, dual_prune, soteria, precode, mixup, instahide, augment, halve, other,"
        " function, broken, absent",
        "absent": "absent of halving: could not be imported: AttributeError: ",
    }
    code = f"for name in {[*texts]}:\n    try: DEFENSES.parse(name)\n"
    code += "    except SettingError as error: print(error)"
    for found, text in zip(outcome(package, code).splitlines(), texts.values(), strict=True):
        assert found.startswith(text) if text.endswith(": ") else found == text


def test_the_list_shows_it(package):
    code = "import sys\nfrom leakbench.reports.listing import listing\nprint(*listing(), sep='\\n')"
    assert "  halve " in outcome(package, code)
