// One clock for the page: the film's where there is one, else its own. It tells which frame is on screen.
// Times are the container's. A seek aims at the middle of a frame, so that rounding cannot show its neighbour.

const NEAR = 1e-3; // seconds that a player may round a frame's time by
const APART = 0.08; // seconds that sound of its own may be away from the film

/** The last frame whose time is not after t. */
export function frameAt(pts, t) {
  let [low, high] = [0, pts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pts[middle] <= t + NEAR) low = middle;
    else high = middle - 1;
  }
  return low;
}

export class Clock {
  /** film: a video element; sound: an audio element that follows it; told: onframe(i), onstate(playing), onfail(why). */
  constructor(film, sound, told) {
    Object.assign(this, { film, sound, told, pts: [0], end: 0, frame: 0, playable: false, ticking: false, want: null, watch: 0, apart: false, muted: false });
    film.addEventListener("seeked", () => this.#arrived());
    film.addEventListener("play", () => { told.onstate(true); this.#hear(); this.#follow(); });
    film.addEventListener("pause", () => { told.onstate(false); sound.pause(); });
    film.addEventListener("ended", () => this.#show(this.pts.length - 1));
    film.addEventListener("error", () => this.#failed());
    film.addEventListener("loadedmetadata", () => { if (this.frame) this.seek(this.frame); });
  }

  /** Another recording. url: of its media, or null; heard: of its sound, where that is another file. */
  load(pts, end, url, heard = null) {
    this.pause();
    Object.assign(this, { pts, end, want: null, playable: url !== null, apart: heard !== null });
    for (const [element, source] of [[this.film, url], [this.sound, heard]]) {
      if (source !== null) element.src = source;
      else if (element.hasAttribute("src")) {
        element.removeAttribute("src");
        element.load();
      }
    }
    this.mute(this.muted);
    this.#show(0);
  }

  get playing() { return this.playable ? !this.film.paused : this.ticking; }
  get time() { return this.pts[this.frame]; }

  /** Sound off or on; a film whose sound is another file is itself silent. */
  mute(off) {
    this.muted = off;
    this.sound.muted = off;
    this.film.muted = off || this.apart;
  }

  toggle() { this.playing ? this.pause() : this.play(); }

  play() {
    const over = this.frame >= this.pts.length - 1;
    if (over) this.seek(0);
    if (this.playable) this.film.play().catch((error) => { if (error.name === "NotAllowedError") this.told.onstate(false); });
    else this.#tick();
  }

  pause() {
    if (this.playable) this.film.pause();
    else if (this.ticking) {
      this.ticking = false;
      this.told.onstate(false);
    }
  }

  /** Show a frame at once; the film follows as fast as it can. */
  seek(frame) {
    const last = this.pts.length - 1;
    const i = Math.max(0, Math.min(last, frame));
    this.#show(i);
    if (!this.playable) return;
    this.want = (this.pts[i] + (i < last ? this.pts[i + 1] : this.end)) / 2;
    if (!this.film.seeking) this.film.currentTime = this.want;
  }

  seekTime(t) { this.seek(frameAt(this.pts, t)); }

  #show(frame) {
    this.frame = frame;
    this.told.onframe(frame);
  }

  #arrived() {
    if (this.want === null) this.#show(frameAt(this.pts, this.film.currentTime));
    else if (Math.abs(this.film.currentTime - this.want) > NEAR && this.want < this.film.duration) this.film.currentTime = this.want;
    else this.want = null;
    this.#hear();
  }

  /** Sound in a file of its own goes where the film is. */
  #hear() {
    if (!this.apart) return;
    if (Math.abs(this.sound.currentTime - this.film.currentTime) > APART) this.sound.currentTime = this.film.currentTime;
    if (this.film.paused === this.sound.paused) return;
    if (this.film.paused) this.sound.pause();
    else this.sound.play().catch(() => (this.apart = false)); // it cannot be played: the film's own is heard
  }

  /** While the film plays: its frames as they are shown, where the browser tells, else the time at each repaint. */
  #follow() {
    const watch = ++this.watch; // one that waits since before a pause ends here
    const step = (_, shown) => {
      if (this.film.paused || watch !== this.watch) return;
      if (this.want === null) this.#show(frameAt(this.pts, shown ? shown.mediaTime : this.film.currentTime));
      this.#hear();
      next();
    };
    const pictures = "requestVideoFrameCallback" in this.film && this.film.videoWidth > 0;
    const next = () => (pictures ? this.film.requestVideoFrameCallback(step) : requestAnimationFrame(() => step()));
    next();
  }

  /** Without media, real time from the frame that is shown. */
  #tick() {
    this.ticking = true;
    this.told.onstate(true);
    let [begun, from, shown] = [null, this.time, this.frame];
    const step = (now) => {
      if (!this.ticking) return;
      if (begun === null || shown !== this.frame) [begun, from] = [now, this.time]; // the user went elsewhere
      const t = from + (now - begun) / 1000;
      this.#show(frameAt(this.pts, t));
      shown = this.frame;
      if (t >= this.end) this.pause();
      else requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #failed() {
    if (!this.film.hasAttribute("src")) return;
    this.playable = false;
    this.want = null;
    this.told.onstate(false);
    this.told.onfail(this.film.error?.message ?? "");
  }
}
