"""Every command of the README and every target of the Makefile, in a small form: each really runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import ENVIRONMENT, ROOT, copy_of_the_project
from test_paper import FILES, VERDICTS

from leakbench.reports.paper.report import TRAINED

pytestmark = pytest.mark.long

SWEEP = """
datasets: [{name: mnist-sample, indices: 0-1}]
models: ['mlp(hidden=[16])']
defenses: [none, float16]
attacks: [dlg(steps=2)]
training:
  train: {name: mnist-5k, indices: 0-79}
  test: {name: mnist-5k, indices: 4000-4099}
  epochs: 1
"""
PROTOCOL = """
version: 9
parts:
  two digits:
    datasets: [{name: mnist-sample, indices: 0-1}]
    models: ['mlp(hidden=[16])']
    attacks: [linear]
accuracy:
  models: ['mlp(hidden=[16])']
  training:
    train: {name: mnist-5k, indices: 0-79}
    test: {name: mnist-5k, indices: 4000-4099}
    epochs: 1
"""
VENV = Path(sys.prefix)
SMALL_COMPARISON = "--against float16 --data mnist-sample --model 'mlp(hidden=[16])' --jobs 1"
TARGETS = {  # of the Makefile, in an order in which they can be run
    "help": [],
    "sweep": ["SWEEP=small.yaml", "OUT=runs/small"],
    "figures": ["OUT=runs/small"],
    "csv": ["OUT=runs/small"],
    "compare": ["DEFENSE=examples/sign.py", f"ARGS={SMALL_COMPARISON}"],
    "paper": ["ARGS=--sweeps paper --jobs 1"],
    "bench": ["SMALL=1"],
    "torture": ["N=1"],
    "spu": [],
    "reference": [],
    "dist": [],
    "clean": ["VENV=none"],
}
VERBS = {  # of the README, likewise
    "list": "list",
    "doctor": "doctor",
    "sweep": "sweep small.yaml --out runs/small",
    "status": "status runs/small",
    "report": "report runs/small",
    "diff": "diff runs/small runs/small",
    "index": "index 'mlp(hidden=[16])' --dataset mnist-sample --defense 'prune(ratio=0.5)'",
    "figures": "figures runs/small",
    "csv": "csv runs/small",
    "export": "export runs/small",
    "rows": "rows runs/small --where 'ssim > -2' --sort ssim --format json",
    "utility": "utility small.yaml --out runs/trained",
    "attack": "attack --gradient shared.pt --model 'mlp(hidden=[16])' --shape 1x28x28 --classes 10"
    " --attack 'dlg(steps=2)'",
    "private-inference": "private-inference 'mlp(hidden=[16], activation=relu, weights=default)'"
    " --train 0-199 --indices 4000-4019 --digits 3",
    "audit": "audit rounds --model 'mlp(hidden=[16])' --shape 1x28x28 --classes 10 --attack 'dlg(steps=2)'",
    "tidy": "tidy runs/small",
    "new-defense": "new-defense my_defense",
    "new-attack": "new-attack my_attack",
    "check": "check my_defense.py",
    "completion": "completion bash",
    "submit": "submit float16 --protocol v9 --jobs 1",
    "verify": "verify entries/float16 --cells 2",
    "victims": "victims float16 --protocol v9",
    "board": "board --protocol v9",
}
GRADIENT = """
import torch
from leakbench.bench.models import MODELS
network = MODELS.parse("mlp(hidden=[16])").build((1, 28, 28), 10, 0)
torch.save([torch.rand_like(each) for each in network.parameters()], "shared.pt")
from pathlib import Path
from leakbench.federation.rounds import Returned, new_folder, write_round
from leakbench.federation.setting import Setting
sent = network.state_dict()
back = {name: each + 0.01 * torch.rand_like(each) for name, each in sent.items()}
setting = Setting(optimizer="sgd", lr=0.1, local_steps=1)
write_round(new_folder(Path("rounds")), 1, sent, {"a": Returned(back, 1)}, setting)
"""


def run(arguments, folder):
    """Its output; it must succeed, and print nothing of Python."""
    done = subprocess.run(arguments, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the project, in which runs may be written and files changed."""
    folder = copy_of_the_project(tmp_path_factory.mktemp("copy") / "leakbench")
    (folder / "small.yaml").write_text(SWEEP)
    (folder / "sweeps/protocols/v9.yaml").write_text(PROTOCOL)
    (folder / "paper").mkdir()
    for name, text in FILES.items():
        (folder / "paper" / f"{name}.yaml").write_text(text + ("" if name in TRAINED else VERDICTS))
    run([sys.executable, "-c", GRADIENT], folder)
    return folder


def targets():
    lines = (ROOT / "Makefile").read_text().splitlines()
    return {line.partition(":")[0] for line in lines if re.match(r"[a-z-]+:.*## ", line)}


def verbs():
    """Those that the README shows, in blocks of their own and in running text."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^leakbench ([a-z-]+)|`leakbench ([a-z-]+)", text, re.MULTILINE)
    return {one or other for one, other in found}


def test_each_has_a_small_form():
    """Or is what `.ci/run` runs."""
    by_ci = set(" ".join(re.findall(r'targets="(.*)"', (ROOT / ".ci/run").read_text())).split())
    assert set(TARGETS) | by_ci == targets()
    assert verbs() <= set(VERBS) | set(TARGETS)


@pytest.mark.skipif(not (VENV / "bin" / "leakbench").exists(), reason="not in the Makefile's environment")
@pytest.mark.parametrize("target", TARGETS)
def test_the_target_runs(checkout, target):
    variables = [f"VENV={VENV}", *TARGETS[target]]
    ready = ["-o", f"{VENV}/.ready"]  # is up to date, whatever the copies' times say
    output = run(["make", *ready, target, *variables], checkout)
    if target == "help":
        assert set(re.findall(r"^  ([a-z-]+)\s", output, re.MULTILINE)) == targets()
    if target == "reference":
        assert (checkout / "docs/COMMANDS.md").read_text() == (ROOT / "docs/COMMANDS.md").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_runs(checkout, verb):
    run([sys.executable, "-m", "leakbench", *shlex.split(VERBS[verb])], checkout)


def test_the_page_is_measured(checkout):
    if shutil.which("chromium-headless-shell") is None:
        pytest.skip("no browser here")
    page = checkout / "runs" / "small" / "report.html"
    assert os.path.getsize(page) > 0
    assert "open" in run([sys.executable, "benchmarks/page.py", str(page)], checkout)
