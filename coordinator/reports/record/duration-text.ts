/** A duration in the unit that a reader would choose. */

const UNITS = [
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
  for (const [index, [unitMs, unit]] of UNITS.entries()) {
    if (rounded < unitMs) continue;
    const [smallerMs, smaller] = UNITS[index + 1] ?? [1_000, 's'];
    const rest = Math.floor((rounded % unitMs) / smallerMs);
    return `${Math.floor(rounded / unitMs)} ${unit}${rest === 0 ? '' : ` ${rest} ${smaller}`}`;
  }
  throw new Error('every duration of a minute or more has a unit');
}
