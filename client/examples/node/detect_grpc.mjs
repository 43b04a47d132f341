// Detects objects in a photo over gRPC; writes a line of JSON for each, the best first.
//
//   npm install
//   node detect_grpc.mjs photo.jpg [127.0.0.1:8001]

import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'

const SECONDS = 30 // from sending to answer
const PROTO = fileURLToPath(new URL('inference.proto', import.meta.url))
const { inference } = grpc.loadPackageDefinition(
  protoLoader.loadSync(PROTO, { keepCase: true, longs: Number })
)

/** Sends an encoded photo, a Buffer, as it is. Returns its detections, corners in pixels. */
async function detect(client, photo) {
  const answer = await infer(client, {
    model_name: 'ensemble',
    parameters: { score_threshold: { double_param: 0.5 } }, // optional
    inputs: [
      { name: 'image', datatype: 'BYTES', shape: [1, 1], contents: { bytes_contents: [photo] } }
    ]
  })
  const tensors = Object.fromEntries(
    answer.outputs.map(({ name }, index) => [name, answer.raw_output_contents[index]])
  )
  const texts = strings(tensors.detection_labels)
  const score = (row) => tensors.detection_scores.readFloatLE(4 * row)
  const corner = (row, column) => tensors.detection_boxes.readFloatLE(4 * (4 * row + column))
  const count = tensors.num_detections.readInt32LE()
  return Array.from({ length: count }, (_, row) => ({
    label: texts[row],
    score: score(row),
    x1: corner(row, 0),
    y1: corner(row, 1),
    x2: corner(row, 2),
    y2: corner(row, 3)
  }))
}

/** One call with a deadline, as a promise. */
function infer(client, request) {
  const deadline = Date.now() + 1000 * SECONDS // the server is told when it passes
  return new Promise((resolve, reject) => {
    client.ModelInfer(request, { deadline }, (error, answer) =>
      error ? reject(new Error(error.details || error.message)) : resolve(answer)
    )
  })
}

/** The elements of a tensor of type BYTES: each one's length in 4 bytes, then the bytes. */
function strings(bytes) {
  const found = []
  for (let at = 0; at < bytes.length; at += 4 + bytes.readUInt32LE(at)) {
    found.push(bytes.toString('utf8', at + 4, at + 4 + bytes.readUInt32LE(at)))
  }
  return found
}

const [file, address = '127.0.0.1:8001'] = process.argv.slice(2)
if (!file) {
  console.error('usage: node detect_grpc.mjs PHOTO [HOST:PORT]')
  process.exit(2)
}
// One client serves all requests of a program, also at the same time.
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure())
try {
  const detections = await detect(client, await readFile(file))
  detections.forEach((detection) => console.log(JSON.stringify(detection)))
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
} finally {
  client.close()
}
