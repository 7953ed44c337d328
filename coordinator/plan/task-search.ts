/**
 * Finds the task that makes its job fail, by cutting the job in halves. Pure: it says which part of the
 * job to compute next and is told whether that part failed.
 *
 * A task is found only where others are sound, because a job that fails whatever its tasks are (its model
 * is too large, the numbers diverge) has no task at fault. When both halves of a failing part are sound,
 * the failure was a passing one.
 */

type Places = readonly number[];

export class TaskSearch {
  /** Parts to compute, the next one last. */
  #waiting: Places[] = [];
  /** The other halves of failed parts, the largest first. Nothing is known of them. */
  readonly #unseen: Places[] = [];
  /** The task that failed alone, while it is not known whether others are sound. */
  #accused: number | null = null;
  #hasSoundPart = false;
  #guilty: number | null = null;

  /** @param taskCount at least 2: the only task of a job cannot be told from the job. */
  constructor(taskCount: number) {
    this.#cut(Array.from({ length: taskCount }, (_, place) => place));
  }

  /** The places in the job of the tasks to compute next; null when the search has ended. */
  get part(): Places | null {
    return this.#waiting.at(-1) ?? null;
  }

  /** The place of the task at fault; null while it is not known, and when there is none. */
  get guilty(): number | null {
    return this.#guilty;
  }

  note(outcome: 'sound' | 'failed'): void {
    const part = this.#waiting.pop();
    if (part === undefined) throw new Error('the search has ended');
    if (outcome === 'sound') this.#hasSoundPart = true;
    if (this.#accused !== null) this.#convictIfOthersAreSound(this.#accused);
    else if (outcome === 'failed') this.#lookInto(part);
  }

  /** The fault is in this part, so the other half need not be computed now. */
  #lookInto(part: Places): void {
    this.#unseen.push(...this.#waiting);
    this.#waiting = [];
    const [only] = part;
    if (part.length > 1) this.#cut(part);
    else if (only !== undefined) {
      this.#accused = only;
      this.#waiting = this.#unseen.toReversed();
      this.#convictIfOthersAreSound(only);
    }
  }

  #convictIfOthersAreSound(place: number): void {
    if (!this.#hasSoundPart) return;
    this.#guilty = place;
    this.#waiting = [];
  }

  #cut(part: Places): void {
    const middle = Math.ceil(part.length / 2);
    this.#waiting.push(part.slice(middle), part.slice(0, middle));
  }
}
