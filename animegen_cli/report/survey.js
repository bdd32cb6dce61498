"use strict";
// A rater's whole survey follows from one random number: which comparisons, in which order, which side each picture is on.
// So a reload needs only that number and the answers, which localStorage keeps.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const store = "animegen-survey-" + data.survey;
  const sections = ["start", "pause", "trial", "end"];
  const LOCK = 150; // ms after an answer in which no other is taken: a bouncing key or a double click is no opinion

  let state = restored() || fresh();
  let plan = planned(state.seed);
  let since = 0;
  let stopped = false;

  // ---- the order of one rater --------------------------------------------------------------------------------

  function random(seed) { // mulberry32
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function mixed(list, chance) { // Fisher-Yates
    const out = list.slice();
    for (let i = out.length - 1; i > 0; i--) {
      const j = Math.floor(chance() * (i + 1));
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }

  function planned(seed) {
    const chance = random(seed);
    return data.blocks.flatMap((block) => {
      const piles = block.groups.map((group) => mixed(group, chance));
      const list = [];
      while (list.length < block.count) { // rounds, so that every pair of contestants comes equally often
        for (const pile of mixed(piles.filter((pile) => pile.length), chance)) {
          if (list.length < block.count) list.push(pile.pop());
        }
      }
      const more = mixed(block.more, chance), part = list.length / more.length;
      for (let i = more.length - 1; i >= 0; i--) list.splice(Math.floor((i + chance()) * part), 0, more[i]);
      return list.map(([pair, a, b]) => ({ block, pair, a, b, left: chance() < 0.5 ? "a" : "b" }));
    });
  }

  // ---- what is kept --------------------------------------------------------------------------------------------

  function fresh() {
    const numbers = crypto.getRandomValues(new Uint32Array(3));
    const rater = [...numbers.slice(1)].map((n) => n.toString(16).padStart(8, "0")).join("");
    return { rater, seed: numbers[0], answers: [] };
  }

  function restored() {
    try {
      const kept = JSON.parse(localStorage.getItem(store));
      const order = planned(kept.seed);
      const fits = kept.answers.every((answer, i) => answer.pair === order[i].pair);
      return fits && /^[0-9a-f]{16}$/.test(kept.rater) ? kept : null;
    } catch {
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(store, JSON.stringify(state));
    } catch {
      find("forgetful").hidden = false;
    }
  }

  function csv() {
    const lines = state.answers.map((one, i) =>
      [data.survey, state.rater, i + 1, one.pair, one.left, one.answer, one.ms].join(","));
    return ["survey,rater,number,pair,left,answer,ms", ...lines].join("\n") + "\n";
  }

  // ---- what is shown -------------------------------------------------------------------------------------------

  function show(name) {
    for (const id of sections) find(id).hidden = id !== name;
  }

  function heading(name) {
    show(name);
    find(name).querySelector("h1, h2").focus();
  }

  function next(paused = true) {
    const at = state.answers.length, trial = plan[at];
    if (!trial || stopped) return end();
    if (paused && at && trial.block !== plan[at - 1].block) return pause(trial.block);
    const moved = find("trial").hidden;
    show("trial");
    find("ask").textContent = trial.block.ask;
    find("hint").textContent = trial.block.hint;
    fill("left", trial.left === "a" ? trial.a : trial.b);
    fill("right", trial.left === "a" ? trial.b : trial.a);
    find("undo").disabled = !at;
    find("progress").max = plan.length;
    find("progress").value = at;
    find("count").textContent = at + 1 + " of " + plan.length;
    find("said").textContent = "Pair " + (at + 1) + " of " + plan.length;
    if (moved) find("ask").focus();
    measure();
    since = performance.now();
  }

  function fill(side, images) {
    const picture = find(side).querySelector(".picture");
    picture.replaceChildren(...images.map((number) => {
      const image = new Image();
      image.alt = "";
      image.draggable = false;
      image.src = data.images[number];
      return image;
    }));
    picture.classList.toggle("nine", images.length > 1);
    picture.classList.remove("fresh");
    void picture.offsetWidth; // so that the animation starts again
    picture.classList.add("fresh");
  }

  // Pictures are enlarged by a whole number of the screen's own pixels, so that all of theirs come out equally large. They
  // stand above each other where that makes them larger, as on a phone held upright.
  function measure() {
    const trial = plan[state.answers.length], section = find("trial"), left = find("left");
    const sides = section.querySelector(".sides"), picture = left.querySelector(".picture");
    const image = picture.querySelector("img");
    if (!trial || !image || section.hidden) return;
    image.decode().catch(() => {}).then(() => {
      const frame = left.offsetWidth - picture.offsetWidth, foot = left.offsetHeight - picture.offsetHeight, gap = 26;
      const wide = section.clientWidth, high = document.documentElement.clientHeight - (section.offsetHeight - sides.offsetHeight) - 44;
      const beside = Math.min((wide - gap) / 2 - frame, high - foot);
      const stacked = Math.min(wide - frame, (high - gap) / 2 - foot);
      const room = Math.min(Math.max(beside, stacked, 96), 512);
      const across = trial.a.length > 1 ? 3 : 1, gaps = (across - 1) * 3;
      const dots = window.devicePixelRatio || 1, own = Math.max(natural(), 1);
      const times = Math.floor((room - gaps) / across * dots / own);
      sides.classList.toggle("stacked", stacked > beside);
      document.documentElement.style.setProperty("--side", (times ? times * own / dots * across + gaps : room) + "px");
    });
  }

  function natural() {
    return Math.max(...[...document.querySelectorAll(".picture img")].map((image) => image.naturalWidth));
  }

  function pause(block) {
    find("next-ask").textContent = block.ask;
    find("next-hint").textContent = block.hint;
    heading("pause");
  }

  function end() {
    const done = state.answers.length;
    find("summary").textContent = done === plan.length
      ? "You have answered all " + done + " pairs." : "You have answered " + done + " of " + plan.length + " pairs.";
    find("csv").value = csv();
    find("save").disabled = !done;
    find("back").disabled = !done;
    heading("end");
  }

  // ---- what the rater does -------------------------------------------------------------------------------------

  function answer(given) {
    const ms = Math.round(performance.now() - since), trial = plan[state.answers.length];
    if (find("trial").hidden || ms < LOCK) return;
    state.answers.push({ pair: trial.pair, left: trial.left, answer: given, ms });
    keep();
    next();
  }

  function undo() {
    stopped = false;
    state.answers.pop();
    keep();
    next(false);
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "votes-" + data.survey + "-" + state.rater + ".csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    find("said").textContent = "Saved as " + link.download;
  }

  function again() {
    if (!window.confirm("Forget these answers and start anew? Save them first.")) return;
    state = fresh();
    plan = planned(state.seed);
    stopped = false;
    keep();
    heading("start");
  }

  const keys = {
    ArrowLeft: () => answer("left"), 1: () => answer("left"), ArrowRight: () => answer("right"), 2: () => answer("right"),
    0: () => answer("tie"), Backspace: () => state.answers.length && undo(),
  };
  document.addEventListener("keydown", (event) => {
    if (find("trial").hidden || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  find("begin").addEventListener("click", () => { keep(); next(); });
  find("go-on").addEventListener("click", () => next(false));
  find("left").addEventListener("click", () => answer("left"));
  find("right").addEventListener("click", () => answer("right"));
  find("tie").addEventListener("click", () => answer("tie"));
  find("undo").addEventListener("click", undo);
  find("back").addEventListener("click", () => { if (stopped) { stopped = false; next(false); } else undo(); });
  find("stop").addEventListener("click", () => { stopped = true; end(); });
  find("save").addEventListener("click", save);
  find("again").addEventListener("click", again);
  window.addEventListener("resize", measure);

  if (state.answers.length) next();
})();
