# make demo    try it: a simulated DeepSeek and the real server, no key needed
# make test    all checks: lint, types, tests
# make bench   the measurements
# make clean   take away what these made

PYTHON ?= python3
BIN := .venv/bin
BIND ?= 127.0.0.1:8000

.PHONY: demo test lint types tests bench clean

demo: .venv/runtime
	$(BIN)/chatproxy demo --bind $(BIND)

test: lint types tests

lint: .venv/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/dev
	$(BIN)/mypy

tests: .venv/dev
	$(BIN)/pytest

bench: .venv/dev
	$(BIN)/python -m benchmarks.stop

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info

.venv/bin/pip:
	$(PYTHON) -m venv .venv

# The empty files say that what is named has been installed.
.venv/runtime: .venv/bin/pip requirements.txt setup.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
