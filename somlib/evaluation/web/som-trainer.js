// A self-organizing map that trains in the page, on a cloud of points in the plane.
//
// The equations are those of somlib/models/kohonen.py, in float64 and in the same order: a step in
// the page gives the library's prototypes up to rounding. Units are numbered row by row.
//
// data.settings: what to begin with, any part of `SETTINGS`.
// data.samples: clouds by name, arrays of shape (n, 2), before the page's own of that name.
// data.start: initial prototypes, an array of shape (K, 2); by default near the cloud's center.

const SETTINGS = {
  cloud: "square",
  rows: 8,
  cols: 8,
  lattice: "rect",
  wrap: "none",
  mode: "online",
  sigma: [4, 0.5], // at the start and at the end
  alpha: [0.5, 0.02],
  passes: 10, // over the samples
};
const WRAPS = { none: [false, false], columns: [false, true], both: [true, true] };

// ---------------------------------------------------------------- the lattice, as somlib.Grid

const ROW_HEIGHT = { rect: 1, hex: Math.sqrt(3) / 2 }; // in lattice spacings
const REACH = 1 + 1e-6; // neighbors are at distance 1, up to rounding

// The shorter way between two points of a circle; on a line (period 0) the distance.
function circular(apart, period) {
  return period ? period / 2 - Math.abs((apart % period) - period / 2) : apart;
}

function squaredDistance(a, b, periods) {
  const down = circular(Math.abs(a[0] - b[0]), periods[0]);
  const right = circular(Math.abs(a[1] - b[1]), periods[1]);
  return down * down + right * right;
}

// A lattice of n units: squared distances between all of them, and the pairs of neighbors.
function makeGrid({ rows, cols, lattice, wrap }) {
  const height = ROW_HEIGHT[lattice];
  const shift = lattice === "hex" ? 0.5 : 0;
  const [wrapRows, wrapCols] = WRAPS[wrap];
  const periods = [wrapRows ? rows * height : 0, wrapCols ? cols : 0];
  const n = rows * cols;
  const coords = Array.from({ length: n }, (_, unit) => {
    const row = Math.floor(unit / cols);
    return [row * height, (unit % cols) + shift * (row % 2)];
  });
  const squared = new Float64Array(n * n);
  const edges = [];
  for (let a = 0; a < n; a++) {
    for (let b = 0; b < n; b++) {
      const distance = squaredDistance(coords[a], coords[b], periods);
      squared[a * n + b] = distance;
      if (a < b && distance > 1e-12 && distance < REACH * REACH) edges.push([a, b]);
    }
  }
  return { n, squared, edges };
}

// ---------------------------------------------------------------- the two rules

// start · (end/start)^(i/(n−1)) at step i of n; after the last step the end value.
function scheduled([start, end], i, n) {
  const t = i / Math.max(n - 1, 1);
  return t >= 1 ? end : start * (end / start) ** t;
}

// The best unit of a point, the second best, and the squared distance to the best.
function twoBest(W, x, y) {
  let [best, second, near, next] = [0, 0, Infinity, Infinity];
  for (let unit = 0; unit < W.length / 2; unit++) {
    const dx = x - W[2 * unit];
    const dy = y - W[2 * unit + 1];
    const squared = dx * dx + dy * dy;
    if (squared < near) {
      [second, next] = [best, near];
      [best, near] = [unit, squared];
    } else if (squared < next) {
      [second, next] = [unit, squared];
    }
  }
  return { best, second, near };
}

// Present one sample: equations 1 to 3 of the SOAE paper. Returns the best-matching unit.
function present(W, grid, x, y, sigma, alpha) {
  const { best } = twoBest(W, x, y);
  for (let unit = 0; unit < grid.n; unit++) {
    const h = Math.exp(grid.squared[best * grid.n + unit] / (-2 * sigma * sigma));
    W[2 * unit] += alpha * h * (x - W[2 * unit]);
    W[2 * unit + 1] += alpha * h * (y - W[2 * unit + 1]);
  }
  return best;
}

