/** Upper and lower case as DuckDB has them: one character for one, whatever stands beside it. */

// eslint-disable-next-line no-control-regex -- all of ASCII
const ASCII = /^[\u0000-\u007f]*$/;

/** Letters whose case is younger than DuckDB's tables; Node's may know it. First and last. */
const WITHOUT_CASE: readonly (readonly [number, number])[] = [
  [0x19b, 0x19b],
  [0x264, 0x264],
  [0x1c89, 0x1c8a],
  [0xa7cb, 0xa7cf],
  [0xa7d2, 0xa7d5],
  [0xa7da, 0xa7dc],
  [0x10d50, 0x10d85],
  [0x16ea0, 0x16ed3],
];
const SHARP_S = 0xdf;
const CAPITAL_SHARP_S = 0x1e9e;
const DOTTED_CAPITAL_I = 0x130;
/** Greek letters with an iota: their single capital is this much further. First, last, distance. */
const WITH_IOTA: readonly (readonly [number, number, number])[] = [
  [0x1f80, 0x1f87, 8],
  [0x1f90, 0x1f97, 8],
  [0x1fa0, 0x1fa7, 8],
  [0x1fb3, 0x1fb3, 9],
  [0x1fc3, 0x1fc3, 9],
  [0x1ff3, 0x1ff3, 9],
];

export function lowerCase(text: string): string {
  if (ASCII.test(text)) return text.toLowerCase();
  return mapped(text, (character, point) =>
    point === DOTTED_CAPITAL_I ? 'i' : character.toLowerCase(),
  );
}

export function upperCase(text: string): string {
  if (ASCII.test(text)) return text.toUpperCase();
  return mapped(text, (character, point) => {
    if (point === SHARP_S) return String.fromCodePoint(CAPITAL_SHARP_S);
    const iota = WITH_IOTA.find(([first, last]) => point >= first && point <= last);
    if (iota !== undefined) return String.fromCodePoint(point + iota[2]);
    const upper = character.toUpperCase();
    // Letters that need several capitals stay as they are.
    return Array.from(upper).length === 1 ? upper : character;
  });
}

function mapped(text: string, convert: (character: string, point: number) => string): string {
  let result = '';
  for (const character of text) {
    const point = character.codePointAt(0) ?? 0;
    const isOutside = WITHOUT_CASE.some(([first, last]) => point >= first && point <= last);
    result += isOutside ? character : convert(character, point);
  }
  return result;
}
