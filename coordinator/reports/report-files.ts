/** Names of what an evaluation leaves in the output of its run. */

export const REPORT_FILE = 'evaluation.json';

/**
 * `report.html`, of a segment `report-SEGMENT.html`; characters that no object's key may have are
 * written as the hexadecimal digits of their bytes, each byte after an `=`.
 */
export function fileOfSegment(file: string, segment: string | null): string {
  if (segment === null) return file;
  const name = segment.replace(/[^A-Za-z0-9_.-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
  return file.replace(/(?=\.[a-z]+$)/, () => `-${name}`);
}
