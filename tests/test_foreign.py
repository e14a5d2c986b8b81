"""What foreign code raises becomes one line, except for errors that its caller wants to see."""

import pytest

from leakbench.core.configured import SettingError
from leakbench.core.errors import UserError
from leakbench.core.foreign import ForeignError, foreign


class OddError(Exception):
    pass


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (ValueError("expected\n  this"), "ValueError: expected this"),
        (OddError(), "OddError"),
        (SystemExit("no licence"), "SystemExit: no licence"),
        (StopIteration(3), "StopIteration: 3"),
    ],
)
def test_whatever_is_raised_is_a_line(raised, line):
    with pytest.raises(ForeignError) as caught, foreign(UserError):
        raise raised
    assert str(caught.value) == line
    assert caught.value.cause is caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [SettingError([("", "no")]), UserError("no"), SystemExit(1)])
def test_what_the_caller_names_passes(raised):
    with pytest.raises(type(raised)) as caught, foreign(SettingError, UserError, SystemExit):
        raise raised
    assert caught.value is raised


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), GeneratorExit()])
def test_an_interrupt_is_never_foreign(raised):
    with pytest.raises(type(raised)), foreign():
        raise raised
