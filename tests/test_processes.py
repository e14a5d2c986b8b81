"""Workers that live, die, hang and are replaced: real processes, really killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from joblib.externals.loky.backend import fork_exec
from threadpoolctl import threadpool_info, threadpool_limits

from leakbench.bench.trial import Trial
from leakbench.core.errors import StoppedError
from leakbench.core.interrupts import uninterrupted
from leakbench.core.process import prepare_worker
from leakbench.sweeps.executors.base import Inline
from leakbench.sweeps.executors.processes import Joblib
from leakbench.sweeps.executors.suspects import Suspects
from leakbench.sweeps.records import Record

PLAIN = {"dataset": "mnist-5k", "model": "mlp", "model_seed": 0, "attack": "dlg(steps=7)", "start": 0}


def trials(count):
    return [Trial.from_names({**PLAIN, "index": index, "defense": "none"}) for index in range(count)]


def found(trial, device):
    return Record(
        "trials",
        {
            "key": trial.key,
            "index": trial.index,
            "status": "budget",
            "device": device,
            "process": os.getpid(),
            "threads": torch.get_num_threads(),
        },
    )


def tell(trials, device, watcher):
    """Replaces the attack: says where each trial ran."""
    for trial in trials:
        watcher.preparing(trial)
        watcher.preparing(None)
        watcher.moved(trial.index)
        yield found(trial, device)


def rows(executor, work, count, moved=lambda steps: None):
    with closing(executor):
        return rows_of(executor, work, trials(count), moved)


def rows_of(executor, work, trials, moved=lambda steps: None):
    """The rows that come of them, with workers that are left to wait."""
    return [record.row for record in executor.run(work, trials, 4, moved) if record]


def failures(rows):
    return {row["index"]: row["reason"] for row in rows if row["status"] == "error"}


def test_inline_runs_in_this_process_on_one_thread():
    torch.set_num_threads(2)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    steps = []
    (row, other) = rows(Inline("cpu"), tell, 2, steps.append)
    assert (row["process"], row["threads"], row["device"]) == (os.getpid(), 1, "cpu")
    assert steps == [0, 1]
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_blas_of_numpy_and_scipy_has_one_thread():
    """It splits sums of more than 10,000 numbers, and then the last bits depend on the number of cores."""
    with threadpool_limits(2, user_api="blas"):
        prepare_worker()
        found = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert found == {1}


def tell_when_all_are_there(trials, device, watcher, folder, workers):
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < workers:
        time.sleep(0.02)
    yield from tell(trials, device, watcher)


def test_each_worker_has_a_device_and_one_thread_and_all_share_the_work(tmp_path):
    """With devices that are not there: what a worker does with its name is the attack's."""
    devices = ["cuda:0", "cuda:1"]
    steps = []
    work = partial(tell_when_all_are_there, folder=tmp_path, workers=2)
    found = rows(Joblib(devices), work, 600, steps.append)
    assert sorted(row["index"] for row in found) == list(range(600))
    assert sum(steps) == sum(range(600))
    assert len({(row["process"], row["device"]) for row in found}) == 2  # a process keeps its device
    assert {row["threads"] for row in found} == {1}
    assert os.getpid() not in {row["process"] for row in found}
    counts = [sum(row["device"] == device for row in found) for device in devices]
    assert min(counts) > 100  # a queue: nobody waits while there is work


def test_one_job_is_a_process_of_its_own():
    (row,) = rows(Joblib(["cpu"]), tell, 1)
    assert row["process"] != os.getpid()


def misdeed(trials, device, watcher, bad, deed, during, log):
    """A batch of four that ends its worker with a bad trial among them."""
    while batch := list(islice(trials, 4)):
        for trial in batch:
            watcher.preparing(trial)
            if trial.index in bad and during == "preparing":
                commit(deed, trial, log)
            watcher.preparing(None)
        for trial in batch:
            if trial.index in bad and during == "running":
                commit(deed, trial, log)
        for trial in batch:
            yield found(trial, device)


def commit(deed, trial, log):
    with log.open("a") as file:
        print(trial.index, file=file)
    if deed == "exit":
        os._exit(3)
    if deed == "hang":
        time.sleep(1000)
    os.kill(os.getpid(), deed)


DEEDS = {"exit": "exit code 3", signal.SIGKILL: "SIGKILL, as when memory runs out", signal.SIGSEGV: "SIGSEGV"}


