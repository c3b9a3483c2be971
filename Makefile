# The one set-up step of every target: .venv, made once, again when what it is made from changes.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
VENV := .venv
BIN := $(VENV)/bin
STAMP := .venv-stamp
PYTHON ?= python3
# TORCH=cpu: the CPU wheel of torch, for Linux without a GPU (1.9 GB instead of 7).
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)

.DEFAULT_GOAL := help
.PHONY: demo test test-slow lint fix dashboard bench lock pictures tables help

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "taolu needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq --constraint constraints.txt $(INDEX) --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)  ## train, and see what came out
	@$(BIN)/taolu demo

test: $(STAMP)  ## every test but the long ones
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

test-slow: $(STAMP)  ## the long tests; what they print is kept in tests/slow.txt
	$(BIN)/python -m pytest -q -m slow --durations 0 --disable-warnings | tee tests/slow.txt

lint: $(STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: $(STAMP)  ## what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dashboard: $(STAMP)  ## the pages, on http://127.0.0.1:8501
	@$(BIN)/taolu dashboard

bench: $(STAMP)  ## the benchmarks, with their peers
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --requirement benchmarks/requirements.txt
	@for file in benchmarks/*.py; do echo "$$file"; $(BIN)/python $$file || exit 1; done

lock:  ## resolve every dependency anew, test, and write constraints.txt
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install -qq --upgrade pip
	build/lock/bin/python -m pip install -qq $(INDEX) 'torch==2.13.0' --editable '.[dev]'
	build/lock/bin/python -m pytest -q -n 2 --dist loadgroup
	build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt

pictures: $(STAMP)  ## screenshots and results of the README, from a fresh demo store
	rm -rf build/demo && mkdir -p build/demo
	$(BIN)/taolu demo --store build/demo
	$(BIN)/python docs/pictures.py --store build/demo
	$(BIN)/python docs/tables.py --demo build/demo

tables: $(STAMP)  ## the tables of the READMEs and of docs/, from committed figures
	$(BIN)/python docs/tables.py

help:  ## this text
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'
