"""What each attack achieved on its own."""

import pandas as pd

from leakbench.bench.verdicts import Scale
from leakbench.reports.names import defense_order
from leakbench.reports.selection import VICTIM

SPARED = "not needed"


def attacks_alone(rows: pd.DataFrame, kept: pd.DataFrame, best: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Median SSIM over all images of each attack alone, as text: one row per defense, one column per attack.

    Of texts, that is ROUGE-L. The attacks that were run most often come first.
    `0.512 (3 of 20)` if the attack has a result for only some of the images; SPARED if every image had
    leaked to another attack and was not attacked again.

    Args:
        rows: rows of one setting.
        kept: `kept_starts` of these rows.
        best: `strongest` of these rows.
        scale: which score it is.
    """
    counts = rows.drop_duplicates([*VICTIM, "defense", "attack"])["attack"].value_counts(sort=False)
    attacks = list(counts.sort_values(ascending=False, kind="stable").index)
    defenses = defense_order(rows)
    own = kept.groupby(["defense", "attack"])[scale.column].agg(["median", "count"]).to_dict("index")
    tried = set(zip(rows["defense"], rows["attack"], strict=True))
    images = best["defense"].value_counts()
    all_leaked = best.groupby("defense")["leaked"].all()

    def cell(defense: str, attack: str) -> str:
        if (defense, attack) not in own:
            spared = (defense, attack) not in tried and bool(all_leaked.get(defense, False))
            return SPARED if spared else "-"
        median, count = own[defense, attack].values()
        return f"{median:.3f}" + (f" ({count} of {images[defense]})" if count < images[defense] else "")

    cells = [[cell(defense, attack) for attack in attacks] for defense in defenses]
    return pd.DataFrame(cells, index=defenses, columns=attacks)
