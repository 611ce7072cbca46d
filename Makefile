# make quickstart   set up, train and evaluate Mask R-CNN with AttNet on generated data
# make lint         set up and run ruff
# make test         set up, lint and run the whole test suite
# make soak         the tests that take minutes each
# make setup        set up .venv only
# make test-upstream   set up .venv-upstream (original OpenMMLab packages, torch 2.1) and run the core of the suite in it
# make gpu-kit     what a machine with a GPU and without a network needs to run tools/gpu_check.py, in build/gpu-kit
# PYTHON=/your/python uses that interpreter as it is and installs nothing.

SHELL := /bin/bash
ifdef PYTHON
SETUP := true
else
SETUP := bash tools/setup_env.sh
PYTHON := $(CURDIR)/.venv/bin/python
endif
export PYTHON
# Tests run in up to four processes of one thread each; one that is idle takes tests from another.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
# What test-upstream runs: operator, layers, backbones, every config, checkpoints, training and evaluation by the tools.
CORE := tests/test_ops tests/test_layers tests/test_backbones tests/test_configs.py tests/test_imagenet_configs.py \
	tests/test_checkpoint tests/test_tools/test_train_test.py

.PHONY: help setup quickstart lint test soak test-upstream gpu-kit

help:
	@sed -n 's/^# make/make/p; s/^# PYTHON/PYTHON/p' Makefile

setup:
	@$(SETUP)

quickstart: setup
	@bash tools/quickstart.sh

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal

soak: setup
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest -m soak -rP

test-upstream: PYTHON := $(CURDIR)/.venv-upstream/bin/python
test-upstream:
	@bash tools/setup_env.sh upstream
	CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PYTHON) -m pytest -n $(WORKERS) --dist worksteal \
		-m 'not newer_torch' $(CORE)

gpu-kit: setup
	@bash tools/gpu_kit.sh
