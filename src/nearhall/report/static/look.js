// The toggle between light and dark, and Bokeh's pictures in the page's colours. A model says by a tag which tone it takes.
"use strict";
const nearhallLook = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const scheme = () => {
    if (printing) return "light";
    return document.documentElement.dataset.theme || (dark.matches ? "dark" : "light");
  };
  const remember = (theme) => { try { localStorage.setItem("nearhall-theme", theme); } catch { /* a file:// page may not store */ } };
  const remembered = () => { try { return localStorage.getItem("nearhall-theme"); } catch { return null; } };

  const paint = (model, colours) => {
    const has = (name) => name in model.properties;
    const set = (name, value) => { if (has(name) && value !== undefined) model.setv({ [name]: value }); };
    for (const tag of model.tags) {
      if (typeof tag !== "string" || !tag.startsWith("tone:")) continue;
      const [, what, tone] = tag.split(":");
      const colour = colours[tone];
      if (what === "fill") { set("fill_color", colour); set("hatch_color", colours.card); }
      if (what === "line") set("line_color", colour);
      if (what === "text") set("text_color", colour);
      if (what === "background") set("background_fill_color", colour);
    }
    if (model.type === "Figure") { model.setv({ background_fill_color: null, border_fill_color: null, outline_line_color: null }); }
    if (/Axis$/.test(model.type)) {
      model.setv({
        axis_line_color: colours.line, major_tick_line_color: colours.line, minor_tick_line_color: null,
        major_label_text_color: colours.soft, axis_label_text_color: colours.soft,
      });
    }
    if (model.type === "Grid") { set("grid_line_color", model.tags.includes("bare") ? null : colours.grid); }
    if (model.type === "Legend") {
      model.setv({ label_text_color: colours.ink, background_fill_color: colours.card, background_fill_alpha: 0.85, border_line_color: null });
    }
    if (model.type === "Title") model.setv({ text_color: colours.ink });
  };
  const paintAll = () => {
    if (typeof Bokeh === "undefined") return;
    const colours = NEARHALL_COLOURS[scheme()];
    for (const doc of Bokeh.documents) for (const model of [...doc._all_models.values()]) paint(model, colours);
  };
  const label = () => {
    for (const button of document.querySelectorAll("button.theme")) button.textContent = scheme() === "dark" ? "Light" : "Dark";
  };
  const toggle = () => {
    const next = scheme() === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    remember(next); paintAll(); label();
  };
  // What a link points at may lie in folded parts: they are opened, before the browser looks where to go.
  const unfold = (hash) => {
    const there = hash.length > 1 ? document.getElementById(decodeURIComponent(hash.slice(1))) : null;
    if (!there) return;
    const inside = there.querySelector(":scope > details");
    if (inside) inside.open = true;
    for (let part = there; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    there.scrollIntoView();
  };
  // A finger cannot rest on a figure: a tap says at the bottom of the screen what the pointer is told.
  const tell = (event) => {
    document.querySelector(".told")?.remove();
    const figure = event.target.closest(".fig[title], .missing[title], .mark[title]");
    if (!figure || event.target.closest("a, summary, button")) return;
    const told = document.createElement("div");
    told.className = "told"; told.setAttribute("role", "status"); told.textContent = figure.title;
    document.body.append(told);
  };
  const start = () => {
    window.addEventListener("hashchange", () => unfold(location.hash));
    document.addEventListener("click", (event) => {
      const link = event.target.closest('a[href^="#"]');
      if (link) unfold(link.hash);
      tell(event);
    });
    unfold(location.hash);
    const before = remembered();
    if (before === "light" || before === "dark") document.documentElement.dataset.theme = before;
    dark.addEventListener("change", () => { paintAll(); label(); });
    window.addEventListener("beforeprint", () => { printing = true; paintAll(); });
    window.addEventListener("afterprint", () => { printing = false; paintAll(); });
    for (const button of document.querySelectorAll("button.theme")) { button.hidden = false; button.addEventListener("click", toggle); }
    label();
  };
  return { start, paintAll, scheme };
})();

// Draws the pictures that the page carries as JSON, each into the element with its name.
const nearhallDraw = async () => {
  const holder = document.getElementById("pictures");
  if (!holder || typeof Bokeh === "undefined") return;
  const { docs, items } = JSON.parse(holder.textContent);
  for (const item of items) {
    for (const name of Object.values(item.roots)) {
      const place = document.getElementById(name);
      if (place) place.replaceChildren();
    }
  }
  await Bokeh.embed.embed_items(docs, items);
  nearhallLook.paintAll();
};
