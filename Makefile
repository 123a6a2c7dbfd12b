# The verbs that CI calls too. `make test PYTHON=python` uses the environment that is active.
PYTHON ?= .venv/bin/python
PYTEST = $(PYTHON) -m pytest -n 2 --dist loadfile

.PHONY: check test test-wide test-all docs bench

check: # what pre-commit runs
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m basedpyright --pythonpath "$$($(PYTHON) -c 'import sys; print(sys.executable)')"

test: # minutes
	$(PYTEST)

test-wide: # what `test` leaves out, but for tests that need an accelerator
	$(PYTEST) -m "(slow or distributed or faults or browser) and not gpu"

test-all: test test-wide

docs: # every example in the README and in the docstrings runs
	$(PYTEST) tests/contracts/test_readme.py tfrecipes

bench: # each prints its table and writes the JSON that the docs include
	set -e; for claim in benchmarks/[a-z]*.py; do $(PYTHON) "$$claim"; done
	$(PYTHON) docs/write_results.py
