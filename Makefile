# Each target is the first thing you may type on a fresh machine that has Python ≥ 3.11, pip and make.
#
#   make figures                            every figure and table on the embedded digits, in minutes
#   make figures PROFILE=full DEVICE=cuda   the papers' own protocol, on a GPU
#   make book                               the book: every notebook and more, to read in a browser
#   make test                               style, types, unit tests, every notebook, the book
#   make lab                                open the notebooks in JupyterLab
#   make slides                             the notebooks as slides, in slides/
#   make dist                               wheel and source distribution, checked, in dist/
#   make bench                              measure speed and memory beside other libraries
#
# More: ONLY="01 03" for some notebooks (ONLY=desom for one benchmark), SEEDS=10, OUTPUT=folder,
# JOBS=2 for two notebooks at the same time, PYTHON=python3.12 for another Python.

PYTHON  ?= python3
PROFILE ?= quick
DEVICE  ?= auto
VENV    := .venv
BIN     := $(VENV)/bin
# Programs are started as modules: a script names its interpreter by a path, which may hold spaces.
RUN     := $(BIN)/python -m somlib reproduce --profile $(PROFILE) --device $(DEVICE) \
           $(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) \
           $(if $(OUTPUT),--output "$(OUTPUT)")

.PHONY: figures book test lab slides dist bench lint format clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^#  \{0,1\}//p' Makefile

figures: $(VENV)/ready-main
	$(RUN)

# Reads what `make figures` has made, and runs what it has not.
book: $(VENV)/ready-book
	$(BIN)/python -m somlib book --profile $(PROFILE) $(if $(OUTPUT),--output "$(OUTPUT)")

# Many processes of one thread each, a file of tests in one of them, because what a fixture makes is
# shared within a file; then the notebooks, which have the machine to themselves, and their book.
test: $(VENV)/ready-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/test_notebooks.py \
	  --ignore tests/test_book_pages.py
	$(BIN)/python -m pytest tests/test_notebooks.py tests/test_book_pages.py

lint: $(VENV)/ready-test
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m nbqa mypy notebooks --allow-untyped-defs --allow-untyped-calls --allow-incomplete-defs \
	  --allow-redefinition-new --local-partial-types --no-warn-unused-ignores

format: $(VENV)/ready-test
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Jupyter wants to write into the home, and root, as one is in a container, to say that it knows.
lab: $(VENV)/ready-main
	test -d "$$HOME" && test -w "$$HOME" || { mkdir -p runs/home; export HOME="$$PWD/runs/home"; }; \
	  $(BIN)/python -m jupyterlab notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

slides: $(VENV)/ready-slides
	$(RUN)
	$(BIN)/python -m somlib slides --profile $(PROFILE) $(if $(ONLY),--only $(ONLY))

# The notebooks run from the installed wheel, in a folder of its own, not from this one.
dist: $(VENV)/ready-dist
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python tests/from_wheel.py dist $(ONLY)

bench: $(VENV)/ready-bench
	set -e; for name in $(or $(ONLY),som search desom soae somrl memory); do $(BIN)/python -m benchmarks.$$name; done

clean:
	rm -rf $(VENV) runs figures/quick book/_build slides handout build dist .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis *.egg-info

# A stamp per set of requirements: nothing is asked of the network once it is there.
$(VENV)/ready-main: EXTRA = [peers]
$(VENV)/ready-book: EXTRA = [peers,book]
$(VENV)/ready-test: EXTRA = [test,book,slides]
$(VENV)/ready-slides: EXTRA = [peers,slides]
$(VENV)/ready-dist: EXTRA = [peers,dist]
$(VENV)/ready-bench: EXTRA = [bench]
$(VENV)/ready-%: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  f"{sys.executable} is Python {v.major}.{v.minor}, but 3.11 or later is needed: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.$(EXTRA)'
	@touch $@
