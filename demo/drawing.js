"use strict";

/** A picture with its boxes drawn, in the photo's own size, to be saved; or why there is none. */
class DrawingView {
  constructor(place) {
    this.place = place;
  }

  show({ picture, message }) {
    this.place.replaceChildren(...(message ? [messagePanel(message)] : []));
    if (picture) element("a", { href: picture.url, download: true }).click();
  }
}
