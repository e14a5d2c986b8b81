"""Rows on disk: whole, in order, and equal when read back."""

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from leakbench.bench.modalities import TEXTS
from leakbench.bench.row import SCORES, Result, Row
from leakbench.bench.trace import Trace
from leakbench.core.errors import StoppedError, UserError
from leakbench.reports.csv_file import read_csv, write_csv
from leakbench.reports.status import status
from leakbench.sweeps import manifest as manifests
from leakbench.sweeps import store as module
from leakbench.sweeps.manifest import what_changed
from leakbench.sweeps.parts import Parts
from leakbench.sweeps.records import to_record
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TABLES, TRIALS

TORCH = metadata.version("torch")  # of a CUDA build, torch.__version__ has +cu130 at its end
COMMIT = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]


@pytest.fixture
def sweep(write):
    text = "datasets: [cifar10-sample]\ndefenses: [none, int8]\nattacks: [dlg(steps=2)]\n"
    return read_sweep(write("mine.yaml", text))[0]


@pytest.fixture
def store(sweep, tmp_path):
    return Store.open_for(tmp_path / "run", sweep)


def result(key="a", **changes):
    return to_record(plain_result(key, **changes))


def plain_result(key="a", **changes):
    row = Row(
        key=key, dataset="cifar10-sample", index=0, model="lenet", model_seed=0, protocol="fedsgd",
        attack="dlg", defense="gaussian(variance=0.1)", family="gaussian", strength=0.1, start=0,
        dataset_name="cifar10-sample", model_name="lenet", protocol_name="fedsgd", attack_name="dlg",
        defense_name="gaussian", dataset_settings="{}", model_settings="{}", protocol_settings="{}",
        attack_settings="{}", defense_settings='{"variance": 0.1}',
        status="budget", reason="stopped at the limit of 2 steps", iterations=2, match_loss=1 / 3,
        objective=0.25,
        finite=True, gradient_norm=2.5, shared_norm=2.25, signal_to_noise=0.5, sent_bytes=9,
        defense_seconds=0.5, mse=0.1 + 0.2, mse_raw=1e300, psnr=math.inf, ssim=-0.0, ssim_least=-0.0,
        modality="images", score=0.0, input_score=0.75, **dict.fromkeys(TEXTS.columns),
        neg_log_posterior=7.5, label_true=3, label_recovered=4, label_correct=False, label_recall=0.0,
        classes=10, threat="nothing", seconds=0.25, device="cpu",
        hardware="AVX2", torch_version="2",
    )  # fmt: skip
    picture = torch.linspace(-1, 2, 3 * 4 * 4).reshape(1, 3, 4, 4)
    trace = Trace(
        torch.full((1, 3, 4, 4), 0.5), [0.1, 0.2, 0.3], {0: picture, 2: -picture}, [9, 3, 1], picture
    )
    return Result(dataclasses.replace(row, **changes), trace)


def failed(key="b"):
    nothing = dict.fromkeys(
        ["iterations", "match_loss", "objective", "classes", "hardware", "finite", "gradient_norm",
         "shared_norm", "signal_to_noise", "neg_log_posterior", "modality", "input_score", *SCORES,
         "label_true", "label_recovered", "label_correct", "label_recall", "strength"]
    )  # fmt: skip
    reason = 'RuntimeError: "no", NA\tway'
    row = dataclasses.replace(plain_result(key).row, status="error", reason=reason, defense="none", **nothing)
    return to_record(Result(row, None))


def test_rows_come_back_as_they_were(store):
    store.append([result("a"), failed("b")])
    rows = store.rows().set_index("key")
    measured = {name: value for name, value in result("a").row.items() if value is not None and name != "key"}
    assert rows.loc["a"].dropna().to_dict() == measured
    assert rows.loc["b", "status"] == "error"
    assert rows.loc["b", ["match_loss", "ssim", "label_true", "label_correct"]].isna().all()
    assert {name: str(kind) for name, kind in store.rows().dtypes.items()} == TRIALS.dtypes


