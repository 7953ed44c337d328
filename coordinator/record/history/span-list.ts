/**
 * A list of any length in bounded memory. Its items are gathered in spans of equally many; when there are too many
 * spans, every two neighbours become one.
 */

interface SpanRules<Span> {
  /** At least 2. */
  readonly spansMax: number;
  /** The number of items of a span. */
  readonly itemCountOf: (span: Span) => number;
  readonly united: (earlier: Span, later: Span) => Span;
}

export class SpanList<Span> {
  readonly #rules: SpanRules<Span>;
  #spans: Span[] = [];
  #itemCountPerSpan = 1;

  constructor(rules: SpanRules<Span>) {
    this.#rules = rules;
  }

  get spans(): readonly Span[] {
    return this.#spans;
  }

  /** @param single a span of one item, which is behind all others. */
  add(single: Span): void {
    const { spansMax, itemCountOf, united } = this.#rules;
    const newest = this.#spans.at(-1);
    if (newest !== undefined && itemCountOf(newest) < this.#itemCountPerSpan)
      this.#spans[this.#spans.length - 1] = united(newest, single);
    else this.#spans.push(single);
    if (this.#spans.length > spansMax) this.#halve();
  }

  /** Puts spans, or nothing, in the place of each one. */
  replaceEach(replacements: (span: Span) => readonly Span[]): void {
    this.#spans = this.#spans.flatMap(replacements);
  }

  #halve(): void {
    this.#itemCountPerSpan *= 2;
    const halved: Span[] = [];
    for (const [index, span] of this.#spans.entries()) {
      const earlier = halved.at(-1);
      if (index % 2 === 1 && earlier !== undefined)
        halved[halved.length - 1] = this.#rules.united(earlier, span);
      else halved.push(span);
    }
    this.#spans = halved;
  }
}
