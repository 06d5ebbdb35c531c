# Every target sets up .venv on a fresh machine by itself; python3 (3.11 to 3.13) and pip are all it needs.
#
#   make demo    the bundled model: capture, analyse, report            (OUT=demo)
#   make reproduce  the paper's experiments, small                      (OUT=reproduction)
#   make test    the test suite                                         (ARGS="tests/store -x")
#   make check   ruff, pyright, import-linter
#   make docs    the documentation: its notebooks run, warnings are errors, the report of OUT goes along (docs/_build/html)
#   make wheel   what pip installs, into dist/, and its size
#   make bench   every benchmark, figures into benchmarks/results/      (ARGS=--quick)

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# pip installs without compiling (a third of its time); each module is compiled when it is first imported instead,
# which this variable, set on some build machines, would undo at every start.
unexport PYTHONDONTWRITEBYTECODE

# As the command line sets it: threads that wait by spinning take the core from those they wait for as soon as anything
# else runs. Ten steps of tinywan took 15 to 67 s on a busy two-core machine, and 4 to 9 s with threads that sleep.
export OMP_WAIT_POLICY ?= PASSIVE
# Pyright's wrapper would otherwise ask the network whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help venv demo reproduce test check docs wheel bench clean

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"stepscope needs Python 3.11 to 3.13, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV), once, in a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --no-input --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP)
	@$(BIN)/stepscope demo --out $(OUT) $(ARGS)

reproduce: OUT = reproduction
reproduce: $(STAMP)
	@$(BIN)/stepscope reproduce --quick --out $(OUT) $(ARGS)

test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadscope $(ARGS)

check: $(STAMP)
	@failed=0; \
	$(BIN)/ruff check . || failed=1; \
	$(BIN)/ruff format --check . || failed=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python || failed=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python --project pyright-basic.json || failed=1; \
	$(BIN)/lint-imports --no-logo --no-cache || failed=1; \
	exit $$failed

docs: $(STAMP)
	@DEMO_REPORT=$(abspath $(OUT))/report.html $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

wheel: $(STAMP)
	@rm -f dist/stepscope-*.whl
	@$(BIN)/python -m pip wheel -qq --no-deps --disable-pip-version-check -w dist .
	@wc -c dist/stepscope-*.whl | awk '{ printf "%s  %.1f MB\n", $$2, $$1 / 1e6 }'

bench: $(STAMP)
	@mkdir -p benchmarks/results
	@set -e; for script in benchmarks/[!_]*.py; do \
		$(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json $(ARGS); done

clean:
	rm -rf $(VENV) docs/_build build dist .pytest_cache .ruff_cache .import_linter_cache
