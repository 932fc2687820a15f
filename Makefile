# Everything this project does from a clone. `make help` lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Prerequisites run in the order they are written: set up, then build, then test. Cargo uses all cores by itself.
.NOTPARALLEL:

export PATH := $(PATH):$(HOME)/.cargo/bin

# Where `make run` listens, and where it keeps its data (empty: the program's own default).
LISTEN ?= 127.0.0.1:8080
DATA_DIR ?=
MODEL ?= smollm2-135m-instruct

# Absolute, so that the commands the server prints work from any folder.
ALLERAC := $(CURDIR)/target/release/allerac
DATA_FLAG := $(if $(DATA_DIR),--data-dir "$(abspath $(DATA_DIR))")
TEST_DATA := .cache/test-data
TEST_EMBEDDING := .cache/test-embedding

WEB := router/web
WEB_SOURCES := $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '$(WEB)/dist/*' 2>/dev/null)

## Running

.PHONY: run
run: setup build ## Install what is missing, build, fetch the starter model, serve on LISTEN (127.0.0.1:8080)
	@$(ALLERAC) models pull $(MODEL) $(DATA_FLAG)
	@exec $(ALLERAC) serve --listen $(LISTEN) $(DATA_FLAG)

.PHONY: build
build: web ## Build the page and the programs (target/release/allerac, target/release/allerac-engine)
	cargo build --release --locked

.PHONY: portable
portable: setup web ## Build for every x86-64 CPU into target/dist: all of llama.cpp's kernels, the best chosen at run time
	scripts/portable.sh target/dist

.PHONY: gpu
gpu: setup-gpu ## Build llama.cpp's module for graphics processors (Vulkan) beside the programs; they use it when it is there
	scripts/vulkan.sh target/lib/allerac/gpu

.PHONY: web
web: $(WEB)/dist/index.html ## Build the page, when its sources are newer

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json $(WEB_SOURCES)
	cd $(WEB) && npm run build
	@touch $@

$(WEB)/node_modules/.package-lock.json: $(WEB)/package-lock.json
	@# Not `npm ci`: it refuses a lock without the binaries of platforms that a registry does not carry.
	cd $(WEB) && npm install --no-save --no-audit --no-fund
	@touch $@

.PHONY: setup
setup: ## Install what building needs and the machine lacks
	@scripts/setup.sh

## Checking

# The ledger's tests once more, over books in PostgreSQL.
LEDGER_TESTS := cargo test --release --locked --workspace

.PHONY: test
test: setup-test lint build test-model ## Everything that continuous integration runs
	cargo test --release --locked --workspace
	scripts/with-postgres.sh $(LEDGER_TESTS) --test ledger --test plans --test people --test shared --test spending -- --include-ignored
	scripts/with-postgres.sh $(LEDGER_TESTS) --test shared_crash -- --include-ignored
	cd $(WEB) && npm test
	tests/fuzz.sh
	tests/run.sh

.PHONY: lint
lint: web ## Format, clippy, the page's types, licences and sources of dependencies
	cargo fmt --all -- --check
	@# The fuzz targets are a workspace of their own; its lock follows the dependencies here.
	cargo metadata --locked --format-version 1 --manifest-path tests/fuzz/Cargo.toml > /dev/null
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cd $(WEB) && npm run check
	scripts/cargo-deny.sh check --hide-inclusion-graph bans licenses sources

.PHONY: setup-test
setup-test:
	@scripts/setup.sh test

.PHONY: setup-gpu
setup-gpu:
	@scripts/setup.sh gpu

.PHONY: test-model
test-model: build ## Fetch the models that the tests use into .cache
	@$(ALLERAC) models pull smollm2-135m-instruct --data-dir $(TEST_DATA)
	@$(ALLERAC) models pull all-minilm-l6-v2 --data-dir $(TEST_EMBEDDING)

ifneq ($(wildcard benches/run.sh),)
.PHONY: bench
bench: setup-test build test-model ## Measure speed beside llama.cpp's own server
	benches/run.sh
endif

.PHONY: gpu-test
gpu-test: setup-test gpu build test-model ## Build that module, and test it on Mesa's software driver (no graphics processor is needed)
	tests/run.sh --prepare python
	cd tests/gpu && ../.venv/bin/python -m pytest

.PHONY: compatibility
compatibility: setup-test build test-model ## Run independent suites and clients, and write docs/compatibility.md (half an hour)
	tests/run.sh --prepare python
	tests/.venv/bin/python tests/compatibility/run.py

ifneq ($(wildcard tests/fuzz.sh),)
.PHONY: fuzz
fuzz: setup-test ## Fuzz the wire types and the socket protocol for a while
	tests/fuzz.sh
endif

.PHONY: image
image: portable test-model ## Build what is flashed onto a stick into target/image (Debian with apt; as root)
	image/build.sh
	@[ ! -e .keys/update.gpg ] || image/release.sh target/image "$$(image/build.sh --print-version)" target/image/release

.PHONY: image-reproducible
image-reproducible: portable test-model ## Build the image twice, the second time as another machine would, and compare every byte
	image/reproducible.sh

.PHONY: keys
keys: ## Make the keys that sign updates into .keys, once
	@scripts/setup.sh image
	image/keys.sh

.PHONY: image-test
image-test: build test-model ## Build the image for virtual machines, boot it, update it, break it (an hour and a half)
	@scripts/setup.sh image
	tests/run.sh --prepare python
	image/test.sh

## Other

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^## /{printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\n  Settings: LISTEN=%s DATA_DIR=%s MODEL=%s\n' '$(LISTEN)' '$(or $(DATA_DIR),(default))' '$(MODEL)'

.PHONY: clean
clean: ## Remove what was built (the test model in .cache stays)
	cargo clean
	rm -rf $(WEB)/dist $(WEB)/node_modules
