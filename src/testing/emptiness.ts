/** Whether a value is empty, as Bun's own `toBeEmpty` has it; undefined for what cannot be. */
export function isEmpty(value: unknown): boolean | undefined {
  if (typeof value === "string") return value.length === 0;
  if (typeof value !== "object" || value === null) return undefined;
  if (value instanceof Map || value instanceof Set || value instanceof Blob) return value.size === 0;
  if (value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) return value.byteLength === 0;
  if ("length" in value && typeof value.length === "number") return value.length === 0;
  if (Symbol.iterator in value) {
    for (const _ of value as Iterable<unknown>) return false;
    return true;
  }
  return Object.keys(value).length === 0;
}
