"""Plays back what was rebuilt elsewhere, by whatever means, and handed in without code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from leakbench.bench.attacks.base import Attack, Case, Found, Knows, NotApplicableError
from leakbench.bench.modalities import TEXTS, Modality
from leakbench.core.errors import UserError
from leakbench.core.randomness import generator_for
from leakbench.core.user_files import file_digest
from leakbench.defenses import Gradients
from leakbench.federation.tensor_files import read_tensors

SEEN, FOUND = "seen", "found"  # the last part of the names of arrays
SIZE = 64  # numbers of a fingerprint
NEAR = 0.1  # how far a fingerprint may be from that of the same update on another processor, of its norm
NOTHING = "nothing was handed in for this victim"


class Known(NamedTuple):
    """What a file holds."""

    seen: Tensor  # fingerprints of the updates (V, SIZE)
    found: list[Tensor | None]  # of each victim: images (N, C, H, W), uint8, or tokens (N, L), int64


@dataclass(frozen=True)
class HandedIn(Attack):
    """Images that were rebuilt elsewhere: the answer to an update is looked up in a file.

    `leakbench submit --found` writes the file. It holds for each victim of the leaderboard's protocol the
    `fingerprint` of its update, as `PART/NUMBER/seen`, and what was handed in for it, as `PART/NUMBER/found`.
    """

    name: ClassVar[str] = "handed-in"
    knows: ClassVar[frozenset[Knows]] = frozenset({Knows.UNKNOWN})

    file: str

    def problems(self) -> Iterator[tuple[str, str]]:
        """The file must be one of those."""
        try:
            known_in(Path(self.file))
        except UserError as error:
            yield "file", str(error)
        except OSError as error:
            yield "file", f"{self.file}: {error.strerror}"

    def canonical(self) -> dict[str, Any]:
        """See `Configured.canonical`; the file is included by its content."""
        return {**super().canonical(), "content": file_digest(Path(self.file))}

    def invert(self, case: Case) -> Found:
        """See `Attack.invert`: what was handed in for the victim whose update is the nearest.

        Raises:
            NotApplicableError: nothing was handed in for it, or no update in the file is near.
        """
        known, own = known_in(Path(self.file)), fingerprint(case.shared)
        distances = (known.seen - own).norm(dim=1)
        nearest = int(distances.argmin())
        found = known.found[nearest]
        if found is None or distances[nearest] > NEAR * own.norm():
            raise NotApplicableError(NOTHING)
        if found.dtype is torch.uint8:
            return Found(found.to(next(iter(case.shared.values())).dtype) / 255)
        return Found(found)


@dataclass(frozen=True)
class HandedInTexts(HandedIn):
    """Texts that were rebuilt elsewhere: see `handed-in`."""

    name: ClassVar[str] = "handed-in-texts"
    modality: ClassVar[Modality] = TEXTS


HANDED_IN = (HandedIn.name, HandedInTexts.name)


def fingerprint(update: Gradients) -> Tensor:
    """64 numbers, float32, that are about as far from those of another update as the updates are apart.

    A count sketch (Charikar et al. 2002): each entry is added to one of 64 numbers, with a sign. Both are
    drawn by the name of its tensor.
    """
    total = torch.zeros(SIZE, dtype=torch.float64)
    for name, each in update.items():
        draws = torch.randint(2 * SIZE, (each.numel(),), generator=generator_for("fingerprint", name))
        signed = each.detach().double().flatten() * (1 - 2 * (draws // SIZE))
        total += torch.bincount(draws % SIZE, signed, SIZE)
    return total.float()


def known_in(path: Path) -> Known:
    """What a file holds.

    Raises:
        UserError: not a file of fingerprints and of what was found.
        OSError: it cannot be read.
    """
    return _known_in(path, file_digest(path))


@lru_cache(maxsize=4)
def _known_in(path: Path, _digest: str) -> Known:
    tensors = read_tensors(path)
    victims = [name.removesuffix(SEEN) for name in tensors if name.endswith(f"/{SEEN}")]
    if not victims or any(tensors[f"{each}{SEEN}"].shape != (SIZE,) for each in victims):
        raise UserError(f"{path}: expected a file that `leakbench submit --found` wrote, found another")
    seen = torch.stack([tensors[f"{each}{SEEN}"].float() for each in victims])
    return Known(seen, [tensors.get(f"{each}{FOUND}") for each in victims])


def contents(fingerprints: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a file holds, by the names of its arrays.

    Args:
        fingerprints: {`PART/NUMBER`: of the update}, of each victim.
        found: {likewise: what was handed in}, of some.
    """
    return {f"{name}/{SEEN}": each for name, each in fingerprints.items()} | {
        f"{name}/{FOUND}": each for name, each in found.items()
    }
