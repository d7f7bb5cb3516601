// Before the first paint, so that no page flashes in the wrong theme. Not a module: those wait.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("rhapsode.theme"));
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage, or not ours: the system's theme is right.
  }
})();
