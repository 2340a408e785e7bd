# Everything runs in .venv, which any target makes when it is missing. Python 3.11 or newer and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: study test slow chaos benchmark check clean

study: $(INSTALLED)  ## make the demo corpus and run the demo study on it, to its end
	$(BIN)/decred-study prepare demo --out corpora/demo $(DEMO_OPTIONS)
	$(BIN)/decred-study run search_spaces/demo.yaml

test: check  ## everything that has to hold
	$(BIN)/pytest

slow: $(INSTALLED)  ## the tests that take most of a minute each
	$(BIN)/pytest -m slow

chaos: $(INSTALLED)  ## what a study survives: its processes killed at any moment, machines lost; about a quarter of an hour
	$(BIN)/pytest -m chaos tests/chaos

benchmark: $(INSTALLED)  ## the speed table: every row timed beside the machine's matmul rate, about five minutes
	$(BIN)/pytest tests/benchmarks -m '' --benchmark-enable --benchmark-columns=median,min,max,rounds

check: $(INSTALLED)  ## form and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), but must be Python 3.11 or newer; use make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[demo,test]'
	touch $(INSTALLED)

clean:  ## remove what the targets made: environment, demo corpus and study
	rm -rf $(VENV) corpora/demo studies/demo
