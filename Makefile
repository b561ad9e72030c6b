# Everything below bootstraps itself: Python 3.11+, git and make are enough.
.DEFAULT_GOAL := help
PYTHON ?= python3
TOOLS := .tools
UV := $(TOOLS)/bin/uv
STAMP := .venv/.synced
RUN := .venv/bin
HOME_DIR ?= $(if $(RAPPORT_HOME),$(RAPPORT_HOME),.rapport)
CUSTOMERS ?= 20000
unexport PYTHONDONTWRITEBYTECODE   # without compiled modules every command spends seconds on compiling

.PHONY: help demo test check ui serve bench lock clean

help:  ## Show what can be made
	@echo "Rapport: one number, with its definition, everywhere"
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 16

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Rapport needs Python 3.11 or newer; set PYTHON=python3.12 or similar")'
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"

$(STAMP): $(UV) pyproject.toml uv.lock
	@UV_PROJECT_ENVIRONMENT=.venv $(UV) sync --frozen --quiet --compile-bytecode --python $(PYTHON)
	@touch $@

demo: $(STAMP)  ## Simulate a company, build everything, open the pages (CUSTOMERS=20000)
	@$(RUN)/rapport demo --home $(HOME_DIR) --customers $(CUSTOMERS)

test: $(STAMP)  ## Run the test suite
	@OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(RUN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

check: $(STAMP)  ## Lint, import rules, contract drift
	@$(RUN)/ruff check .
	@$(RUN)/lint-imports
	@OPENBLAS_NUM_THREADS=1 $(RUN)/pytest -q tests/architecture tests/data_contracts

ui: $(STAMP)  ## Open the pipeline's web interface: lineage, checks, schedules (after a first run)
	@$(RUN)/rapport ui --home $(HOME_DIR)

serve: $(STAMP)  ## Show the pages of the published snapshot
	@$(RUN)/rapport serve --home $(HOME_DIR)

bench: $(STAMP)  ## Measure against the best alternative, as ratios
	@over=0; for file in tests/benchmarks/bench_*.py; do echo "== $$file"; OPENBLAS_NUM_THREADS=1 $(RUN)/python $$file || over=1; done; exit $$over

lock: $(UV)  ## Resolve dependencies anew into uv.lock
	@$(UV) lock --upgrade

clean:  ## Remove the environment (never a home)
	@rm -rf .venv $(TOOLS)
