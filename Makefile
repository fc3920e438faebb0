# Every target makes .venv by itself when it is missing or older than what it was made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-data torture bench lint format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	@# setuptools warns of every editable install; a newcomer need not wonder about it.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[dev]'
	@# mypy knows our modules by their installed names through this link.
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/frozen_vqa
	@touch $@

install: $(STAMP)  ## Make .venv with everything, at the versions that were tested

demo: $(STAMP)  ## Run the whole pipeline on generated scenes: about 2 minutes on 2 CPU cores
	$(BIN)/frozen-vqa demo --out demo

test: $(STAMP) lint  ## Check style, types and imports, and run the default test suite
	$(BIN)/python -m pytest

test-data: $(STAMP)  ## Run the tests that take long or need ../shared/data (or FROZEN_VQA_DATA)
	$(BIN)/python -m pytest -m 'slow or data'

torture: $(STAMP)  ## Kills, full disks and flipped bits against the cache: about 20 minutes
	$(BIN)/python -m benchmarks.torture --kills 200 --full-disk --flips 2000

bench: $(STAMP)  ## Install what we are compared with, run the comparisons: about an hour
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@# It asks for older packages than ours, and works with these; so pip may say that they differ.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
		mosaicml-streaming catalogue
	mkdir -p build
	$(BIN)/python -m benchmarks.loader --rounds 3 --out build/loader.json
	$(BIN)/python -m benchmarks.step --rounds 3 --seconds 5 --out build/step.json
	$(BIN)/python -m benchmarks.sweep --out build/sweep.json
	$(BIN)/python -m benchmarks.end_to_end --out build/pipeline.json
	$(BIN)/python -m benchmarks.end_to_end.memory --out build/memory.json

lint: $(STAMP)  ## ruff (format and lint) and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)  ## Let ruff format and mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove .venv and everything that the targets made
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
