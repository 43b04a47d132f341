// What the server says, and what it is told. Goes on from gestures.js.

const DECISIONS = ["accept", "refuse", "skip"];

function open(value) {
  if (photo?.image !== value.image) past = []; // the same photo's boxes so far can be had again
  else past.push({ boxes, selected });
  photo = value;
  boxes = value.boxes.map((box) => ({ id: nextId++, ...box }));
  selected = null;
  repeated = "";
  unchanged = content();
  picture.src = value.photo.url;
  picture.alt = `${value.name}, to be ${value.history ? "reviewed" : "corrected"}`;
  stage.style.setProperty("--ratio", value.width / value.height);
  options(find(".class"));
  find("h2").textContent = value.history ? `Review: ${value.name}` : `Correct the boxes of ${value.name}`;
  dress(value.history);
  renderCounting(value.counting ?? []);
  editor.hidden = false;
  answered();
  say("");
  render();
  find("h2").focus();
}

/** Show what belongs to reviewing, or to correcting. */
function dress(history) {
  find(".save").hidden = find(".stored").hidden = Boolean(history);
  for (const name of DECISIONS) find(`.${name}`).hidden = !history;
  const lines = (history ?? []).map((line) => make("li", { textContent: line }));
  find(".past").replaceChildren(...lines);
  find(".past").hidden = !lines.length;
}

/** Send the boxes, and what is to become of them. */
function send(event, values = {}) {
  if (find(".save").disabled) return;
  wait(true);
  say(event === "save" ? "Saving …" : "Deciding …");
  notify({ kind: "hint", text: "" });
  drag = null;
  photo.sent = content();
  trigger(event, { image: photo.image, boxes: JSON.parse(photo.sent), ...values });
  lost = setTimeout(() => {
    answered();
    notify({ kind: "error", text: "The server did not answer. Please try again." });
  }, PATIENCE);
}

function wait(waiting) {
  for (const name of ["save", ...DECISIONS]) find(`.${name}`).disabled = waiting;
}

function answered() {
  clearTimeout(lost);
  wait(false);
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
    if (value.counting) renderCounting(value.counting);
    render();
  } else if (photo?.history) editor.hidden = true; // nothing is left to review
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
find(".save").onclick = () => send("save");
for (const did of DECISIONS) find(`.${did}`).onclick = () => send("decide", { did });
find(".close").onclick = () => { editor.hidden = true; notify({ kind: "hint", text: "" }); };
find(".class").onchange = () => {
  const box = boxOf(selected);
  if (box) set(box, { label: find(".class").value });
};
find(".difficult").onchange = () => set(boxOf(selected), { difficult: find(".difficult").checked });
watch("value", heard);
heard();
