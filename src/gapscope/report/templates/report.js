"use strict";
(() => {
  const tip = document.getElementById("tip");
  // without this script the titles are the browser's own tooltips; with it they would show twice
  for (const title of document.querySelectorAll(".p > title")) {
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const hide = () => {
    tip.hidden = true;
    for (const point of document.querySelectorAll(".p.at")) point.classList.remove("at");
  };
  const show = (points, x, y) => {
    tip.textContent = [...new Set(points.map((point) => point.getAttribute("aria-label")))].join("\n");
    tip.hidden = false;
    const left = Math.min(x + 14, document.documentElement.clientWidth - tip.offsetWidth - 4);
    const above = y - tip.offsetHeight - 14;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${above > 4 ? above : y + 18}px`;
  };
  const isPoint = (element) => element instanceof Element && element.classList.contains("p");
  for (const kind of ["pointermove", "pointerdown"]) {
    document.addEventListener(kind, (event) => {
      hide();
      if (isPoint(event.target)) {  // points that lie on each other are read together
        show(document.elementsFromPoint(event.clientX, event.clientY).filter(isPoint), event.clientX, event.clientY);
      }
    });
  }
  document.addEventListener("scroll", hide, { passive: true });
  for (const panel of document.querySelectorAll(".points")) {
    let at = 0;
    const step = (by) => {
      hide();
      at = (at + by + panel.children.length) % panel.children.length;
      const point = panel.children[at], box = point.getBoundingClientRect();
      point.classList.add("at");
      show([point], box.right, box.top);
    };
    panel.addEventListener("focus", () => { if (panel.matches(":focus-visible")) step(0); });
    panel.addEventListener("blur", hide);
    panel.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!by) return;
      event.preventDefault();
      step(by);
    });
  }
})();
