"use strict";
// Files made of what is on show, in the forms of `python -m client detect`.

/** photos: each with its detections on show. */
function jsonOf(photos) {
  return JSON.stringify(photos.map(({ name, error, width, height, model, server, detections }) => error
    ? { file: name, error: `${error.headline}: ${error.text}` }
    : { file: name, width, height, counts: Object.fromEntries(countsOf(detections)), detections, model, server }), null, 2);
}

function csvOf(photos) {
  const rows = [["file", "width", "height", "label", "class_id", "score", "x1", "y1", "x2", "y2"]];
  for (const { name, width, height, detections } of photos) {
    for (const { label, class_id, score, box } of detections) {
      rows.push([name, width, height, label, class_id, score, box.x1, box.y1, box.x2, box.y2]);
    }
  }
  return rows.map((row) => row.map(csvField).join(",") + "\n").join("");
}

function csvField(value) {
  return /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000); // the browser may ask where to put it
}
