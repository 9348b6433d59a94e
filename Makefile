# The environment is made once in $(VENV), with the tested versions, and again when the project file or they change.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

# JOBS test processes share the processor: torch and NumPy with one thread each, or they wait for each other.
ONE_THREAD := OMP_NUM_THREADS=1
# Tests compile far more than they compute: optimisation costs more than it saves, and so do XLA's fusion emitters (half
# of the time of compiling) and the splitting of a program's code over threads. With its concurrent scheduler jaxlib
# 0.10.2 can lose a step of a loop whose steps have parts that run side by side, and wait for it for ever.
UNOPTIMISED := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 --xla_cpu_enable_concurrency_optimized_scheduler=false"
TUTORIALS := $(wildcard tutorials/*.py)

.NOTPARALLEL:
.PHONY: help run test lint types check bench tutorials format clean

help:
	@echo "make run        fit, impute and evaluate a VAE on handwritten digits: runs/vae-digits/report.html"
	@echo "make test       lint, types, tests, and the examples of the README and the docstrings"
	@echo "make bench      measure the speed"
	@echo "make tutorials  run the tutorials: a notebook with its outputs beside each"
	@echo "make format     let ruff put the source in order"
	@echo "make clean      remove $(VENV), caches and builds"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e ".[numpyro,pyro]"
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(INSTALL) -e ".[numpyro,pyro,test]"
	@touch $@

$(VENV)/.docs: $(VENV)/.run
	$(INSTALL) -e ".[numpyro,pyro,docs]"
	@touch $@

run: $(VENV)/.run
	$(BIN)/deepgen run vae digits

test: lint types check

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.test
	$(BIN)/mypy

check: $(VENV)/.test
	$(ONE_THREAD) $(UNOPTIMISED) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed

tutorials: $(VENV)/.docs
	set -e; for tutorial in $(TUTORIALS:.py=); do \
		echo "$$tutorial.ipynb"; \
		$(BIN)/jupytext --quiet --set-kernel python3 --to ipynb --output "$$tutorial.ipynb" "$$tutorial.py"; \
		PYTHONWARNINGS="ignore:IProgress not found" $(ONE_THREAD) \
		$(BIN)/jupyter-execute --inplace --timeout=-1 "$$tutorial.ipynb"; \
	done

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
