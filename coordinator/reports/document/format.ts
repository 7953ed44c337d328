/** How reports write numbers, counts, durations and times. */

const NOTHING = '-';

export function formatNumber(value: number | null | undefined, digits: number): string {
  return value === null || value === undefined ? NOTHING : value.toFixed(digits);
}

/** `12.3 %` */
export function formatShare(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

/** The share of a part in a whole; `-` for an empty whole. */
export function formatPart(part: number, whole: number): string {
  return whole === 0 ? NOTHING : formatShare(part / whole);
}

export function formatCount(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** `+0.1234`, `-0.1234`, `0.0000` */
export function formatSigned(value: number, digits = 4): string {
  const text = value.toFixed(digits);
  if (Number(text) === 0) return (0).toFixed(digits);
  return value > 0 ? `+${text}` : text;
}

/** `2026-11-27 07:39:58`, in universal time. */
export function timeText(epochMs: number): string {
  return new Date(epochMs).toISOString().slice(0, 19).replace('T', ' ');
}

const DURATION_UNITS = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
] as const;

/** `350 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h` */
export function durationText(durationMs: number): string {
  if (durationMs < 999.5) return `${Math.round(durationMs)} ms`;
  // Rounded before a unit is chosen: never `60.0 s`.
  const rounded = Math.round(durationMs / 100) * 100;
  if (rounded < 60_000) return `${(rounded / 1_000).toFixed(1)} s`;
  const index = DURATION_UNITS.findIndex(([unitMs]) => rounded >= unitMs);
  const [unitMs, unit] = DURATION_UNITS[index] ?? DURATION_UNITS[2];
  const [smallerMs, smaller] = DURATION_UNITS[index + 1] ?? [1_000, 's'];
  const rest = Math.floor((rounded % unitMs) / smallerMs);
  return `${Math.floor(rounded / unitMs)} ${unit}${rest === 0 ? '' : ` ${rest} ${smaller}`}`;
}
