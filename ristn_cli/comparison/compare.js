"use strict";
// The page of `ristn compare`. Sizes in CSS pixels unless said otherwise; pictures are on the common grid, that of the
// largest source, before anything is shown, so that left and right are compared pixel by pixel.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const stage = $("stage"), view = $("view"), divider = $("divider");
const context = view.getContext("2d", { alpha: false });
const W = data.width, H = data.height;
// Width of the picture on the screen, in pixels as high as wide.
const A = W * (data.aspect ?? 1);
const gains = [1, 2, 4, 8, 16];
// Pixels of decoded pictures that are kept at a time: some 160 MB.
const KEPT_PIXELS = 40e6;

const state = {
  left: data.left ?? 0, right: data.right ?? 1, frame: 0, view: "slider", scaling: data.scaling, gain: 4,
  divide: 0.5, // position of the divider in the visible part of the picture
  zoom: null, // CSS pixels a picture pixel; null fits the window
  x: A / 2, y: H / 2, // the picture's point in the middle of a pane
};
let shown = null; // { left, right } canvases on the common grid
let difference = null; // { left, right, gain, canvas, psnr }
let timer = null;

// ---- pictures -------------------------------------------------------------------------------------------------------

const pictures = new Map(); // key -> promise of a canvas, the least recently used first

function picture(source, frame) {
  const slot = data.frames[frame].images[source], scaling = data.sources[source].scaling ?? state.scaling;
  const key = `${source} ${slot} ${scaling}`;
  const found = pictures.get(key) ?? decode(data.sources[source].images[slot], scaling);
  pictures.delete(key);
  pictures.set(key, found);
  const most = Math.max(4, Math.floor(KEPT_PIXELS / (W * H)));
  for (const old of pictures.keys()) {
    if (pictures.size <= most) break;
    pictures.delete(old);
  }
  return found;
}

