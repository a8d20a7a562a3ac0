// A session: classification, lap times, positions, gaps, stints, pit stops, the time line, team radio.

import { byId, clock, colourOf, el, lapTime, missing, onTheme, openSession, question, rows, run, sessionKey, svg, swatch, token, who } from "./base.js";
import { Plot, plotHead, tipLine } from "./plot.js";
import { csv, savePng, saveSvg, saveText } from "./save.js";

const COMPOUNDS = { SOFT: "#e10600", MEDIUM: "#e6b400", HARD: "#b9bdc4", INTERMEDIATE: "#37a744", WET: "#1e6fd9" };
const FLAGS = { YELLOW: "#e6b400", "DOUBLE YELLOW": "#e6b400", RED: "#e10600", GREEN: "#37a744", CLEAR: "#37a744", BLUE: "#1e6fd9", CHEQUERED: "#8a8f98", "BLACK AND WHITE": "#8a8f98" };
const PERIODS = { "safety car": "#e6b400", "virtual safety car": "#e6b40099", "red flag": "#e10600" };
const TIMES = [10, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200];
const F1_RECORDINGS = "https://livetiming.formula1.com/";

let session;
const file = (name) => `${sessionKey()}-${name}`;
const driverOf = (number) => session.byNumber.get(number) ?? { number, acronym: String(number), name: "", team: "", light: "#767676", dark: "#999999", second: false };

/** Ask for a chart and draw it in its section; what fails is said there. */
async function section(id, chart, draw) {
  const body = byId(id).querySelector(".body");
  try {
    const found = await question(`session/${sessionKey()}/${chart}`);
    body.replaceChildren();
    draw(body, found);
    const note = missing(found.missing);
    if (note) body.append(note);
  } catch (error) {
    if (error.status === undefined) throw error;
    body.replaceChildren(el("p", { class: "empty" }, error.message));
  }
}

const empty = (body, text) => body.append(el("p", { class: "empty" }, text));

// --- classification ---

function drawClassification(body, found) {
  const list = rows(found.columns);
  if (!list.length) return empty(body, "No result is loaded, and no position to make an order of.");
  const parts = found.columns.parts?.[0]?.length ?? 0;
  const hasGrid = !parts && list.some((row) => row.grid_position !== null);
  const heads = [el("th", { class: "n" }, "Pos"), el("th", {}, "Driver"), el("th", { class: "wide" }, "Team"), hasGrid ? el("th", { class: "n wide" }, "Grid") : null,
    el("th", { class: "n" }, "Laps"), ...Array.from({ length: parts }, (_, at) => el("th", { class: "n" }, `Q${at + 1}`)),
    parts ? null : el("th", { class: "n" }, session.is_race ? "Time" : "Best"), el("th", { class: "n" }, "Gap"), parts || !session.is_race ? null : el("th", { class: "n wide" }, "Best lap")];
  const best = Math.min(...list.map((row) => row.best_lap ?? Infinity));
  body.append(el("div", { class: "tablebox" }, el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, list.map((row) => {
    const driver = found.drivers.find((one) => one.number === row.driver_number);
    return el("tr", {},
      el("td", { class: "n" }, row.position === null ? row.status || "–" : String(row.position)),
      el("td", {}, who(driver)), el("td", { class: "quiet wide" }, driver?.team ?? ""),
      hasGrid ? el("td", { class: "n wide" }, row.grid_position === null ? "–" : String(row.grid_position)) : null,
      el("td", { class: "n" }, row.number_of_laps === null ? "–" : String(row.number_of_laps)),
      ...(row.parts ?? []).slice(0, parts).map((time) => el("td", { class: "n" }, lapTime(time))),
      parts ? null : el("td", { class: "n" }, lapTime(row.duration ?? (session.is_race ? null : row.best_lap))),
      el("td", { class: "n" }, row.position === null ? row.status : row.gap),
      parts || !session.is_race ? null : el("td", { class: "n wide" }, row.best_lap === best ? el("strong", {}, lapTime(row.best_lap)) : lapTime(row.best_lap)));
  })))));
  return undefined;
}

// --- series of drivers ---

