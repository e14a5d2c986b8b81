"""What the documents say is true: code that runs, commands that parse, links that lead somewhere."""

import ast
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

import leakbench
from leakbench.commands.main import make_parser
from leakbench.commands.reference import reference
from leakbench.sweeps.comparison import BUDGETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [page for page in ROOT.rglob("*.md") if not any(part.startswith(".") for part in page.parts[:-1])]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_defense_of_the_readme_runs_as_written(tmp_path, monkeypatch, capsys):
    (code,), (sweep,) = [each for each in blocks("python") if "class" in each], blocks("yaml")
    (tmp_path / "my_defense.py").write_text(code)
    assert "steps: 60" in sweep
    (tmp_path / "mine.yaml").write_text(sweep.replace("steps: 60", "steps: 2"))
    monkeypatch.chdir(tmp_path)
    assert leakbench.main(["sweep", "mine.yaml", "--executor", "inline", "--no-figures"]) == 0
    output = capsys.readouterr().out
    assert "note: defense 'none' added" in output
    rows = pd.read_csv("runs/mine/trials.csv")
    assert set(rows["defense"]) == {
        "none", "my_defense.py:MyDefense(limit=1.0)", "my_defense.py:MyDefense(limit=0.01)",
        "gaussian(variance=0.001)",
    }  # fmt: skip
    assert (rows["status"] != "error").all()


@pytest.mark.parametrize(
    "line", [line for block in blocks("sh") for line in block.splitlines() if line.startswith("leakbench")]
)
def test_commands_of_the_readme_are_understood(line):
    typed = re.sub(r" > ~/\S+", "", line)  # where the output goes is the shell's business
    options = make_parser().parse_args(shlex.split(typed, comments=True)[1:])
    assert callable(options.command)


def test_the_command_reference_is_that_of_the_program():
    written = (ROOT / "docs" / "COMMANDS.md").read_text()
    assert written == "\n".join(reference(make_parser())) + "\n"


def test_make_targets_of_the_documents_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?:^|`)make (?:[A-Z]+=\S+ )*([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert named >= {"sweep", "test", "lint"}
    assert named <= targets


def test_the_budgets_of_a_comparison_are_the_documented_ones():
    rows = re.findall(r"^\| `(\w+)` \|([\d |]+)$", (ROOT / "docs/DEFENSES.md").read_text(), re.MULTILINE)
    documented = {name: [int(cell) for cell in cells.split("|") if cell.strip()] for name, cells in rows}
    assert documented == {
        name: [each.examples, each.restarts, each.epochs, each.seeds] for name, each in BUDGETS.items()
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith("http"):
            file, _, heading = target.partition("#")
            place = page.parent / file if file else page
            assert place.exists(), target
            assert not heading or heading in headings(place), target


def headings(page):
    """What a page's headings are linked by: lower case, without punctuation, a hyphen for each blank."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


FLOORS = ["core", "defenses", "federation", "bench", "sweeps", "reports", "board", "commands"]


def imported(file):
    """The names that a file imports, as `leakbench.bench.trial` or `leakbench.commands.index`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("floor", FLOORS)
def test_a_folder_imports_only_itself_and_those_below(floor):
    """And not the door, which leads to all of them."""
    allowed = {f"leakbench.{each}" for each in FLOORS[: FLOORS.index(floor) + 1]}
    for file in (ROOT / floor).rglob("*.py"):
        ours = [name for name in imported(file) if name.split(".")[0] in ("leakbench", *FLOORS)]
        assert {".".join(name.split(".")[:2]) for name in ours} <= allowed, file


CATCH_ALL = {
    "core/foreign.py",  # the helper for foreign code
    "bench/execution.py",  # the boundary of a trial: an error becomes a row
    "sweeps/executors/worker.py",  # the boundary of a process: the runner has to hear of it
}


def caught(file):
    """The names of what a file's handlers catch and keep, `everything` if a handler names nothing."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) != "raise":
            kinds = ast.walk(node.type) if node.type else [ast.Name("everything")]
            yield from (each.id for each in kinds if isinstance(each, ast.Name))


def test_any_exception_is_caught_in_a_few_places_only():
    """Foreign code, which may raise anything, runs in `foreign`."""
    found = {
        str(file.relative_to(ROOT))
        for floor in FLOORS
        for file in (ROOT / floor).rglob("*.py")
        if {"Exception", "BaseException", "everything"} & set(caught(file))
    }
    assert found == CATCH_ALL


def test_every_public_name_is_there():
    assert {"Attack", "Dataset", "Defense", "Found", "Model", "Protocol", "run"} <= set(leakbench.__all__)
    assert all(hasattr(leakbench, name) for name in leakbench.__all__)
    assert not hasattr(leakbench, "Defence")


def test_one_place_imports_torchvision():
    users = [
        file.name
        for floor in FLOORS
        for file in (ROOT / floor).rglob("*.py")
        if "import torchvision\n" in file.read_text() or "from torchvision" in file.read_text()
    ]
    assert users == []
