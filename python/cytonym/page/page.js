// Draws the page from `data` (page/data.py), with the tools of shared.js.

const PAGE_ROWS = 20;
const LOW_UMI = "Low UMI Barcode";
const LEVEL_NAMES = { broad: "Broad types", coarse: "Coarse types" };

// ---- sections of a model's tab: (model, view, state) -> node or null; view is the level that is shown

function composition(model, view, state) {
  const detail = el("div", { "aria-live": "polite" });
  const most = Math.max(...view.groups.map((group) => group.share));
  const choose = (group) => {
    state.type = group.name;
    detail.replaceChildren(...subtypes(model, view, group));
  };
  const start = view.groups.find((group) => group.name === state.type) ?? view.groups[0];
  const bar = (group) =>
    el("label", { class: "bar" },
      el("input", { type: "radio", name: `type-${model.name}`, checked: group === start, onchange: () => choose(group) }),
      el("span", { class: "name" }, group.name),
      el("span", { "aria-hidden": "true" }, fillBar(group.name, group.share / most)),
      el("span", { class: "number" }, `${whole(group.cells)} `, el("span", { class: "note" }, percent(group.share, 1))));
  choose(start);
  return section("Cell Type Composition",
    el("p", { class: "note" }, "Cells of each type. Choose a type to see what it is made of. ", leftOut(view)),
    el("div", { class: "pair" }, el("fieldset", {}, el("legend", { class: "hidden-text" }, "Cell type"), view.groups.map(bar)), detail),
    reasonsTable(model));
}

function fillBar(name, share, kind = "") {
  return el("span", { class: `fill ${kind}`, style: `width:${(100 * share).toFixed(2)}%;--colour:${data.colours[name] ?? "#888"}` });
}

function leftOut(view) {
  const { types, cells } = view.left_out;
  return types ? `${plural(types, "smaller type", "smaller types")} (${plural(cells, "cell", "cells")} in all) not shown.` : "";
}

function subtypes(model, view, group) {
  const title = el("h3", {}, swatch(group.name), group.name);
  const markers = model.markers[group.name];
  const evidence = markers?.length ? el("p", { class: "note" }, `Markers that stand out: ${markers.join(", ")}`) : null;
  if (!group.subtypes) return [title, evidence].filter(Boolean);
  const rows = group.subtypes.map(([name, share]) =>
    el("tr", {}, el("th", { scope: "row" }, name, fillBar(group.name, share, "sub")), el("td", { class: "number" }, percent(share))));
  const more = group.more_subtypes ? el("p", { class: "note" }, `${plural(group.more_subtypes, "rarer type", "rarer types")} not shown.`) : null;
  const caption = `${view.finer === "fine" ? "Fine" : "Coarse"} types of these ${plural(group.cells, "cell", "cells")}`;
  const table = el("table", {}, el("caption", {}, caption), headRow(["Sub-type"], ["Share", "number"]), el("tbody", {}, rows));
  return [title, table, more, evidence].filter(Boolean);
}

function reasonsTable(model) {
  if (!model.reasons.length) return null;
  const rows = model.reasons.map(([reason, cells]) =>
    el("tr", {}, el("th", { scope: "row" }, reason), el("td", { class: "number" }, whole(cells))));
  return el("details", {}, el("summary", {}, "Why some cells lack a finer label"),
    el("table", {}, el("caption", { class: "hidden-text" }, "Reasons"), headRow(["Reason"], ["Cells", "number"]), el("tbody", {}, rows)));
}