/** One array of values for each driver, over a common x. */
function byDriver(found, name, at = "lap_number") {
  const of = new Map(found.drivers.map((driver) => [driver.number, new Map()]));
  found.columns[at].forEach((x, index) => {
    const value = found.columns[name][index];
    if (value !== null) of.get(found.columns.driver_number[index])?.set(x, value);
  });
  return of;
}

const span = (values) => {
  const [from, to] = [Math.min(...values), Math.max(...values)];
  return Array.from({ length: to - from + 1 }, (_, at) => from + at);
};

/** Chips that show and hide drivers. */
function chips(plot, drivers, shown) {
  const buttons = drivers.map((driver) => {
    const button = el("button", { type: "button", class: "chip", "aria-pressed": String(shown.has(driver.number)), title: [driver.name, driver.team].filter(Boolean).join(", "),
      on: { click: () => turn(driver, button.getAttribute("aria-pressed") !== "true") } }, swatch(driver), driver.acronym);
    return button;
  });
  const turn = (driver, on) => {
    buttons[drivers.indexOf(driver)].setAttribute("aria-pressed", String(on));
    plot.show(driver.number, on);
  };
  const all = el("button", { type: "button", class: "chip", on: { click: () => {
    const on = buttons.some((button) => button.getAttribute("aria-pressed") !== "true");
    drivers.forEach((driver) => turn(driver, on));
  } } }, "All / none");
  return el("div", { class: "chips", role: "group", "aria-label": "Drivers shown" }, buttons, all);
}

// --- lap times ---

function drawLaps(body, found) {
  const { columns } = found;
  const timed = columns.seconds.some((one) => one !== null);
  if (!timed) return empty(body, "No lap with a time is loaded.");
  const laps = span(columns.lap_number);
  const index = new Map();
  columns.lap_number.forEach((lap, at) => index.set(`${columns.driver_number[at]} ${lap}`, at));
  const at = (driver, lap) => index.get(`${driver.number} ${lap}`);
  const why = (place) => ["pit_in", "pit_out", "neutralised", "deleted", "slow"].filter((name) => columns[name][place])
    .map((name) => ({ pit_in: "into the pits", pit_out: "out of the pits", neutralised: "safety car", deleted: "time deleted", slow: "slow" })[name]);
  const series = found.drivers.flatMap((driver) => {
    const value = (lap, outlier) => {
      const place = at(driver, lap);
      return place === undefined || columns.seconds[place] === null || found.outlier[place] !== outlier ? null : columns.seconds[place];
    };
    const common = { owner: driver.number, driver, label: driver.acronym, colour: () => colourOf(driver), dash: driver.second };
    return [{ ...common, values: laps.map((lap) => value(lap, false)), points: true }, { ...common, values: laps.map((lap) => value(lap, true)), marks: true, hollow: true, unlisted: true }];
  });
  const quick = columns.seconds.filter((one, place) => one !== null && !found.outlier[place]);
  const all = columns.seconds.filter((one) => one !== null);
  let whole = !quick.length;
  const range = () => {
    const values = whole ? all : quick;
    const [from, to] = [Math.min(...values), Math.max(...values)];
    const margin = Math.max(0.3, (to - from) * 0.08);
    return [from - margin, to + (whole ? margin : Math.max(margin, (to - from) * 0.35))];
  };
  const plot = new Plot(body, {
    title: "Lap times", file: file("lap-times"), height: 380, sorted: true, series,
    x: { values: laps, label: "Lap", whole: true, pad: 0.5, told: (lap) => `Lap ${lap}` },
    y: { format: (value) => lapTime(value, 2).replace(/\.?0+$/, ""), told: lapTime, range },
    tell: (place) => series.filter((one) => !one.hidden && one.values[place] !== null).sort((one, other) => one.values[place] - other.values[place]).slice(0, 22)
      .map((one) => {
        const reasons = one.marks ? why(at(one.driver, laps[place])) : [];
        return tipLine(one, [lapTime(one.values[place]), reasons.join(", ")].filter(Boolean).join("  "), one.marks);
      }),
    csv: () => ({
      header: ["driver_number", "acronym", "lap_number", "date_start", "seconds", "compound", "tyre_age", "pit_in", "pit_out", "neutralised", "deleted", "slow"],
      lines: columns.lap_number.map((lap, place) => [columns.driver_number[place], driverOf(columns.driver_number[place]).acronym, lap, columns.date_start[place], columns.seconds[place],
        columns.compound[place], columns.tyre_age[place], ...["pit_in", "pit_out", "neutralised", "deleted", "slow"].map((name) => Number(columns[name][place]))]),
    }),
  });
  const toggle = el("label", {}, el("input", { type: "checkbox", on: { change: (event) => { whole = event.target.checked; plot.rebuild(); } } }), "Scale to all laps");
  byId("laps").querySelector("h2").replaceWith(plotHead(plot, "h2", toggle));
  const shown = new Set(found.drivers.map((driver) => driver.number));
  plot.box.before(chips(plot, found.drivers, shown));
  body.append(el("p", { class: "quiet small" }, "Hollow marks are laps that do not show how fast a car was: into or out of the pits, behind a safety car, or slower than 107 % of the best."));
  return undefined;
}

