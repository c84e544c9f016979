import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A temporary folder that goes when disposed. */
export class Folder implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "honkbun-test-"));

  file(name = "app.db"): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
