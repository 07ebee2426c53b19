// Says plainly why nothing can run here. A script of the old kind: modules are what a browser
// without WebAssembly, or a page opened from a file, may not load at all.
(function () {
  var why = "";
  if (typeof WebAssembly !== "object") {
    why = "This browser has no WebAssembly, by which the networks run. The chapters can be read without it; " +
      "for the playground take a browser of 2023 or later, or allow WebAssembly in this one's settings.";
  } else if (location.protocol === "file:") {
    why = "Browsers do not load networks for a page that was opened as a file. In the folder of the book type " +
      "“python -m http.server”, then open http://localhost:8000 in the browser. No network is needed for that.";
  }
  if (why) {
    var note = document.getElementById("cannot");
    note.textContent = why;
    note.hidden = false;
    document.querySelectorAll("main button, main input, main select").forEach(function (control) {
      control.disabled = true;
    });
  }
})();
