# What is done to this repository, by name. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The goals build on each other's results, and cargo uses every core by itself.
.NOTPARALLEL:

# The cluster that e2e, cluster, cluster-down, image and demo are about.
CLUSTER ?= molt
CARGO ?= cargo
# Helm as e2e/cluster/build.sh makes it, or the one on the PATH.
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/molt/$(shell . e2e/cluster/versions.env 2>/dev/null && echo "$$MOLT_CACHE_VERSION" || true)
PROMTOOL ?= $(or $(wildcard $(CACHE)/bin/promtool),promtool)
HELM ?= $(or $(wildcard $(CACHE)/bin/helm),helm)
# What writes the CRDs; one that is built already spares another build.
CRDGEN ?= $(CARGO) run --quiet --bin crdgen --
TEST_ARGS ?=
# Scenarios of `make e2e` that run side by side.
E2E_THREADS ?= 3
# How many rollouts bench-decisions simulates for each case, and from which seed.
RUNS ?= 10000
SEED ?= 1
# The lives that `make sim` simulates; one number prints the whole life of that seed.
SEEDS ?= 0..200
SIM_ARGS ?=

.PHONY: help
help: ## Lists what there is.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  CLUSTER=$(CLUSTER) names the cluster."

.PHONY: fmt
fmt: ## Formats the code.
	$(CARGO) fmt --all

.PHONY: lint
lint: ## Format, clippy, and the dependencies' licenses, sources and versions.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	e2e/cluster/build.sh cargo-deny
	"$(CACHE)/bin/cargo-deny" --locked check bans licenses sources

.PHONY: generate
generate: ## Writes the CRDs from the types, crds/ and the chart's copy, the scripts for Argo CD, and the pages of reference.
	$(CRDGEN) crds charts/molt/crds
	$(CRDGEN) --reference docs
	@$(CRDGEN) --argocd > deploy/argocd/argocd-cm.yaml

.PHONY: docs
docs: ## Builds the site of docs/: dist/docs.
	e2e/cluster/build.sh mdbook
	"$(CACHE)/bin/mdbook" build docs

.PHONY: rules-table
rules-table: ## Writes the table of the rules of readiness into docs/readiness.md.
	$(CARGO) run --quiet -p molt-readiness --example document -- docs/readiness.md

.PHONY: chart
chart: generate ## Checks the chart and renders deploy/molt.yaml.
	@command -v "$(HELM)" >/dev/null || { echo "chart: helm is missing: run e2e/cluster/build.sh all, or set HELM=" >&2; exit 1; }
	"$(HELM)" lint --strict --quiet charts/molt
	@if command -v "$(PROMTOOL)" >/dev/null; then cd charts/molt/files && "$(PROMTOOL)" test rules alerts_test.yaml; else echo "chart: promtool is missing, the alerts are not tested"; fi
	@{ cat deploy/header.yaml; "$(HELM)" template molt charts/molt --namespace molt-system; } > deploy/molt.yaml.new
	@mv deploy/molt.yaml.new deploy/molt.yaml
	@echo "deploy/molt.yaml is written"

# Most tests wait for a cluster's components, so more of them than there are cores run side by side.
test test-crashes: export RUST_TEST_THREADS ?= 12

.PHONY: test
test: lint ## Lint, unit tests, and the tests against a real API server.
	e2e/cluster/build.sh control-plane
	$(CARGO) test --workspace $(TEST_ARGS)
	python3 -B -m unittest discover --start-directory e2e/demo
	python3 -B -m unittest discover --start-directory src/migrations

.PHONY: test-crashes
test-crashes: ## The operator dies at each of its writes, on a real API server. MOLT_CRASHES=all: before and after each.
	e2e/cluster/build.sh control-plane
	$(CARGO) test --test control_plane crashes -- --ignored $(TEST_ARGS)


.PHONY: test-stores
test-stores: ## What is read from VictoriaMetrics is what is read from Prometheus; builds it first.
	e2e/cluster/build.sh prometheus victoria-metrics
	$(CARGO) test --test metric_stores -- --include-ignored $(TEST_ARGS)

.PHONY: bench-verdict
bench-verdict: ## What one verdict for five objectives costs; the goal is 20 µs.
	$(CARGO) bench -p molt-bench --bench verdict

