"""For who writes a defense: `leakbench new-defense`, `check`."""

import argparse
import re
from itertools import groupby
from pathlib import Path

from rich.console import Console

from commands import TRIALS_FAILED
from commands.common import Verbs

TEMPLATE = '''"""{cls}: what it does, and where it comes from (paper, equation)."""

from dataclasses import dataclass
from typing import ClassVar

from defenses import Defense


@dataclass(frozen=True)
class {cls}(Defense):
    """Every entry cut to [-limit, limit]."""

    limit: float = 0.01  # a setting; several may follow
    grid: ClassVar = {{"limit": [0.1, 0.01, 0.001]}}  # the values that `leakbench compare` tries

    def apply(self, gradients, generator):  # {{parameter name: tensor}}; draw only from the generator
        return {{name: gradient.clamp(-self.limit, self.limit) for name, gradient in gradients.items()}}
'''


def add(verbs: Verbs) -> None:
    """The verbs and their options."""
    new = verbs.add_parser("new-defense", help="write a file with a defense that works, to be changed")
    new.add_argument("name", metavar="NAME", help="of the defense, such as my_defense: writes my_defense.py")
    new.set_defaults(command=write_defense)
    check = verbs.add_parser("check", help="try whether a defense keeps its contract")
    check.add_argument("defense", metavar="DEFENSE", help="file.py, file.py:Class or the name of a known one")
    check.set_defaults(command=check_defense)


def write_defense(options: argparse.Namespace, console: Console) -> int:
    """`leakbench new-defense`."""
    from defenses.errors import UserError

    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", options.name.removesuffix(".py"))
    cls, file = "".join(word[0].upper() + word[1:] for word in words), Path("_".join(words).lower() + ".py")
    if not re.fullmatch(r"[A-Za-z][\w-]*(\.py)?", options.name) or not words:
        raise UserError(f"{options.name}: expected letters, digits and _ for a name, such as my_defense")
    if file.exists():
        raise UserError(f"{file}: expected no such file, found one; choose another name, or remove it")
    file.write_text(TEMPLATE.format(cls=cls))
    console.print(f"{file}: a defense that works; change it into yours, then:")
    console.print(f"  leakbench check {file}")
    console.print(f"  leakbench compare {file}:{cls}")
    return 0


def check_defense(options: argparse.Namespace, console: Console) -> int:
    """`leakbench check`: a line for each thing that was tried with all settings of a class."""
    from sweeps.conformance import defenses_in, findings, seconds_a_megabyte

    wrong = 0
    for name, alike in groupby(defenses_in(options.defense), key=lambda defense: defense.name):
        defenses = list(alike)
        settings = (str(each).removeprefix(name).strip("()") or "defaults" for each in defenses)
        console.print(f"{name}, with {'; '.join(settings)}")
        tried = [(defense, finding) for defense in defenses for finding in findings(defense)]
        for what in dict.fromkeys(finding.what for _, finding in tried):
            problems = [(d, found.problem) for d, found in tried if found.what == what and found.problem]
            for defense, problem in problems[:1]:
                console.print(f"  wrong  {what}: {problem}  [{defense}]")
            if not problems:
                console.print(f"  ok     {what}")
            wrong += len(problems)
        if not any(finding.problem for _, finding in tried):
            slowest = max(map(seconds_a_megabyte, defenses))
            console.print(f"  takes {1000 * slowest:.2g} ms at most for a MB of gradients")
    return TRIALS_FAILED if wrong else 0
