"use strict";
for (const section of document.querySelectorAll("section.setting")) {
  const body = section.querySelector("tbody");
  const rows = Array.from(body.rows);

  // click a column heading to sort, and again to reverse; rows without a value stay last
  const headings = Array.from(section.querySelectorAll(".leaderboard thead th"));
  const value = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  const isNothing = (each) => each === "" || each === "–" || each === "0/0" || Number.isNaN(each);
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => {
      const [one, other] = [value(a, column), value(b, column)];
      if (isNothing(one) || isNothing(other)) return isNothing(one) - isNothing(other);
      const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
      return down ? -order : order;
    };
    body.append(...rows.toSorted(compare));
  }));

  // the filter shows only defenses that contain every word, in the table and in the gallery
  const words = section.querySelector(".words");
  const found = section.querySelector(".found");
  const films = Array.from(section.querySelectorAll(".films"));
  words.addEventListener("input", () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const shown = new Set();
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
      if (!row.hidden) shown.add(row.cells[0].title);
    }
    for (const each of films) each.hidden = !shown.has(each.dataset.defense);
    found.textContent = wanted.length ? `${shown.size} of ${rows.length} shown` : "";
  });

  // the slider moves all pictures, or all texts, at once
  const slider = section.querySelector("input[type=range]");
  if (slider) {
    const steps = slider.dataset.steps.split(",");
    slider.addEventListener("input", () => {
      for (const film of section.querySelectorAll(".frames")) {
        Array.from(film.children).forEach((each, number) => { each.hidden = number !== Number(slider.value); });
      }
      section.querySelector(".gallery").style.setProperty("--frame", slider.value);
      slider.setAttribute("aria-valuetext", steps[slider.value]);
      slider.closest("p").querySelector("output").textContent = steps[slider.value];
    });
  }
}
