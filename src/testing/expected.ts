import { serialize } from "../payload.ts";

/**
 * What a value is once it is stored as JSON, so that it can be compared with what was stored; asymmetric matchers within it
 * (`expect.any(String)`, `expect.objectContaining(…)`) stay.
 */
export function asStored(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return typeof value === "number" ? plain(value) : value;
  if (isAsymmetricMatcher(value)) return value;
  if ("toJSON" in value && typeof value.toJSON === "function") return asStored(value.toJSON());
  if (Array.isArray(value)) return value.map((item) => (item === undefined ? null : asStored(item)));
  if (value instanceof String || value instanceof Number || value instanceof Boolean) return plain(value);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [key, asStored(item)]));
}

function plain(value: unknown): unknown {
  return JSON.parse(serialize(value, undefined, () => "expected"));
}

/** They have nothing else in common than their tags. */
function isAsymmetricMatcher(value: object): boolean {
  return Object.prototype.toString.call(value).startsWith("[object Expect");
}
