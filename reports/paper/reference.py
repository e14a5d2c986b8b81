"""The values that the paper reports, and our defenses that they belong to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

import yaml

from leakbench.bench.verdicts import Verdict
from leakbench.defenses import DEFENSES, Defense

RECALLED = " (recalled)"


class Noise(StrEnum):
    """What 10^-k means for noise: the paper says variance, others read it as a standard deviation."""

    VARIANCE = "variance"
    STD = "std"


class Scope(StrEnum):
    """Whether the smallest entries are pruned per tensor or overall: the paper does not say."""

    TENSOR = "tensor"
    GLOBAL = "global"


@dataclass(frozen=True)
class Reading:
    """What the paper's words are taken to mean."""

    noise: Noise
    scope: Scope

    def settings(self, kind: str, level: float) -> dict[str, Any]:
        """The settings of our defense of that kind, for the paper's level."""
        if kind == "prune":
            return {"ratio": level, "scope": self.scope.value}
        return {self.noise.value: level} if kind in ("gaussian", "laplacian") else {}


@dataclass(frozen=True)
class Reported:
    """One defense as the paper reports it; None or empty for values that it does not report."""

    kind: str
    level: float = 0.0
    verdict: Verdict | None = None
    accuracy: str = ""  # percent
    defends: bool | None = None
    recalled: bool = False

    @property
    def label(self) -> str:
        """Its label in the paper's figures: `gaussian 10^-3`, `prune 20 %`."""
        if self.kind == "prune":
            return f"prune {self.level:.0%}".replace("%", " %")
        return f"{self.kind} {self.level:.0e}".replace("e-0", "e-") if self.level else self.kind

    def defense(self, reading: Reading) -> Defense:
        """Our defense of that kind and level."""
        return DEFENSES.build(self.kind, reading.settings(self.kind, self.level))

    def among(self, names: Iterable[str], reading: Reading) -> str | None:
        """Its name among these defenses (std 0.01 and variance 0.0001 are the same); None if absent."""
        wanted = self.defense(reading)
        of_kind = (name for name in names if name.partition("(")[0] == self.kind)  # a user's file may be gone
        return next((name for name in of_kind if _same(DEFENSES.parse(name), wanted)), None)


def _same(one: Defense, other: Defense) -> bool:
    if getattr(one, "scope", None) != getattr(other, "scope", None):
        return False
    return one.strength == other.strength or isclose(one.strength or 0, other.strength or 0)


@dataclass(frozen=True)
class Batch:
    """The iterations until a batch of that size is recovered."""

    size: int
    iterations: int
    recalled: bool


@dataclass(frozen=True)
class Reference:
    """All values that the paper reports."""

    source: str
    figure7: tuple[Reported, ...]
    table2: tuple[Reported, ...]
    batches: tuple[Batch, ...]


@cache
def reference() -> Reference:
    """The content of reference.yaml."""
    content = yaml.safe_load(Path(__file__).with_name("reference.yaml").read_text())
    return Reference(
        content["source"],
        tuple(Reported(**{**each, "verdict": Verdict(each["verdict"])}) for each in content["figure7"]),
        tuple(Reported(**each) for each in content["table2"]),
        tuple(Batch(**each) for each in content["batches"]),
    )


def recalled(text: str, is_recalled: bool) -> str:
    """The text, marked if the value is from memory."""
    return f"{text}{RECALLED}" if is_recalled else text