// Boxes lie on their side: long type names stay readable, and the rows of page and plot are one table.
function umis(model, view) {
  const decades = [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7];
  const smallest = Math.min(...view.groups.map((group) => group.umis.min));
  const largest = Math.max(...view.groups.map((group) => group.umis.max));
  const first = decades.findLast((tick) => tick <= smallest);
  const ticks = decades.filter((tick) => tick >= first && tick <= Math.max(largest, 10 * first, 1));
  const place = (umi) => Math.log10(umi + 1); // zero has a place, too
  const [from, to] = [place(first), place(Math.max(largest, ticks.at(-1)))];
  const x = (umi) => (1000 * (place(umi) - from)) / (1.01 * (to - from));
  const axis = el("div", { class: "axis", "aria-hidden": "true" },
    ticks.map((tick) => el("span", { style: `left:${x(tick) / 10}%` }, tick >= 1000 ? `${tick / 1000}k` : tick)));
  const plot = (group) => {
    const { min, q1, mean, median, q3, max } = group.umis;
    const line = (left, right, y1, y2, kind) => svg("line", { x1: x(left), x2: x(right), y1, y2, class: kind });
    const told = `${group.name}: ${plural(group.cells, "cell", "cells")}; UMIs: smallest ${whole(min)}, first quartile ${whole(q1)}, ` +
      `median ${whole(median)}, mean ${whole(mean)}, third quartile ${whole(q3)}, largest ${whole(max)}`;
    return svg("svg", { viewBox: "0 0 1000 26", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("title", {}, told),
      ticks.map((tick) => line(tick, tick, 0, 26, "grid")),
      line(min, max, 13, 13), line(min, min, 9, 17), line(max, max, 9, 17),
      svg("rect", { x: x(q1), width: Math.max(x(q3) - x(q1), 1), y: 5, height: 16, fill: data.colours[group.name] ?? "#888" }),
      line(median, median, 4, 22, "halo"), line(median, median, 4, 22, "median"));
  };
  const rows = view.groups.map((group) =>
    el("tr", {}, el("th", { scope: "row" }, group.name), el("td", { class: "number" }, whole(group.umis.median)), el("td", { class: "plot" }, plot(group))));
  const table = el("table", { class: "boxes" },
    el("caption", {}, "Logarithmic scale. Boxes span the middle half of the cells, the thick line is the median, whiskers reach the smallest and the largest cell."),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Type"), el("th", { scope: "col", class: "number" }, "Median"), el("th", { scope: "col", class: "plot" }, "UMIs per cell", axis))),
    el("tbody", {}, rows));
  return section("UMI distribution by cell type", table, umiNumbers(view));
}

function umiNumbers(view) {
  const rows = view.groups.map((group) =>
    el("tr", {}, el("th", { scope: "row" }, group.name),
      [group.cells, ...["min", "q1", "mean", "median", "q3", "max"].map((name) => group.umis[name])].map((value) =>
        el("td", { class: "number" }, whole(value)))));
  const names = ["Cells", "Smallest", "1st quartile", "Mean", "Median", "3rd quartile", "Largest"].map((name) => [name, "number"]);
  const table = el("table", {}, el("caption", { class: "hidden-text" }, "UMIs per cell by type"), headRow(["Type"], ...names), el("tbody", {}, rows));
  return el("details", {}, el("summary", {}, "The same in numbers"), scrolling("UMIs per cell by type", table));
}

function confidence(model, view) {
  const groups = view.groups.filter((group) => group.confidence);
  const reliability = model.reliability.map((sentence) => el("p", {}, sentence));
  if (!groups.length) return reliability.length ? section("Reliability", reliability) : null;
  const rows = groups.map(({ name, confidence: { median, confident, very_confident: sure } }) =>
    el("tr", {}, el("th", { scope: "row" }, swatch(name), name), el("td", { class: "number" }, median.toFixed(2)),
      el("td", { class: "meter-cell" }, el("span", { class: "meter", "aria-hidden": "true" }, el("i", { style: `width:${100 * median}%` }))),
      el("td", { class: "number" }, percent(confident, 1)), el("td", { class: "number" }, percent(sure, 1))));
  return section("Confidence by cell type", reliability,
    el("table", {}, el("caption", {}, `Of the cells that have one (column ${view.confidence} of cell_types.csv).`),
      headRow(["Type"], ["Median", "number"], [""], ["≥ 0.5", "number"], ["≥ 0.9", "number"]), el("tbody", {}, rows)));
}

// ---- pictures: a byte a pixel or point names a kind of `model.kinds`; 255 is nothing, 254 a rare kind

const NOTHING = 255;
const unpacked = new Map(); // packed text -> promise of its bytes, so that a change of level unpacks nothing again

function unpack(text) {
  if (!unpacked.has(text)) {
    const bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    unpacked.set(text, new Response(stream).arrayBuffer());
  }
  return unpacked.get(text);
}

// Colours by code as [red, green, blue, 255], clear for types that are not ticked.
function palette(model, level, ticked) {
  const table = new Uint8ClampedArray(4 * 256);
  for (let code = 0; code < NOTHING; code++) {
    const name = model.kinds[code]?.[level];
    if (ticked.has(name)) table.set([1, 3, 5].map((place) => parseInt(data.colours[name].slice(place, place + 2), 16)).concat(255), 4 * code);
  }
  return table;
}

// A canvas with a box to tick for each type, and the type under the pointer in words.
function picture({ id, title, note, label, model, view, size, paint, codeAt, tools = [] }) {
  const names = view.groups.map((group) => group.name);
  const ticked = new Set(names);
  const canvas = el("canvas", { width: size[0], height: size[1], role: "img", "aria-label": label });
  const told = el("p", { class: "note told screen", "aria-hidden": "true" }, "\u00a0");
  const draw = () => paint(canvas, ticked);
  const boxes = names.map((name) =>
    el("label", { class: "tick" }, el("input", { type: "checkbox", checked: true, "data-type": name, onchange: (event) => {
      if (event.target.checked) ticked.add(name);
      else ticked.delete(name);
      draw();
    } }), " ", swatch(name), name));
  const all = (on) => el("button", { type: "button", onclick: () => {
    boxes.forEach((box) => (box.firstChild.checked = on));
    names.forEach((name) => (on ? ticked.add(name) : ticked.delete(name)));
    draw();
  } }, on ? "Show all" : "Hide all");
  canvas.addEventListener("pointermove", async (event) => {
    const box = canvas.getBoundingClientRect();
    const at = [((event.clientX - box.left) * size[0]) / box.width, ((event.clientY - box.top) * size[1]) / box.height];
    const code = await codeAt(...at);
    told.textContent = code === NOTHING ? "\u00a0" : (model.kinds[code]?.[view.key] ?? "A rarer type");
  });
  canvas.addEventListener("pointerleave", () => (told.textContent = "\u00a0"));
  tools.forEach((tool) => tool.addEventListener("input", draw));
  const redraw = () => canvas.isConnected && draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  draw();
  return section(title, el("p", { class: "note" }, note, " ", leftOut(view)),
    el("div", { class: "picture", id },
      el("div", {}, canvas, told),
      el("fieldset", { class: "ticks" }, el("legend", { class: "hidden-text" }, `Types shown: ${title}`),
        el("div", { class: "tools" }, all(true), all(false), tools.map((tool) => el("label", {}, tool.dataset.label, " ", tool))), boxes)));
}

function tissue(model, view) {
  if (!data.tissue || !model.pixels) return null;
  const { width, height, image, pixels_per_micron: perMicron } = data.tissue;
  const under = image ? Object.assign(new Image(), { src: image }) : null;
  const over = el("canvas", { width, height });
  const opacity = el("input", { type: "range", min: 0, max: 100, value: image ? 70 : 100, "data-label": "Opacity" });
  const withImage = image ? el("input", { type: "checkbox", checked: true, "data-label": "Tissue image" }) : null;
  const pixels = async () => new Uint8Array(await unpack(model.pixels));
  async function paint(canvas, ticked) {
    const codes = await pixels();
    if (under) await under.decode();
    const table = new Uint32Array(palette(model, view.key, ticked).buffer);
    const picture = new ImageData(width, height);
    const words = new Uint32Array(picture.data.buffer);
    for (let place = 0; place < codes.length; place++) words[place] = table[codes[place]];
    over.getContext("2d").putImageData(picture, 0, 0);
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.fillStyle = "#fff"; // paper in both themes: the stain is made to be seen on white
    context.fillRect(0, 0, width, height);
    if (withImage?.checked) context.drawImage(under, 0, 0, width, height);
    context.globalAlpha = opacity.value / 100;
    context.drawImage(over, 0, 0);
    context.globalAlpha = 1;
    if (perMicron) scaleBar(context, width, height, perMicron);
    canvas.dataset.painted = ticked.size;
  }
  const codeAt = async (x, y) => (await pixels())[Math.floor(y) * width + Math.floor(x)] ?? NOTHING;
  return picture({ id: `tissue-${model.name}`, title: "Spatial distribution of cell types", model, view, size: [width, height], paint, codeAt,
    note: image ? "Each cell on the tissue image, in the colour of its type." : "Each cell where it lies, in the colour of its type.",
    label: "Map of the tissue with each cell in the colour of its type; the composition above has the numbers",
    tools: [opacity, withImage].filter(Boolean) });
}

function scaleBar(context, width, height, perMicron) {
  const microns = [10, 20, 50, 100, 200, 500, 1000, 2000].findLast((length) => length * perMicron < width / 4) ?? 10;
  const [length, left, top] = [microns * perMicron, 0.02 * width, 0.97 * height];
  context.fillStyle = "#fff";
  context.fillRect(left - 8, top - 34, length + 16, 48);
  context.fillStyle = "#000";
  context.fillRect(left, top, length, 5);
  context.font = "22px system-ui, sans-serif";
  context.fillText(microns >= 1000 ? `${microns / 1000} mm` : `${microns} µm`, left, top - 8);
}

function projection(model, view) {
  if (!data.projection || !model.points) return null;
  const { name, source, cells, points } = data.projection;
  const [size, edge] = [900, 20];
  const radius = cells > 5000 ? 2 : cells > 1000 ? 3 : 5;
  const load = async () => [new Uint16Array(await unpack(points)), new Uint8Array(await unpack(model.points))];
  const place = (steps) => edge + (steps / 65535) * (size - 2 * edge);
  async function paint(canvas, ticked) {
    const [steps, codes] = await load();
    const context = canvas.getContext("2d");
    const faint = getComputedStyle(document.documentElement).getPropertyValue("--row").trim();
    context.clearRect(0, 0, size, size);
    for (const front of [false, true]) // types that are not ticked stay as a shadow below the others
      for (let point = 0; point < codes.length; point++) {
        const name = model.kinds[codes[point]]?.[view.key];
        if (ticked.has(name) !== front) continue;
        context.fillStyle = front ? data.colours[name] : faint;
        context.beginPath();
        context.arc(place(steps[2 * point]), size - place(steps[2 * point + 1]), radius, 0, 7);
        context.fill();
      }
    canvas.dataset.painted = ticked.size;
  }
  async function codeAt(x, y) {
    const [steps, codes] = await load();
    let [best, nearest] = [NOTHING, 10 ** 2];
    for (let point = 0; point < codes.length; point++) {
      const distance = (place(steps[2 * point]) - x) ** 2 + (size - place(steps[2 * point + 1]) - y) ** 2;
      if (distance < nearest) [best, nearest] = [codes[point], distance];
    }
    return best;
  }
  return picture({ id: `projection-${model.name}`, title: `${name} projection of cell types`, model, view, size: [size, size], paint, codeAt,
    note: `${plural(cells, "cell", "cells")}; ${name} ${source}. Distances between groups mean little.`,
    label: `${name} of ${plural(cells, "cell", "cells")} in the colours of their types; near cells have similar expression` });
}

function agreements(tables) {
  return tables.map(({ models: [first, second], same, rows, columns, cells, left_out: [fewerRows, fewerColumns] }) => {
    const most = cells.map((row) => Math.max(...row, 1));
    const body = rows.map((name, r) =>
      el("tr", {}, el("th", { scope: "row" }, swatch(name), name), columns.map((_, c) =>
        el("td", { class: "number share", style: `--share:${(100 * cells[r][c] / most[r]).toFixed(0)}%` }, cells[r][c] ? whole(cells[r][c]) : ""))));
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, first), columns.map((name) => el("th", { scope: "col", class: "number" }, name))));
    const more = fewerRows + fewerColumns ? el("p", { class: "note" }, `${plural(fewerRows + fewerColumns, "rarer type", "rarer types")} not shown.`) : null;
    return section(`Agreement of ${first} and ${second}`,
      el("p", { class: "note" }, `Rows: ${first}; columns: ${second}; cells in both types. ${percent(same, 1)} of the cells have the same coarse type by name.`),
      scrolling(`Agreement of ${first} and ${second}`, el("table", { class: "features" }, el("caption", { class: "hidden-text" }, "Cells by types of both models"), head, el("tbody", {}, body))), more);
  });
}

