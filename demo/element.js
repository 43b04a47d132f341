"use strict";
// HTML elements from data. Texts are set as texts: nothing that a server or a file name says is
// ever read as HTML.

/** element("p", {class: "note"}, "text", child): `on...` are listeners; null and false are left out. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A panel in the place of a result. `code` stands between backquotes. */
function messagePanel({ headline, text, kind }) {
  const marked = (words) => words.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
  return element("div", { class: `message ${kind}`, role: kind === "error" ? "alert" : "status" },
    element("strong", {}, ...marked(headline)), element("p", {}, ...marked(text)));
}

/** Style attribute: a label's colour, and one to write on it. */
function coloured(colours, label) {
  const { colour, ink } = colours[label] ?? { colour: "gray", ink: "white" };
  return `--colour:${colour};--ink:${ink}`;
}

/** "17 RBC, 1 WBC", the most frequent first. */
function counted(counts) {
  return counts.map(([label, count]) => `${count} ${label}`).join(", ");
}

/** [label, number] of each label, the most frequent first. */
function countsOf(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].sort((one, other) => other[1] - one[1]);
}