// --- positions and gaps ---

function drawPositions(body, found) {
  if (!found.columns.position.length) return empty(body, "No position is loaded.");
  const byLap = session.is_race;
  const name = byLap ? "lap_number" : "seconds";
  const x = byLap ? span(found.columns.lap_number) : [...new Set(found.columns.seconds)].filter((one) => one !== null).sort((one, other) => one - other);
  const of = byDriver(found, "position", name);
  const series = found.drivers.map((driver) => {
    const mine = of.get(driver.number);
    let last = null;
    const values = x.map((value) => {
      if (mine.has(value)) last = mine.get(value);
      return byLap ? mine.get(value) ?? null : last;
    });
    return { owner: driver.number, driver, label: driver.acronym, colour: () => colourOf(driver), dash: driver.second, values, stepped: !byLap, width: 2 };
  });
  const most = Math.max(...found.columns.position);
  const ends = (write) => series.filter((one) => !one.hidden).forEach((one) => {
    const at = one.values.findLastIndex((value) => value !== null);
    if (at >= 0) write(one, x[at], one.values[at]);
  });
  const plot = new Plot(body, {
    title: byLap ? "Positions by lap" : "Positions over time", file: file("positions"), height: Math.max(220, 40 + most * 19), sorted: true, series, rightPadding: 44, ySize: 34,
    x: byLap ? { values: x, label: "Lap (0 is the start)", whole: true, told: (lap) => (lap ? `After lap ${lap}` : "At the start") } : { values: x, label: "Time in the session", format: clock, incrs: TIMES },
    y: { inverted: true, whole: true, range: () => [0.4, most + 0.6], format: (value) => (Number.isInteger(value) && value >= 1 ? String(value) : ""),
      splits: () => Array.from({ length: most }, (_, at) => at + 1).filter((place) => most <= 24 && (place === 1 || place % (most > 12 ? 2 : 1) === 0 || place === most)), space: 1 },
    paint: (u) => ends((one, at, value) => {
      const { ctx } = u;
      ctx.save();
      ctx.font = `600 ${11 * devicePixelRatio}px system-ui, sans-serif`;
      ctx.fillStyle = one.colour();
      ctx.textBaseline = "middle";
      ctx.textAlign = "left";
      const left = u.valToPos(at, "x", true);
      if (left <= u.bbox.left + u.bbox.width + 1) ctx.fillText(one.label, left + 6 * devicePixelRatio, u.valToPos(value, "y", true));
      ctx.restore();
    }),
    pictureOver: (px, py) => {
      const found = [];
      ends((one, at, value) => found.push(svg("text", { x: px(at) + 6, y: py(value) + 4, fill: one.colour(), "font-size": 11, "font-weight": 600 }, one.label)));
      return found;
    },
  });
  byId("positions").querySelector("h2").replaceWith(plotHead(plot));
  plot.box.before(chips(plot, found.drivers, new Set(found.drivers.map((driver) => driver.number))));
  return undefined;
}

