// The replay: all cars on the track from their places, which come in pieces of five minutes.

import { byId, clock, colourOf, el, onTheme, openSession, question, rows, run, sessionKey, svg, swatch, token } from "./base.js";
import { projection } from "./track.js";

const PIECE_SECONDS = 300;
const MOST_PIECES = 12;
const SPEEDS = [1, 2, 5, 10, 20, 30, 60];
const FLAGS = { YELLOW: "#e6b400", "DOUBLE YELLOW": "#e6b400", RED: "#e10600", GREEN: "#37a744", CLEAR: "#37a744", BLUE: "#1e6fd9" };
const PERIODS = { "safety car": "#e6b400", "virtual safety car": "#e6b400", "red flag": "#e10600" };

const canvas = byId("map");
const pieces = new Map();
let session;
let track = null;
let fit = null;
let from = 0; // seconds since 1970, as all moments here
let to = 0;
let now = 0;
let speed = 10;
let isPlaying = false;
let frame = 0;
let last = 0;
let changes = [];
let laps = [];
let messages = [];
let periods = [];

// --- pieces ---

/** Read an answer of places: a head as JSON, then floats. */
async function decoded(answer) {
  const buffer = await answer.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const values = new Float32Array(buffer, 4 + length);
  return { ...head, start: head.start / 1000, places: new Map(head.drivers.map((number, at) => [number, {
    x: values.subarray(2 * at * head.count, (2 * at + 1) * head.count), y: values.subarray((2 * at + 1) * head.count, (2 * at + 2) * head.count) }])) };
}

const pieceOf = (at) => Math.floor(at / PIECE_SECONDS) * PIECE_SECONDS;

function piece(start) {
  if (!pieces.has(start)) {
    const entry = { found: null, failed: null };
    pieces.set(start, entry);
    if (session.endpoints.location?.state === "absent") {
      entry.failed = `The places of the cars are not loaded: f1hbase load --session-key ${session.session_key} --endpoint location`;
      return entry;
    }
    question(`session/${sessionKey()}/places?start=${start}&seconds=${PIECE_SECONDS}`, decoded)
      .then((found) => { entry.found = found; draw(); })
      .catch((error) => { entry.failed = error.message; pause(); draw(); });
    while (pieces.size > MOST_PIECES) pieces.delete(pieces.keys().next().value);
  }
  return pieces.get(start);
}

// --- drawing ---

function size() {
  const width = canvas.parentElement.clientWidth - 2;
  const height = Math.round(Math.min(Math.max(width * 0.62, 240), innerHeight * 0.68));
  const scale = devicePixelRatio;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const { x, y } = track?.columns ?? { x: [], y: [] };
  fit = projection(x, y, width, height, 28);
  drawMarks();
  draw();
}

function draw() {
  const context = canvas.getContext("2d");
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  drawTrack(context);
  const entry = piece(pieceOf(now));
  if (entry.found) drawCars(context, entry.found);
  tellState(entry);
  byId("clock").textContent = told(now);
  const slider = byId("time");
  slider.value = String(Math.round(now - from));
  slider.setAttribute("aria-valuetext", told(now));
}

const told = (at) => clock(at - (session.zero ?? from));

function drawTrack(context) {
  const { x, y } = track.columns;
  if (!x.length) return;
  const path = new Path2D();
  x.forEach((value, at) => path[at ? "lineTo" : "moveTo"](fit.x(value), fit.y(y[at])));
  path.closePath();
  context.lineJoin = "round";
  const period = periods.find((one) => now >= one.from && now < one.to);
  for (const [width, colour] of [[11, period ? PERIODS[period.kind] : token("edge")], [8, token("track")]]) {
    context.lineWidth = width;
    context.strokeStyle = colour;
    context.stroke(path);
  }
  const angle = Math.atan2(fit.y(y[1]) - fit.y(y[0]), fit.x(x[1]) - fit.x(x[0])) + Math.PI / 2;
  context.lineWidth = 3;
  context.strokeStyle = token("ink");
  context.beginPath();
  context.moveTo(fit.x(x[0]) - 8 * Math.cos(angle), fit.y(y[0]) - 8 * Math.sin(angle));
  context.lineTo(fit.x(x[0]) + 8 * Math.cos(angle), fit.y(y[0]) + 8 * Math.sin(angle));
  context.stroke();
}

function drawCars(context, found) {
  const step = (now - found.start) / found.step;
  const at = Math.floor(step);
  const part = step - at;
  const order = standing();
  const cars = [...found.places.keys()]
    .map((number) => ({ number, place: position(found, number, at, part), rank: order.get(number) ?? 99, driver: session.byNumber.get(number) }))
    .filter((car) => car.place)
    .map((car) => ({ ...car, left: fit.x(car.place.x), top: fit.y(car.place.y) }))
    .sort((one, other) => one.rank - other.rank);
  // The leader is drawn last, so that it is above the others.
  for (const { left, top, driver } of cars.toReversed()) {
    context.beginPath();
    context.arc(left, top, 6.5, 0, 2 * Math.PI);
    context.fillStyle = colourOf(driver);
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = driver?.second ? token("ink") : token("card");
    context.stroke();
  }
  context.font = "600 11px system-ui, 'DejaVu Sans', sans-serif";
  context.textBaseline = "middle";
  // Where cars are close, whoever is ahead is named.
  const named = [];
  for (const { left, top, driver, number } of cars) {
    const [x, y] = [left + 10, top - 8];
    if (named.some((one) => Math.abs(one.x - x) < 30 && Math.abs(one.y - y) < 12)) continue;
    named.push({ x, y });
    const label = driver?.acronym ?? String(number);
    context.lineWidth = 3;
    context.strokeStyle = token("card");
    context.strokeText(label, x, y);
    context.fillStyle = token("ink");
    context.fillText(label, x, y);
  }
}

