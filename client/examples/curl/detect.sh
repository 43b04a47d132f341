#!/bin/sh
# Detects objects in a photo with curl and jq; writes a line of JSON for each, the best first.
#
#   ./detect.sh photo.jpg [http://127.0.0.1:8000]
set -eu
[ $# -ge 1 ] || { echo "usage: $0 PHOTO [URL]" >&2; exit 2; }
photo=$1
url=${2:-http://127.0.0.1:8000}
[ -f "$photo" ] && [ -r "$photo" ] || { echo "$photo: no file that can be read" >&2; exit 1; }

# JSON cannot hold a photo's bytes, so they follow it: their number in 4 bytes, little endian, then
# the file as it is. The header Inference-Header-Content-Length says where the JSON ends.
size=$(wc -c < "$photo")
request='{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1],
  "parameters": {"binary_data_size": '$((4 + size))'}}],
  "parameters": {"score_threshold": 0.5}}' # the last line is optional
byte() { printf "\\$(printf %03o $(($1 & 255)))"; }
body() {
  printf %s "$request"
  byte "$size"; byte $((size >> 8)); byte $((size >> 16)); byte $((size >> 24))
  cat "$photo"
}

if ! answer=$(body | curl --silent --show-error --fail-with-body --max-time 30 \
    --header "Inference-Header-Content-Length: ${#request}" --header Expect: \
    --header "Content-Type: application/octet-stream" \
    --data-binary @- "$url/v2/models/ensemble/infer"); then
  printf '%s\n' "$answer" | jq --raw-output .error >&2
  exit 1
fi

printf '%s\n' "$answer" | jq --compact-output '
  (.outputs | map({(.name): .data}) | add)
  | range(.num_detections[0]) as $row
  | .detection_boxes[4 * $row : 4 * $row + 4] as [$x1, $y1, $x2, $y2]
  | {label: .detection_labels[$row], score: .detection_scores[$row], $x1, $y1, $x2, $y2}'
