/** How reports write numbers, on a terminal and on a page, and how a terminal wraps sentences. */

const NOTHING = '-';

export function formatNumber(value: number | null, digits: number): string {
  return value === null ? NOTHING : value.toFixed(digits);
}

/** `12.3 %` */
export function formatShare(share: number): string {
  return `${Number((share * 100).toPrecision(3))} %`;
}

export function formatCount(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: 0 });
}

/** At word boundaries; a continued line is indented. */
export function wrap(sentence: string, columnCount: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of sentence.split(' ')) {
    if (line.trim() !== '' && line.length + 1 + word.length > columnCount) {
      lines.push(line);
      line = `  ${word}`;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}
