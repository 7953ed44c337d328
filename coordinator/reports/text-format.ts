/** How numbers and tables are written on a terminal, and numbers on a page. */

const NOTHING = '-';

/** Columns of equal length side by side; the first `leftCount` to the left, the others right. */
export function alignColumns(columns: readonly (readonly string[])[], leftCount: number): string {
  const widths = columns.map((column) => Math.max(...column.map((cell) => cell.length)));
  const rowCount = columns[0]?.length ?? 0;
  return Array.from({ length: rowCount }, (_, row) =>
    columns
      .map((column, index) => {
        const cell = column[row] ?? '';
        const width = widths[index] ?? 0;
        return index < leftCount ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd(),
  ).join('\n');
}

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