function position(found, number, at, part) {
  const { x, y } = found.places.get(number);
  const next = Math.min(at + 1, found.count - 1);
  if (Number.isNaN(x[at])) return null;
  if (Number.isNaN(x[next])) return { x: x[at], y: y[at] };
  return { x: x[at] + (x[next] - x[at]) * part, y: y[at] + (y[next] - y[at]) * part };
}

function tellState(entry) {
  const state = byId("map-state");
  let text = "";
  if (entry.failed) text = entry.failed;
  else if (!entry.found) text = "Reading places ...";
  else if (!entry.found.places.size) text = "No place of any car is loaded of these minutes.";
  else if (!track.columns.x.length) text = "There is no lap to draw the track with.";
  if (state.textContent !== text) state.textContent = text;
}

// --- order and messages ---

/** The position of each driver now, by number. */
function standing() {
  const found = new Map();
  for (const change of changes) {
    if (change.at > now) break;
    found.set(change.driver, change.position);
  }
  return found;
}

let shownOrder = "";

function showOrder() {
  const order = [...standing()].sort((one, other) => one[1] - other[1]);
  const lap = new Map();
  for (const one of laps) {
    if (one.at > now) break;
    lap.set(one.driver, one.lap);
  }
  const name = order.map(([number, place]) => `${number}:${place}:${lap.get(number)}`).join();
  if (name === shownOrder) return;
  shownOrder = name;
  byId("order").replaceChildren(...(order.length ? order.map(([number, place]) => {
    const driver = session.byNumber.get(number);
    return el("li", {}, el("span", {}, String(place)), driver ? swatch(driver) : null, el("strong", {}, driver?.acronym ?? String(number)),
      el("span", { class: "lap" }, lap.has(number) ? `lap ${lap.get(number)}` : ""));
  }) : [el("li", { class: "quiet" }, "No position is known yet.")]));
}

let shownMessage = null;

function showMessage() {
  let current = null;
  for (const message of messages) {
    if (message.at > now) break;
    current = message;
  }
  if (current === shownMessage) return;
  shownMessage?.line.removeAttribute("aria-current");
  shownMessage = current;
  if (!current) return;
  current.line.setAttribute("aria-current", "true");
  const list = current.line.parentElement;
  list.scrollTop = current.line.offsetTop - list.offsetTop - list.clientHeight / 2;
}

function fillMessages() {
  const box = byId("messages");
  messages.forEach((message) => {
    const flag = svg("svg", { class: "flag", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: FLAGS[message.flag] ?? "#8a8f9855" }));
    message.line = el("button", { type: "button", class: "message", on: { click: () => go(message.at) } }, el("time", {}, told(message.at)), flag, el("span", {}, message.text));
  });
  box.replaceChildren(...(messages.length ? messages.map((message) => message.line) : [el("p", { class: "empty" }, "No message is loaded.")]));
}

function drawMarks() {
  const share = (at) => ((at - from) / (to - from)) * 100;
  byId("marks").replaceChildren(svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none" },
    svg("rect", { x: 0, y: 4, width: 100, height: 2, fill: token("line") }),
    periods.map((period) => svg("rect", { x: share(period.from), y: 1, width: Math.max(0.3, share(Math.min(period.to, to)) - share(period.from)), height: 8, fill: PERIODS[period.kind] ?? "#888" })),
    messages.filter((message) => FLAGS[message.flag]).map((message) => svg("rect", { x: share(message.at), y: 2, width: 0.2, height: 6, fill: FLAGS[message.flag] }))));
}

// --- time ---

function go(at) {
  now = Math.min(to, Math.max(from, at));
  shownOrder = "";
  draw();
  showOrder();
  showMessage();
  const current = leaderLap(now);
  if (current) byId("jump").value = String(current);
  remember();
}

let remembering = 0;

/** Keep the time in the address, so that a link shows the same moment. */
function remember() {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", `${location.pathname}?t=${Math.round(now - session.zero)}`), 200);
}

function leaderLap(at) {
  let found = null;
  for (const one of starts) if (one.at <= at + 0.001) found = one.lap;
  return found;
}

let starts = [];

function play() {
  if (piece(pieceOf(now)).failed) return;
  if (now >= to) now = from;
  isPlaying = true;
  byId("play").textContent = "Pause";
  last = performance.now();
  frame = requestAnimationFrame(tick);
}

