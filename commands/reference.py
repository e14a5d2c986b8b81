"""The command reference, docs/COMMANDS.md."""

import argparse
from collections.abc import Iterator

HEAD = """# Commands

Written by `make reference`, from the program itself.

Exit status: 0 success; 1 the command finished, but something failed, is wrong or got worse; 2 nothing was
run, the input has to be changed; 3 stopped early, what is finished is stored; 130 Ctrl-C."""


def reference(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One section per verb, with its options."""
    yield HEAD
    (verbs,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    helps = {each.dest: each.help for each in verbs._choices_actions}
    for name, verb in verbs.choices.items():
        actions = [each for each in verb._actions if not isinstance(each, argparse._HelpAction)]
        words = " ".join(_positional(each) for each in actions if not each.option_strings)
        required = " ".join(_option(each) for each in actions if each.option_strings and each.required)
        title = " ".join(filter(None, ("leakbench", name, words, required)))
        yield f"\n## {title}\n\n{_sentence(helps[name])}\n"
        yield from (f"- `{_option(each) or _positional(each)}`: {_meaning(each)}" for each in actions)


def _positional(action: argparse.Action) -> str:
    name = str(action.metavar or action.dest)
    return f"{name}..." if action.nargs == "+" else name


def _option(action: argparse.Action) -> str:
    if not action.option_strings:
        return ""
    choices = "|".join(map(str, action.choices or ()))
    value = "" if action.nargs == 0 else f" {choices or action.metavar or action.dest.upper()}"
    return action.option_strings[-1] + value


def _meaning(action: argparse.Action) -> str:
    return (action.help or "").replace("%(default)s", str(action.default))


def _sentence(text: str | None) -> str:
    return f"{text[0].upper()}{text[1:]}." if text else ""
