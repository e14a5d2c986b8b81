"""The leaderboard: an entry is made, checked, forged in every way, and found out."""

import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from running import ROOT, inside

from leakbench.board import benchmark
from leakbench.board.entry import ABOUT, Entry, digest_of
from leakbench.board.lines import contenders, leaderboard, part_lines
from leakbench.board.verification import file_problems
from leakbench.commands.common import named_after
from leakbench.core.user_files import file_digest
from leakbench.sweeps.checks import load_sweep

PROTOCOL = """
version: 9
parts:
  digits:
    datasets: [{name: mnist-sample, indices: 0-1}]
    models: ["mlp(hidden=[16])"]
    attacks: [linear, "dlg(steps=2)"]
    exhaustive: false
  two draws:
    datasets: [mnist-sample]
    models: ["mlp(hidden=[16])"]
    model_seeds: 0-1
    attacks: ["dlg(steps=2)"]
  sentences:
    datasets: [{name: sotu-sample, indices: 0-1}]
    models: ["bert(depth=1, hidden=64, heads=2)"]
    attacks: [bag, rows]
accuracy:
  models: ["mlp(hidden=[16])"]
  training:
    train: {name: mnist-5k, indices: 0-79}
    test: {name: mnist-5k, indices: 4000-4099}
    epochs: 1
    seeds: 0-1
"""
DEFENSE = """
from dataclasses import dataclass
from typing import ClassVar

from leakbench import Defense


@dataclass(frozen=True)
class Clamp(Defense):
    limit: float = 0.001
    grid: ClassVar = {"limit": [0.001]}

    def apply(self, gradients, generator):
        return {name: each.clamp(-self.limit, self.limit) for name, each in gradients.items()}
"""
NAME = "clamp.py:Clamp"
COME_ALONG = benchmark.FOLDER
HERE = ("--protocol", "v9", "--executor", "inline")

pytestmark = pytest.mark.usefixtures("without_rehearsal")


