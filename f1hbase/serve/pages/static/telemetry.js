// Laps compared over the distance: stacked plots with one cursor, and a dot for each lap on the track.

import { byId, colourOf, el, lapTime, missing, openSession, question, run, sessionKey, swatch } from "./base.js";
import { Plot, plotHead } from "./plot.js";
import { TrackMap } from "./track.js";

const MOST_LAPS = 8;
const CHANNELS = [
  { name: "speed", title: "Speed", height: 230, format: (value) => `${value}`, told: (value) => `${Math.round(value)} km/h`, unit: "km/h" },
  { name: "delta", title: "Delta time to the first lap", height: 150, format: (value) => `${value > 0 ? "+" : ""}${value}`, told: (value) => `${value > 0 ? "+" : ""}${value.toFixed(3)} s`, unit: "s" },
  { name: "throttle", title: "Throttle", height: 110, format: (value) => `${value}`, told: (value) => `${Math.round(value)} %`, range: [-5, 105], unit: "%" },
  { name: "brake", title: "Brake", height: 90, stepped: true, format: (value) => `${value}`, told: (value) => `${Math.round(value)} %`, range: [-5, 105], unit: "%" },
  { name: "n_gear", title: "Gear", height: 110, stepped: true, format: (value) => (Number.isInteger(value) ? String(value) : ""), told: String, range: [0, 8.6], splits: [2, 4, 6, 8], unit: "" },
  { name: "rpm", title: "RPM", height: 120, format: (value) => `${value / 1000}k`, told: (value) => `${Math.round(value)}`, unit: "1/min" },
  { name: "drs", title: "DRS", height: 74, stepped: true, format: (value) => ({ 0: "off", 1: "open" })[value] ?? "", told: (value) => (value ? "open" : "off"), range: [-0.25, 1.25], splits: [0, 1], unit: "" },
];


let lapTimes;
let map = null;
let plots = [];
let chosen = [];
let comparing = null;
let told = [];

// --- the laps of the address ---

function fromAddress() {
  return new URLSearchParams(location.search).getAll("lap").filter((text) => /^\d{1,3}(-\d{1,3})?$/.test(text)).slice(0, MOST_LAPS);
}

function toAddress() {
  const query = chosen.map((lap) => `lap=${lap}`).join("&");
  history.replaceState(null, "", `${location.pathname}${query ? `?${query}` : ""}`);
}

// --- choosing ---

function fillDrivers() {
  const numbers = [...new Set(lapTimes.columns.driver_number)];
  const drivers = lapTimes.drivers.filter((driver) => numbers.includes(driver.number));
  byId("driver").replaceChildren(...drivers.map((driver) => el("option", { value: String(driver.number) }, `${driver.acronym} ${driver.number}`)));
  byId("driver").addEventListener("change", fillLaps);
  fillLaps();
  byId("add").addEventListener("submit", (event) => {
    event.preventDefault();
    const lap = byId("lap").value;
    add(lap ? `${byId("driver").value}-${lap}` : byId("driver").value);
  });
}

function fillLaps() {
  const driver = Number(byId("driver").value);
  const options = [el("option", { value: "" }, "fastest")];
  lapTimes.columns.driver_number.forEach((number, at) => {
    if (number !== driver) return;
    const seconds = lapTimes.columns.seconds[at];
    const lap = lapTimes.columns.lap_number[at];
    options.push(el("option", { value: String(lap) }, `${lap}${seconds === null ? "" : `  ${lapTime(seconds)}`}${lapTimes.outlier[at] ? "  *" : ""}`));
  });
  byId("lap").replaceChildren(...options);
}

function add(lap) {
  if (chosen.includes(lap)) return;
  if (chosen.length >= MOST_LAPS) return void (byId("plots-state").textContent = `At most ${MOST_LAPS} laps can be told apart: take one away first.`);
  chosen.push(lap);
  compare();
}

function remove(lap) {
  chosen = chosen.filter((one) => one !== lap);
  compare();
  byId("driver").focus();
}

