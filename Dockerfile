# The operator as one static binary on an empty file system.
#
#   docker build -t emrcontainers-operator:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/emrcontainers-operator:0.1.0 --push .
#
# Each platform is built natively (or emulated) on Alpine, whose host triple is the musl target itself, so no cross
# compiler is needed. aws-lc-sys and mimalloc compile C and assembly: a C compiler and the kernel's headers do.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-alpine AS build
ARG RUST_VERSION
ARG TARGETARCH
# Overrides rust-toolchain.toml, which would also ask for rustfmt and clippy.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
RUN apk add --no-cache build-base ca-certificates linux-headers
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=target-${TARGETARCH} \
    set -eu; \
    case "${TARGETARCH:-$(uname -m)}" in \
      amd64|x86_64) triple=x86_64-unknown-linux-musl ;; \
      arm64|aarch64) triple=aarch64-unknown-linux-musl ;; \
      *) echo "no build for ${TARGETARCH}: add its musl target here" >&2; exit 1 ;; \
    esac; \
    cargo build --release --locked -p emrcontainers-operator --target "$triple"; \
    install -D "target/$triple/release/emrcontainers-operator" /out/emrcontainers-operator; \
    mkdir -p /out/bin; \
    ln -s /emrcontainers-operator /out/bin/controller; \
    if readelf -d /out/emrcontainers-operator | grep -q NEEDED; then echo "the binary is not static" >&2; exit 1; fi

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="emrcontainers-operator" \
      org.opencontainers.image.description="Runs Amazon EMR on EKS from custom resources." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Where rustls looks for the system's roots. AWS_CA_BUNDLE names others.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# With /bin/controller, which the container of upstream's chart starts as ./bin/controller.
COPY --from=build /out/ /
WORKDIR /
# By number, so that runAsNonRoot can be checked without a passwd file.
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/emrcontainers-operator"]
