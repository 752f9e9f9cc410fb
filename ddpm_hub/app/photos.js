// A folder of photographs is gigabytes, and training looks at 256 pixels of each at most: they are
// made small here, before they are sent.
//
// In the room: the file input of the Train tab, between a choice and Gradio. Not in the room: what
// the server takes (gate.py, uploads.py). theme.py puts this into the page's head.
(() => {
  const BOX = "#train-files";
  const LARGE = 400_000; // bytes from which a picture is worth the work
  const SIDE = 512; // pixels of the shorter side that are left
  const MOST = 500; // more are refused by the server anyway
  const isPhoto = (file) => file.size > LARGE && /^image\/(jpeg|png|webp)$/.test(file.type);

  async function small(file) {
    const bitmap = await createImageBitmap(file); // upright: as its EXIF says
    const scale = Math.min(1, SIDE / Math.min(bitmap.width, bitmap.height));
    const canvas = new OffscreenCanvas(
      Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
    return new File([blob], file.name.replace(/\.\w+$/, ".jpg"), { type: "image/jpeg" });
  }

  // One after the other: five hundred at once would not fit into a phone's memory.
  async function allSmall(files, say) {
    const parcel = new DataTransfer();
    for (const [i, file] of files.entries()) {
      if (i % 5 === 0) say(`Making your pictures small: ${i} of ${files.length}`);
      // what a browser cannot read the server may: it has the last word
      parcel.items.add(isPhoto(file) ? await small(file).catch(() => file) : file);
    }
    say("");
    return parcel.files;
  }

  function says(box) {
    let line = box.parentElement.querySelector(".tr-small");
    if (!line) {
      line = document.createElement("p");
      line.className = "tr-small";
      line.setAttribute("role", "status");
      box.after(line);
    }
    return (words) => { line.textContent = words; };
  }

  let busy = false;
  async function send(box, input, files) {
    if (busy) return;
    busy = true;
    try {
      input.files = await allSmall(files, says(box));
      input.dataset.small = "yes";
      input.dispatchEvent(new Event("change", { bubbles: true }));
    } finally {
      busy = false;
    }
  }

  function take(event, box, files) {
    const input = box.querySelector("input[type=file]");
    if (!input || files.length > MOST || !files.some(isPhoto)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    send(box, input, files);
  }

  document.addEventListener("change", (event) => {
    const box = event.target.matches?.("input[type=file]") && event.target.closest(BOX);
    if (!box) return;
    if (event.target.dataset.small) delete event.target.dataset.small; // ours, on its way to Gradio
    else take(event, box, [...event.target.files]);
  }, true);
  document.addEventListener("drop", (event) => {
    const box = event.target.closest?.(BOX);
    if (box) take(event, box, [...(event.dataTransfer?.files ?? [])]);
  }, true);
})();
