// What all interactive pieces share. Python puts this file, one program and a call of
// `somlib.start` into one function, so that pieces of different versions can share a page.

const somlib = { programs: {} };

// ---------------------------------------------------------------- data

const ARRAYS = {
  uint8: Uint8Array,
  int8: Int8Array,
  uint16: Uint16Array,
  int16: Int16Array,
  int32: Int32Array,
  float16: Uint16Array,
  float32: Float32Array,
};

const ACTIVATIONS = {
  linear: (x) => x,
  relu: (x) => (x > 0 ? x : 0),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  tanh: Math.tanh,
};

async function bytes({ base64, deflated }) {
  const text = atob(base64);
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  if (!deflated) return found.buffer;
  const stream = new Blob([found]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// A number of 16 bits: a sign, five bits of exponent, ten of fraction.
function half(bits) {
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction) * 2 ** (exponent - 15) : fraction * 2 ** -14);
}

// An array becomes {shape, data}, a network {layers, run}; everything else stays what it is.
async function unpack(value) {
  if (Array.isArray(value)) return Promise.all(value.map(unpack));
  if (value === null || typeof value !== "object") return value;
  if ("$array" in value) {
    const stored = new ARRAYS[value.$array](await bytes(value));
    const data = value.$array === "float16" ? Float32Array.from(stored, half) : stored;
    return { shape: value.shape, data };
  }
  if ("$network" in value) return network(await unpack(value.$network));
  const inside = await unpack(Object.values(value));
  return Object.fromEntries(Object.keys(value).map((key, i) => [key, inside[i]]));
}

// Dense layers. A weight of 8 bits is a multiple of the scale of its output unit.
function network(layers) {
  function run(input) {
    let x = Float32Array.from(input);
    for (const { weight, scale, bias, activation } of layers) {
      const [units, inputs] = weight.shape;
      const out = new Float32Array(units);
      for (let unit = 0, at = 0; unit < units; unit++) {
        let sum = 0;
        for (let i = 0; i < inputs; i++) sum += weight.data[at++] * x[i];
        out[unit] = ACTIVATIONS[activation](sum * (scale ? scale.data[unit] : 1) + bias.data[unit]);
      }
      x = out;
    }
    return x;
  }
  return { layers, run };
}

// The rows of an array of two axes.
const rowsOf = ({ shape: [count, width], data }) =>
  Array.from({ length: count }, (_, i) => data.subarray(i * width, (i + 1) * width));

// Mulberry32, a generator of 32 bits of state: the same numbers in every browser.
function random(seed) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  uniform.normal = () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return uniform;
}

// ---------------------------------------------------------------- colors

const THEMES = {
  light: {
    ink: "#1b1f24",
    paper: "#ffffff",
    raised: "#f1f4f8",
    muted: "#57606a",
    line: "#8a939e",
    accent: "#0b5cad",
    mark: "#b3261e",
  },
  dark: {
    ink: "#e6e9ee",
    paper: "#15191f",
    raised: "#242b35",
    muted: "#a9b4c2",
    line: "#7d8896",
    accent: "#7cc0ff",
    mark: "#ff9d94",
  },
};

// `plots.COLORS`, in which classes are drawn; black and white change places in the dark.
const CLASSES = (
  "#0072B2 #E69F00 #000000 #F0E442 #D55E00 #56B4E9 #009E73 #CC79A7 #B2DF8A #332288 #DDDDDD #7F4F24"
).split(" ");

const CIVIDIS = (
  "#00224e #1a386f #434e6c #61656f #7d7c78 #9b9476 #bcae6c #dec958 #fee838"
).split(" ");

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

// The color between `from` and `to`, two texts like "#a0b0c0", at t from 0 to 1.
function blend(from, to, t) {
  const end = channels(to);
  return `rgb(${channels(from).map((c, i) => Math.round(c + (end[i] - c) * t)).join()})`;
}

// The color of a magnitude from 0 to 1 in the color map of the figures.
function cividis(t) {
  const place = Math.min(Math.max(t, 0), 1) * (CIVIDIS.length - 1);
  const i = Math.min(Math.floor(place), CIVIDIS.length - 2);
  return blend(CIVIDIS[i], CIVIDIS[i + 1], place - i);
}

// Every page says in its own way that it is dark; light text is what they have in common.
function isDark(color) {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  context.fillStyle = color;
  context.fillRect(0, 0, 1, 1);
  const [red, green, blue] = context.getImageData(0, 0, 1, 1).data;
  return 0.3 * red + 0.59 * green + 0.11 * blue > 128;
}

// ---------------------------------------------------------------- elements

// An element with attributes, listeners (`onclick: f`) and children.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== undefined) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

