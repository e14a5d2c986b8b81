"""`leakbench completion`: a script that completes commands, options, names and files in bash, zsh or fish."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from leakbench.commands.common import Verbs

SHELLS = ("bash", "zsh", "fish")
NAMED = {  # {argument: the kinds that its values name}
    "defense": ("defense",),
    "against": ("defense",),
    "plugin": ("defense", "attack"),
    "attack": ("attack",),
    "model": ("model",),
    "dataset": ("dataset",),
    "data": ("dataset",),
    "protocol": ("protocol",),
    "suite": ("suite",),
}
IN_FILES = ("defense", "attack", "model")  # which may also be named as file.py:Class
BASH = """{function}() {{
  compgen -W "{names}" -- "$1"
  compgen -f -X '!*.py' -- "$1"
  compgen -d -- "$1"
}}"""
ZSH = """{function}() {{
  _alternative 'names:name:({names})' 'files:file:_files -g "*.py"'
}}"""


def add(verbs: Verbs) -> None:
    """The verb and its options."""
    completion = verbs.add_parser("completion", help="print a script that lets the Tab key complete commands")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")
    completion.set_defaults(command=show_completion)


def show_completion(options: argparse.Namespace, console: Console) -> int:
    """`leakbench completion`: with the names that are known now, including those of installed packages."""
    import shtab

    from leakbench.commands.main import make_parser

    parser = make_parser()
    names = _known_names()
    for verb in _verbs(parser).values():
        for argument in verb._actions:
            complete = _completion(argument, names)
            if complete:
                argument.complete = complete  # type: ignore[attr-defined]  # where shtab looks for it
    script = shtab.complete(parser, options.shell)
    every_value = script.replace('"(*):', '"*:')  # in zsh shtab completes the first of several values only
    console.file.write(every_value + "\n")
    return 0


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (verbs,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return verbs.choices


def _known_names() -> dict[str, list[str]]:
    """{kind: its known names}."""
    from leakbench.bench.attacks import SUITES
    from leakbench.reports.listing import REGISTRIES

    return {"suite": list(SUITES), **{registry.kind: registry.known() for registry in REGISTRIES}}


def _completion(argument: argparse.Action, names: dict[str, list[str]]) -> Any:
    """The completions of an argument in shtab's form; None if nothing is known about it."""
    import shtab

    if argument.type is Path:
        if argument.dest != "file":
            return shtab.FILE if argument.metavar == "FILE" else shtab.DIRECTORY
        return shtab.glob("*.yaml", "*.yml")
    kinds = NAMED.get(argument.dest, ())
    known = " ".join(name for kind in kinds for name in names[kind])
    if not set(kinds) & set(IN_FILES):
        argument.choices = known.split() or argument.choices
        return None
    function = f"_leakbench_{'_or_'.join(kinds)}_or_file"  # shtab takes `..._file` for file completion
    return {
        "bash": function,
        "zsh": function,
        "fish": f"{known} (__fish_complete_suffix .py)",
        "preamble": {
            "bash": BASH.format(function=function, names=known),
            "zsh": ZSH.format(function=function, names=known),
        },
    }
