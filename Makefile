# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BASELINES := $(patsubst loadtests/baselines/requirements/%.txt,.venv-baselines/%/.installed,$(wildcard loadtests/baselines/requirements/*))
DIST := dist
SITE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test fuzz check eval-mini bench baselines docs format proto typescript wheel clean

help:  ## say what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make .venv and install everything into it

$(STAMP): pyproject.toml clients/pyproject.toml clients/proto/requirements.txt models/plumbline_training/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable clients --editable models/plumbline_training --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/proto --requirement clients/proto/requirements.txt
	touch $(STAMP)

demo: $(STAMP)  ## start the service, score samples through REST and gRPC, print the answers, stop
	$(BIN)/python -m plumbline_serve.demo

serve: $(STAMP)  ## run the service until Ctrl-C (REST on 8000, gRPC on 9000)
	$(BIN)/plumbline serve $(ARGS)

test: $(STAMP)  ## run every test: unit, contract, real Ray, real sockets
	$(BIN)/python -m $(if $(ARGS),pytest $(ARGS),tests.side_by_side)

fuzz: $(STAMP)  ## send 10,000 random requests over REST and gRPC, and print what became of them
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=full $(ARGS)

check: $(STAMP)  ## lint, types, import rules, security rules, what is installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive serve models clients docs loadtests deploy
	$(BIN)/python -m pip check
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 clients/plumbline_client
	$(BIN)/pyright

eval-mini: $(STAMP)  ## measure what the embedded weights know, through the service's own request path (ARGS=--pairs 200)
	$(BIN)/python -m loadtests.accuracy.measure $(ARGS)

bench: $(STAMP)  ## measure all that the service is held to, 40 minutes on two idle cores (ARGS="--only latency")
	$(BIN)/python -m loadtests.bench $(ARGS)

baselines: $(BASELINES)  ## make .venv-baselines, an environment for each server and library that benchmarks hold beside ours

# Each holds what its requirements name and sees the rest, such as torch, in $(VENV), which stays as it is.
.venv-baselines/%/.installed: loadtests/baselines/requirements/%.txt $(STAMP)
	$(PYTHON) -m venv --clear $(@D)
	echo "import site; site.addsitedir('$$($(BIN)/python $(SITE))')" > $$($(@D)/bin/python $(SITE))/plumbline.pth
	$(@D)/bin/python -m pip install --quiet --no-warn-conflicts --requirement $<
	touch $@

docs: $(STAMP)  ## write docs/settings.md from the settings class, and build the docs site into site/
	$(BIN)/python docs/make_settings.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(STAMP)  ## rewrite the sources as the formatter wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(STAMP)  ## compile the gRPC schema
	$(BIN)/python clients/proto/compile_stubs.py

typescript: $(STAMP)  ## make the types of the TypeScript client, compile it and pack it (Node 20, npm)
	$(BIN)/python docs/make_openapi.py clients/typescript/openapi.json
	cd clients/typescript && npm ci --no-audit --no-fund && npm run generate && npm pack

wheel: $(STAMP)  ## build the three distributions into dist/: service, client, training
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) . ./clients ./models/plumbline_training

clean:  ## remove the environment and caches
	rm -rf $(VENV) .venv-baselines $(DIST) site .pytest_cache .mypy_cache .ruff_cache
