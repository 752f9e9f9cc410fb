// Two rows of thumbnails, one chosen in each: radio buttons, so the arrow keys work.
// Given by gr.HTML: element, props (setup, value), watch. The value is documented in pair.py.
const setup = props.setup;
element.innerHTML = `<section class="ddpm-pair">${setup.sides.map((side, s) => `
  <fieldset data-side="${s}"><legend>${side} <b></b></legend><div class="pr-row"></div></fieldset>`
).join("")}</section>`;

const sides = [...element.querySelectorAll("fieldset")];

function tile(side, item, chosen) {
  const label = document.createElement("label");
  label.title = item.name;
  const input = document.createElement("input");
  input.type = "radio";
  input.name = `${setup.id}-${side}`;
  input.value = item.index;
  input.checked = item.index === chosen;
  input.setAttribute("aria-label", item.name);
  input.addEventListener("change", () => choose(side, item));
  const image = document.createElement("img");
  image.src = item.src;
  image.alt = "";
  label.append(input, image);
  return label;
}

function choose(side, item) {
  const pair = [...props.value.pair];
  pair[side] = item.index;
  sides[side].querySelector("legend b").textContent = item.name;
  props.value = { ...props.value, pair };
}

function draw() {
  const { pair, extra } = props.value;
  sides.forEach((node, side) => {
    const items = [...setup.items];
    const own = extra?.[side];
    if (own && !items.some((item) => item.index === own.index)) items.push(own);
    const drawn = items.map((item) => item.index).join();
    const row = node.querySelector(".pr-row");
    if (row.dataset.drawn !== drawn) {
      row.replaceChildren(...items.map((item) => tile(side, item, pair[side])));
      row.dataset.drawn = drawn;
    }
    for (const input of row.querySelectorAll("input")) {
      input.checked = Number(input.value) === pair[side];
    }
    const name = items.find((item) => item.index === pair[side])?.name || "";
    node.querySelector("legend b").textContent = name;
  });
}

watch("value", draw);
draw();
