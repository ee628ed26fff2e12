# Everything sets itself up: a fresh machine needs Python 3.11 or later and make.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo demo-full test test-all test-slow skips legs check docs toolchains axe fresh
help:
	@echo "make demo        the main job at nano size: raw files to a published model, in minutes on two cores"
	@echo "make demo-full   the same with five times the code, five times the training and every benchmark"
	@echo "make test        the fast tests"
	@echo "make test-all    all tests: kills, ranks, compilers, browsers, servers, the pages' commands as well"
	@echo "make test-slow   only those"
	@echo "make skips       whether those runs skipped tests that are not listed in tests/skipped.txt"
	@echo "make legs        the oldest and the newest transformers, and another Python; LEGS=\"5.23.0\" or others"
	@echo "make check       formatting, lint, types, import contracts, dependencies, spelling, model files, doctests"
	@echo "make docs        the site of the documentation in build/site; a warning is an error"
	@echo "make axe         by npm, axe-core, by which a test looks for what keeps people from reading the page"
	@echo "make toolchains  on Debian, system packages without which some tests skip"

setup: $(READY)
$(READY): pyproject.toml constraints.txt requirements-lock.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --requirement requirements-lock.txt
	touch $(READY) $(DEMO_READY)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

# What the demo's stages use, without the tests, the harness, servers and DeepSpeed.
$(DEMO_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[curate,tokenizer,train,align,evaluate,publish]'
	touch $(DEMO_READY)

demo: $(DEMO_READY)
	codeshell run nano

# The same chain with five times the code, five times the training and every benchmark.
demo-full: setup
	codeshell run nano-full
	codeshell rlhf recipes/nano-full/rlhf-gamed.yaml

test: setup
	SKIPPED_TESTS_FILE=.skipped_tests python -m pytest -n 2 --dist loadgroup --durations 20 -m "not slow"

test-all: test test-slow

test-slow: setup
	SKIPPED_TESTS_FILE=.skipped_slow_tests python -m pytest -n 2 --dist loadgroup --durations 20 -m slow

# Of the last runs of tests: those that were skipped and are not listed as such.
skips:
	@unexpected=$$(grep -hv '^#' .skipped_tests .skipped_slow_tests .legs/*/skipped 2>/dev/null | sort -u | \
		grep -Fxv -f tests/skipped.txt || true); \
	[ -z "$$unexpected" ] || { printf 'skipped, but not listed in tests/skipped.txt:\n%s\n' "$$unexpected"; exit 1; }

# Each has its own environment under .legs/.
LEGS ?= oldest newest python
legs: setup
	python -m tests.legs $(LEGS)

check: setup
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	deptry .
	codespell
	mlinter --no-cache src/codeshell_hf
	python -m pytest --quiet -p no:cacheprovider --doctest-modules src tests/test_documents.py

# The site reads the sources, not the package, so its tools are all that it needs.
DOCS_READY := $(VENV)/.ready-docs
$(DOCS_READY): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt 'mkdocstrings-python>=2' 'zensical>=0.0.73'
	touch $(DOCS_READY)

docs: $(DOCS_READY)
	python docs/make_site.py

toolchains:
	apt-get update
	apt-get install --yes --no-install-recommends g++ bubblewrap nodejs default-jdk-headless libjavatuples-java \
		php-cli lua5.4 lua-unit r-base-core racket rustc ldc \
		$$(apt-cache policy chromium | grep -q 'Candidate: [0-9]' && echo chromium)

axe:
	npm install --no-save --no-package-lock --silent axe-core@4
