import { show } from "../duration.ts";
import { PayloadError } from "../errors.ts";
import type { Schema } from "../payload.ts";

const KEY = "__honker_task__";

/** What a task's job carries: which task, and its input as a call's arguments. */
export interface Envelope {
  readonly task: string;
  /** Positional, as another language's caller gave them. */
  readonly args: readonly unknown[];
  /** By name; our own inputs that are objects. */
  readonly kwargs: Readonly<Record<string, unknown>>;
}

/**
 * The payload of a task's job. An object goes by its keys, so that handlers in other languages get named arguments.
 * @throws PayloadError for what would become null in an array
 */
export function toPayload(task: string, input: unknown): unknown {
  if (typeof input === "function" || typeof input === "symbol") {
    throw new PayloadError(`task ${task}: input cannot be stored as JSON: it is a ${typeof input}`);
  }
  const isNamed =
    typeof input === "object" && input !== null && !Array.isArray(input) && !("toJSON" in input); // which may become anything
  const args = isNamed || input === undefined ? [] : [input];
  return { [KEY]: { task, args, kwargs: isNamed ? input : {} } };
}

/** What a stored payload says, or null when it is no task's. */
export function readEnvelope(payload: unknown): Envelope | null {
  if (typeof payload !== "object" || payload === null || !(KEY in payload)) return null;
  const { task, args = [], kwargs = {} } = (payload[KEY] ?? {}) as Partial<Envelope>;
  if (typeof task !== "string" || !Array.isArray(args) || typeof kwargs !== "object" || kwargs === null) {
    return null;
  }
  return { task, args, kwargs };
}

/** What the input may be that the arguments stand for, the likeliest first. */
function inputsOf({ args, kwargs }: Envelope, hasSchema: boolean): readonly [unknown, ...unknown[]] {
  const isNamed = Object.keys(kwargs).length > 0;
  if (args.length === 1 && !isNamed) return [args[0]];
  if (args.length > 0 || isNamed) return [kwargs];
  return hasSchema ? [kwargs, undefined] : [undefined];
}

/** Reads the input out of payloads of one task: a schema of the payload, with the output of the input's schema. */
export function inputSchema(task: string, schema: Schema | undefined): Schema {
  return {
    "~standard": {
      version: 1,
      vendor: "honkbun",
      validate: (payload) => {
        const envelope = readEnvelope(payload);
        if (envelope?.task !== task) {
          return { issues: [{ message: `is no payload of the task ${show(task)}` }] };
        }
        const [first, ...others] = inputsOf(envelope, schema !== undefined);
        if (schema === undefined) return { value: first };
        const result = schema["~standard"].validate(first);
        for (const other of others) {
          if (result instanceof Promise || result.issues === undefined) break;
          const next = schema["~standard"].validate(other);
          if (next instanceof Promise || next.issues === undefined) return next;
        }
        return result;
      },
    },
  };
}
