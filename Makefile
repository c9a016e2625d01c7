# shmkit: `make demo` and `make test` create what they need below target/ and install nothing elsewhere.

PYTHON  ?= python3
CARGO   ?= cargo
CC      ?= cc
CXX     ?= c++
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=
# A relative LIBDIR is below PREFIX, as with CMake and Meson.
override LIBDIR := $(if $(filter /%,$(LIBDIR)),$(LIBDIR),$(PREFIX)/$(LIBDIR))

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# As in build.rs: while the major version is 0, each minor version has a soname of its own.
SERIES  := $(shell sed -nE 's/^version = "(0\.[0-9]+|[0-9]+).*/\1/p' Cargo.toml | head -n 1)
SONAME  := libshmkit.so.$(SERIES)
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
VENV    := $(TARGET)/venv
BIN     := $(VENV)/bin
SOURCES := $(shell find src include -type f) build.rs Cargo.toml Cargo.lock
PACKAGE := $(wildcard cython/shmkit/*.p*) setup.py pyproject.toml $(RELEASE)/libshmkit.so

# The nouns of src/capi/objects.txt: the first word of each line that is not a comment.
OBJECTS := $(shell sed -n 's/^\([a-z][a-z0-9_]*\) .*/\1/p' src/capi/objects.txt)

WARN    := -Wall -Wextra -Wpedantic -Werror
SAY     := @printf '\n== %s\n'

.DELETE_ON_ERROR:
.PHONY: help tools build demo bench install install-strip uninstall bless clean lint test test-rust test-crash test-c \
        test-install test-python test-all test-noun test-models test-crash-all test-matrix test-fuzz test-sanitizers deny

help:
	@echo 'make demo            a photograph worked on by four processes in shared memory (a minute; five the first time)'
	@echo 'make test            every test: Rust, C, ctypes, Cython, Python'
	@echo 'make test-all        and the slow ones: every kill point, models, fuzzing, sanitizers, Python and Cython versions'
	@echo 'make bench           its speed beside its peers'
	@echo 'make install PREFIX= library, header, pkg-config and CMake files (install-strip: without source lines)'
	@echo 'make deny            licences, sources and advisories of the crates'
	@echo 'make bless           regenerate the header, the pxds and the lists in tests/abi'

# The names of tools that this machine does not have.
tools:
	@missing=; \
	for tool in $(CARGO) $(CC) $(PYTHON); do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  echo "shmkit needs these and cannot find them:$$missing"; \
	  echo "(Debian: apt install build-essential python3-dev python3-venv; Rust: https://rustup.rs)"; exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9) and "shmkit needs Python 3.9 or newer: make PYTHON=...")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments (Debian: apt install python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import os, sysconfig, sys; \
	  sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || \
	  { echo "$(PYTHON) has no Python.h (Debian: apt install python3-dev)"; exit 1; }

$(RELEASE)/libshmkit.so $(RELEASE)/libshmkit.a &: $(SOURCES) | tools
	$(SAY) 'the library, in Rust'
	$(CARGO) build --release --locked --lib
	@touch $(RELEASE)/libshmkit.so $(RELEASE)/libshmkit.a
	@ln -sf libshmkit.so $(RELEASE)/$(SONAME)

build: $(RELEASE)/libshmkit.so

# --- Python: one virtual environment, one stamp for each set of packages in it -------------------------------------

$(VENV)/.made: | tools
	$(SAY) 'a virtual environment in $(VENV)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip 'setuptools>=77' wheel 'Cython>=3.0'
	@touch $@

$(VENV)/.shmkit: $(PACKAGE) | $(VENV)/.made
	$(SAY) 'the Python package'
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --force-reinstall .
	@touch $@

$(VENV)/.demo $(VENV)/.bench $(VENV)/.test: $(VENV)/.%: pyproject.toml $(VENV)/.shmkit
	$(SAY) 'the Python packages that $* needs'
	$(BIN)/python -m pip install --quiet --no-build-isolation '.[$*]'
	@touch $@

# --- tests ---------------------------------------------------------------------------------------------------------

test: lint test-rust test-crash test-c test-install test-python
	$(SAY) 'every test has passed'

RUST_TESTS := $(patsubst tests/%.rs,%,$(wildcard tests/*.rs))

test-rust: $(RELEASE)/libshmkit.so
	$(SAY) 'Rust'
	SHMKIT_LIBRARY='$(abspath $(RELEASE))/libshmkit.so' \
	  $(CARGO) test --locked --lib $(addprefix --test ,$(RUST_TESTS))
	$(CARGO) test --locked --doc

# Here every k-th kill point; in test-all all of them.
test-crash: $(RELEASE)/libshmkit.so
	$(SAY) 'killed at every k-th instruction'
	$(CARGO) test --locked --test crash

C_TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_*.c))
# The libraries that the archive needs. The compiler adds libgcc itself: the right one depends on -static.
STATIC  := -lutil -lrt -lpthread -lm -ldl

$(TARGET)/c/%: tests/c/%.c $(wildcard tests/c/*.h) $(RELEASE)/libshmkit.so
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -g -Iinclude -o $@ $< -L$(RELEASE) -Wl,-rpath,'$(abspath $(RELEASE))' -lshmkit -lpthread

$(TARGET)/c/%-static: tests/c/%.c $(wildcard tests/c/*.h) $(RELEASE)/libshmkit.a
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -g -Iinclude -o $@ $< $(RELEASE)/libshmkit.a $(STATIC)

test-c: $(addprefix $(TARGET)/c/,$(C_TESTS) $(addsuffix -static,$(C_TESTS)))
	$(SAY) 'C'
	$(CXX) -std=c++17 $(WARN) -Iinclude -fsyntax-only tests/c/header.cpp
	@for program in $^; do echo $$program; $$program || exit 1; done

# Three files at a time, because some tests wait. The tests of a file run one after the other. `pytest` alone runs all
# of them one after the other.
SIDE_BY_SIDE := -n 3 --dist loadfile

test-python: $(VENV)/.test $(VENV)/.demo
	$(SAY) 'Python, Cython and ctypes'
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# Moves an installed tree, finds it by pkg-config and CMake, links to it and runs the program. Does the same with the
# archive of `make install-strip` alone.
INSTALLED := $(abspath $(TARGET)/installed)
USED      := VERSION='$(VERSION)' SERIES='$(SERIES)' SONAME='$(SONAME)' CC='$(CC)' sh tests/install/test.sh
test-install: build
	$(SAY) 'make install'
	@rm -rf $(INSTALLED) $(INSTALLED).*
	@$(MAKE) --no-print-directory -s install PREFIX=$(INSTALLED) DESTDIR=
	@mv $(INSTALLED) $(INSTALLED).moved
	@$(USED) $(INSTALLED).moved $(INSTALLED).used
	@$(MAKE) --no-print-directory -s install-strip PREFIX=$(INSTALLED) LIBDIR=lib DESTDIR=
	@! readelf --sections --wide $(INSTALLED)/lib/libshmkit.* | grep -F .debug
	@mkdir $(INSTALLED).archive && mv $(INSTALLED) $(INSTALLED).archive/moved && rm $(INSTALLED).archive/moved/lib/*.so*
	@$(USED) $(INSTALLED).archive/moved $(INSTALLED).used static-only
	@for prefix in $(INSTALLED).moved $(INSTALLED).archive/moved; do \
	  $(MAKE) --no-print-directory -s uninstall PREFIX=$$prefix DESTDIR= || exit 1; \
	  left=$$(find $$prefix ! -type d -o -name 'shmkit*'); \
	  [ -z "$$left" ] || { echo "uninstall leaves: $$left"; exit 1; }; \
	done

lint: tools $(VENV)/.test
	$(SAY) 'no warnings'
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --lib
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# --- slow tests ----------------------------------------------------------------------------------------------------

FUZZ_SECONDS ?= 60
NIGHTLY      ?= nightly

test-all: test test-noun test-models test-crash-all test-matrix test-fuzz test-sanitizers deny
	$(SAY) 'every test has passed, the slow ones too'

# Adds a tenth noun to a copy of the tree, as docs/adding-a-noun.md describes.
test-noun: tools
	$(SAY) 'a new noun'
	tests/noun/test.sh $(TARGET)/noun

# Runs the real code of the locks in every interleaving that the memory model allows.
test-models:
	$(SAY) 'model checking'
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=$(TARGET)/loom $(CARGO) test --locked --release --lib model::

test-crash-all: build
	$(SAY) 'killed at every instruction'
	SHMKIT_CRASH_EVERY=1 $(CARGO) test --locked --test crash

test-matrix: $(VENV)/.test
	$(SAY) 'every Python and every Cython'
	$(BIN)/python tests/python/support/matrix.py

$(TARGET)/tools/bin/cargo-fuzz:
	$(CARGO) install --locked --root $(TARGET)/tools cargo-fuzz

FUZZED := $(patsubst tests/fuzz/fuzz_targets/%.rs,%,$(wildcard tests/fuzz/fuzz_targets/*.rs))

test-fuzz: $(TARGET)/tools/bin/cargo-fuzz
	@for target in $(FUZZED); do \
	  printf '\n== fuzzing %s for %s s\n' $$target $(FUZZ_SECONDS); \
	  mkdir -p $(TARGET)/fuzz/corpus/$$target; \
	  PATH="$(abspath $(TARGET)/tools/bin):$$PATH" $(CARGO) +$(NIGHTLY) fuzz run --fuzz-dir tests/fuzz \
	    --target-dir $(abspath $(TARGET))/fuzz $$target $(abspath $(TARGET))/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 \
	    -artifact_prefix=$(abspath $(TARGET))/fuzz/$$target-; \
	  status=$$?; rm -rf /dev/shm/shmkit-fuzz-*; [ $$status = 0 ] || exit $$status; \
	done

# All integration tests except those that only read sources. The sanitizer ignores mlock and maps pages of its own, so
# tests that count either are skipped. Tests with thousands of forks are skipped too, because forks are slow there.
ASAN_TESTS := $(filter-out floors generated,$(RUST_TESTS))
ASAN_SKIPS := page:: closing_frees_descriptors_and_address_space a_child_forked_while_a_thread_closes_can_close

# In tests/lock/thread.rs locks guard plain memory. The other tests fork, which this sanitizer does not allow.
TSAN := -Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer

test-sanitizers:
	$(SAY) 'AddressSanitizer'
	RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=$(TARGET)/asan $(CARGO) +$(NIGHTLY) test --locked \
	  --target $$(rustc -vV | sed -n 's/^host: //p') --lib $(addprefix --test ,$(ASAN_TESTS)) \
	  -- $(addprefix --skip ,$(ASAN_SKIPS))
	$(SAY) 'ThreadSanitizer'
	TSAN_OPTIONS='suppressions=$(CURDIR)/tests/tsan.supp' \
	  RUSTFLAGS='$(TSAN)' CARGO_TARGET_DIR=$(TARGET)/tsan $(CARGO) +$(NIGHTLY) test --locked \
	  --target $$(rustc -vV | sed -n 's/^host: //p') --test lock thread::

$(TARGET)/tools/bin/cargo-deny:
	$(CARGO) install --locked --root $(TARGET)/tools cargo-deny

# Advisories are compared with a database on the network: where it cannot be reached, the rest is checked.
ADVISORIES := https://github.com/rustsec/advisory-db
deny: $(TARGET)/tools/bin/cargo-deny
	$(SAY) 'licences and sources of the crates'
	$< check licenses bans sources
	@if git ls-remote --quiet --exit-code $(ADVISORIES) HEAD >/dev/null 2>&1; then \
	  $< check advisories; else echo 'NOT TESTED: the advisories, because $(ADVISORIES) cannot be reached'; fi

# --- the demo and the benchmarks -----------------------------------------------------------------------------------

demo: $(VENV)/.demo
	@$(BIN)/python -B examples/photograph/demo.py --build $(TARGET)/demo

$(TARGET)/bench/%: benches/%.c $(wildcard benches/*.h) $(RELEASE)/libshmkit.so
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -D_GNU_SOURCE -O2 -Iinclude -o $@ $< -L$(RELEASE) -Wl,-rpath,'$(abspath $(RELEASE))' \
	  -lshmkit -lpthread

# The reference for the benches of locks: a library of their own, and Boost.Interprocess if it is installed or unpacked
# there. `apt-get download libboost1.74-dev` and `dpkg-deb -x` need no root.
BOOST := $(TARGET)/boost/usr/include

$(TARGET)/bench/libbare.so: benches/bare.c
	@mkdir -p $(@D)
	$(CC) -std=c11 $(WARN) -O2 -shared -fPIC -o $@ $<

$(TARGET)/bench/boost.o: benches/boost.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(WARN) -O2 -isystem $(BOOST) -c -o $@ $<

$(TARGET)/bench/lock: $(wildcard benches/lock*.c benches/*.h) $(TARGET)/bench/libbare.so $(TARGET)/bench/boost.o \
                      $(RELEASE)/libshmkit.so
	$(CC) -std=c11 $(WARN) -D_GNU_SOURCE -O2 -Iinclude -o $@ $(wildcard benches/lock*.c) $(TARGET)/bench/boost.o \
	  -L$(RELEASE) -L$(@D) -Wl,-rpath,'$(abspath $(RELEASE))' -Wl,-rpath,'$(abspath $(@D))' \
	  -lshmkit -lbare -lpthread -lstdc++

$(TARGET)/bench/queue: $(wildcard benches/queue*.c benches/*.h) $(TARGET)/bench/boost.o $(RELEASE)/libshmkit.so
	$(CC) -std=c11 $(WARN) -D_GNU_SOURCE -O2 -Iinclude -o $@ $(wildcard benches/queue*.c) $(TARGET)/bench/boost.o \
	  -L$(RELEASE) -Wl,-rpath,'$(abspath $(RELEASE))' -lshmkit -lpthread -lrt -lstdc++

$(TARGET)/bench/increment.stamp: benches/increment.pyx $(VENV)/.bench
	@mkdir -p $(@D)
	@cp $< $(@D)/increment.pyx
	cd $(@D) && $(abspath $(BIN))/cythonize -q -3 -f -i increment.pyx
	@touch $@

# The nouns with benches: each has a program <noun>.c and a script <noun>*.py; the script of the queue is queues.py.
BENCHED := $(foreach noun,segment $(OBJECTS),$(if $(wildcard benches/$(noun).c),$(noun)))

# BENCH='--only create --pairs 41 --json FILE' and the like: each script runs the benches that it knows.
bench: $(VENV)/.bench $(addprefix $(TARGET)/bench/,$(BENCHED) increment.stamp)
	$(SAY) 'its speed beside its peers'
	@for noun in $(BENCHED); do \
	  PYTHONPATH=$(TARGET)/bench $(BIN)/python benches/$$noun*.py --program $(TARGET)/bench/$$noun $(BENCH) || exit; \
	done

# --- installing, generating, cleaning ------------------------------------------------------------------------------

INSTALL := install
STRIP   ?= strip
HERE     = $(DESTDIR)$(LIBDIR)

# Writes packaging/NAME.in with its @PLACES@ filled in to HERE/PLACE/NAME. PREFIX and LIBDIR are relative to each other.
configure = sed -e 's|@VERSION@|$(VERSION)|; s|@SERIES@|$(SERIES)|; s|@SONAME@|$(SONAME)|; s|@STATIC@|$(STATIC)|' \
  -e "s|@PREFIX@|$$(realpath -m --relative-to='$(LIBDIR)' '$(PREFIX)')|" \
  -e "s|@LIBDIR@|$$(realpath -m --relative-to='$(PREFIX)' '$(LIBDIR)')|" packaging/$(2).in > '$(HERE)/$(1)/$(2)'

install: $(RELEASE)/libshmkit.so $(RELEASE)/libshmkit.a
	$(INSTALL) -d '$(HERE)/pkgconfig' '$(HERE)/cmake/shmkit' '$(DESTDIR)$(PREFIX)/include'
	$(INSTALL) -m 755 $(RELEASE)/libshmkit.so '$(HERE)/libshmkit.so.$(VERSION)'
	ln -sf libshmkit.so.$(VERSION) '$(HERE)/$(SONAME)'
	ln -sf $(SONAME) '$(HERE)/libshmkit.so'
	$(INSTALL) -m 644 $(RELEASE)/libshmkit.a '$(HERE)/libshmkit.a'
	$(INSTALL) -m 644 include/shmkit.h '$(DESTDIR)$(PREFIX)/include/shmkit.h'
	@$(call configure,pkgconfig,shmkit.pc)
	@$(call configure,cmake/shmkit,shmkit-config.cmake)
	@$(call configure,cmake/shmkit,shmkit-config-version.cmake)
	@echo 'Installed. Where $(LIBDIR) is new to the dynamic linker: ldconfig, or link with -Wl,-rpath,$(LIBDIR)'

# Strips source lines; backtraces keep the names of functions.
install-strip: install
	$(STRIP) --strip-debug '$(HERE)/libshmkit.so.$(VERSION)' '$(HERE)/libshmkit.a'

uninstall:
	rm -f '$(HERE)/libshmkit.so' '$(HERE)/$(SONAME)' '$(HERE)/libshmkit.so.$(VERSION)' \
	  '$(HERE)/libshmkit.a' '$(HERE)/pkgconfig/shmkit.pc' '$(DESTDIR)$(PREFIX)/include/shmkit.h'
	rm -rf '$(HERE)/cmake/shmkit'

bless:
	SHMKIT_BLESS=1 $(CARGO) build --release --lib
	SHMKIT_BLESS=1 $(CARGO) test --test generated

clean:
	$(CARGO) clean
