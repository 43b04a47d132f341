# The commands of `python -m serving`, for releases and checks in a cluster. Built from the
# project's root:
#
#   docker build -f deploy/docker/serving.Dockerfile -t ssd-on-triton/serving .
#
# A digest holds the base still: docs/docker.md, "Base images".
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

# Packages first: this layer is built again only when they change.
WORKDIR /app
COPY deploy/docker/requirements/serving.txt ./
RUN python -m pip install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement serving.txt

COPY client client
COPY serving serving
COPY deploy/gateway deploy/gateway
COPY model_repository model_repository

ENV PYTHONUNBUFFERED=1 HOME=/tmp
USER 1000:1000
CMD ["python", "-m", "serving", "--help"]
