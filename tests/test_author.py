"""Writing a defense or an attack: the templates, and what is reported if one breaks its contract."""

import subprocess
import sys

import pytest

import leakbench
from leakbench import commands
from leakbench.bench.attacks import ATTACKS
from leakbench.bench.attacks.handed_in import HANDED_IN
from leakbench.defenses import DEFENSES

HEAD = "from dataclasses import dataclass\nimport torch\nfrom leakbench import Defense\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def define(folder, *members, name="Mine", file="mine.py"):
    body = "\n".join(f"    {member}" for member in members)
    path = folder / file
    path.write_text(f"{HEAD}@dataclass(frozen=True)\nclass {name}(Defense):\n{body}\n")


def gives(expression):
    return f"def apply(self, gradients, generator): return {{n: {expression} for n, g in gradients.items()}}"


def checked(capsys, name="mine.py"):
    """The exit status, and {what was tried: what was wrong with it}."""
    status = leakbench.main(["check", name])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    wrong = [rest.partition(": ") for word, rest in lines if word == "wrong"]
    assert status == (commands.TRIALS_FAILED if wrong else 0)
    return {what: problem.rpartition("  [")[0] for what, _, problem in wrong}


@pytest.mark.parametrize(
    ("name", "file", "cls"),
    [
        ("my_defense", "my_defense.py", "MyDefense"),
        ("Mine", "mine.py", "Mine"),
        ("MyDP", "my_dp.py", "MyDP"),
        ("top-8.py", None, None),
        ("top8-k.py", "top8_k.py", "Top8K"),
    ],
)
def test_the_template_is_a_defense_that_passes(here, capsys, name, file, cls):
    if file is None:
        assert leakbench.main(["new-defense", name]) == 0
        file, cls = "top_8.py", "Top8"
    else:
        assert leakbench.main(["new-defense", name]) == 0
    lines = (here / file).read_text().splitlines()
    assert len(lines) <= 17
    assert f"leakbench compare {file}:{cls}" in capsys.readouterr().out
    assert checked(capsys, file) == {}
    assert DEFENSES.parse(f"{file}:{cls}(limit=0.1)").limit == 0.1


def test_the_template_of_an_attack_passes(here, capsys):
    assert leakbench.main(["new-attack", "my_attack"]) == 0
    assert "attacks: [dlg, 'my_attack.py:MyAttack']" in capsys.readouterr().out
    assert len((here / "my_attack.py").read_text().splitlines()) <= 18
    assert checked(capsys, "my_attack.py") == {}
    assert ATTACKS.parse("my_attack.py:MyAttack(shade=0.25)").shade == 0.25


@pytest.mark.parametrize("verb", ["new-defense", "new-attack"])
def test_the_template_passes_the_linter_that_users_have(here, verb):
    leakbench.main([verb, "mine"])
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "mine.py"], capture_output=True
    )
    assert done.returncode == 0


def attack(folder, body, file="mine.py"):
    """A file with an attack whose `invert` has that body."""
    head = "from dataclasses import dataclass\nimport torch\nfrom leakbench.bench.attacks import *\n"
    lines = "    def invert(self, case):\n        grey = torch.full(case.spec.batch_shape, 0.5)\n"
    text = f"{head}@dataclass(frozen=True)\nclass Mine(Attack):\n{lines}        {body}\n"
    (folder / file).write_text(text)


SEVERAL = "several gradients, each answered once"


@pytest.mark.parametrize(
    ("body", "what", "problem"),
    [
        ("return grey", SEVERAL, "expected Found(x, ...), got Tensor"),
        ("return Found(grey[0])", SEVERAL, "images: expected shape (1, 1, 28, 28), got (1, 28, 28)"),
        ("return Found(grey * torch.nan)", SEVERAL, "images: holds NaN or infinity"),
        ("return Found(grey / case.shared['1.bias'].norm())", "a gradient of zeros", "images: holds NaN or"),
        (
            "return Found(torch.rand(case.spec.batch_shape))",
            "the same images from the same start, and no other randomness",
            "expected the same images again, got others; draw from `case.generator` alone",
        ),
        (
            "torch.rand(1); return Found(grey)",
            "the same images from the same start, and no other randomness",
            "used PyTorch's global random generator; draw only from `case.generator`",
        ),
        ("raise ValueError('no way')", SEVERAL, "ValueError: no way"),
    ],
)
def test_what_an_attack_breaks_is_said(here, capsys, body, what, problem):
    attack(here, body)
    assert checked(capsys)[what].startswith(problem)


