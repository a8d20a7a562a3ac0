// What every page uses: elements made of text, questions to the server, times for people, the heading of a session.

export const ROOT = "/pages";
const RETRY_MILLISECONDS = 3000;

/** Make an element. Children that are no nodes become text, so nothing of the data is read as HTML. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "class") element.className = value;
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** Make an element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);
export const sessionKey = () => Number(location.pathname.split("/").filter(Boolean).at(-1));

/** An answer that is none: its status, and what the server says of it. */
export class Failure extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function asked(path, options) {
  let answer;
  try {
    answer = await fetch(`${ROOT}/data/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0, "The server does not answer.");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let detail = text.slice(0, 500);
  try {
    detail = JSON.parse(text).detail ?? detail;
  } catch {
    // It is no JSON, as when something between here and the server answered.
  }
  throw new Failure(answer.status, String(detail || answer.statusText));
}

/** Ask again while the server or its store is away, and say so meanwhile; `read` takes what is wanted of the answer. */
export async function question(path, read = (answer) => answer.json(), options = {}) {
  for (;;) {
    try {
      const answer = await read(await asked(path, options));
      setAway(null);
      return answer;
    } catch (error) {
      if (!(error instanceof Failure) || (error.status !== 0 && error.status !== 503)) throw error;
      setAway(error.message);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
      if (options.signal?.aborted) throw new DOMException("not needed any more", "AbortError");
    }
  }
}

/** Show a line at the top of the page, in place of one with the same name; null takes it away. */
export function notice(name, kind, ...content) {
  const all = byId("notices");
  const old = all.querySelector(`[data-name="${name}"]`);
  if (!content.length) return old?.remove();
  const line = el("div", { class: `notice ${kind}`, "data-name": name }, ...content);
  if (old) old.replaceWith(line);
  else all.append(line);
  return undefined;
}

/** Say that the store is away, or (with null) that it is back. */
export function setAway(reason) {
  if (reason === null) return notice("away");
  return notice("away", "bad", el("strong", {}, "The store is away. "), `${reason} This page tries again every 3 seconds.`);
}

// --- numbers and times for people ---

const whole = new Intl.NumberFormat("en");
export const count = (number) => (number === null || number === undefined ? "–" : whole.format(number));

/** 83.456 becomes 1:23.456. */
export function lapTime(seconds, digits = 3) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "";
  const sign = seconds < 0 ? "-" : "";
  const units = Math.round(Math.abs(seconds) * 10 ** digits);
  const per = 10 ** digits;
  const minutes = Math.floor(units / per / 60) % 60;
  const hours = Math.floor(units / per / 3600);
  const rest = (units % (60 * per)) / per;
  const text = rest.toFixed(digits);
  if (!hours && !minutes) return sign + text;
  const padded = rest < 10 ? `0${text}` : text;
  return hours ? `${sign}${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${sign}${minutes}:${padded}`;
}

export const clock = (seconds) => {
  const all = Math.max(0, Math.round(Math.abs(seconds)));
  const parts = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60].map((part) => String(part).padStart(2, "0"));
  return (seconds < 0 ? "-" : "") + (parts[0] === "00" ? parts.slice(1) : parts).join(":");
};

export function duration(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function day(text) {
  if (!text) return "";
  return new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

export function moment(text) {
  if (!text) return "";
  const options = { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZone: "UTC" };
  return `${new Date(text).toLocaleString("en-GB", options)} UTC`;
}

// --- colours ---

const darkness = matchMedia("(prefers-color-scheme: dark)");
export const isDark = () => darkness.matches;
export const onTheme = (handler) => darkness.addEventListener("change", handler);
export const colourOf = (driver) => (driver ? (isDark() ? driver.dark : driver.light) : "#888888");
export const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A bar in a driver's colour; of the second driver of a team it is dashed, as the lines are. */
export function swatch(driver, width = 18) {
  const line = svg("line", { x1: 1, x2: width - 1, y1: 5, y2: 5, "stroke-width": 3, "stroke-dasharray": driver.second ? "5 3" : null });
  const paint = () => line.setAttribute("stroke", colourOf(driver));
  paint();
  onTheme(paint);
  return svg("svg", { class: "swatch", width, height: 10, "aria-hidden": "true" }, line);
}

export function who(driver) {
  if (!driver) return el("span", { class: "who" }, "–");
  return el("span", { class: "who" }, swatch(driver), el("strong", {}, driver.acronym), el("span", { class: "quiet wide" }, driver.name));
}

// --- sessions ---

const TABS = [["session", "Session"], ["telemetry", "Telemetry"], ["replay", "Replay"]];
const STATES = {
  partial: ["warning", "This session is only loaded in part, so this page does not show all of it."],
  provisional: ["", "This session was loaded soon after it ended; what is shown may have been corrected since."],
};

/** Ask for the session of this page, and show what every page of it shows: tabs, heading, and what is not loaded. */
export async function openSession(page) {
  const key = sessionKey();
  const tabs = TABS.map(([name, title]) =>
    el("a", { href: `${ROOT}/${name}/${key}`, "aria-current": name === page ? "page" : null }, title));
  byId("tabs").replaceChildren(...tabs);
  const session = await question(`session/${key}`);
  const title = [session.year, session.name].join(" ");
  document.title = `${title} – ${TABS.find(([name]) => name === page)[1]} - f1hbase`;
  const where = [session.circuit_short_name, session.country_name].filter(Boolean).join(", ");
  const when = session.start ? moment(new Date(session.start).toISOString()) : "";
  byId("heading").replaceChildren(
    el("h1", {}, title),
    el("p", { class: "quiet" }, [where, when, `session ${session.session_key}`].filter(Boolean).join(" · ")),
  );
  if (session.is_cancelled) notice("cancelled", "warning", "This session was cancelled.");
  tellState(session);
  session.byNumber = new Map(session.drivers.map((driver) => [driver.number, driver]));
  return session;
}

function tellState(session) {
  const told = STATES[session.state];
  if (!told) return notice("state");
  const lines = [];
  for (const [endpoint, { state, missing }] of Object.entries(session.endpoints)) {
    if (state === "absent") lines.push(missing.length && !missing[0].endsWith("not loaded") ? `${endpoint}: ${missing[0]}` : `${endpoint}: not loaded`);
    else if (state === "partial") lines.push(...missing.map((text) => `${endpoint}: ${text}`));
    else if (state === "provisional") lines.push(`${endpoint}: provisional`);
  }
  const load = session.state === "partial"
    ? el("p", { class: "small" }, "The rest is loaded with ", el("code", {}, `f1hbase load --session-key ${session.session_key}`)) : null;
  return notice("state", told[0],
    el("details", {}, el("summary", {}, told[1]), el("ul", {}, lines.slice(0, 200).map((line) => el("li", {}, line))), load));
}

/** Rows of columns: the names of the columns to arrays becomes an array of objects. */
export function rows(columns) {
  const names = Object.keys(columns);
  const length = names.length ? columns[names[0]].length : 0;
  return Array.from({ length }, (_, at) => Object.fromEntries(names.map((name) => [name, columns[name][at]])));
}

/** What a chart lacks, below it. */
export function missing(lines) {
  const told = [...new Set(lines ?? [])];
  if (!told.length) return null;
  return el("p", { class: "missing" }, told.slice(0, 4).join(" · "), told.length > 4 ? ` · and ${told.length - 4} more` : "");
}

/** Run a page; what fails is said in it, and is no error in the console. */
export async function run(page) {
  try {
    await page();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    notice("failure", "bad", error.message);
  }
}
