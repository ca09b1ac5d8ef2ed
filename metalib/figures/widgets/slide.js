// A range slider that leaves the page its scrolling: a finger that comes down on it and swipes up or down changes nothing.

function slide(input, move, done = () => {}) { // move: the value is another one, while it is drawn too; done: it is chosen
  let finger = null, due = false; // along: the finger draws the slider; gone: it scrolls the page; neither: not known yet
  input.style.touchAction = "pan-y";
  input.addEventListener("pointerdown", (e) => {
    if (e.isPrimary) finger = e.pointerType === "mouse" ? null : { x: e.clientX, y: e.clientY, value: input.value };
    due = false;
  });
  input.addEventListener("pointermove", (e) => {
    if (finger && e.isPrimary) finger.along ||= Math.abs(e.clientX - finger.x) > Math.max(8, Math.abs(e.clientY - finger.y));
  });
  input.addEventListener("pointercancel", () => {
    if (!finger) return;
    input.value = finger.value;
    if (finger.along) move();
    finger.gone = true;
  });
  for (const kind of ["touchend", "touchcancel"]) input.addEventListener(kind, () => setTimeout(() => { finger = null; }), { passive: true });
  input.addEventListener("keydown", () => { finger = null; });
  input.addEventListener("input", () => {
    if (finger?.gone) input.value = finger.value;
    else if (finger && !finger.along) due = true;
    else move();
  });
  input.addEventListener("change", () => {
    if (finger?.gone) return void (input.value = finger.value);
    if (due) move(); // a tap, which was no swipe
    due = false;
    done();
  });
}
