"""Made-up rows, which no attack produced, to test what reports make of them."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from leakbench.bench.datasets import DATASETS, open_dataset
from leakbench.bench.modalities import TEXTS
from leakbench.bench.verdicts import Scale
from leakbench.bench.vocabulary import vocabulary_of
from leakbench.reports.setting import settings_of
from leakbench.sweeps.records import Record
from leakbench.sweeps.store import Store
from leakbench.sweeps.sweep_file import read_sweep
from leakbench.sweeps.tables import TRIALS

TEXT_SCALE = Scale(TEXTS.leak, TEXTS.artifacts, TEXTS.name)
KINDS = ("dataset", "model", "protocol", "attack", "defense")
PART = 256  # rows, as many as a part of a long run has in a group


def table(*cells):
    """Rows from (defense, index, start, match_loss, ssim) with the rest made up."""
    rows = []
    for number, (defense, index, start, match_loss, ssim) in enumerate(cells):
        failed = match_loss is None
        mse = None if failed else (1 - ssim) / 10 + 1e-6
        name, _, setting = defense.removesuffix(")").partition("(")
        rows.append(
            dict.fromkeys(TRIALS.dtypes)
            | {
                "key": str(number), "dataset": "cifar10-sample", "index": index, "model": "lenet",
                "model_seed": 0, "protocol": "fedsgd", "attack": "dlg", "defense": defense, "family": name,
                "strength": float(setting.partition("=")[2]) if setting else None, "start": start,
                "dataset_name": "cifar10-sample", "model_name": "lenet", "protocol_name": "fedsgd",
                "attack_name": "dlg", "defense_name": name,
                **dict.fromkeys((f"{kind}_settings" for kind in KINDS), "{}"),
                "status": "error" if failed else "budget", "reason": "why", "match_loss": match_loss,
                "ssim": ssim, "mse": mse, "psnr": None if failed else -10 * math.log10(mse),
                "modality": None if failed else "images",
                "score": None if failed else min(max(ssim, 0.0), 1.0),
                "objective": match_loss, "label_correct": None if failed else False, "classes": 10,
                "threat": "nothing", "seconds": 1.0, "device": "cpu",
                "hardware": "AVX2", "torch_version": "2", "finite": True,
                "gradient_norm": 1.0, "shared_norm": 1.0, "signal_to_noise": None,
                "neg_log_posterior": match_loss, "sent_bytes": 1000, "defense_seconds": 0.001,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(TRIALS.dtypes)).astype(TRIALS.dtypes)


def text_table(*cells, recall=None, precision=1.0):
    """Rows of texts from (defense, index, start, match_loss, rouge_l); `recall` is that of words."""
    rows = table(*cells)
    score = rows["ssim"].astype(float)
    words = score.where(score.isna(), recall) if recall is not None else score
    texts = {
        "modality": rows["modality"].replace({"images": "texts"}), "rouge_1": score, "rouge_2": score,
        "rouge_l": score, "token_accuracy": score / 2, "bag_recall": words,
        "bag_precision": score.where(score.isna(), precision), "exact": (score == 1).astype(float),
    }  # fmt: skip
    pixels = dict.fromkeys(["ssim", "mse", "psnr"], np.nan)
    names = dict.fromkeys(["dataset", "dataset_name"], "sotu-sample")
    return rows.assign(**names, **pixels, **texts).astype(TRIALS.dtypes)


def settings(rows, scale=None):
    """Each of these rows, without trainings and histories."""
    trainings = pd.DataFrame({"model": [], "protocol": []})
    return list(settings_of(rows, scale or Scale(), trainings, lambda _: {}))


def sentence(index):
    """A text of `sotu-sample` as it is stored."""
    texts = open_dataset(DATASETS.parse("sotu-sample"), Path())
    tokens, _ = texts[index]
    return " ".join(texts.vocabulary.pieces[token] for token in tokens.tolist())


def garbled(text, share, random):
    """The text with random pieces in place of some, so that about this share of them is right."""
    pieces = vocabulary_of().pieces
    own = text.split()
    for place in range(1, len(own) - 1):
        if random.random() >= share:
            own[place] = pieces[random.integers(1996, 30522)]
    return " ".join(own)


def store(folder, rows, size=16, steps=(0, 5, 10), iterations=1):
    """A run's folder that holds these rows, with noise for what was found; its defenses need not exist."""
    texts = "texts" in set(rows["modality"])
    file = folder.with_name("made_up.yaml")
    dataset = "sotu-sample" if texts else "cifar10-sample"
    file.write_text(f'datasets: [{dataset}]\ndefenses: [none]\nattacks: [dlg]\n# <b> & "quotes"\n')
    sweep, problems = read_sweep(file)
    assert not problems
    made = Store.open_for(folder, sweep)
    made.begin(TRIALS, sweep, ["cpu"], ["AVX2"], 0, [])
    random = np.random.default_rng(0)
    shape = [1, 3, size, size]
    records = []
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        pictures = random.random((len(steps) + 1, *shape)).astype("<f2")
        history = random.random() * np.geomspace(2.0, 1.0, iterations + 1)
        history[1:-1] *= random.uniform(0.8, 1.2, iterations - 1)
        trace = {
            "key": row["key"], "objective": history, "errors": history / 4, "shape": shape,
            "reconstruction": pictures[-1].tobytes(), "labels": [0], "snapshot_steps": list(steps),
            "snapshots": pictures[:-1].tobytes(), "layers": [], "distance_steps": [], "distances": [],
            "input_layers": [], "input_errors": [], "texts": None, "snapshot_texts": None,
        }  # fmt: skip
        image = random.random(shape[1:]).astype("<f2").tobytes()
        place = {
            "dataset": row["dataset"], "index": row["index"], "shape": shape[1:], "image": image, "text": None
        }  # fmt: skip
        if texts:
            truth, score = sentence(row["index"]), row["rouge_l"] or 0.0
            ways = [[garbled(truth, score * part, random)] for part in np.linspace(0, 1, len(steps))]
            nothing = {"shape": [1], "reconstruction": b"", "snapshots": b""}
            trace |= nothing | {"texts": [garbled(truth, score, random)], "snapshot_texts": ways}
            trace["errors"] = np.linspace(1, 1 - score, iterations + 1)
            place |= {"shape": [], "image": b"", "text": truth}
        others = {} if row["status"] == "error" else {"traces": [trace], "originals": [place]}
        records.append(Record("trials", row, others))
    for first in range(0, len(records), PART):
        made.append(records[first : first + PART])
    return made
