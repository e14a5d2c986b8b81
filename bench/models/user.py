"""A user's `torch.nn.Module`, named in a sweep as `file.py:ClassName`."""

import inspect
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from leakbench.bench.modalities import Modality
from leakbench.bench.models.base import Model
from leakbench.core.configured import SettingError, coerce, default_of
from leakbench.core.registry import Registry
from leakbench.core.user_files import file_digest

GIVEN = ("image_shape", "classes")  # constructor arguments that come from the dataset


@dataclass(frozen=True)
class UserModel(Model):
    """Wraps a user's class; the arguments of its constructor are the settings.

    Arguments named `image_shape` (C, H, W) and `classes` are filled in from the dataset.
    """

    modality: ClassVar[Modality | None] = None
    module: ClassVar[type[nn.Module]]

    @property
    def masked(self) -> bool:
        """See `Model.masked`: whether the class says so, by `masked = True`."""
        return bool(getattr(self.module, "masked", False))

    def layers(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        """See `Model.layers`."""
        base = {each.name for each in fields(UserModel)}
        arguments = {
            each.name: getattr(self, each.name)
            for each in fields(self)
            if each.name not in base and getattr(self, each.name) != default_of(each)
        }
        accepted = inspect.signature(self.module).parameters
        given = {"image_shape": shape, "classes": classes}
        arguments.update({key: given[key] for key in GIVEN if key in accepted})
        return self.module(**arguments)


class ModelRegistry(Registry[Model]):
    """The registry of models, which accepts any `torch.nn.Module` from a user's file."""

    def takes(self, cls: type) -> bool:
        """See `Registry.takes`."""
        return issubclass(cls, (Model, nn.Module))

    def adopt(self, name: str, cls: type, file: Path) -> type[Model]:
        """A Model as it is; any other module as a dataclass whose settings are its constructor's arguments.

        Raises:
            SettingError: the class is not a module, or one of its arguments hides a member of `Model`.
        """
        if issubclass(cls, Model):
            return super().adopt(name, cls, file)
        if not issubclass(cls, nn.Module):
            text = f"{name}: expected a subclass of torch.nn.Module, got {cls.__mro__[1].__name__}"
            raise SettingError([("", text)])
        return _wrap(name, cls, file_digest(file))  # type: ignore[arg-type]  # a class is hashable, whatever mypy says


@lru_cache  # so that two objects of the same name have the same class and can be equal
def _wrap(name: str, cls: type[nn.Module], origin: str) -> type[Model]:
    settings = [
        (parameter.name, Any, field(default=coerce(parameter.default, Any)))
        if parameter.default is not parameter.empty
        else (parameter.name, Any, field())
        for parameter in inspect.signature(cls).parameters.values()
        if _is_setting(parameter)
    ]
    taken = [setting for setting, _, _ in settings if hasattr(UserModel, setting)]
    if taken:
        text = f"{name}: expected another name for the argument {taken[0]!r}, a member of every model"
        raise SettingError([("", text)])
    namespace = {
        "name": name,
        "origin": origin,
        "module": cls,
        "__doc__": cls.__doc__,
    }
    return make_dataclass(
        cls.__name__, settings, bases=(UserModel,), namespace=namespace, frozen=True, kw_only=True
    )


def _is_setting(parameter: inspect.Parameter) -> bool:
    """Whether a sweep can set this argument; one whose default cannot be written as text keeps it."""
    several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    if parameter.name in GIVEN or several:
        return False
    try:
        coerce(None if parameter.default is parameter.empty else parameter.default, Any)
    except ValueError:
        return False
    return True
