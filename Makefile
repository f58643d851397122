# Everything a newcomer, a developer and CI type. `make help` lists the targets.
#   PY=python3.12          the Python the environment is made with (3.11 to 3.13)
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
# Which build of it (CPU, CUDA) is yours to choose, so the lock leaves it out.
TORCH := torch==2.13.0
LOCK := platform/dpn_platform/requirements.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check
# What the lock does not name is not installed; setuptools, which builds, is the locked one too.
FROM_LOCK := --no-deps --no-build-isolation --use-pep517

.DEFAULT_GOAL := help
.PHONY: help setup up down status doctor sweep rivals chatrex base chatrex-base test test-long lint types arch format check bench lock compat clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make .venv with everything in it; does nothing when that is done

$(STAMP): pyproject.toml $(LOCK)
	@command -v $(PY) >/dev/null || { \
	  echo "make: no program '$(PY)'; Python 3.11 to 3.13 is needed: make setup PY=/path/to/python3" >&2; exit 1; }
	@$(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  echo "make: Python 3.11 to 3.13 is needed, '$(PY)' is $$($(PY) -V 2>&1); name another one: make setup PY=python3.12" >&2; exit 1; }
	@$(PY) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PY)' comes without venv; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@if ! grep -qsF '$(CURDIR)/.venv/' $(BIN)/pip; then echo "setup: making .venv"; $(PY) -m venv --clear .venv; fi
	@echo "setup: 1 of 2, installing the packages of $(LOCK) (a few minutes the first time)"
	@$(PIP) install -q -c $(LOCK) setuptools
	@DS_BUILD_OPS=0 $(PIP) install -q $(FROM_LOCK) -r $(LOCK)
	@echo "setup: 2 of 2, installing $(TORCH) and dpn-lab"
	@$(PIP) install -q -c $(LOCK) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	@$(PIP) install -q $(FROM_LOCK) -e .
	@if $(PIP) check | grep '^dpn-lab ' >&2; then \
	  echo "make: this is not what pyproject.toml asks for; if it was changed, renew $(LOCK): make lock" >&2; exit 1; fi
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

rivals: setup ## every method on one front (about an hour; ARGS=--resume continues)
	@$(BIN)/dpn up
	@$(BIN)/dpn sweep jobs/configs/demo-rivals.yaml $(ARGS)

chatrex: setup ## detection by numbers of boxes, and its Pareto front
	@$(BIN)/dpn up
	@$(BIN)/dpn sweep jobs/configs/demo-chatrex.yaml $(ARGS)

base: setup ## train the shipped base model again (about 25 minutes on 2 cores)
	@$(BIN)/dpn up
	@$(BIN)/python jobs/make_base.py --folder $(BASE) $(ARGS)

chatrex-base: setup ## train the shipped tiny ChatRex again (about an hour on 2 cores)
	@$(BIN)/dpn up
	@$(BIN)/python jobs/make_base.py --kind detection --config jobs/configs/tiny-chatrex.yaml --folder dpn_model/assets/tiny-chatrex --name tiny-chatrex $(ARGS)

test: setup ## run the tests
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-long: setup ## run the longer proofs that `make test` leaves out
	@$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m long $(ARGS)

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

lock: ## renew the locked versions, within the ranges of pyproject.toml
	@$(PY) tests/versions/make_lock.py $(ARGS)

compat: ## run the model's tests with the oldest and the newest torch and transformers
	@$(PY) tests/versions/compat.py $(ARGS)

clean: ## remove caches; the environment, the services' state and your outputs stay
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