@pytest.mark.parametrize(
    ("deed", "during", "bad"),
    [
        ("exit", "preparing", {2}),
        *(pytest.param(*each, {2, 9}, marks=pytest.mark.long) for each in (
            ("exit", "preparing"), ("exit", "running"),
            (signal.SIGKILL, "preparing"), (signal.SIGKILL, "running"),
            (signal.SIGSEGV, "preparing"), (signal.SIGSEGV, "running"),
        )),
    ],
)  # fmt: skip
def test_the_trial_that_kills_its_worker_twice_is_an_error_and_the_others_are_not(
    tmp_path, deed, during, bad
):
    steps, log = [], tmp_path / "log"
    work = partial(misdeed, bad=bad, deed=deed, during=during, log=log)
    found = rows(Joblib(["cpu", "cpu"]), work, 12, steps.append)
    assert sorted(row["index"] for row in found) == list(range(12))
    reason = f"worker died ({DEEDS[deed]}) twice while {during} this trial"
    assert failures(found) == dict.fromkeys(bad, reason)
    assert sum(steps) == len(bad) * 7  # what a failed trial did not need counts as done
    if during == "preparing":
        assert sorted(log.read_text().split()) == sorted(2 * [str(each) for each in bad])


@pytest.mark.parametrize("during", ["running", pytest.param("preparing", marks=pytest.mark.long)])
def test_a_trial_that_hangs_is_ended(tmp_path, during):
    work = partial(misdeed, bad={2}, deed="hang", during=during, log=tmp_path / "log")
    found = rows(Joblib(["cpu"], timeout=2), work, 6)
    assert sorted(row["index"] for row in found) == list(range(6))
    late = failures(found)
    assert set(late.values()) == {"no result after 2 s (timeout)"}
    # one that is prepared is known; of a batch, all were as late as the one that hangs
    assert set(late) == ({2} if during == "preparing" else {0, 1, 2, 3})


def test_a_worker_that_is_killed_from_outside_costs_nothing():
    """Whatever it was doing: its trials run again, in another process."""
    killed, found = [], []
    with closing(Joblib(["cpu", "cpu"])) as executor:
        for record in filter(None, executor.run(slow, trials(40), 4, lambda steps: None)):
            found.append(record.row)
            if len(found) == 5:
                os.kill(record.row["process"], signal.SIGKILL)
                killed.append(record.row["process"])
    assert sorted(row["index"] for row in found) == list(range(40))
    assert not failures(found)
    assert len({row["process"] for row in found}) > len(killed)


def leave_a_child(trials, device, watcher):
    for trial in trials:
        watcher.preparing(trial)
        if trial.index == 1:
            if not os.fork():
                time.sleep(30)  # and keeps every pipe open
                os._exit(0)
            os._exit(3)
        watcher.preparing(None)
        yield found(trial, device)


@pytest.mark.long
def test_a_dead_worker_is_noticed_though_a_child_of_its_own_lives():
    assert failures(rows(Joblib(["cpu"]), leave_a_child, 3)) == {
        1: "worker died (exit code 3) twice while preparing this trial"
    }


def slow(trials, device, watcher):
    for record in tell(trials, device, watcher):
        time.sleep(0.02)
        yield record


def end_at_once(trials, device, watcher):
    os._exit(5)


def break_off(trials, device, watcher):
    raise RuntimeError("no such card")


def test_workers_that_cannot_start_end_the_sweep_with_a_sentence(monkeypatch):
    monkeypatch.setattr("leakbench.sweeps.executors.processes.MOST_STILLBORN", 2)
    with pytest.raises(StoppedError, match=r"workers end before they begin a job \(exit code 5\)"):
        rows(Joblib(["cpu"]), end_at_once, 6)
    with pytest.raises(StoppedError, match="a worker failed: RuntimeError: no such card"):
        rows(Joblib(["cpu"]), break_off, 6)


def forget_one(trials, device, watcher):
    for record in tell(trials, device, watcher):
        if record.row["index"] != 1:
            yield record


def test_a_trial_without_a_result_is_an_error():
    found = rows(Joblib(["cpu"]), forget_one, 3)
    assert failures(found) == {1: "its worker gave no result for it"}


def test_a_system_that_starts_no_more_processes_is_a_sentence(monkeypatch):
    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("leakbench.sweeps.executors.processes._Pool._start", refuse)
    text = "a worker cannot be started: Too many open files; --jobs 2 needs less"
    with pytest.raises(StoppedError, match=text):
        rows(Joblib(["cpu"] * 4), tell, 6)


def test_a_file_that_is_gone_is_a_sentence():
    def listed():
        yield from trials(2)
        raise FileNotFoundError(2, "No such file or directory", "weights.pt")

    with pytest.raises(StoppedError, match=r"weights.pt: No such file or directory: a file that the"):
        run_of(listed())


