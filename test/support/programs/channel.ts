// What the programs in this folder have in common: lines of JSON on standard input and output.

/** Tells the test. */
export function say(message: unknown): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Calls `handler` with each message of the test and sends back what it returns. Ends with the test. */
export async function answer(handler: (message: never) => unknown): Promise<void> {
  for await (const line of console) say((await handler(JSON.parse(line) as never)) ?? null);
  process.exit(0);
}
