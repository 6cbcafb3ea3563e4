# The daily commands; `make help` lists them. They first bring .venv up to date, which takes no time when it is.
#
# Variables, given as `make run PRESET=smoke`:
#   PRESET       preset that `make run` starts: smoke, demo (default) or paper
#   SETTINGS     a settings file for `make run`, instead of a preset
#   ARGS         further arguments for `make run` (to amen run), `make test` (to pytest) or `make lock` (--upgrade)
#   STACK        py310 (default) or py311, see requirements/README.md
#   AMEN_PYTHON  the Python to make .venv with; without it scripts/setup.sh looks for one

PRESET ?= demo
SETTINGS ?=
ARGS ?=
PYTHON := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format lock clean distclean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'
	@echo; sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

setup: ## make .venv from the lock in requirements/, or bring it up to date
	@scripts/setup.sh

run: setup ## run the pipeline: event log in, model that passed the gate out
	@.venv/bin/amen run $(if $(SETTINGS),$(SETTINGS),--preset $(PRESET)) $(ARGS)

test: setup ## run the tests; one of them: make test ARGS=tests/amen_tf/test_environment.py
	@$(PYTHON) -m pytest $(ARGS)

lint: setup ## check style and format with ruff
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

format: setup ## put the format right, and what else ruff can
	@$(PYTHON) -m ruff check --fix .
	@$(PYTHON) -m ruff format .

lock: ## resolve setup.py into the locks of both stacks; to newer versions: make lock ARGS=--upgrade
	@scripts/lock.sh $(ARGS)

clean: ## remove what builds and tests leave behind; runs/ and .venv stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path ./.venv -prune -o -path ./runs -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean ## also remove .venv and .tools
	rm -rf .venv .tools
