// What the stock pages leave nameless for a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("details > summary")) {
    if (!summary.textContent.trim() && !summary.getAttribute("aria-label")) {
      const link = summary.closest("li")?.querySelector("a");
      summary.setAttribute("aria-label", `Show the sections of ${link ? link.textContent.trim() : "this part"}`);
    }
  }
  for (const button of document.querySelectorAll("button[aria-label]")) {
    const text = button.textContent.replace(/\s+/g, " ").trim();
    if (text) button.setAttribute("aria-label", text); // what is seen is what is said
  }
  document.querySelector(".bd-sidebar-primary")?.setAttribute("role", "navigation");
  document.querySelector(".bd-sidebar-primary")?.setAttribute("aria-label", "Chapters");
  for (const box of document.querySelectorAll("pre, .pst-scrollable-table-container, div.math, .output.text_html")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0; // reachable with the keyboard, to be scrolled
  }
});
