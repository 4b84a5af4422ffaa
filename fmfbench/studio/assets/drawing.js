// Small pieces that several canvases draw with.

/** The value of a custom property of the page's style, so that canvases follow the theme. */
export function colour(name) {
  if (!known.has(name)) {
    known.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return known.get(name);
}
const known = new Map();

/** After the theme has changed. */
export const forgetColours = () => known.clear();

/** Half-open runs of equal values that `wanted` takes: [[start, stop], ...]. */
export function runs(values, wanted) {
  const found = [];
  let start = -1;
  for (let i = 0; i <= values.length; i++) {
    const on = i < values.length && wanted(values[i], i);
    if (on && start < 0) start = i;
    if (!on && start >= 0) {
      found.push([start, i]);
      start = -1;
    }
  }
  return found;
}

/** The first place in ascending values whose value is at least `value`. */
export function lowerBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Trace the border between marked and other pixels of a mask along the pixels' edges. */
export function tracePixels(context, mask, width, height, scale) {
  const at = (r, c) => r >= 0 && c >= 0 && r < height && c < width && mask[r * width + c] === 1;
  context.beginPath();
  for (let r = 0; r <= height; r++) {
    for (let c = 0; c <= width; c++) {
      if (at(r, c) !== at(r - 1, c)) {
        context.moveTo(c * scale, r * scale);
        context.lineTo((c + 1) * scale, r * scale);
      }
      if (at(r, c) !== at(r, c - 1)) {
        context.moveTo(c * scale, r * scale);
        context.lineTo(c * scale, (r + 1) * scale);
      }
    }
  }
  context.stroke();
}

/** Fill marked pixels. */
export function fillPixels(context, mask, width, height, scale) {
  for (let r = 0; r < height; r++) {
    for (let c = 0; c < width; ) {
      if (mask[r * width + c] !== 1) {
        c++;
        continue;
      }
      const from = c;
      while (c < width && mask[r * width + c] === 1) c++;
      context.fillRect(from * scale, r * scale, (c - from) * scale, scale);
    }
  }
}

export const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null)); // strings become text, never markup
  return made;
};
