// What a captured write costs, beside one that is not, and one that stores the event by hand in the same transaction.
import { open } from "../../src/index.ts";
import { Folder } from "../support/folder.ts";
import { nextTurn, rounds, scaled } from "./support.ts";

const COUNT = scaled(5_000, 50);

await rounds("microseconds of an INSERT of 6 columns", ["in a commit", "in a batch"], async () => {
  using folder = new Folder();
  using db = open(folder.file());
  const { sqlite } = db;
  const columns = "name TEXT, mail TEXT, age INTEGER, score REAL, note TEXT";
  for (const table of ["bare", "captured", "by_hand"]) {
    sqlite.run(`CREATE TABLE ${table} (id INTEGER PRIMARY KEY, ${columns})`);
  }
  db.capture.add("captured", { into: { stream: "changes" } });
  const stream = db.stream("changes");
  const row = ["alice", "alice@example.com", 30, 1.5, "a note of some length"];
  const insert = (table: string) => {
    const statement = sqlite.prepare(
      `INSERT INTO ${table} (name, mail, age, score, note) VALUES (?, ?, ?, ?, ?)`,
    );
    return (): void => void statement.run(...row);
  };
  const byHand = insert("by_hand");
  const writes: Record<string, () => void> = {
    "not captured": insert("bare"),
    captured: insert("captured"),
    "published by hand": () => {
      byHand();
      const [name, mail, age, score, note] = row;
      stream.publish({ operation: "insert", new: { name, mail, age, score, note } });
    },
  };
  const figures: Record<string, number[]> = {};
  for (const [subject, write] of Object.entries(writes)) {
    const each = subject === "published by hand" ? () => db.transaction(write) : write;
    let spent = 0;
    for (let n = 0; n < COUNT; n += 50) {
      const start = performance.now();
      for (let m = 0; m < 50; m++) each();
      spent += performance.now() - start;
      await nextTurn();
    }
    const start = performance.now();
    db.transaction(() => {
      for (let n = 0; n < COUNT; n++) write();
    });
    figures[subject] = [(spent * 1_000) / COUNT, ((performance.now() - start) * 1_000) / COUNT];
    await nextTurn();
  }
  return figures;
});
