# "make help" lists the targets. A machine with Go, gcc and make is enough: what else a target needs it installs itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT := $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
BUILD := go build -trimpath -buildvcs=false -ldflags "-X main.version=$(VERSION) -X main.commit=$(COMMIT)"
STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Programs that tests start, each with the Debian package that holds it.
TEST_NEEDS := ffmpeg=ffmpeg ip=iproute2 iptables=iptables openssl=openssl haproxy=haproxy nginx=libnginx-mod-stream chromium=chromium promtool=prometheus

# Peers that Debian has an old version of only, or none.
NATS := github.com/nats-io/nats-server/v2@v2.15.2
CENTRIFUGO := github.com/centrifugal/centrifugo/v6@v6.9.1

# Flags for "make run", such as ARGS="--listen 127.0.0.1:9000".
ARGS ?=
# How long "make fuzz" spends on each target, and which targets it takes (a regular expression).
FUZZTIME ?= 10m
FUZZ ?= .

.PHONY: help
help: ## List all targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: bin/timedge ## Build and serve on this machine; flags go in ARGS="..."
	@exec bin/timedge serve $(ARGS)

.PHONY: demo
demo: bin/timedge ## Three nodes, a video, two viewers, and the relay killed in the middle
	@.ci/need ffmpeg=ffmpeg
	@go run ./tools/demo

.PHONY: build
build: bin/timedge bin/loadgen ## Build bin/timedge and bin/loadgen

# Go knows better than make what is out of date.
.PHONY: bin/timedge
bin/timedge:
	@[ -e $@ ] || echo "building $@; the first time takes a minute or two"
	@$(BUILD) -o $@ .

.PHONY: bin/loadgen
bin/loadgen:
	@$(BUILD) -o $@ ./tools/loadgen

# Where releases run: with the server on Linux, the client commands alone elsewhere.
PLATFORMS := linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.PHONY: build-all
build-all: ## Build static binaries for all platforms into bin: servers for Linux, client commands for macOS and Windows
	@set -e; for p in $(PLATFORMS); do os=$${p%/*} arch=$${p#*/}; to=bin/timedge-$$os-$$arch; \
		if [ $$os = windows ]; then to=$$to.exe; fi; \
		echo "building $$to"; CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(BUILD) -o $$to .; \
	done

.PHONY: release
release: ## Leave archives for all platforms, checksums and bills of materials in bin/release; the same bytes for everybody
	@go run ./tools/release -version "$(VERSION)" -commit "$(COMMIT)" -platforms "$(PLATFORMS)"

.PHONY: test
test: need check test-web test-browser test-race test-short test-drills test-bench ## Install what tests need, then run all checks, tests and, once, benchmarks
	@echo "test: all passed"

.PHONY: need
need:
	@.ci/need $(TEST_NEEDS)

.PHONY: check
check: ## Check format (gofmt), go vet and staticcheck
	@echo "== gofmt, go vet, staticcheck"
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	@go vet ./...
	@for os in darwin windows; do GOOS=$$os go vet . ./client/... || exit 1; done
	@$(STATICCHECK) ./...

# What is built with the race detector sleeps for a second before it exits, unless it is told not to: each package's
# tests, and each process that they start.
.PHONY: test-race
test-race: need ## Run all tests and fuzz seeds in random order under the race detector
	@echo "== tests in random order under the race detector"
	@GORACE=atexit_sleep_ms=0 go test -race -shuffle=on -timeout=30m $$(go list ./... | grep -v /drills$$)

# All has run by now. The race detector changes what is allocated and how long things take, so the packages that have
# tests which it has no part in, and say so by a race_on_test.go, run once more.
.PHONY: test-short
test-short: need ## Run the tests of packages with allocation tests without the race detector, leaving out what they call long
	@echo "== tests without the race detector"
	@go test -short -timeout=15m $$(find . -name race_on_test.go -not -path '*/node_modules/*' -printf '%h\n')
	@cd timedgetest && go test -short -timeout=5m ./...
	@cd deploy/schema && go test -count=1 -timeout=5m ./...

# Node's tests report at length: what they say is shown when one fails.
QUIET := $(CURDIR)/.ci/quiet

.PHONY: test-web
test-web: bin/timedge ## Check and test the TypeScript SDK, against a server of its own
	@echo "== the TypeScript SDK"
	@.ci/need node=nodejs npm=npm
	@cd web && npm ci --no-audit --no-fund --silent && TIMEDGE=$(CURDIR)/bin/timedge $(QUIET) npm test --silent

.PHONY: test-browser
test-browser: bin/timedge ## Broadcast and watch in a real browser, briefly (see also: make drill-browser)
	@echo "== the media helpers and pages, in Chromium"
	@.ci/need node=nodejs npm=npm chromium=chromium
	@cd web && { [ -d node_modules/playwright-core ] || npm ci --no-audit --no-fund --silent; } && TIMEDGE=$(CURDIR)/bin/timedge $(QUIET) npm run --silent test-browser

