# modeld: make demo | test | lint | bench | soak | install | uninstall | wheel | clean
#
#   make demo                     the main job, on a real llama.cpp, in directories of its own
#   make test                     linters, types, import contracts and the whole suite
#   make bench [ONLY=name]        measures every promise in figures; writes build/bench.json
#   make soak [ROUNDS=n]          the long loops of the suite: 1,000 rounds each by default
#   make install [PREFIX=~/.local]   for this machine, dependencies and all; /usr/local by default
#   make install PREFIX=/usr DESTDIR=...   for packagers: no network, no dependencies
#   make uninstall [PREFIX= DESTDIR=]      takes exactly that back
#   make wheel                    into dist/

PYTHON ?= python3
PREFIX ?= /usr/local
DESTDIR ?=
# 1 to install the embedded engine too: without a word, where there is no llama-server
ENGINE ?= $(if $(shell command -v llama-server),0,1)
# what runs a packaged modeld
INTERPRETER ?= /usr/bin/python3
ROUNDS ?= 1000
ONLY ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# absolute, for it stands in units; not every shell puts a home directory there
ifneq ($(word 2,$(PREFIX))$(word 2,$(DESTDIR))$(findstring %,$(PREFIX)),)
$(error PREFIX and DESTDIR must have no spaces, and PREFIX no percent sign)
endif
override PREFIX := $(abspath $(patsubst ~/%,$(HOME)/%,$(PREFIX)))
override DESTDIR := $(abspath $(DESTDIR))
SYSTEM := $(filter /usr /usr/local,$(PREFIX))
BINDIR = $(PREFIX)/bin
LIBDIR = $(PREFIX)/lib/modeld
LIBEXECDIR = $(PREFIX)/libexec/modeld
DATADIR = $(PREFIX)/share/modeld
MANDIR = $(PREFIX)/share/man
# below a home directory systemd looks in ~/.local/share, and not in ~/.local/lib
UNITDIR = $(PREFIX)/$(if $(SYSTEM),lib,share)/systemd/user
SEEN := $(or $(SYSTEM),$(filter $(HOME)/.local,$(PREFIX)))
# /etc belongs to the machine and not to a prefix below /usr; elsewhere modeld reads none
CONFIG := $(if $(SYSTEM),/etc/modeld/modeld.toml)
MANIFEST = $(DATADIR)/manifest
# the checkout may be read-only
STAGE = $(WORK)/stage

.PHONY: demo test lint bench soak package install uninstall wheel clean

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

wheel: $(STAMP)
	@$(BIN)/python -m hatchling build --target wheel --directory dist

clean:
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# --- installation: everything is put together in $(STAGE), noted in a manifest, and copied -----

SCRIPTS := modeld modelctl

