// Plots with uPlot: colours of the theme, a cursor that keys move, a box of values, zoom, and downloads.

import { el, onTheme, svg, token } from "./base.js";
import { csv, savePng, saveSvg, saveText } from "./save.js";

const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
const MOST_TOLD = 22;
const plots = new Set();

onTheme(() => plots.forEach((plot) => plot.rebuild()));
new ResizeObserver(() => plots.forEach((plot) => plot.resize())).observe(document.body);

/**
 * A plot in a container.
 *
 * @param {HTMLElement} container
 * @param {object} options
 *   title, file: what it is called, and its downloads
 *   x: {values, label, format}; y: {label, format, inverted, range}
 *   series: [{label, values, colour() , dash, stepped, marks, hidden, unit, told}]; `marks` draws points only
 *   height; group: plots of one group share cursor and x-range; lane: names of lanes instead of numbers at y
 *   paint(plot): draws more; onCursor(index or null); csv(): {header, lines}
 */
export class Plot {
  constructor(container, options) {
    this.options = options;
    this.container = container;
    this.tip = el("div", { class: "tip", hidden: true });
    this.spoken = el("span", { class: "visually-hidden", "aria-live": "polite" });
    this.box = el("div", { class: "plot", tabIndex: 0, role: "group",
      "aria-label": `${options.title}: left and right move the cursor, plus and minus zoom, 0 shows all, Escape leaves`,
      on: { keydown: (event) => this.key(event) } }, this.tip, this.spoken);
    container.append(this.box);
    /** What is shown where nothing else is chosen; null for all of the values. */
    this.whole = options.whole ?? null;
    this.range = this.whole;
    plots.add(this);
    this.rebuild();
  }

  get width() {
    return Math.max(240, Math.floor(this.box.clientWidth));
  }

  destroy() {
    plots.delete(this);
    this.u?.destroy();
    this.box.remove();
  }

  resize() {
    if (this.u && this.u.width !== this.width) this.u.setSize({ width: this.width, height: this.options.height });
  }

  /** Show or hide series by the name of their `owner`. */
  show(owner, shown) {
    this.options.series.forEach((series, at) => {
      if (series.owner !== owner) return;
      series.hidden = !shown;
      this.u?.setSeries(at + 1, { show: shown });
    });
  }

