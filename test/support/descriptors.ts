import { readdirSync, readlinkSync } from "node:fs";

/** The files below `folder` that this process has open, once per descriptor. Known on Linux only. */
export function openDescriptors(folder: string): string[] {
  return readdirSync("/proc/self/fd")
    .map((descriptor) => {
      try {
        return readlinkSync(`/proc/self/fd/${descriptor}`);
      } catch {
        return ""; // the one that listed the folder
      }
    })
    .filter((target) => target.startsWith(folder))
    .sort();
}
