// Keys of the whole page; none while text is typed, nor with ctrl, alt or the command key.

/** does: what each key does, by its name; arrows get whether shift is down. */
export function listen(does, help) {
  addEventListener("click", (event) => { // what was pressed by a pointer does not catch the next key
    if (event.detail && document.activeElement instanceof HTMLButtonElement) document.activeElement.blur();
  });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const on = event.target;
    if (on instanceof HTMLInputElement || on instanceof HTMLSelectElement) return;
    const presses = on instanceof HTMLButtonElement && (event.key === " " || event.key === "Enter");
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const act = does[key] ?? (/^[1-9]$/.test(key) ? () => does.run(Number(key) - 1) : null);
    if (!act || presses) return;
    event.preventDefault();
    act(event.shiftKey);
  });
}
