"use strict";

/**
 * What was found in one photo or several: counts, the picture, where the time went, sizes, a table,
 * downloads. `value` is what demo/photos.py tells.
 */
class PhotosView {
  constructor(place, server, chosen, drawn) {
    this.chosen = chosen; // is told which of the photos is on show
    this.drawn = drawn; // is told which of the detections are to be drawn, see drawing.js
    this.place = place;
    this.picture = new BoxedPicture();
    this.picture.onpick = (index) => this.pickRow(index);
    this.status = element("p", { class: "for-screen-readers", role: "status" });
    this.result = element("div");
    place.replaceChildren(this.status, this.result);
    [this.sources, this.current, this.only] = ["[]", 0, null]; // only: the one class on show, if any
    settings.addEventListener("change", () => this.value && this.draw());
  }

  show(value) {
    this.value = value;
    const sources = JSON.stringify(value.sources ?? []);
    if (sources === this.sources) return this.draw();
    this.sources = sources;
    this.only = null;
    this.choosePhoto(0);
  }

  choosePhoto(index) {
    this.current = index;
    this.chosen(index);
    this.draw();
  }

  draw() {
    const { message, photos } = this.value;
    if (message || !photos.length) {
      this.status.textContent = "";
      const hint = { headline: "No photo yet", text: "Drop photos, or click one of the examples.", kind: "hint" };
      this.result.replaceChildren(messagePanel(message ?? hint));
      return;
    }
    // Drawing anew would lose what has the focus and what was folded.
    const focused = this.result.contains(document.activeElement) && document.activeElement.dataset.focus;
    const folded = [...this.result.querySelectorAll("details:not([open])")].map(({ className }) => className);
    const photo = photos[Math.min(this.current, photos.length - 1)];
    const strip = this.value.sources.length > 1 ? [this.strip()] : [];
    this.result.replaceChildren(...strip, ...(photo.error ? [messagePanel(photo.error)] : this.parts(photo)));
    for (const name of folded) this.result.querySelector(`details.${name}`)?.removeAttribute("open");
    if (focused) this.result.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  parts(photo) {
    const all = shown(photo.detections);
    const counts = countsOf(all);
    if (!counts.some(([label]) => label === this.only)) this.only = null;
    this.detections = all.filter(({ label }) => this.only === null || label === this.only);
    this.status.textContent = `${photo.name}: ${counted(counts) || "nothing found"}`;
    this.picture.show(photo, this.detections, this.value.colours);
    return [this.summary(photo, counts), this.picture.element, this.facts(photo), this.buttons(photo),
      ...(this.detections.length ? [sizeHistogram(this.detections, this.value.colours), this.table()] : [])];
  }

  /** Counts per class; a click shows only that class. */
  summary({ name, width, height, milliseconds }, counts) {
    const chips = counts.map(([label, count]) => element("button", {
      type: "button", class: "chip", style: coloured(this.value.colours, label),
      "aria-pressed": String(this.only === label), "data-focus": `chip ${label}`,
      title: this.only === label ? "Show all classes" : `Show only ${label}`,
      onclick: () => this.choose(this.only === label ? null : label),
    }, element("i"), `${label} `, element("b", {}, String(count))));
    const none = element("span", { class: "chip none" }, "Nothing found above the score threshold");
    return element("div", { class: "summary" },
      element("div", { role: "group", "aria-label": "Classes found" }, ...(chips.length ? chips : [none])),
      element("div", { class: "facts" }, element("b", {}, `${milliseconds.toFixed(0)} ms`),
        ` round trip · ${name} · ${width} × ${height} px`));
  }

  choose(label) {
    this.only = label;
    this.draw();
  }

  /** Who answered, and the time of each step. */
  facts({ model }) {
    const facts = this.value.facts;
    if (!facts) return element("p", { class: "server" }, `answered by ${model}`);
    const steps = facts.steps.map(({ model, version, milliseconds }) => element("li", {},
      `${model} ${version ?? ""} `, element("b", {}, milliseconds === null ? "" : `${milliseconds.toFixed(1)} ms`)));
    return element("div", { class: "server" },
      element("span", {}, `${facts.server}, model ${model}`),
      element("ol", { "aria-label": "Steps in the server: model, version, time" }, ...steps));
  }

  buttons(photo) {
    const stem = photo.name.replace(/\.[^.]*$/, "");
    const button = (text, act) => element("button", { type: "button", "data-focus": text, onclick: act }, text);
    const several = this.value.photos.length > 1;
    return element("div", { class: "downloads", role: "group", "aria-label": "Downloads of what is on show" },
      button("Picture", () => this.drawPicture(photo)),
      button("JSON", () => save(`${several ? "photos" : stem}.json`, "application/json", jsonOf(this.onShow()))),
      button("CSV", () => save(`${several ? "photos" : stem}.csv`, "text/csv", csvOf(this.onShow()))));
  }

  /** All photos, each with the detections that the sliders and the chosen class let through. */
  onShow() {
    const chosen = ({ label }) => this.only === null || label === this.only;
    return this.value.photos.map((photo) => (
      { ...photo, detections: shown(photo.detections ?? []).filter(chosen) }));
  }

  /** In the photo's own size, drawn by the page's server: the browser has a smaller copy. */
  drawPicture(photo) {
    const detections = this.detections.map((found) => photo.detections.indexOf(found));
    this.drawn({ photo: this.value.photos.indexOf(photo), detections });
  }

  table() {
    const columns = ["#", "label", "score", "x1", "y1", "x2", "y2"];
    const row = (found, index) => element("tr", {
      style: coloured(this.value.colours, found.label),
      onpointerenter: () => this.picture.pick(index), onclick: () => this.picture.pick(index),
    }, element("td", {}, String(index + 1)), element("th", { scope: "row" }, element("i"), found.label),
    element("td", {}, found.score.toFixed(3)),
    ...["x1", "y1", "x2", "y2"].map((edge) => element("td", {}, found.box[edge].toFixed(0))));
    this.body = element("tbody", {}, ...this.detections.map(row));
    const count = `${this.detections.length} detection${this.detections.length === 1 ? "" : "s"}`;
    return element("details", { class: "table", open: true },
      element("summary", {}, `${count}, boxes in pixels`),
      element("div", { tabindex: "0", role: "region", "aria-label": "Table of detections" },
        element("table", {},
          element("caption", { class: "for-screen-readers" }, "Detections, best first; edges of the boxes in pixels"),
          element("thead", {}, element("tr", {}, ...columns.map((name) => element("th", { scope: "col", class: name }, name)))),
          this.body)));
  }

  pickRow(index) {
    [...(this.body?.rows ?? [])].forEach((row, place) => row.classList.toggle("picked", place === index));
  }

  /** Thumbnails of several photos, and what was found in all of them. */
  strip() {
    const { photos, sources } = this.value;
    const all = photos.flatMap((photo) => shown(photo.detections ?? []));
    const item = (photo, index) => element("li", {}, element("button", {
      type: "button", "aria-current": index === this.current ? "true" : null, "data-focus": `photo ${index}`,
      onclick: () => this.choosePhoto(index),
    }, photo.error ? element("span", { class: "failed", "aria-hidden": "true" }, "!")
      : element("img", { src: photo.thumbnail.url, alt: "", loading: "lazy" }),
    element("span", {}, photo.name), element("b", {}, photo.error ? "failed" : String(shown(photo.detections).length))));
    const count = photos.length < sources.length ? `${photos.length} of ${sources.length}` : sources.length;
    return element("div", { class: "strip" },
      element("p", { role: "status" }, element("b", {}, `${count} photos: `), counted(countsOf(all)) || "nothing found"),
      element("ul", {}, ...photos.map(item)));
  }
}
