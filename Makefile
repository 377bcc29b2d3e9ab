# Everything a newcomer needs, from a fresh clone with Python and make. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin

# TensorFlow 2.21 runs on these; the first that works, and can make a venv, is taken.
PYTHONS ?= python3 python3.13 python3.12 python3.11
define find-python
for python in $(PYTHONS); do \
	if $$python -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		>/dev/null 2>&1; then break; fi; \
	python=; \
done; \
if [ -z "$$python" ]; then \
	echo "make: found no usable Python among $(PYTHONS), wanted 3.11, 3.12 or 3.13 with venv" \
		"(on Debian: apt-get install python3-venv)" >&2; \
	exit 1; \
fi
endef
PIP := -m pip install --quiet --disable-pip-version-check

# Stamps are named after the content of what they installed, so that neither the file times of a
# fresh checkout nor a switched branch can mislead them.
checksum = $(shell cat $(1) 2>/dev/null | cksum | cut -d ' ' -f 1)
PACKAGES := $(VENV)/packages-$(call checksum,requirements.lock)
PROJECT := $(VENV)/project-$(call checksum,requirements.lock pyproject.toml)

.PHONY: help
help: ## List these commands
	@awk -F ' *## *' '/^[a-z-]+:.* ## / {sub(/:.*/, "", $$1); printf "  make %-14s %s\n", $$1, $$2}' \
		$(MAKEFILE_LIST)

# From scratch, so that what an older lock installed does not stay.
$(PACKAGES):
	@$(find-python); \
	echo "make: installing the packages of requirements.lock into $(VENV), once; takes a minute"; \
	$$python -m venv --clear $(VENV)
	@$(BIN)/python $(PIP) --require-hashes -r requirements.lock
	@touch $@

$(PROJECT): | $(PACKAGES)
	@rm -f $(VENV)/project-*
	@$(BIN)/python $(PIP) --no-deps --editable .
	@touch $@

.PHONY: install
install: $(PROJECT) ## Make .venv as the lock says (the others do this themselves, once)
	@echo "$(VENV) is as requirements.lock says"

.PHONY: demo
demo: $(PROJECT) ## Broker, live host metrics and the daemon, here; BROKER=host:port FOR=40s
	@$(BIN)/forecastd demo $(if $(BROKER),--broker '$(BROKER)') $(if $(FOR),--for '$(FOR)') $(ARGS)

# Two at once, because many tests wait for a broker; a file whole, because its tests share one.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

.PHONY: test
test: $(PROJECT) ## All tests and doctests; ARGS='-k windows -x' go to pytest, '-n 0' is one at a time
	@$(PYTEST) $(ARGS)

.PHONY: check
check: $(PROJECT) ## What a change must pass: format, lint, types, tests, doctests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYTEST) $(ARGS)

.PHONY: format
format: $(PROJECT) ## Format, and mend what the linter can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

.PHONY: bench
bench: $(PROJECT) ## Throughput, delay, restore, failover, cost, learning; figures in bench.json; ARGS go to the first
	@$(BIN)/python -m tests.benchmarks.throughput --out bench.json $(ARGS)
	@$(BIN)/python -m tests.benchmarks.delay
	@$(BIN)/python -m tests.benchmarks.restore --out bench.json
	@$(BIN)/python -m tests.benchmarks.failover --out bench.json
	@$(BIN)/python -m tests.benchmarks.cost --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_stalls --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_cost --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_leak --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_quality --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_state --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_rules --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_carry --out bench.json
	@$(BIN)/python -m tests.benchmarks.learning_priming --out bench.json

.PHONY: chaos
chaos: $(PROJECT) ## Kills, zombies, dead brokers: the long runs; ARGS='crash --seed 1 --records 50000'
	@$(BIN)/python -m tests.chaos --out chaos.json $(ARGS)

.PHONY: deploy-check
deploy-check: ## Lint docker-compose.yml, test Prometheus' configuration and alert rules
	@tests/deploy/deploy_check.sh

.PHONY: image-test
image-test: $(PROJECT) ## Build daemon/Dockerfile and run it without a container engine (root, Debian, 10 GB)
	@tests/deploy/image_test.sh

# uv, because one file must serve every platform and Python. In a venv of its own, because what it
# writes is what the other one is made from.
.PHONY: lock
lock: ## Write both lock files anew; UPGRADE=--upgrade takes the newest versions
	@$(find-python); $$python -m venv .venv-lock
	@.venv-lock/bin/python $(PIP) 'uv==0.13.9'
	@compile() { .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' pyproject.toml "$$@"; }; \
	compile --extra cpu --extra demo --extra dev $(UPGRADE) --output-file requirements.lock; \
	compile --extra cpu --extra feed --constraint requirements.lock \
		--output-file daemon/requirements.lock

.PHONY: clean
clean: ## Remove what make and its tools made
	rm -rf $(VENV) .venv-lock .mypy_cache .pytest_cache .ruff_cache .hypothesis dist bench.json chaos.json
	find daemon tests -name __pycache__ -type d -prune -exec rm -rf {} +
