/* What pages of the book do: load a piece when its reader comes near, let the keyboard scroll. */
"use strict";

globalThis.somlibPieces = {}; // filled by the scripts in _static/pieces

const load = (place) => {
  const script = document.createElement("script");
  script.src = place.dataset.piece;
  script.onload = () => {
    const piece = somlibPieces[place.dataset.name];
    // unlike innerHTML, this runs the scripts of the piece
    place.replaceChildren(document.createRange().createContextualFragment(piece));
  };
  document.head.append(script);
};

const near = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        near.unobserve(target);
        load(target);
      }
    }
  },
  { rootMargin: "300px" },
);

// A wide formula scrolls: it needs a place in the order of the keyboard.
const reachable = () => {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
  }
};

window.addEventListener("load", () => {
  for (const place of document.querySelectorAll(".piece")) near.observe(place);
  window.MathJax?.startup?.promise?.then(reachable);
});
