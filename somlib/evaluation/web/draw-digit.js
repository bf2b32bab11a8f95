// A drawn digit, its posterior in the latent plane of a VAE, and its reconstruction.
//
// data.encoder, data.decoder: networks; the encoder gives two means and two log-variances.
// data.codes, data.labels: means of the posteriors of test images, (n, 2), and their classes, (n).
// data.examples: test images to begin with, (m, rows * cols).
// data.image_shape: [rows, cols].

somlib.programs["draw-digit"] = (root, data, tools) => {
  const { make, button } = tools;
  const [h, w] = data.image_shape;
  const BOX = (20 / 28) * h; // side of the box that holds the ink, in pixels
  const PEN = (1.2 / 28) * h; // half the width of a stroke
  const SAMPLES = 4; // of the posterior
  const LEGEND =
    "Digits: codes of test images. Dashed: one and two standard deviations of the prior. Cross " +
    "and ellipses: mean, and one and two standard deviations of the posterior.";
  const codes = tools.rowsOf(data.codes);
  const examples = tools.rowsOf(data.examples);
  let strokes = []; // each a list of points in [0, 1]²
  let image = examples[0]; // what the encoder gets; nothing before the first stroke
  let example = 0;
  const pen = { at: [0.5, 0.5], down: false }; // moved by keys

  // ---------------------------------------------------------------- from strokes to an image

  // Pairs of points that follow each other; a stroke of one point is a dot.
  const segments = (lines) =>
    lines.flatMap((points) => points.map((point, i) => [points[Math.max(i - 1, 0)], point]));

  function distance([x, y], [[x0, y0], [x1, y1]]) {
    const [dx, dy] = [x1 - x0, y1 - y0];
    const along = dx || dy ? ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy) : 0;
    const t = Math.min(Math.max(along, 0), 1);
    return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
  }

  // Ink of each pixel from 0 to 1, with edges one pixel wide.
  function rasterize(lines) {
    const ink = new Float32Array(h * w);
    const reach = PEN + 0.5;
    for (const piece of segments(lines)) {
      const range = (axis, size) => {
        const places = piece.map((point) => point[axis]);
        const [first, last] = [Math.min(...places) - reach, Math.max(...places) + reach];
        return [Math.max(Math.floor(first), 0), Math.min(Math.ceil(last), size)];
      };
      const [left, right] = range(0, w);
      const [top, bottom] = range(1, h);
      for (let y = top; y < bottom; y++) {
        for (let x = left; x < right; x++) {
          const here = Math.min(reach - distance([x + 0.5, y + 0.5], piece), 1);
          ink[y * w + x] = Math.max(ink[y * w + x], here);
        }
      }
    }
    return ink;
  }

  const moved = (lines, scale, [dx, dy]) =>
    lines.map((points) => points.map(([x, y]) => [scale * x + dx, scale * y + dy]));

  // As MNIST's images are made: the ink fits the box, its center of mass is in the middle.
  function normalized() {
    const points = strokes.flat();
    const [left, top] = [0, 1].map((i) => Math.min(...points.map((point) => point[i])));
    const [right, bottom] = [0, 1].map((i) => Math.max(...points.map((point) => point[i])));
    const scale = (BOX - 2 * PEN) / Math.max(right - left, bottom - top, 0.1);
    const middle = [w / 2 - (scale * (left + right)) / 2, h / 2 - (scale * (top + bottom)) / 2];
    const fitted = moved(strokes, scale, middle);
    const mass = [0, 0, 0];
    rasterize(fitted).forEach((ink, i) => {
      mass[0] += ink;
      mass[1] += ink * ((i % w) + 0.5);
      mass[2] += ink * (Math.floor(i / w) + 0.5);
    });
    return rasterize(moved(fitted, 1, [w / 2 - mass[1] / mass[0], h / 2 - mass[2] / mass[0]]));
  }

  // ---------------------------------------------------------------- the model

  function posterior() {
    const out = data.encoder.run(image);
    return { mean: [out[0], out[1]], sd: [Math.exp(out[2] / 2), Math.exp(out[3] / 2)] };
  }

  // The same random numbers for each image, so that only the image changes the samples.
  function sampled({ mean, sd }) {
    const random = tools.random(1);
    const one = () => mean.map((value, i) => value + sd[i] * random.normal());
    return Array.from({ length: SAMPLES }, one);
  }

  // Classes of the ten nearest test codes with their numbers, the most frequent first.
  function neighbors([x, y]) {
    const near = codes
      .map(([u, v], i) => [Math.hypot(u - x, v - y), data.labels.data[i]])
      .sort((a, b) => a[0] - b[0])
      .slice(0, 10);
    const votes = new Map();
    for (const [, label] of near) votes.set(label, (votes.get(label) ?? 0) + 1);
    return [...votes].sort((a, b) => b[1] - a[1]);
  }

  // ---------------------------------------------------------------- drawing

  function add(point) {
    pen.at = point;
    strokes.at(-1).push(point);
    image = normalized();
    show();
  }

  function begin() {
    strokes.push([]);
  }

  function clear() {
    strokes = [];
    image = undefined;
    pen.down = false;
    show();
  }

  const pad = tools.pad({
    label: "Paper to draw a digit on",
    "aria-roledescription": "drawing area",
    help:
      "Draw with mouse or finger. By keyboard: arrow keys move the pen, Space lowers and lifts " +
      "it, Delete clears the paper.",
    width: 300,
    draw(context, width, height) {
      if (image && !strokes.length) tools.image(context, image, [h, w], 0, 0, width, height);
      Object.assign(context, { strokeStyle: tools.colors.ink, lineWidth: width / 14 });
      Object.assign(context, { lineCap: "round", lineJoin: "round" });
      for (const stroke of strokes) {
        context.beginPath();
        for (const [x, y] of [stroke[0], ...stroke]) context.lineTo(x * width, y * height);
        context.stroke();
      }
      if (pad.element.matches(":focus-visible")) drawPen(context, width, height);
    },
    move(x, y) {
      add([x, y]);
    },
    nudge(dx, dy) {
      const next = pen.at.map((value, i) => Math.min(Math.max(value + [dx, dy][i] / 25, 0), 1));
      if (pen.down) add(next);
      else pen.at = next;
      pad.redraw();
    },
  });

  // A ring where the keys have moved the pen, filled while it is down.
  function drawPen(context, width, height) {
    context.beginPath();
    context.arc(pen.at[0] * width, pen.at[1] * height, width / 28, 0, 2 * Math.PI);
    const { mark } = tools.colors;
    Object.assign(context, { strokeStyle: mark, fillStyle: mark, lineWidth: 2 });
    context.stroke();
    if (pen.down) context.fill();
  }

  // In the capture phase, before the first call of `move`.
  pad.element.addEventListener("pointerdown", begin, true);
  for (const event of ["focus", "blur"]) pad.element.addEventListener(event, pad.redraw);
  pad.element.addEventListener("keydown", (event) => {
    if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) {
        begin();
        add(pen.at);
      }
      pad.redraw();
    } else if (["Delete", "Backspace"].includes(event.key)) clear();
    else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- pictures

  const pictures = tools.canvas({
    label: "Input of the encoder, its reconstruction, and decoded samples of the posterior",
    width: 300,
    aspect: 1 / (((1 / 2 + 1 / SAMPLES) * h) / w + 2 / 14),
    draw(context, width) {
      const text = width / 14;
      const [side, small] = [width / 2, width / SAMPLES];
      context.font = `${Math.min(text * 0.75, 14)}px system-ui, sans-serif`;
      context.textBaseline = "middle";
      context.fillStyle = tools.colors.ink;
      context.fillText("input", 0, text / 2);
      context.fillText("reconstruction", side, text / 2);
      const below = text + (side * h) / w;
      context.fillText("decoded samples of the posterior", 0, below + text / 2);
      if (!image) return;
      const put = (pixels, x, y, size) =>
        tools.image(context, pixels, [h, w], x, y, size - 2, ((size - 2) * h) / w);
      const q = posterior();
      put(image, 0, text, side);
      put(data.decoder.run(q.mean), side, text, side);
      sampled(q).forEach((z, i) => put(data.decoder.run(z), i * small, below + text, small));
    },
  });

  const plane = tools.canvas({
    label: "Latent plane with the codes of test images and the posterior of the drawn digit",
    width: 360,
    draw(context, width) {
      const q = image ? posterior() : { mean: [0, 0], sd: [0, 0] };
      const furthest = Math.max(...codes.flatMap((code) => [...code].map(Math.abs)));
      const limit = 1.05 * Math.max(furthest, ...q.mean.map(Math.abs));
      const scale = width / 2 / limit;
      const at = ([x, y]) => [width / 2 + x * scale, width / 2 - y * scale];
      const ellipse = (center, radii, color) => {
        context.beginPath();
        context.ellipse(...at(center), ...radii.map((radius) => radius * scale), 0, 0, 2 * Math.PI);
        context.strokeStyle = color;
        context.stroke();
      };
      drawCodes(context, at);
      context.setLineDash([4, 4]);
      for (const radius of [1, 2]) ellipse([0, 0], [radius, radius], tools.colors.line);
      context.setLineDash([]);
      if (!image) return;
      const { mark } = tools.colors;
      context.lineWidth = 2;
      for (const times of [1, 2]) ellipse(q.mean, q.sd.map((sd) => times * sd), mark);
      const [x, y] = at(q.mean);
      for (const [dx, dy] of [[12, 0], [0, 12]]) {
        context.beginPath();
        context.moveTo(x - dx, y - dy);
        context.lineTo(x + dx, y + dy);
        context.stroke();
      }
    },
  });

  function drawCodes(context, at) {
    Object.assign(context, { font: "10px system-ui, sans-serif", textBaseline: "middle" });
    context.textAlign = "center";
    codes.forEach((code, i) => {
      const color = tools.classColor(data.labels.data[i]);
      context.fillStyle = tools.blend(color, tools.colors.ink, 0.4); // readable on paper
      context.fillText(data.labels.data[i], ...at(code));
    });
  }

  // ---------------------------------------------------------------- controls

  const controls = make(
    "div",
    { class: "row" },
    button({ label: "clear", click: clear }),
    button({
      label: "another test image",
      click() {
        example = (example + 1) % examples.length;
        strokes = [];
        image = examples[example];
        show();
      },
    }),
  );
  const told = make("p", { class: "note" });

  function describe() {
    if (!image) return "The paper is empty: draw a digit.";
    const { mean, sd } = posterior();
    const votes = neighbors(mean).map(([label, count]) => `${count} of class ${label}`);
    const text = (pair) => pair.map((value) => value.toFixed(2).replace("-", "−")).join(", ");
    return `μ = (${text(mean)}), σ = (${text(sd)}). Nearest test images: ${votes.join(", ")}.`;
  }

  function show() {
    told.textContent = describe();
    tools.say(told.textContent);
    for (const each of [pad, pictures, plane]) each.redraw();
  }

  root.append(
    make(
      "div",
      { class: "row" },
      make("div", { class: "column" }, pad.element, pad.help, controls),
      make("div", { class: "column" }, pictures.element),
      make("div", { class: "column" }, plane.element, make("p", { class: "help" }, LEGEND), told),
    ),
  );
  show();
};
