"use strict";
// How large the objects of each class are. The size of a box is the root of its area, in pixels:
// the side of a square that covers as much.

const BINS = 12;

function sizeHistogram(detections, colours) {
  const side = ({ box }) => Math.sqrt((box.x2 - box.x1) * (box.y2 - box.y1));
  const sides = detections.map(side);
  const [least, most] = [Math.min(...sides), Math.max(...sides)];
  const rows = countsOf(detections).map(([label]) => {
    const own = detections.filter((found) => found.label === label).map(side);
    return histogramRow(label, own.sort((one, other) => one - other), least, most, colours);
  });
  return element("details", { class: "histogram", open: true },
    element("summary", {}, "Sizes, root of the box's area in pixels"),
    element("div", {}, ...rows));
}

function histogramRow(label, sides, least, most, colours) {
  const bins = new Array(BINS).fill(0);
  const width = (most - least) / BINS || 1;
  for (const side of sides) bins[Math.min(BINS - 1, Math.floor((side - least) / width))] += 1;
  const highest = Math.max(...bins);
  const median = sides[Math.floor(sides.length / 2)];
  const [first, last] = [sides[0], sides[sides.length - 1]].map(Math.round);
  const told = `median ${Math.round(median)} px, ${first} to ${last}`;
  const bars = bins.map((count) => element("i", {
    style: `height:${100 * count / highest}%`,
    title: `${count}`,
  }));
  return element("div", { class: "sizes", style: coloured(colours, label) },
    element("span", {}, element("b", {}, label), ` ${told}`),
    element("div", { class: "bars", role: "img", "aria-label": `${label}: ${told}` }, ...bars),
    element("p", { class: "scale", "aria-hidden": "true" },
      element("span", {}, String(Math.round(least))), element("span", {}, `${Math.round(most)} px`)));
}
