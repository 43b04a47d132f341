"use strict";
// What the sliders say. Score threshold and number act here, on what the server has answered; the
// IoU threshold acts in the server, which is asked again.

const settings = Object.assign(new EventTarget(), { score: 0.5, iou: 0.45, most: 100 });

/** Called by the sliders; an emptied number field says null, and nothing changes. */
function changeSettings(score, iou, most) {
  for (const [name, value] of Object.entries({ score, iou, most })) {
    if (typeof value === "number") settings[name] = value;
  }
  settings.dispatchEvent(new Event("change"));
}

/** The detections that the server would answer with at these settings; they come best first. */
function shown(detections) {
  const least = Math.fround(settings.score); // the server compares float32 numbers
  return detections.filter(({ score }) => score > least).slice(0, settings.most);
}
