// The track seen from above: a projection of metres to a picture, and the map as SVG.

import { colourOf, el, svg, token, onTheme } from "./base.js";
import { csv, savePng, saveSvg, saveText } from "./save.js";

/** Return what makes pixels of metres, so that everything fits and north is up. */
export function projection(x, y, width, height, margin) {
  const known = x.map((value, at) => [value, y[at]]).filter(([one, other]) => Number.isFinite(one) && Number.isFinite(other) && one !== null && other !== null);
  const [xs, ys] = [known.map((place) => place[0]), known.map((place) => place[1])];
  const least = (values) => values.reduce((one, other) => Math.min(one, other), Infinity);
  const most = (values) => values.reduce((one, other) => Math.max(one, other), -Infinity);
  const [left, right, bottom, top] = known.length ? [least(xs), most(xs), least(ys), most(ys)] : [0, 1, 0, 1];
  const scale = Math.min((width - 2 * margin) / Math.max(1, right - left), (height - 2 * margin) / Math.max(1, top - bottom));
  const dx = (width - (right - left) * scale) / 2;
  const dy = (height - (top - bottom) * scale) / 2;
  return { x: (value) => dx + (value - left) * scale, y: (value) => height - dy - (value - bottom) * scale };
}

const WIDTH = 320;

/** A map of the track with a dot for each lap. */
export class TrackMap {
  constructor(container, track, file) {
    this.track = track;
    this.file = file;
    const { x, y } = track.columns;
    const ratio = this.ratio(x, y);
    this.height = Math.round(Math.min(420, Math.max(150, WIDTH * ratio)));
    this.at = projection(x, y, WIDTH, this.height, 16);
    this.dots = svg("g");
    const path = x.map((value, at) => `${at ? "L" : "M"}${this.at.x(value).toFixed(1)} ${this.at.y(y[at]).toFixed(1)}`).join("");
    this.lines = [svg("path", { d: path, fill: "none", "stroke-width": 7, "stroke-linejoin": "round" }), svg("path", { d: path, fill: "none", "stroke-width": 4, "stroke-linejoin": "round" })];
    this.ground = svg("rect", { width: WIDTH, height: this.height });
    const start = x.length ? svg("circle", { cx: this.at.x(x[0]), cy: this.at.y(y[0]), r: 2.5, fill: "#fff" }) : null;
    this.picture = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width: WIDTH, height: this.height, viewBox: `0 0 ${WIDTH} ${this.height}`, role: "img", "aria-label": "Map of the track" },
      this.ground, this.lines, start, this.dots);
    const button = (title, act) => el("button", { type: "button", title: `Save the track as ${title}`, on: { click: act } }, title);
    container.replaceChildren(el("div", { class: "svg" }, this.picture), el("div", { class: "tools" },
      button("PNG", () => savePng(this.picture, `${file}.png`)),
      button("SVG", () => saveSvg(this.picture, `${file}.svg`)),
      button("CSV", () => saveText(csv(["distance_m", "x_m", "y_m"], x.map((value, at) => [track.columns.distance[at], value, y[at]])), "text/csv", `${file}.csv`))));
    this.paint();
    onTheme(() => this.paint());
  }

  ratio(x, y) {
    const spread = (values) => { const known = values.filter((value) => value !== null); return known.length ? Math.max(...known) - Math.min(...known) : 1; };
    return x.length ? spread(y) / Math.max(1, spread(x)) : 0.6;
  }

  paint() {
    this.ground.setAttribute("fill", token("card"));
    this.lines[0].setAttribute("stroke", token("edge"));
    this.lines[1].setAttribute("stroke", token("track"));
  }

  /** Show dots: [{x, y, driver, label}]. */
  show(dots) {
    this.dots.replaceChildren(...dots.filter((dot) => dot.x !== null && dot.y !== null).map((dot) => svg("circle", {
      cx: this.at.x(dot.x), cy: this.at.y(dot.y), r: 6, fill: colourOf(dot.driver), stroke: token("card"), "stroke-width": 2 })));
  }
}