function drawGaps(body, found) {
  if (!session.is_race) { byId("gaps").hidden = true; return undefined; }
  if (!found.columns.lap_number.length) return empty(body, "There are no laps to make gaps of.");
  const laps = span(found.columns.lap_number);
  const of = byDriver(found, "gap_seconds");
  const series = found.drivers.map((driver) => ({ owner: driver.number, label: driver.acronym, colour: () => colourOf(driver), dash: driver.second,
    values: laps.map((lap) => of.get(driver.number).get(lap) ?? null), width: 2 }));
  const plot = new Plot(body, {
    title: "Gaps to the leader", file: file("gaps"), height: 340, sorted: true, series,
    x: { values: laps, label: "Lap", whole: true, told: (lap) => `After lap ${lap}` },
    y: { inverted: true, format: (value) => `${value} s`, told: (value) => (value ? `+${value.toFixed(3)}` : "leads") },
  });
  byId("gaps").querySelector("h2").replaceWith(plotHead(plot));
  plot.box.before(chips(plot, found.drivers, new Set(found.drivers.map((driver) => driver.number))));
  return undefined;
}

// --- stints ---

const contrastInk = (compound) => (["MEDIUM", "HARD"].includes(compound) ? "#14161a" : "#ffffff");

function drawStints(body, found) {
  if (!found.columns.lap_start.length) return empty(body, "No stint is loaded.");
  const list = rows(found.columns);
  const last = Math.max(...list.map((stint) => stint.lap_end));
  const paint = () => {
    const width = Math.max(300, Math.min(1240, body.clientWidth || 900));
    const [left, right, high, top] = [52, 12, 22, 30];
    const bottom = top + found.drivers.length * high;
    const x = (lap) => left + ((lap - 1) / last) * (width - left - right);
    const step = [1, 2, 5, 10, 20, 50].find((one) => (width / last) * one > 42) ?? 100;
    const ticks = [];
    for (let lap = step; lap <= last; lap += step) {
      ticks.push(svg("line", { x1: x(lap + 1), x2: x(lap + 1), y1: top, y2: bottom, stroke: token("grid") }),
        svg("text", { x: x(lap + 1), y: bottom + 16, "text-anchor": "middle", "font-size": 12, fill: token("quiet") }, String(lap)));
    }
    const bars = found.drivers.map((driver, at) => [
      svg("text", { x: left - 8, y: top + at * high + 15, "text-anchor": "end", "font-size": 12, "font-weight": 600, fill: token("ink") }, driver.acronym),
      list.filter((stint) => stint.driver_number === driver.number).map((stint) => {
        const compound = stint.compound || "unknown";
        const [from, to] = [x(stint.lap_start), x(stint.lap_end + 1)];
        const laps = stint.lap_end - stint.lap_start + 1;
        const told = `${driver.acronym}: ${compound.toLowerCase()}, laps ${stint.lap_start} to ${stint.lap_end}${stint.tyre_age_at_start ? `, ${stint.tyre_age_at_start} laps old` : ""}`;
        const label = to - from > 44 ? `${compound[0]} ${laps}` : to - from > 15 ? compound[0] : "";
        return svg("g", {}, svg("title", {}, told), svg("rect", { x: from + 1, y: top + at * high + 3, width: Math.max(1, to - from - 2), height: high - 6, rx: 3, fill: COMPOUNDS[compound] ?? "#8a8a8a" }),
          svg("text", { x: (from + to) / 2, y: top + at * high + 15, "text-anchor": "middle", "font-size": 11, "font-weight": 600, fill: contrastInk(compound) }, label));
      })]);
    const used = [...new Set(list.map((stint) => stint.compound || "unknown"))];
    const legend = used.map((compound, at) => svg("g", {}, svg("rect", { x: left + at * 112, y: 6, width: 12, height: 12, rx: 3, fill: COMPOUNDS[compound] ?? "#8a8a8a" }),
      svg("text", { x: left + at * 112 + 17, y: 16, "font-size": 12, fill: token("quiet") }, compound.toLowerCase())));
    return svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height: bottom + 26, viewBox: `0 0 ${width} ${bottom + 26}`, role: "img", "aria-label": "Tyre stints by driver and lap", "font-family": "system-ui, 'DejaVu Sans', sans-serif" },
      svg("rect", { width, height: bottom + 26, fill: token("card") }), legend, ticks, bars);
  };
  const box = el("div", { class: "svg" });
  const redraw = () => box.replaceChildren(paint());
  body.append(box);
  redraw();
  onTheme(redraw);
  let width = body.clientWidth;
  new ResizeObserver(() => { if (body.clientWidth !== width) { width = body.clientWidth; redraw(); } }).observe(body);
  const button = (title, act) => el("button", { type: "button", title: `Save the stints as ${title}`, on: { click: act } }, title);
  byId("stints").querySelector("h2").replaceWith(el("div", { class: "head" }, el("h2", {}, "Tyre stints"), el("span", { class: "tools" },
    button("PNG", () => savePng(paint(), `${file("stints")}.png`)), button("SVG", () => saveSvg(paint(), `${file("stints")}.svg`)),
    button("CSV", () => saveText(csv(["driver_number", "stint_number", "lap_start", "lap_end", "compound", "tyre_age_at_start"], list.map((stint) => [stint.driver_number, stint.stint_number, stint.lap_start, stint.lap_end, stint.compound, stint.tyre_age_at_start])), "text/csv", `${file("stints")}.csv`)))));
  return undefined;
}

