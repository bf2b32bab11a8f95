// Published numbers beside ours, each with its verdict: a table to filter and to sort.
//
// data.rows: objects with the texts `paper`, `data`, `method`, `metric` and `verdict`, the numbers
//   (or null) `published`, `ours`, `sd`, `difference`, `low` and `high`, and `details`, a list of
//   pairs of texts: what it is, and what there is to say.
// data.margin: difference up to which two numbers agree.

const FILTERS = { paper: "Paper", data: "Data", method: "Method", verdict: "Verdict" };
const COLUMNS = [
  { key: "method", label: "Method" },
  { key: "metric", label: "Metric" },
  { key: "data", label: "Data" },
  { key: "paper", label: "Paper" },
  { key: "published", label: "Published", number: true },
  { key: "ours", label: "Ours", number: true },
  { key: "difference", label: "Difference", number: true },
  { key: "verdict", label: "Verdict" },
];
const ORDER = ["agrees", "differs", "undecided"]; // of verdicts; all others follow by name
const REACH = 0.16; // of the drawn differences; intervals beyond it are cut

// ---------------------------------------------------------------- rows

// The rows that pass every filter; "" passes all.
function filtered(rows, wanted) {
  const keys = Object.keys(wanted).filter((key) => wanted[key] !== "");
  return rows.filter((row) => keys.every((key) => row[key] === wanted[key]));
}

// What a row is sorted by: null for what is missing.
function rank(row, key) {
  if (key !== "verdict") return row[key];
  const place = ORDER.indexOf(row.verdict);
  return `${place < 0 ? ORDER.length : place} ${row.verdict}`;
}

// The rows in order of a column; rows without a value come last either way.
function sorted(rows, { key, descending }) {
  const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b));
  return [...rows].sort((one, other) => {
    const [a, b] = [rank(one, key), rank(other, key)];
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? compare(b, a) : compare(a, b);
  });
}

// How many rows have each verdict: "37 of 73 numbers: agrees 17, differs 10, undecided 10".
function counted(rows, total) {
  const counts = new Map();
  for (const row of sorted(rows, { key: "verdict" })) {
    counts.set(row.verdict, (counts.get(row.verdict) || 0) + 1);
  }
  const parts = [...counts].map(([verdict, n]) => `${verdict} ${n}`);
  return `${rows.length} of ${total} numbers${parts.length ? ": " : "."}${parts.join(", ")}`;
}

// A number with three digits, with its sign if asked for; a dash for what is missing.
function shown(value, signed = false) {
  if (value === null) return "–";
  const text = Math.abs(value).toFixed(3);
  const sign = value < 0 ? "−" : signed ? "+" : "";
  return sign + text;
}

// "+0.012, 95 % interval −0.003 to +0.027"
function withInterval({ difference, low, high }) {
  const interval =
    low === null ? "" : `, 95 % interval ${shown(low, true)} to ${shown(high, true)}`;
  return shown(difference, true) + interval;
}

// ---------------------------------------------------------------- pictures of differences

const SVG = "http://www.w3.org/2000/svg";
const [WIDE, HIGH] = [110, 16]; // of the picture of a difference

