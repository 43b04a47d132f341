# NVIDIA's Triton, the Python packages that the preprocess and postprocess models import, and the
# model repository. Built from the project's root:
#
#   docker build -f deploy/docker/triton.Dockerfile -t ssd-on-triton/triton .
#
# The models' packages go into the image's own Python 3.12, because that is where Triton's Python
# backend looks for them.
#
# A digest holds the base still: docs/docker.md, "Base images".
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.10-py3
FROM ${TRITON_IMAGE}

WORKDIR /opt/ssd-on-triton
COPY deploy/docker/requirements/triton.txt ./
RUN python3 -m pip install --no-cache-dir --break-system-packages --only-binary :all: \
        --require-hashes --requirement triton.txt

COPY deploy/docker/serve.sh deploy/docker/healthcheck.py deploy/docker/drain.py ./
COPY model_repository /models

# The C library keeps up to 32 MiB that it freed: with its own limits the memory of each photo goes
# back to the system, and asking for it again takes nearly as long as decoding.
ENV MALLOC_TRIM_THRESHOLD_=33554432 MALLOC_MMAP_THRESHOLD_=33554432

# triton-server, the account that the base image makes for this. By number, so that Kubernetes
# can tell it is not root.
USER 1000:1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=6s --start-period=120s --retries=3 \
    CMD ["python3", "/opt/ssd-on-triton/healthcheck.py"]
# The base image's entry point stays: it checks the GPU driver, then runs this.
CMD ["sh", "/opt/ssd-on-triton/serve.sh"]
