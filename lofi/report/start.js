"use strict";
// Runs before the first paint: pages that are not asked for are never laid out, and the colours are the chosen ones.
{
  const root = document.documentElement;
  root.classList.add("scripted");
  if (location.hash.length > 1) root.classList.add("routing"); // which page that is, only the whole file can say
  try {
    const theme = localStorage.getItem("lofi-theme");
    if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  } catch {} // storage may be forbidden: then every visit starts with the system's colours
}
