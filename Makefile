# Every target does all its own set-up: a virtual environment in .venv, and the package with its development tools in it.
#   make demo                          draw the data, train, compare, and leave a picture and a page
#   make test                          the quick tests
#   make setup PYTHON=python3.12       choose the interpreter (3.10 to 3.13)
#   make setup PIP_ARGS=…              options for pip, for example another index
#   make fuzz, make faults             the reliability campaign: hours; see docs/explanation/reliability.md
#   make test-lowest                   the quick tests on Python 3.10 with the oldest dependencies; needs uv

PYTHON ?= $(shell for name in python3 python3.13 python3.12 python3.11 python3.10 python; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$name && break; done)
VENV ?= .venv
RUN := $(VENV)/bin/python -m
PIP_ARGS ?=
INSTALLED := $(VENV)/.polyscale-installed
# A file's tests run in one process, so that what they share is made once.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile -q

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-lowest fuzz faults check format bench parity dry-run docs

help:
	@echo "make setup | demo | test | test-all | test-lowest | fuzz | faults | check | format | bench | parity | dry-run | docs"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || { \
		echo "error: Python 3.10 or newer is needed; name one with: make setup PYTHON=python3.12" >&2; exit 2; }
	@$(RUN) pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
		echo "error: $(PYTHON) cannot make a virtual environment; install its venv module (on Debian and Ubuntu: the" \
			"package python3-venv), or name another interpreter with: make setup PYTHON=..." >&2; exit 2; }
	@echo "Installing into $(VENV). On Linux, PyTorch with CUDA is about 3 GB. Its build for CPUs is about 200 MB:" \
		"README.md says how PIP_ARGS chooses it."
	$(RUN) pip install $(PIP_ARGS) -e ".[dev,lite]"
	@touch $@

demo: setup
	$(RUN) polyscale demo

test: setup
	$(PYTEST) -m "not slow and not gpu"

# Status 5 of pytest means that no test was chosen.
test-all: test
	$(PYTEST) -m "slow and not gpu" || [ $$? -eq 5 ]

# The lowest version of each dependency that pyproject.toml allows, on the oldest Python. uv fetches both.
LOWEST ?= .venv-lowest
test-lowest:
	@command -v uv >/dev/null || { echo "error: make test-lowest needs uv (pip install uv)" >&2; exit 2; }
	uv venv --quiet --allow-existing --python 3.10 $(LOWEST)
	uv pip install --quiet --python $(LOWEST) --resolution lowest-direct $(UV_ARGS) -e ".[dev,lite]"
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -n 2 -q -m "not slow and not gpu"

# Options: FUZZ="--each 50 --kinds COCO", FAULTS="--only disk --commands train"; the defaults are recorded and shown in the docs.
FUZZ ?= --record
FAULTS ?= --record
CAMPAIGN := PYTHONPATH=benchmarks OMP_NUM_THREADS=1 $(RUN)
fuzz: setup
	$(CAMPAIGN) campaign.fuzz $(FUZZ)
	$(CAMPAIGN) campaign.table

faults: setup
	$(CAMPAIGN) campaign.faults $(FAULTS)
	$(CAMPAIGN) campaign.table

check: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python docs/generate.py --check

format: setup
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

# Speed on a CPU; benchmarks/README.md says how to run the others.
BENCH := nice -n 5 $(VENV)/bin/python benchmarks
bench: setup
	$(BENCH)/training_flops.py
	$(BENCH)/drawing_speed.py
	$(BENCH)/rmi_speed.py --repeats 7
	$(BENCH)/confusion_speed.py
	$(BENCH)/pictures_speed.py
	$(BENCH)/loader_speed.py
	$(BENCH)/inference_speed.py --rounds 1 --repeats 1
	$(BENCH)/step_speed.py --rounds 1 --repeats 1
	$(BENCH)/against_others.py --rounds 1 --repeats 1
	$(BENCH)/growth.py --megapixels 0.25 1 4

# Compare with stored outputs of the authors' implementation: make parity GOLDEN=DIR
parity:
	@test -n "$(GOLDEN)" || { echo "error: name the folder of stored cases: make parity GOLDEN=DIR" >&2; exit 2; }
	@$(MAKE) --no-print-directory setup
	@$(VENV)/bin/python benchmarks/parity.py "$(GOLDEN)"

# Builds every recipe's network and trains it for one step; minutes, as HRNet-W48 and WideResNet-38 are among them.
dry-run: setup
	OMP_NUM_THREADS=1 $(VENV)/bin/python benchmarks/dry_run.py $(CONFIGS)

# The reference from the code, then the whole documentation as a site in site/.
docs: setup
	$(VENV)/bin/python docs/generate.py
	@$(RUN) mkdocs --version >/dev/null 2>&1 || $(RUN) pip install --quiet $(PIP_ARGS) -e ".[docs]"
	$(RUN) mkdocs build --strict --quiet
	@echo "site/index.html"
