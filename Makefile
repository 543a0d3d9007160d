# Only python3 (>= 3.11, with venv), make and a Python package index are needed: no root, no compiler.
# Everything goes into .venv and the cache folder ($NEARHALL_CACHE, or $XDG_CACHE_HOME/nearhall, or ~/.cache/nearhall).

PYTHON ?= python3
VENV := .venv
VENV_GPU ?= .venv-gpu
BIN := $(VENV)/bin
ARGS ?=
LOCK_FOR_UP := $(if $(filter --light,$(ARGS)),pilot,full)

# A machine's own pip settings stay in force (index, certificates); only chatter about this pip is silenced.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNODEBUGRANGES := 1
# Tests and benchmarks import ONNX Runtime themselves, too: nothing of what they run is sent to its maker.
export ORT_DISABLE_TELEMETRY := 1
# Another virtual environment that happens to be active must not leak into ours.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH

.DEFAULT_GOAL := help
.SUFFIXES:
.DELETE_ON_ERROR:

.PHONY: help
help: ## Say what can be made (this)
	@echo 'make up                           run a pilot on this machine: a hub, two sites, real models, a report'
	@echo 'make up ARGS="--light --seconds 60 --out pilot"   the same without the chat model, for a minute'
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'Once installed: $(BIN)/nearhall --help'

# ---- installing -----------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.installed-dev ## Install everything for developing into .venv

