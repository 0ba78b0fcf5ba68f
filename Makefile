# modeld: make demo | test | lint | bench | soak | install | uninstall | wheel | clean
#
#   make demo                     the main job, on a real llama.cpp, in directories of its own
#   make test                     linters, types, import contracts and the whole suite
#   make bench [ONLY=name]        measures every promise in figures; writes build/bench.json
#   make soak [ROUNDS=n]          the long loops of the suite: 1,000 rounds each by default
#   make install PREFIX=/usr DESTDIR=...   for packagers; PREFIX is /usr/local without a word

PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=
ROUNDS ?= 1000
ONLY ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LIBDIR = $(PREFIX)/lib/modeld
UNITDIR = $(PREFIX)/lib/systemd/user
MANDIR = $(PREFIX)/share/man
# /etc belongs to the machine and not to a prefix below /usr
SYSCONFDIR = $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)

.PHONY: demo test lint bench soak install uninstall wheel clean

demo: $(STAMP)
	@$(BIN)/python -m tests.demo

test: $(STAMP)
	@$(BIN)/python -m tests.run $(ARGS)

lint: $(STAMP)
	@$(BIN)/python -m pytest -q tests/test_style.py

bench: $(STAMP)
	@$(BIN)/python -m tests.bench $(ONLY)

soak: $(STAMP)
	@MODELD_TEST_ROUNDS=$(ROUNDS) $(BIN)/python -m tests.run $(ARGS)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "modeld needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "installing modeld, its engine and the test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[engine,dev]'
	@touch $@