// For each unit the sum of the samples that it wins, and their number: x, y, n.
function voronoiSums(W, X) {
  const sums = new Float64Array((W.length / 2) * 3);
  for (let i = 0; i < X.length; i += 2) {
    const { best } = twoBest(W, X[i], X[i + 1]);
    sums[3 * best] += X[i];
    sums[3 * best + 1] += X[i + 1];
    sums[3 * best + 2] += 1;
  }
  return sums;
}

// Set every prototype to the h-weighted mean of the samples (Kohonen 2013, equation 8).
function batchEpoch(W, grid, X, sigma) {
  const sums = voronoiSums(W, X);
  for (let unit = 0; unit < grid.n; unit++) {
    let [x, y, count] = [0, 0, 0];
    for (let other = 0; other < grid.n; other++) {
      const h = Math.exp(grid.squared[unit * grid.n + other] / (-2 * sigma * sigma));
      x += h * sums[3 * other];
      y += h * sums[3 * other + 1];
      count += h * sums[3 * other + 2];
    }
    // a unit that no sample reaches keeps its prototype
    if (count > 2 ** -1022) [W[2 * unit], W[2 * unit + 1]] = [x / count, y / count];
  }
}

// Quantization and topographic error of the samples.
function errorsOf(W, grid, X) {
  let [distance, torn] = [0, 0];
  for (let i = 0; i < X.length; i += 2) {
    const { best, second, near } = twoBest(W, X[i], X[i + 1]);
    distance += Math.sqrt(near);
    torn += grid.squared[best * grid.n + second] >= REACH * REACH ? 1 : 0;
  }
  return { qe: (2 * distance) / X.length, te: (2 * torn) / X.length };
}

// A map in training. A step is an update (online) or an epoch (batch). Samples come in their order,
// from number `first` on.
class Training {
  constructor(settings, X, W, first = 0) {
    Object.assign(this, { settings, X, W, first, t: 0 });
    this.grid = makeGrid(settings);
    this.online = settings.mode === "online";
    this.total = settings.passes * (this.online ? X.length / 2 : 1);
  }

  get done() {
    return this.t >= this.total;
  }

  get sigma() {
    return scheduled(this.settings.sigma, this.t, this.total);
  }

  get alpha() {
    return scheduled(this.settings.alpha, this.t, this.total);
  }

  get errors() {
    return errorsOf(this.W, this.grid, this.X);
  }

  present(x, y) {
    return { x, y, best: present(this.W, this.grid, x, y, this.sigma, this.alpha) };
  }

  // Take one step; returns the sample and its unit, or null from an epoch.
  step() {
    const i = (2 * (this.first + this.t)) % this.X.length;
    const found = this.online ? this.present(this.X[i], this.X[i + 1]) : null;
    if (!this.online) batchEpoch(this.W, this.grid, this.X, this.sigma);
    this.t += 1;
    return found;
  }
}

// ---------------------------------------------------------------- clouds of points

const SAMPLES = 1000;

const CLOUDS = {
  square: (random) => [random(), random()],
  "two blobs": (random) => {
    const center = random() < 0.5 ? 0.27 : 0.73;
    return [center + 0.09 * random.normal(), center + 0.09 * random.normal()];
  },
  ring: (random) => {
    const angle = 2 * Math.PI * random();
    const radius = 0.45 + 0.012 * random.normal();
    return [0.5 + radius * Math.cos(angle), 0.5 + radius * Math.sin(angle)];
  },
  moons: (random) => {
    const upper = random() < 0.5;
    const angle = Math.PI * random();
    const x = upper ? Math.cos(angle) : 1 - Math.cos(angle);
    const y = upper ? Math.sin(angle) : 0.5 - Math.sin(angle);
    return [(x + 1) / 3 + 0.015 * random.normal(), (y + 1.25) / 3 + 0.015 * random.normal()];
  },
};

// The samples of a cloud as x, y, x, y, ...
function samplesOf(name, given, random) {
  if (given) return Float64Array.from(given.data);
  return Float64Array.from(Array.from({ length: SAMPLES }, () => CLOUDS[name](random)).flat());
}

// Prototypes close to the mean of the samples, in no order.
function tangle(X, n, random) {
  const mean = [0, 0];
  X.forEach((value, i) => (mean[i % 2] += (2 * value) / X.length));
  return Float64Array.from({ length: 2 * n }, (_, i) => mean[i % 2] + 0.02 * random.normal());
}

