"""Table 2 of the paper: what each defense costs in accuracy, and whether it defends."""

import pandas as pd

from leakbench.bench.verdicts import Verdict
from leakbench.reports.paper.reference import Reading, reference
from leakbench.reports.utility import summarize_utility

UTILITY = ("accuracy", "accuracy_low", "accuracy_high", "change", "change_low", "change_high", "trainings")
ATTACK = ("images", "leaked", "ssim", "verdict")


def table2(trainings: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """One line per defense that was both trained with and attacked, weak ones first.

    Columns: defense, trainings, accuracy and change with their intervals (see `summarize_utility`),
    images, leaked, ssim, verdict (see `summarize`), and defends: whether the verdict is no leak.
    """
    attacked = summary[["defense", *ATTACK]]
    both = attacked.merge(summarize_utility(trainings)[["defense", *UTILITY]], on="defense")
    return both.assign(defends=both["verdict"] == Verdict.NONE)


def compared(table: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """One line per column of the paper's table: its values, and our line for it under a reading.

    Columns: label, paper_accuracy, paper_defends, recalled, then those of `table2`.
    """
    own = table.set_index("defense", drop=False)
    lines = []
    for reported in reference().table2:
        name = reported.among(own.index, reading)
        if name is not None:
            paper = {
                "label": reported.label,
                "paper_accuracy": reported.accuracy,
                "paper_defends": reported.defends,
                "recalled": reported.recalled,
            }
            lines.append(paper | own.loc[name].to_dict())
    return pd.DataFrame(lines)
