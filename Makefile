# make quickstart   set up, train and evaluate Mask R-CNN with AttNet on generated data
# make test         set up, lint and run the whole test suite
# make setup        set up .venv only
# PYTHON=/your/python uses that interpreter as it is and installs nothing.

SHELL := /bin/bash
ifdef PYTHON
SETUP := true
else
SETUP := bash tools/setup_env.sh
PYTHON := $(CURDIR)/.venv/bin/python
endif
export PYTHON
# Tests run in up to four processes of one thread each; a whole file stays in one process.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
.PHONY: setup quickstart test lint clean-quickstart

setup:
	@$(SETUP)

quickstart: setup
	@bash tools/quickstart.sh

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile
