// What is loaded: seasons, meetings and sessions, and how a running load goes, as events tell it.

import { byId, count, day, duration, el, moment, notice, question, ROOT, run, setAway, svg } from "./base.js";

const FIRST_OPEN = 3;
const opened = new Map();

function meter(percent, failed) {
  if (percent === null) return null;
  const kind = failed ? "bad" : percent === 100 ? "all" : "part";
  return svg("svg", { class: "meter", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: kind, width: Math.max(percent, 3), height: 10 }));
}

function state(session) {
  const { percent_done: percent, failed } = session;
  if (percent === null) return el("span", { class: "state quiet" }, "–");
  const told = percent === 100 ? "complete" : `${percent.toFixed(1)} %`;
  const kind = failed ? "bad" : percent === 100 ? "all" : "part";
  return el("span", { class: `state ${kind}` }, meter(percent, failed), told);
}

function notes(session) {
  const found = [];
  if (session.failed) found.push(`${count(session.failed)} failed`);
  if (session.quarantined) found.push(`${count(session.quarantined)} in quarantine`);
  const { provisional, partial } = session.units;
  if (provisional) found.push(`${count(provisional)} provisional`);
  if (partial) found.push(`${count(partial)} partial`);
  if (session.due) found.push(`${count(session.due)} due again`);
  if (session.without_records.length) found.push(`no records: ${session.without_records.join(", ")}`);
  if (session.missing.length && !session.failed) found.push(`not loaded: ${[...new Set(session.missing.map((unit) => unit.split(" ")[0]))].join(", ")}`);
  return found.join(" · ");
}

function sessionRow(session, hasReports) {
  const link = (page, title) => el("a", { href: `${ROOT}/${page}/${session.session_key}` }, title);
  const sizes = Object.entries(session.by_endpoint).sort((one, other) => other[1] - one[1]);
  const size = sizes.length
    ? el("details", { class: "sizes" }, el("summary", { title: "Rows by endpoint" }, count(session.rows)), sizes.map(([name, rows]) => el("div", { class: "small quiet" }, `${name} ${count(rows)}`)))
    : count(session.rows);
  return el("tr", {},
    el("td", {}, el("strong", {}, link("session", session.name)), el("span", { class: "quiet small wide" }, ` ${session.session_key}`)),
    el("td", { class: "quiet small wide" }, moment(session.date_start)),
    hasReports ? [el("td", {}, state(session)), el("td", { class: "n" }, size), el("td", { class: "small quiet wide" }, notes(session))] : null,
    el("td", { class: "small n" }, link("telemetry", "Telemetry"), " ", link("replay", "Replay")));
}

function meetingCard(meeting, isOpen, hasReports) {
  const rows = meeting.sessions.reduce((sum, session) => sum + (session.rows ?? 0), 0);
  const open = opened.get(meeting.meeting_key) ?? isOpen;
  const troubled = meeting.sessions.filter((session) => session.failed || (session.percent_done !== null && session.percent_done < 100));
  const head = el("summary", {}, el("h3", { class: "who" }, meeting.name), " ",
    el("span", { class: "quiet small" }, [day(meeting.date_start), `${meeting.sessions.length} session${meeting.sessions.length === 1 ? "" : "s"}`, rows ? `${count(rows)} rows` : ""].filter(Boolean).join(" · ")),
    troubled.length ? el("span", { class: "state part small" }, ` · ${troubled.length} incomplete`) : null);
  const table = el("div", { class: "tablebox" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "Session"), el("th", { class: "wide" }, "Start"), hasReports ? [el("th", {}, "State"), el("th", { class: "n" }, "Rows"), el("th", { class: "wide" }, "Notes")] : null, el("th", { class: "n" }, "Look"))),
    el("tbody", {}, meeting.sessions.map((session) => sessionRow(session, hasReports)))));
  return el("details", { class: "card meeting", open, "data-meeting": String(meeting.meeting_key), on: { toggle: (event) => opened.set(meeting.meeting_key, event.target.open) } }, head,
    meeting.sessions.length ? table : el("p", { class: "empty" }, "No session of it is loaded."));
}

