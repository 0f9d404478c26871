# Each target makes the environment that it needs; repeated calls reuse it.

PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)

# One recipe for both environments: $(1) folder, $(2) constraints, $(3) extras. The constraints
# are passed through the environment so that they hold for the build backend too.
define install
	@echo "==> $(1): installing skae[$(3)] with $(2)"
	@$(1)/bin/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear $(1)
	@PIP_CONSTRAINT=$(2) $(1)/bin/python -m pip install --disable-pip-version-check \
		--editable ".[$(3)]"
	@touch $@
endef

.PHONY: help demo test lint oldest docs clean

help:  ## say what can be made
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## /\1|/' | \
		awk -F'|' '{printf "make %-8s %s\n", $$1, $$2}'

.venv/.installed: pyproject.toml .ci/constraints.txt
	$(call install,.venv,.ci/constraints.txt,dev)

.venv/.installed-docs: .venv/.installed
	$(call install,.venv,.ci/constraints.txt,docs)

.venv-oldest/.installed: pyproject.toml .ci/constraints-oldest.txt
	$(call install,.venv-oldest,.ci/constraints-oldest.txt,test)

demo: .venv/.installed  ## run the demonstration
	.venv/bin/python -u examples/demo.py

test: .venv/.installed  ## run the tests with the newest dependencies
	.venv/bin/python -m pytest -n auto

lint: .venv/.installed  ## check style, types and spelling
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/codespell

oldest: .venv-oldest/.installed  ## run the estimator contract with the oldest dependencies
	.venv-oldest/bin/python -m pytest -n auto tests/contract

docs: .venv/.installed-docs  ## build the documentation into docs/_build
	.venv/bin/python -m sphinx -n -W -b html docs docs/_build/html

clean:  ## remove environments, caches and built files
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find skae tests docs examples -name __pycache__ -type d -prune -exec rm -rf {} +
