// Draws one series with plotly.js. Nothing that a record brought is ever handed over as text:
// plotly reads markup in its labels, and series names are untrusted. It gets numbers only.

const PAST_MAX = 12;
const MARKS_MAX = 6;
const past = new Map(); // key of a series -> its earlier forecasts, oldest first
const marks = new Map(); // key of a series -> where another model began to forecast it, oldest first

export function keyOf(view) {
  return JSON.stringify([view.topic, view.partition, view.name, view.target]);
}

/** Keep what is forecast now, so that it can be seen beside what then happens. */
export function remember(views) {
  const seen = new Set();
  for (const view of views) {
    const key = keyOf(view);
    seen.add(key);
    const kept = (past.get(key) ?? []).filter((old) => old.at.at(-1) > view.at_ms[0]);
    if (view.origin_ms !== null && kept.at(-1)?.origin !== view.origin_ms) {
      const [low, high] = [0, view.quantiles.length - 1].map((index) => quantileLine(view, index));
      kept.push({ origin: view.origin_ms, at: low.at, median: medianLine(view), low, high });
    }
    past.set(key, kept.slice(-PAST_MAX));
    mark(key, view);
  }
  for (const kept of [past, marks]) {
    for (const key of kept.keys()) if (!seen.has(key)) kept.delete(key);
  }
}

function mark(key, view) {
  const kept = (marks.get(key) ?? []).filter((old) => old.at >= view.at_ms[0]);
  const version = view.model_version;
  // The one text that plotly gets: ours, and nothing else looks like it.
  if (view.model_from_ms !== null && /^[0-9]+-[0-9a-f]{6}$/.test(version) && kept.at(-1)?.version !== version) {
    kept.push({ at: view.model_from_ms, version });
  }
  marks.set(key, kept.slice(-MARKS_MAX));
}

export function outerBand(view) {
  const { quantiles } = view;
  if (quantiles.length < 2) return null;
  return [quantiles[0], quantiles.at(-1)].map((q) => `${Math.round(q * 1000) / 10}`);
}

/** What a chart depends on: unchanged data is not drawn again. */
export function stampOf(view) {
  const { at_ms, origin_ms, source, model_version, model_from_ms } = view;
  return [at_ms.length, at_ms.at(-1), origin_ms, source, model_version, model_from_ms].join();
}

export function draw(element, view, { isFocus }) {
  if (!globalThis.Plotly) {
    element.textContent = "charts need the plotly package";
    return;
  }
  const colours = themeColours();
  const shown = recent(view, isFocus);
  const look = layout(shown, colours, isFocus, element.clientWidth);
  Plotly.react(element, traces(shown, colours, isFocus), look, {
    displayModeBar: false,
    responsive: true,
    staticPlot: !isFocus,
  });
}

function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    ink: read("--ink"), muted: read("--muted"), line: read("--line"), card: read("--card"),
    accent: read("--accent"), past: read("--accent-past"), band: read("--band"),
    bandPast: read("--band-past"), mark: read("--good"),
  };
}

/** The value at the forecast's origin: forecasts are drawn from where they set out. */
function originPoint(view) {
  const index = view.at_ms.lastIndexOf(view.origin_ms);
  return index < 0 || view.actuals[index] === null ? null : view.actuals[index];
}

function fromOrigin(view, values) {
  const start = originPoint(view);
  if (start === null) return { at: view.forecast_at_ms, values };
  return { at: [view.origin_ms, ...view.forecast_at_ms], values: [start, ...values] };
}

function quantileLine(view, index) {
  return fromOrigin(view, view.forecast.map((lead) => lead[index]));
}

function medianLine(view) {
  const distance = view.quantiles.map((q) => Math.abs(q - 0.5));
  return quantileLine(view, distance.indexOf(Math.min(...distance)));
}

function line(name, { at, values }, style, extra = {}) {
  return { type: "scatter", mode: "lines", name, x: at, y: values, line: style, ...extra };
}

function band(low, high, colour) {
  const edge = { width: 0, color: colour };
  const silent = { hoverinfo: "skip" };
  return [
    line("low", low, edge, silent),
    line("high", high, edge, { ...silent, fill: "tonexty", fillcolor: colour }),
  ];
}

