"use strict";

/**
 * A picture with one element per detection, placed in percent of the picture's size, so that boxes
 * fit at any size on the screen while lines and letters keep theirs.
 *
 * It takes one step of the tab order; arrow keys go from box to box, the best first. What a box
 * holds is told below the picture, to screen readers too.
 */
class BoxedPicture {
  constructor(picture = element("img", { alt: "" })) {
    this.picture = picture;
    this.layer = element("div", { class: "layer" });
    this.frame = element("div", {
      class: "photo", tabindex: "0", role: "application",
      "aria-roledescription": "photo with boxes", "data-focus": "photo",
      onkeydown: (event) => this.pressed(event),
      onpointerleave: () => this.pick(null),
    }, picture, this.layer);
    this.told = element("p", { class: "told", "aria-live": "polite" });
    this.element = element("div", { class: "boxed" }, this.frame, this.told);
    this.onpick = () => {}; // is told the index of the box that is picked, or null
  }

  /** detections: those to draw, best first. mark: returns a further class of a detection's box. */
  show({ name, width, height, image }, detections, colours, mark = () => "") {
    if (image && this.picture.getAttribute("src") !== image.url) this.picture.src = image.url;
    this.frame.style.setProperty("--ratio", (width / height).toFixed(5));
    this.frame.setAttribute("aria-label",
      `${name}: ${counted(countsOf(detections)) || "no boxes"}. Arrow keys go from box to box.`);
    this.detections = detections;
    this.picked = null;
    // The largest below, so that the pointer reaches all of them; names above all boxes.
    const area = ({ box }) => (box.x2 - box.x1) * (box.y2 - box.y1);
    const order = [...detections.keys()].sort((one, other) => area(detections[other]) - area(detections[one]));
    const parts = (kind) => order.map((index) => this.part(kind, index, { width, height }, colours, mark));
    this.layer.replaceChildren(...parts("box"), ...parts("name"));
    this.tell();
  }

  /** A "box", or its "name", which stands where the picture's edge does not cut it off. */
  part(kind, index, { width, height }, colours, mark) {
    const found = this.detections[index];
    const { x1, y1, x2, y2 } = found.box;
    const [left, top] = [100 * x1 / width, 100 * y1 / height];
    const [wide, high] = [100 * (x2 - x1) / width, 100 * (y2 - y1) / height];
    const side = `${top < 5 ? "under" : "over"} ${left + wide / 2 > 50 ? "right" : "left"}`;
    const name = `${found.label} ${found.score.toFixed(2)}`;
    return element("div", {
      class: `${kind} ${side} ${mark(found)}`, "data-index": index, title: name,
      style: `left:${left.toFixed(3)}%;top:${top.toFixed(3)}%;width:${wide.toFixed(3)}%;` +
        `height:${high.toFixed(3)}%;${coloured(colours, found.label)}`,
      onpointerenter: () => this.pick(index),
      onclick: () => this.pick(index), // where there is no pointer to hover with
    }, kind === "name" ? element("span", {}, name) : "");
  }

  pick(index) {
    if (index === this.picked) return;
    this.picked = index;
    for (const part of this.layer.children) {
      part.classList.toggle("picked", part.dataset.index === String(index));
    }
    this.tell();
    this.onpick(index);
  }

  tell() {
    const found = this.detections[this.picked];
    this.told.textContent = found
      ? `${this.picked + 1} of ${this.detections.length}: ${found.label}, score ` +
        `${found.score.toFixed(3)}, ${sizeOf(found)} px`
      : "";
  }

  pressed(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") this.pick(null);
    if (!step || !this.detections.length) return;
    event.preventDefault(); // the page would scroll
    const count = this.detections.length;
    const from = this.picked ?? (step > 0 ? -1 : count);
    this.pick((from + step + count) % count);
  }
}

/** "75 × 60" */
function sizeOf({ box }) {
  return `${Math.round(box.x2 - box.x1)} × ${Math.round(box.y2 - box.y1)}`;
}
