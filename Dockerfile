# syntax=docker/dockerfile:1
# Two images: `docker build --target cpu .` (the default) and `docker build --target gpu .`.
#
# They run as a user without rights, on a read-only root file system:
#   docker run --read-only --tmpfs /tmp --shm-size 1g -v plumbline-cache:/var/cache/plumbline -p 8000:8000 -p 9000:9000 IMAGE
# The GPU image takes `--gpus all` besides. Base images are pinned by tag; pin them by digest in your registry.

FROM python:3.12-slim-trixie AS cpu-base

# CUDA's runtime alone: torch and TensorRT bring the libraries on top of it in their wheels.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04 AS gpu-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3.12 python3.12-venv \
    && rm -rf /var/lib/apt/lists/*

FROM cpu-base AS wheels
WORKDIR /source
COPY pyproject.toml README.md CHANGELOG.md LICENSE ./
COPY deploy/image deploy/image
COPY clients clients
COPY models/plumbline_models models/plumbline_models
COPY serve serve
RUN deploy/image/install.sh wheels /wheels

FROM cpu-base AS cpu-dependencies
WORKDIR /source
COPY pyproject.toml constraints.txt ./
COPY clients/pyproject.toml clients/
COPY deploy/image deploy/image
# torch without CUDA: a tenth of the size.
ENV PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN deploy/image/install.sh dependencies /opt/plumbline

FROM gpu-base AS gpu-dependencies
WORKDIR /source
COPY pyproject.toml constraints.txt ./
COPY clients/pyproject.toml clients/
COPY deploy/image deploy/image
ENV PYTHON=python3.12
RUN deploy/image/install.sh dependencies /opt/plumbline gpu

FROM gpu-base AS gpu
COPY --from=gpu-dependencies /opt/plumbline /opt/plumbline
COPY deploy/image/is_ready.py /opt/plumbline/is_ready.py
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=bind,source=deploy/image,target=/image/deploy/image \
    /image/deploy/image/install.sh product /opt/plumbline /wheels \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin plumbline \
    && install --directory --owner plumbline /var/cache/plumbline
ENV HF_HOME=/var/cache/plumbline/huggingface \
    HOME=/tmp \
    PATH=/opt/plumbline/bin:$PATH \
    PLUMBLINE_CACHE_DIR=/var/cache/plumbline \
    PLUMBLINE_STORE=sqlite:////var/cache/plumbline/store.db \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/cache/plumbline
WORKDIR /tmp
USER 10001
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["/opt/plumbline/bin/python", "-I", "-S", "/opt/plumbline/is_ready.py"]
ENTRYPOINT ["/opt/plumbline/bin/plumbline"]
CMD ["serve"]

FROM cpu-base AS cpu
COPY --from=cpu-dependencies /opt/plumbline /opt/plumbline
COPY deploy/image/is_ready.py /opt/plumbline/is_ready.py
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    --mount=type=bind,source=deploy/image,target=/image/deploy/image \
    /image/deploy/image/install.sh product /opt/plumbline /wheels \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin plumbline \
    && install --directory --owner plumbline /var/cache/plumbline
ENV HF_HOME=/var/cache/plumbline/huggingface \
    HOME=/tmp \
    PATH=/opt/plumbline/bin:$PATH \
    PLUMBLINE_CACHE_DIR=/var/cache/plumbline \
    PLUMBLINE_STORE=sqlite:////var/cache/plumbline/store.db \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
VOLUME /var/cache/plumbline
WORKDIR /tmp
USER 10001
EXPOSE 8000 9000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m --retries=3 \
    CMD ["/opt/plumbline/bin/python", "-I", "-S", "/opt/plumbline/is_ready.py"]
ENTRYPOINT ["/opt/plumbline/bin/plumbline"]
CMD ["serve"]
