/** A frame of a write-ahead log: see https://sqlite.org/walformat.html. */
export interface Frame {
  /** Bytes from the beginning of the log to the end of the frame. */
  readonly end: number;
  /** Whether a transaction is complete with it. */
  readonly isCommit: boolean;
}

const HEADER = 32;
const FRAME_HEADER = 24;

/** The frames of a log, as far as they belong to its latest run: what is behind them was written before a checkpoint. */
export function framesOf(wal: Uint8Array): Frame[] {
  const view = new DataView(wal.buffer, wal.byteOffset, wal.byteLength);
  const pageSize = view.getUint32(8);
  const frames: Frame[] = [];
  for (let start = HEADER; start + FRAME_HEADER + pageSize <= wal.length; start += FRAME_HEADER + pageSize) {
    // The salts of the header stand in each frame that was written since.
    if (view.getUint32(start + 8) !== view.getUint32(16) || view.getUint32(start + 12) !== view.getUint32(20))
      break;
    frames.push({ end: start + FRAME_HEADER + pageSize, isCommit: view.getUint32(start + 4) !== 0 });
  }
  return frames;
}