.PHONY: e2e-browser
e2e-browser: ## The dashboard in Debian's Chromium in front of real rollouts: checks, sizes, pictures into docs/images.
	e2e/cluster/build.sh control-plane
	e2e/browser/install.sh
	$(CARGO) test --test control_plane dashboard_browser -- --ignored --nocapture $(TEST_ARGS)

.PHONY: bench-dashboard
bench-dashboard: binaries ## 1,000 services, 10,000 records and 50 viewers of the dashboard: how soon a change is seen, and what the server holds.
	e2e/cluster/build.sh control-plane
	MOLT_OPERATOR="$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/molt" $(CARGO) test --test control_plane a_thousand_services_and_fifty_viewers -- --ignored --nocapture


.PHONY: bench-status
bench-status: binaries ## What `kubectl molt status` takes beside the API server; the goal is 50 ms.
	e2e/cluster/build.sh control-plane
	MOLT_PLUGIN="$(or $(CARGO_TARGET_DIR),$(CURDIR)/target)/release/kubectl-molt" $(CARGO) test --test control_plane status_takes_little_time -- --ignored --nocapture


.PHONY: bench-decisions
bench-decisions: ## Molt's decisions beside other tools' on the same traffic: docs/decisions.md. RUNS, SEED.
	$(CARGO) run --release --quiet -p molt-bench -- $(RUNS) $(SEED)

.PHONY: sim
sim: ## The whole controller on a simulated cluster with faults, in virtual time. SEEDS=a..b or one seed.
	$(CARGO) run --profile sim --quiet -p molt-sim-cluster -- $(SEEDS) $(SIM_ARGS)

.PHONY: sim-test
sim-test: ## The simulation's own tests: planted mistakes are found, a seed replays.
	$(CARGO) test --profile sim -p molt-sim-cluster --test lives --test planted $(TEST_ARGS)

.PHONY: e2e
e2e: cluster image install ## Tests in the cluster CLUSTER, which is made when it is not there.
	MOLT_E2E_CLUSTER=$(CLUSTER) $(CARGO) test --workspace --test scenarios -- --test-threads=$(E2E_THREADS) --nocapture $(TEST_ARGS)

.PHONY: e2e-long
e2e-long: cluster image install ## The scenarios that take long: workers with tasks of minutes, a leak. 25 minutes.
	MOLT_E2E_CLUSTER=$(CLUSTER) $(CARGO) test --workspace --test scenarios -- --ignored --test-threads=$(E2E_THREADS) --nocapture $(TEST_ARGS)

.PHONY: cluster
cluster: ## Makes the cluster CLUSTER: Kubernetes, gateway, Prometheus.
	e2e/cluster/up.sh $(CLUSTER)

.PHONY: cluster-down
cluster-down: ## Takes the cluster CLUSTER down.
	e2e/cluster/down.sh $(CLUSTER)

.PHONY: binaries
binaries: ## Builds the operator and the kubectl plugin: target/release.
	$(CARGO) build --release --bin molt --bin kubectl-molt

.PHONY: krew
krew: binaries ## Packs the plugin for krew, with its manifest: dist/krew.
	deploy/krew/package.sh $(KREW_URL)

.PHONY: image
image: binaries ## Builds the images of the operator and the sample application into the cluster CLUSTER.
	e2e/cluster/image.sh operator $(CLUSTER)
	e2e/cluster/image.sh app $(CLUSTER)
	e2e/cluster/image.sh postgres $(CLUSTER)
	e2e/cluster/image.sh projects $(CLUSTER)
	e2e/cluster/image.sh redis $(CLUSTER)
	e2e/cluster/image.sh celery $(CLUSTER)

.PHONY: install
install: ## Installs the operator into the cluster CLUSTER by its chart, or brings a new image into it.
	e2e/cluster/install.sh $(CLUSTER)

.PHONY: demo
demo: cluster image ## A rollout and a rollback to watch, in the cluster CLUSTER.
	e2e/demo/run.sh $(CLUSTER)

.PHONY: clean
clean: ## Removes what cargo built. Clusters and their cache stay.
	$(CARGO) clean
