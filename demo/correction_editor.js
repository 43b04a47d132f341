/* The editor of corrections: the body of a function that gr.HTML calls once, with the element, its
 * properties, and ways to hear from the server (watch) and to tell it something (trigger). What
 * they say to each other stands in correction_editor.py.
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

// ---------------------------------------------------------------- boxes

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

// ---------------------------------------------------------------- what is seen

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function options(select, chosen) {
  const labels = photo.classes.map(({ label }) => label);
  if (chosen !== undefined && !labels.includes(chosen)) labels.push(chosen); // cannot be saved
  const made = labels.map((label) => make("option", { value: label, textContent: label }));
  select.replaceChildren(...made);
}

/** The elements of a box, which stay the same while it lives, so that the focus stays too. */
function shapeOf(box) {
  if (!shapes.has(box.id)) {
    const corners = ["x1 y1", "x2 y1", "x1 y2", "x2 y2"].map((edges) => {
      const corner = make("i", { className: `corner ${edges}` });
      corner.dataset.edges = edges;
      return corner;
    });
    const name = make("span");
    const shape = make("div", { className: "box" }, name, ...corners);
    shape.setAttribute("role", "button");
    shape.onkeydown = (event) => pressed(event, boxOf(box.id));
    const row = rowOf(box.id);
    shapes.set(box.id, { shape, name, ...row });
    stage.append(shape);
  }
  return shapes.get(box.id);
}

function rowOf(id) {
  const pick = make("button", { type: "button" });
  pick.onclick = () => { select(id); shapes.get(id).shape.focus(); };
  const label = make("select", { onchange: () => set(boxOf(id), { label: label.value }) });
  const edges = EDGES.map((edge) => {
    const input = make("input", { type: "number", step: 1 });
    input.onchange = () => {
      const by = Number(input.value) - boxOf(id)[edge];
      set(boxOf(id), moved(boxOf(id), by, by, [edge]), `${edge} ${id}`);
    };
    return input;
  });
  const difficult = make("input", { type: "checkbox" });
  difficult.onchange = () => set(boxOf(id), { difficult: difficult.checked });
  const drop = make("button", { type: "button", textContent: "Remove" });
  drop.onclick = () => { remove(boxOf(id)); find(".undo").focus(); };
  const cells = [pick, label, ...edges, difficult, drop].map((cell) => make("td", {}, cell));
  const row = make("tr", {}, ...cells);
  return { row, pick, label, edges, difficult, drop };
}

function render() {
  for (const [id, { shape, row }] of shapes) {
    if (!boxOf(id)) {
      shape.remove();
      row.remove();
      shapes.delete(id);
    }
  }
  boxes.forEach(renderBox);
  const box = boxOf(selected);
  find(".whose").textContent = box ? `Class of box ${numberOf(box)}` : "Class of new boxes";
  if (box) find(".class").value = box.label;
  find(".difficult").checked = Boolean(box?.difficult);
  find(".difficult").disabled = find(".remove").disabled = !box;
  find(".undo").disabled = !past.length;
  const same = content() === unchanged;
  find(".save").textContent = same ? "All boxes are right: save" : "Save the corrections";
}

function renderBox(box, index) {
  const elements = shapeOf(box);
  const chosen = box.id === selected;
  renderShape(elements, box, `Box ${index + 1}`, chosen);
  renderRow(elements, box, index, chosen);
}

function renderShape({ shape, name }, box, number, chosen) {
  const larger = boxes.filter((other) => area(other) > area(box)).length;
  place(shape, box);
  name.textContent = box.label + (box.difficult ? " ?" : "");
  shape.classList.toggle("top", box.y1 < photo.height / 25); // its name would be cut off above it
  shape.classList.toggle("selected", chosen);
  shape.tabIndex = chosen ? 0 : -1; // one stop of the Tab key; the table has all boxes
  shape.setAttribute("aria-pressed", chosen);
  shape.setAttribute("aria-label", `${number}: ${described(box)}`);
  shape.style.zIndex = chosen ? 1_000_000 : 1 + larger; // small ones are not covered by large ones
}

