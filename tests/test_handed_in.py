"""The leaderboard's victims are attacked outside LeakBench, and what was rebuilt is handed in."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from running import inside
from test_board import DEFENSE, HERE, NAME, PROTOCOL, protocols, sign, verify  # noqa: F401

from leakbench.bench.attacks import ATTACKS, NotApplicableError
from leakbench.bench.attacks.handed_in import NOTHING, SIZE, contents, fingerprint
from leakbench.bench.datasets import Recorded
from leakbench.bench.models import MODELS
from leakbench.bench.recorded import receive
from leakbench.bench.trial import Trial, prepare
from leakbench.board import benchmark
from leakbench.board.entry import Entry
from leakbench.board.handed_in import read_found
from leakbench.board.lines import contenders, part_lines
from leakbench.commands.victims import parts_under
from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.federation.tensor_files import read_tensors, write_tensors
from leakbench.sweeps.options import RunOptions

pytestmark = pytest.mark.usefixtures("without_rehearsal")

HIDES = DEFENSE.replace("limit: float = 0.001", "limit: float = 1e-5").replace("[0.001]", "[1e-5]")
CLAMP = "clamp.py"


@pytest.fixture(scope="module")
def home(tmp_path_factory, protocols):  # noqa: F811
    """The folder of an attacker: a defense, and what the server sees of its victims."""
    folder = tmp_path_factory.mktemp("attacker")
    (folder / CLAMP).write_text(HIDES)
    assert inside(folder, "victims", CLAMP, "--protocol", "v9") == 0
    return folder


@pytest.fixture(scope="module")
def parts(protocols):  # noqa: F811
    """The victims of each part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leakbench.sweeps.rehearsal.rehearse", lambda *_arguments, **_options: None)
        return parts_under("int8", benchmark.read_benchmark("v9"), RunOptions())


def truth(index):
    """The digit of a victim, which an attacker may take from public data."""
    return Trial.from_names(names(index, "none")).dataset.open(None)[index][0]


def names(index, defense, seed=0):
    plain = {"dataset": "mnist-sample", "model": "mlp(hidden=[16])", "attack": "linear", "start": 0}
    return {**plain, "index": index, "model_seed": seed, "defense": defense}


def seen(index, defense="none", seed=0):
    return prepare(Trial.from_names(names(index, defense, seed)), 0, None)[0]


def solved(path):
    """The image behind an update: an entry of the first layer's gradient over that of its bias."""
    update = dict(np.load(path))
    weight, bias = update["1.weight"], update["1.bias"]
    row = np.abs(bias).argmax()
    return (weight[row] / bias[row]).reshape(1, 1, 28, 28)


# what the server sees


def test_the_victims_are_those_of_the_protocol(home):
    out = home / "victims/clamp"
    assert sorted(each.name for each in out.iterdir()) == ["digits", "sentences", "two-draws"]
    rounds = {
        each.name: sorted(file.name for file in each.glob("*")) for each in out.glob("two-draws/round*")
    }
    assert rounds == {  # the victims of one draw of the weights are one round
        "round-001": ["client-000.npz", "round.json", "weights.npz"],
        "round-002": ["client-001.npz", "round.json", "weights.npz"],
    }
    about = yaml.safe_load((out / "sentences/about.yaml").read_text())
    assert (about["part"], about["victims"], about["labels"]) == ("sentences", 2, "unknown")
    assert about["defense"] == "Clamp"
    pieces = (out / "sentences/vocabulary.txt").read_text().split("\n")
    assert about["shape"] == [1, 42]
    assert pieces[:1] == ["[PAD]"]


@pytest.mark.parametrize("number", [0, 1])
def test_they_can_be_audited_as_recorded_rounds_can(home, number):
    """Tensor by tensor the update is what an attack of LeakBench gets."""
    rounds = Recorded(path=str(home / "victims/clamp/digits"), shape=(1, 28, 28), classes=10)
    network = MODELS.parse("mlp(hidden=[16])").build((1, 28, 28), 10, 7)
    received = receive(rounds, rounds.uploads[number], network)
    case = seen(number, f"{home / CLAMP}:Clamp")
    assert all(torch.equal(received.gradient[name], each) for name, each in case.shared.items())
    state = case.model.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in received.network.state_dict().items())


PROTOCOLS_OF_UPDATES = [
    "fedsgd(batch_size=2)",
    "fedavg(local_steps=3, lr=0.1, momentum=0.5)",
    "secure_sum(clients=2, digits=3)",
]