@pytest.mark.parametrize(
    ("deed", "what"),
    [
        ("next(iter(case.shared.values())).zero_()", "shared gradient"),
        ("next(case.model.parameters()).data.zero_()", "model"),
    ],
)
def test_what_is_not_an_attacks_own_is_left_alone(here, capsys, deed, what):
    """`invert` gets a copy; an engine that takes the cases themselves has to make its own."""
    attack(here, f"{deed}; return Found(grey)")
    assert checked(capsys) == {}
    text = (here / "mine.py").read_text()
    engine = "def invert_many(self, cases, observe, resources):\n       for case in cases:"
    text = text.replace("def invert(self, case):", engine)
    text = text.replace("return Found(grey)", "yield case.number, Found(grey)")
    (here / "mine.py").write_text(text)
    problem = f"changed the {what} in place; work on `case.copy()`"
    assert checked(capsys) == {"an unchanged model and gradient": problem}


def test_an_attack_that_is_not_for_a_model_says_so(here, capsys):
    attack(here, "raise NotApplicableError('expected a smaller image')")
    assert leakbench.main(["check", "mine.py"]) == 0
    assert "  not for the gradient of a LeNet: expected a smaller image\n" in capsys.readouterr().out


def test_a_file_may_hold_both_kinds(here, capsys):
    define(here, gives("g.clone()"))
    with (here / "mine.py").open("a") as file:
        file.write("from leakbench import Attack, Found\n@dataclass(frozen=True)\nclass Grey(Attack):\n")
        file.write("    def invert(self, case): return Found(torch.full(case.spec.batch_shape, 0.5))\n")
    assert checked(capsys) == {}
    assert leakbench.main(["check", "mine.py"]) == 0
    output = capsys.readouterr().out
    assert "mine.py:Mine, with defaults\n" in output
    assert "mine.py:Grey, with defaults\n" in output
    assert leakbench.main(["check", "dlg"]) == 0


def test_nothing_is_overwritten(here, capsys):
    (here / "mine.py").write_text("precious")
    assert leakbench.main(["new-defense", "mine"]) == commands.USER_ERROR
    text = "mine.py: the file exists already; choose another name or remove it\n"
    assert capsys.readouterr().err == text
    assert (here / "mine.py").read_text() == "precious"


@pytest.mark.parametrize("name", ["3x", "a b", "../up", "-", "größe/x", "none", "found"])
def test_a_name_that_is_none_is_refused(here, capsys, name):
    assert leakbench.main(["new-defense", "--", name]) == commands.USER_ERROR
    assert capsys.readouterr().err.startswith(f"{name}: expected a name of letters, digits and _")
    assert not list(here.iterdir())


PLAIN = "a gradient of a LeNet"
SHAPES = "shapes from a single entry to a kernel"
AGAIN = "the same gradients from an equal generator, and no other randomness"
SETTINGS = "settings that give a name, and a name that gives the settings"


