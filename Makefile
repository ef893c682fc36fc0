# Every target sets itself up in .venv on a machine that has nothing but Python 3.11 or newer.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
WORKERS ?= 2
export HF_HUB_OFFLINE := 1
# Threads that wait sleep soon (src/bsq/cli/waiting.py): other programs then do not slow ours down tenfold.
export GOMP_SPINCOUNT ?= 10000

.PHONY: demo test test-slow bench results lint docs clean
.DEFAULT_GOAL := test

# .dev holds all that .examples does, and takes its place: an install that breaks off leaves neither.
demo: $(or $(wildcard $(VENV)/.dev),$(VENV)/.examples)     ## compress and reconstruct a photograph with the bundled model
	$(BIN)/python examples/demo.py --out out/demo

test: lint                  ## style, types and the default tests
	$(BIN)/python -m pytest -n $(WORKERS)

test-slow: $(VENV)/.dev     ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev         ## the tables of benchmarks/
	$(BIN)/python -m benchmarks

DATA ?= data
MODELS ?= runs/compare
results: $(VENV)/.dev       ## every table that can be measured here: make results DATA=folder MODELS=folder
	$(BIN)/python examples/results.py --data $(DATA) --models $(MODELS) --processes $(WORKERS) -o out/results

docs: $(VENV)/.docs         ## the site, in out/site/; a broken link is an error
	$(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit("bsq needs Python 3.11 or newer; set PYTHON=/path/to/python") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.examples: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) -e '.[examples,bench]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	rm -f $(VENV)/.dev $(VENV)/.examples
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) -e '.[docs]'
	touch $@
