// A latent space as a chart: drag a point, see what is decoded there and which samples lie near.
//
// data.maps: one or several spaces to choose from, each with
//   name: what the reader chooses it by;
//   space: "plane", "torus" or "sphere";
//   decoder: a network from embeddings to images;
//   codes: (n, m), those of the samples; m is 2, on the sphere 3;
//   low, high: the box that the chart shows, of a plane only: two numbers each.
// data.samples: (n, d) bytes, 255 for ink; data.image: [rows, cols] of an image.
// data.labels: n texts, the classes of the samples; data.classes: the different ones, in order.
// data.nearest: how many of the nearest samples are shown.
//
// As in figures of decoded sheets, the first coordinate runs down and the second to the right; on
// the sphere colatitude and longitude do.

const TURN = 2 * Math.PI;
const modulo = (x, period) => x - period * Math.floor(x / period);
const angle = (x) => modulo(x + Math.PI, TURN) - Math.PI;
const signed = (x) => (x < 0 ? "−" : "") + Math.abs(x).toFixed(2);

// Each chart leads from a place (right, down) in [0, 1]² to a code and back, and moves a place that
// has been dragged or nudged over the edge to where it comes in again.
const CHARTS = {
  plane: ({ low, high }) => ({
    aspect: 1,
    radius: 0.05 * (high[0] - low[0]),
    code: ([x, y]) => [low[0] + y * (high[0] - low[0]), low[1] + x * (high[1] - low[1])],
    place: (z) => [(z[1] - low[1]) / (high[1] - low[1]), (z[0] - low[0]) / (high[0] - low[0])],
    inside: (place) => place.map((t) => Math.min(Math.max(t, 0), 1)),
    embed: (z) => z,
    distance: (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]),
    around: (z, r, t) => [z[0] + r * Math.cos(t), z[1] + r * Math.sin(t)],
    told: (z) => `z = (${signed(z[0])}, ${signed(z[1])})`,
  }),
  torus: () => ({
    aspect: 1,
    radius: 0.3,
    code: ([x, y]) => [TURN * y - Math.PI, TURN * x - Math.PI],
    place: (z) => [(angle(z[1]) + Math.PI) / TURN, (angle(z[0]) + Math.PI) / TURN],
    inside: (place) => place.map((t) => modulo(t, 1)),
    embed: (z) => [...z.map(Math.cos), ...z.map(Math.sin)],
    distance: (a, b) => Math.hypot(angle(a[0] - b[0]), angle(a[1] - b[1])),
    around: (z, r, t) => [z[0] + r * Math.cos(t), z[1] + r * Math.sin(t)],
    told: (z) => `z = (${signed(z[0])}, ${signed(z[1])}) rad`,
  }),
  sphere: () => ({
    aspect: 2,
    radius: 0.3,
    code: ([x, y]) => {
      const [longitude, colatitude] = [TURN * x - Math.PI, Math.PI * y];
      const around = Math.sin(colatitude);
      return [around * Math.cos(longitude), around * Math.sin(longitude), Math.cos(colatitude)];
    },
    place: (z) => [
      (Math.atan2(z[1], z[0]) + Math.PI) / TURN,
      Math.acos(Math.min(Math.max(z[2], -1), 1)) / Math.PI,
    ],
    // over a pole one comes down on the opposite side
    inside: ([x, y]) => {
      const turned = modulo(y, 2);
      return turned > 1 ? [modulo(x + 0.5, 1), 2 - turned] : [modulo(x, 1), turned];
    },
    embed: (z) => z,
    distance: (a, b) => {
      const dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
      return Math.acos(Math.min(Math.max(dot, -1), 1));
    },
    around: (z, r, t) => {
      const least = Math.abs(z[2]) < 0.9 ? [0, 0, 1] : [1, 0, 0];
      const east = unit(cross(least, z));
      const north = cross(z, east);
      return z.map(
        (c, i) => Math.cos(r) * c + Math.sin(r) * (Math.cos(t) * east[i] + Math.sin(t) * north[i]),
      );
    },
    told: (z) => `z = (${z.map(signed).join(", ")})`,
  }),
};

const cross = (a, b) => [0, 1, 2].map((i) => {
  const [j, k] = [(i + 1) % 3, (i + 2) % 3];
  return a[j] * b[k] - a[k] * b[j];
});
const unit = (a) => a.map((c) => c / Math.hypot(...a));

// The path of places in a chart, cut where it leaves by one edge and comes in by the opposite one.
function drawPath(context, places, width, height) {
  context.beginPath();
  places.forEach(([x, y], i) => {
    const before = places[Math.max(i - 1, 0)];
    const cut = i === 0 || Math.abs(x - before[0]) > 0.5 || Math.abs(y - before[1]) > 0.5;
    context[cut ? "moveTo" : "lineTo"](x * width, y * height);
  });
  context.stroke();
}

const BACKGROUNDS = [["samples", "images of the data"], ["sheet", "decoded images"]];
const SHEET_ROWS = 14;

