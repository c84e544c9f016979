import { show } from "../duration.ts";

const DAY = 86_400_000;
/** Days of a zone that are remembered. */
const MOST_DAYS = 4_000;
const OFFSET = /GMT(?:([+-])(\d\d):(\d\d)(?::(\d\d))?)?$/;

const zones = new Map<string, Zone>();

/** A time zone: how far its clocks are ahead of UTC, and when that changes. Times in epoch milliseconds. */
export class Zone {
  readonly name: string;
  readonly #format: Intl.DateTimeFormat;
  /** Of whole days of UTC; NaN for one on which it changes. */
  readonly #days = new Map<number, number>();

  private constructor(name: string) {
    this.name = name;
    this.#format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
  }

  /**
   * The zone of an IANA name; by default the system's. `option` names it in errors.
   * @throws RangeError
   */
  static of(name: string | undefined, option: string): Zone {
    const wanted = name ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
    let zone = zones.get(wanted);
    if (zone !== undefined) return zone;
    try {
      zone = new Zone(wanted);
    } catch (cause) {
      throw new RangeError(
        `${option} must be the name of a time zone, like "Europe/Berlin", got ${show(wanted)}`,
        { cause },
      );
    }
    zones.set(wanted, zone);
    return zone;
  }

  /** What its clocks are ahead of UTC, in milliseconds. */
  offset(at: number): number {
    const day = Math.floor(at / DAY);
    let offset = this.#days.get(day);
    if (offset === undefined) {
      const first = this.#read(day * DAY);
      offset = first === this.#read((day + 1) * DAY) ? first : Number.NaN;
      if (this.#days.size >= MOST_DAYS) this.#days.clear();
      this.#days.set(day, offset);
    }
    return Number.isNaN(offset) ? this.#read(at) : offset;
  }

  /** The first time after `from`, up to `to`, at which the offset is another; they have different ones. */
  change(from: number, to: number): number {
    const before = this.offset(from);
    let [low, high] = [from, to];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (this.offset(middle) === before) low = middle;
      else high = middle;
    }
    return high;
  }

  /** The first time at which its clocks show `wall`, given as if it were UTC; when they skip it, the time at which they do. */
  instant(wall: number): number {
    const [before, after] = [this.offset(wall - DAY), this.offset(wall + DAY)];
    if (this.offset(wall - before) === before) return wall - before;
    if (this.offset(wall - after) === after) return wall - after;
    return this.change(wall - after, wall - before);
  }

  #read(at: number): number {
    const match = OFFSET.exec(this.#format.format(at));
    if (match === null) throw new Error(`the offset of ${this.name} cannot be read`);
    const [, sign, hours, minutes, seconds] = match;
    if (sign === undefined) return 0;
    const offset = (Number(hours) * 3_600 + Number(minutes) * 60 + Number(seconds ?? 0)) * 1_000;
    return sign === "-" ? -offset : offset;
  }
}