@pytest.mark.parametrize("protocol", PROTOCOLS_OF_UPDATES)
def test_updates_of_every_protocol_have_their_scale(tmp_path, protocols, monkeypatch, protocol):  # noqa: F811
    text = PROTOCOL.replace("attacks: [linear,", f"protocols: ['{protocol}']\n    attacks: [").replace(
        "0-1}]", "0}]"
    )
    (tmp_path / "v9.yaml").write_text(text)
    monkeypatch.setattr(benchmark, "FOLDER", tmp_path)
    assert inside(tmp_path, "victims", "none", "--protocol", "v9", "--part", "digits") == 0
    folder = tmp_path / "victims/none/digits"
    (upload,) = Recorded(path=str(folder), shape=(1, 28, 28), classes=10).every_upload
    case = prepare(Trial.from_names({**names(0, "none"), "protocol": protocol}), 0, None)[0]
    made_by = str(upload.made_by(1))
    rounds = Recorded(path=str(folder), shape=(1, 28, 28), classes=10, protocol=made_by)
    network = MODELS.parse("mlp(hidden=[16])").build((1, 28, 28), 10, 0)
    received = receive(rounds, upload, network).gradient
    for name, each in case.shared.items():
        torch.testing.assert_close(received[name], each)
    assert upload.examples == case.spec.count
    assert upload.sender.summed == (2 if "sum" in protocol else 1)
    assert made_by == protocol if "sum" not in protocol else made_by.startswith("fedsgd")


def test_the_truth_is_not_in_them(home):
    images = [truth(index).numpy().tobytes() for index in (0, 1)]
    files = list((home / "victims/clamp").glob("*/round-*/*.npz"))
    assert len(files) == 6 + 4  # victims, and draws of weights
    arrays = [each for file in files for each in np.load(file).values()]
    assert all(each.dtype == np.float32 for each in arrays)
    assert not any(image in each.tobytes() for image in images for each in arrays)
    for path in (home / "victims/clamp").glob("*/round-*/round.json"):
        clients = json.loads(path.read_text())["clients"].values()
        assert all(each == {"examples": 1, "summed": 1} for each in clients)


def test_one_part_can_be_chosen_by_name(home, tmp_path, capsys):
    shutil.copy(home / CLAMP, tmp_path)
    assert inside(tmp_path, "victims", CLAMP, "--protocol", "v9", "--part", "two draws", "--out", "seen") == 0
    assert [each.name for each in (tmp_path / "seen").iterdir()] == ["two-draws"]
    assert "two-draws: 2 victims" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["none", "--part", "digit"], "--part: unknown part 'digit'; did you mean 'digits'?"),
        (["prune"], "prune: expected one setting of a defense, found 3; choose one, such as 'prune(ratio="),
        (["nothing"], "unknown defense 'nothing'"),
        (["none", "--out", "full"], "full/digits: expected a new or empty folder, found recorded rounds"),
    ],
)
def test_what_has_no_victims_is_a_line(tmp_path, capsys, arguments, text):
    (tmp_path / "full/digits/round-001").mkdir(parents=True)
    assert inside(tmp_path, "victims", "--protocol", "v9", *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


# the fingerprint


def test_a_fingerprint_tells_victims_apart_and_not_the_rounding_of_processors():
    update = seen(0).shared
    own = fingerprint(update)
    assert own.shape == (SIZE,)
    moved = {name: each * (1 + 1e-6 * torch.randn_like(each)) for name, each in update.items()}
    assert (fingerprint(moved) - own).norm() < 1e-5 * own.norm()
    for other in (seen(1), seen(0, seed=1)):
        assert (fingerprint(other.shared) - own).norm() > 0.2 * own.norm()


def test_distances_of_fingerprints_are_those_of_updates():
    generator = torch.Generator().manual_seed(0)
    one, other = ({"a": torch.randn(300, 50, generator=generator), "b": torch.zeros(9)} for _ in range(2))
    apart = (one["a"] - other["a"]).norm()
    assert (fingerprint(one) - fingerprint(other)).norm() / apart == pytest.approx(1, abs=0.3)


def played_back(path, case):
    return ATTACKS.parse(f"handed-in(file={path})").invert(case)


def test_what_was_handed_in_is_found_by_the_update_that_is_nearest(tmp_path):
    path = tmp_path / "found.npz"
    pixels = (truth(0)[None] * 255).round().to(torch.uint8)
    prints = {f"digits/{number:03d}": fingerprint(seen(number).shared) for number in (0, 1)}
    write_tensors(path, contents(prints, {"digits/000": pixels}))
    assert torch.equal(played_back(path, seen(0)).x, pixels.float() / 255)
    assert played_back(path, seen(0, "float16")).x.shape == (1, 1, 28, 28)
    for other in (seen(1), seen(2), seen(0, seed=1)):
        with pytest.raises(NotApplicableError, match=NOTHING):
            played_back(path, other)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file"),
        (b"nothing", "expected tensors written by numpy.savez"),
        ({"a": 1}, "found another"),
    ],
)
def test_another_file_is_a_line(tmp_path, content, text):
    path = tmp_path / "found.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    with pytest.raises(SettingError, match=text):
        ATTACKS.parse(f"handed-in(file={path})")


