/** Milliseconds of looking without pause, then pauses of 1, 2, 4 … up to the last. */
const TIGHT = 1;
const LONGEST_PAUSE = 512;
/** Milliseconds until it is looked without pause again, doubled each time that was in vain, up to the other. */
const REST = 2;
const LONGEST_REST = 64;

/**
 * After a file event, looks again and again for about a second: at once, without pause for a millisecond or until a commit is
 * found, then with growing pauses. The event comes when a commit's frames are written; the commit becomes visible later, without
 * a further event, and how much later depends on the disk. Beside processes that write all the time there are always events:
 * to look without pause after each would take a core.
 */
export class LookLadder {
  readonly #look: () => boolean;
  #tightSince = Number.NEGATIVE_INFINITY;
  #isTight = false;
  #rest = REST;
  #pause = 1;
  #immediate: NodeJS.Immediate | undefined;
  #timer: Timer | undefined;

  /** `look` says whether there was a commit. */
  constructor(look: () => boolean) {
    this.#look = look;
  }

  /** Starts anew from the first rung; where a pause will do, from the second. */
  restart(maySpin: boolean): void {
    this.stop();
    this.#pause = 1;
    const now = performance.now();
    if (maySpin && now - this.#tightSince >= this.#rest) {
      this.#isTight = true;
      this.#tightSince = now;
      this.#rest = Math.min(this.#rest * 2, LONGEST_REST);
    }
    this.#step();
  }

  stop(): void {
    clearImmediate(this.#immediate);
    clearTimeout(this.#timer);
  }

  readonly #step = (): void => {
    this.#isTight &&= performance.now() - this.#tightSince < TIGHT;
    // The next rung first: a look may restart or stop the ladder.
    if (this.#isTight) this.#immediate = setImmediate(this.#step);
    else if (this.#pause <= LONGEST_PAUSE) {
      this.#timer = setTimeout(this.#step, this.#pause);
      this.#timer.unref();
      this.#pause *= 2;
    }
    if (!this.#look() || !this.#isTight) return;
    this.#isTight = false;
    this.#rest = REST;
  };
}
