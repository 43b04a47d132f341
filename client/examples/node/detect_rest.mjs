// Detects objects in a photo over REST; writes a line of JSON for each, the best first.
// Needs Node.js 18 and nothing else.
//
//   node detect_rest.mjs photo.jpg [http://127.0.0.1:8000]

import { readFile } from 'node:fs/promises'

const SECONDS = 30 // from sending to answer

/** Sends an encoded photo, a Buffer, as it is. Returns its detections, corners in pixels. */
async function detect(url, photo) {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(photo.length)
  const image = {
    name: 'image',
    datatype: 'BYTES',
    shape: [1, 1],
    parameters: { binary_data_size: length.length + photo.length }
  }
  const parameters = { score_threshold: 0.5 } // optional
  const header = Buffer.from(JSON.stringify({ inputs: [image], parameters }))
  const response = await fetch(`${url}/v2/models/ensemble/infer`, {
    method: 'POST',
    headers: { 'Inference-Header-Content-Length': String(header.length) },
    // JSON cannot hold a photo's bytes, so they follow it: their number in 4 bytes, then they.
    body: Buffer.concat([header, length, photo]),
    signal: AbortSignal.timeout(1000 * SECONDS)
  })
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.error)
  return detections(Object.fromEntries(answer.outputs.map(({ name, data }) => [name, data])))
}

/** From the tensors, flat arrays by name. */
function detections(tensors) {
  return Array.from({ length: tensors.num_detections[0] }, (_, row) => {
    const [x1, y1, x2, y2] = tensors.detection_boxes.slice(4 * row, 4 * row + 4)
    const { detection_labels: labels, detection_scores: scores } = tensors
    return { label: labels[row], score: scores[row], x1, y1, x2, y2 }
  })
}

const [file, url = 'http://127.0.0.1:8000'] = process.argv.slice(2)
if (!file) {
  console.error('usage: node detect_rest.mjs PHOTO [URL]')
  process.exit(2)
}
try {
  for (const detection of await detect(url, await readFile(file))) {
    console.log(JSON.stringify(detection))
  }
} catch (error) {
  console.error(error.cause?.message || error.message) // fetch hides "connection refused"
  process.exitCode = 1
}
