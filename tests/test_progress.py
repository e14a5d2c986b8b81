"""What is shown of a running sweep, and what is predicted before it runs."""

import io
import re

import pytest
from rich.console import Console
from running import inside

from leakbench.bench.attacks import Resources
from leakbench.bench.attacks.linear import Linear
from leakbench.bench.execution import Conditions, run_trials
from leakbench.core.errors import UserError
from leakbench.core.words import in_seconds, in_words
from leakbench.sweeps import forecast as forecasts
from leakbench.sweeps import progress
from leakbench.sweeps.executors.memory import free_for_each
from leakbench.sweeps.forecast import forecast, workers_of
from leakbench.sweeps.plan import plan
from leakbench.sweeps.progress import Bar, Lines, show_progress
from leakbench.sweeps.records import to_record
from leakbench.sweeps.resources import choose
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
models: ['mlp(hidden=[16])']
defenses: [none, float16]
attacks: [dlg(steps=20)]
snapshot_every: 5
"""


@pytest.fixture
def todo(write):
    return plan(read_sweep(write("mine.yaml", SWEEP))[0], {})


def row(defense, status="budget", ssim=0.5, attack="dlg(steps=20)"):
    return {"attack": attack, "defense": defense, "status": status, "ssim": ssim}


def run_through(shown):
    with shown:
        shown.moved(30)
        shown.ended(row("none", "converged", 1.0))
        shown.ended(row("float16", "error", None))
        shown.moved(30)
        shown.ended(row("none", ssim=0.5))
        shown.ended(row("float16", "error", None))
        shown.moved(20)


def test_a_log_gets_a_line_now_and_then_and_one_for_each_finished_defense(todo, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    monkeypatch.setattr(progress, "SHARE_BETWEEN_LINES", 0)
    out = io.StringIO()
    shown = show_progress(Console(file=out, width=200), todo)
    assert isinstance(shown, Lines)
    run_through(shown)
    lines = out.getvalue().splitlines()
    assert "none: 1 converged, 1 budget; median SSIM of all starts 0.750" in lines
    assert "float16: 2 error" in lines
    assert re.match(r"38%, [\d.]+ s elapsed, [\d.]+ s left, 0/4 trials, 0/min$", lines[0])
    assert re.match(r"100%, .* 4/4 trials, \S+/min: 2 error, 1 converged, 1 budget$", lines[-1])
    assert "\x1b" not in out.getvalue()


def test_of_several_attacks_each_has_its_line(write):
    todo = plan(read_sweep(write("mine.yaml", SWEEP.replace("steps=20", "steps=20), idlg(steps=5")))[0], {})
    out = io.StringIO()
    shown = Lines(Console(file=out, width=200), todo)
    shown.ended(row("none", ssim=1.0))
    shown.ended(row("none", ssim=0.1, attack="idlg(steps=5)"))
    shown.ended(row("none", ssim=0.3, attack="idlg(steps=5)"))
    assert out.getvalue() == "idlg(steps=5), none: 2 budget; median SSIM of all starts 0.200\n"


def test_attacks_in_closed_form_predict_nothing(write, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    todo = plan(
        read_sweep(write("mine.yaml", SWEEP.replace("steps=20", "steps=200), recursive(steps=9")))[0], {}
    )
    out = io.StringIO()
    with Lines(Console(file=out, width=200), todo) as shown:
        clock[0] = 60
        shown.moved(4)  # all of those: one step each
        assert shown.left() == ""
        shown.moved(shown.all_steps // 2)
        assert re.fullmatch(r"5\d s left", shown.left())
    first, last = out.getvalue().splitlines()[0], out.getvalue().splitlines()[-1]
    assert re.match(r"0%, 1 min 0 s elapsed, 0/8 trials", first)
    assert re.match(r"50%, 1 min 0 s elapsed, 5\d s left, 0/8 trials", last)


def test_a_log_of_days_stays_readable(todo, monkeypatch):
    out, clock = io.StringIO(), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    shown = Lines(Console(file=out, width=200), todo)
    for clock[0] in range(0, 86400, 5):
        shown.moved(0)
    lines = out.getvalue().splitlines()
    assert 50 < len(lines) < 400
    assert "15 s elapsed" in lines[0]


def test_a_terminal_gets_a_bar(todo):
    out = io.StringIO()
    shown = show_progress(Console(file=out, force_terminal=True, width=100), todo)
    assert isinstance(shown, Bar)
    run_through(shown)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "100 %" in text
    assert "elapsed," in text
    assert re.search(r"4/4 trials, \S+/min: 2 error, 1 converged, 1 budget", text)
    assert "none: 1 converged, 1 budget; median SSIM of all starts 0.750" in text


def test_a_forecast_is_not_exceeded_on_disk(todo, tmp_path):
    """Time is not compared: machines are noisy. Every trial takes all its steps here, or less."""
    resources, memory = choose(todo, ["cpu"], free_for_each(["cpu"]), None, tmp_path)
    said = forecast(todo, resources, memory, 2, tmp_path)
    assert said.memory == 2 * memory.needed
    assert said.seconds > 0
    store = Store.open_for(tmp_path / "run", todo.sweep)
    results = run_trials(list(todo), Conditions(Resources(slots=8), snapshot_every=5))
    store.append([to_record(result) for result in results])
    parts = list(store.folder.glob("t*.parquet/*"))
    overhead = 12_000  # of two files, whatever is in them
    assert sum(path.stat().st_size for path in parts) < said.disk + overhead
    assert said.disk < 4 * 20_000
    more = forecast(todo, resources, memory, 200, tmp_path)
    assert more.seconds < said.seconds


def test_a_forecast_attacks_once_what_takes_one_trial_after_the_other(write, monkeypatch, tmp_path):
    """A closed form takes as long for its trials as they do: 64 of them would be the sweep itself."""
    text = SWEEP.replace("dlg(steps=20)", "linear")
    todo = plan(read_sweep(write("closed.yaml", text))[0], {})
    resources, memory = choose(todo, ["cpu"], None, 64, tmp_path)
    attacked, invert = [], Linear.invert
    monkeypatch.setattr(Linear, "invert", lambda self, case: attacked.append(case) or invert(self, case))
    forecast(todo, resources, memory, 1, tmp_path)
    assert len(todo) > len(attacked) == len(todo.kinds)


def test_a_forecast_measures_once_what_takes_as_long(write, monkeypatch, tmp_path):
    """Three learning rates, and two numbers of steps."""
    protocols = "protocols: [{name: fedavg, local_steps: [1, 2], lr: [0.001, 0.01, 0.1]}]\n"
    todo = plan(read_sweep(write("rates.yaml", protocols + SWEEP))[0], {})
    resources, memory = choose(todo, ["cpu"], None, 8, tmp_path)
    measured, run = [], forecasts.run_trials
    monkeypatch.setattr(
        forecasts, "run_trials", lambda trials, *about: measured.append(trials[0]) or run(trials, *about)
    )
    said = forecast(todo, resources, memory, 1, tmp_path)
    assert len(todo.kinds) == 6
    assert [each.protocol.steps for each in measured] == [1, 2]
    assert said.seconds > 0


def test_a_dry_run_downloads_nothing(write, tmp_path, monkeypatch, capsys):
    from leakbench.bench.datasets.torchvision_import import torchvision_datasets

    asked = []
    monkeypatch.setattr(torchvision_datasets().CIFAR10, "download", lambda _: asked.append(1))
    write("mine.yaml", "datasets: [{name: cifar10, download: true}]\ndefenses: [none]\nattacks: [dlg]\n")
    assert inside(tmp_path, "sweep", "mine.yaml", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "note: time, memory and disk are not predicted: cifar10" in output
    assert output.endswith("\n1 trial would run; nothing was written\n")
    assert asked == []


def test_machines_that_a_forecast_can_be_made_for():
    assert workers_of("cores=64", "cpu") == 64
    assert workers_of("gpus=8", "cuda:0") == 8
    with pytest.raises(UserError, match="--plan gpus=8: the probe runs on cpu, and says nothing about gpus"):
        workers_of("gpus=8", "cpu")
    with pytest.raises(UserError, match="the probe runs on cuda:0, and says nothing about cores; use"):
        workers_of("cores=8", "cuda:0")
    for text in ("gpus", "gpus=0", "gpus=x", "tpus=8", "gpus=-1"):
        with pytest.raises(UserError, match=f"--plan: expected gpus=N or cores=N, got '{text}'"):
            workers_of(text, "cpu")


def test_a_forecast_for_more_cores_is_printed(write, tmp_path, capsys):
    write("mine.yaml", SWEEP)
    assert inside(tmp_path, "sweep", "mine.yaml", "--dry-run", "--plan", "cores=64") == 0
    assert "64 workers, every trial with all its steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.41, "0.4 s"),
        (3e-5, "0 s"),
        (59.4, "59 s"),
        (200, "3 min 20 s"),
        (6720, "1 h 52 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations_as_people_say_them(seconds, text):
    assert in_words(seconds) == text


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        (90, 90), ("90", 90), ("90s", 90), ("0.5 s", 0.5), ("10 min", 600), ("10 Minutes", 600),
        ("1h30m", 5400), ("1 h 30 min", 5400), ("1 hour 2 seconds", 3602), ("1.5 days", 129_600),
        (9_999_999, 9_999_999), (0, 0),
    ],
)  # fmt: skip
def test_a_duration_with_its_units_is_in_seconds(duration, seconds):
    assert in_seconds(duration) == seconds


@pytest.mark.parametrize(
    "duration",
    ["", "min", "10 parsecs", "1h30", "-5 s", "1,5 h", "1e3 s", "5 ss","116 d", 1e9, -1, float("nan"),
     True, None, [90]],
)  # fmt: skip
def test_what_is_no_duration_is_refused_with_what_is_one(duration):
    expected = "^expected a duration such as 90 s, 10 min or 1h30m, in 0..9999999 s$"
    with pytest.raises(ValueError, match=expected):
        in_seconds(duration)
