# hotrow: `make` alone lists what can be made. Nothing needs to be installed but Python 3.11 or newer and make.
#
# PYTHON=python3.13 chooses the Python that .venv is made with. pip's own settings are honoured, such as
# PIP_EXTRA_INDEX_URL and PIP_CONSTRAINT (which comes on top of constraints.txt). See CONTRIBUTING.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# The first of these that is new enough and that Numba has wheels for.
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
CANDIDATES := python3 python3.14 python3.13 python3.12 python3.11
PYTHON ?= $(firstword $(foreach p,$(CANDIDATES),$(shell $(p) -c '$(SUITABLE)' >/dev/null 2>&1 && echo $(p))))

# Numba's cache knows neither whether bounds are checked nor that what kernels are made of has changed: so the tests keep
# machine code of their own, one folder a mode, and drop it when one of those files changes.
MACHINE_CODE := build/numba

# What the last wheel of TensorFlow Recommenders Addons runs in: see benchmarks/tfra.txt.
TFRA := build/tfra

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

# Tests share the processors among this many processes; WORKERS= runs them in one. Each begins with a stretch of files of its
# own, so that what a file imports and trains is mostly imported and trained once, and takes from another's at the end.
WORKERS := -n auto --maxprocesses 4 --dist worksteal

# What took longest is told at the end of each run. One that takes more than ten seconds is to be `long`: see CONTRIBUTING.md.
SLOWEST := --durations=12 --durations-min=5

# What comes out the same whichever way kernels run: once is enough.
ONCE := $(foreach name,\
    house docs ops crashes disk faults killed model_crashes hostile checkpoint torch_snapshots jax_examples torch_example \
    benchmarks explain readers folders search_cli search_kept search_metadata search_recall maps maps_page \
    forgetting_derived export export_atlas export_lookups import import_export import_gensim card page page_routes \
    serve serve_following serve_hostile serve_program serve_soak sharded sharded_saves sharded_crashes,--ignore=tests/test_$(name).py) \
    --ignore-glob='tests/test_cluster*.py'

# What lets a table do what tests of tables do, and calls no kernel by itself: programs, measurements, what is made of models.
# Whether an index leaves its array depends on none of it.
ABOVE := $(foreach name,\
    bench charts classify cli cli_features debian_packages format machine_code measured memory metrics quality ratings reading \
    report times torch_data tuning,--ignore=tests/test_$(name).py)

# What goes through every line of the kernels, for kernels as plain Python are slow: a file of kernels is seen by these. `make
# coverage` fails where lines are left; whether what comes out is right, the compiled and the bounds-checked run say for all.
SEEN := $(foreach name,\
    arrays bag_codes codes collisions conformance decimals deltas determinism evaluation fingerprint forgetting ids index \
    optimizers pooling ranking saving search snapshot stage strings table texts threads views,tests/test_$(name).py)

# The backends of hotrow.keras, each in processes of its own.
BACKENDS := tensorflow jax torch

# What `make test` runs, in this order.
PHASES := lint compiled interpreted keras coverage bounds

.PHONY: help demo test test-long lint compiled interpreted keras coverage bounds bench bench-tfra clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

demo: $(VENV)/.core ## train on the Debian package pairs that come with hotrow; show metrics and neighbours
	$(BIN)/hotrow train --out demo-model
	$(BIN)/hotrow similar demo-model python3-numpy
	@echo
	@echo "To see all of them on a map: $(BIN)/hotrow serve demo-model, and a browser at http://127.0.0.1:8000/"

test: ## lint, then the tests: compiled, interpreted, in Keras, with bounds checked; the time of each at the end
	@times='Time of each phase'; trap 'printf "\n%s\n" "$$times"' EXIT; \
	add() { times+=$$'\n'"$$(printf '  %-12s %3d min %02d s%s' "$$1" $$(($$2 / 60)) $$(($$2 % 60)) "$${3:-}")"; }; \
	for phase in $(PHASES); do \
	    begun=$$SECONDS; how=; $(MAKE) --no-print-directory $$phase || how=', failed'; \
	    add $$phase $$((SECONDS - begun)) "$$how"; [[ -z $$how ]] || exit 1; done; \
	add all $$SECONDS

