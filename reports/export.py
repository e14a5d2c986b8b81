"""A run for a paper: tables as CSV, LaTeX and Markdown, figures, and citations."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from leakbench.bench.attacks import ATTACKS
from leakbench.bench.modalities import Modality
from leakbench.bench.protocols import PROTOCOLS
from leakbench.core.configured import SettingError
from leakbench.core.version import own_version
from leakbench.defenses import DEFENSES
from leakbench.reports.csv_file import write_csv
from leakbench.reports.figures import write_figures
from leakbench.reports.markdown import markdown
from leakbench.reports.names import short_names
from leakbench.reports.recorded import write_pictures
from leakbench.reports.run import Run
from leakbench.reports.selection import SETTING
from leakbench.reports.statistics import percent
from leakbench.reports.utility import epsilon_text

_RANGE = re.compile(r"(?<=\d)-(?=\d)")
LATEX = str.maketrans({each: f"\\{each}" for each in "&%$#_{}"} | {
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
    ">": r"\textgreater{}", "<": r"\textless{}", "|": r"\textbar{}",
})  # fmt: skip
LATEX_HEAD = r"""% {setting}
% {note}
% needs \usepackage{{booktabs}}; about 15 cm wide: needs both columns of a page (table*)
{{\footnotesize\setlength{{\tabcolsep}}{{3pt}}%
\begin{{tabular}}{{{columns}}}
\toprule"""
LATEX_TAIL = r"""\bottomrule
\end{tabular}}
"""
PROGRAM = """@misc{{leakbench,
  title = {{{{LeakBench}}: attacks on shared gradients, and what defenses hide}},
  author = {{{{The LeakBench authors}}}},
  note = {{Version {version}}},
  year = {{2026}},
}}"""


def heads(modality: Modality) -> tuple[str, ...]:
    """The headings of the tables in Markdown and LaTeX."""
    return (
        "defense",
        "leaked",
        "CI, %",
        *modality.headings.values(),
        *(f"{each.title}, %" for each in modality.partial),
        "label",
        "accuracy, %",
        "change",
        "epsilon",
        "kB",
        "ms",
        "verdict",
    )


def note(modality: Modality) -> str:
    """What they mean."""
    medians = ", ".join(title.partition(" (")[0] for title in modality.medians.values())
    medians = medians.translate(str.maketrans("[]", "()"))  # units
    partial = "".join(
        f" {each.title}: share of {modality.name} of which {each.meaning};" for each in modality.partial
    )
    return (
        f"leaked: {modality.name}, out of those that leak without a defense; CI: Wilson interval at 95 %;"
        f" {medians}: medians;{partial} label: {modality.name} whose label was recovered, out of all; change:"
        " compared with undefended training; epsilon: per example, at delta 1e-5; kB: size of a gradient as"
        " sent; ms: time of the defense"
    )


def boards(run: Run) -> pd.DataFrame:
    """One line per defense for every dataset, model and protocol: see `leaderboard`."""
    boards = [setting.board for setting in run.settings]
    return pd.concat(boards, ignore_index=True) if boards else pd.DataFrame()


def export(run: Run, formats: Sequence[str], folder: Path) -> Iterator[Path]:
    """Write the run in some of FORMATS, and yield the path of each file.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = [each for each in formats if each in TABLES and (run.settings or each == "csv")]
    lines = boards(run) if tables else pd.DataFrame()
    for name in tables:
        yield from TABLES[name](run, lines, folder)
    kinds = [each for each in formats if each in FIGURES]
    for figure in write_figures(run, folder / "figures", kinds) if kinds else []:
        yield from figure.paths
    yield from write_pictures(run.updates, folder / "figures") if kinds else []
    if "bibtex" in formats:
        yield _write(folder / "citations.bib", "\n\n".join(citations(run.rows)) + "\n")


def _csv(run: Run, lines: pd.DataFrame, folder: Path) -> Iterator[Path]:
    yield write_csv(run.rows, folder / "trials.csv")
    if len(lines):
        yield write_csv(lines, folder / "defenses.csv")
    if len(run.trainings):
        yield write_csv(run.trainings, folder / "trainings.csv")


def _markdown(run: Run, lines: pd.DataFrame, folder: Path) -> Iterator[Path]:
    text: list[str] = []
    modality = run.scale.modality
    for setting, rows in _tables(lines, modality):
        text += [f"## {setting}", "", *markdown(heads(modality), rows), "", f"{note(modality)}.", ""]
    yield _write(folder / "defenses.md", "\n".join(text))


def _latex(run: Run, lines: pd.DataFrame, folder: Path) -> Iterator[Path]:
    """One tabular per setting, for the package booktabs."""
    text: list[str] = []
    modality = run.scale.modality
    columns = "l" + "r" * (len(heads(modality)) - 2) + "l"
    for setting, rows in _tables(lines, modality):
        text.append(LATEX_HEAD.format(setting=setting, note=note(modality), columns=columns))
        text += [_latex_line(heads(modality)), r"\midrule", *map(_latex_line, rows), LATEX_TAIL]
    yield _write(folder / "defenses.tex", "\n".join(text))


def _latex_line(cells: Iterable[str]) -> str:
    texts = (cell.translate(LATEX).replace(" ± ", r" $\pm$ ") for cell in cells)
    return " & ".join(_RANGE.sub("--", text) for text in texts) + r" \\"


def _tables(lines: pd.DataFrame, modality: Modality) -> Iterator[tuple[str, list[list[str]]]]:
    names = short_names(lines["defense"])
    for setting, own in lines.groupby(SETTING, sort=False):
        yield (
            " · ".join(map(str, [*setting, own["attacks"].iloc[0]])),
            [_cells(line, names, modality) for line in own.to_dict("records")],
        )


def _cells(line: Mapping[Any, Any], names: Mapping[str, str], modality: Modality) -> list[str]:
    return [
        names[line["defense"]],
        f"{line['leaked']}/{line['images']}",
        f"{100 * line['low']:.0f}-{100 * line['high']:.0f}" if line["images"] else "-",
        *(_number(line[name], form) for name, form in modality.forms.items()),
        *(_number(100 * line[each.column], ".0f") for each in modality.partial),
        f"{line['labels']}/{line['labelled']}",
        percent(line["accuracy"], line["accuracy_low"]).removesuffix(" %"),
        percent(line["change"], line["change_low"], "+").removesuffix(" %"),
        epsilon_text(line["epsilon"]),
        _number(line["sent_bytes"] / 1000, ".1f"),
        _number(1000 * line["defense_seconds"], ".2f"),
        line["verdict"] or "-",
    ]


def _number(value: float, form: str) -> str:
    return "-" if isnan(value) else format(value, form)


def citations(rows: pd.DataFrame) -> list[str]:
    """BibTeX entries of the program, and of the attacks, defenses and protocols in these rows."""
    entries = [PROGRAM.format(version=own_version())]
    for registry in (ATTACKS, DEFENSES, PROTOCOLS):
        for name in rows[f"{registry.kind}_name"].unique():
            try:
                entries.append(registry.find(name).citation.strip())
            except SettingError:  # the file of a user's defense may be gone
                entries.append(f"% {name}: not found, so no citation")
    return [entry for entry in dict.fromkeys(entries) if entry]


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


TABLES: dict[str, Callable[[Run, pd.DataFrame, Path], Iterator[Path]]] = {
    "csv": _csv,
    "markdown": _markdown,
    "latex": _latex,
}
FIGURES = ("png", "pdf", "svg")
FORMATS = (*TABLES, *FIGURES, "bibtex")
