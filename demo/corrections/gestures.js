// What mouse, finger and keys do to boxes. Goes on from shapes.js.

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

