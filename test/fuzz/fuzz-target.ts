/** The contract of a parser under fuzzing, and the run of one target over seeded inputs. */

import { QianmoError } from '../../shared/base/errors.js';
import { systemClock } from '../../shared/base/clock.js';
import { randomStream, type RandomStream } from '../../shared/base/random.js';

export interface FuzzTarget {
  readonly name: string;
  /** Its share of inputs relative to a cheap target. */
  readonly share: number;
  /** An input from outside, as bytes. Depends on the stream alone. */
  inputOf(stream: RandomStream): Uint8Array;
  /** Returns for any value of the kind that is promised, and throws otherwise. */
  parse(input: Uint8Array): unknown;
  /** Whether an error is a refusal that the parser documents; a QianmoError by default. */
  readonly isRefusal?: (error: unknown) => boolean;
}

export interface Finding {
  readonly target: string;
  readonly seed: number;
  readonly index: number;
  readonly what: string;
  readonly input: Uint8Array;
}

export interface TargetOutcome {
  readonly accepted: number;
  readonly refused: number;
  readonly durationMs: number;
  readonly findings: readonly Finding[];
}

interface RunTerms {
  readonly seed: number;
  readonly inputCount: number;
  readonly findingsMax: number;
  /** Called before every input, for watchdogs and progress. */
  readonly onInput?: (index: number, input: Uint8Array) => void;
}

/** No input is as large as a tenth of a megabyte, so a longer computation is a fault of the parser. */
const INPUT_MS_MAX = 2_000;
/** For what waits for others, which may be slow. */
const WAIT_MS_MAX = 60_000;
const ALLOCATED_BYTE_COUNT_MAX = 256 * 1024 * 1024;

export async function runTarget(target: FuzzTarget, terms: RunTerms): Promise<TargetOutcome> {
  const startMs = systemClock.monotonicMs();
  const counts = { accepted: 0, refused: 0 };
  const findings: Finding[] = [];
  const { seed, inputCount, findingsMax } = terms;
  for (let index = 0; index < inputCount && findings.length < findingsMax; index += 1) {
    const input = target.inputOf(randomStream(seed, target.name, index));
    terms.onInput?.(index, input);
    const verdict = await verdictOn(target, input);
    if (verdict === 'accepted' || verdict === 'refused') counts[verdict] += 1;
    else {
      const shrunk = await shrunkInput(target, input, verdict.found);
      findings.push({ target: target.name, seed, index, what: verdict.found, input: shrunk });
    }
  }
  return { ...counts, durationMs: systemClock.monotonicMs() - startMs, findings };
}

type Verdict = 'accepted' | 'refused' | { readonly found: string };

async function verdictOn(target: FuzzTarget, input: Uint8Array): Promise<Verdict> {
  const { isRefusal = (error: unknown) => error instanceof QianmoError } = target;
  const usedBefore = process.cpuUsage();
  const heldBefore = process.memoryUsage().arrayBuffers;
  let verdict: Verdict = 'accepted';
  try {
    if (!(await isInTime(target.parse(input))))
      return { found: `does not end within ${WAIT_MS_MAX} ms` };
  } catch (error) {
    verdict = isRefusal(error) ? 'refused' : { found: nameOf(error) };
  }
  if (process.memoryUsage().arrayBuffers - heldBefore > ALLOCATED_BYTE_COUNT_MAX)
    return { found: `allocates more than ${ALLOCATED_BYTE_COUNT_MAX} bytes` };
  // Time of the processor, since others may keep it from this process for seconds.
  const used = process.cpuUsage(usedBefore);
  if ((used.user + used.system) / 1_000 > INPUT_MS_MAX)
    return { found: `takes more than ${INPUT_MS_MAX} ms of the processor` };
  return verdict;
}

/** Whether a promise settles while an input may take time; what is no promise is settled. */
async function isInTime(parsed: unknown): Promise<boolean> {
  if (!(parsed instanceof Promise)) return true;
  const settled = new AbortController();
  const late = systemClock.sleep(WAIT_MS_MAX, settled.signal).then(() => false);
  try {
    return await Promise.race([parsed.then(() => true), late]);
  } finally {
    settled.abort();
  }
}

/** The error with the place in the code that threw it, so that shrinking keeps to one fault. */
function nameOf(error: unknown): string {
  if (!(error instanceof Error)) return `throws ${String(error)}`;
  const place = /\n\s+at [^\n]*/.exec(error.stack ?? '')?.[0].trim() ?? '';
  return `throws ${error.name}: ${error.message.slice(0, 200)} (${place})`;
}

const SHRINK_TRIES_MAX = 400;

/** Cuts out ever smaller parts as long as the fault stays the same. */
async function shrunkInput(
  target: FuzzTarget,
  input: Uint8Array,
  found: string,
): Promise<Uint8Array> {
  // A repeated allocation or hang would cost more than a smaller input is worth.
  if (!found.startsWith('throws')) return input;
  let smallest = Buffer.from(input);
  let tries = 0;
  for (let length = smallest.length >> 1; length > 0; length >>= 1)
    for (let start = 0; start < smallest.length && tries < SHRINK_TRIES_MAX;) {
      tries += 1;
      const cut = Buffer.concat([smallest.subarray(0, start), smallest.subarray(start + length)]);
      const verdict = await verdictOn(target, cut);
      if (typeof verdict === 'object' && verdict.found === found) smallest = cut;
      else start += length;
    }
  return smallest;
}