function renderRow({ row, pick, label, edges, difficult, drop }, box, index, chosen) {
  const number = `box ${index + 1}`;
  if (rows.children[index] !== row) rows.insertBefore(row, rows.children[index]);
  row.classList.toggle("selected", chosen);
  pick.textContent = index + 1;
  pick.setAttribute("aria-label", `Select ${number}`);
  pick.setAttribute("aria-pressed", chosen);
  if (![...label.options].some(({ value }) => value === box.label)) options(label, box.label);
  label.value = box.label;
  label.setAttribute("aria-label", `Class of ${number}`);
  EDGES.forEach((edge, k) => {
    const side = ["Left", "Top", "Right", "Bottom"][k];
    edges[k].value = box[edge];
    edges[k].setAttribute("aria-label", `${side} edge of ${number}`);
  });
  difficult.checked = box.difficult;
  difficult.setAttribute("aria-label", `Not sure of ${number}`);
  drop.setAttribute("aria-label", `Remove ${number}`);
}

function place(shape, { label, x1, y1, x2, y2 }) {
  const known = photo.classes.find((each) => each.label === label);
  const look = known ?? { colour: "#888", ink: "white" };
  const percent = (part, whole) => `${(100 * part) / whole}%`;
  shape.style.left = percent(x1, photo.width);
  shape.style.top = percent(y1, photo.height);
  shape.style.width = percent(x2 - x1, photo.width);
  shape.style.height = percent(y2 - y1, photo.height);
  shape.style.setProperty("--colour", look.colour);
  shape.style.setProperty("--ink", look.ink);
}

function say(text) {
  find(".said").textContent = text;
}

// ---------------------------------------------------------------- mouse, finger, keys

function pointAt(event) {
  const { left, top, width, height } = stage.getBoundingClientRect();
  return {
    x: within(((event.clientX - left) / width) * photo.width, 0, photo.width),
    y: within(((event.clientY - top) / height) * photo.height, 0, photo.height),
  };
}

/** The boxes below a point, the smallest first. */
function boxesAt({ x, y }) {
  const below = boxes.filter((box) => box.x1 <= x && x <= box.x2 && box.y1 <= y && y <= box.y2);
  return below.sort((one, other) => area(one) - area(other));
}

/** A click selects the smallest box there, and clicked again the next one below it. */
function clicked(point) {
  const below = boxesAt(point);
  const next = below.findIndex(({ id }) => id === selected) + 1;
  select(below.length ? below[next % below.length].id : null);
  if (selected !== null) shapes.get(selected).shape.focus({ preventScroll: true });
}

function dragStarts(event) {
  if (!photo || !event.isPrimary || event.button) return;
  event.preventDefault(); // neither the picture nor text is dragged
  const shape = event.target.closest(".box.selected");
  const edges = event.target.dataset.edges?.split(" ") ?? EDGES;
  const from = pointAt(event);
  drag = { from, screen: [event.clientX, event.clientY], edges, far: false };
  if (shape) drag.box = { ...boxOf(selected) };
  else drag.drawn = make("div", { className: "box drawn" });
  stage.setPointerCapture(event.pointerId);
}

function dragMoves(event) {
  if (!drag || !event.isPrimary) return;
  const [x, y] = drag.screen;
  drag.far ||= Math.hypot(event.clientX - x, event.clientY - y) >= DRAWN;
  if (!drag.far) return;
  const { from } = drag;
  const to = pointAt(event);
  if (drag.box) {
    drag.to = moved(drag.box, to.x - from.x, to.y - from.y, drag.edges);
    place(shapes.get(drag.box.id).shape, { ...drag.box, ...drag.to });
    return;
  }
  drag.to = {
    x1: Math.round(Math.min(from.x, to.x)), y1: Math.round(Math.min(from.y, to.y)),
    x2: Math.round(Math.max(from.x, to.x)), y2: Math.round(Math.max(from.y, to.y)),
  };
  stage.append(drag.drawn);
  place(drag.drawn, { label: chosenClass(), ...drag.to });
}

