for (const section of document.querySelectorAll("section.setting")) {
  const rows = Array.from(section.querySelector("tbody").rows);

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
