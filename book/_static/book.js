/* A wide formula scrolls: let the keyboard reach it. */
window.addEventListener("load", () => {
  const reachable = () => {
    for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    }
  };
  window.MathJax?.startup?.promise?.then(reachable);
});