@pytest.fixture(scope="module", autouse=True)
def protocols(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    (folder / "v9.yaml").write_text(PROTOCOL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "FOLDER", folder)
        yield folder


@pytest.fixture(scope="module")
def home(tmp_path_factory, protocols):
    """The folder of an author who submitted a defense."""
    folder = tmp_path_factory.mktemp("author")
    (folder / "mine").mkdir()
    (folder / "mine/clamp.py").write_text(DEFENSE)
    assert inside(folder, "submit", "mine/clamp.py", *HERE, "--authors", "A. Author", "--paper", "a DOI") == 0
    return folder


@pytest.fixture
def entry(home, tmp_path):
    """A copy of the entry, to be forged."""
    return shutil.copytree(home / "entries/clamp", tmp_path / "elsewhere/clamp")


def verify(entry, *options):
    return inside(entry.parent, "verify", entry.name, *options)


def sign(entry, **changes):
    """Make an entry agree with its files again, as a forger would."""
    about = yaml.safe_load((entry / ABOUT).read_text())
    keys = [
        key for name in ("trials", "trainings") for key in pd.read_parquet(entry / f"{name}.parquet")["key"]
    ]
    about |= {
        "files": {name: file_digest(entry / name) for name in about["files"]},
        "keys_sha256": digest_of(keys),
    }
    (entry / ABOUT).write_text(yaml.safe_dump(about | changes))


def rewrite(entry, name, change):
    """Change the rows of one of an entry's tables."""
    path = entry / f"{name}.parquet"
    schema = pq.read_schema(path)
    rows = change(pd.read_parquet(path))
    pq.write_table(pq.ParquetFile(path).schema_arrow.empty_table().from_pandas(rows, schema), path)


@pytest.mark.parametrize("attacks", [[], ["dlg(steps=2)"]])
@pytest.mark.parametrize("version", [path.stem for path in sorted(benchmark.FOLDER.glob("*.yaml"))])
def test_the_protocol_that_comes_along_is_right(monkeypatch, tmp_path, version, attacks):
    monkeypatch.setattr(benchmark, "FOLDER", COME_ALONG)
    protocol = benchmark.read_benchmark(version)
    assert protocol.name == version
    files = benchmark.write_parts(protocol, ["float16"], attacks, tmp_path)
    assert list(files) == [*protocol.parts, "accuracy"]
    for part, file in files.items():
        sweep = load_sweep(file, tmp_path)
        names = [str(each.value) for each in sweep.attacks]
        assert not attacks or part in ("texts", "accuracy") or names[-1] == "dlg(steps=2)"
        assert [str(each.value) for each in sweep.defenses] == ["none", "float16"]
        assert (sweep.training is not None) == (part == "accuracy")


def test_an_entry_says_what_it_is(home, protocols):
    entry = Entry.read(home / "entries/clamp")
    about = entry.about
    assert (about.name, about.defenses, about.attacks) == ("clamp", [NAME], [])
    assert (about.authors, about.paper, about.protocol) == ("A. Author", "a DOI", "v9")
    assert about.protocol_sha256 == file_digest(protocols / "v9.yaml")
    assert set(about.files) == {"clamp.py", "trials.parquet", "trainings.parquet", "pictures.parquet"}
    counts = entry.trials.groupby(["part", "defense"]).size().to_dict()
    assert counts == {
        ("digits", "none"): 2, ("digits", NAME): 4, ("two draws", "none"): 2, ("two draws", NAME): 2,
        ("sentences", "none"): 4, ("sentences", NAME): 4,
    }  # fmt: skip
    assert len(entry.trainings) == 4
    assert len(entry.pictures) == 2 + 2 + 2  # of the strongest attack on each victim


def test_it_is_verified_wherever_it_lies(entry, capsys):
    assert verify(entry, "--cells", "30") == 0
    out = capsys.readouterr().out
    note, complete = out.index("note: clamp.py, which is part of the entry, is run"), out.index("complete:")
    assert note < complete
    assert "complete: 18 trials and 4 trainings" in out
    assert "scores: those of what 6 strongest attacks found" in out
    assert out.count("confirmed") == 19
    assert out.endswith("verified\n")


def flattered(rows):
    """The defended scores are made half as large."""
    own = rows["defense"] != "none"
    return rows.assign(
        **{name: rows[name].mask(own, rows[name] / 2) for name in ("score", "ssim", "rouge_l")}
    )


def test_a_changed_file_is_found(entry, capsys):
    (entry / "clamp.py").write_text(DEFENSE.replace("0.001", "0.002"))
    rewrite(entry, "trials", flattered)
    assert verify(entry) == 1
    out = capsys.readouterr().out
    assert "wrong: clamp.py: expected SHA-256" in out
    assert "wrong: trials.parquet: expected SHA-256" in out
    assert "it was changed" in out
    assert out.endswith("not verified\n")


def test_a_forged_score_is_found_without_running_anything(entry, capsys):
    rewrite(entry, "trials", flattered)
    sign(entry)
    assert verify(entry) == 1
    out = capsys.readouterr().out
    assert f"wrong: digits, {NAME}, linear, index 0: SSIM: the row says 0.3" in out
    assert "running" not in out


@pytest.mark.parametrize(
    ("name", "column", "text"),
    [("trials", "sent_bytes", "got another sent_bytes"), ("trainings", "accuracy", "got another accuracy")],
)
def test_a_forged_row_is_found_by_running_it_again(entry, capsys, name, column, text):
    rewrite(entry, name, lambda rows: rows.assign(**{column: rows[column] / 2}))
    sign(entry)
    assert verify(entry, "--cells", "30") == 1
    assert text in capsys.readouterr().out


def test_a_row_computed_elsewhere_may_differ_a_little(entry, capsys):
    def moved(by):
        return lambda rows: rows.assign(
            hardware="another", rouge_1=rows["rouge_1"] / 2, ssim=rows["ssim"] + by, score=rows["score"] + by
        )

    rewrite(entry, "trials", moved(0.005))
    sign(entry)
    assert verify(entry, "--cells", "30") == 0, capsys.readouterr().out


@pytest.mark.parametrize("part", ["digits", "accuracy"])
def test_a_missing_row_is_found(entry, capsys, part):
    rewrite(entry, "trainings" if part == "accuracy" else "trials", lambda rows: rows.iloc[1:])
    sign(entry)
    assert verify(entry) == 1
    assert f"wrong: {part}: expected a row for each trial, found 1 of them missing" in capsys.readouterr().out


def test_rows_of_something_else_are_found(entry, capsys):
    rewrite(entry, "trials", lambda rows: rows.assign(key=rows["key"].str[::-1]))
    sign(entry)
    assert verify(entry) == 1
    out = capsys.readouterr().out
    assert "wrong: digits: expected rows of the protocol's trials, found 6 others" in out


def test_rows_that_were_added_are_found(entry, capsys):
    about = yaml.safe_load((entry / ABOUT).read_text())
    rewrite(entry, "trials", lambda rows: pd.concat([rows, rows.iloc[:1]]))
    sign(entry, keys_sha256=about["keys_sha256"])
    assert verify(entry) == 1
    out = capsys.readouterr().out
    assert "rows were added or removed" in out
    assert "expected each trial once, found some twice" in out


def test_a_missing_picture_is_found(entry, capsys):
    rewrite(entry, "pictures", lambda rows: rows.iloc[1:])
    sign(entry)
    assert verify(entry) == 1
    assert (
        "expected what the strongest attack found, in pictures.parquet, found nothing"
        in capsys.readouterr().out
    )


def test_another_protocol_is_found(entry, capsys, protocols, monkeypatch, tmp_path):
    (tmp_path / "v9.yaml").write_text(PROTOCOL.replace("indices: 0-1", "indices: 0-2"))
    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    assert verify(entry) == 1
    assert "wrong: protocol v9: expected SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("forge", "text"),
    [
        (
            lambda entry: (entry / ABOUT).unlink(),
            "clamp: expected an entry, found no entry.yaml in it; `leak",
        ),
        (lambda entry: (entry / ABOUT).write_text("a: ["), "entry.yaml: "),
        (lambda entry: (entry / ABOUT).write_text("[1]"), "expected the keys name, defenses, attacks, paper"),
        (lambda entry: sign(entry, defenses="clamp"), "entry.yaml: defenses: expected a list, got 'clamp'"),
        (lambda entry: sign(entry, format=0), "entry.yaml: expected format 1, got 0"),
        (lambda entry: sign(entry, protocol="v8"), "unknown protocol 'v8'; known: v9"),
    ],
)
def test_what_is_no_entry_is_a_line(entry, capsys, forge, text):
    forge(entry)
    assert verify(entry) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_an_entry_without_rows_is_a_line(entry, capsys):
    rewrite(entry, "trials", lambda rows: rows.iloc[:0])
    sign(entry)
    assert verify(entry) == 1
    out = capsys.readouterr().out
    assert "wrong: trials.parquet: expected the rows of the protocol's trials, found none\n" in out


