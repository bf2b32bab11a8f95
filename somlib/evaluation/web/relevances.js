// A node's center with some of its dimensions switched off, decoded.
//
// data.decoder: a network.
// data.centers, data.relevances: (nodes, dimensions).
// data.mean: the mean code of the training images, (dimensions).
// data.classes: the name of each node's class.
// data.image_shape: [rows, cols].
// data.start: the node shown first.

somlib.programs["relevances"] = (root, data, tools) => {
  const { make, button, select } = tools;
  const EPSILON = 1e-7; // of equation 1
  const [h, w] = data.image_shape;
  const centers = tools.rowsOf(data.centers);
  const relevances = tools.rowsOf(data.relevances);
  const dimensions = centers[0].length;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const uniform = tools.random(0);
  let node = data.start;
  let replacement = "mean code";
  let off = new Set();

  // ---------------------------------------------------------------- the code

  // Dimensions of the node, the least relevant first.
  function order() {
    const omega = relevances[node];
    return [...omega.keys()].sort((a, b) => omega[a] - omega[b]);
  }

  const changed = () =>
    centers[node].map((value, i) => {
      if (!off.has(i)) return value;
      return replacement === "0" ? 0 : data.mean.data[i];
    });

  // Equation 1, with the distance of equation 2.
  function activation(z, j) {
    const total = sum(relevances[j]);
    const D = sum(relevances[j].map((omega, i) => omega * (z[i] - centers[j][i]) ** 2));
    return total / (total + D + EPSILON);
  }

  function winner(z) {
    const activations = centers.map((_, j) => activation(z, j));
    return activations.indexOf(Math.max(...activations));
  }

  // ---------------------------------------------------------------- pictures

  const nodes = tools.sheet({
    label: "Decoded centers of all nodes",
    help: "Click on a center, or use the arrow keys, to choose it.",
    images: centers.map(data.decoder.run),
    shape: data.image_shape,
    columns: Math.ceil(Math.sqrt(centers.length * 1.2)),
    picked: () => node,
    pick(number) {
      node = number;
      off = new Set();
      show();
    },
    mark(context, cell) {
      const [x, y, width, height] = cell(node);
      Object.assign(context, { strokeStyle: tools.colors.mark, lineWidth: 3 });
      context.strokeRect(x + 1.5, y + 1.5, width - 3, height - 3);
    },
  });

  const images = tools.canvas({
    label: "The decoded center, complete and with dimensions off",
    width: 420,
    aspect: 1 / (1 / 18 + ((17 / 36) * h) / w),
    draw(context, width) {
      const text = width / 18;
      const side = (width - text) / 2;
      context.font = `${Math.min(text * 0.85, 14)}px system-ui, sans-serif`;
      context.textBaseline = "middle";
      const titles = ["all dimensions on", `${off.size} of ${dimensions} off`];
      [centers[node], changed()].forEach((z, which) => {
        const x = which * (side + text);
        context.fillStyle = tools.colors.ink;
        context.fillText(titles[which], x, text / 2);
        tools.image(context, data.decoder.run(z), [h, w], x, text, side, (side * h) / w);
        Object.assign(context, { strokeStyle: tools.colors.line, lineWidth: 1 });
        context.strokeRect(x + 0.5, text + 0.5, side - 1, (side * h) / w - 1);
      });
    },
  });

  // ---------------------------------------------------------------- controls

  // A button per dimension: its relevance as a bar, its number below.
  const bars = make("div", { class: "row" });
  Object.assign(bars.style, { gap: "4px", marginTop: "0.5rem" });

  function bar(i) {
    const omega = relevances[node][i];
    const box = make("span");
    const fill = make("span");
    const color = off.has(i) ? "transparent" : "var(--accent)";
    Object.assign(box.style, { display: "flex", alignItems: "flex-end", height: "48px" });
    Object.assign(fill.style, {
      boxSizing: "border-box",
      width: "100%",
      height: `${Math.max(100 * omega, 3)}%`,
      border: `1px ${off.has(i) ? "dashed" : "solid"} var(--${off.has(i) ? "muted" : "accent"})`,
      background: color,
    });
    box.append(fill);
    const element = button({
      label: box,
      click() {
        if (!off.delete(i)) off.add(i);
        show(i);
      },
    });
    element.append(String(i + 1));
    element.setAttribute("aria-pressed", !off.has(i));
    element.setAttribute("aria-label", `dimension ${i + 1}, relevance ${omega.toFixed(2)}`);
    element.title = `relevance ${omega.toFixed(2)}`;
    Object.assign(element.style, { minWidth: "30px", padding: "2px" });
    Object.assign(element.style, { background: "none", color: "var(--ink)" });
    return element;
  }

  const switchOff = (label, chosen) =>
    button({
      label,
      click() {
        const on = order().filter((i) => !off.has(i));
        if (on.length) off.add(chosen(on));
        show();
      },
    });

  const controls = make(
    "div",
    { class: "row" },
    switchOff("off: least relevant", (on) => on[0]),
    switchOff("off: most relevant", (on) => on.at(-1)),
    switchOff("off: one at random", (on) => on[Math.floor(uniform() * on.length)]),
    button({
      label: "all on",
      click() {
        off = new Set();
        show();
      },
    }),
    select({
      label: "replace by",
      options: ["mean code", "0"],
      value: replacement,
      change(value) {
        replacement = value;
        show();
      },
    }),
  );
  const told = make("p", { class: "note" });

  // Show all; a bar that was just switched keeps the focus.
  function show(focused) {
    const z = changed();
    const won = winner(z);
    told.textContent =
      `Node ${node + 1}, of class ${data.classes[node]}; ${off.size} of ${dimensions} dimensions ` +
      `replaced by ${replacement === "0" ? "0" : "those of the mean code"}. Its activation is ` +
      `${activation(z, node).toFixed(3)}; the most active node is ` +
      (won === node ? "still the same." : `node ${won + 1}, of class ${data.classes[won]}.`);
    tools.say(told.textContent);
    const sorted = order().reverse();
    bars.replaceChildren(...sorted.map(bar));
    if (focused !== undefined) bars.children[sorted.indexOf(focused)].focus();
    nodes.redraw();
    images.redraw();
  }

  root.append(
    make(
      "div",
      { class: "row" },
      make("div", { class: "column" }, nodes.element, nodes.help),
      make(
        "div",
        { class: "column" },
        images.element,
        make("p", { class: "help" }, "Dimensions, sorted by relevance. Press one to switch it:"),
        bars,
      ),
    ),
    controls,
    told,
  );
  show();
};