// --- pit stops ---

function drawPitStops(body, found) {
  const list = rows(found.columns);
  if (!list.length) return empty(body, "No pit stop is loaded.");
  list.sort((one, other) => (one.seconds ?? 0) - (other.seconds ?? 0));
  body.append(el("div", { class: "tablebox scroll", tabIndex: 0, role: "group", "aria-label": "Pit stops" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "Driver"), el("th", { class: "n" }, "Lap"), el("th", { class: "n" }, "Time"), el("th", { class: "n" }, "In the lane"), el("th", { class: "n" }, "Standing"))),
    el("tbody", {}, list.map((stop) => el("tr", {}, el("td", {}, who(driverOf(stop.driver_number))), el("td", { class: "n" }, String(stop.lap_number)),
      el("td", { class: "n quiet" }, stop.seconds === null ? "" : clock(stop.seconds)), el("td", { class: "n" }, stop.lane_seconds === null ? "–" : `${stop.lane_seconds.toFixed(1)} s`),
      el("td", { class: "n" }, stop.stop_seconds === null ? "–" : `${stop.stop_seconds.toFixed(1)} s`)))))));
  return undefined;
}

// --- weather and race control on one time line ---

async function drawTimeline() {
  const box = byId("timeline").querySelector(".body");
  const ask = async (chart) => {
    try {
      return await question(`session/${sessionKey()}/${chart}`);
    } catch (error) {
      if (error.status === undefined) throw error;
      return { columns: {}, missing: [error.message], periods: [] };
    }
  };
  const [weather, control, stops, radio] = await Promise.all(["weather", "race-control", "pit-stops", "team-radio"].map(ask));
  box.replaceChildren();
  const origin = originOf(control, weather, stops);
  const places = [...(weather.columns.seconds ?? []), ...(control.columns.seconds ?? [])].filter((one) => one !== null);
  if (!places.length) {
    empty(box, "Neither weather nor a message of race control is loaded.");
  } else {
    // Messages come from an hour before the start on; what is shown first begins shortly before it.
    const [from, to] = [Math.max(Math.min(...places), Math.min(-300, Math.max(...places))), Math.max(...places)];
    weatherPlot(box, weather, from, to);
    lanesPlot(box, control, stops, radio, origin, from, to);
    messages(box, control);
  }
  const note = missing([...(weather.missing ?? []), ...(control.missing ?? [])]);
  if (note) box.append(note);
}

/** When the session's second 0 was, as milliseconds since 1970. */
function originOf(...charts) {
  for (const { columns } of charts) {
    const at = columns.seconds?.findIndex((one) => one !== null) ?? -1;
    if (at >= 0 && columns.date[at]) return Date.parse(columns.date[at]) - columns.seconds[at] * 1000;
  }
  return session.start;
}