def test_a_file_that_is_missing_is_a_line(entry, capsys):
    (entry / "clamp.py").unlink()
    assert verify(entry) == 1
    assert "wrong: clamp.py: expected the file that the entry lists, found none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none.py"], "no file 'none.py' (looked in "),
        (["int8", "--attack", "none.py:Mine"], "no file 'none.py' (looked in "),
        (["int9"], "unknown defense 'int9'; did you mean 'int8'?"),
        (["int8", "--protocol", "v7"], "unknown protocol 'v7'; known: v9"),
    ],
)
def test_what_cannot_be_submitted_is_a_line(tmp_path, capsys, arguments, text):
    assert inside(tmp_path, "submit", *HERE, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    assert inside(tmp_path, "submit", "int8", *HERE, "--dry-run") == 0
    out = capsys.readouterr().out
    assert "digits: 8 trials at most = 2 images x 2 attacks x 2 defenses" in out
    assert "accuracy: 4 trainings = 2 defenses x 2 seeds" in out
    assert out.endswith("nothing was run\n")
    assert not list(tmp_path.iterdir())


def test_the_lines_are_those_of_the_rows(home):
    entry = Entry.read(home / "entries/clamp")
    parts = part_lines(contenders([entry]), benchmark.read_benchmark("v9"))
    assert parts["part"].tolist() == ["digits", "two draws", "sentences"]
    rows = pd.read_parquet(entry.folder / "trials.parquet")
    own = rows[(rows["part"] == "digits") & (rows["defense"] == NAME)]
    best = own.groupby("index")["ssim"].max()
    (digits,) = parts[parts["part"] == "digits"].to_dict("records")
    assert digits["victims"] == 2  # both leak undefended
    assert digits["leaked"] == (best >= 0.9).sum()
    assert digits["score"] == best.median()
    (line,) = leaderboard(parts).to_dict("records")
    assert (line["defense"], line["entry"], line["victims"]) == (NAME, "clamp", 2)
    assert line["rate"] == digits["rate"]
    assert line["missing"] == 0  # of `two draws` nothing leaks undefended, which is not the defense's doing
    trained = pd.read_parquet(entry.folder / "trainings.parquet")
    assert line["accuracy"] == trained[trained["defense"] == NAME]["accuracy"].mean()


BREAKS = """
from leakbench.bench.attacks.linear import Linear


class Breaks(Linear):
    pass
"""


@pytest.mark.parametrize(
    ("defense", "name"),
    [
        ("mine/my_defense.py", "my_defense"),
        ("My2.py:Mine(limit=0.1)", "My2"),
        ("top_k(ratio=0.01)", "top_k-ratio-0.01"),
        ("sign", "sign"),
    ],
)
def test_an_entry_is_named_after_its_defense(defense, name):
    """As the documentation has it: `submit my_defense.py`, then `verify entries/my_defense`."""
    assert named_after(defense) == name


def test_whoever_breaks_a_defense_submits_an_attack_and_the_lower_number_stands(home, tmp_path):
    shutil.copy(home / "mine/clamp.py", tmp_path)
    (tmp_path / "breaks.py").write_text(BREAKS)
    first = inside(tmp_path, "submit", "clamp.py", *HERE, "--name", "weak")
    more = ("--name", "broken", "--attack", "breaks.py:Breaks")
    second = inside(tmp_path, "submit", "clamp.py", *HERE, *more)
    assert (first, second) == (0, 0)
    entries = [Entry.read(tmp_path / "entries" / name) for name in ("weak", "broken")]
    protocol = benchmark.read_benchmark("v9")
    alone, both = (part_lines(contenders(own), protocol).set_index("part") for own in (entries[:1], entries))
    assert entries[1].about.attacks == ["breaks.py:Breaks"]
    assert (both.loc["two draws", "victims"], alone.loc["two draws", "victims"]) == (2, 0)
    assert both["defense"].nunique() == 1
    assert verify(tmp_path / "entries/broken", "--cells", "2") == 0


def test_the_board_is_a_table_of_all_entries(home, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert inside(home, "board", "--protocol", "v9") == 0
    out = capsys.readouterr().out
    line, by_part = (each for each in out.splitlines() if each.startswith("clamp.py:Clamp"))
    rows = pd.read_parquet(home / "entries/clamp/trials.parquet")
    own = rows[(rows["part"] == "digits") & (rows["defense"] == NAME)]
    leaked = int((own.groupby("index")["ssim"].max() >= 0.9).sum())
    assert f" {leaked}/2 " in line
    assert " ".join(by_part.split()) == f"{NAME} {leaked}/2 - 2/2"


COMMITTED = sorted((ROOT / "board/entries").iterdir())


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_the_files_of_our_own_entries_are_in_order(monkeypatch, folder):
    monkeypatch.setattr(benchmark, "FOLDER", COME_ALONG)
    entry = Entry.read(folder)
    assert entry.about.name == folder.name
    assert list(file_problems(entry, benchmark.read_benchmark(entry.about.protocol))) == []
    keys = [*entry.trials["key"], *entry.trainings["key"]]
    assert digest_of(keys) == entry.about.keys_sha256


@pytest.mark.long
@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_our_own_entries_are_verified(monkeypatch, folder):
    monkeypatch.setattr(benchmark, "FOLDER", COME_ALONG)
    assert inside(folder.parent, "verify", folder.name, "--cells", "2") == 0


def test_a_folder_without_entries_is_a_line(tmp_path, capsys):
    assert inside(tmp_path, "board", "--protocol", "v9") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "entries: expected a folder of entries of protocol v9, found none; `leakbench submit`"
    )


def test_the_line_of_lowest_score_is_first_whatever_leaked(home, tmp_path):
    """Half of the victims leak under one, and none under the other, which leaves 0.85 of all."""
    entry = Entry.read(home / "entries/clamp")
    for name, scores in (("half", (0.95, 0.3)), ("recognisable", (0.85, 0.85))):
        forged = shutil.copytree(entry.folder, tmp_path / name)

        def given(rows, scores=scores):
            own = (rows["part"] == "digits") & (rows["defense"] == NAME)
            values = rows["index"].map(dict(enumerate(scores)))
            return rows.assign(**{each: rows[each].mask(own, values) for each in ("score", "ssim")})

        rewrite(forged, "trials", given)
        (forged / "clamp.py").write_text(DEFENSE + f"# {name}\n")
        sign(forged, name=name)
    read = [Entry.read(tmp_path / name) for name in ("recognisable", "half")]
    lines = leaderboard(part_lines(contenders(read), benchmark.read_benchmark("v9")))
    assert lines["entry"].tolist() == ["half", "recognisable"]
    assert lines["leaked"].tolist() == [1, 0]
    assert lines["score"].tolist() == pytest.approx([0.625, 0.85])
    assert (lines["score_low"] <= lines["score"]).all()


def test_images_that_were_rebuilt_as_they_entered_are_counted_apart(home, tmp_path, capsys, monkeypatch):
    forged = shutil.copytree(home / "entries/clamp", tmp_path / "entries/changed")

    def changed(rows):
        own = (rows["part"] == "digits") & (rows["defense"] == NAME)
        lower = {each: rows[each].mask(own, 0.1) for each in ("score", "ssim")}
        first = own & (rows["index"] == rows["index"].min())
        return rows.assign(**lower, input_score=rows["input_score"].mask(first, 0.95))

    rewrite(forged, "trials", changed)
    sign(forged, name="changed")
    parts = part_lines(contenders([Entry.read(forged)]), benchmark.read_benchmark("v9"))
    (line,) = leaderboard(parts).to_dict("records")
    assert (line["victims"], line["leaked"], line["inputs"]) == (2, 0, 1)
    monkeypatch.setenv("COLUMNS", "120")
    assert inside(tmp_path, "board", "--protocol", "v9") == 0
    out = capsys.readouterr().out
    assert "0/2 (+1 changed)" in out
    assert "changed: rebuilt as they entered the network" in out


def test_a_defense_that_fails_in_a_part_is_below_all_others(home, tmp_path):
    entry = Entry.read(home / "entries/clamp")
    forged = shutil.copytree(entry.folder, tmp_path / "better")

    def failing(rows):
        own = (rows["part"] == "digits") & (rows["defense"] == NAME)
        return rows.assign(
            status=rows["status"].mask(own, "error"),
            score=rows["score"].mask(own),
            ssim=rows["ssim"].mask(own),
        )

    rewrite(forged, "trials", failing)
    (forged / "clamp.py").write_text(DEFENSE + "\n")  # another defense, therefore
    sign(forged, name="better")
    parts = part_lines(contenders([Entry.read(forged), entry]), benchmark.read_benchmark("v9"))
    lines = leaderboard(parts)
    assert lines["entry"].tolist() == ["clamp", "better"]
    assert lines["missing"].tolist() == [0, 1]
