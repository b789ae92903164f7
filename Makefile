# Two commands for everybody: `make demo` and `make test`. Both set up all they need in .venv.
PYTHON ?= python3
VENV := .venv
# pytest-workflow copies what git knows of the project into each test's folder
GIT_AWARE := $(shell git rev-parse --is-inside-work-tree >/dev/null 2>&1 && echo --git-aware)

.PHONY: demo test check format bin clean

demo: $(VENV)/.installed
	rm -rf demo
	$(VENV)/bin/cytonym demo --output-dir demo

test: $(VENV)/.installed-dev
	tools/nextflow -version
	PATH="$(CURDIR)/tools:$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pytest $(GIT_AWARE) --kwdof tests

check: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python tools/make_bin.py --check

format: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bin: $(VENV)/.installed
	$(VENV)/bin/python tools/make_bin.py

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "cytonym needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo work .nextflow*
