# LeakBench. `make help` says what there is; every target sets up what it needs in .venv.

PYTHON ?= python3
VENV   ?= .venv
SWEEP  ?= sweeps/quick.yaml
OUT    ?= runs/$(basename $(notdir $(SWEEP)))
DEVICE ?= cpu
N      ?= 200
SPU    ?= .venv-spu
FLOWER ?= .venv-flower
BIN    := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
READY  := $(VENV)/.ready
PARTS  := $(filter-out leakbench/,$(dir $(wildcard */__init__.py)))

.PHONY: help sweep compare paper test test-long test-numeric flower lint figures csv bench torture spu reference dist site clean
.DEFAULT_GOAL := help

help:  ## this list
	@echo "make TARGET [SWEEP=sweeps/mine.yaml] [OUT=runs/mine] [PYTHON=python3.12] [ARGS='--jobs 1']"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

sweep: $(READY)  ## run the attacks of SWEEP and show what leaked (default: sweeps/quick.yaml)
	@$(BIN)/leakbench sweep $(SWEEP) --out $(OUT) $(ARGS)

paper: $(READY)  ## the DLG paper's defense figures and tables, in runs/paper (QUICK=1: 10 minutes on 2 cores)
	@$(BIN)/leakbench paper $(if $(QUICK),--quick) $(ARGS)

compare: $(READY)  ## compare DEFENSE=my_defense.py:Mine with noise and pruning: leakage and accuracy
	@$(if $(DEFENSE),,echo "make compare: expected DEFENSE=my_defense.py:Mine, found none" >&2; exit 2)
	@$(BIN)/leakbench compare $(DEFENSE) $(ARGS)

test: $(READY)  ## run the tests, but for the long ones: about 10 minutes on 2 cores
	@$(PYTEST) -m "not long" $(ARGS)

test-long: $(READY)  ## run the long ones: thousands of trials and files, many kills, every command; about 25 minutes
	@$(PYTEST) -m long $(ARGS)

test-numeric: $(READY)  ## run what a processor may round otherwise, with the instructions of older ones
	@if grep -qs avx512f /proc/cpuinfo; then \
	  ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	    $(PYTEST) -m "numeric and not long" $(ARGS); \
	else echo "no AVX-512 here: make test has run them with AVX2, or less"; fi
	@ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	  $(PYTEST) -m "numeric and not long" $(ARGS)

flower: $(FLOWER)/.ready  ## run the tests of leakbench.flower, in an environment of their own (FLOWER=.venv-flower)
	@home=$$(mktemp -d); trap 'rm -rf "$$home"' EXIT; \
	  FLWR_TELEMETRY_ENABLED=0 FLWR_HOME="$$home" $(FLOWER)/bin/python -m pytest tests/test_flower.py $(ARGS)

site: $(READY)  ## write the leaderboard and the documentation as a static site, in site/index.html
	@$(BIN)/leakbench site board/entries --docs README.md docs --out site

lint: $(READY)  ## check style and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@mkdir -p .mypy_path/leakbench && ln -sfn $(addprefix ../../,$(PARTS:/=) $(wildcard leakbench/*)) .mypy_path/leakbench
	@$(BIN)/mypy -p leakbench && $(BIN)/mypy benchmarks

figures: $(READY)  ## draw the figures of OUT again
	@$(BIN)/leakbench figures $(OUT)

csv: $(READY)  ## write the rows of OUT as CSV again
	@$(BIN)/leakbench csv $(OUT)

bench: $(READY)  ## measure engine, attacks, sweep and reports (DEVICE=cuda on a GPU); 10 minutes (SMALL=1: see that it runs)
	@$(BIN)/python benchmarks/sweep.py $(if $(SMALL),--small)
	@$(BIN)/python benchmarks/reports.py $(if $(SMALL),--small)
	@$(BIN)/python benchmarks/engine.py --device $(DEVICE) $(if $(SMALL),--small) $(ARGS)
	@$(BIN)/python benchmarks/attacks.py $(if $(SMALL),--small)
	@$(BIN)/python benchmarks/texts.py $(if $(SMALL),--small)

torture: $(READY)  ## kill a sweep's processes N times at random moments, and compare what is stored
	@$(BIN)/python tests/torture.py --kills $(N)

spu: $(SPU)/.ready  ## set up SecretFlow's SPU in .venv-spu, for private-inference --engine spu: a minute, and 1 GB

reference: $(READY)  ## write docs/COMMANDS.md from the program
	@$(BIN)/python -c 'from leakbench.commands.main import make_parser; from leakbench.commands.reference import reference; \
	  print("\n".join(reference(make_parser())))' > docs/COMMANDS.md

dist: $(READY)  ## build wheel and source distribution in dist/, and check that a package index accepts them
	@rm -rf dist && $(BIN)/python -m build --quiet --no-isolation
	@$(BIN)/twine check --strict dist/*

clean:  ## remove the virtual environments, the caches of the tools and dist/; runs/ stays
	rm -rf $(VENV) $(SPU) $(FLOWER) .mypy_cache .mypy_path .pytest_cache .ruff_cache .hypothesis *.egg-info dist

$(READY): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "leakbench needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); try make PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV): this takes a minute or more, and 2.2 GB (several with a CUDA build of PyTorch)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(READY)

$(SPU)/.ready: constraints-spu.txt
	@$(PYTHON) -m venv $(SPU)
	@$(SPU)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-spu.txt spu
	@touch $@

$(FLOWER)/.ready: pyproject.toml setup.py constraints-flower.txt
	@echo "setting up $(FLOWER), with Flower: this takes two minutes or more, and 1.8 GB"
	@$(PYTHON) -m venv $(FLOWER)
	@$(FLOWER)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-flower.txt \
	  -e '.[flower]' pytest hypothesis
	@touch $@