function features(model) {
  const nothing = "There is nothing to show: the cells fall into fewer than two coarse types, or differential expression was left out.";
  if (!model.features) return section("Top Features by Cell Type", el("p", { class: "note" }, nothing), evidence(model));
  const { types, rows, left_out: hidden } = model.features;
  const state = { type: -1, column: 0, part: 0, down: true, text: "", start: 0 };
  const holder = el("div", { class: "screen" });
  const shownTypes = () => (state.type < 0 ? types.map((_, index) => index) : [state.type]);

  function sorted() {
    const text = state.text.toLowerCase();
    const found = rows.filter(([id, name]) => !text || id.toLowerCase().includes(text) || name.toLowerCase().includes(text));
    const value = (row) => (state.column < 0 ? row[1] : row[state.column + 2][state.part]);
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
    const missing = (row) => value(row) === null;
    return found.sort((a, b) => missing(a) - missing(b) || (state.down ? -1 : 1) * order(value(a), value(b)));
  }

  function sortBy(column, part) {
    const same = state.column === column && state.part === part;
    Object.assign(state, { column, part, start: 0, down: same ? !state.down : part === 0 && column >= 0 });
    draw();
    holder.querySelector(`[data-sort="${column},${part}"]`).focus();
  }

  function sortHead(label, column, part, attributes = {}) {
    const active = state.column === column && state.part === part;
    const mark = active ? (state.down ? " ▼" : " ▲") : "";
    const spoken = column < 0 ? label : `${types[column]}: ${label}`;
    return el("th", { scope: "col", "aria-sort": active ? (state.down ? "descending" : "ascending") : null, ...attributes },
      el("button", { type: "button", "data-sort": `${column},${part}`, "aria-label": `Sort by ${spoken}`, onclick: () => sortBy(column, part) }, label, mark));
  }

  function draw() {
    const found = sorted();
    const page = found.slice(state.start, state.start + PAGE_ROWS);
    const shown = shownTypes();
    const body = page.map((row) =>
      el("tr", {}, el("th", { scope: "row" }, row[1], row[0] === row[1] ? null : el("small", {}, row[0]), markerOf(model, row[1], shown.map((index) => types[index]))),
        shown.flatMap((index) => {
          const [fold, p, grey] = row[index + 2];
          const kind = grey ? "number grey" : "number";
          return [el("td", { class: kind }, short(fold)), el("td", { class: kind }, short(p))];
        })));
    const table = el("table", { class: "features" },
      el("caption", { class: "hidden-text" }, "Fold changes and p-values of each type"),
      el("thead", {},
        el("tr", {}, sortHead("Feature", -1, 0, { rowspan: 2 }), shown.map((index) => el("th", { scope: "colgroup", colspan: 2 }, swatch(types[index]), types[index]))),
        el("tr", {}, shown.flatMap((index) => [sortHead("L2FC", index, 0, { class: "number" }), sortHead("p-value", index, 1, { class: "number" })]))),
      el("tbody", {}, body));
    const move = (label, start, possible) =>
      el("button", { type: "button", disabled: !possible, "data-move": label, onclick: () => {
        state.start = start;
        draw();
        const same = holder.querySelector(`[data-move="${label}"]`);
        (same.disabled ? holder.querySelector("[data-move]:not(:disabled)") : same)?.focus();
      } }, label);
    const last = Math.min(state.start + PAGE_ROWS, found.length);
    holder.replaceChildren(scrolling("Top features by cell type", table),
      el("div", { class: "tools", style: "margin-top:10px" },
        move("Previous", Math.max(0, state.start - PAGE_ROWS), state.start > 0),
        move("Next", state.start + PAGE_ROWS, last < found.length),
        el("span", { role: "status" }, found.length ? `${state.start + 1} to ${last} of ${plural(found.length, "feature", "features")}` : "No feature found")));
  }

  const chooser = el("select", { onchange: (event) => {
    state.type = Number(event.target.value);
    Object.assign(state, { column: Math.max(state.type, 0), part: 0, down: true, start: 0 });
    draw();
  } }, el("option", { value: -1 }, "All types"), types.map((name, index) => el("option", { value: index }, name)));
  const search = el("input", { type: "search", oninput: (event) => {
    Object.assign(state, { text: event.target.value, start: 0 });
    draw();
  } });
  draw();
  return section("Top Features by Cell Type",
    bestTable(model),
    el("p", { class: "note screen" }, "Log2 fold change (L2FC) of each type against all other cells, and its adjusted p-value. ",
      "Grey italics: not higher than in other cells, or p of at least 0.1."),
    el("div", { class: "tools" }, el("label", {}, "Type ", chooser), el("label", {}, "Feature ", search),
      hidden ? el("span", { class: "note" }, `${plural(hidden, "more type", "more types")} in the CSV file.`) : null),
    holder, evidence(model));
}

