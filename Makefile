# quickstart: virtual environment, install, train and evaluate on the embedded sample, label a sentence.
# test: linters and the fast tests. test-all: all tests, with the workflows.
# configs: write configs/ from the template spacy_ner_arch/cli/config.cfg.jinja.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PYTEST := -q -n auto --maxprocesses 4 --dist worksteal

.PHONY: quickstart test test-all lint configs
quickstart: $(VENV)/installed
	$(PY) -m spacy project run quickstart

test: lint
	$(PY) -m pytest $(PYTEST) -m "not slow"

test-all: lint
	$(PY) -m pytest $(PYTEST)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

configs: $(VENV)/installed
	$(PY) -m spacy_ner_arch.cli.presets configs

$(VENV)/installed: setup.py pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet "pip>=23.1"  # older ones cannot build seqeval
	$(PY) -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
