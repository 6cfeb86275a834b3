// Runs before the first paint so that a stored theme never flashes the other one.
// A file of its own, not an inline script: the content security policy allows only 'self'.
(() => {
  var choice = null;
  try {
    choice = localStorage.getItem("jarvis.theme");
  } catch {
    // Storage may be refused; the system's preference then decides.
  }
  var dark =
    choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