// The square that holds the samples: its center and its side, with a margin.
function viewOf(X) {
  const ends = [0, 1].map((axis) => {
    const values = X.filter((_, i) => i % 2 === axis);
    return [Math.min(...values), Math.max(...values)];
  });
  return {
    center: ends.map(([low, high]) => (low + high) / 2),
    side: 1.08 * Math.max(...ends.map(([low, high]) => high - low), 1e-9),
  };
}

// ---------------------------------------------------------------- pictures

function dots(context, points, radius) {
  context.beginPath();
  for (const [x, y] of points) {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
  context.fill();
}

// Lines, each through a list of points.
function lines(context, paths) {
  context.beginPath();
  for (const points of paths) {
    points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  }
  context.stroke();
}

// Samples, the map over them, and what the last single step has moved.
function drawMap(context, width, { training, view, last, colors }) {
  const { X, W, grid } = training;
  const scale = width / view.side;
  const at = (x, y) => [
    width / 2 + (x - view.center[0]) * scale,
    width / 2 - (y - view.center[1]) * scale,
  ];
  const placed = (points) =>
    Array.from({ length: points.length / 2 }, (_, i) => at(points[2 * i], points[2 * i + 1]));
  const units = placed(W);
  const radius = Math.min(3.2, Math.max(1.6, width / (9 * Math.sqrt(grid.n))));
  context.fillStyle = colors.muted;
  context.globalAlpha = 0.55;
  dots(context, placed(X), 1.1);
  context.globalAlpha = 1;
  context.strokeStyle = context.fillStyle = colors.accent;
  context.lineWidth = 1.4;
  lines(context, grid.edges.map(([a, b]) => [units[a], units[b]]));
  dots(context, units, radius);
  if (!last) return;
  context.strokeStyle = context.fillStyle = colors.mark;
  lines(context, placed(last.before).map((from, unit) => [from, units[unit]]));
  dots(context, [units[last.best]], radius + 2);
  const [x, y] = at(last.x, last.y);
  context.lineWidth = 2.5;
  lines(context, [[[x - 7, y], [x + 7, y]], [[x, y - 7], [x, y + 7]]]);
}

// Both errors over the steps so far, each as a part of its largest value or of 1.
function drawErrors(context, width, height, { training, history, colors }) {
  const [left, right, top, bottom] = [4, width - 44, 6, height - 6];
  const most = Math.max(...history.map(({ qe }) => qe), 1e-12);
  const x = (t) => left + ((right - left) * t) / Math.max(training.total, training.t);
  const y = (part) => bottom - (bottom - top) * part;
  context.strokeStyle = colors.line;
  context.lineWidth = 1;
  lines(context, [[[left, bottom], [right, bottom]]]);
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  const curves = [
    { name: "QE", color: colors.accent, dash: [], part: ({ qe }) => qe / most },
    { name: "TE", color: colors.mark, dash: [4, 3], part: ({ te }) => te },
  ];
  const ends = curves.map(({ part }) => y(part(history.at(-1))));
  const apart = Math.abs(ends[0] - ends[1]) < 13; // so that the names do not overlap
  curves.forEach(({ name, color, dash, part }, i) => {
    context.strokeStyle = context.fillStyle = color;
    context.lineWidth = 2;
    context.setLineDash(dash);
    lines(context, [history.map((point) => [x(point.t), y(part(point))])]);
    context.setLineDash([]);
    const shift = apart ? (ends[i] < ends[1 - i] || (!i && ends[0] === ends[1]) ? -6 : 6) : 0;
    const middle = Math.min(Math.max(ends[i] + shift, 7), height - 7);
    context.fillText(name, x(history.at(-1).t) + 5, middle);
  });
}

// ---------------------------------------------------------------- the page

const FRAMES_PER_EPOCH = 8; // of the screen, so that an epoch can be seen
const STRIDE = 137; // samples between two starts, so that each sees them in another order
const LEAST_ALPHA = 0.02; // at the end, where the start is not below it

const LOOK = `
.trainer { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; }
.picture { flex: 1 1 250px; min-width: 0; max-width: 440px; }
.controls { flex: 1 1 260px; min-width: 0; display: grid; gap: 0.4rem; align-content: start; }
.controls label { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr) 2.5rem; gap: 0.5rem; }
.controls select, .controls input { width: 100%; }
.controls output { min-width: 0; text-align: right; }
.controls .select select { grid-column: 2 / 4; }
.buttons { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 0.3rem 0; }
.state { min-height: 3em; font-variant-numeric: tabular-nums; }
`;

class TrainerPage {
  constructor(root, data, tools) {
    Object.assign(this, { root, data, tools, seed: 0, frame: 0, last: null, at: [0.5, 0.5] });
    this.settings = { ...SETTINGS, ...data.settings };
    // fewer, larger changes for readers who want little motion
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.loop = tools.loop(() => this.tick());
    this.build();
    this.reset();
  }

  // ---- what the page has

  build() {
    const { make, button } = this.tools;
    const picture = this.pictures();
    this.running = button({ label: "Run", click: () => this.run() });
    const buttons = [
      this.running,
      button({ label: "Step", click: () => this.step() }),
      button({ label: "Reset", click: () => this.reset() }),
      button({ label: "New start", click: () => this.reset(this.seed + 1) }),
    ];
    this.state = make("p", { class: "state" });
    this.root.append(
      make("style", {}, LOOK),
      make(
        "div",
        { class: "trainer" },
        make("div", { class: "picture" }, picture.element, this.curves.element, picture.help),
        make(
          "div",
          { class: "controls" },
          make("div", { class: "buttons" }, ...buttons),
          this.state,
          ...this.choices(),
          ...this.sliders(),
        ),
      ),
    );
  }

  pictures() {
    const { tools } = this;
    this.curves = tools.canvas({
      label: "Quantization and topographic error over the steps so far.",
      width: 440,
      aspect: 5,
      draw: (context, width, height) =>
        drawErrors(context, width, height, { ...this, colors: tools.colors }),
    });
    this.map = tools.pad({
      label: "The map among the samples. A place that you point at is presented as a sample.",
      help:
        "Drag over the picture, or move by arrow keys: each place is presented to the map as a " +
        "sample of yours (online). Lines show what a single step moves.",
      width: 440,
      move: (u, v) => this.touch(u, v),
      nudge: (du, dv) => this.touch(this.at[0] + du / 50, this.at[1] + dv / 50),
      draw: (context, width) => drawMap(context, width, { ...this, colors: tools.colors }),
    });
    return this.map;
  }

  choices() {
    const { select } = this.tools;
    const clouds = new Set([...Object.keys(CLOUDS), ...Object.keys(this.data.samples || {})]);
    const options = {
      cloud: ["Cloud", [...clouds]],
      mode: ["Rule", ["online", "batch"]],
      lattice: ["Lattice", [["rect", "square"], ["hex", "hexagonal"]]],
      wrap: ["Joined", [["none", "no edges"], ["columns", "left, right"], ["both", "all (torus)"]]],
    };
    return Object.entries(options).map(([name, [label, values]]) =>
      select({
        label,
        options: values,
        value: this.settings[name],
        change: (value) => this.set({ [name]: value }),
      }),
    );
  }

  sliders() {
    const { tools, settings } = this;
    const size = { min: 1, max: 20, change: () => this.resize() };
    const two = (value) => value.toFixed(2);
    const rate = { format: two, change: () => this.reschedule() };
    const [sigma, alpha] = [settings.sigma, settings.alpha];
    const made = {
      rows: { label: "Rows", value: settings.rows, ...size },
      cols: { label: "Columns", value: settings.cols, ...size, max: 40 },
      sigmaStart: { label: "σ, start", min: 0.1, max: 10, step: 0.1, value: sigma[0], ...rate },
      sigmaEnd: { label: "σ, end", min: 0.05, max: 2, step: 0.05, value: sigma[1], ...rate },
      alpha: { label: "α, start", min: 0.01, max: 1, step: 0.01, value: alpha[0], ...rate },
      passes: {
        label: "Passes",
        min: 1,
        max: 40,
        value: settings.passes,
        change: (passes) => this.set({ passes }),
      },
    };
    this.controls = Object.fromEntries(
      Object.entries(made).map(([name, options]) => [name, tools.slider(options)]),
    );
    return Object.values(this.controls).map(({ element }) => element);
  }

  // ---- what the reader does

  // Begin anew with other settings.
  set(changed) {
    this.settings = { ...this.settings, ...changed };
    const { lattice, wrap, rows } = this.settings;
    if (lattice === "hex" && wrap === "both" && rows % 2) {
      this.settings.rows = rows + 1; // else the shifts of the first and last row do not meet
      this.controls.rows.set(rows + 1);
    }
    this.reset();
  }

  resize() {
    this.set({ rows: this.controls.rows.value, cols: this.controls.cols.value });
  }

  // Other schedules hold from the next step on.
  reschedule() {
    const [start, end, rate] = ["sigmaStart", "sigmaEnd", "alpha"].map(
      (name) => this.controls[name].value,
    );
    Object.assign(this.settings, {
      sigma: [start, Math.min(start, end)],
      alpha: [rate, Math.min(rate, LEAST_ALPHA)],
    });
    this.show();
  }

  reset(seed = this.seed) {
    const { settings, data, tools } = this;
    this.seed = seed;
    this.loop.stop();
    const X = samplesOf(settings.cloud, (data.samples || {})[settings.cloud], tools.random(1));
    const n = settings.rows * settings.cols;
    const given = data.start && data.start.shape[0] === n && seed === 0;
    const W = given ? Float64Array.from(data.start.data) : tangle(X, n, tools.random(2 + seed));
    this.training = new Training(settings, X, W, STRIDE * seed);
    this.root.training = this.training; // for whoever wants to read the numbers
    this.view = viewOf(X);
    this.history = [];
    this.last = null;
    this.controls.alpha.input.disabled = !this.training.online;
    this.show();
  }

  run() {
    if (this.loop.running) {
      this.loop.stop();
    } else {
      if (this.training.done) this.reset();
      this.last = null;
      this.loop.start();
    }
    this.show();
  }

  step() {
    this.loop.stop();
    this.watch(() => this.training.step());
  }

  // Present a place of the picture, in [0, 1]² from its upper left corner, as a sample.
  touch(...place) {
    if (!this.training.online) {
      this.tools.say("Single samples are presented by the online rule only.");
      return;
    }
    this.loop.stop();
    const [u, v] = (this.at = place.map((t) => Math.min(Math.max(t, 0), 1)));
    const { center, side } = this.view;
    const [x, y] = [center[0] + (u - 0.5) * side, center[1] + (0.5 - v) * side];
    this.watch(() => this.training.present(x, y));
  }

  // ---- what the page does

  // One frame of the screen: online ever more updates, because each changes ever less.
  tick() {
    const { training } = this;
    this.frame += 1;
    const rest = this.frame % (this.still ? 40 : training.online ? 1 : FRAMES_PER_EPOCH);
    if (rest) return true;
    const updates = training.online ? Math.ceil((training.t + 1) / 50) * (this.still ? 20 : 1) : 1;
    for (let i = 0; i < updates && !training.done; i++) training.step();
    if (training.done) this.loop.stop();
    this.show();
    return !training.done;
  }

  // Take a single step and show what it moves.
  watch(step) {
    const before = this.training.W.slice();
    const found = step();
    this.last = found && { ...found, before };
    this.show();
  }

  show() {
    const { training, loop, tools } = this;
    const { t, total, online, sigma, alpha } = training;
    const { qe, te } = training.errors;
    if (this.history.length && this.history.at(-1).t === t) this.history.pop();
    this.history.push({ t, qe, te });
    const text = [
      `${online ? "Update" : "Epoch"} ${t} of ${total}`,
      `σ ${sigma.toFixed(2)}`,
      ...(online ? [`α ${alpha.toFixed(3)}`] : []),
      `QE ${qe.toFixed(3)}`,
      `TE ${te.toFixed(3)}`,
    ].join(" · ");
    this.state.textContent = text;
    this.running.textContent = loop.running ? "Pause" : "Run";
    if (!loop.running) tools.say(text);
    this.map.redraw();
    this.curves.redraw();
  }
}

somlib.programs["som-trainer"] = (root, data, tools) => {
  new TrainerPage(root, data, tools);
};
