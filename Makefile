# Everything a newcomer, a developer and CI type. `make help` lists the targets.
#   PY=python3.12          the Python the environment is made with (3.11 or newer)
#   TORCH_INDEX=URL        a package index for torch, e.g. PyTorch's own of CPU builds (default: pip's settings)
#   ARGS="..."             handed on to the command, as in: make sweep ARGS=--resume   make test ARGS="-k flops"

PY ?= python3
TORCH_INDEX ?=
ARGS ?=

BIN := .venv/bin
# What the demo's trials are fine-tuned from; it is in the repository.
BASE := dpn_model/assets/tiny-llava
# The checkout's path is part of the name: an environment does not survive being moved.
STAMP := .venv/.ready-$(shell printf '%s' '$(CURDIR)' | cksum | cut -d' ' -f1)
# pip would otherwise take the newest torch and gigabytes of CUDA libraries with it.
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup up down status doctor sweep base test lint types arch format check bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv with everything in it; does nothing when that is done

$(STAMP): pyproject.toml
	@command -v $(PY) >/dev/null || { \
	  echo "make: no program '$(PY)'; Python 3.11 or newer is needed: make setup PY=/path/to/python3" >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: Python 3.11 or newer is needed, '$(PY)' is $$($(PY) -V 2>&1); name another one: make setup PY=python3.12" >&2; exit 1; }
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PY)' comes without venv; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@if ! grep -qsF '$(CURDIR)/.venv/' $(BIN)/pip; then echo "setup: making .venv"; $(PY) -m venv --clear .venv; fi
	@echo "setup: 1 of 2, installing $(TORCH)"
	@$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@echo "setup: 2 of 2, installing dpn-lab and what it needs (a few minutes the first time)"
	@DS_BUILD_OPS=0 $(PIP) install -q -e ".[dev]"
	@rm -f .venv/.ready-*
	@touch $@
	@echo "setup: done"

up: setup ## start the services (S3, MLflow, Ray) on loopback, or mend them
	@$(BIN)/dpn up $(ARGS)

down: ## stop the services; their data and logs stay
	@if [ -x $(BIN)/dpn ]; then $(BIN)/dpn down $(ARGS); else echo "nothing was running"; fi

status: setup ## show how the services are
	@$(BIN)/dpn status $(ARGS)

doctor: setup ## look at everything the platform needs
	@$(BIN)/dpn doctor $(ARGS)

sweep: setup ## the main job: a study of the demo and its Pareto front
	@$(BIN)/dpn up
	@$(BIN)/dpn sweep jobs/configs/demo-sweep.yaml $(ARGS)

base: setup ## train the shipped base model again (about 25 minutes on 2 cores)
	@$(BIN)/dpn up
	@$(BIN)/python jobs/make_base.py --folder $(BASE) $(ARGS)

test: setup ## run the tests
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: setup ## check types
	@$(BIN)/mypy

arch: setup ## check who imports whom, file sizes, the tree
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q tests/architecture

format: setup ## put the code into the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

check: lint types arch test ## everything CI asks for

bench: setup ## measure speed
	@$(BIN)/pytest -q -s tests/benchmarks/bench_*.py $(ARGS)

clean: ## remove caches; the environment, the services' state and your outputs stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