function weatherPlot(box, weather, from, to) {
  const { columns } = weather;
  if (!columns.seconds?.length) return empty(box, "No weather is loaded.");
  const line = (name, label, colour, dash) => ({ label, values: columns[name], colour: () => token(colour), dash, width: 2, spanGaps: true, unit: " °C" });
  const series = [
    { ...line("track_temperature", "Track", "accent") },
    { ...line("air_temperature", "Air", "quiet"), dash: true },
  ];
  const rain = (u) => columns.rainfall.forEach((wet, at) => {
    if (!wet) return;
    const [left, right] = [u.valToPos(columns.seconds[at], "x", true), u.valToPos(columns.seconds[at + 1] ?? to, "x", true)];
    u.ctx.fillStyle = "#1e6fd933";
    u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  });
  const plot = new Plot(box, {
    title: "Weather", file: file("weather"), height: 200, group: "timeline", whole: [from, to], series, ySize: 76,
    x: { values: columns.seconds, format: clock, incrs: TIMES, label: "" },
    y: { format: (value) => `${value} °C` },
    under: rain,
    tell: (at) => [tipLine(series[0], `${columns.track_temperature[at]} °C`), tipLine(series[1], `${columns.air_temperature[at]} °C`),
      el("span", {}, "Humidity", el("em", {}, `${columns.humidity[at]} %`)), el("span", {}, "Wind", el("em", {}, `${columns.wind_speed[at]} m/s, ${columns.wind_direction[at]}°`)),
      el("span", {}, "Pressure", el("em", {}, `${columns.pressure[at]} hPa`)), columns.rainfall[at] ? el("span", {}, "Rain") : null].filter(Boolean),
    csv: () => ({ header: ["date", "seconds", "air_temperature", "track_temperature", "humidity", "pressure", "rainfall", "wind_direction", "wind_speed"],
      lines: columns.date.map((date, at) => [date, columns.seconds[at], columns.air_temperature[at], columns.track_temperature[at], columns.humidity[at], columns.pressure[at], columns.rainfall[at], columns.wind_direction[at], columns.wind_speed[at]]) }),
  });
  plot.box.before(plotHead(plot, "h3", el("span", { class: "small quiet" }, el("span", { class: "legend-line" }), "track and air temperature; shaded where it rained")));
  return undefined;
}

const LANES = ["Radio", "Pit stops", "Messages", "Flags", "Track"];
let lanes = null;

function lanesPlot(box, control, stops, radio, origin, from, to) {
  const events = [];
  const since = (date) => (Date.parse(date) - origin) / 1000;
  rows(control.columns).forEach((row) => {
    if (row.seconds === null) return;
    events.push({ at: row.seconds, lane: row.flag ? 3 : 2, colour: row.flag ? FLAGS[row.flag] ?? "#8a8f98" : null, text: row.message });
  });
  rows(stops.columns ?? {}).forEach((row) => { if (row.seconds !== null) events.push({ at: row.seconds, lane: 1, colour: null, driver: driverOf(row.driver_number), text: `${driverOf(row.driver_number).acronym} in the pits, lap ${row.lap_number}` }); });
  rows(radio.columns ?? {}).forEach((row) => events.push({ at: since(row.date), lane: 0, driver: driverOf(row.driver_number), text: `${driverOf(row.driver_number).acronym} on the radio` }));
  events.sort((one, other) => one.at - other.at);
  const x = events.map((event) => event.at);
  const groups = new Map();
  events.forEach((event, at) => {
    const name = event.driver ? `driver ${event.driver.number}` : event.colour ?? "message";
    if (!groups.has(name)) groups.set(name, { label: name, marks: true, size: 8, values: x.map(() => null), colour: () => (event.driver ? colourOf(event.driver) : event.colour ?? token("quiet")) });
    groups.get(name).values[at] = event.lane;
  });
  const periods = (control.periods ?? []).map((period) => ({ kind: period.kind, from: since(period.start), to: period.end ? since(period.end) : to }));
  const band = (u) => periods.forEach((period) => {
    const [left, right] = [u.valToPos(period.from, "x", true), u.valToPos(period.to, "x", true)];
    const [top, bottom] = [u.valToPos(4.3, "y", true), u.valToPos(3.7, "y", true)];
    u.ctx.fillStyle = PERIODS[period.kind] ?? "#8a8f98";
    u.ctx.fillRect(left, top, Math.max(2, right - left), bottom - top);
    u.ctx.globalAlpha = 0.12;
    u.ctx.fillRect(left, u.bbox.top, Math.max(2, right - left), u.bbox.height);
    u.ctx.globalAlpha = 1;
  });
  const plot = new Plot(box, {
    title: "Race control", file: file("race-control"), height: 190, group: "timeline", whole: [from, to], lane: LANES, series: [...groups.values()],
    x: { values: x, format: clock, incrs: TIMES, label: "Time in the session" },
    y: { range: () => [-0.6, 4.6] },
    under: band, ySize: 76,
    pictureUnder: (px, py) => periods.map((period) => svg("rect", { x: px(period.from), y: py(4.3), width: Math.max(2, px(period.to) - px(period.from)), height: py(3.7) - py(4.3), fill: PERIODS[period.kind] ?? "#8a8f98" })),
    tell: (at) => [el("span", {}, events[at].text)],
    onCursor: (at) => { if (at !== null) mark(events[at].at); },
    csv: () => ({ header: ["seconds", "lane", "text"], lines: events.map((event) => [event.at, LANES[event.lane], event.text]) }),
  });
  plot.box.before(plotHead(plot, "h3", el("span", { class: "small quiet" }, periods.length ? `${[...new Set(periods.map((period) => period.kind))].join(", ")} on the lane "Track"` : "")));
  lanes = { plot, x };
}

