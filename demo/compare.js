"use strict";

const SAME = 0.5; // IoU from which on two boxes of one class are taken for the same object

/** Two answers for one photo side by side, and what differs. `value` is what demo/compare.py tells. */
class CompareView {
  constructor(place) {
    this.place = place;
    this.pictures = [new BoxedPicture(), new BoxedPicture()];
    settings.addEventListener("change", () => this.value && this.draw());
  }

  show(value) {
    this.value = value;
    this.draw();
  }

  draw() {
    const { message, sides } = this.value;
    const error = sides?.map(({ message, photos }) => message ?? photos[0].error).find(Boolean);
    const hint = {
      headline: "One photo, two versions",
      text: "Drop a photo, or click an example: the live version and its canary answer side by side.",
      kind: "hint",
    };
    if (!sides || error) {
      this.place.replaceChildren(messagePanel(message ?? error ?? hint));
      return;
    }
    const found = sides.map(({ photos }) => shown(photos[0].detections));
    const pairs = matched(...found);
    const alone = found.map((side, index) => side.filter((each) => !pairs.some((pair) => pair[index] === each)));
    this.place.replaceChildren(
      this.summary(sides, pairs, alone),
      element("div", { class: "sides" }, ...sides.map((side, index) => this.side(side, index, found[index], alone[index]))),
      this.table(sides, pairs, alone));
  }

  summary(sides, pairs, [first, second]) {
    const text = `${pairs.length} in both, ${first.length} only in ${sides[0].model}, ` +
      `${second.length} only in ${sides[1].model}`;
    return element("p", { class: "differences", role: "status" }, text);
  }

  side({ model, photos: [photo], facts, colours }, index, found, alone) {
    this.pictures[index].show(photo, found, colours, (each) => (alone.includes(each) ? "alone" : ""));
    const versions = (facts?.steps ?? []).map(({ model, version }) => `${model} ${version ?? ""}`).join(", ");
    return element("section", { "aria-label": model },
      element("h3", {}, model), element("p", { class: "server" },
        element("b", {}, `${photo.milliseconds.toFixed(0)} ms`), ` · ${versions}`),
      this.pictures[index].element);
  }

  /** What only one has comes first, then the pairs, the largest change of the score first. */
  table(sides, pairs, [first, second]) {
    const change = ([one, other]) => other.score - one.score;
    const ordered = [...pairs].sort((one, other) => Math.abs(change(other)) - Math.abs(change(one)));
    const all = [...first.map((found) => [found, null]), ...second.map((found) => [null, found]), ...ordered];
    const colours = { ...sides[0].colours, ...sides[1].colours };
    const score = (found) => element("td", {}, found ? found.score.toFixed(3) : "–");
    const rows = all.map(([one, other]) => {
      const both = one && other;
      const signed = both ? `${change([one, other]) < 0 ? "−" : "+"}${Math.abs(change([one, other])).toFixed(3)}` : "";
      const verdict = both ? signed : `only in ${sides[one ? 0 : 1].model}`;
      const label = (one ?? other).label;
      return element("tr", { style: coloured(colours, label), class: both ? "" : "alone" },
        element("th", { scope: "row" }, element("i"), label), score(one), score(other),
        element("td", {}, verdict), element("td", {}, both ? overlap(one.box, other.box).toFixed(2) : "–"));
    });
    const columns = ["label", sides[0].model, sides[1].model, "change", "IoU"];
    return element("details", { class: "table", open: true }, element("summary", {}, "Differences"),
      element("div", { tabindex: "0", role: "region", "aria-label": "Table of differences" },
        element("table", {},
          element("caption", { class: "for-screen-readers" }, "Scores of both, their change, overlap of the boxes"),
          element("thead", {}, element("tr", {}, ...columns.map((name, place) => element("th", { scope: "col", class: place ? "" : name }, name)))),
          element("tbody", {}, ...rows))));
  }
}

/** Pairs [one, other] of one class that overlap by SAME or more, each in one pair, the closest first. */
function matched(ones, others) {
  const close = ones.flatMap((one) => others
    .filter(({ label }) => label === one.label)
    .map((other) => [one, other, overlap(one.box, other.box)]));
  const pairs = [];
  for (const [one, other, iou] of close.sort((first, second) => second[2] - first[2])) {
    if (iou >= SAME && !pairs.some((pair) => pair[0] === one || pair[1] === other)) pairs.push([one, other]);
  }
  return pairs;
}

/** Intersection over union. */
function overlap(one, other) {
  const area = ({ x1, y1, x2, y2 }) => Math.max(0, x2 - x1) * Math.max(0, y2 - y1);
  const common = area({
    x1: Math.max(one.x1, other.x1), y1: Math.max(one.y1, other.y1),
    x2: Math.min(one.x2, other.x2), y2: Math.min(one.y2, other.y2),
  });
  return common / (area(one) + area(other) - common) || 0;
}
