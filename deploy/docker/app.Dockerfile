# The demo page, a client of Triton. Built from the project's root:
#
#   docker build -f deploy/docker/app.Dockerfile -t ssd-on-triton/app .
#
# A digest holds the base still: docs/docker.md, "Base images".
ARG PYTHON_IMAGE=python:3.12-slim
FROM ${PYTHON_IMAGE}

# Packages first: this layer is built again only when they change.
WORKDIR /app
COPY deploy/docker/requirements/app.txt ./
RUN python -m pip install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement app.txt

COPY client client
COPY demo demo
COPY samples samples
COPY app.py ./

ENV PYTHONUNBUFFERED=1 HOME=/tmp
USER 1000:1000
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', 7860, timeout=3); c.request('GET', '/'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["python", "app.py", "--url", "triton:8001", "--host", "0.0.0.0", "--port", "7860"]
