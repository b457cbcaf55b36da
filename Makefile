# crossvec: `make demo` and `make test` do everything on a fresh machine with Python 3.11+, make and git.
PYTHON ?= python3
VENV   ?= .venv
DATA   ?= ../shared/data/wiki
SUITE  ?= wiki
CORES  ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# A file's tests share what its fixtures make, so they stay with one worker.
TESTS := $(BIN)/python -m pytest -n $(CORES) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test fast check format bench docs fuzz sbom vulnerabilities clean

help: ## list what make can do
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## install crossvec for development into .venv

demo: $(VENV)/.demo ## install, then fit and score the packaged sample without pairs
	$(BIN)/crossvec demo

test: check ## install, check, and run every test
	$(TESTS)

fast: $(VENV)/.dev ## run the tests that are not marked slow
	$(TESTS) -m "not slow"

check: $(VENV)/.dev ## format, lint and types, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev ## write the format and the lint fixes that are safe
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## run benchmark SUITE on the vectors in DATA, then draw the tables
	$(BIN)/python benchmarks/run.py $(SUITE) --data $(DATA)
	$(BIN)/python benchmarks/render.py

docs: $(VENV)/.dev ## build the documentation into build/docs, offline, every warning an error
	$(BIN)/python -m sphinx -W --keep-going -E -q -b html -d build/doctrees docs build/docs
	@echo 'Open build/docs/index.html'

fuzz: $(VENV)/.dev ## give every parser of files 100,000 damaged ones, for hours; records in benchmarks/results/fuzz
	$(BIN)/python fuzz/run.py --inputs 100000 --results benchmarks/results/fuzz

sbom: $(VENV)/.dev ## write what is installed, and its licences, into build/sbom.cdx.json (CycloneDX)
	@mkdir -p build
	$(BIN)/python -m cyclonedx_py environment --no-validate --output-reproducible --of JSON -o build/sbom.cdx.json $(BIN)/python
	@echo 'Written: build/sbom.cdx.json'

vulnerabilities: $(VENV)/.dev ## ask PyPI or OSV for known vulnerabilities; exit code 4 when they could not be asked
	$(BIN)/python scripts/audit_dependencies.py

clean: ## remove the environment, caches and build output
	rm -rf $(VENV) build dist crossvec-demo .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two threads on two busy cores spend their time waiting for each other; tests are many small products.
test fast: export OMP_NUM_THREADS ?= 1

# A stamp is newer than the files that decide what is installed, so a second `make` installs nothing.
$(VENV)/.demo: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "crossvec needs Python 3.11 or newer: try  make PYTHON=python3.12 $(or $(MAKECMDGOALS),demo)")'
	@echo 'Installing into $(VENV): a minute or a few, most of it torch.'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -e '.[plot]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo 'Installing the tools of development.'
	@$(PIP) -e '.[dev]'
	@touch $@
