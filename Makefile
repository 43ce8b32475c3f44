# Two commands do everything: `make demo` and `make test`. Both install what is missing first.

PYTHON ?= python3
TOOLS := target/tools
LIBRARIES := $(TOOLS)/venv.stamp $(TOOLS)/node.stamp
FOR_DEMO := cargo cc python3-venv ip iptables unshare setpriv node npm
FOR_TESTS := $(FOR_DEMO) curl openssl redis-server redis-cli busybox nginx java

.PHONY: help demo test test-all lint bench tools system-demo system-tests clean

help:
	@echo "make demo      run unmodified agents with their traffic redirected, and print their traces"
	@echo "make test      the tests of every change, after installing what they need"
	@echo "make test-all  the same and what is slower"
	@echo "make lint      format, clippy, rustdoc, shellcheck"
	@echo "make bench     CPU per request: direct, a relay, the sidecar"

demo: system-demo $(LIBRARIES)
	cargo build --locked
	$(TOOLS)/venv/bin/python examples/demo/demo.py target/debug/sidetrace

# The tests make network namespaces: as root directly, else in a user namespace in which the user is root.
test: tools
	cargo test --locked --no-run
	.ci/as-root-of-a-namespace cargo test --locked

# Adds the unit tests of the release build, with its own optimisations, and the demo.
test-all: test demo
	.ci/as-root-of-a-namespace cargo test --locked --release

lint:
	.ci/system-packages shellcheck
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
	shellcheck -s sh iptables/init.sh .ci/system-packages .ci/as-root-of-a-namespace tests/it/clients/*.sh
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

bench: tools
	.ci/system-packages haproxy nginx wrk taskset
	cargo bench --locked --bench load

# What must be on the machine comes first; libraries go into target/ only.
system-demo:
	.ci/system-packages $(FOR_DEMO)

tools: system-tests $(LIBRARIES)

system-tests:
	.ci/system-packages $(FOR_TESTS)

$(LIBRARIES): | system-demo

$(TOOLS)/venv.stamp: tests/it/requirements.txt examples/demo/requirements.txt
	mkdir -p $(TOOLS)
	$(PYTHON) -m venv $(TOOLS)/venv
	$(TOOLS)/venv/bin/pip install --quiet --disable-pip-version-check -r tests/it/requirements.txt
	touch $@

$(TOOLS)/node.stamp: examples/demo/agent-node/package.json examples/demo/agent-node/package-lock.json
	mkdir -p $(TOOLS)/node
	cp examples/demo/agent-node/package.json examples/demo/agent-node/package-lock.json $(TOOLS)/node/
	npm ci --prefix $(TOOLS)/node --ignore-scripts --no-audit --no-fund --silent
	touch $@

clean:
	rm -rf target
