# The image of cytonym, for docker, podman, buildah and Nextflow; docs/containers.md tells how to build and use it.
# Any Debian or Ubuntu image with Python 3.10 or newer and its venv module can be the base.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS build
# pip reads these from its environment; empty, it does as ever
ARG PIP_CERT=
ARG PIP_FIND_LINKS=
ARG PIP_INDEX_URL=
ARG PIP_NO_INDEX=
# extras of pyproject.toml; spatialdata would add 1 GB
ARG EXTRAS=parquet,figures,faiss
WORKDIR /src
RUN python3 -m venv /opt/venv
# what the wheel is made from, and wheels/ where there is one: .dockerignore holds back the rest
COPY . .
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check ".[$EXTRAS]" && chmod -R a+rX /opt/venv

FROM ${BASE_IMAGE}
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="cytonym" \
      org.opencontainers.image.description="Names the cell types of Visium HD and single-cell samples, offline" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
# Nextflow starts tasks with bash and measures them with ps
RUN { command -v bash && command -v ps; } >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends bash procps && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/venv /opt/venv
# the user may have any id and no home: nothing is read from it, and what a library caches goes to /tmp
ENV PATH=/opt/venv/bin:$PATH \
    LC_ALL=C.UTF-8 \
    MPLCONFIGDIR=/tmp \
    PYTHONNOUSERSITE=1
CMD ["cytonym", "--help"]
