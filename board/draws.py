"""Whether the order of defenses holds with other weights of the network."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from leakbench.board.benchmark import Benchmark
from leakbench.board.lines import Contender
from leakbench.reports.selection import BASELINE
from leakbench.reports.statistics import Correlation, rank_correlation


@dataclass(frozen=True)
class Agreement:
    """How alike two draws of the weights order the defenses."""

    part: str
    first: int  # seeds of the weights
    second: int
    defenses: int
    correlation: Correlation  # of their mean scores; the interval is from resampled defenses

    def __str__(self) -> str:
        rho, low, high = self.correlation
        draws = f"{self.part}, draws {self.first} and {self.second} of the weights"
        return f"{draws}: rank correlation {rho:.3f} ({low:.3f}-{high:.3f})"


def by_draw(known: Sequence[Contender], benchmark: Benchmark) -> pd.DataFrame:
    """One line per defense, part and draw of the weights, of the parts that have several draws.

    Columns: defense, part, model_seed, and score: what the strongest attack reached (SSIM, or ROUGE-L), as a
    mean over the victims that count.
    """
    lines = []
    for contender in known:
        for part in benchmark.parts:
            setting = contender.part(part)
            if setting is None or setting.best["model_seed"].nunique() < 2 or contender.defense == BASELINE:
                continue
            best = setting.best
            own = best[(best["defense"] == contender.defense) & best["attackable"]]
            for seed, score in own.groupby("model_seed")[setting.scale.column].mean().items():
                lines.append({"defense": contender.defense, "part": part, "model_seed": seed, "score": score})
    return pd.DataFrame(lines, columns=["defense", "part", "model_seed", "score"])


def agreement(scores: pd.DataFrame) -> list[Agreement]:
    """How alike each pair of draws orders the defenses that have a score in both.

    Args:
        scores: the output of `by_draw`.
    """
    found = []
    for part, own in scores.groupby("part", sort=False):
        table = own.pivot_table(index="defense", columns="model_seed", values="score")
        for first, second in combinations(table.columns, 2):
            pairs = table[[first, second]].dropna()
            known = rank_correlation(pairs[first], pairs[second])
            found.append(Agreement(str(part), int(first), int(second), len(pairs), known))
    return found
