# `make demo` builds the shipped model for tflite-arm; `make test` runs the whole suite. Both make their own environment.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-settings lint setup clean

$(READY): constraints.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

setup: $(READY)

demo: $(READY)
	$(BIN)/edgeq build --target tflite-arm

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(BIN)/deptry edgeq

test: lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

# The whole suite once for each setting that could change results: instruction sets, threads, one core, a busy machine.
test-settings: $(READY)
	$(BIN)/python benchmarks/settings.py -n 2

clean:
	rm -rf $(VENV) build
