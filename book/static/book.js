// What can only be done when all formulas stand.

// One within a line that is wider than its paragraph gets a box of its own that scrolls.
function boxWide() {
  const formulas = [...document.querySelectorAll("mjx-container:not([display])")];
  for (const formula of formulas) formula.classList.remove("wide");
  const wide = formulas.filter((f) => {
    const block = f.closest("p, li, dd, summary, figcaption") ?? f.parentElement;
    return f.offsetWidth > block.clientWidth && !f.closest("table");
  });
  for (const formula of wide) formula.classList.add("wide");
}

// They push the page down after the browser has gone to the place behind the #: go there again.
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  boxWide();
  addEventListener("resize", boxWide);
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place) place.scrollIntoView();
});