function bestTable({ features: { types, best, mean_counts: counts }, evidence: told }) {
  const rows = types.map((name, index) =>
    el("tr", {}, el("th", { scope: "row" }, swatch(name), name), el("td", {}, best[index].join(", ") || "none"),
      told ? el("td", {}, markersOf(told.types[name])) : null));
  const caption = `The ten features with the highest fold change against all other cells (p below 0.1, mean counts of at least ${counts})` +
    (told ? ", and the model's markers of the type: defining genes found on and off, and markers that stand out, with log2 ratios to other types." : ".");
  return el("table", { class: "best" }, el("caption", {}, caption),
    headRow(["Type"], ["Features"], ...(told ? [["Marker evidence"]] : [])), el("tbody", {}, rows));
}

// ---- what the marker model's calls rest on

function markersOf(told) {
  if (!told) return "none";
  const [, up, on, off] = told;
  const line = (label, genes) => (genes.length ? el("div", {}, el("span", { class: "note" }, `${label} `), genes.join(", ")) : null);
  return [line("On", on), line("Off", off), line("Stand out", up.map(([gene, ratio]) => `${gene} (${ratio})`))].filter(Boolean);
}

function markerOf(model, gene, types) {
  const of = types.filter((name) => {
    const [, up, on] = model.evidence?.types[name] ?? [0, [], []];
    return on.includes(gene) || up.some(([marker]) => marker === gene);
  });
  return of.length ? el("small", { class: "marker" }, `marker of ${of.join(", ")}`) : null;
}