// A slider over `values`, or from `min` to `max`; `change(value)` at each move of the reader.
function slider({ label, values, min = 0, max, step = 1, value, format = String, change }) {
  const out = make("output");
  const read = () => (values ? values[input.value] : Number(input.value));
  const show = () => {
    out.textContent = format(read());
    input.setAttribute("aria-valuetext", out.textContent);
  };
  const input = make("input", {
    type: "range",
    min,
    max: values ? values.length - 1 : max,
    step,
    "aria-label": label,
    oninput: () => {
      show();
      change(read());
    },
  });
  const element = make("label", { class: "slider" }, make("span", {}, label), input, out);
  const set = (next) => {
    input.value = values ? values.indexOf(next) : next;
    show();
  };
  set(value ?? (values ? values[0] : min));
  return { element, input, set, get value() { return read(); } };
}

function button({ label, click }) {
  return make("button", { type: "button", onclick: click }, label);
}

// A list to choose from; `options` are texts, or pairs of a value and its text.
function select({ label, options, value, change }) {
  const pairs = options.map((option) => (Array.isArray(option) ? option : [option, option]));
  const input = make("select", {
    "aria-label": label,
    onchange: () => change(pairs[input.selectedIndex][0]),
  });
  for (const [each, text] of pairs) {
    input.append(make("option", { selected: each === value }, text));
  }
  return make("label", { class: "select" }, make("span", {}, label), input);
}

function checkbox({ label, value = false, change }) {
  const input = make("input", {
    type: "checkbox",
    checked: value,
    onchange: () => change(input.checked),
  });
  return make("label", { class: "checkbox" }, input, make("span", {}, label));
}

let lastId = 0;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// ---------------------------------------------------------------- a piece

function toolsOf(host, stage, live) {
  const canvases = [];
  const tools = {
    make, slider, button, select, checkbox, random, blend, cividis, network, rowsOf,
    theme: "light",
    colors: THEMES.light,
    classColor(i) {
      const color = CLASSES[i % CLASSES.length];
      return tools.theme === "dark" && color === "#000000" ? "#ffffff" : color;
    },
  };

  let textColor;
  tools.setTheme = () => {
    const { color } = getComputedStyle(host);
    if (color === textColor) return;
    textColor = color;
    tools.theme = isDark(color) ? "dark" : "light";
    tools.colors = THEMES[tools.theme];
    stage.dataset.theme = tools.theme;
    for (const [name, color] of Object.entries(tools.colors)) {
      stage.style.setProperty(`--${name}`, color);
    }
    for (const canvas of canvases) canvas.redraw();
  };

  // Told to readers who do not see the picture, once it has come to rest; not when a page opens.
  let timer;
  tools.say = (text) => {
    clearTimeout(timer);
    if (!stage.isConnected) return;
    timer = setTimeout(() => (live.textContent = text), 400);
  };

  // A canvas of at most `width` pixels; `draw(context, width, height)` in the page's pixels.
  tools.canvas = ({ label, width = 320, aspect = 1, draw, ...attributes }) => {
    const element = make("canvas", { role: "img", "aria-label": label, ...attributes });
    element.style.maxWidth = `${width}px`;
    element.style.aspectRatio = aspect;
    let waiting = false;
    const paint = () => {
      waiting = false;
      const [wide, high] = [element.clientWidth, element.clientHeight];
      if (!wide) return; // out of sight: the observer calls again
      const ratio = window.devicePixelRatio || 1;
      element.width = Math.round(wide * ratio);
      element.height = Math.round(high * ratio);
      const context = element.getContext("2d");
      context.scale(element.width / wide, element.height / high);
      draw(context, wide, high);
    };
    const redraw = () => {
      if (!waiting) requestAnimationFrame(paint);
      waiting = true;
    };
    new ResizeObserver(redraw).observe(element);
    canvases.push({ redraw });
    return { element, redraw };
  };

  // A canvas with a point to move: `move(x, y)` to a place in [0, 1]², by mouse or finger, and
  // `nudge(dx, dy)` by arrow keys, in steps: 1, or 5 with Shift. If it is `unbounded`, places may
  // also lie beyond the edges. Its role tells screen readers to pass the keys on.
  tools.pad = ({ label, help = "Drag the point, or use the arrow keys.", ...rest }) => {
    const { move, nudge, unbounded = false, ...look } = rest;
    const id = `help-${++lastId}`;
    const canvas = tools.canvas({
      label,
      role: "application",
      "aria-roledescription": "two-dimensional slider",
      "aria-describedby": id,
      tabindex: 0,
      class: "pad",
      ...look,
    });
    const { element } = canvas;
    const follow = (event) => {
      const box = element.getBoundingClientRect();
      const inside = (t) => (unbounded ? t : Math.min(Math.max(t, 0), 1));
      move(
        inside((event.clientX - box.left) / box.width),
        inside((event.clientY - box.top) / box.height),
      );
    };
    element.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // no selection of text; the focus is then ours to set
      element.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      follow(event);
    });
    element.addEventListener("pointermove", (event) => {
      if (element.hasPointerCapture(event.pointerId)) follow(event);
    });
    element.addEventListener("keydown", (event) => {
      if (!(event.key in ARROWS)) return;
      event.preventDefault(); // the page does not scroll
      const size = event.shiftKey ? 5 : 1;
      nudge(...ARROWS[event.key].map((step) => step * size));
    });
    return { ...canvas, help: make("p", { class: "help", id }, help) };
  };

  // Draw gray pixels, 0 for paper and 1 (or 255, of bytes) for ink, into a rectangle.
  tools.image = (context, pixels, [rows, cols], x, y, width, height) => {
    const scale = pixels instanceof Uint8Array ? 255 : 1;
    const [paper, ink] = [tools.colors.paper, tools.colors.ink].map(channels);
    const image = new ImageData(cols, rows);
    for (let i = 0; i < rows * cols; i++) {
      const t = Math.min(Math.max(pixels[i] / scale, 0), 1);
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = paper[c] + (ink[c] - paper[c]) * t;
      image.data[4 * i + 3] = 255;
    }
    const small = make("canvas", { width: cols, height: rows });
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, x, y, width, height);
  };

  // Images in rows, one of which is picked by mouse, finger or arrow keys: `pick(number)`, after
  // which `picked()` is that number. `mark(context, cell)` draws on top of them, and
  // `cell(number)` is [x, y, width, height] of an image.
  tools.sheet = ({ images, shape: [h, w], columns, picked, pick, mark, ...rest }) => {
    const lines = Math.ceil(images.length / columns);
    const [high, wide] = [lines * (h + 1), columns * (w + 1)]; // with a gap after each image
    const all = new Float32Array(high * wide);
    images.forEach((image, k) => {
      const corner = Math.floor(k / columns) * (h + 1) * wide + (k % columns) * (w + 1);
      for (let row = 0; row < h; row++) {
        all.set(image.subarray(row * w, (row + 1) * w), corner + row * wide);
      }
    });
    const at = (row, col) => {
      const [last, k] = [images.length - 1, Math.min(row, lines - 1) * columns];
      pick(Math.min(k + Math.min(col, columns - 1), last));
    };
    const sheet = tools.pad({
      "aria-roledescription": "images to choose from",
      aspect: wide / high,
      draw(context, width, height) {
        tools.image(context, all, [high, wide], 0, 0, width, height);
        const size = [width / columns, height / lines];
        const corner = (k) => [(k % columns) * size[0], Math.floor(k / columns) * size[1]];
        mark(context, (k) => [...corner(k), ...size]);
      },
      move: (x, y) => at(Math.floor(y * lines), Math.floor(x * columns)),
      nudge(dx, dy) {
        const [row, col] = [Math.floor(picked() / columns), picked() % columns];
        at(Math.max(row + dy, 0), Math.max(col + dx, 0));
      },
      ...rest,
    });
    sheet.element.style.touchAction = "pan-y"; // a finger may scroll the page over it
    return sheet;
  };

  // Call `step` for each frame of the screen, until it returns false or the piece is removed.
  tools.loop = (step) => {
    const loop = {
      running: false,
      start() {
        if (!loop.running) requestAnimationFrame(frame);
        loop.running = true;
      },
      stop() {
        loop.running = false;
      },
    };
    const frame = () => {
      if (loop.running && host.isConnected && step() !== false) requestAnimationFrame(frame);
      else loop.running = false;
    };
    return loop;
  };
  return tools;
}

