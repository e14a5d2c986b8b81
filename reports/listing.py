"""`leakbench list`: everything that a sweep file can name."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any

from leakbench.bench.attacks import ATTACKS
from leakbench.bench.datasets import DATASETS
from leakbench.bench.modalities import IMAGES, MODALITIES, Modality
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
YOUR_OWN = {  # by heading
    "defenses": "file.py:ClassName     a subclass of leakbench.Defense in a file of your own",
    "datasets of images": "folder:PATH           your own pictures, short for {name: folder, path: PATH}",
    "datasets of texts": "text:FILE             your own texts, one a line: {name: text, path: FILE}\n"
    "  file.py:ClassName     a subclass of leakbench.Dataset in a file of your own, of images or texts",
    "models": "file.py:ClassName     a torch.nn.Module in a file of your own",
    "protocols": "file.py:ClassName     a subclass of leakbench.Protocol in a file of your own",
    "attacks": "file.py:ClassName     a subclass of leakbench.Attack in a file of your own",
}


def listing() -> Iterator[str]:
    """One block per kind: names, descriptions, and settings with type and default."""
    for heading, registry, names in _blocks():
        yield heading
        for name in names:
            yield from _entry(registry, name)
        yield f"  {YOUR_OWN[heading]}"


def _blocks() -> Iterator[tuple[str, Registry[Any], list[str]]]:
    """The heading of each block, and the names below it; datasets are told apart by what they are of."""
    for registry in REGISTRIES:
        names = list(registry.known())
        if registry is DATASETS:
            for modality in MODALITIES.values():
                own = [name for name in names if _is_of(name, modality)]
                yield f"datasets of {modality.name}", registry, own
        else:
            yield f"{registry.kind}s", registry, names


def _is_of(name: str, modality: Modality) -> bool:
    """Whether a dataset is of such examples, or its settings decide."""
    try:
        own = DATASETS.find(name).modality
    except SettingError:  # from another package, and it cannot be used
        own = IMAGES
    return own is modality or isinstance(own, property)


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
