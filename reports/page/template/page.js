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

  // the select shows another attack in the whole gallery, alone or next to the strongest
  const choice = section.querySelector("select.attack");
  const choose = () => {
    const [picked] = choice.selectedOptions;
    const pair = "next" in picked.dataset;
    for (const each of section.querySelectorAll(".try")) {
      const strongest = "strongest" in each.dataset;
      const own = each.dataset.attack === picked.value;
      each.hidden = !own && !(strongest && (pair || picked.value === ""));
      each.classList.toggle("both", pair && own && strongest);
    }
  };
  if (choice) {
    choice.addEventListener("input", choose);
    choose();  // a browser may keep the choice when the page is loaded again
  }

  // the slider moves all pictures, or all texts, at once
  const slider = section.querySelector("input[type=range]");
  const move = () => {
    const steps = slider.dataset.steps.split(",");
    for (const frames of section.querySelectorAll(".frames")) {
      const last = frames.children.length - 1;  // 0 if only the end is there
      Array.from(frames.children).forEach((each, number) => { each.hidden = number !== Math.min(last, slider.value); });
    }
    section.querySelector(".gallery").style.setProperty("--frame", slider.value);
    slider.setAttribute("aria-valuetext", steps[slider.value]);
    slider.closest("span").querySelector("output").textContent = steps[slider.value];
  };
  if (slider) {
    slider.addEventListener("input", move);
    move();
  }
}
