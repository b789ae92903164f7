"use strict";
// What the pages share. Text goes in as text nodes only, never as HTML; `data` is the page's.

function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const whole = (number) => number.toLocaleString("en", { maximumFractionDigits: 0 });
const percent = (share, digits = 2) => `${(100 * share).toFixed(digits)}%`;
const plural = (number, one, many) => `${whole(number)} ${number === 1 ? one : many}`;

function short(number) {
  if (number === null) return "–";
  const size = Math.abs(number);
  return size !== 0 && (size < 0.001 || size >= 1e6) ? number.toExponential(1) : String(Number(number.toPrecision(3)));
}

function swatch(name) {
  return el("span", { class: "swatch", style: `background:${data.colours[name] ?? "transparent"}`, "aria-hidden": "true" });
}

function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), ...children);
}

function factsTable(caption, rows) {
  const body = rows.map(([name, text]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, text)));
  return el("table", { class: "facts" }, el("caption", { class: "hidden-text" }, caption), el("tbody", {}, body));
}

function headRow(...names) {
  const cells = names.map(([name, kind]) => el("th", { scope: "col", class: kind }, name));
  return el("thead", {}, el("tr", {}, cells));
}

function alertList(alerts) {
  if (!alerts.length) return null;
  const words = { ERROR: "Error", WARN: "Warning", INFO: "Note" };
  const item = (alert) =>
    el("div", { class: `alert ${alert.level}` }, el("b", {}, `${words[alert.level] ?? alert.level}: ${alert.title}. `), alert.message);
  return el("div", { role: "group", "aria-label": "Alerts" }, alerts.map(item));
}

function scrolling(label, table) {
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: 0 }, table);
}

function tabs(models, panel) {
  const panels = models.map((model, index) =>
    fill(panel(model), { role: "tabpanel", id: `panel-${index}`, "aria-labelledby": `tab-${index}`, tabindex: 0 }, []));
  const buttons = models.map((model, index) =>
    el("button", { type: "button", role: "tab", id: `tab-${index}`, "aria-controls": `panel-${index}`, onclick: () => open(index) }, model.title));
  function open(index) {
    buttons.forEach((button, other) => {
      button.setAttribute("aria-selected", other === index);
      button.tabIndex = other === index ? 0 : -1;
      panels[other].hidden = other !== index;
    });
  }
  const turn = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (buttons.indexOf(document.activeElement) + step + buttons.length) % buttons.length;
    open(next);
    buttons[next].focus();
  };
  open(0);
  return [el("div", { role: "tablist", "aria-label": "Models", onkeydown: turn }, buttons), ...panels];
}