@pytest.mark.parametrize(
    ("member", "what", "problem"),
    [
        (gives("g.mul_(2)"), PLAIN, "changed gradient '0.weight' in place; return a new tensor"),
        (gives("g[:1]"), PLAIN, "gradient '0.weight': expected shape (12, 3, 5, 5), got (1, 3, 5, 5)"),
        (gives("g.float()"), "float64", "gradient 'kernel': expected torch.float64, got torch.float32"),
        (gives("g / g.norm()"), "zeros", "gradient 'kernel': holds NaN or infinity"),
        (gives("g.view(-1)[0] * g / g[0]"), SHAPES, "IndexError: invalid index of a 0-dim tensor."),
        (gives("g * torch.tensor(2.0).exp().item() ** 30"), "entries of 1e4", ""),
        (gives("torch.nan * g"), PLAIN, "gradient '0.weight': holds NaN or infinity"),
        ("def apply(self, gradients, generator): return 3", PLAIN, "expected gradients named ["),
        (
            gives("g + torch.randn(g.shape)"), AGAIN,
            "expected the same gradients again, got others; draw from `generator` alone",
        ),
        (
            "def apply(self, gradients, generator):\n        torch.rand(1)\n        return dict(gradients)",
            AGAIN, "used PyTorch's global random generator; draw only from `generator`",
        ),
        (
            gives("g.clone()") + "\n    def sent_bytes(self, shared): return 'many'", PLAIN,
            "sent_bytes: expected a whole number >= 0, got 'many'",
        ),
        (
            gives("g.clone()") + "\n    @property\n    def strength(self): return 'strong'", SETTINGS,
            "expected a strength that is a number, got 'strong'",
        ),
        (
            "def change_batch(self, images, labels, generator): return images[:, :1], labels", "a batch of 8",
            "images: expected shape (8, 3, 32, 32), got (8, 1, 32, 32)",
        ),
        (
            "def change_batch(self, images, labels, generator): return images.flip(-1), labels\n"
            "    def restore_batch(self, images): return images[:1]", "a batch of 8",
            "restore_batch: expected shape (8, 3, 32, 32), got (1, 3, 32, 32)",
        ),
        (
            "def change_model(self, network): return torch.nn.Sequential(network, torch.nn.Linear(3, 3))",
            "the model lenet, trained and attacked",
            "expected a model that takes images of 3x32x32, got RuntimeError:",
        ),
        ("def apply(self, gradients, generator): raise SystemExit('no')", PLAIN, "SystemExit: no"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_plain_words(here, capsys, member, what, problem):
    define(here, member)
    found = checked(capsys)
    if problem:
        assert found[what].startswith(problem)
    else:
        assert what not in found


def test_a_defense_of_batches_or_of_models_is_tried_on_them(here, capsys):
    define(here, "def change_batch(self, images, labels, generator): return images.flip(-1), labels")
    assert leakbench.main(["check", "mine.py:Mine"]) == 0
    output = capsys.readouterr().out
    assert "  ok     a batch of 1\n  ok     a batch of 8\n" in output
    assert "the model" not in output


def test_every_setting_of_the_grid_is_tried(here, capsys):
    define(here, "limit: float = 1.0", "grid = {'limit': [1.0, 0.0]}", gives("g / self.limit"))
    assert leakbench.main(["check", "mine.py"]) == commands.TRIALS_FAILED
    output = capsys.readouterr().out
    assert output.startswith("mine.py:Mine, with defaults; limit=0.0\n")
    assert (
        f"  wrong  {PLAIN}: gradient '0.weight': holds NaN or infinity  [mine.py:Mine(limit=0.0)]" in output
    )


@pytest.mark.parametrize("defense", ["none", "gaussian", "laplacian", "float16", "bfloat16", "prune", "int8"])
def test_our_own_pass(capsys, defense):
    assert checked(capsys, defense) == {}


@pytest.mark.long
@pytest.mark.parametrize("attack", [each.name for each in ATTACKS if each.name not in HANDED_IN])
def test_our_own_attacks_pass(capsys, attack):
    assert checked(capsys, attack) == {}


@pytest.mark.parametrize(
    ("source", "name", "text"),
    [
        (None, "mine.py", "no file 'mine.py' (looked in {here})"),
        ("import nothing_there", "mine.py", "mine.py: could not be imported: ModuleNotFoundError"),
        ("def broken(:", "mine.py", "mine.py: could not be imported: SyntaxError"),
        ("x = 1", "mine.py", "mine.py: expected a subclass of Defense, Attack, Dataset, Model or Protocol"),
        ("x = 1", "mine.py:Mine", "mine.py:Mine: expected a class 'Mine' defined in mine.py, found none"),
        (
            "class Mine: pass", "mine.py:Mine",
            "mine.py:Mine: expected a complete subclass of leakbench.Defense",
        ),
        (None, "prun", "unknown plug-in 'prun'; did you mean 'prune'?"),
        (
            f"{HEAD}@dataclass(frozen=True)\nclass Mine(Defense):\n    size: int\n    {gives('g')}",
            "mine.py", "mine.py: size: expected a value, got none",
        ),
        *(
            (
                f"{HEAD}@dataclass(frozen=True)\nclass Mine(Defense):\n    {taken}: float = 1.0\n"
                f"    {gives('g')}",
                "mine.py", f"expected another name for setting '{taken}', a member of every defense",
            )
            for taken in ("share", "points", "name", "address")
        ),
        (
            f"{HEAD}@dataclass(frozen=True)\nclass Mine(Defense):\n    grid = 3\n    {gives('g')}",
            "mine.py", "mine.py: grid: expected {{setting: [values]}}, got 3",
        ),
    ],
)  # fmt: skip
def test_what_is_no_defense_is_refused_in_a_line(here, capsys, source, name, text):
    if source is not None:
        (here / "mine.py").write_text(source)
    assert leakbench.main(["check", name]) == commands.USER_ERROR
    error = capsys.readouterr().err
    assert text.format(here=here) in error
    assert error.count("\n") == 1
