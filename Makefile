# shmkit: `make demo` and `make test` set up what they need below target/ and install nothing elsewhere.

PYTHON  ?= python3
CARGO   ?= cargo
CC      ?= cc
CXX     ?= c++
PREFIX  ?= /usr/local
LIBDIR  ?= $(PREFIX)/lib
DESTDIR ?=

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
MAJOR   := $(firstword $(subst ., ,$(VERSION)))
TARGET  := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
VENV    := $(TARGET)/venv
BIN     := $(VENV)/bin
SOURCES := $(shell find src include -type f) build.rs Cargo.toml Cargo.lock
PACKAGE := $(wildcard cython/shmkit/*) setup.py pyproject.toml $(RELEASE)/libshmkit.so

WARN    := -Wall -Wextra -Wpedantic -Werror
SAY     := @printf '\n== %s\n'

.DELETE_ON_ERROR:
.PHONY: help build demo test test-all test-rust test-crash test-c test-python lint bench install uninstall bless clean \
        tools

help:
	@echo 'make demo            a photograph worked on by four processes in shared memory (about two minutes)'
	@echo 'make test            every test: Rust, C, ctypes, Cython, Python'
	@echo 'make test-all        and the slow ones: every kill point, fuzzing, sanitizers, Python and Cython versions'
	@echo 'make bench           the speed of it beside its peers'
	@echo 'make install PREFIX= library, header and pkg-config file'
	@echo 'make bless           regenerate the header, the pxds and the lists in tests/abi'

# What is missing on this machine, by name.
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

test: lint test-rust test-c test-python test-crash
	$(SAY) 'every test has passed'

clean:
	$(CARGO) clean