function showChosen(laps) {
  byId("chosen").replaceChildren(...chosen.map((text) => {
    const [driver, lap] = text.split("-").map(Number);
    const found = laps.find((one) => one.driver.number === driver && (lap === undefined || one.lap_number === lap));
    const label = found ? `${found.driver.acronym} lap ${found.lap_number}` : `${driver}${lap ? ` lap ${lap}` : ""}`;
    return el("li", { class: "chip" }, found ? swatch(found.look) : null, el("strong", {}, label), found?.lap_seconds ? lapTime(found.lap_seconds) : el("span", { class: "quiet" }, found ? "" : "no telemetry"),
      el("button", { type: "button", class: "chip", "aria-label": `Take ${label} away`, on: { click: () => remove(text) } }, "×"));
  }));
}

// --- comparing ---

/** The places of all laps' samples, in order; each lap's channels at these places. */
function aligned(laps) {
  const places = [...new Set(laps.flatMap((lap) => lap.columns.distance.map((one) => Math.round(one * 10) / 10)))].sort((one, other) => one - other);
  return { places, of: laps.map((lap) => Object.fromEntries([...CHANNELS.map(({ name, stepped }) => [name, at(lap.columns, name, places, stepped)]),
    ["x", at(lap.columns, "x", places)], ["y", at(lap.columns, "y", places)]])) };
}

/** A channel at some places: between two samples on the straight line, or (stepped) as the sample before. */
function at(columns, name, places, stepped = false) {
  const { distance, [name]: values } = columns;
  let after = 0;
  return places.map((place) => {
    while (after < distance.length && distance[after] < place) after += 1;
    if (after >= distance.length) return place - distance.at(-1) < 0.1 ? values.at(-1) : null;
    if (!after) return distance[0] - place < 0.1 ? values[0] : null;
    const [from, to] = [values[after - 1], values[after]];
    if (distance[after] === place) return to;
    if (stepped) return from;
    if (from === null || to === null) return null;
    return from + ((to - from) * (place - distance[after - 1])) / (distance[after] - distance[after - 1] || 1);
  });
}

/** Colours on light and on dark for further laps of a driver, or of a team, beside its own. */
const FURTHER = [["#14161a", "#e9ebee"], ["#b5007f", "#ff7ad1"], ["#7a5200", "#f0c063"], ["#5b6370", "#9aa3af"]];

/** How each lap is drawn: in its team's colour, or another where that is taken. */
function looks(laps) {
  const used = new Map();
  return laps.map((lap) => {
    const before = used.get(lap.driver.light) ?? 0;
    used.set(lap.driver.light, before + 1);
    if (!before) return { ...lap.driver, second: false };
    const [light, dark] = FURTHER[(before - 1) % FURTHER.length];
    return { ...lap.driver, light, dark, second: before > FURTHER.length };
  });
}

async function compare() {
  comparing?.abort();
  comparing = new AbortController();
  toAddress();
  const state = byId("plots-state");
  if (!chosen.length) {
    draw([]);
    showChosen([]);
    state.textContent = "Add a lap to see its telemetry, and a second one to compare.";
    return;
  }
  state.textContent = "Reading ...";
  try {
    const query = chosen.map((lap) => `lap=${lap}`).join("&");
    const found = await question(`session/${sessionKey()}/telemetry?${query}`, undefined, { signal: comparing.signal });
    const look = looks(found.laps);
    found.laps.forEach((lap, index) => { lap.look = look[index]; });
    showChosen(found.laps);
    draw(found.laps);
    state.replaceChildren(missing(found.missing) ?? "");
    if (!found.laps.length && !found.missing.length) state.textContent = "There is no telemetry of these laps.";
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === undefined) throw error;
    draw([]);
    showChosen([]);
    state.textContent = error.message;
  }
  document.body.dataset.ready = String(chosen.length);
}