function dragEnds(event) {
  if (!drag || !event.isPrimary) return;
  const { box, drawn, from, to, far } = drag;
  dragStops();
  if (!far) clicked(from);
  else if (box) set(boxOf(box.id), to);
  else if (drawn && to.x2 - to.x1 >= SMALLEST && to.y2 - to.y1 >= SMALLEST) add(to);
}

function dragStops() {
  if (!drag) return;
  drag.drawn?.remove();
  drag = null;
  render();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function pressed(event, box) {
  if (event.key in ARROWS && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const step = Math.max(1, Math.round(Math.max(photo.width, photo.height) / 400));
    const [dx, dy] = ARROWS[event.key].map((sign) => sign * step);
    const edges = event.shiftKey ? ["x2", "y2"] : EDGES;
    set(box, moved(box, dx, dy, edges), `arrows ${box.id} ${edges}`);
  } else if (event.key === "Delete" || event.key === "Backspace") {
    remove(box);
    find(".undo").focus();
  } else return;
  event.preventDefault();
}

function pressedAnywhere(event) {
  const control = (event.ctrlKey || event.metaKey) && !event.shiftKey;
  if (event.key === "Escape") {
    if (drag) dragStops();
    else select(null);
  } else if (control && event.key === "z" && event.target.type !== "number") undo();
  else return;
  event.preventDefault();
}

// ---------------------------------------------------------------- the server

function open(value) {
  if (photo?.image !== value.image) past = []; // the same photo's boxes so far can be had again
  else past.push({ boxes, selected });
  photo = value;
  boxes = value.boxes.map((box) => ({ id: nextId++, ...box }));
  selected = null;
  repeated = "";
  unchanged = content();
  picture.src = value.photo.url;
  picture.alt = `${value.name}, to be corrected`;
  stage.style.setProperty("--ratio", value.width / value.height);
  options(find(".class"));
  find("h2").textContent = `Correct the boxes of ${value.name}`;
  editor.hidden = false;
  answered();
  say("");
  render();
  find("h2").focus();
}

function save() {
  const button = find(".save");
  if (button.disabled) return;
  button.disabled = true;
  say("Saving …");
  notify({ kind: "hint", text: "" });
  drag = null;
  photo.sent = content();
  trigger("save", { image: photo.image, boxes: JSON.parse(photo.sent) });
  lost = setTimeout(() => {
    answered();
    notify({ kind: "error", text: "The server did not answer. Please save again." });
  }, PATIENCE);
}

function answered() {
  clearTimeout(lost);
  find(".save").disabled = false;
}

function notify({ kind, text }) {
  const notice = find(".notice");
  notice.className = `notice ${kind}`;
  notice.textContent = text;
  notice.hidden = !text;
}

function heard() {
  const value = props.value;
  if (!value) return;
  if (value.photo) open(value);
  else if (photo && value.image === photo.image) {
    answered();
    say("");
    if (value.notice.kind === "saved") unchanged = photo.sent;
    render();
  }
  notify(value.notice);
}

stage.addEventListener("pointerdown", dragStarts);
stage.addEventListener("pointermove", dragMoves);
stage.addEventListener("pointerup", dragEnds);
stage.addEventListener("pointercancel", dragStops);
editor.addEventListener("keydown", pressedAnywhere);
find(".add").onclick = addInTheMiddle;
find(".remove").onclick = () => { remove(boxOf(selected)); find(".undo").focus(); };
find(".undo").onclick = undo;
find(".save").onclick = save;
find(".close").onclick = () => { editor.hidden = true; notify({ kind: "hint", text: "" }); };
find(".class").onchange = () => {
  const box = boxOf(selected);
  if (box) set(box, { label: find(".class").value });
};
find(".difficult").onchange = () => set(boxOf(selected), { difficult: find(".difficult").checked });
watch("value", heard);
heard();
