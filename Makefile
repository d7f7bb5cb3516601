# Two commands on a fresh machine with Python 3.11 or newer and make: `make serve`, `make test`.
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
SUM := $(shell cksum < pyproject.toml | cut -d ' ' -f 1)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The environment is made afresh whenever pyproject.toml changes: its checksum is in the stamp.
BASE := $(VENV)/.base-$(SUM)
DEV := $(VENV)/.dev-$(SUM)

.PHONY: serve test lint bench clean

serve: $(BASE)
	exec $(BIN)/rhapsode serve --host $(HOST) --port $(PORT)

test: $(DEV)
	$(BIN)/python -m pytest

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(DEV)
	$(BIN)/python -m compat_tests.bench.speech --out bench/speech-cpu.json

clean:
	rm -rf $(VENV)

$(BASE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rhapsode needs Python 3.11 or newer: make PYTHON=python3.12")'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(DEV): $(BASE)
	$(PIP) --editable '.[test]'
	touch $@