$(VENV)/.made:
	@$(PYTHON) -c '' 2>/dev/null || { echo 'make: $(PYTHON) is missing. Debian, Ubuntu: apt-get install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: nearhall needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)." >&2; \
	  echo '      Have a newer one? make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo 'make: Python has no venv module. Debian, Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The locks are resolved together (see `lock`), so that each is a part of the next: pilot < full < dev, and plan < dev. Installing one
# therefore satisfies the smaller ones, and changing from one to another never changes a version.
CONTAINS_dev := dev full pilot plan
CONTAINS_full := full pilot
CONTAINS_pilot := pilot
CONTAINS_plan := plan
CONTAINS_gpu := gpu

$(VENV)/.installed-%: requirements/%.txt pyproject.toml $(VENV)/.made
	@echo "Installing $$(grep -c == $<) packages from $< into $(VENV) (once; a minute or a few, by the speed of the index) ..." >&2
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes -r requirements/build.txt
	@$(BIN)/python -m pip install -qq --no-deps --require-hashes --no-build-isolation -r $<
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $(foreach lock,$(CONTAINS_$*),$(VENV)/.installed-$(lock))

.PHONY: gpu
gpu: ## Install for an NVIDIA device, into $(VENV_GPU): its ONNX Runtime cannot share an environment with the other
	@$(MAKE) --no-print-directory VENV=$(VENV_GPU) $(VENV_GPU)/.installed-gpu
	@$(VENV_GPU)/bin/nearhall doctor | grep -A 3 GPU || true
	@echo 'Serve with $(VENV_GPU)/bin/nearhall serve ...; docs/how-to/use-a-gpu.md says how a model gets onto the device.'

# ---- running --------------------------------------------------------------------------------------------------

.PHONY: up
up: $(VENV)/.installed-$(LOCK_FOR_UP) ## Run the pilot: make up ARGS="--seconds 60 --out pilot"; with --light less is installed
	@exec $(BIN)/nearhall up $(ARGS)

.PHONY: plan
plan: $(VENV)/.installed-plan ## Plan a fleet: make plan ARGS="plan.yaml --out plan"; start with ARGS="--example > plan.yaml"
	@exec $(BIN)/nearhall plan $(ARGS)

.PHONY: test
test: $(VENV)/.installed-dev ## Run the tests: make test ARGS="tests/core -x"
	@$(BIN)/python -m pytest $(ARGS)

# The quick ones first. None is a test: each checks answers, then prints ratios of its run and what they say of the goals.
BENCHES := serve overload beside_chat chat two_nodes fuzz $(if $(PEERS),peers) $(if $(PLANNER),plan_samples placement calibration)
BENCH ?= $(BENCHES)

.PHONY: bench
bench: $(VENV)/.installed-dev ## Measure the gateway beside the limit, ratios in one run; PEERS=1: other servers too, PLANNER=1: the planner
	@failed=0; for file in $(wildcard $(BENCH:%=bench/%.py)); do echo "== $$file"; $(BIN)/python "$$file" $(ARGS) || failed=1; done; exit $$failed

# ---- checking: everything that CI runs ------------------------------------------------------------------------

.PHONY: check
check: format lint types imports dependencies spelling changes docs covered ## Format, lint, types, imports, tests, docs: what CI runs
	@echo 'check: all well'

# Branch coverage that a room must have, in percent: the pure rooms have no line that a test cannot reach.
COVERAGE := core:100 physics:100 policy:100 wire:100 documents:90 ports:90 gateway:90 site:90 hub:90 planner:90 report:90 \
  drivers:90 cabinet:90 sim:90 cli:90

# Tests run in two processes, for many of them wait for other programs; each computes with one thread, for two would wait for
# each other. Pilots and what holds clocks against each other measure, so they have the machine to themselves.
MEASURES := tests/pilot tests/gateway/test_outside_clock.py

.PHONY: format lint types imports dependencies spelling changes covered
format: $(VENV)/.installed-dev
	@echo '== format'; $(BIN)/ruff format --check .
lint: $(VENV)/.installed-dev
	@echo '== lint'; $(BIN)/ruff check .
types: $(VENV)/.installed-dev
	@echo '== types'; $(BIN)/basedpyright
imports: $(VENV)/.installed-dev
	@echo '== imports'; $(BIN)/lint-imports
dependencies: $(VENV)/.installed-dev
	@echo '== dependencies'; $(BIN)/deptry src
spelling: $(VENV)/.installed-dev
	@echo '== spelling'; $(BIN)/codespell
changes: $(VENV)/.installed-dev
	@echo '== news'; $(BIN)/towncrier build --draft --version next >/dev/null
covered: $(VENV)/.installed-dev
	@echo '== tests'; $(BIN)/coverage erase; failed=0; \
	  OPENBLAS_NUM_THREADS=1 $(BIN)/coverage run -m pytest -n 2 $(or $(ARGS),$(addprefix --ignore=,$(MEASURES))) || failed=1; \
	  $(if $(ARGS),,$(BIN)/coverage run -m pytest $(MEASURES) || failed=1;) exit $$failed
	@echo '== coverage by room, and what it must be'; $(BIN)/coverage combine -q
	@low=0; for both in $(COVERAGE); do room=$${both%:*}; least=$${both#*:}; \
	  has=$$($(BIN)/coverage report --include="*/nearhall/$$room/*" --format=total 2>/dev/null); \
	  [ "$${has:-0}" -ge "$$least" ] && note= || { note='too low'; low=1; }; \
	  printf '%-10s %3s of %3s %s\n' "$$room" "$${has:-0}" "$$least" "$$note"; done; \
	  [ $$low = 0 ] || { echo 'every line that is missing: $(BIN)/coverage report --skip-covered --show-missing' >&2; exit 1; }

.PHONY: docs
docs: $(VENV)/.installed-dev ## Generate the reference and build docs into build/docs
	@echo '== docs'; $(BIN)/python docs/generate.py && $(BIN)/zensical build --clean --strict

# ---- keeping --------------------------------------------------------------------------------------------------

UV ?= uv
COMPILE = $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: lock
lock: ## Resolve the locks from one set (needs uv); LOCKARGS="--upgrade" takes newer versions
	@command -v $(UV) >/dev/null || { echo 'make: uv is missing; in a virtual environment of its own: pip install uv; make UV=.../uv lock' >&2; exit 1; }
	@$(COMPILE) --group dev --all-extras $(LOCKARGS) -o requirements/dev.txt
	@$(COMPILE) --group build -c requirements/dev.txt --extra pilot --extra llm -o requirements/full.txt
	@$(COMPILE) --group build -c requirements/dev.txt --extra pilot -o requirements/pilot.txt
	@$(COMPILE) --group build -c requirements/dev.txt --extra plan -o requirements/plan.txt
	@$(COMPILE) --group build -c requirements/dev.txt -o requirements/base.txt
	@$(subst compile pyproject.toml,compile,$(COMPILE)) --group build -c requirements/dev.txt -o requirements/build.txt
	@$(COMPILE) requirements/gpu.in --overrides requirements/gpu-without.in --group build -c requirements/dev.txt --extra pilot \
	  -o requirements/gpu.txt

# The stubs are kept in the repository, so that nobody needs the compiler to install. They get a pool of descriptors of their own: another
# library with Triton's messages in the same process (tritonclient) would otherwise fail on names that are registered twice.
GRPC := src/nearhall/gateway/grpc
STUB_TOOLS ?= grpcio-tools==1.76.0

.PHONY: stubs
stubs: ## Generate the gRPC stubs from open_inference.proto
	@$(PYTHON) -m venv build/stubs && build/stubs/bin/python -m pip install -qq '$(STUB_TOOLS)'
	@build/stubs/bin/python -m grpc_tools.protoc -I $(GRPC) --python_out=$(GRPC) --pyi_out=$(GRPC) open_inference.proto
	@sed -i 's/_descriptor_pool\.Default()/_descriptor_pool.DescriptorPool()/' $(GRPC)/open_inference_pb2.py

.PHONY: clean
clean: ## Remove what was built; .venv, the cache and your pilots stay
	@rm -rf build dist docs/reference/generated .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* .import_linter_cache
