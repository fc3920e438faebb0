# Each target makes .venv first if it is missing, or older than pyproject.toml or constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-stops docs test-browser test-data torture fuzz mutants bench gpu lint format clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	@# setuptools warns about every editable install, and the warning would only puzzle a newcomer.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[dev]'
	@# Through this link mypy finds our modules under their installed names.
	mkdir -p $(VENV)/src && ln -sfn ../.. $(VENV)/src/frozen_vqa
	@touch $@

install: $(STAMP)  ## Make .venv with the tested versions of all packages

demo: $(STAMP)  ## Run the whole pipeline on generated scenes: about 3 minutes on 2 CPU cores
	$(BIN)/frozen-vqa demo --out demo

# Tests sync a gigabyte of small files, which takes a quarter of their time on a disk.
IN_MEMORY = df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 4000000 {print "/dev/shm"}'
PYTEST = TMPDIR="$${TMPDIR:-$$($(IN_MEMORY))}" $(BIN)/python -m pytest \
	--numprocesses auto --maxprocesses 8 --dist worksteal

test: $(STAMP) lint  ## Check style and types, and run the default test suite
	$(PYTEST)

test-stops: $(STAMP)  ## Stop, kill and fail at every place, and run several processes: two minutes
	$(PYTEST) -m 'stops and not slow'

test-data: $(STAMP)  ## Run the slow tests, and those on real data in FROZEN_VQA_DATA
	$(BIN)/python -m pytest -m 'slow or data'

test-browser: $(STAMP)  ## Open the report and `serve` in Chromium (Debian's chromium, or CHROMIUM=/path)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,browser]' \
		brotli fastapi gradio-client groovy hf-gradio httpx orjson pydub python-multipart pytz safehttpx \
		semantic-version tomlkit uvicorn
	@# Gradio asks for an older pillow than ours but works with it, so pip may print a conflict.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps gradio
	$(BIN)/python -m pytest -m browser

docs: $(STAMP)  ## Build the docs site into build/site; a warning is an error
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	@# Not --quiet, which leaves no warning to be strict about. The variable keeps an advertisement out.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

torture: $(STAMP)  ## Kill processes, fill disks and flip bits of caches and runs: about an hour
	$(BIN)/python -m benchmarks.torture --kills 200 --full-disk --flips 2000 \
		--run-writes 1 --run-flips 2000

MINUTES ?= 60
fuzz: $(STAMP)  ## Mutate every file that we read, for MINUTES=60 minutes
	$(BIN)/python -m benchmarks.fuzz --minutes $(MINUTES)

mutants: $(STAMP)  ## Put small faults into the code; the tests must notice them; takes long
	$(BIN)/python -m benchmarks.mutants --out build/mutants.json

bench: $(STAMP)  ## Install the peers and run all comparisons: about an hour
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'
	@# mosaicml-streaming asks for older packages but works with ours, so pip may print a conflict.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps \
		mosaicml-streaming catalogue
	mkdir -p build
	$(BIN)/python -m benchmarks.loader --rounds 3 --out build/loader.json
	$(BIN)/python -m benchmarks.step --rounds 3 --seconds 5 --out build/step.json
	$(BIN)/python -m benchmarks.sweep --out build/sweep.json
	$(BIN)/python -m benchmarks.end_to_end --out build/end_to_end.json
	$(BIN)/python -m benchmarks.end_to_end.memory --out build/memory.json
	$(BIN)/python -m benchmarks.shards --out build/shards.json

gpu: $(STAMP)  ## Tests and figures of a GPU, in one JSON; without one in miniature
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,nvjpeg]'
	mkdir -p build
	$(BIN)/python -m benchmarks.gpu --out build/gpu.json

lint: $(STAMP)  ## Check style and types with ruff and mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)  ## Let ruff format the code and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove .venv and all files that the targets made
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