def test_csv_reads_back_equal(store, tmp_path):
    store.append([result("a", mse=float(np.nextafter(0.1, 1)), match_loss=5e-324), failed("b")])
    store.append([result("c", psnr=1e-9, ssim=-1 / 3, strength=None)])
    rows = store.rows()
    path = write_csv(rows, tmp_path / "trials.csv")
    pd.testing.assert_frame_equal(read_csv(path), rows, check_exact=True)


def test_plain_pandas_reads_the_same_table(store, tmp_path):
    store.append([result("a"), failed("b")])
    path = write_csv(store.rows(), tmp_path / "trials.csv")
    by_csv = pd.read_csv(path)
    by_parquet = pd.read_parquet(store.folder / "trials.parquet")
    assert list(by_csv["defense"]) == ["gaussian(variance=0.1)", "none"]
    assert by_csv["match_loss"].isna().sum() == by_parquet["match_loss"].isna().sum() == 1
    assert len(by_parquet) == 2


def test_the_order_of_rows_does_not_depend_on_the_order_of_arrival(sweep, tmp_path):
    results = [result(f"{i}{start}", index=i, start=start) for i in range(3) for start in range(2)]
    first, second = Store.open_for(tmp_path / "1", sweep), Store.open_for(tmp_path / "2", sweep)
    first.append(results)
    for each in reversed(results):
        second.append([each])
    pd.testing.assert_frame_equal(first.rows(), second.rows())


def test_traces_and_originals_are_there_on_request(store):
    store.append([result("a"), failed("b")])
    store.append([result("c")])
    traces = store.traces(["a", "b"])
    assert list(traces) == ["a"]
    trace = traces["a"]
    np.testing.assert_array_equal(trace.objective, [9, 3, 1])
    np.testing.assert_allclose(trace.errors, [0.1, 0.2, 0.3], rtol=1e-6)
    picture = plain_result().trace.reconstruction.clamp(0, 1).numpy()
    np.testing.assert_allclose(trace.reconstruction, picture, atol=2**-11)
    assert list(trace.snapshots) == [0, 2]
    np.testing.assert_allclose(trace.snapshots[0], picture, atol=2**-11)
    np.testing.assert_array_equal(
        store.originals([("cifar10-sample", 0)])["cifar10-sample", 0], np.full((3, 4, 4), 0.5)
    )
    assert len(list((store.folder / "originals.parquet").iterdir())) == 1


def test_a_picture_that_is_not_finite_is_stored_all_the_same(store):
    broken = plain_result("a")
    broken.trace.reconstruction = torch.full((1, 3, 4, 4), math.nan)
    store.append([to_record(broken)])
    assert np.isfinite(store.traces(["a"])["a"].reconstruction).all()


def test_an_empty_run_has_an_empty_table(store):
    assert store.statuses() == {}
    assert len(store.rows()) == 0
    assert list(store.rows().columns) == list(TRIALS.dtypes)
    assert store.traces(["a"]) == {}


def test_the_manifest_says_what_was_requested_and_with_what_it_ran(store, sweep):
    store.begin(TRIALS, sweep, ["cpu", "cpu"], ["AVX2", "AVX2"], 0, [])
    store.begin(TRIALS, sweep, ["cuda:0"], ["NVIDIA H100"], 1, [])
    manifest = json.loads((store.folder / "sweep.json").read_text())
    assert manifest["text"] == sweep.file.read_text()
    assert manifest["sha256"] == hashlib.sha256(sweep.file.read_bytes()).hexdigest()
    assert manifest["trials"] == 2
    assert manifest["defenses"] == ["none", "int8"]
    first, second = manifest["sessions"]["trials"]
    assert first["versions"]["torch"] == TORCH
    assert (first["devices"], first["kept"]) == (["cpu", "cpu"], 0)
    assert (second["devices"], second["kept"]) == (["cuda:0"], 1)
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert first["commit"] == (commit.stdout.strip() or None)


