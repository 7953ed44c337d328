/**
 * The division of a log: segments of bounded size, of which the newest few are kept.
 */

/** Holds the segments of one log. */
export interface EventLogPlace {
  readonly address: string;
  /** @param lines whole lines, each with its line break. */
  append(lines: string): Promise<void>;
  /** Makes durable what was appended. */
  save(): Promise<void>;
  close(): Promise<void>;
}

export const LOG_FOLDER = 'events';

export interface SegmentBounds {
  readonly segmentByteCountMax: number;
  readonly segmentCountMax: number;
}

/** 32 MiB of lines: some 100,000 outer steps. */
export const SEGMENT_BOUNDS: SegmentBounds = {
  segmentByteCountMax: 4 * 1024 * 1024,
  segmentCountMax: 8,
};

const DIGIT_COUNT = 6;
const SEGMENT_NAME = /^events-(\d+)\.ndjson$/;
const LINE_BREAK = 10;

/** `events-000012.ndjson` */
export function segmentNameOf(sequence: number): string {
  return `events-${String(sequence).padStart(DIGIT_COUNT, '0')}.ndjson`;
}

/** Returns the numbers of the segments in ascending order. Other names are ignored. */
export function sequencesOf(names: readonly string[]): number[] {
  return names
    .flatMap((name) => {
      const digits = SEGMENT_NAME.exec(name)?.[1];
      return digits === undefined ? [] : [Number(digits)];
    })
    .sort((a, b) => a - b);
}

/** Returns the segments to remove when `newest` has begun. */
export function outdatedOf(
  sequences: readonly number[],
  newest: number,
  { segmentCountMax }: SegmentBounds,
): number[] {
  return sequences.filter((sequence) => sequence <= newest - segmentCountMax);
}

/** Returns the length of the whole lines. A process that was killed may have left half a line. */
export function wholeLinesByteCount(bytes: Uint8Array): number {
  return bytes.lastIndexOf(LINE_BREAK) + 1;
}
