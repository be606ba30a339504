# The image has everything that librdkafka and its OpenSSL are built with: a C/C++ compiler, make and perl.
FROM rust:1.94-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin maturion && cp target/release/maturion /usr/local/bin/maturion

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home maturion
COPY --from=build /usr/local/bin/maturion /usr/local/bin/maturion
USER maturion
WORKDIR /home/maturion
EXPOSE 8080
ENTRYPOINT ["maturion"]
CMD ["run"]
