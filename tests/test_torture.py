"""Kills at random moments; `make torture` does as many as asked."""

import os

import pytest
from torture import main


@pytest.mark.long
def test_a_sweep_that_is_killed_again_and_again_has_the_rows_of_one_that_is_not(capfd):
    assert main(["--kills", "8", "--seed", str(int.from_bytes(os.urandom(3), "big"))]) == 0
    *_, last = capfd.readouterr().out.splitlines()
    assert last.startswith("8 kills survived (")
    assert last.endswith("rows compared: equal key for key and bit for bit")
