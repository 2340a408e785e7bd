"use strict";
// Plays an utterance's audio: from the page itself, or the file where it lies. A file is looked for beside the page first,
// then where it lay when the page was made.
const player = (() => {
  const data = page.data;
  const box = document.getElementById("player");
  const audio = document.getElementById("audio");
  const message = document.getElementById("audio-error");
  let tries = []; // addresses that are left to try
  let stretch = [null, null];

  const quote = (path) => path.split("/").map(encodeURIComponent).join("/");

  function find(index) {
    if (data.embedded) return data.embedded[index] ? [data.embedded[index]] : [];
    const links = data.audio;
    if (!links || links.folder[index] < 0) return [];
    const folder = links.folders[links.folder[index]];
    const name = encodeURIComponent(links.name[index].replace("*", data.ids[index]));
    const near = `${quote(folder.near)}/${name}`;
    return location.protocol === "file:" ? [near, `${folder.far}/${name}`] : [near];
  }

  function load() {
    const [start, end] = stretch;
    const part = start === null && end === null ? "" : `#t=${start ?? 0}${end === null ? "" : "," + end}`;
    audio.src = tries.shift() + part;
    audio.play().catch(() => {}); // what fails to load is an error event; what may not start by itself waits for a click
  }

  function play(index) {
    const addresses = find(index);
    tries = [...addresses];
    stretch = data.audio ? [data.audio.start[index], data.audio.end[index]] : [null, null];
    box.hidden = false;
    message.textContent = "";
    document.getElementById("playing").textContent = data.ids[index];
    message.dataset.path = decodeURIComponent(addresses[addresses.length - 1]).slice(0, 300);
    load();
  }

  audio.addEventListener("error", () => {
    if (!audio.getAttribute("src")) return;
    if (tries.length) return load();
    message.textContent = `The audio cannot be loaded from ${message.dataset.path}: open this page on a machine that has `
      + "the corpus there, or make it again with --audio embed.";
  });
  audio.addEventListener("loadedmetadata", () => {
    if (stretch[0]) audio.currentTime = stretch[0];
  });
  audio.addEventListener("timeupdate", () => {
    if (stretch[1] !== null && audio.currentTime >= stretch[1]) audio.pause();
  });
  document.getElementById("close-player").addEventListener("click", () => {
    audio.removeAttribute("src");
    audio.load();
    box.hidden = true;
  });

  // A button that plays the utterance; null where it has no audio.
  function makeButton(index) {
    if (!find(index).length) return null;
    const button = document.createElement("button");
    button.className = "play";
    button.textContent = "▶ play";
    button.setAttribute("aria-label", `play ${data.ids[index]}`);
    button.addEventListener("click", () => play(index));
    return button;
  }

  return { makeButton, play };
})();
