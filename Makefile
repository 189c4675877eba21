# The commands of a developer's day. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
STACK ?= examples/stacks/offline.yaml
WEIR = $(CARGO) run --locked --quiet -p weir --

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: check
check: ## Inner loop: format, lints and unit tests of what changed (a minute or two when warm)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --features weir/cluster --quiet -- -D warnings
	$(CARGO) test --locked --workspace --features weir/cluster --lib --quiet

.PHONY: components
components: ## Fetch the engine, the models, the embedder and the corpus (1.8 GB, once)
	@testenv/fetch.py $(if $(NEEDED_BY),--for $(NEEDED_BY))

.PHONY: build
build: ## Build the weir binary of one machine, without what concerns a cluster: target/debug/weir
	$(if $(WEIR_BUILT),,$(CARGO) build --locked -p weir)

.PHONY: install
install: ## Build weir with all it can do, optimised, and put it on PATH (~/.cargo/bin, or ROOT=FOLDER for FOLDER/bin)
	$(CARGO) install --locked --path cli --features cluster $(if $(ROOT),--root $(ROOT))

.PHONY: demo
demo: NEEDED_BY = demo
demo: components build ## Real questions, real models, a real corpus: about three minutes after the build
	@testenv/demo.sh $(STACK)

.PHONY: test
test: NEEDED_BY = test
test: components ## Every test, on the real engine
	@testenv/test_fetch.py --quiet
	WEIR_TEST_REQUIRE_ENGINE=1 WEIR_KILL_ROUNDS=200 testenv/test.py
	WEIR_BUILT=1 testenv/clients/run.sh

.PHONY: conformance
conformance: NEEDED_BY = test
conformance: components ## Every store against the oracle in 100,000 operations, `make test` does fewer (half an hour; WEIR_TEST_QDRANT_URL for a real Qdrant)
	WEIR_CONFORMANCE_OPERATIONS=100000 $(CARGO) test --locked -p weir-memory-external --test it conformance

.PHONY: e2e
e2e: NEEDED_BY = e2e
e2e: components ## Weir on a real cluster of this machine: images, cluster, every scenario (root; Go)
	testenv/e2e.sh

.PHONY: e2e-full
e2e-full: NEEDED_BY = e2e
e2e-full: components ## The same with 100,000 requests during planned changes and ten idle minutes, on the release image and from the version before: an hour and a half
	testenv/e2e.sh --full

.PHONY: bench
bench: components ## Benchmarks; results go to benches/results
	$(CARGO) bench --locked --workspace --features weir/cluster --bench router --bench ingest --bench gateway --bench ann --bench dispatch --bench cache

