import type { Job } from "../../../src/index.ts";

export default ({ payload }: Job<unknown>): unknown => payload;