function evidence({ evidence: told }) {
  if (!told?.rows.length) return null;
  const words = { cluster: "Cluster", cell_type: "Type", n_cells: "Cells", share_of_cluster: "Share of cluster", mean_confidence: "Confidence",
    markers_up: "Markers that stand out", defining_on: "Defining genes on", defining_off: "Defining genes off" };
  const number = (value) => typeof value === "number";
  const numeric = told.columns.map((_, column) => number(told.rows[0][column]));
  const state = { column: told.columns.indexOf("n_cells"), down: true };
  const holder = el("div");
  const shown = (row, column) =>
    told.columns[column] === "cell_type" ? [swatch(row[column]), row[column]] : told.columns[column] === "share_of_cluster" ? percent(row[column], 0) : number(row[column]) ? row[column].toLocaleString("en") : row[column];
  function draw() {
    const order = (a, b) => (number(a) ? a - b : a.localeCompare(b));
    const rows = told.rows.toSorted((a, b) => (state.down ? -1 : 1) * order(a[state.column], b[state.column]));
    const head = told.columns.map((name, column) => {
      const active = column === state.column;
      const mark = active ? (state.down ? " ▼" : " ▲") : "";
      return el("th", { scope: "col", class: numeric[column] ? "number" : null, "aria-sort": active ? (state.down ? "descending" : "ascending") : null },
        el("button", { type: "button", "data-evidence": name, "aria-label": `Sort by ${words[name]}`, onclick: () => {
          Object.assign(state, { column, down: active ? !state.down : numeric[column] });
          draw();
          holder.querySelector(`[data-evidence="${name}"]`).focus();
        } }, words[name], mark));
    });
    const body = rows.map((row) => el("tr", {}, told.columns.map((_, column) => el("td", { class: numeric[column] ? "number" : null }, shown(row, column)))));
    holder.replaceChildren(scrolling("Marker evidence", el("table", { class: "features evidence" },
      el("caption", {}, "Of the cells that the model learnt from: each type in each cluster, its markers with log2 ratios over the cells of other types. ",
        told.of > told.rows.length ? `The ${told.rows.length} with most cells of ${whole(told.of)}; all are in evidence.csv.` : ""),
      el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))));
  }
  draw();
  return el("details", {}, el("summary", {}, "Marker evidence, cluster by cluster"), holder);
}

