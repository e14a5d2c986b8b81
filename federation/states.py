"""State dicts in files of a recorded round: read, and compared with each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from leakbench.core.errors import UserError
from leakbench.defenses.contract import is_finite
from leakbench.federation.tensor_files import read_tensors

StateDict = Mapping[str, Tensor]  # {name: tensor}, of parameters and buffers
SUFFIXES = (".pt", ".npz", ".safetensors")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # buffers of PyTorch's normalisations


def guess_buffers(*states: StateDict) -> tuple[str, ...]:
    """The names that look like buffers in any of these: whole numbers, and statistics of normalisations.

    A server's mean of whole numbers is none, so that what it sends does not tell alone.
    """
    return tuple(
        dict.fromkeys(
            name
            for state in states
            for name, tensor in state.items()
            if not tensor.is_floating_point() or name.rpartition(".")[2] in STATISTICS
        )
    )


def stems(folder: Path, pattern: str) -> set[str]:
    """The names of the files of tensors in a folder that match, without their endings."""
    return {path.name.removesuffix(each) for each in SUFFIXES for path in folder.glob(pattern + each)}


def read_state(folder: Path, stem: str) -> StateDict:
    """The state dict in the file of that name, with whatever ending.

    Raises:
        UserError: no such file, or two, or no finite tensors by name in it; with a line for every problem.
    """
    path = file_of(folder, stem)
    state = read_tensors(path)
    if not isinstance(state, Mapping):
        raise UserError(f"{path}: expected a dict {{name: tensor}}, got {type(state).__name__}")
    if wrong := [
        str(name) for name, each in state.items() if not (isinstance(name, str) and isinstance(each, Tensor))
    ]:
        raise UserError(f"{path}: {several(wrong)}: expected tensors by name, found something else")
    if infinite := [name for name, each in state.items() if not is_finite(each)]:
        raise UserError(f"{path}: {several(infinite)}: expected finite numbers, found NaN or infinity")
    return state


def file_of(folder: Path, stem: str) -> Path:
    """The file of tensors of that name, with whatever ending.

    Raises:
        UserError: no such file, or two.
    """
    found = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").exists()]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        expected = "expected one file of tensors (.pt, .npz or .safetensors)"
        raise UserError(f"{folder / stem}: {expected}, found {names}")
    return found[0]


def several(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def differences(state: StateDict, other: StateDict, whose: str, optional: frozenset[str]) -> Iterator[str]:
    """How names, shapes and types of a state dict differ from those of another, a line for each kind.

    Args:
        state: what is looked at.
        other: what it is compared with.
        whose: the other's name, for the lines.
        optional: names that may be missing, and of whatever type.
    """
    if missing := [name for name in other if name not in state and name not in optional]:
        yield f"{several(missing)}: expected this tensor, as in {whose}, found none"
    if unknown := [name for name in state if name not in other]:
        yield f"{several(unknown)}: expected only tensors that {whose} has, and it has no such one"
    shapes = [name for name in state if name in other and state[name].shape != other[name].shape]
    if shapes:
        wanted, got = (tuple(each[shapes[0]].shape) for each in (other, state))
        yield f"{several(shapes)}: expected shape {wanted}, as in {whose}, got {got}"
    types = [
        name
        for name in state
        if name in other and name not in optional
        if state[name].is_floating_point() != other[name].is_floating_point()
    ]
    if types:
        first = types[0]
        yield f"{several(types)}: expected {other[first].dtype}, as in {whose}, got {state[first].dtype}"
