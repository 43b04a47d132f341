# `python -m learning run` for a schedule in a cluster: training and serving in one, on CPUs. Built
# from the project's root:
#
#   docker build -f deploy/docker/learning.Dockerfile -t ssd-on-triton/learning .
#
# A digest holds the base still: docs/docker.md, "Base images".
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

# Packages first: this layer is built again only when they change.
WORKDIR /app
COPY deploy/docker/requirements/learning.txt ./
RUN python -m pip install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement learning.txt

COPY client client
COPY learning learning
COPY serving serving
COPY training training
COPY model_repository model_repository

# Found from every working directory, so that one can be where the photos are.
ENV PYTHONUNBUFFERED=1 HOME=/tmp PYTHONPATH=/app
USER 1000:1000
ENTRYPOINT ["python", "-m", "learning"]
CMD ["--help"]
