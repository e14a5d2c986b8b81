"""What is wrong with what a defense returns, a sentence each."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from leakbench.defenses.account import Account, Gradients


def broken_promises(before: Gradients, after: Gradients, like: Gradients, shared: Gradients) -> list[str]:
    """What is wrong with gradients that should be like `like`; `before` and `after`: the method's input."""
    if not isinstance(shared, dict) or list(shared) != list(before):
        got = str(list(shared)) if isinstance(shared, dict) else type(shared).__name__
        return [f"expected gradients named {list(before)}, got {got}"]
    problems = []
    for name, original in before.items():
        given = shared[name]
        if not torch.equal(original, after[name]):
            problems.append(f"changed gradient {name!r} in place; return a new tensor")
        else:
            problems += [f"gradient {name!r}: {problem}" for problem in unlike(like[name], given)]
    return problems


def bad_account(shared: Gradients, account: object) -> Iterator[str]:
    """What is wrong with an account of `shared`."""
    if not isinstance(account, Account):
        yield f"expected an Account or None, got {type(account).__name__}"
        return
    if isinstance(account.variance, dict) and list(account.variance) != list(shared):
        yield f"variance: expected numbers named {list(shared)}, got {list(account.variance)}"
        return
    if type(account.scaled) is not bool:
        yield f"expected scaled to be true or false, got {account.scaled!r}"
    if account.mean_squares is not None and list(account.mean_squares) != list(shared):
        yield f"mean_squares: expected numbers named {list(shared)}, got {account.mean_squares!r}"
        return
    for square in (account.mean_squares or {}).values():
        if type(square) not in (int, float) or not 0 <= square < math.inf:
            yield f"expected mean squares >= 0, got {square!r}"
            break
    for variance in (account.variance_in(name) for name in shared):
        if type(variance) not in (int, float) or not 0 <= variance < math.inf:
            yield f"expected a variance >= 0, got {variance!r}"
            break
    for what, told in (("kept", account.kept), ("rounding", account.rounding)):
        if told is None:
            continue
        if not isinstance(told, dict) or list(told) != list(shared):
            got = str(list(told)) if isinstance(told, dict) else type(told).__name__
            yield f"{what}: expected tensors named {list(shared)}, got {got}"
            continue
        for name, tensor in shared.items():
            wanted = torch.zeros_like(tensor, dtype=torch.bool) if what == "kept" else tensor
            yield from (f"{what} of {name!r}: {problem}" for problem in unlike(wanted, told[name]))


def broken_batch(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], changed: object) -> list[str]:
    """What is wrong with a changed batch; `before` and `after` are the method's input."""
    if not isinstance(changed, tuple) or len(changed) != 2:
        return [f"change_batch: expected a pair (images, labels), got {type(changed).__name__}"]
    if not all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
        return ["changed its batch in place; return new tensors"]
    images, labels = changed
    if not isinstance(labels, Tensor) or len(labels) != len(before[1]):
        found = len(labels) if isinstance(labels, Tensor) else type(labels).__name__
        return [f"change_batch: expected labels for {len(before[1])} images, got {found}"]
    return [f"images: {problem}" for problem in unlike(before[0], images)]


def unlike(original: Tensor, given: object) -> list[str]:
    """How a tensor differs from the original in shape, dtype or device, or that it is not finite."""
    if not isinstance(given, Tensor) or given.shape != original.shape:
        found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        return [f"expected shape {tuple(original.shape)}, got {found}"]
    if given.dtype != original.dtype:
        return [f"expected {original.dtype}, got {given.dtype}"]
    if given.device != original.device:
        return [f"expected it on the {original.device}, got it on {given.device}"]
    return [] if is_finite(given) else ["holds NaN or infinity"]


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor is free of NaN and infinity; the maximum of a tensor with NaN is NaN."""
    return tensor.numel() == 0 or tensor.dtype == torch.bool or math.isfinite(tensor.detach().abs().max())