function summary(found) {
  const parts = [`${count(found.sessions)} session${found.sessions === 1 ? "" : "s"}`];
  if (found.rows !== null) parts.push(`${count(found.rows)} rows`);
  if (found.percent_done !== null) parts.push(found.percent_done === 100 ? "all that was asked for" : `${found.percent_done} % of what was asked for`);
  if (found.seconds_left) parts.push(`about ${duration(found.seconds_left)} left`);
  return parts.join(" · ");
}

function show(found) {
  byId("home").textContent = found.home;
  byId("summary").textContent = found.sessions ? summary(found) : "Nothing is loaded yet.";
  let number = 0;
  byId("seasons").replaceChildren(...found.seasons.map((season) => el("section", { class: "season", "aria-label": `Season ${season.year}` },
    el("h2", {}, String(season.year)),
    season.meetings.map((meeting) => meetingCard(meeting, number++ < FIRST_OPEN, found.has_reports)))));
  if (!found.sessions && !found.seasons.length) {
    byId("seasons").replaceChildren(el("section", { class: "card" }, el("p", {}, found.note ?? "Nothing is loaded here yet."), el("p", {}, "This loads the latest session:"),
      el("pre", {}, "f1hbase load --mode latest --num-sessions 1")));
  }
  tellLoading(found);
  tellFailures(found);
  tellRuns(found);
}

function tellLoading(found) {
  const box = byId("loading");
  box.hidden = !found.loading.length;
  if (box.hidden) return;
  const names = new Map(found.seasons.flatMap((season) => season.meetings.map((meeting) => [meeting.meeting_key, meeting.name])));
  const pace = [found.requests_per_minute ? `${found.requests_per_minute} requests a minute` : "", found.seconds_left ? `about ${duration(found.seconds_left)} left` : ""].filter(Boolean);
  box.replaceChildren(el("h2", {}, el("span", { class: "pulse" }, "● "), "Loading now"),
    el("p", {}, meter(found.percent_done ?? 0, false), ` ${found.percent_done ?? 0} % `, el("span", { class: "quiet" }, pace.join(" · "))),
    el("ul", { class: "small" }, found.loading.map(({ by, meeting_keys: keys }) => el("li", {}, keys.map((key) => names.get(key) ?? `meeting ${key}`).join(", "), el("span", { class: "quiet" }, ` by ${by}`)))));
}

function tellFailures(found) {
  const box = byId("failures");
  box.hidden = !found.failures.length;
  if (box.hidden) return;
  box.replaceChildren(el("h2", {}, "What failed"),
    el("ul", {}, found.failures.map(({ reason, units, first }) => el("li", {}, `${first}${units > 1 ? ` and ${count(units - 1)} more` : ""}: `, reason))),
    el("p", { class: "quiet small" }, "Run the same load again: it asks for what failed, not for what is done."));
}

function tellRuns(found) {
  const box = byId("runs");
  box.hidden = !found.runs.length;
  if (box.hidden) return;
  const loads = found.loading.length > 0;
  box.replaceChildren(el("h2", {}, "The latest runs"), el("div", { class: "tablebox" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", {}, "Begun"), el("th", {}, "Ended"), el("th", { class: "n" }, "Exit"), el("th", { class: "n" }, "Rows"))),
    el("tbody", {}, found.runs.map((one, at) => el("tr", {}, el("td", {}, moment(one.start)),
      el("td", {}, one.end ? moment(one.end) : loads && !at ? "is running" : "not ended, or killed"),
      el("td", { class: "n" }, one.exit ?? "–"), el("td", { class: "n" }, count(one.rows))))))));
}

function listen() {
  const events = new EventSource(`${ROOT}/data/progress`);
  events.addEventListener("overview", (event) => { setAway(null); show(JSON.parse(event.data)); });
  events.addEventListener("away", (event) => setAway(JSON.parse(event.data).detail));
  events.addEventListener("error", () => {
    setAway("The server does not answer.");
    // A browser that got another answer than events does not try again by itself.
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
  events.addEventListener("open", () => notice("away"));
}

run(async () => {
  show(await question("loaded"));
  listen();
});