function pause() {
  isPlaying = false;
  byId("play").textContent = "Play";
  cancelAnimationFrame(frame);
  remember();
}

function tick(time) {
  const entry = piece(pieceOf(now));
  // While places are on their way the clock stands.
  if (entry.found) now += ((time - last) / 1000) * speed;
  last = time;
  // The next piece is asked for before it is needed: at 60 times the speed five minutes last five seconds.
  if (now + Math.max(60, speed * 3) > pieceOf(now) + PIECE_SECONDS && pieceOf(now) + PIECE_SECONDS < to) piece(pieceOf(now) + PIECE_SECONDS);
  if (now >= to) {
    now = to;
    pause();
  }
  draw();
  showOrder();
  showMessage();
  const lap = leaderLap(now);
  if (lap && byId("jump").value !== String(lap)) byId("jump").value = String(lap);
  if (isPlaying) frame = requestAnimationFrame(tick);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || ["SELECT", "INPUT", "TEXTAREA"].includes(event.target.tagName)) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return;
  const lap = leaderLap(now) ?? 0;
  const jump = (number) => { const found = starts.find((one) => one.lap === number); if (found) go(found.at); };
  const acts = {
    " ": () => (isPlaying ? pause() : play()),
    ArrowLeft: () => go(now - 10), ArrowRight: () => go(now + 10), Home: () => go(from), End: () => go(to),
    "[": () => jump(now - (starts.find((one) => one.lap === lap)?.at ?? now) > 3 ? lap : lap - 1), "]": () => jump(lap + 1),
    "+": () => setSpeed(SPEEDS[Math.min(SPEEDS.length - 1, SPEEDS.indexOf(speed) + 1)]), "-": () => setSpeed(SPEEDS[Math.max(0, SPEEDS.indexOf(speed) - 1)]),
  };
  const act = acts[event.key === "=" ? "+" : event.key];
  if (!act) return;
  event.preventDefault();
  act();
}

function setSpeed(value) {
  speed = value;
  byId("speed").value = String(value);
}

/** What is not there is none of it: the page shows the rest. */
async function orNothing(chart) {
  try {
    return await question(`session/${sessionKey()}/${chart}`);
  } catch (error) {
    if (error.status === undefined) throw error;
    return { columns: { x: [], y: [] }, drivers: [], periods: [], missing: [error.message] };
  }
}

run(async () => {
  session = await openSession("replay");
  const [outline, times, moves, control] = await Promise.all(["track", "laps", "position-changes", "race-control"].map(orNothing));
  track = outline;
  laps = rows(times.columns).filter((lap) => lap.date_start).map((lap) => ({ at: Date.parse(lap.date_start) / 1000, driver: lap.driver_number, lap: lap.lap_number, seconds: lap.seconds ?? 0 })).sort((one, other) => one.at - other.at);
  const first = new Map();
  laps.forEach((lap) => { if (!first.has(lap.lap)) first.set(lap.lap, lap.at); });
  starts = [...first].map(([lap, at]) => ({ lap, at })).sort((one, other) => one.at - other.at);
  const ends = laps.map((lap) => lap.at + lap.seconds);
  messages = rows(control.columns).filter((row) => row.date).map((row) => ({ at: Date.parse(row.date) / 1000, flag: row.flag, text: row.message }));
  from = Math.floor((session.start ?? 0) / 1000);
  to = Math.ceil(Math.max(session.end ?? 0, ...ends.map((end) => end * 1000)) / 1000);
  if (to <= from) to = from + 3600;
  const at = control.columns.seconds?.findIndex((one) => one !== null) ?? -1;
  session.zero = at >= 0 ? Date.parse(control.columns.date[at]) / 1000 - control.columns.seconds[at] : from;
  changes = rows(moves.columns).filter((row) => row.seconds !== null).map((row) => ({ at: session.zero + row.seconds, driver: row.driver_number, position: row.position })).sort((one, other) => one.at - other.at);
  periods = (control.periods ?? []).map((period) => ({ kind: period.kind, from: Date.parse(period.start) / 1000, to: period.end ? Date.parse(period.end) / 1000 : to }));
  byId("time").max = String(to - from);
  byId("jump").replaceChildren(...(starts.length ? starts.map((one) => el("option", { value: String(one.lap) }, String(one.lap))) : [el("option", { value: "" }, "–")]));
  fillMessages();
  byId("play").addEventListener("click", () => (isPlaying ? pause() : play()));
  byId("speed").addEventListener("change", (event) => setSpeed(Number(event.target.value)));
  byId("jump").addEventListener("change", (event) => { const found = starts.find((one) => String(one.lap) === event.target.value); if (found) go(found.at); });
  byId("time").addEventListener("input", (event) => go(from + Number(event.target.value)));
  document.addEventListener("keydown", keys);
  addEventListener("resize", size);
  onTheme(size);
  setSpeed(10);
  size();
  // It begins where something goes on: at the first lap.
  const wanted = new URLSearchParams(location.search).get("t");
  go(/^-?\d{1,6}$/.test(wanted ?? "") ? session.zero + Number(wanted) : starts[0]?.at ?? from);
  document.body.dataset.ready = "true";
});

