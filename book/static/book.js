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

// The search leaves numbers out: an equation that is asked for, as in "Eq. 2.17", is put first.
addEventListener("load", async () => {
  const results = document.getElementById("search-results");
  const asked = new URLSearchParams(location.search).get("q") ?? "";
  const [, chapter, n] = asked.match(/(?<![\d.])(\d)\.(\d+)(?![\d.])/) ?? [];
  const page = chapter && document.querySelector(`.sidebar-tree a[href*="notebooks/0${chapter}_"]`);
  if (!results || !page) return;
  const id = `eq-${chapter}-${n}`;
  // A page that was opened as a file may not look into another, and believes.
  const there = location.protocol === "file:" || (await (await fetch(page.href)).text()).includes(`id="${id}"`);
  if (!there) return;
  const link = Object.assign(document.createElement("a"), { href: `${page.href}#${id}` });
  link.textContent = `Equation (${chapter}.${n}) in ${page.textContent}`;
  const line = Object.assign(document.createElement("p"), { className: "found-equation" });
  line.append(link);
  results.querySelector("ul").before(line);
});
