"""Objects print as their constructor and are built from that text."""

from dataclasses import dataclass, is_dataclass
from typing import Annotated, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakbench.bench.attacks import ATTACKS
from leakbench.bench.datasets import DATASETS
from leakbench.bench.models import MODELS
from leakbench.bench.protocols import PROTOCOLS
from leakbench.core.configured import Configured, SettingError, setting_types
from leakbench.core.ranges import Count, Positive, Range, Share
from leakbench.core.registry import Registry
from leakbench.defenses import DEFENSES


@dataclass(frozen=True)
class Thing(Configured):
    """Has a setting of every type."""

    name: ClassVar[str] = "thing"

    number: float = 1.0
    count: int = 2
    text: str = "plain"
    flag: bool = False
    mode: Literal["fast", "slow"] = "fast"
    maybe: float | None = None
    share: Share = 0.5
    rate: Positive | None = None
    small: Annotated[int, Range(most=3)] = 0
    noted: Annotated[float, "of anything"] = 0.0
    many: tuple[int, ...] = ()
    counts: tuple[Count, ...] = ()
    words: tuple[str, ...] = ()


THINGS = Registry("thing", Thing, [Thing])


@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    count=st.integers(),
    text=st.text(),
    flag=st.booleans(),
    mode=st.sampled_from(["fast", "slow"]),
    maybe=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    many=st.lists(st.integers()).map(tuple),
    words=st.lists(st.text()).map(tuple),
)
def test_every_object_is_made_again_from_its_text(**settings):
    thing = Thing(**settings)
    assert THINGS.parse(str(thing)) == thing


@pytest.mark.parametrize(
    ("registry", "text"),
    [
        (DEFENSES, "none"),
        (DEFENSES, "gaussian(variance=0.001)"),
        (DEFENSES, "gaussian(std=0.1)"),
        (DEFENSES, "prune(ratio=0.3, scope=global)"),
        (MODELS, "mlp(hidden=[500, 300], activation=tanh)"),
        (ATTACKS, "dlg(steps=60)"),
        (DATASETS, "cifar100(split=test)"),
    ],
)
def test_names_in_tables_are_what_sweep_files_say(registry, text):
    assert str(registry.parse(text)) == text


def test_a_list_of_texts_is_read_back():
    thing = Thing(words=("a,b", "c]", '"', ""))
    assert THINGS.parse(str(thing)) == thing


def test_only_settings_that_differ_from_the_default_are_printed():
    assert str(DEFENSES.parse("prune(scope=tensor, ratio=0.5)")) == "prune(ratio=0.5)"


def test_a_whole_number_is_the_same_setting_as_its_float():
    assert DEFENSES.build("gaussian", {"variance": 1}) == DEFENSES.build("gaussian", {"variance": 1.0})


def test_short_form_of_a_folder(tmp_path):
    assert DATASETS.parse(f"folder:{tmp_path}").path == str(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("thingy", "unknown thing 'thingy'; did you mean 'thing'? known: thing"),
        ("thing(cuont=3)", "cuont: unknown setting 'cuont'; did you mean 'count'? known: number, count"),
        ("thing(count=1.5)", "count: expected a whole number, got 1.5"),
        ("thing(count=true)", "count: expected a whole number, got True"),
        ("thing(number=x)", "number: expected a number, got 'x'"),
        ("thing(number=inf)", "number: expected a finite number, got inf"),
        ("thing(flag=1)", "flag: expected true or false, got 1"),
        ("thing(mode=medium)", "mode: expected one of fast, slow, got 'medium'"),
        ("thing(share=1)", "share: expected a number in [0, 1), got 1"),
        ("thing(share=-0.1)", "share: expected a number in [0, 1), got -0.1"),
        ("thing(share=half)", "share: expected a number, got 'half'"),
        ("thing(rate=0)", "rate: expected a number > 0, got 0"),
        ("thing(small=4)", "small: expected a whole number <= 3, got 4"),
        ("thing(noted=x)", "noted: expected a number, got 'x'"),
        ("thing(many=3)", "many: expected a list of whole numbers, got 3"),
        ("thing(counts=3)", "counts: expected a list of whole numbers >= 1, got 3"),
        ("thing(counts=[2, 0])", "counts: expected a whole number >= 1, got [2, 0]"),
        ("thing(count=1, count=2)", "setting 'count' is given twice; remove one"),
        ("thing(3)", "expected setting=value pairs, got '3'"),
        ("thing)", "expected name(setting=value, ...), got 'thing)'"),
        ("mine.py:Thing", "no file 'mine.py'"),
        (300 * "a" + ".py:Thing", "no file 'aaa"),
        ("mine.py", "to use your own file, write file.py:ClassName"),
    ],
)
def test_bad_text_is_answered_with_what_was_expected(text, problem):
    with pytest.raises(SettingError) as caught:
        THINGS.parse(text)
    assert problem in str(caught.value)


