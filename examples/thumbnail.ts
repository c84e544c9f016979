// The handler of thumbnails.ts, which runs in threads: it computes, and would keep a whole process busy.
import { type Job, UnrecoverableError } from "honkbun";

export interface Image {
  readonly album: number;
  readonly image: number;
}

const [SIDE, SMALL] = [64, 8];

export default (job: Job<Image>): void => {
  const pixels = read(job.payload);
  const thumbnail = new Uint8Array(SMALL * SMALL);
  const scale = SIDE / SMALL;
  for (let y = 0; y < SMALL; y++) {
    for (let x = 0; x < SMALL; x++) {
      let sum = 0;
      for (let dy = 0; dy < scale; dy++) {
        for (let dx = 0; dx < scale; dx++) sum += pixels[(y * scale + dy) * SIDE + x * scale + dx] ?? 0;
      }
      thumbnail[y * SMALL + x] = sum / (scale * scale);
    }
  }
};

/** Stands for a file on a disk; some are broken. */
function read({ image }: Image): Uint8Array {
  if (image % 2_500 === 1) throw new UnrecoverableError(`image ${image} is no image`);
  return Uint8Array.from({ length: SIDE * SIDE }, (_, n) => n ^ image);
}
