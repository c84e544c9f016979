// What some tests need of the machine. Where it is missing they are left out, but not in CI.

const isLinux = process.platform === "linux";
const isCi = Bun.env.CI !== undefined;

/** `/proc` tells which files a process has open. */
export const hasProc: boolean = isLinux;

/** The sqlite3 shell, as another program on a file. */
export const hasShell: boolean = isCi || Bun.which("sqlite3") !== null;

/** A process may have mounts and limits of its own. */
export const hasNamespaces: boolean =
  isLinux && (isCi || Bun.spawnSync(["unshare", "--map-root-user", "--mount", "true"]).exitCode === 0);
