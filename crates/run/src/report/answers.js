for (const section of document.querySelectorAll(".answers")) {
  const form = section.querySelector("form");
  const rows = [...section.querySelectorAll("tbody tr")];
  const show = () => {
    const { text, set, changed, leaked } = form.elements;
    const words = text.value.toLowerCase().split(/\s+/);
    let count = 0;
    for (const row of rows) {
      const said = row.textContent.toLowerCase();
      row.hidden = !(words.every(word => said.includes(word))
        && (set.value === "" || row.cells[0].textContent === set.value)
        && (!changed.checked || "changed" in row.dataset)
        && (!leaked.checked || "leaked" in row.dataset));
      count += !row.hidden;
    }
    form.querySelector("output").textContent = `${count} of ${rows.length}`;
  };
  form.addEventListener("input", show);
  show();
}
