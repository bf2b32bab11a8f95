// Precomputed pictures over one or two sliders.
//
// data.sliders: a list of {name, values, start}: the slider's label, the texts of its values and
//   the number of the first one shown.
// data.pictures: addresses of the pictures, those of the last slider next to each other.
// data.width: the width of a picture in the page, in pixels.
// data.pixelated: whether pixels are to stay visible when enlarged.

somlib.programs["frames"] = (root, data, tools) => {
  const { make, slider, alt } = tools;
  const places = data.sliders.map(({ start }) => start);
  const picture = make("img");
  picture.style.maxWidth = `${data.width}px`;
  picture.style.imageRendering = data.pixelated ? "pixelated" : "auto";

  const show = () => {
    const place = places.reduce((at, i, which) => at * data.sliders[which].values.length + i, 0);
    const state = data.sliders.map(({ name, values }, which) => `${name} ${values[places[which]]}`);
    picture.src = data.pictures[place];
    picture.alt = `${alt} Shown: ${state.join(", ")}.`;
  };

  const controls = data.sliders.map(({ name, values }, which) =>
    slider({
      label: name,
      values: values.map((_, i) => i),
      value: places[which],
      format: (i) => values[i],
      change: (i) => {
        places[which] = i;
        show();
      },
    }),
  );
  root.append(make("div", { class: "row" }, ...controls.map(({ element }) => element)), picture);
  show();
};
