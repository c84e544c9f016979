import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { statSync, unlinkSync, utimesSync, writeFileSync } from "node:fs";

import { Bell } from "../../src/wake/bell.ts";
import { eventually } from "../support/eventually.ts";
import { Folder } from "../support/folder.ts";

let folder: Folder;
let wal: string;
beforeEach(() => {
  folder = new Folder();
  wal = `${folder.file()}-wal`;
  writeFileSync(wal, "");
  silence();
});
afterEach(() => folder[Symbol.dispose]());

const silence = (): void => utimesSync(wal, 1, 1);
const hasRung = (): boolean => statSync(wal).mtimeMs > 1_000;

function ringUntilOneIsOwed(bell: Bell): void {
  let rings: number;
  do {
    rings = bell.rings;
    bell.ring();
  } while (bell.rings > rings);
}

describe("a ring", () => {
  test("touches the WAL at once", () => {
    new Bell(folder.file()).ring();
    expect(hasRung()).toBe(true);
  });

  test("is held back right after another, and made up for soon", async () => {
    const bell = new Bell(folder.file());
    ringUntilOneIsOwed(bell);
    silence();
    await eventually(hasRung, "it has rung");
  });

  test("that is owed is made when the bell is closed", () => {
    const bell = new Bell(folder.file());
    ringUntilOneIsOwed(bell);
    silence();
    bell.close();
    expect(hasRung()).toBe(true);
  });

  test("that fails is noted, and is no error", () => {
    unlinkSync(wal);
    const bell = new Bell(folder.file());
    expect(() => bell.ring()).not.toThrow();
    expect(bell.rings).toBe(0);
    expect(bell.failure).toContain("ENOENT");
  });
});