.PHONY: pictures
pictures: bin/timedge ## Take the pictures of the pages for README and docs anew, at a desktop's and a phone's width
	@.ci/need node=nodejs npm=npm chromium=chromium ffmpeg=ffmpeg /usr/share/fonts/truetype/wqy/wqy-microhei.ttc=fonts-wqy-microhei /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf=fonts-noto-color-emoji
	@cd web && npm ci --no-audit --no-fund --silent && TIMEDGE=$(CURDIR)/bin/timedge PICTURES=$(CURDIR)/docs/images $(QUIET) npm run --silent test-browser

.PHONY: web
web: ## Build the pages and the console for browsers into web/dist and web/console, which are committed and embedded
	@.ci/need node=nodejs npm=npm
	@cd web && npm ci --no-audit --no-fund --silent && npm run --silent pages

# By themselves: beside other packages' tests, nodes would get no processor for longer than it takes to be counted dead.
.PHONY: test-drills
test-drills: need ## Run each drill a few times, with real processes (see also: make drill)
	@echo "== drills"
	@go test -count=1 -timeout=15m -parallel=8 ./drills

.PHONY: test-bench
test-bench: ## Run every benchmark once, to see that it runs
	@echo "== every benchmark, once"
	@set -o pipefail; go test -short -run='^$$' -bench=. -benchtime=1x -timeout=15m ./... | \
		{ grep -vE '^(Benchmark|goos:|goarch:|pkg:|cpu:|PASS)' || true; }

# How often "make drill" repeats each drill that has a figure, how many rooms the drills of many have, and how many
# clients a node has whose death is followed by a storm.
KILLS ?= 50
ROOMS ?= 200
STORM ?= 5000

.PHONY: drill
drill: ## Kill, freeze, cut off, part and restart nodes, KILLS (50) times each, print what viewers saw; push all inputs there are
	@.ci/need $(TEST_NEEDS)
	@set -o pipefail; go test ./drills -count=1 -timeout=120m -parallel=8 -v -kills=$(KILLS) -rooms=$(ROOMS) -storm=$(STORM) \
		-soak=60s -soakrooms=150 -soakevery=4s -inputs | grep -vE '^(=== |--- PASS)'
	@go test ./client/media -count=1 -timeout=30m -run='^TestInputs$$' -inputs

# Which of the browsers' drills, by their names: a regular expression.
DRILL ?= .

.PHONY: drill-browser
drill-browser: bin/timedge ## Measure in Chromium what viewers see: delay, late viewers, KILLS (5) killed relays and nodes, a slow line; a meeting of PEOPLE (6) at MEETING_FPS (15) for MEETING_SECONDS (300), a board of twenty; a file of 1 GB; DRILL=regexp picks some
	@.ci/need node=nodejs npm=npm chromium=chromium firefox-esr=firefox-esr
	@cd web && npm ci --no-audit --no-fund --silent && TIMEDGE=$(CURDIR)/bin/timedge DRILL='$(DRILL)' npm run --silent drill-browser

# How long "make soak" lasts, and with how many rooms. A night: SOAK=10h.
SOAK ?= 2h
SOAKROOMS ?= 500

.PHONY: soak
soak: ## Rooms of mixed kinds on three nodes, a random bad day each minute, for SOAK (2h): nothing lost, nothing grows
	@go test ./drills -count=1 -timeout=24h -v -run='^TestSoak$$' -soak=$(SOAK) -soakrooms=$(SOAKROOMS) -soakevery=1m

.PHONY: bench
bench: ## Run the whole benchmark suite and keep its results
	@go run ./benchmarks/suite

.PHONY: bench-compare
bench-compare: ## Compare this tree with BASE=<release or commit>; fails if it is slower
	@test -n "$(BASE)" || { echo 'say what to compare with: make bench-compare BASE=<release or commit>'; exit 2; }
	@go run ./benchmarks/compare --base $(BASE)

.PHONY: bench-peers
bench-peers: ## Run NATS, Centrifugo, Redis and the limit beside timedge, plain and by TLS and WebSocket
	@.ci/need redis-server=redis-server
	@[ -x bin/peers/nats-server ] || { echo "installing $(NATS) into bin/peers"; GOBIN=$(CURDIR)/bin/peers go install $(NATS); }
	@[ -x bin/peers/centrifugo ] || { echo "installing $(CENTRIFUGO) into bin/peers; it takes some minutes"; \
		GOBIN=$(CURDIR)/bin/peers go install $(CENTRIFUGO); }
	@PATH=$(CURDIR)/bin/peers:$$PATH go run ./benchmarks/peers

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME (10m); FUZZ=regexp picks some
	@set -e; packages=$$(go list ./...); for package in $$packages; do \
		targets=$$(go test -list '^Fuzz' $$package); \
		for target in $$(grep '^Fuzz' <<<"$$targets" | grep -E -e '$(FUZZ)'); do \
			echo "== $$package $$target for $(FUZZTIME)"; \
			go test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1s $$package; \
		done; \
	done

.PHONY: clean
clean: ## Remove what was built
	@rm -rf bin
