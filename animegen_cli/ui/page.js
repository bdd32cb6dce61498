// What the page does without asking the server: a face shown large, keys, and the faces that are kept in this browser.
// How a face was drawn stands in its PNG file: the text chunk `animegen` holds its recipe, with the command and RUN for the run.
(() => {
  "use strict";
  const STORE = "animegen.kept";
  const FACES = ".faces img, .strip img, .stage img, table.strips img, .pair-of figure:last-child img";
  let shown = null; // the face in the dialog
  let under = null; // the face under the pointer, or that keys have come to, whichever was last

  // The recipe in a face's file, {kind, how, command, ...}, and its text as it stands there; null where it has none.
  const recipe = (img) => {
    const bytes = atob(img.src.slice(img.src.indexOf(",") + 1));
    const number = (at) => [0, 1, 2, 3].reduce((sum, i) => sum * 256 + bytes.charCodeAt(at + i), 0);
    for (let at = 8; at + 12 <= bytes.length; at += number(at) + 12) {
      const text = bytes.substr(at + 8, number(at));
      if (bytes.substr(at + 4, 4) === "tEXt" && text.startsWith("animegen\0")) {
        return { ...JSON.parse(text.slice(9)), text: text.slice(9) };
      }
    }
    return null;
  };
  const command = (img) => {
    const path = img.closest("[data-run]")?.dataset.run ?? "RUN";
    const { kind, how, command: line } = recipe(img) || {};
    if (kind === "steer") // no command has sliders
      return `seed ${how.seeds} of ${path}, in Steer, directions 1 to ${how.amounts.length} at ${how.amounts.join(", ")}`;
    return line ? line.replace("RUN", () => path) : "";
  };
  const title = (img) => {
    const caption = img.closest("figure")?.querySelector("figcaption")?.textContent || img.alt;
    const run = img.closest("[data-run]")?.dataset.name;
    return run ? `${run} · ${caption}` : caption;
  };

  // ---- what is kept: [{src, title, command}, ...], the newest first

  const kept = () => {
    try {
      const found = JSON.parse(localStorage.getItem(STORE));
      return Array.isArray(found) ? found : [];
    } catch { return []; }
  };
  const isKept = (img) => kept().some((one) => one.src === img.src);
  const toggle = (img) => {
    const others = kept().filter((one) => one.src !== img.src);
    const one = { src: img.src, title: img.dataset.title || title(img), command: img.dataset.command || command(img) };
    try {
      localStorage.setItem(STORE, JSON.stringify(isKept(img) ? others : [one, ...others]));
    } catch { alert("This browser keeps no more faces: remove some first."); }
    list();
  };
  const list = () => {
    const section = document.getElementById("kept");
    if (!section) return;
    section.hidden = !kept().length;
    section.querySelector(".faces").replaceChildren(...kept().map((one) => {
      const figure = document.createElement("figure");
      const img = Object.assign(new Image(), { src: one.src, alt: one.title, tabIndex: 0, role: "button" });
      Object.assign(img.dataset, { title: one.title, command: one.command });
      const caption = Object.assign(document.createElement("figcaption"), { textContent: one.title });
      figure.append(img, caption);
      return figure;
    }));
  };

  // ---- more like a face: its recipe goes to the server, which varies it

  const hasMore = (img) => ["image", "variation"].includes(recipe(img)?.kind);
  const more = (img) => {
    const box = document.querySelector("#more-like textarea, #more-like input");
    if (!box || !hasMore(img)) return;
    dialog.close();
    box.value = recipe(img).text;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    scrollTo({ top: 0 });
  };

  // ---- a face shown large

  const dialog = document.createElement("dialog");
  dialog.id = "large";
  dialog.innerHTML = `<img alt=""><p class="title"></p><code></code><p class="act">
    <button data-act="before" aria-label="face before">←</button><button data-act="after" aria-label="face after">→</button>
    <button data-act="more">More like this</button><button data-act="keep"></button><button data-act="copy">Copy</button><a>Save PNG</a>
    <button data-act="close">Close</button></p>`;
  const show = (img) => {
    shown = img;
    const words = img.dataset.title || title(img);
    dialog.querySelector("img").src = img.src;
    dialog.querySelector("img").alt = dialog.querySelector(".title").textContent = words;
    dialog.querySelector("code").textContent = img.dataset.command || command(img);
    dialog.querySelector("[data-act=more]").hidden = !hasMore(img);
    dialog.querySelector("[data-act=keep]").textContent = isKept(img) ? "Remove from kept" : "Keep";
    Object.assign(dialog.querySelector("a"), { href: img.src, download: `${words.replace(/\W+/g, "-")}.png` });
    if (!dialog.open) dialog.showModal();
  };
  const beside = (by) => {
    const row = shown.closest(".faces, .strip, .stage, tr, .pair-of");
    const all = row ? [...row.querySelectorAll("img")].filter((img) => img.matches(FACES)) : [];
    if (all.length) show(all[(all.indexOf(shown) + by + all.length) % all.length]);
  };
  const keep = (img) => {
    const open = dialog.open;
    const gone = open && img.closest("#kept") && isKept(img);
    toggle(img);
    if (gone) dialog.close();
    else if (open) show(img);
  };
  dialog.addEventListener("click", (event) => {
    const act = event.target.dataset.act;
    if (act === "close" || event.target === dialog) dialog.close();
    if (act === "before") beside(-1);
    if (act === "after") beside(1);
    if (act === "keep") keep(shown);
    if (act === "more") more(shown);
    if (act === "copy") navigator.clipboard.writeText(dialog.querySelector("code").textContent);
  });
  document.addEventListener("click", (event) => {
    const img = event.target.closest?.(FACES);
    if (img && !dialog.contains(img)) show(img);
  });
  document.addEventListener("pointerover", (event) => { under = event.target.closest?.(FACES) || null; });
  document.addEventListener("focusin", (event) => { under = event.target.closest?.(FACES) || under; });

  // ---- keys

  const press = (id) => {
    const button = document.getElementById(id);
    if (button?.offsetParent) button.click();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable], [role=slider], [role=tab]")) return;
    const key = event.key.toLowerCase();
    const chosen = dialog.open ? shown : under?.isConnected && under;
    const pressed = (key === "enter" || key === " ") && event.target.matches?.(FACES);
    if (key === "arrowleft") dialog.open ? beside(-1) : press("previous");
    else if (key === "arrowright") dialog.open ? beside(1) : press("next");
    else if (key === "n" && !dialog.open) press("new");
    else if (key === "s" && chosen) keep(chosen);
    else if (key === "m" && chosen) more(chosen);
    else if (pressed && !dialog.open) show(event.target);
    else return;
    event.preventDefault();
  });

  const begin = () => {
    document.body.append(dialog);
    new MutationObserver((_, seen) => {
      if (document.getElementById("kept")) { seen.disconnect(); list(); }
    }).observe(document.body, { childList: true, subtree: true });
    list();
  };
  if (document.body) begin(); else addEventListener("DOMContentLoaded", begin);
})();
