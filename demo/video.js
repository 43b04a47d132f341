"use strict";

/** A clip on its way, and the clip with its boxes drawn. `value` is what demo/video.py tells. */
class VideoView {
  constructor(place) {
    this.place = place;
  }

  show(value) {
    const { message, progress, video, facts } = value;
    const hint = {
      headline: "No video yet",
      text: "Drop a clip: it comes back with its boxes drawn, ready to play.", kind: "hint",
    };
    if (progress) this.place.replaceChildren(this.progress(progress));
    else if (video) this.place.replaceChildren(this.player(video, facts));
    else this.place.replaceChildren(messagePanel(message ?? hint));
  }

  progress({ frames, total, rate }) {
    const done = `${frames}${total ? ` of ${total}` : ""} frames, ${rate.toFixed(1)} a second`;
    return element("div", { class: "message hint", role: "status" },
      element("strong", {}, "Detecting, frame by frame"),
      element("progress", { "aria-label": "frames done", ...(total ? { value: frames, max: total } : {}) }),
      element("p", {}, frames ? done : "Waiting for its turn"));
  }

  player(video, { text, name }) {
    return element("div", { class: "video" },
      element("video", { controls: true, playsinline: true, src: video.url, "aria-label": `${name} with boxes` }),
      element("p", { class: "server", role: "status" }, text),
      element("div", { class: "downloads" },
        element("a", { href: video.url, download: name }, "Download the video")));
  }
}
