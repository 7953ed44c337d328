/** Metrics read from the text format of Prometheus, version 0.0.4, as another process has written them. */

export interface MetricSample {
  /** That of a histogram ends in `_bucket`, `_sum` or `_count`. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const SAMPLES_MAX = 20_000;
const LINE = /^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? +(\S+)(?: +-?\d+)?$/;
const LABEL = /([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"(?:,|$)/gy;

/** @throws Error that names the line which is no sample. */
export function samplesOf(exposition: string): MetricSample[] {
  const samples: MetricSample[] = [];
  for (const [index, line] of exposition.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const sample = sampleOf(line);
    if (sample === null) throw new Error(`line ${index + 1} is no metric`);
    if (samples.length === SAMPLES_MAX) throw new Error(`more than ${SAMPLES_MAX} metrics`);
    samples.push(sample);
  }
  return samples;
}

function sampleOf(line: string): MetricSample | null {
  const [, name, labelsText = '', valueText] = LINE.exec(line) ?? [];
  if (name === undefined || valueText === undefined) return null;
  const labels = labelsOf(labelsText);
  const value = numberOf(valueText);
  return labels === null || value === null ? null : { name, labels, value };
}

function labelsOf(text: string): Record<string, string> | null {
  const found = [...text.matchAll(LABEL)];
  const length = found.reduce((sum, [whole]) => sum + whole.length, 0);
  if (length !== text.length) return null;
  return Object.fromEntries(found.map(([, label = '', value = '']) => [label, unescaped(value)]));
}

function unescaped(value: string): string {
  return value.replaceAll(/\\(.)/g, (_, letter: string) => (letter === 'n' ? '\n' : letter));
}

function numberOf(text: string): number | null {
  if (text === '+Inf') return Number.POSITIVE_INFINITY;
  if (text === '-Inf') return Number.NEGATIVE_INFINITY;
  if (text === 'NaN') return Number.NaN;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}
