
"use strict";
(() => {
  const PAGE = 12;
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const once = (compute) => { let value; return () => (value ??= compute()); };
  const data = read("data"), pictures = once(() => read("pictures")), maps = once(() => read("maps"));
  const [rows, columns] = data.grid, patches = rows * columns, cards = data.cards;
  const scored = cards.scores[0].length > 0 && cards.scores[0][0] !== null;
  const byId = (id) => document.getElementById(id);

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }
  const isolated = (text) => make("bdi", {}, text);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  // --- maps: bytes back to weights -------------------------------------------------------------

  function unpack(packed, words) {
    // weights[word][head] is a Float32Array over the patches
    const bytes = Uint8Array.from(atob(packed.bytes), (letter) => letter.charCodeAt(0));
    const heads = packed.largest.length / words;
    return Array.from({ length: words }, (_, word) => Array.from({ length: heads }, (_, head) => {
      const first = (word * heads + head) * patches, scale = packed.largest[word * heads + head] / 255;
      return Float32Array.from(bytes.subarray(first, first + patches), (level) => level * scale);
    }));
  }
  function mean(arrays, shares) {
    const total = shares.reduce((a, b) => a + b, 0), out = new Float32Array(patches);
    arrays.forEach((array, i) => array.forEach((value, k) => { out[k] += value * shares[i] / total; }));
    return out;
  }
  // word -1 is the whole question; head -1 is the average
  function mapOf(looks, pieces, word, head) {
    const of = (w) => head < 0 ? mean(looks[w], looks[w].map(() => 1)) : looks[w][head];
    if (word >= 0) return of(word);
    const words = looks.map((_, w) => w).slice(looks.length > 1 ? 1 : 0);
    return mean(words.map(of), words.map((w) => pieces[w]));
  }

  const STOPS = [[16, 12, 50, 150], [95, 25, 120, 140], [190, 55, 90, 125], [250, 145, 20, 110], [255, 240, 120, 95]];
  function colour(t, solid) {
    const at = Math.min(0.9999, Math.max(0, t)) * (STOPS.length - 1), i = Math.floor(at), f = at - i;
    const mixed = STOPS[i].map((value, k) => Math.round(value + f * (STOPS[i + 1][k] - value)));
    return solid ? [...mixed.slice(0, 3), 255] : mixed;
  }
  function paint(canvas, weights, solid, cursor = -1) {
    const top = Math.max(4 / patches, ...weights), image = new ImageData(columns, rows);
    weights.forEach((weight, k) => image.data.set(colour(weight / top, solid), 4 * k));
    if (cursor >= 0) image.data.set([255, 255, 255, 200], 4 * cursor);
    canvas.width = columns;
    canvas.height = rows;
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  // --- one card --------------------------------------------------------------------------------

  function verdict(score) {
    if (score === null) return null;
    if (score >= 0.995) return ["right", "good"];
    return score > 0 ? [`${Math.round(100 * score)} % right`, "half"] : ["wrong", "bad"];
  }

  function sparkline(entry, head) {
    const curve = (values) => [entry.whole, ...values];
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 100 44");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const shares = [0, ...data.shares], last = shares[shares.length - 1];
    const curves = { least: entry.least[head + 1], random: entry.random, most: entry.most[head + 1] };
    for (const [name, values] of Object.entries(curves)) {
      const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
      line.setAttribute("class", `line ${name}`);
      line.setAttribute("points", curve(values).map((p, i) => `${100 * shares[i] / last},${2 + 40 * (1 - p)}`).join(" "));
      svg.append(line);
    }
    return svg;
  }

  function describeTest(entry, head) {
    const at = data.shares.length - 1, share = Math.round(100 * data.shares[at]);
    return make("span", {}, `Without ${share} % of the patches: most attended `,
      make("b", {}, percent(entry.most[head + 1][at])), ", random ", make("b", {}, percent(entry.random[at])),
      ", least attended ", make("b", {}, percent(entry.least[head + 1][at])), `. Whole picture ${percent(entry.whole)}.`);
  }

  function addMaps(card, view, entry, question) {
    const words = entry.words.length, looks = unpack(entry.looks, words);
    const hears = entry.hears && unpack(entry.hears, words), heads = looks[0].length;
    let word = -1, head = -1, cursor = -1;
    const canvas = make("canvas", { "aria-hidden": "true" });
    const scale = make("p", { class: "scale", "aria-live": "polite" });
    const test = make("div", { class: "test" });
    view.append(canvas);

    const buttons = entry.words.map((text, i) => make("button", {
      type: "button", class: i ? "word" : "word start", "aria-pressed": "false", tabindex: i === 1 || words === 1 ? "0" : "-1",
      title: i ? null : "the token before every question",
    }, isolated(text)));
    // A mark stays on the line of the word before it.
    const groups = [];
    buttons.forEach((button, i) => {
      if (i < 2 || entry.spaced[i]) groups.push([]);
      groups[groups.length - 1].push(button);
    });
    question.replaceChildren(...groups.flatMap((group, i) => {
      const short = group.reduce((sum, button) => sum + button.textContent.length, 0) < 24;
      return [i ? " " : "", make("span", { class: short ? "together" : null }, ...group)];
    }));

    const names = Array.from({ length: heads }, (_, i) => `${i + 1}`);
    const minis = ["all", ...names].map((name, i) => make("button", {
      type: "button", class: "mini", "aria-pressed": String(i === 0),
      "aria-label": i ? `attention head ${name}` : "average of the attention heads",
    }, make("canvas", { "aria-hidden": "true" }), name));

    function show() {
      const name = word < 0 ? "the whole question" : `“${entry.words[word]}”`;
      const weights = mapOf(looks, entry.pieces, word, head);
      paint(canvas, weights, false, cursor);
      minis.forEach((mini, i) => {
        paint(mini.firstChild, mapOf(looks, entry.pieces, word, i - 1), true);
        mini.setAttribute("aria-pressed", String(i - 1 === head));
      });
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === word)));
      const whose = head < 0 ? "average of the heads" : `head ${head + 1}`;
      scale.replaceChildren(isolated(name), `, ${whose}: brightest patch ${percent(Math.max(...weights))}, even spread ${percent(1 / patches)}`);
      test.replaceChildren(sparkline(entry, head), describeTest(entry, head));
      card.dataset.word = word;
      card.dataset.head = head;
    }
    // What a patch listens to: the words it attends to are shaded.
    function listen(patch) {
      cursor = patch;
      buttons.forEach((button, i) => {
        const share = patch < 0 || !hears ? 0 : mapOf([hears[i]], [1], 0, head)[patch];
        button.style.backgroundColor = share ? `color-mix(in srgb, var(--s1) ${Math.round(85 * share)}%, transparent)` : "";
      });
      show();
      if (patch < 0 || !hears) return;
      const shares = buttons.map((_, i) => [mapOf([hears[i]], [1], 0, head)[patch], entry.words[i]]).sort((a, b) => b[0] - a[0]);
      scale.replaceChildren(`patch in row ${Math.floor(patch / columns) + 1}, column ${patch % columns + 1} listens to `,
        ...shares.slice(0, 3).flatMap(([share, text], i) => [i ? ", " : "", isolated(text), ` ${percent(share)}`]));
    }
    function choose(next) { word = next; listen(-1); }

    buttons.forEach((button, i) => {
      button.addEventListener("mouseenter", () => choose(i));
      button.addEventListener("focus", () => choose(i));
      button.addEventListener("click", () => choose(i));
      button.addEventListener("keydown", (event) => {
        const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: words - 1 }[event.key];
        if (event.key === "Escape") { choose(-1); return; }
        if (to === undefined || !buttons[to]) return;
        event.preventDefault();
        buttons.forEach((other, k) => other.setAttribute("tabindex", k === to ? "0" : "-1"));
        buttons[to].focus();
      });
    });
    question.addEventListener("mouseleave", () => { if (!question.contains(document.activeElement)) choose(-1); });
    minis.forEach((mini, i) => mini.addEventListener("click", () => { head = i - 1; listen(-1); }));

    if (hears) {
      view.setAttribute("tabindex", "0");
      view.setAttribute("role", "group");
      view.setAttribute("aria-label", "Patches of the picture: arrow keys go from patch to patch and tell which words each listens to");
      const at = (event) => {
        const box = canvas.getBoundingClientRect();
        const x = Math.floor(columns * (event.clientX - box.left) / box.width), y = Math.floor(rows * (event.clientY - box.top) / box.height);
        return x >= 0 && x < columns && y >= 0 && y < rows ? y * columns + x : -1;
      };
      canvas.addEventListener("pointermove", (event) => listen(at(event)));
      canvas.addEventListener("click", (event) => listen(at(event)));
      canvas.addEventListener("pointerleave", () => listen(-1));
      view.addEventListener("blur", () => listen(-1));
      view.addEventListener("keydown", (event) => {
        const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
        if (event.key === "Escape") listen(-1);
        if (!step) return;
        event.preventDefault();
        const from = cursor < 0 ? [Math.floor(rows / 2), Math.floor(columns / 2)] : [Math.floor(cursor / columns) + step[0], cursor % columns + step[1]];
        listen(Math.min(rows - 1, Math.max(0, from[0])) * columns + Math.min(columns - 1, Math.max(0, from[1])));
      });
    }
    card.insertBefore(make("div", { class: "maps", role: "group", "aria-label": "Attention heads" }, ...minis), question.nextSibling);
    card.insertBefore(scale, question.nextSibling);
    card.append(test);
    show();
  }

  function makeCard(i) {
    const text = data.texts[cards.text[i]], picture = pictures()[cards.picture[i]];
    const view = make("div", { class: "view" }, picture
      ? make("img", { src: picture, alt: `Picture ${cards.image[i]}, asked: ${text}` })
      : make("div", { class: "none" }, "no picture"));
    const question = make("p", { class: "question", dir: "auto" }, text);
    const best = make("ol", { class: "answers", "aria-label": "Most probable answers" }, ...cards.top[i].map((answer, k) => {
      const bar = make("i");
      bar.style.width = `${100 * cards.p[i][k]}%`;
      return make("li", {}, make("bdi", { title: data.answers[answer] }, data.answers[answer]), make("span", { class: "track" }, bar), make("span", {}, percent(cards.p[i][k])));
    }));
    const truth = make("p", { class: "verdict" });
    const judged = verdict(cards.scores[0][i]);
    if (judged) truth.append(make("b", { class: judged[1] }, judged[0]), " · true: ", isolated(data.truths[cards.true[i]]));
    data.runs.slice(1).forEach((run, k) => {
      const other = verdict(cards.scores[k + 1][i]);
      truth.append(make("br"), isolated(run), ": ", make("b", { class: other ? other[1] : null }, isolated(data.answers[cards.said[k + 1][i]])));
    });
    const kinds = [data.types[cards.type[i]], data.kinds[cards.kind[i]]].filter(Boolean).join(" · ");
    const card = make("article", { class: "card", "aria-label": text.slice(0, 200) }, view, question, best, truth);
    card.dataset.card = i;
    if (data.map[i] >= 0) addMaps(card, view, maps()[data.map[i]], question);
    card.append(make("p", { class: "meta" }, isolated(kinds), kinds ? " · " : "", "question ", isolated(cards.id[i]), ", picture ", isolated(cards.image[i])));
    return card;
  }

  // --- filters and pages -----------------------------------------------------------------------

  function fill(id, options) {
    byId(id).replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  }
  const named = (names) => names.map((name, i) => [i, name]).filter(([, name]) => name).sort((a, b) => a[1].localeCompare(b[1]));
  fill("f-type", [["", "all"], ...named(data.types)]);
  fill("f-kind", [["", "all"], ...named(data.kinds)]);
  fill("f-result", [["", "all"], ...(scored ? [["right", "right"], ["wrong", "wrong"], ["half", "partly right"]] : []),
    ...(data.runs.length > 1 ? [["differ", "runs disagree"]] : []),
    ...(scored && data.runs.length > 1 ? [["better", "only this run is right"], ["worse", "only another run is right"]] : [])]);

  const haystack = once(() => cards.id.map((id, i) => [
    data.texts[cards.text[i]], data.truths[cards.true[i]], data.answers[cards.said[0][i]], cards.image[i], id].join("\n").toLowerCase()));

  let matching = [], page = 0;
  function results(i) {
    const mine = cards.scores[0][i], others = cards.scores.slice(1).map((scores) => scores[i]);
    return {
      "": true, right: mine >= 0.995, wrong: mine === 0, half: mine > 0 && mine < 0.995,
      differ: cards.said.some((said) => said[i] !== cards.said[0][i]),
      better: mine >= 0.995 && others.every((score) => score < 0.995),
      worse: mine < 0.995 && others.some((score) => score >= 0.995),
    };
  }
  function filter() {
    const wanted = byId("f-text").value.trim().toLowerCase(), result = byId("f-result").value;
    const type = byId("f-type").value, kind = byId("f-kind").value, onlyMaps = byId("f-maps").checked;
    const low = (byId("f-low").valueAsNumber || 0) / 100, high = byId("f-high").value === "" ? 1 : byId("f-high").valueAsNumber / 100;
    matching = cards.id.map((_, i) => i).filter((i) =>
      (!onlyMaps || data.map[i] >= 0) && (type === "" || cards.type[i] === Number(type)) && (kind === "" || cards.kind[i] === Number(kind)) &&
      cards.p[i][0] >= low && cards.p[i][0] <= high + 1e-9 && results(i)[result] && (!wanted || haystack()[i].includes(wanted)));
    const order = { low: 1, high: -1 }[byId("f-order").value];
    if (order) matching.sort((a, b) => order * (cards.p[a][0] - cards.p[b][0]));
    page = 0;
    render();
  }
  function render() {
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    byId("cards").replaceChildren(...matching.slice(page * PAGE, (page + 1) * PAGE).map(makeCard));
    byId("count").textContent = `${matching.length.toLocaleString("en")} of ${cards.id.length.toLocaleString("en")} questions`;
    byId("page").textContent = `page ${page + 1} of ${pages.toLocaleString("en")}`;
    for (const end of ["", "-end"]) {
      byId(`previous${end}`).disabled = page === 0;
      byId(`next${end}`).disabled = page >= pages - 1;
    }
  }
  function turn(step) {
    page += step;
    render();
    byId("filters").scrollIntoView({ block: "start" });
  }
  for (const end of ["", "-end"]) {
    byId(`previous${end}`).addEventListener("click", () => turn(-1));
    byId(`next${end}`).addEventListener("click", () => turn(1));
  }
  let waiting;
  byId("filters").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());

  filter();
})();