function traces(view, colours, isFocus) {
  const made = [];
  for (let low = 0; view.forecast.length && low < Math.floor(view.quantiles.length / 2); low += 1) {
    const high = view.quantiles.length - 1 - low;
    made.push(...band(quantileLine(view, low), quantileLine(view, high), colours.band));
  }
  const earlier = (past.get(keyOf(view)) ?? []).filter((old) => old.origin !== view.origin_ms);
  const thin = { width: isFocus ? 1.5 : 1, color: colours.past };
  for (const old of earlier) {
    made.push(...band(old.low, old.high, colours.bandPast));
    made.push(line("earlier", old.median, thin, { hoverinfo: "skip" }));
  }
  const ink = { width: isFocus ? 1.75 : 1.4, color: colours.ink };
  made.push(line("actual", { at: view.at_ms, values: view.actuals }, ink));
  if (view.forecast.length) {
    const bold = { width: isFocus ? 2.25 : 1.75, color: colours.accent };
    made.push(line("forecast", medianLine(view), bold));
  }
  return made;
}

/** Steps shown behind the forecast: enough to see its season, few enough to see the forecast. */
function recent(view, isFocus) {
  const steps = Math.max(48, view.forecast.length * (isFocus ? 6 : 4));
  return { ...view, at_ms: view.at_ms.slice(-steps), actuals: view.actuals.slice(-steps) };
}

function timeFormat([start, end]) {
  if (end - start < 300_000) return "%H:%M:%S";
  return end - start < 129_600_000 ? "%H:%M" : "%b %-d";
}

function layout(view, colours, isFocus, width) {
  const first = view.at_ms[0] ?? view.forecast_at_ms[0] ?? 0;
  const ends = [first, Math.max(view.at_ms.at(-1) ?? first, view.forecast_at_ms.at(-1) ?? first)];
  const axis = {
    fixedrange: true, zeroline: false, showline: false, tickangle: 0,
    tickfont: { size: isFocus ? 11.5 : 10, color: colours.muted },
  };
  const spike = { spikecolor: colours.muted, spikethickness: 1, spikedash: "solid" };
  const nticks = Math.max(2, Math.floor(width / (isFocus ? 100 : 84)));
  const origin = upright(view.origin_ms, { color: colours.muted, width: 1, dash: "dot" });
  const begun = (marks.get(keyOf(view)) ?? []).filter(({ at }) => at >= first);
  const top = begun.length ? 18 : 8; // room for their labels
  const solid = { color: colours.mark, width: isFocus ? 1.5 : 1.25 };
  return {
    autosize: true,
    showlegend: false,
    hovermode: isFocus ? "x unified" : false,
    hoverlabel: { bgcolor: colours.card, bordercolor: colours.line, font: { color: colours.ink, size: 12 } },
    margin: isFocus ? { l: 46, r: 8, t: top + 2, b: 26 } : { l: 34, r: 4, t: top, b: 20 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily },
    xaxis: {
      ...axis, ...spike, type: "date", range: ends, showgrid: false, nticks,
      tickformat: timeFormat(ends), hoverformat: "%Y-%m-%d %H:%M:%S.%3f",
    },
    yaxis: { ...axis, gridcolor: colours.line, nticks: isFocus ? 6 : 4, hoverformat: ".5~g" },
    shapes: [
      ...(view.origin_ms === null ? [] : [{ ...origin, opacity: 0.6, layer: "below" }]),
      ...begun.map(({ at }) => upright(at, solid)),
    ],
    annotations: begun.map(({ at, version }) => ({
      x: at, y: 1, yref: "paper", xanchor: "left", yanchor: "bottom", xshift: -3, showarrow: false,
      text: isFocus ? `model ${version}` : version,
      font: { size: isFocus ? 11.5 : 10, color: colours.mark },
    })),
  };
}

function upright(at, line) {
  return { type: "line", x0: at, x1: at, yref: "paper", y0: 0, y1: 1, line };
}
