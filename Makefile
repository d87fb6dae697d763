# Everything is made from package registries: Python, make and git are all that is needed.
# Targets are few on purpose; `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVICES := services/shared services/llm-pool services/orchestrator operator services/cli
PATHS := services operator migrations requirements tests bench docs dashboards
# As many as a small machine has cores; more make tests that look at times less certain.
TEST_PROCESSES ?= 2
FUZZ_FACTOR ?= 20
FUZZ_SEED := $(or $(FUZZ_SEED),$(shell date +%s))
# pip may be set up to use another index; uv reads that from its own variable.
export UV_DEFAULT_INDEX ?= $(or $(PIP_INDEX_URL),$(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null))
ifeq ($(strip $(UV_DEFAULT_INDEX)),)
unexport UV_DEFAULT_INDEX
endif
export UV_NO_CONFIG := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test fuzz lint bench images e2e chaos soak

help: ## List the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## Make .venv with everything, from hashed locks

$(VENV)/.installed: requirements/dev.txt requirements/bootstrap.txt $(SERVICES:=/pyproject.toml)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"Konstruct needs Python 3.11 to 3.13, this is {sys.version.split()[0]}: make PYTHON=python3.12 $(MAKECMDGOALS)")'
	@echo "Installing into $(VENV) (about 400 MB on the first run) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix -e ,$(SERVICES))
	@touch $@

demo: setup ## Show the main job: two tenants' agents answer, on embedded real parts (no keys, no root, no Docker)
	@$(BIN)/konstruct demo

test: setup ## Run every test that needs no cluster; starts the PostgreSQL, the Redis and the API server it needs
	@$(BIN)/pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

fuzz: setup ## Look for what breaks, with FUZZ_FACTOR times the examples of `make test` and a seed that is new each time
	@echo "replay with: make fuzz FUZZ_FACTOR=$(FUZZ_FACTOR) FUZZ_SEED=$(FUZZ_SEED)"
	@FUZZ_FACTOR=$(FUZZ_FACTOR) $(BIN)/pytest tests/fuzz tests/chart/test_extremes.py --hypothesis-seed=$(FUZZ_SEED) --timeout=0 $(PYTEST_ARGS)

lint: setup ## Check style, types, imports, shell scripts, and the locks against known vulnerabilities
	@$(BIN)/ruff check $(PATHS)
	@$(BIN)/ruff format --check $(PATHS)
	@$(BIN)/mypy $(PATHS)
	@$(BIN)/lint-imports --no-logo
	@git grep -lE '^#!.*[/ ](ba)?sh( |$$)' | xargs $(BIN)/shellcheck
	@$(BIN)/python -m requirements.audit

bench: setup ## Measure, each figure beside what one would use instead; results go to bench/results
	@$(BIN)/python -m bench

images: ## Build the container images, with Docker, podman or buildah
	@images/build

e2e: setup ## Test on a real kind cluster; needs a container engine, or root on Debian, where it makes the rest
	@$(BIN)/pytest tests/e2e $(PYTEST_ARGS)

chaos: setup ## Break every part and link under load, COUNT times each; writes the table of docs/guarantees.md
	@CHAOS_COUNT=$(or $(COUNT),3) CHAOS_SEED=$(SEED) $(BIN)/pytest -v tests/chaos $(PYTEST_ARGS)
	@$(BIN)/python -m tests.chaos.table

soak: setup ## Answer COUNT messages (20,000) through the whole stack, and see whether anything grows
	@$(BIN)/python -m bench.soak $(or $(COUNT),20000)
