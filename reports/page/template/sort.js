"use strict";
// Click a column heading of a table to sort, and again to reverse; rows without a value stay last.
// A cell's value is its data-value, or else its text.
const sortValue = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
};
const isNothing = (each) => each === "" || each === "–" || each === "0/0" || Number.isNaN(each);
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = Array.from(table.tHead.rows[0].cells);
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((each) => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compare = (a, b) => {
      const [one, other] = [sortValue(a, column), sortValue(b, column)];
      if (isNothing(one) || isNothing(other)) return isNothing(one) - isNothing(other);
      const order = typeof one === "number" && typeof other === "number" ? one - other : String(one).localeCompare(String(other));
      return down ? -order : order;
    };
    body.append(...Array.from(body.rows).toSorted(compare));
  }));
}
