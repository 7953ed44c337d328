/** The forms that control runs, and the orders that they post. Each form has a token that other pages cannot know. */

import { z } from 'zod';
import type { Form } from '../reports/document/document.js';
import { areEqual, isOwnOrigin } from './access.js';

type ControlOrder = 'pause' | 'resume' | 'cancel';

/** Makes the form that controls a run. */
export type FormOfRun = (run: string, isPaused: boolean) => Form;

/** Gives an order to the run of this name. Resolves with a sentence when its coordinator has heard it. */
export type GiveOrder = (order: ControlOrder, run: string) => Promise<string>;

export const ORDERS_PATH = '/orders';
const FORM_BYTE_COUNT_MAX = 4_096;

const FormSchema = z.strictObject({
  order: z.enum(['pause', 'resume', 'cancel']),
  run: z.string().min(1).max(128),
  csrf: z.string().max(200),
  back: z.string().max(1_000).default('/'),
});

interface PostedOrder {
  readonly origin: string | undefined;
  readonly host: string | undefined;
  /** The body, as a form of a page encodes it. */
  readonly body: string;
}

type OrderAnswer =
  | { readonly kind: 'heard'; readonly sentence: string; readonly back: string }
  | { readonly kind: 'refused'; readonly status: 400 | 403 | 413; readonly why: string };

const LABELS: readonly (readonly [ControlOrder, string])[] = [
  ['pause', 'Pause'],
  ['resume', 'Resume'],
  ['cancel', 'Cancel'],
];

export class ControlDesk {
  readonly #give: GiveOrder;
  readonly #csrf: string;

  /** @param csrf a text that nobody can guess */
  constructor(give: GiveOrder, csrf: string) {
    this.#give = give;
    this.#csrf = csrf;
  }

  /** The orders that make sense in the state of the run. @param back the path of the page that shows the form */
  formsLeadingTo(back: string): FormOfRun {
    return (run, isPaused) => {
      const useless = isPaused ? 'pause' : 'resume';
      const offered = LABELS.filter(([order]) => order !== useless);
      return {
        ...{ kind: 'form', method: 'post', action: ORDERS_PATH },
        hidden: { csrf: this.#csrf, run, back },
        buttons: offered.map(([value, text]) => ({
          ...{ text, name: 'order', value, label: `${text} run ${run}` },
          isDanger: value === 'cancel',
        })),
      };
    };
  }

  /** @throws what the order throws if the run cannot be ordered so. */
  async receive({ origin, host, body }: PostedOrder): Promise<OrderAnswer> {
    if (!isOwnOrigin(origin, host))
      return {
        kind: 'refused',
        status: 403,
        why: 'the form was not sent by a page of this server',
      };
    if (body.length > FORM_BYTE_COUNT_MAX)
      return { kind: 'refused', status: 413, why: 'the form is too large' };
    const form = FormSchema.safeParse(Object.fromEntries(new URLSearchParams(body)));
    if (!form.success) return { kind: 'refused', status: 400, why: z.prettifyError(form.error) };
    const { order, run, csrf, back } = form.data;
    if (!areEqual(csrf, this.#csrf))
      return {
        kind: 'refused',
        status: 403,
        why: 'the form is of an earlier start of this server: load its page again',
      };
    return { kind: 'heard', sentence: await this.#give(order, run), back: ownPath(back) };
  }
}

/** A path of this server, whatever the form says. */
function ownPath(back: string): string {
  return /^\/(?![/\\])[^\s\\]*$/.test(back) ? back : '/';
}