def test_all_problems_of_an_object_are_reported_at_once():
    with pytest.raises(SettingError) as caught:
        Thing(count="a", flag="b")
    assert [setting for setting, _ in caught.value.problems] == ["count", "flag"]


@pytest.mark.parametrize("registry", [DEFENSES, ATTACKS, MODELS, DATASETS, PROTOCOLS])
def test_another_default_does_not_lose_the_range(registry):
    for member in map(registry.find, registry.known()):
        kinds = setting_types(member)
        for base in filter(is_dataclass, member.__mro__):
            assert {name: kinds[name] for name in setting_types(base)} == setting_types(base), member


def test_a_required_setting_that_is_missing():
    with pytest.raises(SettingError, match="ratio: expected a value, got none"):
        DEFENSES.parse("prune")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import nothing_of_that_name", "could not be imported: ModuleNotFoundError"),
        ("def broken(:", "could not be imported: SyntaxError"),
        ("raise SystemExit(3)", "could not be imported: SystemExit"),
        ("x = 1", "expected a class 'Mine'"),
        ("from leakbench.defenses.noise import Gaussian as Mine", "expected a class 'Mine' defined in"),
        (
            "from leakbench import Defense\nclass Mine(Defense): pass",
            "expected one of change_model, change_batch, apply_each, apply_knowing, apply to be overridden,"
            " found none",
        ),
        (
            "import torch\nfrom defenses import Account, Defense",
            "mine.py: expected `from leakbench import Account, Defense` in line 2, "
            "found `from defenses import Account, Defense`",
        ),
        (
            "from bench.metrics import ssim",
            "mine.py: expected `from leakbench.bench.metrics import ssim` in line 1, "
            "found `from bench.metrics import ssim`",
        ),
        ("class Mine: pass", "expected a complete subclass of leakbench.Defense, got a object"),
    ],
)
def test_a_users_file_that_cannot_be_used(write, source, problem):
    path = write("mine.py", source)
    with pytest.raises(SettingError) as caught:
        DEFENSES.parse(f"{path}:Mine")
    assert problem in str(caught.value)


def test_a_users_own_package_may_be_named_as_a_part_of_ours(write, monkeypatch, tmp_path):
    write("defenses/__init__.py", "from leakbench import Defense\nclass Own(Defense): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(
        "mine.py", "from defenses import Own\nclass Mine(Own):\n    def apply(self, g, _): return dict(g)\n"
    )
    assert DEFENSES.parse(f"{path}:Mine").own_name == "Mine"


def test_another_spelling_of_a_file_renames_nothing(write, tmp_path, monkeypatch):
    """One class may go by several names at once, and keeps the one that it has in its own file."""
    monkeypatch.chdir(tmp_path)
    write(
        "mine.py",
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Mine(Defense):\n    factor: float = 0.5\n"
        "    def apply(self, gradients, generator): return dict(gradients)\n",
    )
    first = DEFENSES.parse("mine.py:Mine(factor=0.25)")
    second = DEFENSES.parse("./mine.py:Mine(factor=0.25)")
    assert (str(first), str(second)) == ("mine.py:Mine(factor=0.25)", "./mine.py:Mine(factor=0.25)")
    assert first.canonical()["name"] == "mine.py:Mine"
    assert first == DEFENSES.parse("mine.py:Mine(factor=0.25)")
    assert type(first).__mro__[1].name == ""
