/**
 * The script of BullMQ that takes a job, with the number of jobs that are left: a worker that knows it neither counts
 * them by a command of its own, nor asks a queue for more that it has just emptied.
 */

import type * as bullmq from 'bullmq';
import { lengthenScript, type ScriptedConnection } from './own-script.js';

const SCRIPT = { name: 'moveToActive', keyCount: 11 };
/** The answer of the library's script where there is no job, no limit of rate and no job with a delay. */
const NO_JOB = [0, 0, 0, 0];
const LEFT_PLACE = NO_JOB.length;

/**
 * KEYS[1] are the jobs that wait, KEYS[3] those with a priority, KEYS[11] the marker that wakes a worker. The library
 * leaves it behind with every job that is taken, so that the last one would wake a worker in vain.
 */
function counting(lua: string): string {
  return `
local function take()
${lua}
end
local answer = take()
local left = redis.call('LLEN', KEYS[1])
if left == 0 and redis.call('EXISTS', KEYS[3]) == 0 then redis.call('ZREM', KEYS[11], '0') end
answer[${LEFT_PLACE + 1}] = left
return answer`;
}

/** The knowledge of a worker about the queue, from the latest job that it took. */
export class LeftOnQueue {
  #jobCount: number | null = null;
  /** Set while the library is told once more, without a command, that no job is left. */
  #isRepeated = false;

  /** Makes the worker take jobs by its own script. */
  constructor({ backend }: Pick<bullmq.Worker, 'backend'>, redis: ScriptedConnection) {
    const command = backend.execCommand.bind(backend);
    let isCounting = false;
    backend.execCommand = (client, name, args): unknown => {
      if (name !== SCRIPT.name) return command(client, name, args);
      // The library defines its scripts when it has connected.
      if (!isCounting) lengthenScript(redis, SCRIPT, counting);
      isCounting = true;
      if (this.#isRepeated) return Promise.resolve(NO_JOB);
      return this.#noted(command(client, name, args));
    };
  }

  /** The number of jobs that were left when the latest one was taken; null if the latest answer was that there is none. */
  get jobCount(): number | null {
    return this.#jobCount;
  }

  /**
   * Takes a job. The library waits for one only when it has found none before. Where the latest job was the last, that
   * is told without a command: whatever has been added since wakes whoever waits.
   */
  async taken<Job>(next: () => Promise<Job>, wait: boolean): Promise<Job> {
    this.#isRepeated = wait && this.#jobCount === 0;
    if (this.#isRepeated) await next();
    this.#isRepeated = false;
    this.#jobCount = null;
    return next();
  }

  async #noted(asked: unknown): Promise<unknown> {
    const answer = await asked;
    const parts: readonly unknown[] = Array.isArray(answer) ? answer : [];
    const [job] = parts;
    const jobCount = parts[LEFT_PLACE];
    const isTaken = typeof job === 'object' && typeof jobCount === 'number';
    this.#jobCount = isTaken ? jobCount : null;
    return answer;
  }
}
