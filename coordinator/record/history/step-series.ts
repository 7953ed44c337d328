/** Values of a run of any length in bounded memory: points, times by phase and losses by size, gathered in spans. */

import { at } from '../../../shared/base/arrays.js';
import {
  measuredPart,
  sizeMeansOf,
  type SizeLosses,
  type SizeMean,
} from '../../../shared/events/size-losses.js';

interface SpanRules<Span> {
  /** At least 2. */
  readonly spansMax: number;
  /** The number of items of a span. */
  readonly itemCountOf: (span: Span) => number;
  readonly united: (earlier: Span, later: Span) => Span;
}

/**
 * A list whose items are gathered in spans of equally many. When there are too many spans, every two neighbours
 * become one.
 */
class SpanList<Span> {
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

interface StepSpan<Sum> {
  readonly firstOuterStep: number;
  readonly lastOuterStep: number;
  readonly stepCount: number;
  readonly sum: Sum;
}

/** Sums over spans of equally many outer steps. */
class StepSpans<Sum> {
  readonly #list: SpanList<StepSpan<Sum>>;

  constructor(spansMax: number, summed: (earlier: Sum, later: Sum) => Sum) {
    this.#list = new SpanList({
      spansMax,
      itemCountOf: ({ stepCount }) => stepCount,
      united: (earlier, later) => ({
        firstOuterStep: earlier.firstOuterStep,
        lastOuterStep: later.lastOuterStep,
        stepCount: earlier.stepCount + later.stepCount,
        sum: summed(earlier.sum, later.sum),
      }),
    });
  }

  /** Steps that are not behind the last one are left out. */
  add(outerStep: number, value: Sum): void {
    const newest = this.#list.spans.at(-1);
    if (newest !== undefined && outerStep <= newest.lastOuterStep) return;
    this.#list.add({
      ...{ firstOuterStep: outerStep, lastOuterStep: outerStep, stepCount: 1 },
      sum: value,
    });
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#list.replaceEach((span) => (span.lastOuterStep <= outerStep ? [span] : []));
  }

  get spans(): readonly StepSpan<Sum>[] {
    return this.#list.spans;
  }
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

interface PointSpan {
  readonly pointCount: number;
  readonly least: Point;
  readonly greatest: Point;
}

/** The first and the last point are kept as well. */
export const POINTS_MAX = 2_000;
const SPANS_MAX = (POINTS_MAX - 2) / 2;

/** The least and the greatest value of each span are kept, so that no spike is lost. */
export class PointSeries {
  readonly #list = new SpanList<PointSpan>({
    spansMax: SPANS_MAX,
    itemCountOf: ({ pointCount }) => pointCount,
    united: unitedPoints,
  });
  #first: Point | null = null;
  #last: Point | null = null;

  /** @param y a value that is not finite is left out, and so are points that are not behind the last one. */
  add(x: number, y: number): void {
    if (!Number.isFinite(y) || (this.#last !== null && x <= this.#last.x)) return;
    const point = { x, y };
    this.#first ??= point;
    this.#last = point;
    this.#list.add({ pointCount: 1, least: point, greatest: point });
  }

  /** Forgets the points behind `x`: a run that is resumed repeats the steps since its checkpoint. */
  forgetAfter(x: number): void {
    if (this.#last === null || this.#last.x <= x) return;
    this.#list.replaceEach((span) => spanUpTo(span, x));
    const kept = this.points().filter((point) => point.x <= x);
    this.#first = kept[0] ?? null;
    this.#last = kept.at(-1) ?? null;
  }

  /** At most `POINTS_MAX`, by ascending x. */
  points(): Point[] {
    const ordered = this.#list.spans.flatMap(({ least, greatest }) => {
      if (least === greatest) return [least];
      return least.x < greatest.x ? [least, greatest] : [greatest, least];
    });
    const { first, last } = { first: this.#first, last: this.#last };
    if (first !== null && ordered[0]?.x !== first.x) ordered.unshift(first);
    if (last !== null && ordered.at(-1)?.x !== last.x) ordered.push(last);
    return ordered;
  }
}

/** Keeps the earlier of two equal values. */
function unitedPoints(earlier: PointSpan, later: PointSpan): PointSpan {
  return {
    pointCount: earlier.pointCount + later.pointCount,
    least: later.least.y < earlier.least.y ? later.least : earlier.least,
    greatest: later.greatest.y > earlier.greatest.y ? later.greatest : earlier.greatest,
  };
}

function spanUpTo({ pointCount, least, greatest }: PointSpan, x: number): PointSpan[] {
  const kept = [least, greatest].filter((point) => point.x <= x);
  const [one, other = one] = kept;
  return one === undefined || other === undefined
    ? []
    : [{ pointCount, least: one, greatest: other }];
}

/** The time that outer steps take by phase: means over spans. */
export interface TimedSteps extends Omit<StepSpan<never>, 'sum'> {
  /** Milliseconds of one outer step, by phase. */
  readonly meanMsByPhase: ReadonlyMap<string, number>;
}

type MsByPhase = ReadonlyMap<string, number>;

export const TIMED_SPANS_MAX = 120;
/** More kinds of phases than any version of the program has. */
const PHASES_MAX = 24;

export class StepTimes {
  readonly #spans = new StepSpans<MsByPhase>(TIMED_SPANS_MAX, summedTimes);

  add(outerStep: number, phasesMs: Readonly<Record<string, number>>): void {
    const phases = Object.entries(phasesMs).filter(([, ms]) => Number.isFinite(ms));
    this.#spans.add(outerStep, new Map(phases.slice(0, PHASES_MAX)));
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans.forgetAfter(outerStep);
  }

  spans(): TimedSteps[] {
    return this.#spans.spans.map(({ sum, ...span }) => ({
      ...span,
      meanMsByPhase: new Map([...sum].map(([phase, sumMs]) => [phase, sumMs / span.stepCount])),
    }));
  }
}

