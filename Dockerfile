# Two images from one file:
#   docker build --target proxy -t sidetrace:0.1.0 .        the sidecar: one binary, no shell, uid 15100
#   docker build --target init  -t sidetrace-init:0.1.0 .   the init container: iptables, the init script, `sidetrace check`
# podman and buildah build it as it is. The bases are arguments so that a release can pin them by digest.
# RUST_BASE has to bring gcc (or another C compiler, as CC) and the headers of libc, as the slim images of Rust do: aws-lc-sys
# and zstd-sys are C and assembler. Neither needs cmake, Go, Perl or libclang on Linux with glibc, x86-64 or arm64.
ARG RUST_BASE=docker.io/library/rust:1.95-slim-bookworm
ARG PROXY_BASE=gcr.io/distroless/cc-debian12:nonroot
ARG INIT_BASE=docker.io/library/debian:bookworm-slim

FROM ${RUST_BASE} AS build
WORKDIR /build
# The dependencies are a layer of their own, made for a stand-in of the program: it is built again only when they change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo/config.toml .cargo/
RUN mkdir src \
    && echo '//! Stands in.' | tee src/lib.rs src/main.rs \
    && echo 'fn main() {}' >> src/main.rs \
    && cargo build --release --locked --bin sidetrace \
    && rm -r src
COPY src src
# Shown by `sidetrace_build_info`. A checkout may be older than the layer above, and cargo goes by the time.
ARG REVISION=unknown
RUN export SIDETRACE_COMMIT="${REVISION}" && touch src/lib.rs src/main.rs && cargo build --release --locked --bin sidetrace

FROM ${INIT_BASE} AS init
# The package brings both flavours, nft and legacy; the script picks the one that works.
RUN apt-get update \
    && apt-get install -y --no-install-recommends iptables \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/apt /var/log/dpkg.log \
       /var/log/alternatives.log
COPY --chmod=0755 iptables/init.sh deploy/init-entrypoint.sh /usr/local/bin/
COPY --from=build --chmod=0755 /build/target/release/sidetrace /usr/local/bin/sidetrace
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidetrace-init" \
      org.opencontainers.image.description="Redirects a pod's TCP to its Sidetrace sidecar, and proves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Root, for NET_ADMIN and NET_RAW reach only root's processes; and not 15100, whose traffic is exempt from the redirect.
USER 0:0
WORKDIR /
ENTRYPOINT ["/usr/local/bin/init-entrypoint.sh"]

# The last target is what a build without --target makes.
FROM ${PROXY_BASE} AS proxy
COPY --from=build --chmod=0755 /build/target/release/sidetrace /usr/local/bin/sidetrace
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidetrace" \
      org.opencontainers.image.description="Distributed tracing for AI agents, without a line of agent code changed" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The redirect exempts this uid. Nothing is written: a read-only root will do.
USER 15100:15100
WORKDIR /
# Redirected traffic (loopback only); health and metrics.
EXPOSE 15101 15120
ENTRYPOINT ["/usr/local/bin/sidetrace"]
CMD ["proxy"]
