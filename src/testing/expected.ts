/**
 * What a value is once it is stored as JSON, so that it can be compared with what was stored; asymmetric matchers within it
 * (`expect.any(String)`, `expect.objectContaining(…)`) stay.
 * @throws TypeError for what JSON cannot hold
 */
export function asStored(value: unknown): unknown {
  if (value === undefined || isAsymmetricMatcher(value)) return value;
  const matchers = new Map<string, unknown>();
  const text = JSON.stringify(value, function (this: Record<string, unknown>, key, item: unknown) {
    if (!isAsymmetricMatcher(this[key])) return item;
    const name = `matcher ${crypto.randomUUID()}`;
    matchers.set(name, this[key]);
    return name;
  });
  if (text === undefined) throw new TypeError("a function or a symbol cannot be stored as JSON");
  return JSON.parse(text, (_, item: unknown) =>
    typeof item === "string" && matchers.has(item) ? matchers.get(item) : item,
  );
}

/** Whether what was stored is as expected, which is what `asStored` has returned; `equals` is that of `bun:test`. */
export function isAsExpected(
  stored: unknown,
  expected: unknown,
  equals: (a: unknown, b: unknown) => boolean,
): boolean {
  if (isAsymmetricMatcher(expected)) return equals(stored, expected) || equals(withDates(stored), expected);
  if (typeof expected !== "object" || expected === null || typeof stored !== "object" || stored === null) {
    return Object.is(stored, expected);
  }
  if (Array.isArray(stored) !== Array.isArray(expected)) return false;
  const [have, want] = [stored as Record<string, unknown>, expected as Record<string, unknown>];
  const keys = Object.keys(want);
  return (
    Object.keys(have).length === keys.length &&
    keys.every((key) => Object.hasOwn(have, key) && isAsExpected(have[key], want[key], equals))
  );
}

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** What was stored, with the dates that it may have been: asymmetric matchers may ask for them. */
function withDates(stored: unknown): unknown {
  if (typeof stored === "string") return TIME.test(stored) ? new Date(stored) : stored;
  if (Array.isArray(stored)) return stored.map(withDates);
  if (typeof stored !== "object" || stored === null) return stored;
  return Object.fromEntries(Object.entries(stored).map(([key, value]) => [key, withDates(value)]));
}

/** They have nothing else in common than their tags. */
function isAsymmetricMatcher(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.prototype.toString.call(value).startsWith("[object Expect")
  );
}
