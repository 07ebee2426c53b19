// Says plainly why nothing can run here. A script of the old kind: modules are what a browser
// without WebAssembly, or a page opened from a file, may not load at all. It runs before the page
// is read, so that no failure comes earlier and the page is never shown in the wrong light.
(function () {
  // Light or dark as chosen in the book; where nothing was, as the browser prefers.
  function follow() {
    var chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch (_) {} // a browser may refuse to remember
    document.getElementById("dark").media =
      { dark: "all", light: "not all" }[chosen] || "(prefers-color-scheme: dark)";
  }
  follow();
  addEventListener("storage", follow);
  addEventListener("pageshow", follow);

  var why = "";
  if (typeof WebAssembly !== "object") {
    why = "This browser has no WebAssembly, by which the networks run. The chapters can be read without it; " +
      "for the playground take a browser of 2023 or later, or allow WebAssembly in this one's settings.";
  } else if (location.protocol === "file:") {
    why = "Browsers do not load networks for a page that was opened as a file. In the folder of the book type " +
      "“python -m http.server”, then open http://localhost:8000 in the browser. No network is needed for that.";
  }
  function say(words) {
    var note = document.getElementById("cannot");
    note.textContent = words;
    note.hidden = false;
  }
  addEventListener("DOMContentLoaded", function () {
    if (why) say(why);
  });

  // Controls stay dead until page.js has all that it asks for; later it says itself what went wrong.
  function broken(what) {
    if (why || document.documentElement.dataset.ready) return;
    say("The page did not load whole: " + what + ". Load it anew. If that does not help, files of this copy are " +
      "missing or damaged; “python -m tools.playground” makes them.");
  }
  addEventListener("error", function (event) {
    if (event.target.tagName === "SCRIPT") broken("page.js, or a script that it needs, did not come");
    else if (event.message) broken(event.message);
  }, true);
  // By which of the two a module that throws is told differs between browsers.
  addEventListener("unhandledrejection", function (event) {
    broken((event.reason && event.reason.message) || event.reason);
  });
})();
