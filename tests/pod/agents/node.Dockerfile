# The same for Node. Node itself and the libraries are the machine's own (`make tools`), for there is no image of Node
# that every machine can have: built with --build-context node=FOLDER and --build-context libraries=FOLDER.
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libstdc++6 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=node node /usr/local/bin/
COPY --from=libraries node_modules /app/node_modules
COPY agent.mjs /app/
