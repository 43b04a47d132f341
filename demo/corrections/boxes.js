/* The editor of corrections: boxes.js, shapes.js, gestures.js and editor.js together are the body of
 * a function that gr.HTML calls once, with the element, its properties, and ways to hear from the
 * server (watch) and to tell it something (trigger). What they say to each other stands in editor.py.
 *
 * A box is {id, label, x1, y1, x2, y2, difficult} in whole pixels of the upright photo. Labels and
 * names are only ever written as text, never as HTML.
 */
"use strict";

const SMALLEST = 2; // pixels a side of a box has at least, as the server wants it
const DRAWN = 6; // pixels of the screen; what is dragged over less is a click
const EDGES = ["x1", "y1", "x2", "y2"];
const PATIENCE = 60_000; // milliseconds until an answer is taken for lost
const find = (selector) => element.querySelector(selector);
const [editor, stage, picture, rows] = [".editor", ".stage", ".stage img", "tbody"].map(find);
const shapes = new Map(); // id of a box: its elements, on the photo and in the table

let photo = null; // what the server sent
let boxes = [];
let selected = null; // id
let past = []; // earlier {boxes, selected}, the last one newest
let repeated = ""; // steps of the same kind on the same box are one step to undo
let unchanged = ""; // the boxes as they came, or as they were saved
let drag = null;
let lost = 0; // timer
let nextId = 0;

const boxOf = (id) => boxes.find((box) => box.id === id);
const numberOf = (box) => boxes.indexOf(box) + 1;
const area = (box) => (box.x2 - box.x1) * (box.y2 - box.y1);
const within = (value, low, high) => Math.min(Math.max(value, low), high);
const content = () => JSON.stringify(boxes.map(({ id, ...box }) => box));

/** Change the boxes, so that it can be undone, and say so. */
function change(kind, act, text = "") {
  dragStops();
  if (!kind || kind !== repeated) past.push({ boxes: structuredClone(boxes), selected });
  repeated = kind;
  act();
  render();
  if (text) say(text);
}

function undo() {
  dragStops();
  if (!past.length) return;
  ({ boxes, selected } = past.pop());
  repeated = "";
  render();
  say("Undone.");
}

function add(box) {
  const made = { id: nextId++, label: chosenClass(), difficult: false, ...box };
  change("", () => { boxes.push(made); selected = made.id; }, `Box ${boxes.length + 1} added.`);
}

/** The list is empty while a box of a class that it does not have is selected. */
const chosenClass = () => find(".class").value || photo.classes[0].label;

function addInTheMiddle() {
  const side = Math.max(SMALLEST, Math.round(Math.min(photo.width, photo.height) / 5));
  const [x1, y1] = [(photo.width - side) >> 1, (photo.height - side) >> 1];
  add({ x1, y1, x2: x1 + side, y2: y1 + side });
  shapes.get(selected).shape.focus();
}

function remove(box) {
  const text = `Box ${numberOf(box)}, ${box.label}, removed. Undo brings it back.`;
  change("", () => {
    boxes = boxes.filter((other) => other !== box);
    if (selected === box.id) selected = null;
  }, text);
}

function set(box, values, kind = "") {
  const text = `Box ${numberOf(box)}: ${described({ ...box, ...values })}.`;
  change(kind, () => Object.assign(box, values), text);
}

/** Move all edges, or only those named, and stay inside the photo. */
function moved(box, dx, dy, edges = EDGES) {
  const sides = [["x1", "x2", dx, photo.width], ["y1", "y2", dy, photo.height]];
  const to = {};
  for (const [low, high, distance, size] of sides) {
    const [lowMoves, highMoves] = [edges.includes(low), edges.includes(high)];
    const least = lowMoves ? -box[low] : box[low] + SMALLEST - box[high];
    const most = highMoves ? size - box[high] : box[high] - SMALLEST - box[low];
    const by = within(Math.round(distance), least, most);
    if (lowMoves) to[low] = box[low] + by;
    if (highMoves) to[high] = box[high] + by;
  }
  return to;
}

function select(id) {
  selected = id;
  repeated = "";
  render();
  const box = boxOf(id);
  if (box) say(`Box ${numberOf(box)}: ${described(box)}.`);
}

const described = (box) =>
  `${box.label}${box.difficult ? ", not sure" : ""}, left ${box.x1}, top ${box.y1}, ` +
  `right ${box.x2}, bottom ${box.y2}`;