// A shadow tree keeps the styles of page and piece apart. What stands in the element itself, a
// picture and its text, shows until the program has made the stage, where it fails, and in print.
async function open(host, name, css) {
  const shadow = host.attachShadow({ mode: "open" });
  const label = host.querySelector("img").alt;
  const live = make("div", { class: "unseen", "aria-live": "polite" });
  const stage = make("div", { class: "stage", role: "group", "aria-label": label });
  const slot = make("slot");
  shadow.append(make("style", {}, css), slot, live);
  // arrow keys also turn slides and select cells
  shadow.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" && event.key !== "Escape") event.stopPropagation();
  });
  try {
    const data = await unpack(JSON.parse(host.querySelector("script[type='application/json']").text));
    const tools = toolsOf(host, stage, live);
    tools.alt = label;
    tools.setTheme();
    somlib.programs[name](stage, data, tools);
    shadow.insertBefore(stage, slot);
    const watch = new MutationObserver(() => {
      tools.setTheme();
      setTimeout(tools.setTheme, 500); // of a page that fades from light to dark
    });
    for (const element of [document.documentElement, document.body]) {
      watch.observe(element, { attributes: true });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tools.setTheme);
    host.dataset.state = "ready";
  } catch (error) {
    host.dataset.state = "failed";
    throw error;
  }
}

// A page may show a piece twice, and a script may run again.
somlib.start = (digest, name, css) => {
  for (const host of document.querySelectorAll(`[data-somlib="${digest}"]`)) {
    if (!host.shadowRoot) open(host, name, css);
  }
};