// ---- a model's tab

const BY_LEVEL = [composition, tissue, projection, umis, confidence]; // drawn again when the level changes

function panel(model) {
  const state = { level: model.level, type: null };
  const changing = el("div");
  const draw = () => {
    const view = model.levels.find((level) => level.key === state.level);
    changing.replaceChildren(...BY_LEVEL.map((draws) => draws(model, view, state)).filter(Boolean));
  };
  const levels = model.levels.map(({ key }) =>
    el("label", {}, el("input", { type: "radio", name: `level-${model.name}`, checked: key === state.level, onchange: () => {
      state.level = key;
      draw();
    } }), ` ${LEVEL_NAMES[key]}`));
  draw();
  return el("div", {},
    model.banner ? el("section", { class: "banner", "aria-label": "About this model" }, model.banner) : null,
    alertList(model.alerts),
    section(model.title, factsTable("Summary", model.summary)),
    levels.length > 1 ? el("fieldset", { class: "levels" }, el("legend", {}, "Show "), levels) : null,
    changing,
    features(model));
}

// ---- the run

function provenance({ command_line: command, input, models, versions, parameters }) {
  const value = (text) => (Array.isArray(text) ? text.join(", ") : String(text ?? "")) || "none";
  const rows = [
    ["Input", `${input.name} (${input.format})`],
    ["SHA-256 of the input", input.sha256],
    ...models.filter((model) => model.sha256).map((model) => [`SHA-256 of ${model.title}`, model.sha256]),
    ...Object.entries(parameters).map(([name, text]) => [name.replaceAll("_", " "), value(text)]),
    ["Versions", Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")],
  ];
  return [section("Command Line Arguments", el("pre", { tabindex: 0 }, command)), section("Provenance", factsTable("Provenance", rows))];
}

document.getElementById("page").append(
  ...[alertList(data.alerts), ...(data.models.length > 1 ? tabs(data.models, panel) : data.models.map(panel)), ...agreements(data.agreement), ...provenance(data.provenance)].filter(Boolean));
