# The commands of every day; `make` alone lists them. CONTRIBUTING.md says when to use which.
.DEFAULT_GOAL := help
.PHONY: help install hooks test slow check format docs reference build ci

ifeq ($(OS),Windows_NT)
  python ?= python
  bin := .venv/Scripts
else
  python ?= python3
  bin := .venv/bin
endif
tests ?= tests
jobs ?= auto

help:
	@sed -n 's/^\([a-z]*\): .*## /\1\t/p' Makefile

install: ## a virtual environment with all that developing needs
	$(python) -m venv .venv
	$(bin)/python -m pip install -c constraints.txt -e '.[dev,docs]'

hooks: ## git runs the linters before each commit
	$(bin)/python -m pre_commit install

test: ## the tests, or some of them: make test tests=tests/lm jobs=1
	$(bin)/python -m pytest -n $(jobs) --dist worksteal $(tests)

slow: ## the long forms of the tests
	$(bin)/python -m pytest -m slow $(tests)

check: ## linters, formatting and types, without changing anything
	$(bin)/python -m ruff check .
	$(bin)/python -m ruff format --check .
	$(bin)/python -m mypy

format: ## what the linters can mend by themselves
	$(bin)/python -m ruff check --fix .
	$(bin)/python -m ruff format .

docs: ## the site, into build/site
	$(bin)/python -m sphinx -W --keep-going -q -c docs . build/site

reference: ## docs/cli.md and chargen/keywords.py anew from commands and configurations
	$(bin)/python tools/cli_reference.py
	$(bin)/python tools/keywords.py

build: ## a wheel and a source distribution, into dist/
	$(bin)/python -m hatchling build

ci: ## all that CI runs, in a fresh environment
	bash .ci/run
