"""Rows on disk: whole, in order, and equal when read back."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from bench.trial import Result, Row, Trace
from defenses.errors import UserError
from reports.tables import read_csv, write_csv
from sweeps.spec import read_sweep
from sweeps.store import ROW_DTYPES, Store


@pytest.fixture
def sweep(write):
    text = "datasets: [cifar10-sample]\ndefenses: [none, int8]\nattacks: [dlg(steps=2)]\n"
    return read_sweep(write("mine.yaml", text))[0]


@pytest.fixture
def store(sweep, tmp_path):
    return Store.open_for(tmp_path / "run", sweep)


def result(key="a", **changes):
    row = Row(
        key=key, dataset="cifar10-sample", index=0, model="lenet", model_seed=0, attack="dlg",
        defense="gaussian(variance=0.1)", family="gaussian", strength=0.1, start=0, status="budget",
        reason="stopped at the limit of 2 steps", iterations=2, match_loss=1 / 3, mse=0.1 + 0.2,
        mse_raw=1e300, psnr=math.inf, ssim=-0.0, label_true=3, label_recovered=4, label_correct=False,
        seconds=0.25, device="cpu", torch_version="2",
    )  # fmt: skip
    picture = torch.linspace(-1, 2, 3 * 4 * 4).reshape(3, 4, 4)
    trace = Trace(torch.full((3, 4, 4), 0.5), [0.1, 0.2, 0.3], {0: picture, 2: -picture}, [9, 3, 1], picture)
    return Result(dataclasses.replace(row, **changes), trace)


def failed(key="b"):
    nothing = dict.fromkeys(
        ["iterations", "match_loss", "mse", "mse_raw", "psnr", "ssim", "label_true", "label_recovered",
         "label_correct", "strength"]
    )  # fmt: skip
    return Result(
        dataclasses.replace(
            result(key).row, status="error", reason='RuntimeError: "no", NA\tway', defense="none", **nothing
        ),
        None,
    )


def test_rows_come_back_as_they_were(store):
    store.append([result("a"), failed("b")])
    rows = store.rows().set_index("key")
    assert rows.loc["a"].to_dict() == {
        name: value for name, value in dataclasses.asdict(result("a").row).items() if name != "key"
    }
    assert rows.loc["b", "status"] == "error"
    assert rows.loc["b", ["match_loss", "ssim", "label_true", "label_correct"]].isna().all()
    assert {name: str(kind) for name, kind in store.rows().dtypes.items()} == ROW_DTYPES


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


def test_traces_and_originals_are_there_when_asked_for(store):
    store.append([result("a"), failed("b")])
    store.append([result("c")])
    traces = store.traces(["a", "b"])
    assert list(traces) == ["a"]
    trace = traces["a"]
    np.testing.assert_array_equal(trace.match_loss, [9, 3, 1])
    np.testing.assert_allclose(trace.image_mse, [0.1, 0.2, 0.3], rtol=1e-6)
    picture = result().trace.reconstruction.clamp(0, 1).numpy()
    np.testing.assert_allclose(trace.reconstruction, picture, atol=2**-11)
    assert list(trace.snapshots) == [0, 2]
    np.testing.assert_allclose(trace.snapshots[0], picture, atol=2**-11)
    np.testing.assert_array_equal(store.original("cifar10-sample", 0), np.full((3, 4, 4), 0.5))
    assert len(list((store.folder / "originals.parquet").iterdir())) == 1


def test_a_picture_that_is_not_finite_is_stored_all_the_same(store):
    broken = result("a")
    broken.trace.reconstruction = torch.full((3, 4, 4), math.nan)
    store.append([broken])
    assert np.isfinite(store.traces(["a"])["a"].reconstruction).all()


def test_an_empty_run_has_an_empty_table(store):
    assert store.keys() == set()
    assert len(store.rows()) == 0
    assert list(store.rows().columns) == list(ROW_DTYPES)
    assert store.traces(["a"]) == {}


def test_a_reader_never_sees_half_a_part(store):
    """A writer that died left a draft: it is not part of the table."""
    store.append([result("a")])
    (store.folder / "trials.parquet" / ".part-000002.parquet.tmp").write_bytes(b"PAR1 torn")
    assert store.keys() == {"a"}
    assert len(pd.read_parquet(store.folder / "trials.parquet")) == 1
    store.append([result("b")])
    assert store.keys() == {"a", "b"}


def test_the_manifest_says_what_was_asked_for(store, sweep):
    manifest = json.loads((store.folder / "sweep.json").read_text())
    assert manifest["text"] == sweep.file.read_text()
    assert manifest["trials"] == 2
    assert manifest["versions"]["torch"] == torch.__version__


def test_the_same_sweep_goes_on_in_its_folder(store, sweep, tmp_path):
    store.append([result("a")])
    assert Store.open_for(tmp_path / "run", sweep).keys() == {"a"}


def test_another_sweep_does_not_get_the_folder(store, write, tmp_path):
    other, _ = read_sweep(write("other.yaml", "datasets: [cifar10-sample]\ndefenses: [none]\n"))
    with pytest.raises(UserError, match="run: holds another sweep; choose another with --out"):
        Store.open_for(tmp_path / "run", other)


def test_rows_of_another_schema_are_not_mixed_in(store, sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeps.store.SCHEMA_VERSION", 99)
    with pytest.raises(UserError, match="holds another sweep"):
        Store.open_for(tmp_path / "run", sweep)


def test_one_writer_a_folder(store, tmp_path):
    with (
        store.lock(),
        pytest.raises(UserError, match="run: another process is running a sweep in it"),
        Store(tmp_path / "run").lock(),
    ):
        pass
    with store.lock():
        pass


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": 1}'])
def test_a_manifest_that_is_none(write, tmp_path, content):
    write("odd/sweep.json", content)
    with pytest.raises(UserError, match="expected format 1, got"):
        Store.existing(tmp_path / "odd").manifest()


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
    with pytest.raises(UserError, match="expected format 1, got 0; it is from another version"):
        Store.existing(tmp_path / "old").manifest()
    write("torn/sweep.json", "{")
    with pytest.raises(UserError, match="not readable"):
        Store.existing(tmp_path / "torn").manifest()
