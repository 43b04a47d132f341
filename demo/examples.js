"use strict";

// Gradio's thumbnails of examples have no names for those who do not see them.
new MutationObserver(() => {
  for (const button of document.querySelectorAll("button.gallery-item:not([aria-label])")) {
    const file = button.querySelector("img")?.src.split("/").pop() ?? "";
    button.setAttribute("aria-label", `Example ${decodeURIComponent(file)}`);
  }
}).observe(document.body, { childList: true, subtree: true });