let marked = [];

function messages(box, control) {
  const list = rows(control.columns);
  if (!list.length) return;
  const lines = list.map((row) => el("button", { type: "button", class: "message", on: { click: () => {
    if (row.seconds === null || !lanes?.plot.u) return;
    if (row.seconds < lanes.plot.u.scales.x.min) lanes.plot.setRange([row.seconds - 60, lanes.plot.u.scales.x.max]);
    lanes.plot.moveTo(lanes.x.findIndex((at) => at >= row.seconds));
    lanes.plot.box.scrollIntoView({ block: "nearest" });
  } } },
    el("time", {}, row.seconds === null ? "" : clock(row.seconds)), flagOf(row), el("span", {}, row.lap_number === null ? "" : `Lap ${row.lap_number}: `, row.message)));
  marked = list.map((row, at) => ({ at: row.seconds, line: lines[at] }));
  box.append(el("div", { class: "scroll", tabIndex: 0, role: "group", "aria-label": "Messages of race control" }, lines));
}

export function flagOf(row) {
  return svg("svg", { class: "flag", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: FLAGS[row.flag] ?? "#8a8f9844" }));
}

function mark(seconds) {
  let last = null;
  for (const one of marked) if (one.at !== null && one.at <= seconds + 0.5) last = one;
  for (const one of marked) one.line.setAttribute("aria-current", String(one === last));
  const list = last?.line.parentElement;
  if (list) list.scrollTop = last.line.offsetTop - list.offsetTop - list.clientHeight / 2;
}

// --- team radio ---

function drawRadio(body, found) {
  const list = rows(found.columns);
  if (!list.length) return empty(body, "No team radio is loaded.");
  body.append(el("p", { class: "quiet small" }, "The recordings are at Formula 1, not here: playing one asks its server, and only then."));
  body.append(el("div", { class: "tablebox scroll", tabIndex: 0, role: "group", "aria-label": "Team radio" }, el("table", {}, el("tbody", {}, list.map((row) => {
    const cell = el("td", { class: "n" });
    const url = row.recording_url ?? "";
    if (url.startsWith(F1_RECORDINGS)) {
      cell.append(el("button", { type: "button", on: { click: () => {
        const audio = el("audio", { controls: true, src: url });
        cell.replaceChildren(audio);
        audio.play().catch(() => cell.append(el("span", { class: "quiet small" }, " cannot be played here")));
      } } }, "Play"));
    } else if (/^https?:\/\//.test(url)) {
      cell.append(el("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, "Listen elsewhere"));
    }
    return el("tr", {}, el("td", { class: "quiet" }, row.date ? `${row.date.slice(11, 19)} UTC` : ""), el("td", {}, who(driverOf(row.driver_number))), cell);
  })))));
  return undefined;
}

run(async () => {
  session = await openSession("session");
  await Promise.all([
    section("classification", "classification", drawClassification),
    section("laps", "laps", drawLaps),
    section("positions", "positions", drawPositions),
    section("gaps", "gaps", drawGaps),
    section("stints", "stints", drawStints),
    section("pit-stops", "pit-stops", drawPitStops),
    section("team-radio", "team-radio", drawRadio),
    drawTimeline(),
  ]);
  document.body.dataset.ready = "true";
});
