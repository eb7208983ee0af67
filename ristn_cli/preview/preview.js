// The page of `ristn preview`, beside the slider of `ristn compare`: choices, their clips and commands.
const clips = [...document.querySelectorAll(".clip")];
const motion = $("motion");
let isMoving = true;

// A clip begins when it gets its address: all at once, so that they show the same moment.
function setMotion(to) {
  isMoving = to;
  for (const clip of clips) clip.src = to ? clip.dataset.clip : still(clip);
  motion.textContent = to ? "Pause" : "Play";
  document.documentElement.dataset.moving = to;
}

// The first picture of a clip: a canvas never gets another one of an animation.
function still(clip) {
  if (clip.dataset.still) return clip.dataset.still;
  const canvas = canvasOf(clip.naturalWidth, clip.naturalHeight);
  canvas.getContext("2d").drawImage(clip, 0, 0);
  clip.dataset.still = canvas.toDataURL();
  return clip.dataset.still;
}

if (motion) {
  motion.addEventListener("click", () => setMotion(!isMoving));
  for (const clip of clips) clip.src = clip.dataset.clip;
  Promise.all(clips.map((clip) => clip.decode())).then(() => {
    for (const clip of clips) still(clip);
    for (const clip of clips) clip.removeAttribute("src");
    requestAnimationFrame(() => setMotion(!matchMedia("(prefers-reduced-motion: reduce)").matches));
  });
}

for (const button of document.querySelectorAll(".show")) {
  button.addEventListener("click", () => {
    choose("right", Number(button.dataset.source));
    stage.scrollIntoView({ block: "nearest" });
  });
}

for (const button of document.querySelectorAll(".command button")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    let said = "Selected"; // where a page may not write to the clipboard
    try {
      await navigator.clipboard.writeText(code.textContent);
      said = "Copied";
    } catch { /* it is selected */ }
    button.textContent = said;
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

$("previous").setAttribute("aria-label", "Previous moment");
$("next").setAttribute("aria-label", "Next moment");
$("frame").setAttribute("aria-label", "Moment");
