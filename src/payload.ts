import { show } from "./duration.ts";
import { PayloadError } from "./errors.ts";

/** Any Standard Schema: zod, valibot, arktype and others. It must validate synchronously. */
export interface Schema<In = unknown, Out = In> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Out> | Promise<SchemaResult<Out>>;
    readonly types?: { readonly input: In; readonly output: Out } | undefined;
  };
}
export type InferInput<S extends Schema> = NonNullable<S["~standard"]["types"]>["input"];
export type InferOutput<S extends Schema> = NonNullable<S["~standard"]["types"]>["output"];

type SchemaResult<Out> =
  { readonly value: Out; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };
interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * The JSON text to store. With a schema, what a consumer will read back must fit it.
 * @throws PayloadError for what JSON cannot hold or the schema refuses; `what` names it.
 */
export function serialize(payload: unknown, schema: Schema | undefined, what: () => string): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(payload);
  } catch (cause) {
    throw new PayloadError(`${what()}: the payload cannot be stored as JSON: ${messageOf(cause)}`, { cause });
  }
  if (text === undefined) {
    if (payload !== undefined)
      throw new PayloadError(`${what()}: the payload cannot be stored as JSON: ${show(payload)}`);
    text = "null";
  }
  if (schema !== undefined) {
    const issues = validate(schema, JSON.parse(text), what).issues;
    if (issues !== undefined) {
      const hint = validate(schema, payload, what).issues === undefined ? HINT : "";
      throw new PayloadError(`${what()}: the payload does not fit its schema: ${describe(issues)}${hint}`);
    }
  }
  return text;
}

const HINT =
  ". It fits before it is stored as JSON, but not after: a Date becomes a string, so use z.coerce.date() for z.date()";

/**
 * The payload that a stored text stands for, as the schema puts it out.
 * @throws PayloadError when the text is not JSON or does not fit.
 */
export function deserialize(text: string, schema: Schema | undefined, what: () => string): unknown {
  let payload: unknown;
  try {
    payload = JSON.parse(text);
  } catch (cause) {
    throw new PayloadError(`${what()}: the stored payload is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (schema === undefined) return payload;
  const result = validate(schema, payload, what);
  if (result.issues !== undefined) {
    throw new PayloadError(
      `${what()}: the stored payload does not fit the schema: ${describe(result.issues)}`,
    );
  }
  return result.value;
}

/** The payload as far as it can be read, for people who look: what does not fit the schema as it is, what is not JSON as text. */
export function readStored(text: string, schema: Schema | undefined): unknown {
  try {
    return deserialize(text, schema, () => "stored");
  } catch {
    return schema === undefined ? text : readStored(text, undefined);
  }
}

function validate(schema: Schema, value: unknown, what: () => string): SchemaResult<unknown> {
  let result: ReturnType<Schema["~standard"]["validate"]>;
  try {
    result = schema["~standard"].validate(value);
  } catch (cause) {
    throw new TypeError(`${what()}: the schema itself failed: ${messageOf(cause)}`, { cause });
  }
  if (result instanceof Promise) {
    result.catch(() => {});
    throw new TypeError(
      `${what()}: the schema validates asynchronously, or throws; it must be synchronous, and report what does not fit`,
    );
  }
  return result;
}

function describe(issues: readonly SchemaIssue[]): string {
  return issues
    .map(({ message, path }) => {
      const keys = (path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
      return keys.length === 0 ? message : `${keys.join(".")}: ${message}`;
    })
    .join("; ");
}

/** The message of whatever was thrown: what an application throws may be anything, and is stored. */
export function messageOf(error: unknown): string {
  try {
    const message = error instanceof Error ? error.message : error;
    if (typeof message === "string") return message.toWellFormed();
    return typeof message === "object" && message !== null ? JSON.stringify(message) : String(message);
  } catch {
    return "something without a message"; // a proxy that was revoked, a getter that throws
  }
}

/** Its stack, if it has one. */
export function stackOf(error: unknown): string | null {
  try {
    const stack = error instanceof Error ? error.stack : null;
    return typeof stack === "string" ? stack.toWellFormed() : null;
  } catch {
    return null;
  }
}