function draw(laps) {
  const box = byId("plots");
  plots.forEach(({ plot, whole }) => { plot.destroy(); whole.remove(); });
  plots = [];
  byId("readout").replaceChildren();
  map?.show([]);
  if (!laps.length) return;
  const { places, of } = aligned(laps);
  const shown = CHANNELS.filter(({ name }) => (name !== "delta" || laps.length > 1) && of.some((one) => one[name].some((value) => value !== null)));
  const raw = () => ({
    header: ["driver_number", "acronym", "lap_number", "distance_m", "seconds", "speed_kmh", "rpm", "throttle_percent", "brake_percent", "gear", "drs", "x_m", "y_m", "delta_s"],
    lines: laps.flatMap((lap) => lap.columns.distance.map((distance, at) => [lap.driver.number, lap.driver.acronym, lap.lap_number, distance,
      ...["seconds", "speed", "rpm", "throttle", "brake", "n_gear", "drs", "x", "y", "delta"].map((name) => lap.columns[name][at])])),
  });
  shown.forEach((channel, index) => {
    const whole = el("div", { class: "traceplot" });
    box.append(whole);
    const isLast = index === shown.length - 1;
    const plot = new Plot(whole, {
      title: channel.title, file: `${sessionKey()}-${channel.name}`, height: channel.height + (isLast ? 34 : 0), group: "telemetry", quiet: index > 0,
      series: laps.map((lap, at) => ({ label: `${lap.driver.acronym} ${lap.lap_number}`, values: of[at][channel.name], colour: () => colourOf(lap.look), dash: lap.look.second,
        stepped: channel.stepped, spanGaps: false, owner: at })),
      x: { values: places, format: (value) => `${value} m`, told: (value) => `${Math.round(value)} m`, label: isLast ? "Distance" : "", hidden: !isLast },
      y: { format: channel.format, told: channel.told, range: channel.range ? () => channel.range : undefined, splits: channel.splits ? () => channel.splits : undefined, space: 24 },
      tell: () => [],
      onCursor: (at) => follow(at, laps, of, places),
      csv: raw,
    });
    whole.prepend(plotHead(plot, "h3", channel.unit ? el("span", { class: "small quiet" }, channel.unit) : null));
    plots.push({ plot, whole });
  });
  told = shown;
  follow(null, laps, of, places);
}

/** Show where the cursor is: a dot for each lap on the track, and the values of all channels. */
function follow(at, laps, of, places) {
  map?.show(at === null ? [] : laps.map((lap, index) => ({ x: of[index].x[at], y: of[index].y[at], driver: lap.look })));
  if (at === null) {
    byId("readout").replaceChildren(el("p", { class: "quiet small" }, "Point at a plot, or focus it and press the arrow keys."));
    return;
  }
  const head = el("tr", {}, el("th", {}, `${Math.round(places[at])} m`), laps.map((lap) => el("th", { class: "n" }, swatch(lap.look), ` ${lap.driver.acronym} ${lap.lap_number}`)));
  const body = told.map(({ name, title, told: how }) => el("tr", {}, el("td", { class: "quiet" }, name === "delta" ? "Delta" : title),
    laps.map((_, index) => { const value = of[index][name][at]; return el("td", { class: "n" }, value === null || value === undefined ? "–" : how(value)); })));
  byId("readout").replaceChildren(el("div", { class: "tablebox" }, el("table", {}, el("thead", {}, head), el("tbody", {}, body))));
}

run(async () => {
  await openSession("telemetry");
  lapTimes = await question(`session/${sessionKey()}/laps`);
  fillDrivers();
  question(`session/${sessionKey()}/track`).then((track) => {
    if (track.columns.x.length) map = new TrackMap(byId("track"), track, `${sessionKey()}-track`);
    else byId("track").replaceChildren(el("p", { class: "empty" }, track.missing.join(" · ") || "No place of a car is loaded."));
  }).catch((error) => byId("track").replaceChildren(el("p", { class: "empty" }, error.message)));
  chosen = fromAddress();
  if (!chosen.length) chosen = lapTimes.drivers.slice(0, 2).map((driver) => String(driver.number));
  await compare();
});

