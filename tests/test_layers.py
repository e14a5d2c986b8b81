"""Layer by layer: distances of gradients over the steps, and errors of the inputs that were found."""

import pytest
import torch
from running import inside

import leakbench
from leakbench.bench.attacks import Resources
from leakbench.bench.chain import chain_of
from leakbench.bench.execution import Conditions, run_trials
from leakbench.bench.gradients import distance_by_layer, match_loss, shared_gradient
from leakbench.bench.row import input_errors
from leakbench.bench.trial import prepare
from leakbench.reports.figures.distances import draw_distances
from leakbench.reports.figures.inputs import draw_input_errors
from leakbench.reports.selection import kept_starts
from leakbench.sweeps.records import stored_trace, to_record
from leakbench.sweeps.store import Store


def result_of(trial, every=2, slots=2):
    (result,) = run_trials([trial], Conditions(Resources(slots=slots), snapshot_every=every))
    return result


@pytest.mark.parametrize("engine", ["batched", "reference"])
def test_the_layers_distances_are_the_match_loss_at_that_step(make_trial, engine):
    trial = make_trial(attack=f"dlg(steps=6, engine={engine})", dataset="mnist-sample")
    trace = result_of(trial).trace
    assert list(trace.distances) == [0, 2, 4, 6]
    for step, layers in trace.distances.items():
        assert list(layers) == [f"{place}.{kind}" for place in (0, 2, 4, 7) for kind in ("weight", "bias")]
        assert sum(layers.values()) == pytest.approx(trace.objective[step], rel=1e-3)


def test_distances_are_of_each_parameter(make_trial):
    trial = make_trial(dataset="mnist-sample", model="mlp(hidden=[6])")
    case, victim, _ = prepare(trial, 0, None)
    dummy, labels = torch.rand(1, 1, 28, 28), torch.randn(1, 10)
    found = distance_by_layer(case.model, case.shared, dummy, labels)
    whole = match_loss(case.model, case.shared, dummy, labels, create_graph=False)
    assert sum(found.values()) == pytest.approx(float(whole), rel=1e-5)
    own = distance_by_layer(case.model, case.shared, victim.batch, victim.labels)
    assert own == dict.fromkeys(found, 0.0)
    other = shared_gradient(case.model, victim.batch, (victim.labels + 1) % 10)
    away = distance_by_layer(case.model, other, victim.batch, victim.labels)
    assert away["3.bias"] == pytest.approx(2, rel=1e-5)  # (p - y) is off by 1 in two classes


@pytest.mark.parametrize("attack", ["idlg(steps=3)", "adaptive(steps=3)", "recursive"])
def test_attacks_that_optimise_no_labels_have_none(make_trial, attack):
    assert result_of(make_trial(attack=attack), every=1).trace.distances == {}


def test_errors_of_inputs_grow_towards_the_image(make_trial):
    exact, noisy = (
        result_of(make_trial(attack="recursive", dataset="mnist-sample", defense=defense)).trace.input_errors
        for defense in ("none", "gaussian(std=0.001)")
    )
    assert list(exact) == list(noisy) == ["7", "4", "2", "0"]
    assert max(exact.values()) < 1e-3
    assert noisy["7"] < noisy["4"] < noisy["2"] < noisy["0"]
    assert all(noisy[layer] > 10 * exact[layer] for layer in exact)


def test_errors_are_relative_to_what_truly_went_in(make_trial):
    case, victim, _ = prepare(make_trial(), 0, None)
    true = list(chain_of(case.model, case.spec.shape).inputs_of(victim.batch.double()))
    found = {"7": 1.5 * true[3], "0": true[0], "2": true[0], "unheard of": true[0]}
    errors = input_errors(case.model, case.spec.shape, victim.batch, found)
    assert errors == {"7": pytest.approx(0.5), "0": 0.0}  # one of another shape is no input of that layer


def test_what_was_seen_is_stored(make_trial):
    for attack in ("dlg(steps=4)", "recursive"):
        result = result_of(make_trial(attack=attack, dataset="mnist-sample"))
        stored = stored_trace(to_record(result).others["traces"][0])
        by_step = {
            step: {layer: own[step] for layer, own in stored.distances.items()}
            for step in result.trace.distances
        }
        assert by_step == {step: pytest.approx(own) for step, own in result.trace.distances.items()}
        assert stored.input_errors == pytest.approx(result.trace.input_errors)


def test_there_is_a_figure_of_each(write, tmp_path, capsys):
    text = "datasets: [mnist-sample]\ndefenses: [none, float16]\n"
    write("sweep.yaml", f"{text}attacks: [dlg(steps=4), recursive]\nsnapshot_every: 1\n")
    assert inside(tmp_path, "sweep", "sweep.yaml", "--executor", "inline") == 0
    store = Store.existing(tmp_path / "runs/sweep")
    assert leakbench.main(["figures", str(store.folder)]) == 0
    drawn = capsys.readouterr().out
    assert "distances-dlg-steps-4.png" in drawn
    assert "inputs-recursive.png" in drawn
    rows = kept_starts(store.rows())
    dlg, recursive = (rows[rows["attack"].str.startswith(name)] for name in ("dlg", "recursive"))
    curves = store.curves(rows["key"])
    panel = draw_distances(dlg, curves).axes[0]
    assert [line.get_label() for line in panel.lines] == ["0", "2", "4", "7"]
    assert [list(line.get_xdata()) for line in panel.lines] == [[0, 1, 2, 3, 4]] * 4
    panel = draw_input_errors(recursive, curves).axes[0]
    assert [line.get_label() for line in panel.lines] == ["none", "float16"]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["7", "4", "2", "0"]
    assert draw_distances(recursive, curves) is None
    assert draw_input_errors(dlg, curves) is None
