# Thin: each target is one line of cli.py, pytest or ruff. `make demo` and `make test` set themselves up.
PYTHON ?= python3
BIN := .venv/bin
ROOT ?= data/$(DATASET)
HEAD ?= maven
ARGS ?=

.PHONY: help setup demo test check bench bench-gpu extract train ablate clean

help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup: .venv/.installed ## make .venv and install everything, once

demo: setup ## the whole idea in minutes: corpus, features, a table of heads, pictures
	$(BIN)/python cli.py demo $(ARGS)

test: setup ## all tests
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: setup ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup ## ratios of two things side by side, in one run
	$(BIN)/python benchmarks/run.py $(ARGS)
	$(BIN)/python benchmarks/cost.py

bench-gpu: setup ## the same for a GPU, on one; ARGS=--small anywhere
	$(BIN)/python benchmarks/gpu.py $(ARGS)

extract: setup ## stage one: make extract DATASET=affwild2 [ROOT=data/affwild2]
	@test -n "$(DATASET)" || { echo "error: no dataset is named; make extract DATASET=affwild2 [ROOT=DIR]" >&2; exit 2; }
	$(BIN)/python cli.py extract --dataset $(DATASET) --root $(ROOT) $(ARGS)

train: setup ## stage two: make train HEAD=maven [ARGS="--dataset affwild2"]
	$(BIN)/python cli.py train-fusion --head $(HEAD) $(ARGS)

ablate: setup ## a table of heads: make ablate [ARGS="--recipe demo --dataset demo"]
	$(BIN)/python cli.py ablate $(if $(ARGS),$(ARGS),--recipe demo)

clean: ## remove caches of tools (features and runs under var/ stay)
	rm -rf .pytest_cache .ruff_cache .mypy_cache build *.egg-info
