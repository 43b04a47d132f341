"use strict";

/**
 * The drop zones name the formats that they take, so that a phone hands over a JPEG instead of its
 * own HEIC. Gradio's `file_types` would also refuse all other files itself, without a reason.
 *
 * formats: of each zone's id, what an input's `accept` takes.
 */
function nameFormats(formats) {
  new MutationObserver(() => {
    for (const [zone, accept] of Object.entries(formats)) {
      for (const input of document.querySelectorAll(`#${zone} input[type=file]`)) {
        if (input.accept !== accept) input.accept = accept;
      }
    }
  }).observe(document.body, { childList: true, subtree: true });
}