async function decode(address, scaling) {
  const image = new Image();
  image.src = address;
  await image.decode();
  const own = canvasOf(image.naturalWidth, image.naturalHeight);
  own.getContext("2d").drawImage(image, 0, 0);
  if (own.width === W && own.height === H) return own;
  const full = canvasOf(W, H), pen = full.getContext("2d");
  if (scaling === "nearest") {
    pen.imageSmoothingEnabled = false;
    pen.drawImage(own, 0, 0, W, H);
  } else {
    pen.putImageData(enlarge(own.getContext("2d").getImageData(0, 0, own.width, own.height)), 0, 0);
  }
  return full;
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

// Four taps of Keys' cubic (a = -1/2) for each position; those outside of the picture are left out.
function taps(from, to) {
  const index = new Int32Array(4 * to), weight = new Float32Array(4 * to);
  for (let k = 0; k < to; k++) {
    const center = ((k + 0.5) * from) / to - 0.5, first = Math.floor(center) - 1;
    let sum = 0;
    for (let t = 0; t < 4; t++) {
      const at = first + t, d = Math.abs(at - center);
      if (at < 0 || at >= from) continue;
      const w = d < 1 ? (1.5 * d - 2.5) * d * d + 1 : ((-0.5 * d + 2.5) * d - 4) * d + 2;
      index[4 * k + t] = at;
      weight[4 * k + t] = w;
      sum += w;
    }
    for (let t = 0; t < 4; t++) weight[4 * k + t] /= sum;
  }
  return { index, weight };
}

function enlarge(image) {
  const { width, height, data: from } = image;
  const across = taps(width, W), down = taps(height, H);
  const wide = new Float32Array(W * height * 3);
  for (let y = 0, o = 0; y < height; y++) {
    for (let x = 0; x < W; x++, o += 3) {
      for (let t = 4 * x; t < 4 * x + 4; t++) {
        const w = across.weight[t], i = 4 * (y * width + across.index[t]);
        wide[o] += w * from[i];
        wide[o + 1] += w * from[i + 1];
        wide[o + 2] += w * from[i + 2];
      }
    }
  }
  const result = new ImageData(W, H), to = result.data; // clamps and rounds
  for (let y = 0, o = 0; y < H; y++) {
    const [a, b, c, d] = down.weight.subarray(4 * y, 4 * y + 4);
    const [ra, rb, rc, rd] = down.index.subarray(4 * y, 4 * y + 4).map((row) => row * W * 3);
    for (let x = 0; x < 3 * W; x += 3, o += 4) {
      for (let k = 0; k < 3; k++) {
        to[o + k] = a * wide[ra + x + k] + b * wide[rb + x + k] + c * wide[rc + x + k] + d * wide[rd + x + k];
      }
      to[o + 3] = 255;
    }
  }
  return result;
}

// Through a canvas of its own, so that those which are drawn from stay where drawing is fast.
const scratch = canvasOf(W, H).getContext("2d", { willReadFrequently: true });

function readPixels(canvas) {
  scratch.drawImage(canvas, 0, 0);
  return scratch.getImageData(0, 0, W, H);
}

function subtract(left, right, gain) {
  const known = difference;
  if (known && known.left === left && known.right === right && known.gain === gain) return known;
  const a = readPixels(left).data, image = readPixels(right), b = image.data;
  let sum = 0;
  for (let i = 0; i < a.length; i += 4) {
    for (let k = i; k < i + 3; k++) {
      const d = a[k] - b[k];
      sum += d * d;
      b[k] = gain * Math.abs(d); // clamped
    }
  }
  const canvas = canvasOf(W, H);
  canvas.getContext("2d").putImageData(image, 0, 0);
  difference = { left, right, gain, canvas, psnr: 10 * Math.log10((255 * 255 * 3 * W * H) / sum) };
  return difference;
}

let wanted = 0;
async function update() {
  const turn = ++wanted;
  showControls();
  let pair;
  try {
    pair = await Promise.all([picture(state.left, state.frame), picture(state.right, state.frame)]);
  } catch {
    pictures.clear();
    $("measure").hidden = false;
    $("measure").value = "A picture cannot be decoded; memory may be short";
    return;
  }
  if (turn !== wanted) return; // something newer was asked for meanwhile
  shown = { left: pair[0], right: pair[1] };
  draw();
  document.documentElement.dataset.shown = turn;
  const next = (state.frame + 1) % data.frames.length;
  for (const side of [state.left, state.right]) picture(side, next).catch(() => pictures.clear());
}

// ---- geometry -------------------------------------------------------------------------------------------------------

// One above the other where that shows them clearly larger.
function isStacked() {
  const width = stage.clientWidth / A, height = stage.clientHeight / H;
  return state.view === "both" && Math.min(width, height / 2) > 1.2 * Math.min(width / 2, height);
}

function panes() {
  const width = stage.clientWidth, height = stage.clientHeight, gap = 2;
  if (state.view !== "both") return [{ x: 0, y: 0, width, height }];
  if (isStacked()) {
    const half = (height - gap) / 2;
    return [{ x: 0, y: 0, width, height: half }, { x: 0, y: half + gap, width, height: half }];
  }
  const half = (width - gap) / 2;
  return [{ x: 0, y: 0, width: half, height }, { x: half + gap, y: 0, width: half, height }];
}

const fitScale = () => Math.min(panes()[0].width / A, panes()[0].height / H);
const largestScale = () => Math.max(32, 4 * fitScale());
const scale = () => state.zoom ?? fitScale();

function clampView() {
  const fit = fitScale();
  if (state.zoom !== null) {
    state.zoom = Math.min(state.zoom, largestScale());
    if (state.zoom <= fit * 1.001) state.zoom = null;
  }
  const { width, height } = panes()[0], s = scale();
  const keep = (at, size, seen) => (seen >= size ? size / 2 : Math.min(Math.max(at, seen / 2), size - seen / 2));
  state.x = keep(state.x, A, width / s);
  state.y = keep(state.y, H, height / s);
}

function paneAt(x, y) {
  const all = panes();
  return all.find((p) => x < p.x + p.width && y < p.y + p.height) ?? all[all.length - 1];
}

// Zoom to a scale while the picture's point under (x, y) of the stage stays there.
function zoomTo(to, x, y) {
  const pane = paneAt(x, y), from = scale();
  to = Math.min(Math.max(to, fitScale()), largestScale());
  const dx = x - pane.x - pane.width / 2, dy = y - pane.y - pane.height / 2;
  state.x += dx / from - dx / to;
  state.y += dy / from - dy / to;
  state.zoom = to;
  draw();
}

function zoomBy(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  if (state.view === "both" && arguments.length === 1) {
    const pane = panes()[0];
    [x, y] = [pane.width / 2, pane.height / 2];
  }
  zoomTo(scale() * factor, x, y);
}

function pan(dx, dy) {
  state.x -= dx / scale();
  state.y -= dy / scale();
  draw();
}

function fit() {
  state.zoom = null;
  draw();
}

function toggleZoom(x, y) {
  if (state.zoom !== null) return fit();
  const exact = 1 / devicePixelRatio;
  zoomTo(exact > fitScale() * 1.2 ? exact : fitScale() * 4, x, y);
}

// Where the divider stands on the stage: a share of the part of the picture that is in sight.
function visibleSpan() {
  const middle = stage.clientWidth / 2, s = scale();
  const left = Math.max(0, middle - state.x * s), right = Math.min(stage.clientWidth, middle + (A - state.x) * s);
  return { left, width: Math.max(1, right - left) };
}

function divideAt(x) {
  const { left, width } = visibleSpan();
  setDivide((x - left) / width);
}

function setDivide(to) {
  state.divide = Math.min(1, Math.max(0, to));
  draw();
}

// ---- drawing --------------------------------------------------------------------------------------------------------

function draw() {
  if (!shown) return;
  clampView();
  const ratio = devicePixelRatio, width = Math.round(stage.clientWidth * ratio);
  const height = Math.round(stage.clientHeight * ratio);
  if (view.width !== width || view.height !== height) {
    view.width = width;
    view.height = height;
  }
  context.fillStyle = getComputedStyle(document.body).backgroundColor;
  context.fillRect(0, 0, width, height);
  const all = panes().map((p) => ({
    x: Math.round(p.x * ratio), y: Math.round(p.y * ratio),
    width: Math.round(p.width * ratio), height: Math.round(p.height * ratio),
  }));
  const { left, width: span } = visibleSpan(), at = left + state.divide * span;
  if (state.view === "slider") {
    const cut = Math.round(at * ratio);
    paint(shown.left, all[0], 0, cut);
    paint(shown.right, all[0], cut, width);
  } else if (state.view === "both") {
    paint(shown.left, all[0]);
    paint(shown.right, all[1]);
  } else {
    paint(subtract(shown.left, shown.right, state.gain).canvas, all[0]);
  }
  const middle = stage.clientHeight / 2, top = Math.max(0, middle - state.y * scale());
  divider.style.left = `${at}px`;
  divider.style.top = `${top}px`;
  divider.style.height = `${Math.min(stage.clientHeight, middle + (H - state.y) * scale()) - top}px`;
  divider.setAttribute("aria-valuenow", Math.round(100 * state.divide));
  showLevel();
}

// One picture into a pane (device pixels), no further left than `from` and no further right than `to`.
function paint(image, pane, from = pane.x, to = pane.x + pane.width) {
  if (to <= from) return;
  const s = scale() * devicePixelRatio;
  context.save();
  context.beginPath();
  context.rect(from, pane.y, to - from, pane.height);
  context.clip();
  // From twofold on pixels are shown as they are.
  context.imageSmoothingEnabled = s < 2;
  context.imageSmoothingQuality = "high";
  const x = Math.round(pane.x + pane.width / 2 - state.x * s), y = Math.round(pane.y + pane.height / 2 - state.y * s);
  context.drawImage(image, x, y, Math.round(A * s), Math.round(H * s));
  context.restore();
}

// ---- controls -------------------------------------------------------------------------------------------------------

const label = (index) => data.sources[index].label;

function showControls() {
  $("left").value = state.left;
  $("right").value = state.right;
  $("frame").value = state.frame;
  $("scaling").value = state.scaling;
  $("gain").value = state.gain;
  document.querySelector(`input[name=view][value=${state.view}]`).checked = true;
  const time = data.frames[state.frame].time, minutes = Math.floor(time / 60);
  const clock = data.isStill ? "" : `${minutes}:${(time - 60 * minutes).toFixed(3).padStart(6, "0")}`;
  $("position").value = `${state.frame + 1} / ${data.frames.length}  ${clock}`;
  $("frame").setAttribute("aria-valuetext", `${state.frame + 1} of ${data.frames.length}, ${clock}`);
  if ($("place")) $("place").value = data.frames[state.frame].place;
  $("gain-box").hidden = state.view !== "difference";
  $("swap").hidden = state.view === "difference"; // it has no sides
  divider.hidden = state.view !== "slider";
  stage.classList.toggle("stacked", isStacked());
  divider.setAttribute("aria-label", `Divider between ${label(state.left)} and ${label(state.right)}`);
  const what = { slider: "to the left and right of a divider", both: "side by side", difference: "their difference" };
  view.setAttribute("aria-label", `${label(state.left)} and ${label(state.right)}, ${what[state.view]}`);
}

function showLevel() {
  const percent = 100 * scale() * devicePixelRatio;
  $("level").textContent = state.zoom === null ? "Fit" : `${percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
  $("in").disabled = scale() >= largestScale() * 0.999;
  $("out").disabled = state.zoom === null;
  stage.classList.toggle("pannable", state.zoom !== null || state.view === "both");
  const measure = $("measure");
  measure.hidden = state.view !== "difference";
  if (state.view === "difference") {
    const { psnr } = subtract(shown.left, shown.right, state.gain);
    measure.value = Number.isFinite(psnr) ? `PSNR ${psnr.toFixed(2)} dB` : "no difference";
  }
}

function change(values) {
  Object.assign(state, values);
  update();
}

function choose(side, index) {
  const other = side === "left" ? "right" : "left";
  // Choosing what is on the other side swaps them: there is always something to compare.
  change(index === state[other] ? { [side]: index, [other]: state[side] } : { [side]: index });
}

const step = (by) => change({ frame: (state.frame + by + data.frames.length) % data.frames.length });
const swap = () => change({ left: state.right, right: state.left });

function setView(to) {
  change({ view: to });
}

function setGain(by) {
  const at = gains.indexOf(state.gain) + by;
  change({ gain: gains[Math.min(Math.max(at, 0), gains.length - 1)] });
}

function togglePlay() {
  if (data.frames.length < 2) return;
  const starts = timer === null;
  clearTimeout(timer);
  timer = null;
  $("play").setAttribute("aria-pressed", starts);
  $("position").setAttribute("aria-live", starts ? "off" : "polite"); // nobody listens to passing frames
  $("play").setAttribute("aria-label", starts ? "Stop" : "Play");
  $("play-icon").setAttribute("d", starts ? "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z" : "M7 5l12 7-12 7z");
  if (starts) playOn();
}

// Neighbouring frames in their own time, distant ones twice a second; never faster than they can be decoded.
function playOn() {
  const here = data.frames[state.frame].time, next = data.frames[state.frame + 1]?.time ?? here + 0.5;
  timer = setTimeout(async () => {
    Object.assign(state, { frame: (state.frame + 1) % data.frames.length });
    await update();
    if (timer !== null) playOn();
  }, 1000 * Math.min(Math.max(next - here, 0.02), 0.5));
}

// ---- pointer --------------------------------------------------------------------------------------------------------

const pointers = new Map();
let mode = null; // "divide" or "pan", of one pointer; two always pinch
let lastTap = { time: -1e9, x: 0, y: 0 };
let travelled = 0;

function place(event) {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}

stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest("select, label")) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  travelled = pointers.size > 1 ? 1e9 : 0;
  const onDivider = event.target.closest("#divider");
  mode = onDivider || (state.view === "slider" && state.zoom === null) ? "divide" : "pan";
  if (onDivider) divider.focus({ focusVisible: false });
  else document.activeElement?.blur();
  event.preventDefault();
});

stage.addEventListener("pointermove", (event) => {
  const from = pointers.get(event.pointerId);
  if (!from) return;
  const to = place(event);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, p]) => p);
    const spread = (p) => Math.max(1, Math.hypot(p.x - other.x, p.y - other.y));
    pan((to.x - from.x) / 2, (to.y - from.y) / 2);
    zoomTo((scale() * spread(to)) / spread(from), (to.x + other.x) / 2, (to.y + other.y) / 2);
  } else if (pointers.size === 1) {
    travelled += Math.hypot(to.x - from.x, to.y - from.y);
    if (travelled > 3) {
      stage.classList.add("dragging");
      if (mode === "divide") divideAt(to.x);
      else pan(to.x - from.x, to.y - from.y);
    }
  }
  pointers.set(event.pointerId, to);
});

function lift(event) {
  if (!pointers.delete(event.pointerId)) return;
  if (pointers.size === 1) mode = "pan";
  if (pointers.size) return;
  stage.classList.remove("dragging");
  if (event.type === "pointercancel" || travelled > 3) return;
  const at = place(event), isSecond = event.timeStamp - lastTap.time < 350 && Math.hypot(at.x - lastTap.x, at.y - lastTap.y) < 24;
  lastTap = { time: isSecond ? -1e9 : event.timeStamp, ...at };
  if (isSecond) toggleZoom(at.x, at.y);
}
stage.addEventListener("pointerup", lift);
stage.addEventListener("pointercancel", lift);

stage.addEventListener("wheel", (event) => {
  if (data.scrolls && !event.ctrlKey) return; // the page is longer than the window
  event.preventDefault();
  const lines = event.deltaMode === 0 ? 1 : 24;
  // A touch pad's pinch comes as a wheel with Ctrl, in small steps.
  const speed = event.ctrlKey ? 0.01 : 0.002;
  const { x, y } = place(event);
  zoomBy(Math.exp(-event.deltaY * lines * speed), x, y);
}, { passive: false });

// ---- keys -----------------------------------------------------------------------------------------------------------

const commands = {
  ",": () => step(-1), ".": () => step(1), x: swap, "[": () => setGain(-1), "]": () => setGain(1),
  s: () => setView("slider"), b: () => setView("both"), d: () => setView("difference"),
  n: () => change({ scaling: state.scaling === "nearest" ? "bicubic" : "nearest" }),
  "+": () => zoomBy(1.25), "=": () => zoomBy(1.25), "-": () => zoomBy(0.8), 0: fit,
  z: () => { const pane = panes()[0]; zoomTo(1 / devicePixelRatio, pane.width / 2, pane.height / 2); },
  h: () => pan(80, 0), l: () => pan(-80, 0), k: () => pan(0, 80), j: () => pan(0, -80),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || $("help").open || event.target.closest("select")) return;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  const inControl = event.target.closest("input, button") !== null;
  if (digit) {
    if (digit[1] <= data.sources.length) choose(event.shiftKey ? "left" : "right", digit[1] - 1);
  } else if (event.key === " " && !event.target.closest("button") && !$("play").hidden) {
    togglePlay();
  } else if (!inControl && moveDivider(event)) {
    // done
  } else if (Object.hasOwn(commands, event.key.toLowerCase())) {
    commands[event.key.toLowerCase()]();
  } else {
    return;
  }
  event.preventDefault();
});

// The keys of an ARIA slider; those that only a focused divider may take are left alone elsewhere.
function moveDivider(event) {
  if (state.view !== "slider") return false;
  const isFocused = document.activeElement === divider, by = event.shiftKey ? 0.1 : 0.02;
  const always = { ArrowLeft: state.divide - by, ArrowRight: state.divide + by };
  const focused = {
    ArrowDown: state.divide - by, ArrowUp: state.divide + by, Home: 0, End: 1,
    PageDown: state.divide - 0.1, PageUp: state.divide + 0.1,
  };
  const to = always[event.key] ?? (isFocused ? focused[event.key] : undefined);
  if (to === undefined) return false;
  setDivide(to);
  return true;
}

// ---- start ----------------------------------------------------------------------------------------------------------

for (const side of ["left", "right"]) {
  data.sources.forEach((source, index) => {
    $(side).append(new Option(`${source.label} · ${source.width}×${source.height}`, index));
  });
  $(side).addEventListener("change", () => choose(side, Number($(side).value)));
}
for (const input of document.querySelectorAll("input[name=view]")) {
  input.addEventListener("change", () => setView(input.value));
}
$("frame").max = data.frames.length - 1;
$("frames").hidden = data.frames.length < 2;
$("play").hidden = data.isApart ?? false;
$("scaling-box").hidden = data.sources.every((source) => source.scaling || (source.width === W && source.height === H));
const actions = {
  play: togglePlay, previous: () => step(-1), next: () => step(1), swap, level: fit,
  in: () => zoomBy(1.5), out: () => zoomBy(1 / 1.5), keys: () => $("help").showModal(),
};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
$("frame").addEventListener("input", () => change({ frame: Number($("frame").value) }));
$("gain").addEventListener("change", () => change({ gain: Number($("gain").value) }));
$("scaling").addEventListener("change", () => change({ scaling: $("scaling").value }));
new ResizeObserver(() => { showControls(); draw(); }).observe(stage);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
update();