test-long: $(VENV)/.dev $(MACHINE_CODE)/.fresh ## every test, also those that take minutes, with many more examples
	NUMBA_CACHE_DIR="$$PWD/$(MACHINE_CODE)/compiled" $(BIN)/python -m pytest $(WORKERS) -m "long or not long" --hypothesis-profile=long
	for backend in $(BACKENDS); do \
	    KERAS_BACKEND=$$backend NUMBA_CACHE_DIR="$$PWD/$(MACHINE_CODE)/compiled" \
	        $(BIN)/python -m pytest $(WORKERS) tests/in_keras -m "long or not long"; done

lint: $(VENV)/.dev ## style, types and the rooms' walls
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

compiled: $(VENV)/.dev $(MACHINE_CODE)/.fresh ## the tests as users run the code
	rm -f .coverage .coverage.*
	NUMBA_CACHE_DIR="$$PWD/$(MACHINE_CODE)/compiled" $(BIN)/coverage run -m pytest $(WORKERS) $(SLOWEST)

interpreted: $(VENV)/.dev ## the tests with kernels as plain Python, where coverage sees them
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run -m pytest $(WORKERS) $(SLOWEST) $(SEEN)

keras: $(VENV)/.dev $(MACHINE_CODE)/.fresh ## the tests of hotrow.keras, on each of its backends
	for backend in $(BACKENDS); do echo "Keras on $$backend"; \
	    KERAS_BACKEND=$$backend NUMBA_CACHE_DIR="$$PWD/$(MACHINE_CODE)/compiled" \
	        $(BIN)/coverage run -m pytest $(WORKERS) $(SLOWEST) tests/in_keras; done

coverage: $(VENV)/.dev ## how much of the code those before it have run
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include='*/hotrow/kernels/*' --precision=1 --fail-under=96

bounds: $(VENV)/.dev $(MACHINE_CODE)/.fresh ## the tests with every index into an array checked
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR="$$PWD/$(MACHINE_CODE)/bounds" $(BIN)/python -m pytest $(WORKERS) $(SLOWEST) $(ONCE) $(ABOVE)

bench: $(VENV)/.bench ## measure beside the peers, torch, FBGEMM and Keras; BENCH="step --rounds 3" passes arguments on
	$(BIN)/python -m benchmarks $(BENCH)

bench-tfra: $(TFRA)/.ready ## give bench one more peer, TensorFlow Recommenders Addons, in a Python 3.11 of its own

clean: ## remove all that was made here but .venv
	rm -rf __pycache__ build dist demo-model htmlcov .coverage .coverage.* .hypothesis .import_linter_cache .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# --- .venv -----------------------------------------------------------------------------------------------------------

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hotrow and its server into $(VENV): once, about a minute"
	$(PIP_INSTALL) -e '.[serve]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hotrow, and what its tests need, into $(VENV): once, some minutes"
	$(PIP_INSTALL) -e '.[dev]'
	@touch $(VENV)/.core $@

# FBGEMM's wheel asks for packages that looking up and training don't use, so it comes without them.
$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing hotrow and the peers it is measured with into $(VENV): once, some minutes"
	$(PIP_INSTALL) -e '.[bench]'
	$(PIP_INSTALL) --no-deps fbgemm-gpu-cpu
	@touch $(VENV)/.core $@

$(TFRA)/.ready: benchmarks/tfra.txt
	@echo "Installing TensorFlow Recommenders Addons into $(TFRA): once, some minutes"
	python3.11 -m venv --clear $(TFRA)
	$(TFRA)/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/tfra.txt
	@touch $@

$(BIN)/python:
	@$(or $(PYTHON),false) -c '$(SUITABLE)' || { \
	    echo 'hotrow needs Python 3.11 to 3.14; $(if $(PYTHON),$(PYTHON) is not that,none of $(CANDIDATES) is).' >&2; \
	    echo 'Install one, or say where it is: make PYTHON=/path/to/python3 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo 'No virtual environment can be made. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }

$(MACHINE_CODE)/.fresh: src/hotrow/kernels/__init__.py src/hotrow/kernels/simd.py
	@rm -rf $(MACHINE_CODE) && mkdir -p $(MACHINE_CODE) && touch $@
