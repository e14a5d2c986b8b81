"""`leakbench list`: everything that a sweep file can name."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from leakbench.bench.attacks import ATTACKS
from leakbench.bench.datasets import DATASETS
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.core.configured import (
    Configured,
    SettingError,
    default_of,
    describe,
    format_value,
    setting_types,
)
from leakbench.core.registry import Registry
from leakbench.defenses import DEFENSES

REGISTRIES: tuple[Registry[Any], ...] = (DEFENSES, DATASETS, MODELS, PROTOCOLS, ATTACKS)
YOUR_OWN = {
    "defense": "file.py:ClassName     a subclass of leakbench.Defense in a file of your own",
    "dataset": "folder:PATH           your own pictures, short for {name: folder, path: PATH}\n"
    "  file.py:ClassName     a subclass of leakbench.Dataset in a file of your own",
    "model": "file.py:ClassName     a torch.nn.Module in a file of your own",
    "protocol": "file.py:ClassName     a subclass of leakbench.Protocol in a file of your own",
    "attack": "file.py:ClassName     a subclass of leakbench.Attack in a file of your own",
}


def listing() -> Iterator[str]:
    """One block per kind: names, descriptions, and settings with type and default."""
    for registry in REGISTRIES:
        yield f"{registry.kind}s"
        for name in registry.known():
            yield from _entry(registry, name)
        if registry.kind in YOUR_OWN:
            yield f"  {YOUR_OWN[registry.kind]}"


def _entry(registry: Registry[Any], name: str) -> Iterator[str]:
    try:
        member = registry.find(name)
    except SettingError as error:  # from another package
        yield f"  {name:<21} cannot be used: {error}"
        return
    yield f"  {name:<21} {(member.__doc__ or 'no description').strip().splitlines()[0]}"
    for setting in _settings(member):
        yield f"      {setting}"


def _settings(member: type[Configured]) -> Iterator[str]:
    kinds = setting_types(member)
    for field in fields(member):
        default = default_of(field)
        shown = "required" if default is MISSING else "not set" if default is None else format_value(default)
        yield f"{field.name + ' = ' + shown:<26} {describe(kinds[field.name])}"
