"use strict";

const FRAME_SIDE = 1280; // pixels, the longer side of what is sent
const TELL_MILLISECONDS = 3000; // between two sentences to screen readers

/**
 * The camera, live. One frame is under way at a time: while it is answered, the camera's further
 * frames are dropped, and the next one that is sent is the newest. What is on show is the answered
 * frame itself, so boxes never lag behind what they stand on.
 */
class CameraView {
  constructor(place, server) {
    this.server = server;
    this.video = element("video", { muted: true, playsinline: true });
    this.canvas = element("canvas");
    this.picture = new BoxedPicture(this.canvas);
    this.button = element("button", { type: "button", class: "camera-button", onclick: () => this.toggle() }, "Start the camera");
    this.facts = element("p", { class: "server" });
    this.summary = element("div", { class: "summary" });
    this.status = element("p", { class: "for-screen-readers", role: "status" });
    this.panel = element("div", {}, messagePanel({
      headline: "Live boxes from your camera",
      text: "Pictures go to the server behind this page, one at a time, and are not kept.", kind: "hint",
    }));
    this.view = element("div", { hidden: true }, this.summary, this.picture.element, this.facts);
    place.replaceChildren(this.button, this.status, this.panel, this.view);
  }

  /** What the page shows here comes from the camera alone. */
  show() {}

  toggle() {
    return this.stream ? this.stop() : this.start();
  }

  async start() {
    try {
      // Browsers offer no camera to pages that come over plain http from another machine.
      if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
      this.stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: { ideal: "environment" } } });
    } catch (error) {
      this.say(CameraView.reasons[error.name] ?? "The browser could not open the camera.");
      return;
    }
    this.video.srcObject = this.stream;
    await this.video.play();
    [this.answered, this.dropped, this.told, this.times] = [0, 0, 0, []];
    this.button.textContent = "Stop the camera";
    this.panel.replaceChildren();
    this.view.hidden = false;
    this.count();
    this.next();
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.button.textContent = "Start the camera";
  }

  say(text) {
    this.stop();
    this.view.hidden = true;
    this.panel.replaceChildren(messagePanel({ headline: "No camera", text, kind: "error" }));
  }

  /** Each frame that the camera gives while another is under way is dropped. */
  count() {
    const stream = this.stream;
    this.video.requestVideoFrameCallback(() => {
      if (this.stream !== stream) return;
      if (this.underWay) this.dropped += 1;
      this.count();
    });
  }

  async next() {
    const stream = this.stream;
    if (!stream) return;
    const frame = this.grab();
    this.underWay = true;
    const answer = frame && await this.server.detect_frame(frame.toDataURL("image/jpeg", 0.9).split(",")[1], settings.iou);
    this.underWay = false;
    if (this.stream !== stream) return;
    if (answer?.error) {
      this.stop();
      this.view.hidden = true;
      this.panel.replaceChildren(messagePanel(answer.error));
      return;
    }
    if (frame && !answer) return this.say("The page's own server is away. Start the camera again when it is back.");
    if (answer) this.draw(frame, answer);
    requestAnimationFrame(() => this.next());
  }

  /** The newest frame on a canvas of its own; null as long as there is none. */
  grab() {
    const { videoWidth, videoHeight } = this.video;
    if (!videoWidth) return null;
    const scale = Math.min(1, FRAME_SIDE / Math.max(videoWidth, videoHeight));
    const canvas = element("canvas", { width: Math.round(videoWidth * scale), height: Math.round(videoHeight * scale) });
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  draw(frame, answer) {
    const now = performance.now();
    this.answered += 1;
    this.times = [...this.times.filter((time) => time > now - 2000), now];
    const detections = shown(answer.detections);
    Object.assign(this.canvas, { width: frame.width, height: frame.height });
    this.canvas.getContext("2d").drawImage(frame, 0, 0);
    this.picture.show({ name: "camera", ...answer }, detections, answer.colours);
    const counts = countsOf(detections);
    this.summary.replaceChildren(element("div", {}, ...counts.map(([label, count]) => element("span", {
      class: "chip", style: coloured(answer.colours, label),
    }, element("i"), `${label} `, element("b", {}, String(count))))));
    const seconds = (now - this.times[0]) / 1000;
    const rate = seconds > 0 ? ((this.times.length - 1) / seconds).toFixed(1) : "–";
    this.facts.textContent = `${rate} frames/s · ${answer.milliseconds.toFixed(0)} ms round trip · ` +
      `${this.answered} answered by ${answer.model}, ${this.dropped} dropped`;
    if (now > this.told + TELL_MILLISECONDS) {
      this.told = now;
      this.status.textContent = counted(counts) || "nothing found";
    }
  }
}

CameraView.reasons = {
  NotAllowedError: "The browser was not allowed to use it. Allow it in the browser's settings for this page.",
  NotFoundError: "This device has none.",
  NotReadableError: "Another program is using it.",
  SecurityError: "Browsers lend their camera only to pages that come over https, or from this machine (127.0.0.1).",
};
