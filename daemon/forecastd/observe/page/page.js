// Polls the snapshot once a second and shows it. Text from records is only ever set as textContent.

import { draw, keyOf, outerBand, remember, stampOf } from "./charts.js";

const SMALL_MAX = 8; // charts shown unasked
const FOUND_MAX = 24; // charts shown for a filter
const HISTORY = 90; // seconds behind the sparklines
const STALE_POLLS = 6; // polls without a new snapshot before it is called old

const get = (id) => document.getElementById(id);
const cards = new Map(); // key of a series -> its card
const history = new Map(); // name of a tile -> its recent values
const state = { snapshot: null, selected: null, focused: null, unchanged: 0, drawn: "" };

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const precise = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const preciseCompact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });

const short = (number) => (Math.abs(number) < 10_000 ? whole : compact).format(number);
const rate = (number) => (number > 0 && number < 10 ? number.toFixed(1) : short(number));

function duration(ms) {
  if (ms === null) return ["–", ""];
  if (ms < 10) return [ms.toFixed(1), "ms"];
  if (ms < 1_000) return [whole.format(ms), "ms"];
  return ms < 120_000 ? [(ms / 1_000).toFixed(1), "s"] : [(ms / 60_000).toFixed(1), "min"];
}

function uptime(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} days`;
}

const plural = (count, one, many) => `${short(count)} ${count === 1 ? one : many}`;

function tilesOf(now) {
  const skill = now.skill === null ? ["–", ""] : [`${(now.skill * 100).toFixed(0)}`, "%"];
  const coverage = now.coverage === null ? ["–", ""] : [`${(now.coverage * 100).toFixed(0)}`, "%"];
  const p99 = duration(now.delay_p99_ms).join(" ").trim();
  return [
    ["Records per second", [rate(now.records_per_s), ""], `${short(now.records_total)} in all`, now.records_per_s],
    ["Forecasts per second", [rate(now.forecasts_per_s), ""], `${short(now.forecasts_total)} in all`, now.forecasts_per_s],
    ["Lag", [short(now.lag_records), ""], `records in ${plural(now.partitions, "partition", "partitions")}`, now.lag_records],
    ["Delay, median", duration(now.delay_p50_ms), `99 % within ${p99}`, now.delay_p50_ms],
    ["Skill against naive", skill, skillNote(now.skill), now.skill, skillTone(now.skill)],
    ["Coverage", coverage, coverageNote(now), now.coverage],
    ["Errors", [short(errorsOf(now).total), ""], errorsOf(now).note, null, errorsOf(now).total ? "warn" : ""],
  ];
}

function skillNote(skill) {
  if (skill === null) return "nothing scored yet";
  if (Math.abs(skill) < 0.005) return "as good as naive";
  return skill > 0 ? "less error than naive" : "more error than naive";
}

/** The band of quantiles 0.1 to 0.9 should hold 80 % of the actuals. */
function coverageNote(now) {
  const view = now.series.find((one) => one.quantiles.length > 1);
  if (!view) return "of actuals in the band";
  const wanted = view.quantiles.at(-1) - view.quantiles[0];
  return `${whole.format(wanted * 100)} % wanted`;
}

function skillTone(skill) {
  if (skill === null || Math.abs(skill) < 0.005) return "";
  return skill > 0 ? "good" : "warn";
}

function errorsOf({ errors }) {
  const named = [
    [errors.rejected, "rejected"], [errors.late, "late"], [errors.broker, "broker"],
    [errors.rows_unreadable, "unreadable rows"], [errors.series_evicted, "evicted"],
    [errors.state_resets, "state resets"],
  ].filter(([count]) => count > 0);
  const total = named.reduce((sum, [count]) => sum + count, 0);
  const note = named.map(([count, name]) => `${short(count)} ${name}`).join(" · ");
  return { total, note: note || "none since the start" };
}

function element(tag, className, parent) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  parent?.append(made);
  return made;
}

function showTiles(now) {
  const tiles = tilesOf(now);
  const list = get("tiles");
  while (list.children.length < tiles.length) addTile(list);
  tiles.forEach(([label, [value, unit], note, number, tone], index) => {
    const tile = list.children[index];
    const find = (selector) => tile.querySelector(selector);
    find("dt").textContent = label;
    find(".number").textContent = value;
    find(".unit").textContent = unit;
    find(".note").textContent = note;
    find(".note").title = note;
    find(".note").dataset.tone = tone ?? "";
    sparkline(find("polyline"), label, number);
  });
}

function addTile(list) {
  const tile = element("div", "tile", list);
  element("dt", "", tile);
  const body = element("dd", "", tile);
  const value = element("div", "value", body);
  element("span", "number", value);
  element("span", "unit", value);
  element("div", "note", body);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${HISTORY - 1} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "polyline"));
  body.append(svg);
}

function sparkline(polyline, label, number) {
  polyline.ownerSVGElement.toggleAttribute("hidden", number === null);
  if (number === null) return;
  const values = [...(history.get(label) ?? []), number].slice(-HISTORY);
  history.set(label, values);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = Math.max(high - low, 0.2 * Math.abs(high)) || 1; // a flat line stays flat
  const step = (HISTORY - 1) / (Math.max(values.length, 30) - 1);
  const points = values.map((value, index) => {
    const x = HISTORY - 1 - (values.length - 1 - index) * step;
    return `${x.toFixed(1)},${(10 - (18 * (value - (low + high) / 2)) / span).toFixed(1)}`;
  });
  polyline.setAttribute("points", points.join(" "));
}

function factsOf(view) {
  const facts = [`${view.topic}[${view.partition}]`, view.target];
  facts.push(view.forecast.length ? sourceOf(view) : "no forecast yet", ...view.flags);
  return facts.join(" · ");
}

function sourceOf(view) {
  if (view.in_fallback) return "baseline, the model loses here";
  return view.model_version === null ? view.source : `${view.source} ${view.model_version}`;
}

function lastActual(view) {
  const value = view.actuals.at(-1);
  return value === undefined || value === null ? "–" : (Math.abs(value) < 100_000 ? precise : preciseCompact).format(value);
}

function visible(views) {
  const wanted = get("filter").value.trim().toLowerCase();
  if (!wanted) return views.slice(0, SMALL_MAX);
  return views.filter((view) => view.name.toLowerCase().includes(wanted)).slice(0, FOUND_MAX);
}

function showSeries(now) {
  const shown = visible(now.series);
  const keys = new Set(shown.map(keyOf));
  for (const [key, card] of cards) {
    if (keys.has(key)) continue;
    globalThis.Plotly?.purge(card.querySelector(".small-chart"));
    card.remove();
    cards.delete(key);
  }
  for (const view of shown) showCard(view);
  get("filter").hidden = now.series.length <= SMALL_MAX;
  get("empty").hidden = shown.length > 0;
  if (!shown.length && now.series.length) get("empty").textContent = "No series has such a name";
}

function showCard(view) {
  const key = keyOf(view);
  if (!cards.has(key)) cards.set(key, addCard(key));
  const card = cards.get(key);
  card.setAttribute("aria-pressed", String(key === state.focused));
  card.querySelector(".name").textContent = view.name;
  card.title = view.name;
  card.querySelector(".now").textContent = lastActual(view);
  card.querySelector(".facts").textContent = factsOf(view);
  const stamp = stampOf(view);
  if (card.dataset.stamp === stamp) return;
  card.dataset.stamp = stamp;
  draw(card.querySelector(".small-chart"), view, { isFocus: false });
}

function addCard(key) {
  const card = element("button", "card small", get("grid"));
  card.type = "button";
  const head = element("span", "small-head", card);
  element("span", "name", head);
  element("span", "now", head);
  element("span", "facts", card);
  element("span", "small-chart", card);
  card.addEventListener("click", () => {
    state.selected = key;
    state.drawn = "";
    show();
  });
  return card;
}

function showFocus(now) {
  const view = now.series.find((one) => keyOf(one) === state.selected) ?? now.series[0];
  get("focus").hidden = !view;
  if (!view) return;
  state.focused = keyOf(view);
  get("focus-name").textContent = view.name;
  get("focus-facts").textContent = `${factsOf(view)} · now ${lastActual(view)}`;
  const band = outerBand(view);
  get("legend-band").hidden = band === null;
  if (band) get("legend-band").textContent = `quantiles ${band[0]} to ${band[1]} %`;
  const stamp = state.focused + stampOf(view);
  if (state.drawn === stamp) return;
  state.drawn = stamp;
  draw(get("focus-chart"), view, { isFocus: true });
}

function showStatus(ready) {
  const status = get("status");
  status.dataset.state = ready.ok ? "serving" : "waiting";
  status.textContent = ready.ok ? "serving" : ready.waiting_for.join("; ");
  if (!ready.ok) get("empty").textContent = `Waiting: ${ready.waiting_for.join("; ")}`;
  else if (!state.snapshot?.series.length) get("empty").textContent = "Waiting for the first records";
}

function showServed(now) {
  const model = now.model_version === null
    ? "no model: baseline forecasts"
    : `model ${now.model_version}${now.architecture ? ` · ${now.architecture}` : ""}`;
  const series = plural(now.series_active, "series", "series");
  get("served").textContent = `${model} · ${series} · up ${uptime(now.uptime_s)}`;
}

const BY = {
  trainer: "promoted by training", operator: "chosen by an operator",
  release: "released by an operator", rollback: "rolled back to",
};

function ago(at, now) {
  return `${uptime(Math.max(now - at, 0) / 1_000)} ago`;
}

/** Nothing is known of learning where `models.serve` or `training.enabled` has put an end to it. */
function learningOf({ at_ms: now, learning, model_version: version }) {
  const { promotions, running_since_ms: began, last_outcome: outcome } = learning;
  const last = promotions.at(-1);
  const rows = [];
  if (last && last.version === version) {
    const held = learning.is_held ? ", held until released" : "";
    const what = `${version ?? "the baseline"}, ${BY[last.by] ?? last.by} ${ago(last.at_ms, now)}${held}`;
    rows.push(["Serving", what, last.reason, last.by === "rollback" ? "warn" : ""]);
  }
  if (began !== null) rows.push(["Training", `under way for ${uptime((now - began) / 1_000)}`, "", ""]);
  if (outcome !== null) {
    const tone = outcome === "failed" ? "warn" : outcome === "promoted" ? "good" : "";
    const why = learning.last_reason === last?.reason ? "" : learning.last_reason; // told above
    rows.push(["Last training", `${outcome} ${ago(learning.last_ended_ms, now)}`, why, tone]);
  }
  if (learning.series_in_fallback) {
    const count = plural(learning.series_in_fallback, "series gets", "series get");
    rows.push(["Fallback", `${count} the baseline`, "the model loses to it there", ""]);
  }
  return rows;
}

function showLearning(now) {
  const rows = learningOf(now);
  const list = get("learning");
  list.hidden = !rows.length;
  while (list.children.length > rows.length) list.lastElementChild.remove();
  while (list.children.length < rows.length) {
    const row = element("div", "learned", list);
    element("dt", "", row);
    const body = element("dd", "", row);
    element("span", "what", body);
    element("span", "why", body);
  }
  rows.forEach(([label, what, why, tone], index) => {
    const row = list.children[index];
    row.querySelector("dt").textContent = label;
    row.querySelector(".what").textContent = what;
    row.querySelector(".what").dataset.tone = tone;
    row.querySelector(".why").textContent = why;
  });
}

function show() {
  const now = state.snapshot;
  showTiles(now);
  showLearning(now);
  showServed(now);
  showFocus(now);
  showSeries(now);
}

async function fetchJson(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(4_000) });
  return answer.json();
}

async function turn() {
  const [snapshot, ready] = await Promise.all([fetchJson("snapshot.json"), fetchJson("readyz")]);
  const isOld = snapshot.at_ms > 0 && snapshot.at_ms === state.snapshot?.at_ms;
  state.unchanged = isOld ? state.unchanged + 1 : 0;
  state.snapshot = snapshot;
  remember(snapshot.series);
  show();
  showStatus(ready);
  document.body.dataset.stale = String(state.unchanged > STALE_POLLS);
}

async function poll() {
  if (!document.hidden) {
    try {
      await turn();
    } catch (error) {
      console.warn(error);
      document.body.dataset.stale = "true";
      get("status").dataset.state = "lost";
      get("status").textContent = "the daemon does not answer; trying again";
    }
  }
  setTimeout(poll, 1_000);
}

function redraw() {
  for (const card of cards.values()) card.dataset.stamp = "";
  state.drawn = "";
  if (state.snapshot) show();
}

get("filter").addEventListener("input", () => state.snapshot && show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
poll();
