/** Characters of a value that are shown. */
const LONGEST = 1_000;

/** A value for a message: all of it, unless it is long. */
export function brief(value: unknown): string {
  const text = Bun.inspect(value, { depth: 10, colors: false });
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}… (${text.length} characters)` : text;
}
