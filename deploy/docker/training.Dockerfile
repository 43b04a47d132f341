# The commands of `python -m training`, for training in a cluster; on CPUs, for CUDA's libraries are
# not in it. Built from the project's root:
#
#   docker build -f deploy/docker/training.Dockerfile -t ssd-on-triton/training .
#
# A digest holds the base still: docs/docker.md, "Base images".
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

# Packages first: this layer is built again only when they change.
WORKDIR /app
COPY deploy/docker/requirements/training.txt ./
RUN python -m pip install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement training.txt

COPY training training
# The served models' own Python, which decodes and decides in training as it does there.
COPY model_repository/preprocess/1 model_repository/preprocess/1
COPY model_repository/postprocess/1 model_repository/postprocess/1

# Found from every working directory, so that one can be where the photos are.
ENV PYTHONUNBUFFERED=1 HOME=/tmp PYTHONPATH=/app
USER 1000:1000
ENTRYPOINT ["python", "-m", "training"]
CMD ["--help"]
