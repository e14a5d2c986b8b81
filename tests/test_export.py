"""A run for a paper: every format holds the numbers of the rows, and the citations."""

import pandas as pd
import pytest
from made_up import store, table

import leakbench
from leakbench import commands
from leakbench.commands.runs import FORMATS as OFFERED
from leakbench.reports.csv_file import read_csv
from leakbench.reports.export import FORMATS, _latex_line, boards, citations, export
from leakbench.reports.run import Run

MINE = "gone/mine.py:Mine(size=2)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    cells = [(name, i, 0, 0.1, ssim + i / 100) for name, ssim in
             (("none", 0.93), ("prune(ratio=0.5)", 0.4), (MINE, 0.1)) for i in range(4)]  # fmt: skip
    return store(tmp_path_factory.mktemp("export") / "run", table(*cells))


def test_every_format_that_is_offered_is_there():
    assert tuple(FORMATS) == OFFERED


def test_csv_holds_the_rows_and_a_line_a_defense(run, tmp_path):
    paths = list(export(Run(run), ["csv"], tmp_path))
    assert [path.name for path in paths] == ["trials.csv", "defenses.csv"]
    pd.testing.assert_frame_equal(read_csv(paths[0]), run.rows())
    lines = pd.read_csv(paths[1]).set_index("defense")
    own = run.rows()[run.rows()["defense"] == "prune(ratio=0.5)"]
    assert lines.loc["prune(ratio=0.5)", "ssim"] == pytest.approx(own["ssim"].median())
    assert lines.loc["none", "leaked"] == 4


def test_markdown_and_latex_hold_the_numbers_of_the_board(run, tmp_path):
    markdown, latex = (path.read_text() for path in export(Run(run), ["markdown", "latex"], tmp_path))
    line = boards(Run(run)).set_index("defense").loc["prune(ratio=0.5)"]
    assert "## cifar10-sample · lenet · fedsgd · dlg" in markdown
    scores = f"{line['ssim']:.3f} | {line['psnr']:.1f} | {line['mse']:.2g}"
    cells = f"0/4 | 0-49 | {scores} | 0/4 | - | - | - | 1.0 | 1.00"
    assert f"| prune(ratio=0.5) | {cells} | artifacts |" in markdown
    assert "| Mine(size=2) |" in markdown
    row = f"prune(ratio=0.5) & 0/4 & 0--49 & {line['ssim']:.3f} & "
    assert row in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 1
    assert all(each.count(" & ") == 12 for each in latex.splitlines() if each.endswith(r"\\"))


def test_characters_that_latex_reads_otherwise_are_escaped():
    assert _latex_line(["> 1000", "a<b|c"]) == r"\textgreater{} 1000 & a\textless{}b\textbar{}c \\"


@pytest.mark.parametrize("verb", ["export", "report", "csv", "figures"])
def test_a_run_without_trials_is_an_error(tmp_path, capsys, verb):
    folder = store(tmp_path / "run", table()).folder
    assert leakbench.main([verb, str(folder)]) == commands.USER_ERROR
    text = f"{folder}: expected trials, found none; `leakbench sweep FILE --out {folder}` runs them\n"
    assert capsys.readouterr().err == text


@pytest.mark.parametrize(("kind", "head"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_come_in_the_requested_format(run, tmp_path, kind, head):
    paths = list(export(Run(run), [kind], tmp_path))
    assert {path.stem for path in paths} == {"scores", "curves", "strip", "film"}
    for path in paths:
        assert path.suffix == f".{kind}"
        assert path.read_bytes().startswith(head)


def test_papers_are_cited_once_and_a_lost_file_is_reported(run):
    entries = citations(run.rows())
    assert [entry.partition("{")[0] for entry in entries[:2]] == ["@misc", "@inproceedings"]
    assert "Deep Leakage from Gradients" in entries[1]
    assert entries[2] == f"% {MINE.partition('(')[0]}: not found, so no citation"
    assert "Communication-Efficient Learning of Deep Networks" in entries[3]
    assert len(entries) == 4


def test_braces_of_every_citation_match():
    from leakbench.bench.attacks import ATTACKS
    from leakbench.bench.protocols import PROTOCOLS
    from leakbench.defenses import DEFENSES

    registries = (ATTACKS, DEFENSES, PROTOCOLS)
    for entry in {member.citation for registry in registries for member in registry} - {""}:
        assert entry.count("{") == entry.count("}")
        assert {"title", "author", "year"} <= {line.split("=")[0].strip() for line in entry.splitlines()}


def test_the_command_writes_the_requested_formats(run, tmp_path, capsys):
    arguments = ["export", str(run.folder), "--format", "csv, bibtex", "--out", str(tmp_path / "out")]
    assert leakbench.main(arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "trials.csv",
        "defenses.csv",
        "citations.bib",
    }
    assert leakbench.main(["export", str(run.folder), "--format", "cvs"]) == commands.USER_ERROR
    assert "--format: unknown format 'cvs'; did you mean 'csv'?" in capsys.readouterr().err
