"""The lessons of the Learn tab: what somebody who has never read the paper needs to follow a run.

In the room: each lesson's words, its equation, which lines of the library compute it, and what its
button sets up in another tab. Not in the room: how a page shows them (widgets/walk.py), finding the
lines (excerpts.py), drawing the equations (mathml.py). Texts are ours, and hold a little HTML. Over
300 lines, since most are sentences, which are read in one go.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ddpm_hub import samplers
from ddpm_hub.app.excerpts import Excerpt, excerpt
from ddpm_hub.app.mathml import equation, sign
from ddpm_hub.likelihood import Chain
from ddpm_hub.model import GaussianDiffusion
from ddpm_hub.training.loop import Training


class Lesson(NamedTuple):
    """One step of the walk. What it sets up is said by `tab`, `sample` and `press`, in that order.

    equations: (where in a paper, MathML). signs: (MathML, what it means).
    hint: what to do and to see there. sample: values for the Sample tab's form.
    press: (selector,) of what is pressed, or (selector, value) of what is filled in.
    """

    key: str
    title: str
    text: str
    equations: tuple[tuple[str, str], ...]
    signs: tuple[tuple[str, str], ...]
    code: tuple[Excerpt, ...]
    button: str
    hint: str
    tab: str
    press: tuple[tuple[str, ...], ...]
    sample: dict[str, Any] | None = None


X0 = sign("x_0", "x zero")
XT = sign("x_t", "x t")
X0_HAT = sign(r"\hat x_0", "x zero hat")
S = "<i>s</i>"
T = "<i>t</i>"

NOISE = Lesson(
    key="noise",
    title="Noise takes over",
    text="""Take a picture and add a little random noise to every pixel. Do it again, a thousand
    times, and nothing of the picture is left: only noise, which looks the same whatever the picture
    was. This is the <em>forward process</em>. Nobody has to walk through all of its steps: many
    small helpings of noise add up to one large helping, so any step <i>t</i> can be reached at
    once. The picture is made fainter, the noise stronger, and the two are added. How fast that goes
    is decided beforehand, by the <em>schedule</em>.""",
    equations=(
        (
            "Eq. 4",
            equation(
                r"x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon",
                "x t equals the square root of alpha bar t, times x zero, plus the square root of "
                "one minus alpha bar t, times epsilon",
            ),
        ),
    ),
    signs=(
        (X0, "the picture: each pixel a number from &minus;1, black, to 1, white"),
        (XT, f"what it has become after step {T}"),
        (sign(r"\epsilon", "epsilon"), "the noise: for each pixel a random number around 0"),
        (
            sign(r"\bar\alpha_t", "alpha bar t"),
            "how much is left of the picture: all at the start, 1, and nothing in the end, 0",
        ),
    ),
    code=(excerpt(GaussianDiffusion.q_sample),),
    button="See it in Forward",
    hint="Opens an ankle boot at t = 300. Drag t, and find where you would no longer know it for "
    "a boot.",
    tab="forward",
    press=(("#forward-scrubber [data-pick='0']",), ("#forward-scrubber .fw-t", "300")),
)
NETWORK = Lesson(
    key="network",
    title="What the network learns",
    text="""The way back is the hard part: what in a noisy picture is noise, and what is picture? A
    <em>neural network</em> learns to tell them apart. To train it, take a picture, a random
    <i>t</i> and some noise, mix them as in lesson 1, show the network the mixture and <i>t</i>, and
    ask which noise was added. Its answer is compared with the truth, pixel by pixel, and the
    network is changed a little so that it would have been less wrong. That is all, thousands of
    times over. Who knows the noise also knows the picture beneath it.""",
    equations=(
        (
            "Eq. 14",
            equation(
                r"L_\simple = \E_{t, x_0, \epsilon} [\|\epsilon - \epsilon_\theta (x_t, t)\|^2]",
                "L simple equals the mean, over t, x zero and epsilon, of the squared distance "
                "between epsilon and epsilon theta of x t and t",
            ),
        ),
    ),
    signs=(
        (
            sign(r"\epsilon_\theta (x_t, t)", "epsilon theta of x t and t"),
            "the network's answer: the noise that it sees in the mixture",
        ),
        (sign(r"\theta", "theta"), "its weights: the numbers that training changes"),
        (
            sign(r"\|a - b\|^2", "the squared distance of a and b"),
            "how far two pictures are apart: all differences, squared and added",
        ),
        (sign(r"\E", "E"), "the mean over many pictures, times and noises"),
    ),
    code=(
        excerpt(
            GaussianDiffusion.p_losses,
            "x = self.q_sample",
            ("out = self.model_output", "}[self.objective]"),
            ("loss = F.mse_loss", "loss = loss * self.loss_weight"),
        ),
    ),
    button="See its errors in the Lab",
    hint="Draws the error over t: click the curve to see what the network saw there. The bundled "
    "network answers with v, a mixture of noise and picture from which both follow: pred_v in "
    "the code.",
    tab="lab",
    press=(("#lab-losses-button",), ("#losses-run",)),
)
BACK = Lesson(
    key="back",
    title="One step back",
    text="""Now begin with noise that was never added to anything, and ask the network what noise it
    sees. Take that away, and a picture remains: <i>x̂</i><sub>0</sub>, what the network believes.
    In pure noise it can only see a blur, the average of all the pictures that might be hidden
    there. So do not jump to it. Go one small step: mix the state <i>x<sub>t</sub></i> with a little
    of that belief, in the proportion that follows from the forward process. The new state is
    slightly less noisy, so the network looks again, and sees more.""",
    equations=(
        (
            "Eq. 15",
            equation(
                r"\hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t} \epsilon_\theta (x_t, t)}"
                r"{\sqrt{\bar\alpha_t}}",
                "x zero hat equals x t minus the square root of one minus alpha bar t times "
                "epsilon theta of x t and t, all over the square root of alpha bar t",
            ),
        ),
        (
            "Eq. 7",
            equation(
                r"\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} \hat x_0"
                r"+ \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t",
                "mu tilde t equals the square root of alpha bar t minus one, times beta t, over "
                "one minus alpha bar t, times x zero hat; plus the square root of alpha t, times "
                "one minus alpha bar t minus one, over one minus alpha bar t, times x t",
            ),
        ),
    ),
    signs=(
        (X0_HAT, "the picture that the network believes in"),
        (sign(r"\tilde\mu_t", "mu tilde t"), "where the step leads"),
        (
            sign(r"\beta_t = 1 - \alpha_t", "beta t, which is one minus alpha t"),
            f"how much noise step {T} of the forward process adds",
        ),
    ),
    code=(
        excerpt(GaussianDiffusion.predict_start_from_noise),
        excerpt(GaussianDiffusion.q_posterior),
    ),
    button="Step by step in Sample",
    hint="Takes the first of ten large steps. Press Step for each of the others, and compare what "
    "the network believes with the state that it looks at.",
    tab="sample",
    press=(("#step",),),
    sample={"sampler": "ddpm", "steps": 10, "batch": 1, "seed": 7},
)
WAY = Lesson(
    key="way",
    title="The whole way",
    text="""Repeat the step from <i>t</i> = 999 down to 0, and out of noise comes a picture that
    nobody has drawn before. One thing was left out: after every step but the last, a little fresh
    noise is added. That seems wrong, but the forward process is a game of chance, and so its
    reversal is one, too; without it the pictures come out too smooth. It also means that chance
    decides what is drawn. The <em>seed</em> is a number that fixes this chance: the same seed draws
    the same picture again. Outlines are decided early, at large <i>t</i>, details late.""",
    equations=(
        (
            "Algorithm 2",
            equation(
                r"x_{t-1} = \tilde\mu_t + \sigma_t z",
                "x t minus one equals mu tilde t plus sigma t times z",
            ),
        ),
    ),
    signs=(
        (sign("z", "z"), "fresh noise for every pixel; none in the last step"),
        (
            sign(r"\sigma_t", "sigma t"),
            "how much of it: about what the forward process had added in this step",
        ),
        (
            sign("T", "T"),
            f"how many steps there are, 1000 in the paper; {T} goes from T &minus; 1 to 0",
        ),
    ),
    code=(excerpt(samplers.ddpm, ("for t, s in", "yield Update")),),
    button="Watch it in Sample",
    hint="Draws four pictures in 100 steps, every tenth of the thousand, to save time. Drag the "
    "timeline afterwards: at which t is it decided what they are going to be?",
    tab="sample",
    press=(("#run",),),
    sample={"sampler": "ddpm", "steps": 100, "batch": 4, "seed": 7},
)
FEWER = Lesson(
    key="fewer",
    title="Fewer steps",
    text="""A thousand calls of the network for one picture are slow. But who says that the next
    stop must be <i>t</i> &minus; 1? The network's answer consists of a picture and a noise, and
    lesson 1 can mix these two again for any earlier time <i>s</i>. This is DDIM (Song et al. 2021).
    It adds no fresh noise, so the way down is a smooth curve, which fifty straight pieces follow
    well. Later samplers such as UniPC also remember their last looks, and so follow the bends:
    about twenty calls are enough. With fewer still, corners are cut, and it shows.""",
    equations=(
        (
            "Eq. 12 of Song et al. 2021, without its noise",
            equation(
                r"x_s = \sqrt{\bar\alpha_s} \hat x_0 + \sqrt{1 - \bar\alpha_s} \hat\epsilon",
                "x s equals the square root of alpha bar s, times x zero hat, plus the square root "
                "of one minus alpha bar s, times epsilon hat",
            ),
        ),
    ),
    signs=(
        (sign("s", "s"), f"where to stop next: any time before {T}"),
        (X0_HAT, "the picture that the network sees in the state"),
        (sign(r"\hat\epsilon", "epsilon hat"), "the noise that it sees there"),
    ),
    code=(excerpt(samplers.ddim, ("for t, s in", "yield Update")),),
    button="How few are enough? Ask the Lab",
    hint="Draws the same four pictures in 5, 10, 20, 50 and 100 steps. Which is the first that "
    "you would accept?",
    tab="lab",
    press=(("#lab-fewsteps-button",), ("#few-run",)),
)
BITS = Lesson(
    key="bits",
    title="What it knows, in bits",
    text="""How well does a model know its pictures? Here is an honest test: how many bits does it
    take to send somebody a picture, if both have the model? Send it along the way from noise to
    picture. Each step costs the more, the further the model's own step is from the true one, which
    knows the picture; what the model foresees is free. The sum is a bound on the model's
    <em>likelihood</em>: how probable it holds the picture to be. And look where the bits go: the
    garment is there after a few of them, and most pay for grains that nobody sees.""",
    equations=(
        (
            "Eq. 5",
            equation(
                r"L = L_T + \sum_{t > 1} L_{t-1} + L_0",
                "L equals L T, plus the sum over t greater than one of L t minus one, plus L zero",
            ),
        ),
        (
            "its terms",
            equation(
                r"L_{t-1} = \KL (q \| p_\theta)",
                "L t minus one equals the K L divergence from q to p theta",
            ),
        ),
    ),
    signs=(
        (
            sign("q (x_{t-1} | x_t, x_0)", "q of x t minus one, given x t and x zero"),
            "the true step: where somebody would step who knows the picture",
        ),
        (
            sign(r"p_\theta (x_{t-1} | x_t)", "p theta of x t minus one, given x t"),
            "the model's step, that of lesson 3",
        ),
        (sign(r"\KL", "K L"), "the bits that it costs to get from the one to the other"),
        (sign("L_T", "L T"), "what of the picture is left in the noise: almost nothing"),
        (sign("L_0", "L zero"), "the last step: which of 256 greys each pixel has"),
    ),
    code=(excerpt(Chain.step_bits, ("x0_hat =", "return _per_dim(normal_kl")),),
    button="Spend the bits in the Lab",
    hint="Sends a garment in 100 steps. Drag across the chart What the bits buy: how many, until "
    "you know what it is?",
    tab="lab",
    press=(("#lab-coding-button",), ("#coding-run",)),
)
OWN = Lesson(
    key="own",
    title="Train your own",
    text="""Up to here you have used a network that somebody had trained. To train one, take
    pictures, draw a time and a noise for each, measure the error of lesson 2, and change every
    weight a little, so that the error falls: the <em>gradient</em> says which way. Each such step
    is small and shaky, so a running average of the weights (EMA) is kept beside them, and that is
    what draws. Begin with garments and the tiny network, or with photographs of your own. When
    shapes appear, press <b>Try it in Sample</b>; then publish your model on the Hub.""",
    equations=(
        (
            "Algorithm 1",
            equation(
                r"\theta \gets \theta - \eta \nabla_\theta L_\simple",
                "theta becomes theta minus eta times the gradient of L simple",
            ),
        ),
    ),
    signs=(
        (sign(r"\theta", "theta"), "the network's weights"),
        (sign(r"\eta", "eta"), "how far one step goes: the learning rate"),
        (
            sign(r"\nabla_\theta", "nabla theta"),
            "the gradient: for each weight, how the error changes with it",
        ),
    ),
    code=(
        excerpt(Training._draw, "times = torch.randint", "noise = torch.randn"),
        excerpt(Training._gradients, "losses = net(", ("loss = losses.mean", "state.scaler")),
        excerpt(
            Training._update, "norm = clip_grad_norm_", "state.scaler.step", "state.ema.update"
        ),
    ),
    button="Set up a training",
    hint="Chooses garments and the tiny network. Press Start there, and watch pictures grow out "
    "of the noise; stop whenever you like.",
    tab="train",
    press=(("#train-data input[value='Garments']",), ("#train-preset input[value='tiny']",)),
)
LESSONS = (NOISE, NETWORK, BACK, WAY, FEWER, BITS, OWN)
