# Everything runs in .venv, which any target makes when it is missing. Python 3.11 or newer and make are all it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help study test slow cluster-test image-test chaos chaos-random benchmark test-gpu benchmark-gpu docs check wheel-check clean

help:  ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

study: $(INSTALLED)  ## make the demo corpus and run the demo study on it, to its end
	$(BIN)/decred-study prepare demo --out corpora/demo $(DEMO_OPTIONS)
	$(BIN)/decred-study run search_spaces/demo.yaml

test: check  ## format, lint, types and the test suite
	$(BIN)/pytest -n 2

slow: $(INSTALLED)  ## the tests that take most of a minute each
	$(BIN)/pytest -n 2 -m slow

cluster-test: $(INSTALLED)  ## clusters of three hosts in network namespaces, as root, and clusters that change; most of an hour
	$(BIN)/pytest -m cluster tests/end_to_end

image-test: $(INSTALLED)  ## run the instructions of the Dockerfiles in an overlay of this system, as root
	$(BIN)/pytest -m images tests/cluster/images

chaos: $(INSTALLED)  ## kill, starve and hang studies in every way they claim to survive; most of an hour
	$(BIN)/pytest -m chaos tests

chaos-random: $(INSTALLED)  ## random faults in every combination: SEEDS=1-200, a minute or two each; seeds that passed are left out
	CHAOS_SEEDS='$(or $(SEEDS),1-20)' CHAOS_ACTIONS='$(ACTIONS)' $(BIN)/pytest -n 0 -m chaos tests/chaos/test_random_faults.py

benchmark: $(INSTALLED)  ## the tables of RESULTS.md: speed beside the machine's matmul rate, learning curves, studies of 2,000 trials
	$(BIN)/pytest tests/benchmarks -m '' --benchmark-enable --benchmark-columns=median,min,max,rounds

test-gpu: $(INSTALLED)  ## what GPUs compute, beside this processor, on a machine that has one; ten minutes
	$(BIN)/pytest -n 0 -m gpu tests/gpu

benchmark-gpu: $(INSTALLED)  ## the GPU's tables of RESULTS.md; ten minutes
	PYTHONPATH=.:tests $(BIN)/python -m benchmarks.gpu

docs: $(INSTALLED)  ## rewrite the generated pages of the documentation
	$(BIN)/python tests/reference_pages.py

check: $(INSTALLED)  ## format, lint and types alone
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

wheel-check: $(INSTALLED)  ## build the wheel, install it without the checkout, run its commands
	bash .ci/wheel-check $(BIN)/python

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1), but must be Python 3.11 or newer; use make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[demo,s3,onnx,test]'
	touch $(INSTALLED)

clean:  ## remove what the targets made: environment, demo corpus and study
	rm -rf $(VENV) corpora/demo studies/demo