  rebuild() {
    if (typeof uPlot === "undefined") {
      this.tip.before(el("p", { class: "empty" }, "This plot cannot be drawn: uPlot was not there when f1hbase was built (python scripts/web_assets.py fetches it)."));
      plots.delete(this);
      return;
    }
    this.u?.destroy();
    const { options } = this;
    const compact = this.width < 520;
    const ink = token("quiet");
    const grid = { stroke: token("grid"), width: 1 };
    const format = (values, how) => values.map((value) => (value === null ? "" : how(value)));
    const yRange = options.y.range;
    const common = { stroke: ink, grid, ticks: { show: false }, font: FONT, labelFont: FONT };
    this.u = new uPlot({
      width: this.width,
      height: options.height,
      padding: [10, options.rightPadding ?? 14, 0, 4],
      legend: { show: false },
      focus: { alpha: options.series.length > 2 && !options.lane ? 0.25 : 1 },
      cursor: {
        y: false,
        focus: { prox: options.lane ? -1 : 24 },
        points: { size: 7, width: 2, fill: (u, at) => u.series[at].stroke(u, at) },
        drag: { x: true, y: false, setScale: false },
        // Ranges are shared by shareRange, so only the cursor's moves are passed on.
        sync: options.group ? { key: options.group, setSeries: false,
          filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } } : undefined,
        bind: { dblclick: () => () => { this.setRange(null); return null; } },
      },
      scales: {
        x: { time: false, range: (u, min, max) => this.range ?? padded(min, max, options.x.pad ?? 0) },
        y: { dir: options.y.inverted ? -1 : 1, range: yRange ? (u, min, max) => yRange(min, max) : undefined },
      },
      axes: [
        { ...common, label: options.x.label, size: options.x.hidden ? 8 : 30, labelSize: options.x.label ? 20 : 0, gap: 4,
          values: (u, values) => (options.x.hidden ? values.map(() => "") : format(values, options.x.format ?? String)),
          incrs: options.x.whole ? [1, 2, 5, 10, 20, 50, 100] : options.x.incrs, space: compact ? 50 : 60 },
        { ...common, size: options.ySize ?? (compact ? 46 : 56), gap: 4,
          values: (u, values) => (options.lane ? values.map((value) => options.lane[value] ?? "") : format(values, options.y.format ?? String)),
          splits: options.lane ? () => options.lane.map((_, at) => at) : options.y.splits,
          incrs: options.y.whole ? [1, 2, 5, 10, 20] : options.y.incrs, space: options.y.space ?? 30 },
      ],
      series: [
        {},
        ...options.series.map((series) => ({
          label: series.label,
          scale: "y",
          show: !series.hidden,
          stroke: () => series.colour(),
          width: series.marks ? 0 : series.width ?? 1.75,
          dash: series.dash ? [6, 4] : undefined,
          spanGaps: Boolean(series.spanGaps),
          paths: series.marks ? () => null : series.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: series.marks
            ? { show: true, size: series.size ?? 7, width: series.hollow ? 1.5 : 0, stroke: () => series.colour(),
                fill: () => (series.hollow ? token("card") : series.colour()) }
            : { show: Boolean(series.points), size: 5, width: 0, fill: () => series.colour() },
        })),
      ],
      hooks: {
        setCursor: [(u) => this.cursor(u)],
        setSelect: [(u) => this.selected(u)],
        drawClear: options.under ? [(u) => options.under(u)] : [],
        draw: options.paint ? [(u) => options.paint(u)] : [],
      },
    }, [options.x.values, ...options.series.map((series) => series.values)], this.box);
    this.u.over.addEventListener("mouseleave", () => this.leave());
    // uPlot follows the mouse alone; a finger that moves sideways moves the cursor as well.
    this.u.over.addEventListener("touchmove", (event) => {
      const { left } = this.u.over.getBoundingClientRect();
      this.u.setCursor({ left: event.touches[0].clientX - left, top: this.u.over.clientHeight / 2 }, true, true);
    }, { passive: true });
  }

  // --- range ---

  selected(u) {
    const { left, width } = u.select;
    if (!width) return;
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    if (width >= 6) this.setRange([u.posToVal(left, "x"), u.posToVal(left + width, "x")]);
  }

  /** Show a range of x, in all plots of the group; null shows everything. */
  setRange(range) {
    if (!this.u) return;
    for (const plot of plots) {
      if (plot === this || (this.options.group && plot.options.group === this.options.group)) plot.take(range);
    }
  }

  take(range) {
    const all = this.options.x.values;
    this.range = range ?? this.whole ?? null;
    const [min, max] = this.range ?? [all[0] ?? 0, all.at(-1) ?? 1];
    this.u.setScale("x", { min, max });
  }

  zoom(factor) {
    const { min, max } = this.u.scales.x;
    const all = this.options.x.values;
    const at = this.u.cursor.idx === null || this.u.cursor.idx === undefined ? (min + max) / 2 : all[this.u.cursor.idx];
    const half = ((max - min) * factor) / 2;
    const from = Math.max(all[0], at - half);
    const to = Math.min(all.at(-1), at + half);
    this.setRange(from <= all[0] && to >= all.at(-1) ? null : [from, to]);
  }

  // --- cursor ---

  key(event) {
    const all = this.options.x.values;
    if (!this.u || !all.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = this.at ?? -1;
    const step = event.shiftKey ? Math.max(1, Math.round(all.length / 20)) : 1;
    const moves = { ArrowLeft: Math.max(0, now - step), ArrowRight: Math.min(all.length - 1, now + step), Home: 0, End: all.length - 1 };
    if (event.key in moves) this.moveTo(moves[event.key], true);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.setRange(null);
    else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }

  /** Move the cursor, and those of the group, to a place among the x-values. */
  moveTo(at, isSpoken = false) {
    if (!this.u) return;
    const left = this.u.valToPos(this.options.x.values[at], "x");
    this.u.setCursor({ left, top: this.u.over.clientHeight / 2 }, true, true);
    this.at = at;
    if (isSpoken) this.spoken.textContent = this.tip.innerText.slice(0, 300);
  }

  leave() {
    this.u.setCursor({ left: -10, top: -10 }, true, true);
    this.at = null;
    this.tip.hidden = true;
  }

  cursor(u) {
    const { idx, left } = u.cursor;
    const gone = idx === null || idx === undefined || left < 0;
    this.at = gone ? null : idx;
    this.options.onCursor?.(this.at);
    const lines = gone ? [] : this.told(idx);
    this.tip.hidden = !lines.length || this.options.quiet;
    if (this.tip.hidden) return;
    const heading = (this.options.x.told ?? this.options.x.format ?? String)(this.options.x.values[idx]);
    this.tip.replaceChildren(el("b", {}, heading), ...lines);
    const [axis] = [u.bbox.left / devicePixelRatio];
    const before = left > u.over.clientWidth / 2;
    this.tip.style.left = before ? "auto" : `${axis + left + 14}px`;
    this.tip.style.right = before ? `${this.box.clientWidth - axis - left + 14}px` : "auto";
  }

  told(idx) {
    const { options } = this;
    if (options.tell) return options.tell(idx);
    const how = options.y.told ?? options.y.format ?? String;
    const found = options.series
      .filter((series) => !series.hidden && series.values[idx] !== null && series.values[idx] !== undefined)
      .map((series) => ({ series, value: series.values[idx] }));
    if (options.sorted) found.sort((one, other) => (one.value - other.value));
    return found.slice(0, MOST_TOLD).map(({ series, value }) => tipLine(series, how(value)));
  }

  // --- downloads ---

  tools() {
    const { file } = this.options;
    const button = (title, act) => el("button", { type: "button", title: `Save "${this.options.title}" as ${title}`, on: { click: act } }, title);
    if (!this.u) return el("span", { class: "tools" }, button("CSV", () => this.saveCsv()));
    return el("span", { class: "tools" },
      button("PNG", () => savePng(this.picture(), `${file}.png`)),
      button("SVG", () => saveSvg(this.picture(), `${file}.svg`)),
      button("CSV", () => this.saveCsv()));
  }

  saveCsv() {
    const { x, series, file } = this.options;
    const table = this.options.csv?.() ?? {
      header: [x.label ?? "x", ...series.map((one) => one.label)],
      lines: x.values.map((value, at) => [value, ...series.map((one) => one.values[at])]),
    };
    saveText(csv(table.header, table.lines), "text/csv", `${file}.csv`);
  }

  /** The plot as SVG, made of what uPlot has laid out: its range, its axes, and the data. */
  picture() {
    const { u, options } = this;
    const scale = devicePixelRatio;
    const [left, top, width, height] = [u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height].map((one) => one / scale);
    const legend = options.series.filter((series) => !series.hidden && !series.unlisted);
    const head = 34;
    const foot = options.lane ? 8 : legendHeight(legend, u.width);
    const x = (value) => left + u.valToPos(value, "x");
    const y = (value) => head + top + u.valToPos(value, "y");
    const text = (content, attributes) => svg("text", { fill: token("quiet"), "font-size": 12, ...attributes }, content);
    const clip = `clip-${Math.round(Math.random() * 1e9)}`;
    const axes = [];
    const [axisX, axisY] = u.axes;
    (axisX._splits ?? []).forEach((value, at) => {
      axes.push(svg("line", { x1: x(value), x2: x(value), y1: head + top, y2: head + top + height, stroke: token("grid") }));
      axes.push(text((options.x.format ?? String)(axisX._splits[at]), { x: x(value), y: head + top + height + 18, "text-anchor": "middle" }));
    });
    (axisY._splits ?? []).forEach((value, at) => {
      axes.push(svg("line", { x1: left, x2: left + width, y1: y(value), y2: y(value), stroke: token("grid") }));
      axes.push(text(axisY._values?.[at] ?? "", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }));
    });
    if (options.x.label) axes.push(text(options.x.label, { x: left + width / 2, y: head + top + height + 38, "text-anchor": "middle" }));
    const drawn = options.series.filter((series) => !series.hidden).map((series) => pictureOf(series, options.x.values, x, y));
    const under = options.pictureUnder ? options.pictureUnder(x, y, [left, head + top, width, height]) : [];
    const over = options.pictureOver ? options.pictureOver(x, y) : [];
    const total = head + u.height + (options.x.hidden ? 30 : 6) + foot;
    return svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: u.width, height: total, viewBox: `0 0 ${u.width} ${total}`, "font-family": "system-ui, 'DejaVu Sans', sans-serif" },
      svg("rect", { width: u.width, height: total, fill: token("card") }),
      text([document.querySelector("h1")?.textContent, options.title].filter(Boolean).join(" – "), { x: left, y: 22, "font-size": 15, "font-weight": 600, fill: token("ink") }),
      svg("defs", {}, svg("clipPath", { id: clip }, svg("rect", { x: left, y: head + top, width, height }))),
      under, axes, svg("g", { "clip-path": `url(#${clip})` }, drawn), over,
      options.lane ? [] : legendPicture(legend, left, head + u.height + (options.x.hidden ? 24 : 10), u.width));
  }
}

