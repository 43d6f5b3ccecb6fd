# The images of Parley. `./dev image` builds them; by hand:
#
#   docker build --target parley -t parley .                              the daemon
#   docker build --target policy-python -t parley-policy-python .         the demo policy
#
# All of them run as uid 65532, need no capability and write to no file of their own.

# ---- the daemon is built here
FROM debian:bookworm-slim AS builder
WORKDIR /src
COPY dev ./
RUN ./dev deps build
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake cmake
COPY proto proto
COPY control control
COPY server server
COPY tests tests
# Where to fetch libssh from if Debian's mirror does not have it; see cmake/libssh.cmake.
ARG PARLEY_LIBSSH_URL=
RUN cmake --preset release \
    && cmake --build --preset release --target parleyd \
    && install -s build/parleyd /usr/local/bin/parleyd

# ---- the contract's Python code
FROM debian:bookworm-slim AS policy-builder
WORKDIR /src
COPY dev ./
RUN ./dev deps policy
COPY proto proto
COPY clients/python clients/python
RUN python3 clients/python/generate.py --out /out \
    && cp clients/python/parley/*.py /out/parley/ \
    && cp clients/python/examples/*.py /out/

# ---- what all of them stand on: the user, and the folders that volumes are mounted at
FROM debian:bookworm-slim AS base
RUN groupadd --gid 65532 parley \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin parley \
    && install -d -o 65532 -g 65532 -m 0700 /run/parley /var/lib/parley

# ---- makes the host key once, into the volume at /var/lib/parley
FROM base AS host-key
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssh-client \
    && rm -rf /var/lib/apt/lists/*
USER 65532:65532
CMD ["sh", "-c", "test -s /var/lib/parley/host_key || ssh-keygen -q -t ed25519 -N '' -C parley -f /var/lib/parley/host_key"]

# ---- the demo policy
FROM base AS policy-python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-grpcio python3-protobuf \
    && rm -rf /var/lib/apt/lists/*
COPY --from=policy-builder /out /opt/parley
ENV PYTHONPATH=/opt/parley PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
CMD ["python3", "/opt/parley/demo.py"]

# ---- the daemon
FROM base AS parley
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates libcyaml1 libevent-core-2.1-7 libgrpc29 libgssapi-krb5-2 libprotobuf-c1 libssl3 zlib1g \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /usr/local/bin/parleyd /usr/local/bin/parleyd
COPY LICENSE /usr/share/doc/parley/LICENSE
# A library that is missing shows here, not when it is deployed.
RUN parleyd --version
USER 65532:65532
EXPOSE 2222
ENTRYPOINT ["parleyd"]