# What the manifest has with a slash at its end: directories that were not there before.
define note-new-directories
$(eval WORK := $(shell mktemp -d))
@mkdir -p $(STAGE)$(BINDIR) $(STAGE)$(LIBDIR)
@each=$(LIBDIR); while [ -n "$$each" ] && [ ! -d "$(DESTDIR)$$each" ]; do \
  echo "$${each#/}/"; each=$${each%/*}; done > $(WORK)/new-directories
endef

ifeq ($(DESTDIR),)
# For this machine: a virtual environment that has all it needs, byte-compiled by pip.
RUN := $(LIBDIR)/bin/python
PACKAGEDIR = $(shell $(RUN) -I -c 'import modeld; print(*modeld.__path__)')

package:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "modeld needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	$(note-new-directories)
	@umask 022 && { $(RUN) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(LIBDIR); }
	@echo "installing modeld$(if $(filter 1,$(ENGINE)), and its engine,) into $(LIBDIR) ..."
	@umask 022 && $(RUN) -m pip install --quiet --disable-pip-version-check --upgrade \
	  '.$(if $(filter 1,$(ENGINE)),[engine],)'
	@for each in $(SCRIPTS); do ln -s ../lib/modeld/bin/$$each $(STAGE)$(BINDIR)/$$each; done
else
# For a distribution: the two packages, run by its own Python with its own libraries.
RUN := $(INTERPRETER)
PACKAGEDIR = $(LIBDIR)/modeld

package:
	$(note-new-directories)
	@rm -rf $(DESTDIR)$(LIBDIR)
	@cp -R daemon/modeld ctl/modelctl $(STAGE)$(LIBDIR)
	@cp -R etc/scenarios $(STAGE)$(LIBDIR)/modeld/scenarios
	@find $(STAGE)$(LIBDIR) -name __pycache__ -prune -exec rm -rf {} +
	@$(PYTHON) -m compileall -q --invalidation-mode unchecked-hash -s $(STAGE) -p / $(STAGE)$(LIBDIR)
	@for each in $(SCRIPTS); do printf '#!%s -I\n%s\n' $(INTERPRETER) \
	  "import sys; sys.path.insert(0, '$(LIBDIR)'); from $$each.__main__ import main; sys.exit(main())" \
	  > $(STAGE)$(BINDIR)/$$each; done
	@chmod 755 $(addprefix $(STAGE)$(BINDIR)/,$(SCRIPTS))
endif

FILL = sed -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@LIBEXECDIR@|$(LIBEXECDIR)|g' \
  -e 's|@PYTHON@|$(RUN)|g' -e 's|@PACKAGEDIR@|$(PACKAGEDIR)|g'

install: package
	@mkdir -p $(STAGE)$(UNITDIR) && for each in systemd/*.service systemd/*.socket systemd/*.slice; do \
	  $(FILL) $$each > $(STAGE)$(UNITDIR)/$${each##*/}; done
	@cd systemd && find . -name '*.conf' \
	  -exec install -D -m 644 {} $(STAGE)$(DATADIR)/systemd/{} \;
	@install -D -m 755 systemd/choose-drop-ins $(STAGE)$(DATADIR)/systemd/choose-drop-ins
	@$(if $(DESTDIR),,for each in $$(systemd/choose-drop-ins); do \
	  install -D -m 644 systemd/$$each $(STAGE)$(UNITDIR)/$$each; done)
	@install -D -m 755 systemd/stop-post $(STAGE)$(LIBEXECDIR)/stop-post
	@for each in man/*.[1-8]; do \
	  install -D -m 644 $$each $(STAGE)$(MANDIR)/man$${each##*.}/$${each##*/}; done
	@install -D -m 644 etc/modeld.toml $(STAGE)$(DATADIR)/modeld.toml
	@$(if $(CONFIG),test -e $(DESTDIR)$(CONFIG) || install -D -m 644 etc/modeld.toml $(STAGE)$(CONFIG))
	@: > $(STAGE)$(MANIFEST)
	@cd $(STAGE) && { \
	  find . -path '.$(LIBDIR)/*' -prune -o $(if $(CONFIG),-path '.$(CONFIG)' -prune -o) \
	    ! -type d -printf '%P\n'; \
	  find . -mindepth 1 -path '.$(LIBDIR)/*' -prune -o -type d -printf '%P\n' | \
	    while read -r each; do test -d "$(DESTDIR)/$$each" || echo "$$each/"; done; \
	  cat $(WORK)/new-directories; \
	  test ! -e $(DESTDIR)$(MANIFEST) || grep '/$$' $(DESTDIR)$(MANIFEST) || true; \
	} | LC_ALL=C sort -u > $(WORK)/manifest
	@! test -e $(DESTDIR)$(MANIFEST) || LC_ALL=C comm -23 $(DESTDIR)$(MANIFEST) $(WORK)/manifest | \
	  sed 's|^|$(DESTDIR)/|' | tr '\n' '\0' | xargs -0 -r rm -f
	@cp $(WORK)/manifest $(STAGE)$(MANIFEST)
	@chmod -R u+rwX,go+rX $(STAGE)
	@umask 022 && mkdir -p $(DESTDIR)/ && cp -RP --remove-destination $(STAGE)/. $(DESTDIR)/
	@rm -rf $(WORK)
	@$(if $(DESTDIR),,echo "installed below $(PREFIX); next: systemctl --user daemon-reload;" \
	  "systemctl --user enable --now $(if $(SEEN),,$(UNITDIR)/)modeld.service")

uninstall:
	@test -e $(DESTDIR)$(MANIFEST) || \
	  { echo "modeld was not installed below $(DESTDIR)$(PREFIX) by make install" >&2; exit 1; }
	@$(if $(CONFIG),! cmp -s $(DESTDIR)$(CONFIG) $(DESTDIR)$(DATADIR)/modeld.toml || \
	  rm -f $(DESTDIR)$(CONFIG))
	@rm -rf $(DESTDIR)$(LIBDIR)
	@LC_ALL=C sort -r $(DESTDIR)$(MANIFEST) | while read -r each; do case "$$each" in \
	  */) test ! -d "$(DESTDIR)/$$each" || rmdir --ignore-fail-on-non-empty "$(DESTDIR)/$$each" ;; \
	  *) rm -f "$(DESTDIR)/$$each" ;; esac; done
