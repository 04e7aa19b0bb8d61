# `make` alone lists what there is.

GO        ?= go
BIN       := bin/vecferry
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS   := -s -w -X main.version=$(VERSION)
PKG       ?= ./...
BENCH     ?= .
FUZZTIME  ?= 20s

# The linter is built from source with the Go that is here, into a folder of
# its own: go.mod stays as it is.
LINT_VERSION := v2.15.0
LINT         := .bin/golangci-lint-$(LINT_VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/vecferry
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/vecferry

.PHONY: test
test: ## Run all tests, on real servers (PKG=./sink/... for some)
	$(GO) test -timeout 15m $(PKG)

# What has goroutines of its own. The end-to-end tests and what is left out here
# run in `make test` only: under the detector they cost minutes and find the same.
RACE_PKG = $(shell $(GO) list $(PKG) | grep -v -E '/(cmd|deploy|docs|bench|sink/milvus|internal/(config|demo|testenv|postgres|property))(/|$$)')

.PHONY: race
race: ## Run the tests with the race detector (needs a C compiler)
	$(GO) test -race -timeout 15m $(RACE_PKG)

.PHONY: lint
lint: $(LINT) ## Run the linters of .golangci.yml
	$(LINT) run $(PKG)

RUNS ?= 1000

.PHONY: property
property: ## Run RUNS (1000) random histories over the real stages; a failing seed says how to replay it
	VECFERRY_PROPERTY_RUNS=$(RUNS) $(GO) test -count=1 -timeout 24h -v -run TestProperty ./internal/property

.PHONY: fix
fix: $(LINT) ## Format, and repair what the linters can repair
	$(LINT) run --fix $(PKG)

$(LINT):
	mkdir -p .bin
	GOFLAGS= GOBIN=$(CURDIR)/.bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	mv .bin/golangci-lint $@

.PHONY: vet
vet: ## Run go vet, and check that go.mod and go.sum are complete and unchanged
	$(GO) vet $(PKG)
	$(GO) mod verify
	$(GO) mod tidy -diff

.PHONY: docs
docs: ## Write the pages of docs/ that are made from the code
	$(GO) test ./docs -update

.PHONY: demo
demo: ## Show the whole pipeline on real servers in 3 minutes (KEEP=1 leaves it running)
	$(GO) run ./cmd/vecferry demo $(if $(filter-out 0 no false,$(KEEP)),--keep)

.PHONY: bench
bench: ## Measure vecferry beside its floors on real servers, 12 minutes (PEERS=1, ARGS='-case copy -rows 5000')
	$(GO) run ./bench $(ARGS)

.PHONY: microbench
microbench: ## Run the benchmarks of single functions (BENCH=Decode PKG=./capture for some)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(PKG)

.PHONY: fuzz
fuzz: ## Run every fuzz test for FUZZTIME (20s)
	@set -e; for pkg in $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' $(PKG)); do \
		for name in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$name"; $(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; done

.PHONY: clean
clean: ## Remove what was built (servers that were downloaded stay in the user's cache)
	rm -rf bin dist .bin *.prof *.test
