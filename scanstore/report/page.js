"use strict";
(() => {
  const one = (selector) => document.querySelector(selector);
  const list = one("#files");
  const sections = [...list.querySelectorAll(".file")];
  const findings = [...list.querySelectorAll(".finding")];
  const inputs = { text: one("#text"), severity: one("#severity"), change: one("#change"), state: one("#state") };
  const order = one("#order");
  const texts = new Map();
  const ranks = {
    severity: ["critical", "high", "medium", "low", "info"],
    change: ["new", "reopened", "updated", "unchanged", "not_checked", "fixed"],
  };

  const textOf = (finding) => {
    if (!texts.has(finding)) {
      texts.set(finding, (finding.dataset.file + " " + finding.textContent).toLowerCase());
    }
    return texts.get(finding);
  };
  const severityFits = (severity, wanted) =>
    wanted === "" || severity === wanted ||
    (wanted.endsWith("+") && ranks.severity.indexOf(severity) <= ranks.severity.indexOf(wanted.slice(0, -1)));
  const stateFits = (data, wanted) =>
    wanted === "" || (wanted === "open" ? data.open === "yes" : data.status === wanted || data.suppression === wanted);

  function filter() {
    const words = inputs.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const section of sections) {
      let here = 0;
      for (const finding of section.querySelectorAll(".finding")) {
        const data = finding.dataset;
        const fits = severityFits(data.severity, inputs.severity.value) &&
          (inputs.change.value === "" || data.change === inputs.change.value) &&
          stateFits(data, inputs.state.value) &&
          words.every((word) => textOf(finding).includes(word));
        finding.hidden = !fits;
        here += fits;
      }
      section.hidden = here === 0;
      section.querySelector(".count").textContent = here === 1 ? "1 finding" : here.toLocaleString("en") + " findings";
      shown += here;
    }
    one("#shown").textContent =
      "Showing " + shown.toLocaleString("en") + " of " + findings.length.toLocaleString("en") + " findings";
    one("#none").hidden = shown > 0 || findings.length === 0;
  }

  const keys = {
    severity: (data) => ranks.severity.indexOf(data.severity),
    change: (data) => ranks.change.indexOf(data.change),
    age: (data) => -Number(data.first),
    file: () => 0,
  };
  function sort() {
    const key = keys[order.value];
    const place = (a, b) => Number(a.dataset.line) - Number(b.dataset.line) || Number(a.dataset.id) - Number(b.dataset.id);
    const least = new Map();
    for (const section of sections) {
      const inside = [...section.querySelectorAll(".finding")];
      inside.sort((a, b) => key(a.dataset) - key(b.dataset) || place(a, b));
      section.append(...inside);
      least.set(section, key((inside.find((finding) => !finding.hidden) || inside[0]).dataset));
    }
    sections.sort((a, b) => least.get(a) - least.get(b) || (a.dataset.file < b.dataset.file ? -1 : 1));
    list.append(...sections);
  }

  function arrange() {
    filter();
    sort();
  }

  function choose(values) {
    inputs.text.value = "";
    for (const name of ["severity", "change", "state"]) {
      inputs[name].value = name in values ? values[name] : "";
    }
    arrange();
  }

  function reveal() {
    const wanted = /^#f\d+$/.test(location.hash) ? one(location.hash) : null;
    if (wanted) {
      if (wanted.hidden) { choose({}); }
      wanted.open = true;
      wanted.scrollIntoView();
    }
  }

  let waiting = 0;
  inputs.text.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 80);
  });
  for (const name of ["severity", "change", "state"]) { inputs[name].addEventListener("change", arrange); }
  order.addEventListener("change", sort);
  one("#reset").addEventListener("click", () => choose({ state: "open" }));
  one("#unfold").addEventListener("click", () => {
    const visible = findings.filter((finding) => !finding.hidden);
    const open = visible.some((finding) => !finding.open);
    for (const finding of visible) { finding.open = open; }
  });
  for (const tile of document.querySelectorAll(".tile")) {
    tile.addEventListener("click", () => choose(tile.dataset));
  }
  addEventListener("beforeprint", () => { for (const finding of findings) { finding.open = !finding.hidden; } });
  addEventListener("hashchange", reveal);

  document.documentElement.classList.add("scripted");
  filter();
  reveal();
})();
