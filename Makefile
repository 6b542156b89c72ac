# Two commands for a newcomer: `make demo` and `make test`.  Both make .venv; as root both install what is missing.

PYTHON ?= python3
BIN := .venv/bin
VENV := .venv/.complete

.PHONY: demo test test-fast sim check bench clean packages

demo: $(VENV) packages  ## a cluster, a tunnel, a fault; prints what the tunnel felt
	@$(BIN)/ipsecha lab failover $(DEMO)

test: $(VENV) packages  ## everything; tests that need root or a real peer are skipped where there is none
	@$(BIN)/python -m pytest -rs $(TESTS)

test-fast: $(VENV)  ## no root, no real peers, under two minutes
	@$(BIN)/python -m pytest -rs -m "not root and not peer and not slow" $(TESTS)

sim: $(VENV)  ## simulated clusters under random faults, and broken ones that are found out: make sim SEEDS=1000 SIM=-h
	@PYTHONPATH=tests $(BIN)/python -m simulation $(or $(SEEDS),200) $(SIM)

check: $(VENV)  ## style, types, layers, sizes
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_sizes.py

bench: $(VENV) packages  ## measurements, with the peers that are installed
	@$(BIN)/python -m bench $(BENCH)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

packages:
	@scripts/install_packages

$(VENV): pyproject.toml scripts/make_venv
	@PYTHON=$(PYTHON) scripts/make_venv
	@touch $@