function summedTimes(earlier: MsByPhase, later: MsByPhase): MsByPhase {
  const sums = new Map(earlier);
  for (const [phase, sumMs] of later) sums.set(phase, (sums.get(phase) ?? 0) + sumMs);
  return sums;
}

export interface SizedSteps extends Omit<StepSpan<never>, 'sum'> {
  /** Sums by bucket; the same buckets in all spans. */
  readonly means: readonly SizeMean[];
}

const SIZED_SPANS_MAX = 60;

/** Sums over a span of outer steps. */
interface SpanLosses {
  readonly all: SizeLosses;
  /** Sums over the outer steps that measure the query loss before adaptation; null if none does. */
  readonly measured: SizeLosses | null;
}

export class SizedLosses {
  #spans = new StepSpans<SpanLosses>(SIZED_SPANS_MAX, summedLosses);
  #sizes = '';

  /** A run that is resumed with other buckets begins anew. */
  add(outerStep: number, losses: SizeLosses): void {
    const sizes = losses.sizes.join(' ');
    if (sizes !== this.#sizes) this.#spans = new StepSpans(SIZED_SPANS_MAX, summedLosses);
    this.#sizes = sizes;
    this.#spans.add(outerStep, { all: losses, measured: measuredPart(losses) });
  }

  /** Forgets the spans with steps behind this one. */
  forgetAfter(outerStep: number): void {
    this.#spans.forgetAfter(outerStep);
  }

  spans(): SizedSteps[] {
    return this.#spans.spans.map(({ sum: { all, measured }, ...span }) => ({
      ...span,
      means: sizeMeansOf(all, measured),
    }));
  }
}

function summedLosses(earlier: SpanLosses, later: SpanLosses): SpanLosses {
  const [some, more] = [earlier.measured, later.measured];
  return {
    all: added(earlier.all, later.all),
    measured: some === null || more === null ? (some ?? more) : added(some, more),
  };
}

function added(earlier: SizeLosses, later: SizeLosses): SizeLosses {
  const sums = (some: readonly number[], more: readonly number[]): number[] =>
    some.map((value, bucket) => value + at(more, bucket));
  return {
    sizes: earlier.sizes,
    taskCounts: sums(earlier.taskCounts, later.taskCounts),
    weights: sums(earlier.weights, later.weights),
    queryLossSums: sums(earlier.queryLossSums, later.queryLossSums),
    supportLossSums: sums(earlier.supportLossSums, later.supportLossSums),
    ...(earlier.queryLossBeforeSums === undefined || later.queryLossBeforeSums === undefined
      ? {}
      : { queryLossBeforeSums: sums(earlier.queryLossBeforeSums, later.queryLossBeforeSums) }),
  };
}
