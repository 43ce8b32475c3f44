# Two images from one file:
#   docker build --target proxy -t sidetrace:0.1.0 .        the sidecar: one binary, no shell, uid 15100
#   docker build --target init  -t sidetrace-init:0.1.0 .   the init container: iptables, the init script, `sidetrace check`
# `make images` builds both with podman, so that the same commit makes the same layers; podman and buildah need
# `--format docker` for the health check. The bases are arguments so that a release can pin them by digest.
# RUST_BASE has to be a Debian with gcc (or another C compiler, as CC), the headers of libc and ca-certificates, as the slim
# images of Rust are: aws-lc-sys and zstd-sys are C and assembler. Neither needs cmake, Go, Perl or libclang on Linux with
# glibc, x86-64 or arm64. Nothing here names an architecture.
ARG RUST_BASE=docker.io/library/rust:1.95-slim-bookworm
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
RUN export SIDETRACE_COMMIT="${REVISION}" && touch src/lib.rs src/main.rs && cargo build --release --locked --bin sidetrace \
    && install target/release/sidetrace /usr/local/bin/sidetrace

# The images start from nothing and hold what these two stages collect. Both run it there, so that what is missing is seen now.
FROM build AS proxy-root
COPY --chmod=0755 deploy/image-root.sh /usr/local/bin/
ARG SOURCE_DATE_EPOCH=0
RUN image-root.sh /root-of-image /usr/local/bin/sidetrace /etc/ssl/certs/ca-certificates.crt \
    && chroot /root-of-image /usr/local/bin/sidetrace --version

FROM ${INIT_BASE} AS init-root
# The package brings both flavours, nft and legacy; the script picks the one that works.
RUN apt-get update && apt-get install -y --no-install-recommends iptables
COPY --from=build --chmod=0755 /usr/local/bin/sidetrace /usr/local/bin/
COPY --chmod=0755 iptables/init.sh deploy/init-entrypoint.sh deploy/image-root.sh /usr/local/bin/
ARG SOURCE_DATE_EPOCH=0
RUN image-root.sh /root-of-image /usr/local/bin/sidetrace /usr/local/bin/init.sh /usr/local/bin/init-entrypoint.sh /bin/sh \
       $(find /usr/sbin -name 'ip*tables*' -type l ! -name '*translate' ! -name '*apply') $(find /usr/lib -path '*/xtables/*.so') \
    && chroot /root-of-image /usr/local/bin/sidetrace --version \
    && for flavour in nft legacy; do \
         chroot /root-of-image /bin/sh -c "iptables-$flavour --version && ip6tables-$flavour-restore --version" || exit 1; \
       done

FROM scratch AS init
COPY --from=init-root /root-of-image/ /
ARG CREATED=1970-01-01T00:00:00Z
ARG REVISION=unknown
ARG VERSION=dev
LABEL org.opencontainers.image.title="sidetrace-init" \
      org.opencontainers.image.description="Redirects a pod's TCP to its Sidetrace sidecar, and proves it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Root, for NET_ADMIN and NET_RAW reach only root's processes; and not 15100, whose traffic is exempt from the redirect.
USER 0:0
WORKDIR /
ENTRYPOINT ["/usr/local/bin/init-entrypoint.sh"]

# The last target is what a build without --target makes.
FROM scratch AS proxy
COPY --from=proxy-root /root-of-image/ /
ARG CREATED=1970-01-01T00:00:00Z
ARG REVISION=unknown
ARG VERSION=dev
LABEL org.opencontainers.image.title="sidetrace" \
      org.opencontainers.image.description="Distributed tracing for AI agents, without a line of agent code changed" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="scratch" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
# The redirect exempts this uid. Nothing is written: a read-only root will do.
USER 15100:15100
WORKDIR /
# Redirected traffic (loopback only); health and metrics.
EXPOSE 15101 15120
# For compose and plain engines; Kubernetes has probes of its own and ignores it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/sidetrace", "check", "--health"]
ENTRYPOINT ["/usr/local/bin/sidetrace"]
CMD ["proxy"]
