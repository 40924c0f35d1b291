PYTHON ?= python3
ARGS ?=

VENV := .venv
# Sphinx and the peers of the tests want different releases of requests: its environment lies in front of the other.
DOCS_VENV := .venv-docs
LESSON_PAGES := docs/_build/pages/lessons
MIN_PYTHON := $(shell sed -n 's/^python_requires *= *>= *//p' setup.cfg)

.DEFAULT_GOAL := help
.PHONY: help fig4 figures lessons docs test lint check clean chromium
# Two pips at once in one environment would trip over each other.
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' Makefile
	@echo '  PYTHON=... is the interpreter that .venv is made from; ARGS="..." goes to the command of fig4, figures, lessons, test, check.'

fig4: $(VENV)/.core ## Figure 4 of the paper into out/; installs the core only
	$(VENV)/bin/python -m figures.fig4 $(ARGS)

figures: $(VENV)/.nets ## all figures and tables into out/, and out/index.html; installs PyTorch
	$(VENV)/bin/python -m figures $(ARGS)

lessons: $(VENV)/.lessons ## lessons with sliders in the browser; installs PyTorch and marimo
	$(VENV)/bin/python -m lessons $(ARGS)

docs: $(DOCS_VENV)/.docs $(LESSON_PAGES)/index.html ## the documentation and the lessons as pages into docs/_build/html; warnings are errors
	$(DOCS_VENV)/bin/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

test: $(VENV)/.all chromium ## the whole suite with doctests; installs everything, PyTorch included
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile $(ARGS)

# A minute or two on two cores, and only after something that the lessons show has changed.
$(LESSON_PAGES)/index.html: $(VENV)/.lessons $(shell find lessons pde bridge nets \
		-name '*.py' -o -name '*.j2' -o -name '*.css' -o -name '*.js' -o -path 'lessons/data/*')
	$(VENV)/bin/python -m lessons --html $(LESSON_PAGES)

lint: $(VENV)/.dev ## style, format and types of the faces, changing nothing
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

check: lint test ## lint, then test

# For the lessons' tests in a browser. Where it cannot be had they are skipped, and say why.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		as_root=$$([ "$$(id -u)" = 0 ] || echo sudo -n); $$as_root apt-get update -q && \
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; \
		} >/dev/null 2>&1 </dev/null || \
		echo 'No Chromium, and it cannot be installed: the tests of the lessons in a browser will be skipped.'

clean: ## remove .venv, builds and caches; out/ and runs/ stay
	rm -rf $(VENV) $(DOCS_VENV) docs/_build build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is touched last, so a failed install leaves none and is tried again.
$(VENV)/.core: $(VENV)/.made setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install -e .
	touch $@

$(VENV)/.dev: $(VENV)/.made setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install -e '.[dev]'
	touch $(VENV)/.core $@

$(VENV)/.nets: $(VENV)/.made setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install -e '.[nets]'
	touch $(VENV)/.core $@

$(VENV)/.lessons: $(VENV)/.made setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install -e '.[nets,teach]'
	touch $(VENV)/.core $@

$(DOCS_VENV)/.docs: $(VENV)/.nets
	$(VENV)/bin/python -m venv --clear $(DOCS_VENV)
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(DOCS_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/behind.pth"
	$(DOCS_VENV)/bin/python -m pip install -e '.[docs]'
	touch $@

$(VENV)/.all: $(VENV)/.made setup.cfg pyproject.toml
	$(VENV)/bin/python -m pip install -e '.[all]'
	touch $(VENV)/.core $(VENV)/.nets $(VENV)/.lessons $(VENV)/.dev $@

$(VENV)/.made:
	@command -v '$(PYTHON)' >/dev/null || { echo 'No interpreter "$(PYTHON)": name one with make PYTHON=...' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] < tuple(map(int, "$(MIN_PYTHON)".split("."))))' || \
		{ echo "Python $(MIN_PYTHON) or newer is needed, and $(PYTHON) is $$('$(PYTHON)' --version 2>&1): name another with make PYTHON=..." >&2; exit 1; }
	'$(PYTHON)' -m venv --clear $(VENV)
	touch $@
