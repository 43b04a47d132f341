#!/bin/sh
# Starts tritonserver on a model repository. Further tritonserver options may follow as arguments;
# where one is given twice, the later one counts.
#
#   TRITON_ADMIN_KEY         required; only requests that carry it may load and unload models,
#                            register shared memory, or change tracing and logging
#   TRITON_ADMIN_KEY_FILE    a file that holds it, where it is not set itself
#   TRITON_MODEL_REPOSITORY  a folder or an s3:// address; /models where it is not set
#   TRITON_MODEL_CONFIG_NAME a variant: models that have configs/NAME.pbtxt run with that
#   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_SESSION_TOKEN
#                            for such an address, or AWS_SHARED_CREDENTIALS_FILE, or who the
#                            container is to its cloud; Triton reads them itself
set -eu

refuse() {
    echo "serve.sh: $1. Make one with: openssl rand -hex 32" >&2
    exit 2
}

key=${TRITON_ADMIN_KEY:-}
file=${TRITON_ADMIN_KEY_FILE:-}
if [ -z "$key" ] && [ -n "$file" ]; then
    key=$(cat "$file" 2>/dev/null) || refuse "TRITON_ADMIN_KEY_FILE is $file, which cannot be read"
fi
case $key in
    '') refuse 'TRITON_ADMIN_KEY is not set, and there is no default' ;;
    *[!A-Za-z0-9_.-]*) refuse 'TRITON_ADMIN_KEY may hold letters, digits, dots, - and _ only' ;;
esac
[ "${#key}" -ge 16 ] || refuse "TRITON_ADMIN_KEY has ${#key} characters, 16 or more expected"

cores=$(nproc)
if [ "$cores" -gt 2 ] && [ -z "${TRITON_MODEL_CONFIG_NAME:-}" ]; then
    echo "serve.sh: the configurations suit 2 cores, here are $cores: \"More cores\" in" \
        "docs/docker.md says how to use them" >&2
fi

# Explicit control: a model changes when somebody with the key says so, never because a file did.
# The configurations are whole, so nothing is guessed from the models (1.3 s faster, too).
admin="model-repository,shared-memory,trace,logging:admin-key=$key"
exec tritonserver \
    --model-repository="${TRITON_MODEL_REPOSITORY:-/models}" \
    --model-control-mode=explicit \
    --load-model='*' \
    --disable-auto-complete-config \
    ${TRITON_MODEL_CONFIG_NAME:+"--model-config-name=$TRITON_MODEL_CONFIG_NAME"} \
    --grpc-restricted-protocol="$admin" \
    --http-restricted-api="$admin" \
    --http-address=0.0.0.0 \
    --grpc-address=0.0.0.0 \
    --metrics-address=0.0.0.0 \
    "$@"