function shape(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// A circle where numbers agree, a square where they differ, an open diamond in between, a cross
// where there is no verdict: the marks of the figures.
function markOf(verdict, x) {
  const y = HIGH / 2;
  if (verdict === "agrees") return shape("circle", { class: "filled", cx: x, cy: y, r: 4 });
  if (verdict === "differs") {
    return shape("rect", { class: "filled", x: x - 3.5, y: y - 3.5, width: 7, height: 7 });
  }
  if (verdict === "undecided") {
    return shape("path", { class: "open", d: `M${x - 5} ${y}l5 -5l5 5l-5 5z` });
  }
  return shape("path", { class: "line", d: `M${x - 3} ${y - 3}l6 6m0 -6l-6 6` });
}

// The difference with its interval over the margin, or nothing where there is none.
function drawn({ difference, low, high, verdict }, margin) {
  if (difference === null) return "";
  const cut = (value) => Math.min(Math.max(value, -REACH), REACH);
  const x = (value) => 6 + ((WIDE - 12) * (cut(value) + REACH)) / (2 * REACH);
  const [left, right] = [x(-margin), x(margin)];
  const picture = shape("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, "aria-hidden": "true" });
  picture.append(
    shape("rect", { class: "band", x: left, y: 0, width: right - left, height: HIGH }),
    shape("path", { class: "zero", d: `M${x(0)} 0v${HIGH}` }),
  );
  if (low !== null) {
    picture.append(shape("path", { class: "line", d: `M${x(low)} ${HIGH / 2}H${x(high)}` }));
  }
  picture.append(markOf(verdict, x(difference)));
  picture.classList.add(ORDER.includes(verdict) ? verdict : "none");
  return picture;
}

// ---------------------------------------------------------------- the page

const LOOK = `
.filters label { display: grid; gap: 0.1rem; }
.scroll { max-height: 26rem; overflow: auto; border: 1px solid var(--line); }
table { width: 100%; font-size: 0.92em; }
thead th { position: sticky; top: 0; z-index: 1; padding: 0; background: var(--raised); }
tbody th { font-weight: inherit; }
thead button { width: 100%; border: 0; background: none; font-weight: 600; text-align: inherit;
  padding: 0.3rem 0.5rem; white-space: nowrap; }
tbody button { border: 0; background: none; padding: 0; min-height: 24px; text-align: left; }
.number { text-align: right; }
tbody tr.current { background: var(--raised); }
tbody .where { display: none; color: var(--muted); font-size: 0.9em; }
svg { display: block; width: ${WIDE}px; height: ${HIGH}px; }
.band { fill: var(--line); opacity: 0.35; }
.zero { stroke: var(--muted); }
.line { stroke: var(--muted); fill: none; stroke-width: 1.5; }
.agrees .filled { fill: var(--accent); }
.agrees .line { stroke: var(--accent); }
.differs .filled { fill: var(--mark); }
.differs .line { stroke: var(--mark); }
.open { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; }
.details { min-height: 8.5em; margin: 0.5rem 0 0; }
.details dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 0 0.75rem;
  margin: 0; }
.details dt { color: var(--muted); }
.details dd { margin: 0; }
.narrow :is(.metric, .data, .paper, .difference, .verdict, .spread) { display: none; }
.narrow .where { display: block; }
.narrow td, .narrow tbody th, .narrow thead button { padding: 0.2rem 0.3rem; }
`;
const NARROW = 700; // pixels, below which the first cell of a row says where it is from

class ResultsPage {
  constructor(root, data, tools) {
    Object.assign(this, { root, data, tools });
    this.wanted = Object.fromEntries(Object.keys(FILTERS).map((key) => [key, ""]));
    this.order = { key: "", descending: false };
    this.build();
    this.show();
    new ResizeObserver(([{ contentRect }]) =>
      root.classList.toggle("narrow", contentRect.width < NARROW),
    ).observe(root);
  }

  build() {
    const { make } = this.tools;
    this.count = make("p", { class: "count", role: "status" });
    this.heads = COLUMNS.map((column) => this.head(column));
    const describe = ({ target }) => {
      const line = target.closest("tr");
      if (line) this.describe(line.row);
    };
    this.body = make("tbody", {
      onkeydown: (event) => this.move(event),
      onfocusin: describe,
      onpointerover: describe,
    });
    this.details = make("div", { class: "details", id: "details" });
    this.root.append(
      make("style", {}, LOOK),
      make("div", { class: "row filters" }, ...Object.entries(FILTERS).map((f) => this.filter(f))),
      this.count,
      make(
        "div",
        { class: "scroll" },
        make("table", {}, make("thead", {}, make("tr", {}, ...this.heads)), this.body),
      ),
      make("p", { class: "help" }, "Point at a row, or go to a method and use the arrow keys."),
      this.details,
    );
  }

  filter([key, label]) {
    const { rows } = this.data;
    const values = [...new Set(sorted(rows, { key }).map((row) => row[key]))];
    return this.tools.select({
      label,
      options: [["", "all"], ...values],
      value: "",
      change: (value) => {
        this.wanted[key] = value;
        this.show();
      },
    });
  }

  head({ key, label, number }) {
    const { make, button } = this.tools;
    const click = () => {
      this.order = { key, descending: this.order.key === key && !this.order.descending };
      this.show();
    };
    const cell = make("th", { scope: "col", class: number ? `${key} number` : key });
    cell.append(button({ label, click }));
    return cell;
  }

  // ---- rows

  show() {
    const rows = filtered(this.data.rows, this.wanted);
    const found = this.order.key ? sorted(rows, this.order) : rows;
    this.count.textContent = counted(found, this.data.rows.length);
    this.body.replaceChildren(...found.map((row) => this.line(row)));
    COLUMNS.forEach(({ key, label }, i) => {
      const active = key === this.order.key;
      const way = this.order.descending ? "descending" : "ascending";
      this.heads[i].setAttribute("aria-sort", active ? way : "none");
      const arrow = active ? (this.order.descending ? " ▼" : " ▲") : "";
      this.heads[i].firstChild.textContent = label + arrow;
    });
    this.describe(found[0]);
  }

  line(row) {
    const { make } = this.tools;
    const where = `${row.metric}, ${row.data}, ${row.paper}: ${row.verdict}`;
    const spread = row.sd === null ? "" : ` ± ${row.sd.toFixed(3)}`;
    const cells = {
      method: [
        make("button", { type: "button", tabindex: -1, "aria-describedby": "details" }, row.method),
        make("span", { class: "where" }, where),
      ],
      published: [shown(row.published)],
      ours: [shown(row.ours), make("span", { class: "spread" }, spread)],
      difference: [shown(row.difference, true), drawn(row, this.data.margin)],
    };
    const line = make("tr");
    for (const { key, number } of COLUMNS) {
      const [tag, scope] = key === "method" ? ["th", "row"] : ["td", undefined];
      const attributes = { class: number ? `${key} number` : key, scope };
      line.append(make(tag, attributes, ...(cells[key] || [row[key]])));
    }
    line.row = row;
    return line;
  }

  // Up and down, to the first and to the last row.
  move(event) {
    const lines = [...this.body.children];
    const at = lines.indexOf(event.target.closest("tr"));
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: lines.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault(); // the page does not scroll
    const line = lines[Math.min(Math.max(to, 0), lines.length - 1)];
    line.querySelector("button").focus();
  }

  // Show the protocol of a row. Of all rows only that one is reached by Tab.
  describe(row) {
    const { make } = this.tools;
    for (const line of this.body.children) {
      const current = line.row === row;
      line.classList.toggle("current", current);
      line.querySelector("button").tabIndex = current ? 0 : -1;
    }
    if (!row) {
      this.details.replaceChildren("No number passes these filters.");
      return;
    }
    const pairs = [["Number", `${row.method}, ${row.metric}, ${row.data}`]];
    if (row.difference !== null) pairs.push(["Difference", withInterval(row)]);
    pairs.push(...row.details);
    const list = pairs.flatMap(([what, text]) => [make("dt", {}, what), make("dd", {}, text)]);
    this.details.replaceChildren(make("dl", {}, ...list));
  }
}

somlib.programs["results-table"] = (root, data, tools) => {
  new ResultsPage(root, data, tools);
};
