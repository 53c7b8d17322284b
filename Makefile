# make demo: train a VAE on handwritten digits and look at it.   make test: everything that has to hold.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: help setup demo test lint soak bench clean

help:
	@echo "make demo   train a VAE on handwritten digits; ends with a table and a report to open"
	@echo "make test   ruff, mypy, import-linter and the tests"
	@echo "make lint   ruff, mypy, import-linter alone"
	@echo "make soak   the long checks: many seeds, many kills"
	@echo "make bench  the benchmarks against peers, short form (installs the peers)"
	@echo "make setup  the virtual environment in $(VENV) alone"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Jensen needs Python 3.11 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(STAMP)

demo: $(STAMP)
	$(BIN)/python examples/demo.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -m "not soak" -n auto --dist loadfile

soak: $(STAMP)
	$(BIN)/pytest -m soak

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python -m benchmarks.vae_training --quick --json vae_training.json
	$(BIN)/python -m benchmarks.vae_likelihood --quick --json vae_likelihood.json
	$(BIN)/python -m benchmarks.conjugate --quick --json conjugate.json
	$(BIN)/python -m benchmarks.posteriordb --quick --json posteriordb.json
	$(BIN)/python -m benchmarks.bbvi --quick --json bbvi.json
	$(BIN)/python -m benchmarks.gradient_cost --quick --json gradient_cost.json
	$(BIN)/python -m benchmarks.local_reparameterisation --quick --json local_reparameterisation.json
	$(BIN)/python -m benchmarks.disentanglement --quick --json disentanglement.json
	$(BIN)/python -m benchmarks.vq --quick --json vq.json
	$(BIN)/python -m benchmarks.generation --quick --json generation.json
	$(BIN)/python -m benchmarks.vqvae --quick --json vqvae.json
	$(BIN)/python -m benchmarks.hierarchy --quick --only mnist/LVAE-5 --json hierarchy.json
	$(BIN)/python -m benchmarks.nvae_step --quick --json nvae_step.json

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
