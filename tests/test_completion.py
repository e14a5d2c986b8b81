"""Shell completion, in the shells themselves."""

import shutil
import subprocess

import pytest
from running import ROOT, command

TYPED = [  # what is typed, and what Tab offers
    ("sw", {"sweep"}),
    ("completion ", {"bash", "zsh", "fish"}),
    ("sweep sweeps/q", {"sweeps/quick.yaml"}),
    ("sweep sweeps/quick.yaml --su", {"--suite"}),
    ("sweep sweeps/quick.yaml --suite ", {"standard"}),
    ("sweep sweeps/quick.yaml --executor i", {"inline"}),
    ("compare gau", {"gaussian"}),
    ("compare examples/si", {"examples/sign.py"}),
    ("compare int8 --against pru", {"prune"}),
    ("compare int8 --model resnet", {"resnet20", "resnet56"}),
    ("compare int8 --data cifar10-", {"cifar10-sample"}),
    ("index lenet --defense lap", {"laplacian"}),
    ("index lenet --dataset fashion-mnist-", {"fashion-mnist-sample"}),
    ("attack --attack recu", {"recursive"}),
    ("attack --protocol fed", {"fedavg", "fedsgd"}),
    ("attack --gradient READ", {"README.md"}),
    ("audit --attack recu", {"recursive"}),
    ("audit --suite st", {"standard"}),
    ("check adap", {"adaptive"}),
    ("pri", {"private-inference"}),
    ("private-inference len", {"lenet"}),
    ("private-inference lenet --engine s", {"spu"}),
    ("private-inference lenet --weights READ", {"README.md"}),
]
BASH = """
source "$1"
for typed in "${@:2}"; do
  IFS=' ' read -ra COMP_WORDS <<< "leakbench $typed"
  [[ $typed == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _shtab_leakbench
  echo "${COMPREPLY[*]}"
done
"""
FISH = """
source $argv[1]
for typed in $argv[2..]
  complete -C "leakbench $typed" | string replace -r '\\t.*' '' | string join ' '
end
"""
TYPED_IN_ZSH = {  # what is typed, and what Tab makes of it
    "sw": "sweep ",
    "sweep sweeps/q": "sweep sweeps/quick.yaml ",
    "compare gau": "compare gaussian ",
    "compare int8 gau": "compare int8 gaussian ",
    "compare int8 --against pru": "compare int8 --against prune ",
    "compare int8 --budget st": "compare int8 --budget standard ",
    "index lenet resnet2": "index lenet resnet20 ",
}
ZSH = """
zmodload zsh/zpty
zpty inner zsh -f -i
zpty -w inner "PS1=; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D"
zpty -w inner 'show() { print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey "^X" show'
zpty -w inner 'print started'
zpty -r inner out '*print started*started*'
for typed in "${@:2}"; do
  zpty -w -n inner "leakbench $typed"$'\\t\\x18'
  zpty -r inner out '*<*>*'
  print -r -- "${${out##*<}%%>*}"
done
zpty -d inner
"""


@pytest.mark.parametrize(("shell", "asks"), [("bash", BASH), ("fish", FISH)])
def test_tab_completes_commands_options_names_and_files(tmp_path, shell, asks):
    """All is completed in one process: starting a shell with its script takes longest."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script, ask = tmp_path / f"leakbench.{shell}", tmp_path / f"ask.{shell}"
    done = command("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    script.write_text(done.stdout)
    ask.write_text(asks)
    typed = [each for each, _ in TYPED]
    arguments = [shell, str(ask), str(script), *typed]
    offered = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = [set(line.split()) for line in offered.stdout.splitlines()]
    assert dict(zip(typed, lines, strict=True)) == dict(TYPED), offered.stderr


def test_tab_completes_in_zsh(tmp_path):
    """In a terminal, as zsh demands: Tab completes the line, and Ctrl-X prints it."""
    script = command("completion", "zsh").stdout
    assert script.startswith("#compdef leakbench\n")
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    (tmp_path / "_leakbench").write_text(script)
    (tmp_path / "ask.zsh").write_text(ZSH)
    arguments = ["zsh", str(tmp_path / "ask.zsh"), str(tmp_path), *TYPED_IN_ZSH]
    lines = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60)
    completed = [line.removeprefix("leakbench ") for line in lines.stdout.splitlines()]
    assert dict(zip(TYPED_IN_ZSH, completed, strict=True)) == TYPED_IN_ZSH, lines.stderr
