{% include "sort.js" %}

// the filter of the table of defenses
const filter = document.getElementById("words");
if (filter) {
  const rows = Array.from(document.querySelector(".leaderboard tbody").rows);
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !wanted.every((word) => row.cells[1].textContent.toLowerCase().includes(word));
    const left = rows.filter((row) => !row.hidden).length;
    document.getElementById("shown").textContent = wanted.length ? `${left} of ${rows.length} shown` : "";
  });
}

// the search looks for sections with all words: in their titles first, then in their texts
const MOST_FOUND = 12;
const search = document.getElementById("search");
const list = document.getElementById("found");
const around = (text, word) => {
  const place = Math.max(text.toLowerCase().indexOf(word) - 40, 0);
  return (place ? "… " : "") + text.slice(place, place + 140) + (place + 140 < text.length ? " …" : "");
};
const entry = (page, words) => {
  const link = document.createElement("a");
  const small = document.createElement("small");
  link.href = ROOT + page.url;
  link.textContent = page.page && page.page !== page.title ? `${page.page}: ${page.title}` : page.title;
  small.textContent = around(page.text, words[0]);
  link.append(small);
  const item = document.createElement("li");
  item.append(link);
  return item;
};
const show = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const having = (text) => words.every((word) => text.toLowerCase().includes(word));
  const inTitle = words.length ? PAGES.filter((page) => having(`${page.title} ${page.page}`)) : [];
  const inText = words.length ? PAGES.filter((page) => !inTitle.includes(page) && having(`${page.title} ${page.page} ${page.text}`)) : [];
  const found = [...inTitle, ...inText];
  list.replaceChildren(...found.slice(0, MOST_FOUND).map((page) => entry(page, words)));
  list.hidden = !found.length;
  document.getElementById("status").textContent = words.length ? `${found.length} sections found` : "";
};
search.addEventListener("input", show);
document.addEventListener("keydown", (event) => {
  const links = Array.from(list.querySelectorAll("a"));
  const at = links.indexOf(document.activeElement);
  if (event.key === "/" && !/input|textarea/i.test(document.activeElement.tagName)) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && !list.hidden) {
    list.hidden = true;
    search.focus();
  } else if (event.key === "ArrowDown" && links.length && (at >= 0 || document.activeElement === search)) {
    event.preventDefault();
    links[Math.min(at + 1, links.length - 1)].focus();
  } else if (event.key === "ArrowUp" && at >= 0) {
    event.preventDefault();
    (at ? links[at - 1] : search).focus();
  }
});
document.addEventListener("click", (event) => { if (!event.target.closest(".search")) list.hidden = true; });