def test_an_interrupt_waits_until_rows_are_written():
    written = []

    def write():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            written.append("rows")

    with pytest.raises(KeyboardInterrupt):
        write()
    assert written
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_worker_starts_ends_that_worker(monkeypatch, capfd, number):
    """Neither a process nor a traceback of it is left, and it is not the signal's own to die of."""
    started = []

    def interrupted(*arguments, **options):
        started.append(fork_exec.fork_exec(*arguments, **options))
        os.kill(started[0], signal.SIGINT)  # a terminal sends it to all
        signal.raise_signal(number)
        return started[0]

    stand_in = SimpleNamespace(fork_exec=interrupted)
    monkeypatch.setitem(sys.modules, fork_exec.__name__, stand_in)
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as the command line has it
    try:
        with pytest.raises(KeyboardInterrupt):
            rows(Joblib(["cpu"]), tell, 1)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert gone(started)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_changed_while_the_sweep_runs_is_an_error(tmp_path):
    path = tmp_path / "mine.py"
    text = (
        "from dataclasses import dataclass\nfrom leakbench import Defense\n"
        "@dataclass(frozen=True)\nclass Mine(Defense):\n    def apply(self, gradients, generator): {}\n"
    )
    path.write_text(text.format("return gradients"))
    own = Trial.from_names({**PLAIN, "index": 1, "defense": f"{path}:Mine"})
    path.write_text(text.format("return dict(gradients)"))
    found = run_of([*trials(1), own])
    assert failures(found) == {1: "a file that it names was changed while the sweep ran"}
    assert {row["key"] for row in found} == {own.key, trials(1)[0].key}
    path.write_text("nonsense(")
    (row,) = run_of([own])
    assert "mine.py: could not be imported: SyntaxError" in row["reason"]


def run_of(trials):
    """At a worker."""
    with closing(Joblib(["cpu"])) as executor:
        return rows_of(executor, tell, trials)


def gone(pids, patience=30):
    deadline = time.monotonic() + patience
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_workers_wait_for_the_next_run_and_end_with_the_executor():
    with closing(Joblib(["cpu"])) as executor:
        told = [*rows_of(executor, tell, trials(2)), *rows_of(executor, slow, trials(3))]
        assert [row["index"] for row in told] == [0, 1, 0, 1, 2]
        (worker,) = {row["process"] for row in told}
        os.kill(worker, signal.SIGKILL)  # which nobody notices before the next run
        again = rows_of(executor, tell, trials(2))
        assert len(again) == 2
        assert not failures(again)
    assert gone({row["process"] for row in again})


def test_work_may_be_of_a_main_module(write, tmp_path):
    """As in a notebook: workers do not import it."""
    root, tests = str(Path(__file__).parent.parent), str(Path(__file__).parent)
    script = write("script.py", SCRIPT.format(root=root, tests=tests))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0", "1"], done.stderr


SCRIPT = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_processes import *

def own(trials, device, watcher):
    yield from tell(trials, device, watcher)

if __name__ == "__main__":
    for row in rows(Joblib(["cpu"]), own, 2):
        print(row["index"])
"""


def test_a_sweep_that_is_left_early_leaves_no_worker_behind():
    results = Joblib(["cpu", "cpu"]).run(tell, trials(1000), 4, print)
    workers = {next(filter(None, results)).row["process"] for _ in range(10)}
    results.close()
    assert gone(workers)


RUNNER = """
import sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_processes import *
for record in Joblib(["cpu"]).run(hang, trials(2), 4, print):
    pass
"""


def hang(trials, device, watcher):
    next(trials)
    print(os.getpid(), flush=True)
    time.sleep(1000)
    yield


def test_workers_do_not_outlive_a_runner_that_is_killed():
    """Even where they hang."""
    here = Path(__file__).parent
    code = RUNNER.format(root=str(here.parent), tests=str(here))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as runner:
        worker = int(runner.stdout.readline())
        assert not gone([worker], patience=1)
        runner.kill()
        assert gone([worker])


def test_suspects_are_divided_until_one_is_left():
    first, second, third = trials(3)
    seen = Suspects()
    assert seen.after_death([], "running") == ([], None)
    assert seen.after_death([first, second, third], "running") == ([[first, second], [third]], None)
    assert seen.after_death([third], "running") == ([[third]], None)
    assert seen.after_death([third], "preparing") == ([[third]], None)  # not at the same: bad luck
    assert seen.after_death([first, second], "running") == ([[first], [second]], None)
    assert seen.after_death([third], "running") == ([], third)
