# Every task of the project. `make` alone prints this list.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help controlplane build demo up down test conformance lint generate check-generated bench faults fuzz mutants ci

# A failed test's message is enough; set it to 1 for stack traces.
export RUST_BACKTRACE ?= 0
# Where cargo builds to. Binaries are run from there: `cargo run --package` would choose other features of shared crates
# than a build of the whole workspace does, and build most of them a second time.
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

controlplane: ## Build kube-apiserver, etcd, kubectl and helm once (about 5 minutes on 2 cores) and print where they are.
	@tools/controlplane/build.sh

build: ## Build everything, tests too, so that the demo and the tests share one build.
	cargo build --workspace --all-targets

demo: controlplane build ## Watch jobs in YAML go from apply to COMPLETED, on a control plane of its own.
	@$(TARGET)/debug/demo run

up: controlplane build ## Start the same and leave it running, with a kubeconfig to play with.
	@$(TARGET)/debug/demo up

down: ## End what `make up` started.
	@if [[ -x $(TARGET)/debug/demo ]]; then $(TARGET)/debug/demo down; else echo "nothing is running"; fi

test: controlplane build ## Run every test.
	cargo test --workspace
	@$(MAKE) conformance

conformance: build ## Compare the simulator with moto, an emulator that others wrote, through boto3 (part of `make test`).
	@python3 tests/conformance/run.py --simulator $(TARGET)/debug/emr-simulator

lint: ## Formatting, clippy, and what may be linked.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	"$$(tools/cargo-deny.sh)" check bans licenses sources

generate: ## Write manifests/crds, the chart's CRDs and manifests/install.yaml.
	tools/generate.sh

check-generated: ## Fail when a generated file is not what the sources generate.
	tools/generate.sh --check

bench: controlplane ## Measure the standard set of loads into target/bench; ARGS="--runs 500" measures one load, ARGS="--help" says how.
	cargo build --release --workspace --bins
	@$(TARGET)/release/load $(or $(ARGS),--standard $(TARGET)/bench)

faults: controlplane build ## Kill the operator 1,000 times while AWS and the API server fail too, by seed, and check every run; ARGS="--help" says how.
	@$(TARGET)/debug/faults $(ARGS)

fuzz: ## Look for inputs that break something, guided by coverage (`cargo install cargo-fuzz --locked`); TARGETS="overrides" chooses.
	@for target in $(or $(TARGETS),$(notdir $(wildcard fuzz/corpus/*))); do \
	  mkdir -p $(TARGET)/fuzz/$$target; \
	  cargo fuzz run --dev --sanitizer none --features libfuzzer $$target $(TARGET)/fuzz/$$target fuzz/corpus/$$target \
	    -- -max_len=16384 -timeout=10 -print_final_stats=1 $(or $(ARGS),-max_total_time=60); \
	done

mutants: ## Break the pure files in every small way and see whether a test fails (hours; `cargo install cargo-mutants --locked`).
	cargo mutants $(ARGS)

ci: ## Run what CI runs.
	.ci/run
