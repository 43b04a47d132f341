// Boxes as they are seen: over the photo and in the table. Goes on from boxes.js.

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
  find(".accept").textContent = same ? "Accept" : "Accept with my changes";
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

/** The boxes that count so far, to be compared with what is proposed. */
function renderCounting(counting) {
  stage.querySelectorAll(".counting").forEach((shape) => shape.remove());
  for (const box of counting) {
    const shape = make("div", { className: "counting", title: `So far: ${box.label}` });
    place(shape, box);
    stage.append(shape);
  }
  find(".legend").hidden = !counting.length;
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