somlib.programs["latent-drag"] = (root, data, tools) => {
  const { make } = tools;
  const width = data.image[0] * data.image[1];
  const maps = data.maps.map((map) => {
    const [n, m] = map.codes.shape;
    const codes = Array.from({ length: n }, (_, i) => map.codes.data.slice(i * m, (i + 1) * m));
    const chart = CHARTS[map.space](map);
    return { ...map, codes: codes.map((z) => Array.from(z)), chart, sheet: null };
  });
  const sample = (i) => data.samples.data.subarray(i * width, (i + 1) * width);
  let background = "samples";
  let map, z, place, decoded, nearest;

  function look() {
    z = map.chart.code(place);
    decoded = map.decoder.run(map.chart.embed(z));
    const distances = map.codes.map((code) => map.chart.distance(code, z));
    nearest = [...distances.keys()].sort((a, b) => distances[a] - distances[b]);
    nearest = nearest.slice(0, data.nearest);
    const labels = nearest.map((i) => data.labels[i]).join(", ");
    where.textContent = map.chart.told(z);
    classes.textContent = `Nearest images of the data: ${labels}`;
    tools.say(`${where.textContent}. ${classes.textContent}.`);
    for (const canvas of [pad, image, strip]) canvas.redraw();
  }

  function go(next) {
    place = map.chart.inside(next);
    look();
  }

  function choose(name) {
    map = maps.find((each) => each.name === name);
    pad.element.style.aspectRatio = map.chart.aspect;
    place = map.chart.place(map.codes[0]);
    look();
  }

  // ---------------------------------------------------------------- drawing

  // The images decoded at the middles of equal cells of the chart, as one.
  function decodeSheet({ chart, decoder }) {
    const [h, w] = data.image;
    const [rows, cols] = [SHEET_ROWS, SHEET_ROWS * chart.aspect];
    const sheet = { shape: [rows * h, cols * w], pixels: new Float32Array(rows * h * cols * w) };
    for (let cell = 0; cell < rows * cols; cell++) {
      const [row, col] = [Math.floor(cell / cols), cell % cols];
      const middle = chart.code([(col + 0.5) / cols, (row + 0.5) / rows]);
      const pixels = decoder.run(chart.embed(middle));
      for (let y = 0; y < h; y++) {
        const corner = (row * h + y) * cols * w + col * w;
        sheet.pixels.set(pixels.subarray(y * w, (y + 1) * w), corner);
      }
    }
    return sheet;
  }

  function drawSheet(context, wide, high) {
    map.sheet ??= decodeSheet(map); // once, when it is first asked for
    tools.image(context, map.sheet.pixels, map.sheet.shape, 0, 0, wide, high);
  }

  function drawSamples(context, wide, high) {
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    map.codes.forEach((code, i) => {
      const [x, y] = map.chart.place(code);
      const color = tools.classColor(data.classes.indexOf(data.labels[i]));
      context.fillStyle = tools.blend(color, tools.colors.ink, 0.25);
      context.fillText(data.labels[i], x * wide, y * high);
    });
  }

  function drawChart(context, wide, high) {
    context.fillStyle = tools.colors.paper;
    context.fillRect(0, 0, wide, high);
    (background === "sheet" ? drawSheet : drawSamples)(context, wide, high);
    const turns = Array.from({ length: 97 }, (_, i) => (TURN * i) / 96);
    const around = turns.map((t) => map.chart.place(map.chart.around(z, map.chart.radius, t)));
    for (const [line, color] of [[5, tools.colors.paper], [2, tools.colors.mark]]) {
      context.lineWidth = line; // a light edge, to be seen on any background
      context.strokeStyle = color;
      drawPath(context, around, wide, high);
      for (const i of nearest) {
        const [x, y] = map.chart.place(map.codes[i]);
        context.strokeRect(x * wide - 6, y * high - 6, 12, 12);
      }
      context.beginPath();
      context.arc(place[0] * wide, place[1] * high, 4, 0, TURN);
      context.stroke();
    }
    context.fillStyle = tools.colors.mark;
    context.fill();
  }

  const frame = (context, wide, high) => {
    context.strokeStyle = tools.colors.line;
    context.strokeRect(0.5, 0.5, wide - 1, high - 1);
  };

  // ---------------------------------------------------------------- the elements

  const pad = tools.pad({
    label: "Place in the latent space",
    help: "Drag the point, or use the arrow keys (with Shift: larger steps).",
    width: 460,
    unbounded: true,
    draw: drawChart,
    move: (x, y) => go([x, y]),
    nudge: (dx, dy) => go([place[0] + dx / (100 * map.chart.aspect), place[1] + dy / 100]),
  });
  const image = tools.canvas({
    label: "Decoded image",
    width: 196,
    aspect: data.image[1] / data.image[0],
    class: "decoded",
    draw: (context, wide, high) => {
      tools.image(context, decoded, data.image, 0, 0, wide, high);
      frame(context, wide, high);
    },
  });
  const strip = tools.canvas({
    label: "Nearest images of the data",
    width: 56 * data.nearest,
    aspect: (data.nearest * data.image[1]) / data.image[0],
    draw: (context, wide, high) => {
      nearest.forEach((i, at) => {
        const w = wide / data.nearest;
        tools.image(context, sample(i), data.image, at * w, 0, w, high);
      });
      frame(context, wide, high);
    },
  });
  const where = make("p", { class: "where" });
  const classes = make("p", { class: "nearest" });
  const controls = make("div", { class: "row" });
  if (maps.length > 1) {
    const names = maps.map(({ name }) => name);
    controls.append(tools.select({ label: "space", options: names, change: choose }));
  }
  controls.append(
    tools.select({
      label: "chart shows",
      options: BACKGROUNDS,
      change: (value) => {
        background = value;
        pad.redraw();
      },
    }),
  );
  root.append(
    controls,
    make(
      "div",
      { class: "row" },
      make("div", { class: "column" }, pad.element, pad.help),
      make("div", { class: "column" }, where, image.element, classes, strip.element),
    ),
  );
  choose(maps[0].name);
};
