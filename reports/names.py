"""How defenses and attacks are shown: their order, and their names without files."""

import json
import re
from collections.abc import Iterable, Mapping
from math import isnan
from types import MappingProxyType
from typing import Any

import pandas as pd

from leakbench.defenses import DEFENSES
from leakbench.reports.selection import SETTING

_FILE = re.compile(r"^[^()]*\.py:")


def title(rows: pd.DataFrame, attacks: Mapping[str, str] = MappingProxyType({})) -> str:
    """The title of one setting: `cifar10-sample · lenet · fedsgd · dlg, adaptive`.

    Args:
        rows: rows of that setting.
        attacks: names to show in place of some full ones.
    """
    named = [attacks.get(name, name) for name in rows["attack"].unique()]
    return " · ".join([*map(str, rows[SETTING].iloc[0]), ", ".join(named)])


def defense_order(rows: pd.DataFrame) -> list[str]:
    """The defenses of the rows: in registry order, then others by short name; within a family by strength."""
    registered = list(DEFENSES)
    families = list(dict.fromkeys(each.family or each.name for each in registered))
    names = [each.name for each in registered]

    def place(defense: str, name: str, family: str, strength: float) -> tuple[Any, ...]:
        return (
            families.index(family) if family in families else len(families),
            family,
            -1.0 if isnan(strength) else strength,
            names.index(name) if name in names else len(names),
            defense,
        )

    known = rows[["defense", "defense_name", "family", "strength"]].drop_duplicates("defense")
    places = [place(*line) for line in shortened(known).itertuples(index=False)]
    return [str(name) for _, name in sorted(zip(places, known["defense"], strict=True))]


def short_names(defenses: Iterable[str]) -> dict[str, str]:
    """{defense: its name without the user's file, if that is still unique}."""
    full = list(dict.fromkeys(defenses))
    short = [_FILE.sub("", name) for name in full]
    return {name: own if short.count(own) == 1 else name for name, own in zip(full, short, strict=True)}


def shortened(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the short names of defenses that reports show."""
    families = short_names(rows["family"])
    return rows.assign(
        defense=rows["defense"].map(short_names(rows["defense"])), family=rows["family"].map(families)
    )


def short_attacks(rows: pd.DataFrame) -> dict[str, str]:
    """{attack: its bare name, if that is still unique}."""
    known = rows[["attack", "attack_name"]].drop_duplicates()
    bare = [_FILE.sub("", name) for name in known["attack_name"]]
    return {
        name: own if bare.count(own) == 1 else name for name, own in zip(known["attack"], bare, strict=True)
    }


def setting_value(rows: pd.DataFrame, kind: str, name: str) -> pd.Series:
    """The value that a setting of each row's model, attack, ... has; None where it has no such one."""
    return rows[f"{kind}_settings"].map(lambda text: json.loads(text).get(name))