function padded(min, max, pad) {
  if (min === null || max === null) return [0, 1];
  return min === max ? [min - 1, max + 1] : [min - pad, max + pad];
}

export function tipLine(series, text, isFar = false) {
  const mark = svg("svg", { class: "swatch", width: 14, height: 10 }, series.marks
    ? svg("circle", { cx: 7, cy: 5, r: 3.5, fill: series.hollow ? "none" : series.colour(), stroke: series.colour(), "stroke-width": 1.5 })
    : svg("line", { x1: 0, x2: 14, y1: 5, y2: 5, stroke: series.colour(), "stroke-width": 3, "stroke-dasharray": series.dash ? "4 2" : null }));
  return el("span", {}, mark, series.label, el("em", { class: isFar ? "far" : null }, text));
}

function pictureOf(series, at, x, y) {
  const colour = series.colour();
  if (series.marks) {
    return series.values.map((value, index) => value === null || value === undefined ? null : svg("circle", {
      cx: x(at[index]).toFixed(1), cy: y(value).toFixed(1), r: (series.size ?? 7) / 2, fill: series.hollow ? token("card") : colour,
      stroke: series.hollow ? colour : null, "stroke-width": series.hollow ? 1.5 : null }));
  }
  let path = "";
  let before = null;
  series.values.forEach((value, index) => {
    if (value === null || value === undefined) {
      if (!series.spanGaps) before = null;
      return;
    }
    const [px, py] = [x(at[index]).toFixed(1), y(value).toFixed(1)];
    if (before === null) path += `M${px} ${py}`;
    else path += series.stepped ? `H${px}V${py}` : `L${px} ${py}`;
    before = value;
  });
  return svg("path", { d: path, fill: "none", stroke: colour, "stroke-width": series.width ?? 1.75, "stroke-linejoin": "round",
    "stroke-dasharray": series.dash ? "6 4" : null });
}

const ENTRY = 74;

function legendHeight(legend, width) {
  return Math.ceil(legend.length / Math.max(1, Math.floor((width - 60) / ENTRY))) * 18 + 12;
}

function legendPicture(legend, left, top, width) {
  const across = Math.max(1, Math.floor((width - 60) / ENTRY));
  return legend.map((series, at) => {
    const [px, py] = [left + (at % across) * ENTRY, top + Math.floor(at / across) * 18 + 8];
    return svg("g", {},
      svg("line", { x1: px, x2: px + 16, y1: py - 4, y2: py - 4, stroke: series.colour(), "stroke-width": 3, "stroke-dasharray": series.dash ? "5 3" : null }),
      svg("text", { x: px + 21, y: py, "font-size": 12, fill: token("ink") }, series.label));
  });
}

/** The heading of a plot with its downloads. */
export function plotHead(plot, level = "h2", ...more) {
  return el("div", { class: "head" }, el(level, {}, plot.options.title), ...more, plot.tools());
}

