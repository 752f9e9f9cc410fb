// The line that says where pictures are made. It asks the server once, and after every run.
// Given by gr.HTML: element, props (setup), server.
element.innerHTML = `<p class="ddpm-device" aria-label="Where it runs"></p>`;
const line = element.querySelector("p");

async function ask() {
  try {
    const said = await server[props.setup.ask](null);
    if (typeof said === "string") line.textContent = said;
  } catch { /* the server is away: what was said last stays */ }
}

// The page may put this element into the document anew: the listener of the old one goes.
const heard = new AbortController();
document.addEventListener("ddpm:run", () => {
  if (element.isConnected) ask();
  else heard.abort();
}, { signal: heard.signal });
ask();
