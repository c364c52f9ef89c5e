"""The smallest GAN there is, to play with: one real, one fake, a discriminator that is a slope.

Mescheder et al. 2018, arXiv:1801.04406, section 2. It needs no kernel, so it also answers in a saved page.
"""

from ganlib.viz.palette import D_COLOR, G_COLOR, REAL_COLOR

SIZE = 440  # pixels: of the plane of (θ, ψ), which goes from -2 to 2 both ways
STEPS = 600
PAGE = """<div style="display:flex;gap:18px;align-items:center;flex-wrap:wrap;max-width:860px">
<canvas width="{pixels}" height="{pixels}" style="width:{size}px;height:{size}px;cursor:crosshair;touch-action:none"
 role="img" aria-label="Arrows show where a step leads from each pair of θ and ψ, a line the way from the chosen start"
></canvas><div style="width:380px;line-height:2"><label>loss <select name="loss"></select></label><br>
<label>penalty <select name="penalty"></select></label><br>
<label>γ <input name="gamma" type="range" min="0" max="3" step="0.1" value="0.3"> <span></span></label><br>
<label>rate <input name="rate" type="range" min="0.02" max="0.5" step="0.02" value="0.1"> <span></span></label><br>
<label><input name="turns" type="checkbox"> in turns: D first, G answers it</label>
<p data-said style="line-height:1.4"></p></div><script>(root => {{
const canvas = root.querySelector("canvas"), pen = canvas.getContext("2d"), said = root.querySelector("[data-said]");
const on = Object.fromEntries([...root.querySelectorAll("[name]")].map(it => [it.name, it]));
const S = t => 1 / (1 + Math.exp(-t)), one = () => 1, sign = Math.sign;
const losses = {{"non-saturating": [S, t => S(-t)], "minimax": [S, S], "relativistic pairs": [S, t => S(-t)],
  "Wasserstein": [one, one], "hinge": [t => +(t > -1), one]}};
const penalties = {{"none": () => 0, "R1": p => -p, "R1 + R2": p => -2 * p,
  "slope 1 (WGAN-GP)": p => -2 * (Math.abs(p) - 1) * sign(p), "clipping to ±γ": () => 0}};
for (const [name, of] of [["loss", losses], ["penalty", penalties]]) on[name].append(...Object.keys(of).map(key =>
  new Option(key)));
let start = [1, 1];
const force = (a, p) => {{
  const [d, g] = losses[on.loss.value], t = a * p;
  return [p * g(t), -a * d(t) + on.gamma.value * penalties[on.penalty.value](p)];
}};
const step = (a, p, h) => {{
  const clip = p => on.penalty.value[0] == "c" ? Math.max(-on.gamma.value, Math.min(+on.gamma.value, p)) : p;
  const next = clip(p + h * force(a, p)[1]);
  return [a + h * force(a, on.turns.checked ? next : p)[0], next];
}};
const px = (a, p) => [(a + 2) / 4 * canvas.width, (2 - p) / 4 * canvas.height];
const draw = () => {{
  pen.fillStyle = "white"; pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.strokeStyle = "#ddd"; pen.lineWidth = 2;
  pen.beginPath(); pen.moveTo(...px(-2, 0)); pen.lineTo(...px(2, 0)); pen.moveTo(...px(0, -2)); pen.lineTo(...px(0, 2));
  pen.stroke(); pen.strokeStyle = pen.fillStyle = "#888"; pen.font = "22px sans-serif";
  pen.fillText("θ: where the fake is", ...px(0.75, -0.12)); pen.fillText("ψ: slope of D", ...px(0.05, 1.85));
  for (let a = -1.8; a < 2; a += 0.3) for (let p = -1.8; p < 2; p += 0.3) {{
    const [u, v] = force(a, p), far = Math.hypot(u, v) || 1, k = 0.2 / far * Math.min(1, far + 0.3);
    pen.beginPath(); pen.moveTo(...px(a, p)); pen.lineTo(...px(a + k * u, p + k * v)); pen.stroke();
    pen.beginPath(); pen.arc(...px(a, p), 3, 0, 7); pen.fill();
  }}
  let [a, p] = start; const way = [start];
  for (let k = 0; k < {steps}; k++) way.push([a, p] = step(a, p, +on.rate.value));
  pen.strokeStyle = "{line}"; pen.lineWidth = 3; pen.beginPath();
  way.forEach((at, k) => k ? pen.lineTo(...px(...at)) : pen.moveTo(...px(...at))); pen.stroke();
  for (const [at, color] of [[[0, 0], "{goal}"], [start, "{dot}"]]) {{
    pen.fillStyle = color; pen.strokeStyle = "black"; pen.lineWidth = 1.5;
    pen.beginPath(); pen.arc(...px(...at), 10, 0, 7); pen.fill(); pen.stroke();
  }}
  for (const it of [on.gamma, on.rate]) it.nextElementSibling.textContent = it.value;
  const away = Math.hypot(a, p), began = Math.hypot(...start);
  said.dataset.said = `${{a.toFixed(4)}} ${{p.toFixed(4)}}`;
  said.textContent = `Starts ${{began.toFixed(2)}} away from the goal (gold); after {steps} steps it is ` +
    (away < 9 ? away.toFixed(3) : "far") + " away. Drag to start elsewhere.";
}};
const drag = event => {{
  const box = canvas.getBoundingClientRect();
  start = [4 * (event.clientX - box.left) / box.width - 2, 2 - 4 * (event.clientY - box.top) / box.height];
  draw();
}};
canvas.addEventListener("pointerdown", event => {{ canvas.setPointerCapture(event.pointerId); drag(event); }});
canvas.addEventListener("pointermove", event => event.buttons && drag(event));
root.addEventListener("input", draw); draw();
}})(document.currentScript.parentElement)</script></div>"""


class Dirac:
    """What ``dirac`` returns: a page that shows itself at the end of a cell."""

    def __repr__(self) -> str:
        return "The Dirac-GAN: loss, penalty and start can be chosen where scripts may run"

    def _repr_html_(self) -> str:
        colors = dict(line=G_COLOR, dot=D_COLOR, goal=REAL_COLOR)
        return PAGE.format(size=SIZE, pixels=2 * SIZE, steps=STEPS, **colors)


def dirac() -> Dirac:
    """The Dirac-GAN with every loss and penalty of the course, to end a cell with."""
    return Dirac()
