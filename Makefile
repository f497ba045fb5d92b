# Everything starts here. Needs make and Python >= 3.11; all else goes into .venv.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
# Tests wait for other processes half of the time: there are three workers for each of two cores. Each starts sooner with bytecode kept.
WORKERS ?= 6
TESTS := env -u PYTHONDONTWRITEBYTECODE $(BIN)/pytest -q -n $(WORKERS) --dist worksteal

PROJECTS := . plugins/strategies plugins/risk plugins/brokers plugins/sources plugins/advisors authoring_kit
EDITABLE := $(addprefix -e ,$(PROJECTS))
MANIFESTS := $(addsuffix /pyproject.toml,$(PROJECTS))

.PHONY: help demo test proof check docs rehearsal format bench lock clean

help: ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: .venv/runtime.stamp ## replay the project's tape and draw the page
	@$(BIN)/torghut demo

test: .venv/dev.stamp ## run the tests: every promise, in a few minutes
	@$(TESTS)

proof: .venv/dev.stamp ## run the long proofs: thousands of stories, real kills, soaks
	@TEST_EFFORT=$(or $(TEST_EFFORT),proof) $(TESTS) -m "proof or examples"

check: .venv/dev.stamp ## what CI runs beside the proofs: format, lint, types, import contracts, schemas, tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/torghut schema check
	@$(MAKE) --no-print-directory test

docs: .venv/dev.stamp ## write the tables of docs/ that are made of the code anew
	@RENEW_DOCS=1 $(BIN)/pytest -q tests/core -k "docs and page"
	@RENEW_DOCS=1 $(BIN)/pytest -q tests/conformance/test_cookbook.py -m "" -k picture
	@RENEW_DOCS=1 $(BIN)/pytest -q tests/integration/test_against_peers.py -m "" -k "recorded or page"

rehearsal: .venv/dev.stamp ## the whole live system on this machine, against stand-ins of venue, Kafka and ClickHouse
	@$(BIN)/python -m torghut_testing.live

format: .venv/dev.stamp ## format and fix what can be fixed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/dev.stamp .venv-rivals/stamp ## measure; figures and commands are in benchmarks/RESULTS.md
	@for b in "indicators.py --nautilus-python .venv-rivals/bin/python" microbars.py broker.py audit.py store.py loop.py data.py backtest.py daily.py stops.py portfolio.py sweep.py sweep_ways.py features.py brackets.py reload.py orders.py kill.py ws.py forward.py live.py new.py figures.py page.py belief.py; do \
		echo "benchmarks/$$b"; $(BIN)/python benchmarks/$$b || exit 1; done

lock: .venv/dev.stamp ## resolve requirements/*.in anew
	@for r in runtime dev; do $(BIN)/uv pip compile -q --upgrade --no-header --no-annotate --no-emit-index-url \
		--python-version 3.11 requirements/$$r.in -o requirements/$$r.txt; done

clean: ## remove .venv and caches
	@rm -rf .venv .torghut .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "torghut needs Python >= 3.11 (set PYTHON=/path/to/python3.11)"; exit 1; }
	@echo "making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

.venv/runtime.stamp: requirements/runtime.txt requirements/charts.txt $(MANIFESTS) | .venv/bin/python
	@echo "installing what torghut needs (about a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/runtime.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements/charts.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps $(EDITABLE)
	@touch $@

.venv/dev.stamp: requirements/dev.txt .venv/runtime.stamp
	@echo "installing what the tests need (once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements/dev.txt
	@touch $@

.venv-rivals/stamp: requirements/rivals.txt | .venv/bin/python
	@echo "installing what the benchmarks compare with (once)"
	@$(PYTHON) -m venv .venv-rivals
	@.venv-rivals/bin/python -m pip install -q --disable-pip-version-check -r requirements/rivals.txt
	@touch $@
