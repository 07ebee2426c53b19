// Formulas push the page down after the browser has gone to the place behind the #: go there again.
addEventListener("load", () => {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (place) window.MathJax?.startup?.promise.then(() => place.scrollIntoView());
});
