// Two paths between two units of a map, decoded: the straight line in the latent space, and along
// the map from prototype to prototype.
//
// data.decoder: a network.
// data.prototypes: codes, (units, dimensions).
// data.grid, data.image_shape: [rows, cols].
// data.ends: the first and the last unit of the paths, until the reader moves them.

somlib.programs["walk"] = (root, data, tools) => {
  const { make, slider, button } = tools;
  const IMAGES = 9; // of a strip
  const [rows, cols] = data.grid;
  const prototypes = tools.rowsOf(data.prototypes);
  const ends = [...data.ends];
  let moving = 1; // the end that the reader moves
  let t = 0.5; // the place on both paths

  const place = (unit) => [Math.floor(unit / cols), unit % cols];
  const between = (a, b, s) => Array.from(a, (value, i) => value + s * (b[i] - value));
  const distance = (a, b) => Math.hypot(...Array.from(a, (value, i) => value - b[i]));
  const named = (unit) => `unit (${place(unit).join(", ")})`;

  // ---------------------------------------------------------------- paths

  // The units along a line on the map: one for each row, or for each column if it crosses more.
  function unitsOfPath() {
    const [from, to] = ends.map(place);
    const steps = Math.max(...from.map((value, i) => Math.abs(to[i] - value)), 1);
    return Array.from({ length: steps + 1 }, (_, i) => {
      const [row, col] = between(from, to, i / steps).map(Math.round);
      return row * cols + col;
    });
  }

  function alongTheMap(s) {
    const units = unitsOfPath();
    const [i, rest] = segment(units, s);
    return between(prototypes[units[i]], prototypes[units[i + 1]], rest);
  }

  // The number of the segment of a broken line that holds the place s, and the place on it.
  function segment(points, s) {
    const i = Math.min(Math.floor(s * (points.length - 1)), points.length - 2);
    return [i, s * (points.length - 1) - i];
  }

  const straight = (s) => between(...ends.map((unit) => prototypes[unit]), s);

  function nearest(z) {
    const distances = prototypes.map((prototype) => distance(z, prototype));
    const least = Math.min(...distances);
    return { unit: distances.indexOf(least), distance: least / unitLength };
  }

  // The mean distance of prototypes that are neighbors on the map.
  const unitLength = (() => {
    const lengths = prototypes.flatMap((prototype, unit) => [
      ...((unit + 1) % cols ? [distance(prototype, prototypes[unit + 1])] : []),
      ...(unit + cols < prototypes.length ? [distance(prototype, prototypes[unit + cols])] : []),
    ]);
    return lengths.reduce((sum, length) => sum + length, 0) / lengths.length;
  })();

  // ---------------------------------------------------------------- the map

  const center = ([x, y, width, height]) => [x + width / 2, y + height / 2];

  function line(context, points, color, width) {
    context.beginPath();
    for (const point of points) context.lineTo(...point);
    Object.assign(context, { strokeStyle: color, lineWidth: width });
    context.stroke();
  }

  function disk(context, [x, y], radius, color, text = "") {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = color;
    context.fill();
    context.fillStyle = tools.colors.paper;
    context.font = `bold ${radius * 1.4}px system-ui, sans-serif`;
    Object.assign(context, { textAlign: "center", textBaseline: "middle" });
    context.fillText(text, x, y + 1);
  }

  function mark(context, cell) {
    const { accent, mark, paper } = tools.colors;
    const points = unitsOfPath().map((unit) => center(cell(unit)));
    line(context, points, paper, 5);
    line(context, points, accent, 2.5);
    const [i, rest] = segment(points, t);
    disk(context, between(points[i], points[i + 1], rest), 5, accent);
    ends.forEach((unit, which) => disk(context, center(cell(unit)), 9, accent, "AB"[which]));
    const [x, y, width, height] = cell(nearest(straight(t)).unit);
    Object.assign(context, { strokeStyle: mark, lineWidth: 3 });
    context.strokeRect(x + 1.5, y + 1.5, width - 3, height - 3);
  }

  const map = tools.sheet({
    label: "Map of decoded prototypes with both ends of the paths",
    help: "Click or drag on the map, or use the arrow keys, to move the chosen end.",
    images: prototypes.map(data.decoder.run),
    shape: data.image_shape,
    columns: cols,
    picked: () => ends[moving],
    pick(unit) {
      ends[moving] = unit;
      show();
    },
    mark,
  });

  // ---------------------------------------------------------------- decoded images

  const kinds = [
    { name: "straight", path: straight, color: () => tools.colors.mark },
    { name: "along the map", path: alongTheMap, color: () => tools.colors.accent },
  ];

  function drawImages(context, width) {
    const [h, w] = data.image_shape;
    const text = width / 18;
    const big = (width - text) / 2;
    const small = width / IMAGES;
    const decode = (z, x, y, side) =>
      tools.image(context, data.decoder.run(z), [h, w], x, y, side, (side * h) / w);
    context.font = `${Math.min(text * 0.85, 14)}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    kinds.forEach(({ name, path, color }, which) => {
      const x = which * (big + text);
      const y = text + (big * h) / w + which * (text + (small * h) / w);
      context.fillStyle = tools.colors.ink;
      context.fillText(name, x, text / 2);
      context.fillText(name, 0, y + text / 2);
      decode(path(t), x, text, big);
      for (let i = 0; i < IMAGES; i++) decode(path(i / (IMAGES - 1)), i * small, y + text, small);
      Object.assign(context, { strokeStyle: color(), lineWidth: 3 });
      context.strokeRect(x + 1.5, text + 1.5, big - 3, (big * h) / w - 3);
      context.strokeRect(t * (width - small) + 1.5, y + text + 1.5, small - 3, (small * h) / w - 3);
    });
  }

  const [h, w] = data.image_shape;
  const canvas = tools.canvas({
    label: "Decoded images of both paths",
    width: 420,
    // of the height: three lines of text, one large image and two strips
    aspect: 1 / (3 / 18 + ((17 / 36 + 2 / IMAGES) * h) / w),
    draw: drawImages,
  });

  // ---------------------------------------------------------------- controls

  const buttons = ["Move A", "Move B"].map((label, which) =>
    button({
      label,
      click() {
        moving = which;
        show();
      },
    }),
  );
  const position = slider({
    label: "from A to B",
    max: 1,
    step: 0.01,
    value: t,
    format: (value) => value.toFixed(2),
    change(value) {
      t = value;
      show();
    },
  });
  const chosen = make("div", { class: "row" }, ...buttons);
  const told = make("p", { class: "note" });

  function show() {
    buttons.forEach((each, which) => each.setAttribute("aria-pressed", which === moving));
    const texts = kinds.map(({ name, path }) => {
      const found = nearest(path(t));
      return `${name} ${found.distance.toFixed(2)}, to ${named(found.unit)}`;
    });
    told.textContent =
      `A is ${named(ends[0])}, B is ${named(ends[1])}. Distance to the nearest prototype, as a ` +
      `multiple of the mean distance of neighbors on the map: ${texts.join("; ")}.`;
    tools.say(told.textContent);
    map.redraw();
    canvas.redraw();
  }

  root.append(
    make(
      "div",
      { class: "row" },
      make("div", { class: "column" }, chosen, map.element, map.help),
      make("div", { class: "column" }, position.element, canvas.element, told),
    ),
  );
  show();
};