# from the victims to the board


@pytest.fixture(scope="module")
def entry(home):
    """Made of what was rebuilt elsewhere: a digit, another one as by an attack, and a sentence."""
    found = home / "found"
    (found / "digits").mkdir(parents=True)
    (found / "sentences").mkdir()
    np.save(found / "digits/001.npy", truth(1)[None].numpy())
    sentence = Trial.from_names({**names(0, "none"), "dataset": "sotu-sample"}).dataset.open(None)
    pieces = [sentence.vocabulary.pieces[token] for token in sentence[1][0]]
    (found / "sentences/001.txt").write_text(" ".join(pieces) + "\n")
    assert inside(home, "submit", CLAMP, *HERE, "--name", "alone") == 0
    assert inside(home, "submit", CLAMP, *HERE, "--name", "broken", "--found", "found") == 0
    return home / "entries/broken"


def test_rows_say_what_was_handed_in(entry):
    about = Entry.read(entry).about
    assert about.attacks == ["handed-in(file=found.npz)", "handed-in-texts(file=found.npz)"]
    assert set(about.files) == {
        CLAMP, "found.npz", "trials.parquet", "trainings.parquet", "pictures.parquet"
    }  # fmt: skip
    rows = pd.read_parquet(entry / "trials.parquet")
    own = rows[(rows["attack_name"] == "handed-in") & (rows["part"] == "digits") & (rows["defense"] == NAME)]
    by_index = own.set_index("index")
    assert by_index.loc[1, "ssim"] > 0.99
    assert by_index.loc[1, "threat"] == "unknown"
    assert by_index.loc[0, ["status", "reason"]].tolist() == ["error", f"NotApplicableError: {NOTHING}"]
    assert np.isnan(by_index.loc[0, "score"])


def test_other_victims_keep_their_results(home, entry):
    columns = ["part", "defense", "attack", "index", "key", "score", "status"]
    alone, broken = (pd.read_parquet(home / f"entries/{name}/trials.parquet") for name in ("alone", "broken"))
    code = broken[~broken["attack_name"].str.startswith("handed-in")]
    pd.testing.assert_frame_equal(alone[columns], code[columns].reset_index(drop=True))


def test_what_is_missing_is_no_failure(home, entry, capsys):
    assert inside(home, "submit", CLAMP, *HERE, "--name", "broken", "--found", "found") == 0
    assert "failed" not in capsys.readouterr().out


def test_it_is_verified_like_any_other(entry, capsys):
    assert verify(entry, "--cells", "30") == 0
    out = capsys.readouterr().out
    assert f"digits, {NAME}, handed-in(file=found.npz), index 1: confirmed" in out


def test_another_file_of_reconstructions_is_found(entry, tmp_path, capsys):
    forged = shutil.copytree(entry, tmp_path / "forged")
    tensors = read_tensors(forged / "found.npz")
    tensors["digits/001/found"] = 255 - tensors["digits/001/found"]
    write_tensors(forged / "found.npz", tensors)
    assert verify(forged) == 1
    assert "wrong: found.npz: expected SHA-256" in capsys.readouterr().out
    sign(forged)
    assert verify(forged) == 1
    assert "others: the defense's file, the protocol or the version" in capsys.readouterr().out


def test_the_board_shows_both_numbers(home, entry, capsys, monkeypatch):
    entries = [Entry.read(home / "entries" / name) for name in ("alone", "broken")]
    protocol = benchmark.read_benchmark("v9")
    parts = part_lines(contenders(entries), protocol).set_index("part")
    alone = part_lines(contenders(entries[:1]), protocol).set_index("part")
    assert parts["handed_in"].tolist() == [1, 0, 0]  # a sentence leaks anyway
    assert alone["handed_in"].tolist() == [0, 0, 0]
    assert parts.loc["digits", "leaked"] == alone.loc["digits", "leaked"] + 1
    assert parts["victims"].tolist() == alone["victims"].tolist()
    monkeypatch.setenv("COLUMNS", "140")
    assert inside(home, "board", "--protocol", "v9") == 0
    out = capsys.readouterr().out
    line, by_part = (each for each in out.splitlines() if each.startswith(NAME))
    assert " 1/2 " in line
    assert ", 0/2 " in line
    assert by_part.split()[1] == "1/2*"
    assert "by code: without reconstructions that were handed in" in out
    assert "*: some of it was handed in without code" in out


