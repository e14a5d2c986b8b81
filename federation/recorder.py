"""Records a training loop of PyTorch as rounds of a federation with one client."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leakbench.core.errors import UserError
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import PerParameter, Setting


@contextmanager
def record(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    folder: str | PathLike[str],
    every: int = 1,
    batch_size: int | None = None,
) -> Iterator[None]:
    """Record the steps of an optimizer, as a server would see them if each were sent to it.

        with leakbench.record(model, optimizer, "rounds"):
            train(model, optimizer)

    A step is a round with one client, "0": the state dict before it and after it, and the optimizer, its
    learning rates, momentum and weight decay as they are at that step. The buffers before a step are those
    before its forward pass. A parameter that the optimizer does not train counts as a buffer.

    Args:
        model: what is trained.
        optimizer: what trains it, of `torch.optim`.
        folder: a new folder for the rounds: `leakbench.federation.rounds` says what is in it.
        every: record the first of so many steps; the number of a round is that of its step.
        batch_size: how many examples are behind a step.

    Raises:
        UserError: the folder holds rounds already, or a number is no number, or the optimizer trains
            nothing of the model, or uphill.
    """
    for name, value in (("every", every), ("batch_size", batch_size)):
        if value is not None and (type(value) is not int or value < 1):
            raise UserError(f"{name}: expected a whole number > 0, got {value!r}")
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError("optimizer: expected one that minimises, got one with maximize=True")
    if not _groups(model, optimizer):
        raise UserError("optimizer: expected one that trains parameters of the model, got one of others")
    recorder = _Recorder(model, new_folder(Path(folder)), every, batch_size)
    hooks = [
        optimizer.register_step_pre_hook(recorder.before),
        optimizer.register_step_post_hook(recorder.after),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Recorder:
    """The hooks around a step, and what is kept between them."""

    def __init__(self, model: nn.Module, folder: Path, every: int, batch_size: int | None):
        self.model, self.folder, self.every, self.batch_size = model, folder, every, batch_size
        self.steps = 0  # that were begun
        self.state = self._copy()  # after the last step, and so with the buffers before the next forward pass

    def before(self, *_: Any) -> None:
        """A step begins, with the gradients that it takes."""
        self.steps += 1
        if self._is_due():
            parameters = dict(self.model.named_parameters(remove_duplicate=False))
            self.state |= {name: each for name, each in self._copy().items() if name in parameters}

    def after(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """A step has ended."""
        sent, self.state = self.state, self._copy()
        groups = {name: group for name, group in _groups(self.model, optimizer).items() if group["lr"] > 0}
        if self._is_due() and groups:  # without them nothing has moved
            returned = {"0": Returned(self.state, self.batch_size)}
            write_round(self.folder, self.steps, sent, returned, self._setting(optimizer, groups))

    def _is_due(self) -> bool:
        return (self.steps - 1) % self.every == 0

    def _copy(self) -> dict[str, Tensor]:
        return {name: each.detach().cpu().clone() for name, each in self.model.state_dict().items()}

    def _setting(self, optimizer: torch.optim.Optimizer, groups: dict[str, dict[str, Any]]) -> Setting:
        still = {name for name, each in self.model.named_parameters() if each.grad is None}
        decays = {name: group.get("weight_decay", 0) for name, group in groups.items()}
        return Setting(
            optimizer=type(optimizer).__name__.lower(),
            lr=_one_or_all({name: group["lr"] for name, group in groups.items()}),
            momentum=_one_or_all({name: group.get("momentum", 0) for name, group in groups.items()}),
            weight_decay=_one_or_all(decays | dict.fromkeys(still & groups.keys(), 0)),
            local_steps=1,
            local_batch=self.batch_size,
            buffers=tuple(name for name in self.state if name not in groups),
        )


def _groups(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """{name of a trained parameter of the model: the optimizer's settings for it}."""
    settings = {id(each): group for group in optimizer.param_groups for each in group["params"]}
    named = model.named_parameters()
    return {name: settings[id(each)] for name, each in named if each.requires_grad and id(each) in settings}


def _one_or_all(values: dict[str, Any]) -> PerParameter:
    """The one number that all parameters have, or else each one's."""
    numbers = {name: float(each) for name, each in values.items()}
    return numbers if len(set(numbers.values())) > 1 else next(iter(numbers.values()))
