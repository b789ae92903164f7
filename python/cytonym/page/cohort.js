// Draws the page of a cohort from `data` (page/cohort.py), with the tools of shared.js.

const OTHERS = "Other types";

function samplesTable(model) {
  const names = [["Sample"], ["Cells", "number"], ["Median UMIs", "number"], ["Labelled", "number"], ["Low UMI", "number"],
    ["Types", "number"], ["Alerts", "number"], ["Marks", "number"]];
  const number = (text) => el("td", { class: "number" }, text);
  const rows = model.samples.map((sample) =>
    el("tr", { class: sample.marks ? "marked" : null },
      el("th", { scope: "row" }, sample.id, sample.description ? el("span", { class: "note" }, ` ${sample.description}`) : null),
      [whole(sample.cells), whole(sample.median_umis), percent(sample.labelled, 1), percent(sample.low_umi, 1), whole(sample.types),
        whole(sample.alerts), sample.marks ? `◆ ${sample.marks}` : "0"].map(number)));
  const cells = model.samples.reduce((sum, sample) => sum + sample.cells, 0);
  const mean = (name) => model.samples.reduce((sum, sample) => sum + sample[name] * sample.cells, 0) / cells;
  const total = el("tfoot", {}, el("tr", {}, el("th", { scope: "row" }, "All samples"),
    [whole(cells), "", percent(mean("labelled"), 1), percent(mean("low_umi"), 1), "", "", ""].map(number)));
  return section("Samples", scrolling("Samples",
    el("table", {}, el("caption", { class: "hidden-text" }, "Samples in numbers"), headRow(...names), el("tbody", {}, rows), total)));
}

function composition(model) {
  const left = model.samples.some((sample) => sample.others);
  const names = left ? [...model.types, OTHERS] : model.types;
  const parts = (sample) => [...sample.counts, sample.others];
  const legend = el("ul", { class: "legend", "aria-label": "Cell types" }, names.map((name) => el("li", {}, swatch(name), name)));
  const bar = (sample) =>
    el("div", { class: "stack-row" },
      el("span", { class: "name" }, sample.marks ? "◆ " : "", sample.id),
      el("span", { class: "stack" }, names.map((name, index) => parts(sample)[index] === 0 ? null :
        el("i", { style: `flex-grow:${parts(sample)[index]};--colour:${data.colours[name] ?? "transparent"}`,
          title: `${name}: ${percent(parts(sample)[index] / sample.cells, 1)} of ${sample.id}` }))));
  return section("Composition by sample",
    el("p", { class: "note" }, "Share of each coarse type in a sample's cells; ◆ stands before samples that are marked below. ",
      left ? "Rarer types are taken together." : ""),
    legend,
    el("div", { role: "img", "aria-label": "Bars of the composition; the same in numbers follows" }, model.samples.map(bar)),
    compositionNumbers(model, names, parts));
}

function compositionNumbers(model, names, parts) {
  const marks = new Map(model.outliers.map((mark) => [`${mark.sample}\n${mark.type}`, mark]));
  const rows = model.samples.map((sample) =>
    el("tr", {}, el("th", { scope: "row" }, sample.id), names.map((name, index) => {
      const mark = marks.get(`${sample.id}\n${name}`);
      return el("td", { class: mark ? "number mark" : "number" }, mark ? (mark.z > 0 ? "▲ " : "▼ ") : "", percent(parts(sample)[index] / sample.cells, 1));
    })));
  const table = el("table", {}, el("caption", { class: "hidden-text" }, "Shares of the types by sample"),
    headRow(["Sample"], ...names.map((name) => [name, "number"])), el("tbody", {}, rows));
  return el("details", {}, el("summary", {}, "The same in numbers"), scrolling("Shares of the types by sample", table));
}

function outliers(model) {
  const rule = el("details", {}, el("summary", {}, "The rule"), el("p", {}, data.rule));
  if (!model.tested) return section("Samples unlike the others", el("p", {}, "Too few samples or types to tell."), rule);
  if (!model.outliers.length) return section("Samples unlike the others", el("p", {}, "None."), rule);
  const rows = model.outliers.map((mark) =>
    el("tr", {}, el("th", { scope: "row" }, mark.sample), el("td", {}, swatch(mark.type), mark.type),
      el("td", {}, mark.z > 0 ? "▲ more" : "▼ fewer"), [percent(mark.share), percent(mark.expected), whole(mark.cells), mark.z.toFixed(1)].map((text) =>
        el("td", { class: "number" }, text))));
  return section("Samples unlike the others", scrolling("Samples unlike the others",
    el("table", {}, el("caption", { class: "hidden-text" }, "Marked samples and types"),
      headRow(["Sample"], ["Type"], ["Than expected"], ["Share", "number"], ["Expected", "number"], ["Cells", "number"], ["Robust z", "number"]),
      el("tbody", {}, rows))), rule);
}

function sampleAlerts(alerts) {
  if (!alerts.length) return section("Alerts of the samples", el("p", {}, "None."));
  const words = { ERROR: "Error", WARN: "Warning", INFO: "Note" };
  const rows = alerts.map((alert) =>
    el("tr", {}, el("th", { scope: "row" }, alert.sample), el("td", {}, words[alert.level] ?? alert.level), el("td", {}, `${alert.title}. ${alert.message}`)));
  return section("Alerts of the samples", scrolling("Alerts of the samples",
    el("table", {}, el("caption", { class: "hidden-text" }, "Alerts"), headRow(["Sample"], ["Level"], ["Alert"]), el("tbody", {}, rows))));
}

function panel(model) {
  return el("div", {}, samplesTable(model), composition(model), outliers(model));
}

document.getElementById("page").append(
  section("Cohort", factsTable("Cohort", data.facts)),
  ...(data.models.length > 1 ? tabs(data.models, panel) : data.models.map(panel)), sampleAlerts(data.alerts));