def test_without_them_the_board_has_no_such_column(home, entry, tmp_path, capsys):
    shutil.copytree(home / "entries/alone", tmp_path / "entries/alone")
    assert inside(tmp_path, "board", "--protocol", "v9") == 0
    assert "by code" not in capsys.readouterr().out


def test_an_attack_from_outside_needs_only_what_was_written(tmp_path):
    """With numpy alone; what it finds is a leak."""
    assert inside(tmp_path, "victims", "float16", "--protocol", "v9", "--part", "digits") == 0
    (tmp_path / "found/digits").mkdir(parents=True)
    for number in ("000", "001"):
        image = solved(tmp_path / f"victims/float16/digits/round-001/client-{number}.npz")
        np.save(tmp_path / f"found/digits/{number}.npy", image.clip(0, 1))
        assert np.abs(image[0] - truth(int(number)).numpy()).max() < 0.01


# bad input


def image(shape=(1, 1, 28, 28), value=0.5, kind=np.float32):
    return np.full(shape, value, kind)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({}, "found: expected what was rebuilt, such as digits/000.npy, found nothing"),
        ({"digits/.hidden": "x"}, "found: expected what was rebuilt, such as digits/000.npy, found nothing"),
        ({"digit/000.npy": image()}, "found/digit: unknown part 'digit'; did you mean 'digits'?"),
        ({"000.npy": image()}, "found/000.npy: unknown part '000.npy'"),
        ({"two-draws/002.npy": image()}, "002.npy: expected the name of a victim, 000.npy to 001.npy, found"),
        (
            {"digits/000.npy": image(), "digits/0.npy": image()},
            "/0.npy: expected the name of a victim, 000.npy",
        ),
        (
            {"digits/000.npy": image(), "digits/000.txt": "x"},
            "000.txt: expected the name of a victim, 000.npy",
        ),
        ({"digits/000.npy": image((28, 28))}, "of shape (1, 1, 28, 28) in [0, 1], got shape (28, 28)"),
        ({"digits/000.npy": image(value=np.nan)}, "in [0, 1], found NaN or infinity"),
        ({"digits/000.npy": image(value=1.5)}, "in [0, 1], got 1.5 to 1.5"),
        ({"digits/000.npy": image(value=1, kind=np.uint8)}, "in [0, 1], got uint8"),
        ({"digits/000.npy": "nothing"}, "000.npy: expected an array written by numpy.save, got ValueError"),
        ({"sentences/000.txt": "two\nlines\n"}, "000.txt: expected 1 lines, one for each text, found 2"),
        ({"sentences/000.txt": "\n"}, "line 1: expected a text of 1 to 40 word pieces, got 0"),
        ({"sentences/000.txt": "word " * 41}, "line 1: expected a text of 1 to 40 word pieces, got 41"),
        (
            {"sentences/000.txt": "the \N{SNOWMAN}\n"},
            "line 1: expected words that the vocabulary has pieces for",
        ),
        ({"sentences/000.txt": "the ##nopiece\n"}, "vocabulary has pieces for, found '##nopiece'"),
        ({"sentences/000.txt": b"\xff\xfe"}, "000.txt: expected texts in UTF-8, got invalid start byte"),
    ],
)
def test_what_cannot_be_handed_in_is_a_line(tmp_path, parts, files, text):
    put(tmp_path / "found", files)
    with pytest.raises(UserError) as error:
        read_found(tmp_path / "found", parts)
    (line,) = error.value.problems
    assert text in line


def test_all_problems_are_shown_at_once(tmp_path, parts):
    put(tmp_path, {"digits/007.npy": image(), "digits/001.npy": image(value=2), "digits/000.npy": image()})
    with pytest.raises(UserError) as error:
        read_found(tmp_path, parts)
    assert len(error.value.problems) == 2


def put(folder, files):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, np.ndarray):
            np.save(path, content)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["int8", "--found", "nowhere"], "nowhere: expected a folder of what was rebuilt, found none"),
        (["prune", "--found", "."], "prune: expected one setting of a defense, found 3"),
    ],
)
def test_what_is_not_there_cannot_be_handed_in(tmp_path, capsys, arguments, text):
    assert inside(tmp_path, "submit", *HERE, *arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The Senate's debts", "[CLS] the senate ' s debts [SEP]"),
        ("[CLS] the the ##s [SEP]", "[CLS] the the ##s [SEP]"),
        ("the ##s", "[CLS] the ##s [SEP]"),
    ],
)
def test_texts_are_plain_or_in_word_pieces(tmp_path, parts, text, pieces):
    put(tmp_path, {"sentences/000.txt": text})
    (tokens,) = read_found(tmp_path, parts)["sentences/000"]
    known = parts[-1].spec.vocabulary
    assert " ".join(known.pieces[token] for token in tokens if token != known.pad) == pieces