def test_an_installed_program_does_not_name_the_commit_of_the_users_repository(monkeypatch, tmp_path):
    package = tmp_path / ".venv" / "leakbench" / "sweeps"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run([*COMMIT, "-C", tmp_path, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(manifests, "__file__", str(package / "manifest.py"))
    assert manifests._commit() is None


def test_other_versions_and_machines_than_at_the_beginning_are_noticed(store, sweep):
    assert what_changed(store.manifest(), TRIALS, {"AVX2"}) == []
    store.begin(TRIALS, sweep, ["cpu"], ["AVX2"], 0, [])
    assert what_changed(store.manifest(), TRIALS, {"AVX2"}) == []
    assert what_changed(store.manifest(), TRIALS, {"AVX512"}) == ["hardware AVX512 (begun with AVX2)"]
    manifest = store.manifest()
    manifest["sessions"]["trials"][0]["versions"] |= {"torch": "1.0", "gone": "3"}
    assert what_changed(manifest, TRIALS, {"AVX2"}) == [f"torch {TORCH} (begun with 1.0)"]


def test_a_session_that_computed_nothing_says_nothing_of_the_hardware(store, sweep):
    store.begin(TRIALS, sweep, [], [], 0, [])
    store.begin(TRIALS, sweep, ["cpu", "cpu"], ["AVX2", "AVX2"], 0, [])
    assert what_changed(store.manifest(), TRIALS, {"AVX512"}) == ["hardware AVX512 (begun with AVX2)"]


def test_status_tells_the_pace_of_the_latest_session_that_ran_something(store, sweep):
    store.begin(TRIALS, sweep, ["cpu"], ["AVX2"], 0, [])
    store.append([result("a")])
    store.begin(TRIALS, sweep, [], [], 1, [])
    (line,) = [each for each in status(store) if str(each).startswith("session")]
    assert re.match(r"session 1, begun .* on cpu: 1 trials in ", line)


def test_the_same_sweep_goes_on_in_its_folder(store, sweep, tmp_path):
    store.append([result("a")])
    assert Store.open_for(tmp_path / "run", sweep).statuses() == {"a": "budget"}


def test_another_sweep_does_not_get_the_folder(store, write, tmp_path):
    other, _ = read_sweep(write("other.yaml", "datasets: [cifar10-sample]\ndefenses: [none]\n"))
    with pytest.raises(UserError, match=r"run: holds the run of another sweep, .*mine.yaml; choose another"):
        Store.open_for(tmp_path / "run", other)
    same, _ = read_sweep(write("renamed.yaml", sweep_text(store)))
    Store.open_for(tmp_path / "run", same)


def sweep_text(store):
    return store.manifest()["text"]


def test_a_sweep_file_that_was_changed_keeps_its_folder(store, write, tmp_path):
    changed, _ = read_sweep(write("mine.yaml", "datasets: [cifar10-sample]\ndefenses: [none, float16]\n"))
    again = Store.open_for(tmp_path / "run", changed)
    again.begin(TRIALS, changed, ["cpu"], ["AVX2"], 0, [])
    assert store.manifest()["defenses"] == ["none", "float16"]


def test_a_fresh_run_wants_an_empty_folder(store, sweep, tmp_path):
    with pytest.raises(UserError, match="run: expected an empty folder, as --fresh asks for, found files"):
        Store.open_for(tmp_path / "run", sweep, fresh=True)
    (tmp_path / "empty").mkdir()
    Store.open_for(tmp_path / "empty", sweep, fresh=True)
    Store.open_for(tmp_path / "new", sweep, fresh=True)


def test_rows_that_are_no_longer_requested_are_in_no_table_and_may_return(store, sweep):
    store.append([result("a"), result("b")])
    store.begin(TRIALS, sweep, ["cpu"], ["AVX2"], 1, ["b"])
    assert list(store.rows()["key"]) == ["a"]
    assert store.statuses().keys() == {"a", "b"}
    store.begin(TRIALS, sweep, ["cpu"], ["AVX2"], 2, [])
    assert list(store.rows()["key"]) == ["a", "b"]


def test_failed_rows_are_forgotten_to_run_again(store):
    store.append([result("a"), failed("b")])
    store.forget(TRIALS, {"b"})
    assert store.statuses() == {"a": "budget"}
    store.append([result("b")])
    assert store.statuses() == {"a": "budget", "b": "budget"}


@pytest.mark.parametrize("table", ["trials", "traces", "originals"])
def test_what_a_torn_part_held_is_to_run_again(store, caplog, table):
    """Also a row whose trace or picture is gone; an error has neither, and stays."""
    store.append([result("a"), failed("b")])
    store.append([result("c", index=1), failed("d")])
    torn = store.folder / f"{table}.parquet" / "part-000002.parquet"
    torn.write_bytes(torn.read_bytes()[:-9])
    fresh = Store(store.folder)
    with fresh.lock():
        pass
    assert fresh.statuses().keys() == {"a", "b"} | ({"d"} if table != "trials" else set())
    assert f"{table}.parquet/part-000002.parquet: torn" in caplog.text
    (aside,) = (store.folder / "set-aside").iterdir()
    assert aside.name == f"{table}-part-000002.parquet"
    with fresh.lock():
        fresh.append([result("c", index=1)])
    assert fresh.traces(["c"]).keys() == {"c"}
    assert fresh.originals([("cifar10-sample", 1)])


def test_rows_of_another_schema_run_again(store, monkeypatch):
    store.append([result("a")])
    other = {"leakbench": "format 3, schema 99"}
    changed = [dataclasses.replace(table, schema=table.schema.with_metadata(other)) for table in TABLES]
    monkeypatch.setattr(module, "TABLES", changed)
    later = Store(store.folder)
    with later.lock():
        assert later.statuses() == {}
    assert len(list((store.folder / "set-aside").iterdir())) == 3


def test_one_writer_a_folder(store, tmp_path):
    assert store.runner() == ""
    with store.lock():
        this = f"process {os.getpid()} on {os.uname().nodename}"
        assert Store(tmp_path / "run").runner() == this
        with (
            pytest.raises(UserError, match=f"run: {this} is writing to it"),
            Store(tmp_path / "run").lock(),
        ):
            pass
    assert store.runner() == ""
    with store.lock():
        pass


def test_a_merge_that_fails_is_no_harm(store, monkeypatch, caplog):
    monkeypatch.setattr("leakbench.sweeps.parts.FAN_IN", 2)
    store.append([result("a")])
    store.append([result("b")])
    monkeypatch.setattr(
        Parts, "_write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    store.merge()
    assert "trials.parquet: parts are not merged: No space left on device" in caplog.text
    assert store.statuses().keys() == {"a", "b"}


def test_a_draft_that_a_killed_process_left_does_not_keep_the_folder(sweep, tmp_path, write):
    write("run/.sweep.json.tmp", "{")
    assert Store.open_for(tmp_path / "run", sweep, fresh=True).statuses() == {}


def test_a_disk_that_takes_nothing_more_is_a_sentence(store, monkeypatch):
    store.append([result("a")])
    real = os.fsync

    def full(descriptor):
        if store.folder.name in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    text = "run: cannot be written to: No space left on device; 2 finished trials could not be stored"
    with pytest.raises(StoppedError, match=text):
        store.append([result("b"), result("c")])
    monkeypatch.undo()
    assert store.statuses().keys() == {"a"}
    store.append([result("b")])
    assert store.statuses().keys() == {"a", "b"}


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 13}', '{"format": 1, "sweep": 1}'])
def test_a_manifest_that_is_none(write, tmp_path, content):
    write("odd/sweep.json", content)
    with pytest.raises(UserError, match="expected format 13, got"):
        Store.existing(tmp_path / "odd")


def test_folders_that_are_no_run(sweep, tmp_path, write):
    file = write("file", "")
    with pytest.raises(UserError, match="file: expected a new folder or a run of this sweep, found"):
        Store.open_for(file, sweep)
    write("full/notes.txt", "mine")
    with pytest.raises(UserError, match="full: expected a new folder or a run of this sweep, found"):
        Store.open_for(tmp_path / "full", sweep)
    with pytest.raises(UserError, match="cannot be written to"):
        Store.open_for(file / "below", sweep)
    with pytest.raises(UserError, match="nowhere: expected the folder of a run, found no sweep.json"):
        Store.existing(tmp_path / "nowhere")
    write("old/sweep.json", '{"format": 0}')
    with pytest.raises(UserError, match="expected format 13, got 0; it is from another version"):
        Store.existing(tmp_path / "old")
    write("torn/sweep.json", "{")
    with pytest.raises(UserError, match="not readable"):
        Store.existing(tmp_path / "torn")
