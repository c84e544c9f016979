/** Tells the time in milliseconds since the Unix epoch. Everything that is stored or compared is read from it. */
export type Clock = () => number;

/** The whole second an instant lies in: what honker's columns hold. */
export function toUnixSeconds(epoch: number): number {
  return Math.floor(epoch / 1_000);
}