# The public tables of outcomes; without them what needs one says so and is skipped.
ROUTING_TABLES ?= ../shared/data/routing
TABLES = $(sort $(wildcard $(ROUTING_TABLES)/*.jsonl))
# What embeds the tables' prompts: half an hour the first time, then their vectors are in the cache.
EMBEDDER ?= $(wildcard $(WEIR_CACHE)/models/all-minilm-l6-v2)

.PHONY: bench-router
bench-router: build ## The router's numbers again: the comparison, coverage, error rates of the gate, certificates
	@$(if $(EMBEDDER),,echo "bench-router: SKIPPED sentence vectors of the tables' prompts: no embedder in $(WEIR_CACHE) (make components)" >&2)
	@$(if $(TABLES),,echo "bench-router: SKIPPED tables: none in $(ROUTING_TABLES) (set ROUTING_TABLES)" >&2)
	$(WEIR) router eval router/artifacts/outcomes.jsonl $(addprefix --table ,$(TABLES)) \
	  $(if $(EMBEDDER),--embedder $(EMBEDDER) --cache $(WEIR_CACHE)/vectors) --results benches/results
	$(WEIR) router ope --simulate --results benches/results
	$(WEIR) router gate --simulate --results benches/results --plot benches/results/gate.svg
	@if [ -f $(ROUTING_TABLES)/routellm_mmlu.jsonl ]; then \
	  $(WEIR) router calibrate --table $(ROUTING_TABLES)/routellm_mmlu.jsonl --small mixtral-8x7b --results benches/results; \
	else echo "bench-router: SKIPPED calibration: no $(ROUTING_TABLES)/routellm_mmlu.jsonl (set ROUTING_TABLES)" >&2; fi

# Sets of questions that `make components` does not fetch; each is left out where it is absent.
MULTIHOP ?= $(wildcard ../shared/data/multihop)
FOLDOC ?= $(wildcard /usr/share/dictd/foldoc.dict.dz)
METAMATH ?= $(wildcard /usr/share/metamath/databases/set.mm)
WEIR_CACHE ?= $(HOME)/.cache/weir

.PHONY: bench-memory
bench-memory: components ## The memory's numbers: ingest, nearest neighbours, attention, retrieval (an hour the first time)
	$(CARGO) bench --locked --workspace --features weir/cluster --bench ingest --bench ann --bench attention --bench cache
	$(CARGO) run --locked --profile bench --features weir/cluster --bin weir -- lab retrieval \
	  $(if $(MULTIHOP),--multihop $(MULTIHOP)) $(if $(FOLDOC),--foldoc $(FOLDOC)) $(if $(METAMATH),--metamath $(METAMATH)) \
	  --docs $(WEIR_CACHE)/corpus/python-docs --embedder $(WEIR_CACHE)/models/all-minilm-l6-v2 \
	  --cache $(WEIR_CACHE)/retrieval --results benches/results

# Not on FOLDOC, whose licence (GFDL) asks for more than a mention.
.PHONY: attention-weights
attention-weights: components ## Weights of attention that are trained on the sets of bench-memory, into TRAINED (ten minutes the first time)
	$(CARGO) run --locked --profile bench --features weir/cluster --bin weir -- lab retrieval \
	  $(if $(MULTIHOP),--multihop $(MULTIHOP)) $(if $(METAMATH),--metamath $(METAMATH)) \
	  --docs $(WEIR_CACHE)/corpus/python-docs --embedder $(WEIR_CACHE)/models/all-minilm-l6-v2 \
	  --cache $(WEIR_CACHE)/retrieval --weights $(or $(TRAINED),attention.json)

.PHONY: bench-operator
bench-operator: ## The operator's numbers on a control plane of its own, eight minutes after the build (root; Go)
	testenv/bench_operator.sh

.PHONY: bench-gateway
bench-gateway: ## The gateway beside vllm-router, sglang-router, LiteLLM and Portkey: ten minutes after the builds (python3, node)
	$(CARGO) build --locked --release -p weir
	$(CARGO) bench --locked -p weir-bench --bench gateway_peers

.PHONY: bench-soak
bench-soak: ## The gateway under two million requests: none fails, and its memory stays (five minutes after the builds)
	$(CARGO) build --locked --release -p weir
	$(CARGO) bench --locked -p weir-bench --bench soak

.PHONY: bench-matrix
bench-matrix: components ## What models cost here and on one core with 2 GiB: LFM2's shapes, the demo's models (hours on two cores; 12 GB)
	testenv/bench_matrix.sh

.PHONY: bench-report
bench-report: ## Every committed number that has a goal, the unmet first
	@benches/report.py

.PHONY: fuzz
fuzz: ## Fuzz every parser of outside input, FUZZ_SECONDS (60) each (nightly toolchain, cargo-fuzz)
	testenv/fuzz.sh $(or $(FUZZ_SECONDS),60)

.PHONY: server-tests
server-tests: ## llama.cpp's own tests of its server, directly and through Weir: one minute after the builds
	testenv/clients/llama_cpp.sh

.PHONY: image
image: ## Build the images of weir and llama-server, as archives (WEIR_IMAGE_PROFILE=release for small and fast ones)
	@testenv/fetch.py engine-static
	@testenv/image.sh

.PHONY: cluster-up
cluster-up: ## Start a real Kubernetes cluster on this machine (root; the first time it is built, six minutes or more)
	@testenv/cluster/cluster.sh up

.PHONY: cluster-load
cluster-load: ## Load the images of `make image` into it
	@for image in weir llama-server; do testenv/cluster/cluster.sh load $(or $(CARGO_TARGET_DIR),target)/images/$$image.tar; done

.PHONY: cluster-down
cluster-down: ## End it and leave nothing behind
	@testenv/cluster/cluster.sh down

.PHONY: layers
layers: ## Check who depends on whom
	testenv/checks/layers.sh

.PHONY: generate
generate: ## Write the generated files again (CRD YAML, golden messages, docs/openapi.json, the chart of the CRDs, dashboards)
	UPDATE=1 $(CARGO) test --locked -p weir-crds -p weir-reconcile --quiet
	UPDATE=1 $(CARGO) test --locked -p weir-gateway --test it --quiet openapi
	charts/generate.py
	charts/dashboards.py

.PHONY: deny
deny: ## Licences, bans and sources of every dependency
	cargo deny --log-level error check licenses bans sources
