// Follows the hub: one EventSource; numbers go into elements by data attributes as text, points into Bokeh's sources by name.
const nearhallLive = async () => {
  const setup = JSON.parse(document.getElementById("setup").textContent);
  const byId = (id) => document.getElementById(id);
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  // Figures as in formats.py: three significant digits, two below one.
  const group = (value, places) => value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
  const significant = (value, most = 3) => {
    if (value === 0) return "0";
    const digits = Math.abs(value) >= 1 ? most : Math.min(most, 2);
    return group(value, Math.min(6, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))))));
  };
  const size = (value) => {
    for (const [limit, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) if (Math.abs(value) >= limit) return `${significant(value / limit)} ${unit}`;
    return `${group(value, 0)} B`;
  };
  const percent = (share) => {
    const value = share * 100;
    if (value > 0 && value < 0.1) return "< 0.1 %";
    if (value > 99.9 && value < 100) return "> 99.9 %";
    return `${value === 0 || value === 100 ? group(value, 0) : group(value, 1)} %`;
  };
  const watts = (value) => Math.abs(value) >= 1e4 ? `${group(value / 1000, 2)} kW` : `${group(value, Math.abs(value) >= 100 ? 0 : 1)} W`;
  const forms = {
    ms: (v) => `${significant(v)} ms`, count: (v) => group(v, 0), rate: (v) => group(v, 1), per_s: (v) => `${group(v, 1)} / s`,
    size, percent, watts, ratio: (v) => group(v, 2), celsius: (v) => `${group(v, 1)} °C`,
  };
  const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19);
  const ago = (s) => s < 120 ? `${Math.round(s)} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3600)} h`;
  const plain = (name) => name.replaceAll("_", " ");
  const total = (counts) => Object.values(counts || {}).reduce((sum, n) => sum + n, 0);
  const counted = (counts) => Object.entries(counts || {}).filter(([, n]) => n).map(([name, n]) => `${plain(name)} ${group(n, 0)}`).join(", ");
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  let state = setup.snapshot;
  let points = [];
  let heard = Date.now();
  const events = [];
  const site = (index) => (state.sites || []).find((s) => s.id === setup.shape[index].id);
  const workload = (index, n) => (site(index)?.workloads || []).find((w) => w.id === setup.shape[index].workloads[n]);
  const meter = (index, n) => (site(index)?.meters || []).find((m) => m.id === setup.shape[index].meters[n]);
  const of = (w, name) => name === "refused" ? total(w.rejected) : w[name] ?? ((name.endsWith("_ms") && !name.startsWith("within")) ? undefined : 0);

  // The figure that a data-f path names; undefined when the state does not hold it.
  const value = (path) => {
    const [index, part, third, fourth] = path.split("/");
    const here = site(index);
    if (!here) return undefined;
    const all = here.workloads || [];
    if (part === "w") { const w = workload(index, third); return w && of(w, fourth); }
    if (part === "m") return meter(index, third)?.[fourth];
    if (part === "sum") return all.reduce((sum, w) => sum + of(w, third), 0);
    if (part === "share") {
      const answered = all.reduce((sum, w) => sum + of(w, "local") + of(w, "hub"), 0);
      return answered ? all.reduce((sum, w) => sum + of(w, third), 0) / answered : undefined;
    }
    if (part === "last") return points[index]?.[third];
    if (part === "feed") return (here.meters || []).find((m) => m.position === "feed")?.power_w;
    if (part === "air") return (here.meters || []).map((m) => m.values?.[third]).find(known);
    if (part.endsWith("_bytes")) return here[part] ?? 0;
    return here[part];
  };
  const kind = (index, name) => {
    if (name.startsWith("meter:")) return meter(index, name.slice(6))?.kind || "assumed";
    return site(index)?.kinds?.[name] || "assumed";
  };

  const fields = [...document.querySelectorAll("[data-f]")].map((place) => (
    { place, path: place.dataset.f, form: forms[place.dataset.as], kind: place.dataset.kind, text: place.querySelector(".v"), mark: place.querySelector(".mark"),
    optional: place.closest("tr[data-optional]") }
  ));
  const showFigures = () => {
    for (const field of fields) {
      const found = value(field.path);
      const text = known(found) ? field.form(found) : "–";
      if (field.text.textContent !== text) field.text.textContent = text;
      field.mark.hidden = !known(found);
      if (field.optional) field.optional.hidden = !known(found);
      const is = kind(field.path.split("/")[0], field.kind);
      if (field.mark.dataset.is !== is) {
        const mark = setup.marks[is] || setup.marks.assumed;
        field.mark.dataset.is = is;
        field.mark.className = `mark mark-${is}`;
        field.place.className = `fig fig-${is}`;
        field.mark.textContent = mark.letter;
        field.mark.title = `${is}: ${mark.meaning}`;
        field.mark.setAttribute("aria-label", is);
      }
    }
  };
  const setText = (place, text) => { if (place.textContent !== text) place.textContent = text; };
  const showTexts = () => {
    for (const place of document.querySelectorAll("[data-text]")) {
      const [index, part, n] = place.dataset.text.split("/");
      const here = site(index);
      if (!here) continue;
      if (part === "refused") {
        const sums = {};
        for (const w of here.workloads || []) for (const [why, n] of Object.entries(w.rejected || {})) sums[why] = (sums[why] || 0) + n;
        setText(place, counted(sums));
      }
      if (part === "w") setText(place, counted(workload(index, n)?.rejected));
      if (part === "seen") setText(place, here.online ? "" : `last heard ${ago(Math.max(0, state.at_s - here.last_seen_s))} ago`);
    }
    for (const place of document.querySelectorAll("[data-found]")) {
      const [index, , n] = place.dataset.found.split("/");
      const found = Object.entries(workload(index, n)?.outcomes || {});
      const letter = (setup.marks[kind(index, "counts")] || setup.marks.assumed).letter;
      setText(place, found.map(([name, many]) => `${plain(name)} ${Number.isInteger(many) ? group(many, 0) : significant(many)} [${letter}]`).join(", "));
    }
  };
  const badge = (place, tone, text) => { place.className = `badge ${tone}`; place.hidden = !text; setText(place, text); };
  const showBadges = () => {
    for (const place of document.querySelectorAll("[data-badge]")) {
      const [index, part] = place.dataset.badge.split("/");
      const here = site(index);
      if (!here) continue;
      if (part === "online") badge(place, here.online ? "good" : "bad", here.online ? "online" : "OFFLINE");
      if (part === "gateway") badge(place, "bad", here.gateway_up === false ? "gateway down" : "");
      if (part === "link") badge(place, "warn", here.link_up === false ? "link cut, serves on alone" : "");
    }
    for (const section of document.querySelectorAll("section[data-site]")) {
      section.classList.toggle("offline", site(section.dataset.site)?.online === false);
    }
  };

  // For the person woken at night: what is wrong now, in words, before anything else.
  const troubles = () => {
    const said = [];
    for (const here of state.sites || []) {
      if (!here.online) said.push(`${here.id} has not been heard for ${ago(Math.max(0, state.at_s - here.last_seen_s))}; its figures are old`);
      if (here.gateway_up === false) said.push(`${here.id}: the gateway is down; the agent answers 503 and starts it again`);
      if (here.online && here.link_up === false) said.push(`${here.id}: the link was cut; ${size(here.spooled_bytes || 0)} of telemetry wait`);
      for (const model of here.models || []) if (model.state === "failed") said.push(`${here.id}: model ${model.name} failed${model.detail ? `: ${model.detail}` : ""}`);
      for (const m of here.meters || []) if (m.missed) said.push(`${here.id}: meter ${m.id} missed ${m.missed} polls of the last window`);
      for (const w of here.workloads || []) if (w.failed) said.push(`${here.id}: ${group(w.failed, 0)} requests of ${w.id} failed`);
    }
    return said;
  };
  const showNow = () => {
    const count = (state.sites || []).length;
    const wrong = troubles();
    if (count) setText(byId("now"), wrong.length ? `${wrong.length === 1 ? "One thing needs" : `${wrong.length} things need`} a look` : `${count === 1 ? "The site serves" : `${count === 2 ? "Both" : `All ${count}`} sites serve`}`);
    const list = byId("trouble");
    list.hidden = !wrong.length;
    if (list.dataset.said !== wrong.join("\n")) { list.dataset.said = wrong.join("\n"); list.replaceChildren(...wrong.map((line) => element("li", "", line))); }
    setText(byId("clock"), `${clock(state.at_s)} UTC, running ${ago(Math.max(0, state.at_s - state.started_s))}`);
  };
  const tones = { ready: "good", loading: "warn", failed: "bad", unloaded: "warn" };
  const showModels = () => {
    for (const place of document.querySelectorAll("[data-models]")) {
      const models = site(place.dataset.models)?.models || [];
      const said = JSON.stringify(models.map((m) => [m.name, m.version, m.variant, m.state, m.detail]));
      if (place.dataset.said === said) continue;
      place.dataset.said = said;
      place.replaceChildren(...models.map((m) => {
        const made = element("span", "model");
        made.append(element("span", `badge ${tones[m.state] || "warn"}`, m.state), ` ${m.name} `, element("span", "soft", `version ${m.version}, ${m.variant}, ${m.runtime}${m.detail ? `: ${m.detail}` : ""}`));
        return made;
      }));
      if (!models.length) place.textContent = "none reported yet";
    }
  };
  const told = new Set();
  const addEvents = (offered) => {
    const fresh = offered.filter((pair) => !told.has(JSON.stringify(pair)));
    if (!fresh.length) return;
    for (const pair of fresh) told.add(JSON.stringify(pair));
    events.push(...fresh);
    events.sort((one, other) => one[1].at_s - other[1].at_s);
    events.splice(0, events.length - 100);
    byId("no-events").hidden = true;
    byId("events").replaceChildren(...events.slice().reverse().map(([where, event]) => {
      const made = element("li", ["info", "warning", "error"].includes(event.level) ? event.level : "info");
      made.append(element("time", "", clock(event.at_s)), element("span", "where", where), element("span", "text", event.text));
      return made;
    }));
  };

  const names = ["local_per_s", "hub_per_s", "refused_per_s", "sent_bytes_per_s", "raw_bytes_per_s"];
  const maybe = ["local_p50_ms", "local_p99_ms", "hub_p50_ms", "inlet_c"];
  const stream = (index, fresh) => {
    const source = (Bokeh.documents || []).map((doc) => doc.get_model_by_name(setup.shape[index].source)).find(Boolean);
    if (!source || !fresh.length) return;
    const columns = { t: fresh.map((p) => p.at_s * 1000) };
    for (const name of names) columns[name] = fresh.map((p) => p[name] ?? 0);
    for (const name of maybe) columns[name] = fresh.map((p) => p[name] ?? NaN);
    setup.shape[index].meters.forEach((id, n) => { columns[`p${n}`] = fresh.map((p) => p.power_w?.[id] ?? NaN); });
    source.stream(columns, setup.points);
  };
  const lastAt = setup.shape.map(() => 0);
  const takePoints = (draw) => {
    setup.shape.forEach((_, index) => {
      // A point that came before (an event repeated after a reconnect) would draw the line backwards.
      const fresh = (site(index)?.points || []).filter((p) => p.at_s > lastAt[index]);
      if (!fresh.length) return;
      lastAt[index] = fresh[fresh.length - 1].at_s;
      points[index] = fresh[fresh.length - 1];
      if (draw) stream(index, fresh);
    });
  };

  // A site, workload, meter or kind of evidence that this page was not built for: build it anew, at most every 5 s.
  const outgrown = () => (state.sites || []).some((here) => {
    const shape = setup.shape.find((s) => s.id === here.id);
    if (!shape) return true;
    return (here.workloads || []).some((w) => !shape.workloads.includes(w.id)) || (here.meters || []).some((m) => !shape.meters.includes(m.id))
      || Object.entries(here.kinds || {}).some(([name, is]) => shape.kinds[name] !== is);
  });
  const rebuild = () => {
    let last = 0;
    try { last = Number(sessionStorage.getItem("nearhall-rebuilt")) || 0; } catch { return; }
    if (Date.now() - last < 5000) return;
    try { sessionStorage.setItem("nearhall-rebuilt", String(Date.now())); } catch { return; }
    window.location.reload();
  };

  const show = () => { showFigures(); showTexts(); showBadges(); showNow(); showModels(); };
  const take = (text) => {
    let next;
    try { next = JSON.parse(text); } catch { return; }
    if (!next || typeof next.at_s !== "number") return;
    state = next;
    heard = Date.now();
    if (outgrown()) rebuild();
    takePoints(true);
    addEvents(state.events || []);
    show();
    freshness();
  };
  const freshness = () => {
    const age = (Date.now() - heard) / 1000;
    const stale = age > setup.stale_s;
    document.body.classList.toggle("stale", stale);
    badge(byId("stream"), stale ? "bad" : "good", stale ? "stale" : "live");
    if (stale) setText(byId("banner"), `The hub has not answered for ${ago(age)}. What you see is from ${clock(state.at_s)} UTC. Sites serve on without it.`);
  };

  // Events say only what is new. What came between this page and its stream, or while the stream was broken, is fetched once.
  const catchUp = async () => {
    try {
      const answer = await fetch(setup.events.replace(/\/events$/, ""), { credentials: "same-origin" });
      if (answer.ok) take(await answer.text());
    } catch { /* the stream's own errors tell the reader */ }
  };
  let source;
  const follow = () => {
    source = new EventSource(setup.events);
    source.addEventListener("open", catchUp);
    for (const name of ["message", "live", "state"]) source.addEventListener(name, (event) => take(event.data));
  };
  takePoints(false);
  addEvents(state.events || []);
  show();
  await nearhallDraw();
  follow();
  window.setInterval(() => {
    freshness();
    // The browser reconnects by itself unless the hub refused; then start over.
    if (source.readyState === EventSource.CLOSED) follow();
  }, 1000);
};
