/**
 * The access rules of the dashboard. A foreign page could lead its own name to the loopback address (DNS rebinding), or
 * post a form to it, so the name, the method, the token and the origin of every request are checked. Forms that control
 * runs have a token of their own, which other pages cannot know.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { isIPv6 } from 'node:net';
import type { Context, MiddlewareHandler } from 'hono';
import { z } from 'zod';
import type { Form } from '../reports/document/document.js';
import { isLoopbackHost } from '../../shared/network/addresses.js';

export interface Access {
  /** More names and addresses under which it may be asked for. */
  readonly hostsAllowed: readonly string[];
  /** Demanded of every request; null demands none. */
  readonly token: string | null;
  /** Paths that take a form when control is allowed; null when nothing is. */
  readonly posts: RegExp | null;
}

/** The place of the queue's metrics. */
export const METRICS_PATH = '/metrics';

const READING: ReadonlySet<string> = new Set(['GET', 'HEAD']);

export function guard(access: Access): MiddlewareHandler {
  return async (context, next) => {
    const { method, path } = context.req;
    const host = context.req.header('host') ?? '';
    const isTokenGiven =
      access.token !== null && hasToken(context.req.header('authorization'), access.token);
    // Scrapers ask by addresses that nobody knows beforehand, and a foreign page has no token.
    const mayNameAny = path === METRICS_PATH && isTokenGiven;
    if (!mayNameAny && !isOwnHost(host, access.hostsAllowed))
      return refused(context, 403, notItsName(host, path, access));
    if (access.token !== null && !isTokenGiven) {
      context.header('WWW-Authenticate', 'Basic realm="qianmo", charset="UTF-8"');
      return refused(
        context,
        401,
        'this dashboard demands its token: as the password of any user, or as Authorization: Bearer TOKEN',
      );
    }
    const mayPost = method === 'POST' && (access.posts?.test(path) ?? false);
    if (!READING.has(method) && !mayPost) {
      context.header('Allow', 'GET, HEAD');
      return refused(
        context,
        405,
        `this dashboard is read-only and does not take ${method} here; --allow-control lets it cancel runs`,
      );
    }
    return next();
  };
}

const PORT = /:\d{1,5}$/;

/**
 * The name or address without the port, in lower case, and IPv6 without brackets.
 *
 * @param host a Host header, or a name that an option allows.
 */
function hostName(host: string): string {
  const name = (isIPv6(host) ? host : host.replace(PORT, '')).toLowerCase();
  const inBrackets = /^\[(.*)\]$/.exec(name)?.[1] ?? '';
  return isIPv6(inBrackets) ? inBrackets : name;
}

/** @param hostsAllowed further names or addresses. */
function isOwnHost(host: string, hostsAllowed: readonly string[]): boolean {
  const name = hostName(host);
  if (name === '') return false;
  return isLoopbackHost(name) || hostsAllowed.some((allowed) => hostName(allowed) === name);
}

function notItsName(host: string, path: string, { token }: Access): string {
  const byToken =
    path === METRICS_PATH && token !== null
      ? '; to a request with its token it answers here under any name'
      : '';
  return `this dashboard does not answer as ${JSON.stringify(hostName(host))}: open it at 127.0.0.1 or localhost, or start it with --host-allow and this name${byToken}`;
}

/** Whether a form was sent by a page of this server itself, as browsers say. */
function isOwnOrigin(origin: string | undefined, host: string | undefined): boolean {
  if (origin === undefined || host === undefined) return false;
  return origin === `http://${host}` || origin === `https://${host}`;
}

/** Compares in constant time. */
function areEqual(given: string, expected: string): boolean {
  const digestOf = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digestOf(given), digestOf(expected));
}

function hasToken(header: string | undefined, token: string): boolean {
  const [scheme = '', value = ''] = (header ?? '').split(' ');
  if (scheme.toLowerCase() === 'bearer') return areEqual(value, token);
  if (scheme.toLowerCase() !== 'basic') return false;
  const pair = Buffer.from(value, 'base64').toString('utf8');
  return areEqual(pair.slice(pair.indexOf(':') + 1), token);
}

function refused(context: Context, status: 401 | 403 | 405, why: string): Response {
  return context.text(`${why}\n`, status);
}

/**
 * Headers of every page of the dashboard. Drawings have styles of their own in attributes; scripts come from the one
 * file of the server alone.
 */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; " +
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/** Headers of a file from the output of a run, which may come from anybody. */
export const FILE_HEADERS: Readonly<Record<string, string>> = {
  ...PAGE_HEADERS,
  'Content-Security-Policy':
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
};

/** Makes the form that cancels a run. */
export type FormOfRun = (run: string) => Form;

/** Cancels the run of this name. Resolves with a sentence when its coordinator has heard it. */
export type CancelRun = (run: string) => Promise<string>;

export const CANCEL_PATH = '/cancel';
const FORM_BYTE_COUNT_MAX = 4_096;

const FormSchema = z.strictObject({
  run: z.string().min(1).max(128),
  csrf: z.string().max(200),
  back: z.string().max(1_000).default('/'),
});

interface PostedForm {
  readonly origin: string | undefined;
  readonly host: string | undefined;
  /** The body, as a form of a page encodes it. */
  readonly body: string;
}

type FormAnswer =
  | { readonly kind: 'heard'; readonly sentence: string; readonly back: string }
  | { readonly kind: 'refused'; readonly status: 400 | 403 | 413; readonly why: string };

export class ControlDesk {
  readonly #cancel: CancelRun;
  readonly #csrf: string;

  /** @param csrf a text that nobody can guess */
  constructor(cancel: CancelRun, csrf: string) {
    this.#cancel = cancel;
    this.#csrf = csrf;
  }

  /** @param back the path of the page that shows the form */
  formsLeadingTo(back: string): FormOfRun {
    return (run) => ({
      ...{ kind: 'form', method: 'post', action: CANCEL_PATH },
      hidden: { csrf: this.#csrf, back },
      buttons: [
        { text: 'Cancel', name: 'run', value: run, label: `Cancel run ${run}`, isDanger: true },
      ],
    });
  }

  /** @throws what cancelling the run throws. */
  async receive({ origin, host, body }: PostedForm): Promise<FormAnswer> {
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
    const { run, csrf, back } = form.data;
    if (!areEqual(csrf, this.#csrf))
      return {
        kind: 'refused',
        status: 403,
        why: 'the form is of an earlier start of this server: load its page again',
      };
    return { kind: 'heard', sentence: await this.#cancel(run), back: ownPath(back) };
  }
}

/** A path of this server, whatever the form says. */
function ownPath(back: string): string {
  return /^\/(?![/\\])[^\s\\]*$/.test(back) ? back : '/';
}
