"""Commands for authors of defenses and attacks: `leakbench new-defense`, `new-attack`, `check`."""

import argparse
import keyword
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from leakbench.commands import TRIALS_FAILED
from leakbench.commands.common import Verbs, add_data_root

if TYPE_CHECKING:
    from leakbench.core.configured import Configured
    from leakbench.sweeps.conformance import Finding

IMPORTED = ("Defense", "Attack", "Found")  # by the templates

DEFENSE = '''"""{cls}: what it does and where it comes from (paper, equation)."""

from dataclasses import dataclass
from typing import ClassVar

from leakbench import Defense


@dataclass(frozen=True)
class {cls}(Defense):
    """Every entry is clipped to [-limit, limit]."""

    limit: float = 0.01  # a setting; add more if you need them
    grid: ClassVar = {{"limit": [0.1, 0.01, 0.001]}}  # the values that `leakbench compare` tries

    def apply(self, gradients, generator):  # {{parameter name: tensor}}; draw from `generator` only
        return {{name: gradient.clamp(-self.limit, self.limit) for name, gradient in gradients.items()}}
'''


ATTACK = '''"""{cls}: what it does and where it comes from (paper, equation)."""

from dataclasses import dataclass

import torch
from leakbench import Attack, Found


@dataclass(frozen=True)
class {cls}(Attack):
    """Returns grey images, whatever the gradient."""

    shade: float = 0.5  # a setting; add more if you need them

    def invert(self, case):  # case.model, case.shared {{parameter name: tensor}}, case.spec
        return Found(torch.full(case.spec.batch_shape, self.shade))
'''


def add(verbs: Verbs) -> None:
    """Add the verbs and their options."""
    for kind, command in (("defense", write_defense), ("attack", write_attack)):
        article = "an" if kind == "attack" else "a"
        new = verbs.add_parser(
            f"new-{kind}", help=f"write a file with {article} {kind} that works, as a starting point"
        )
        new.add_argument("name", metavar="NAME", help=f"for example my_{kind}, which writes my_{kind}.py")
        new.set_defaults(command=command)
    check = verbs.add_parser("check", help="test whether a plug-in of any kind keeps its contract")
    check.add_argument("plugin", metavar="PLUGIN", help="file.py, file.py:Class or a known name")
    add_data_root(check)
    check.set_defaults(command=check_plugins)


def write_defense(options: argparse.Namespace, console: Console) -> int:
    """`leakbench new-defense`."""
    file, cls = _write(options.name, DEFENSE, "my_defense")
    console.print(f"wrote {file}, a defense that works. Change it into yours, then run:")
    console.print(f"  leakbench check {file}")
    console.print(f"  leakbench compare {file}:{cls}")
    return 0


def write_attack(options: argparse.Namespace, console: Console) -> int:
    """`leakbench new-attack`."""
    file, cls = _write(options.name, ATTACK, "my_attack")
    console.print(f"wrote {file}, an attack that works. Change it into yours, then run:")
    console.print(f"  leakbench check {file}")
    console.print(f"and name it in a sweep file, next to another attack: attacks: [dlg, '{file}:{cls}']")
    return 0


def _write(name: str, template: str, example: str) -> tuple[Path, str]:
    """Write a file for a class of that name.

    Returns:
        The file and the name of the class.

    Raises:
        UserError: the name cannot be used, or the file exists.
    """
    from leakbench.core.errors import UserError

    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name.removesuffix(".py"))
    cls, file = "".join(word[0].upper() + word[1:] for word in words), Path("_".join(words).lower() + ".py")
    taken = keyword.iskeyword(cls) or cls in IMPORTED
    if not re.fullmatch(r"[A-Za-z][\w-]*(\.py)?", name) or not words or taken:
        raise UserError(f"{name}: expected a name of letters, digits and _, such as {example}")
    if file.exists():
        raise UserError(f"{file}: the file exists already; choose another name or remove it")
    file.write_text(template.format(cls=cls))
    return file, cls


def check_plugins(options: argparse.Namespace, console: Console) -> int:
    """`leakbench check`: one line per requirement, tested with all settings of a class."""
    from leakbench.core.process import prepare_worker
    from leakbench.defenses import Defense
    from leakbench.sweeps.conformance import findings_of, plugins_in
    from leakbench.sweeps.conformance.defenses import seconds_a_megabyte

    prepare_worker()  # one thread, as in a sweep
    wrong = 0
    for name, alike in groupby(plugins_in(options.plugin), key=lambda plugin: plugin.name):
        plugins = list(alike)
        defends = isinstance(plugins[0], Defense)
        settings = (str(each).removeprefix(name).strip("()") or "defaults" for each in plugins)
        console.print(f"{name}, with {'; '.join(settings)}")
        tried = [
            (plugin, finding) for plugin in plugins for finding in findings_of(plugin, options.data_root)
        ]
        for line in _lines(tried):
            console.print(line)
        problems = sum(bool(finding.problem) and finding.applies for _, finding in tried)
        if defends and not problems:
            slowest = max(map(seconds_a_megabyte, plugins))
            console.print(f"  takes at most {1000 * slowest:.2g} ms per MB of gradients")
        wrong += problems
    return TRIALS_FAILED if wrong else 0


def _lines(tried: "list[tuple[Configured, Finding]]") -> Iterator[str]:
    """One line per requirement, with the first plug-in that does not meet it."""
    for what in dict.fromkeys(finding.what for _, finding in tried):
        own = [(plugin, found) for plugin, found in tried if found.what == what and found.problem]
        plugin, found = next((each for each in own if each[1].applies), own[0] if own else (None, None))
        if found is None:
            yield f"  ok     {what}"
        elif found.applies:
            yield f"  wrong  {what}: {found.problem}  [{plugin}]"
        else:
            yield f"  not for {what}: {found.problem}"
