"use strict";
// Sort a table by a column: numbers by data-v, texts by their letters. Long tables start short.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, i) => row.cells[i].dataset.v ?? row.cells[i].textContent.trim();
  heads.forEach((head, i) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("num") ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((h) => h.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const numeric = head.classList.contains("num");
      const rows = [...body.rows];
      rows.sort((a, b) => {
        const [x, y] = [key(a, i), key(b, i)];
        if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (Number(x) - Number(y));
      });
      body.append(...rows);
      show();
    });
  });
  const most = Number(table.dataset.most || Infinity);
  const search = document.querySelector(`input[data-table="${table.id}"]`);
  const more = document.querySelector(`button[data-table="${table.id}"]`);
  let all = false;
  function show() {
    const words = (search ? search.value : "").toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word));
      if (fits) count += 1;
      row.hidden = !fits || (!all && count > most);
    }
    if (more) {
      more.hidden = all || count <= most;
      more.textContent = `Show all ${count}`;
    }
  }
  if (search) search.addEventListener("input", show);
  if (more) more.addEventListener("click", () => { all = true; show(); });
  show();
}
