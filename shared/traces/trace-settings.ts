/** Whether traces are sent, and where: by the environment variables that OpenTelemetry has for it. */

import { QianmoError } from '../base/errors.js';

interface TraceSettings {
  /** Takes OTLP in JSON over HTTP. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly service: string;
  /** The share of outer steps whose traces are kept. */
  readonly keptShare: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Null unless an endpoint is named.
 *
 * @throws QianmoError of kind `usage` if a variable has no sense.
 */
export function traceSettingsOf(environment: Environment, service: string): TraceSettings | null {
  const own = environment['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'];
  const base = environment['OTEL_EXPORTER_OTLP_ENDPOINT'];
  const isOff = environment['OTEL_SDK_DISABLED']?.toLowerCase() === 'true';
  const given = own || (base && `${base.replace(/\/+$/, '')}/v1/traces`);
  if (isOff || !given) return null;
  if (!URL.canParse(given) || !/^https?:/.test(given))
    throw unusable(
      'OTEL_EXPORTER_OTLP_ENDPOINT',
      'an address such as http://127.0.0.1:4318',
      given,
    );
  return {
    url: given,
    headers: headersOf(environment['OTEL_EXPORTER_OTLP_HEADERS'] ?? ''),
    service: environment['OTEL_SERVICE_NAME'] || service,
    keptShare: shareOf(environment['OTEL_TRACES_SAMPLER_ARG'] || '1'),
  };
}

/** `name=value` pairs between commas, the values encoded as in a URL. */
function headersOf(text: string): Record<string, string> {
  const pairs = text.split(',').filter((pair) => pair.trim() !== '');
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw unusable('OTEL_EXPORTER_OTLP_HEADERS', 'name=value pairs', 'another text');
      return [pair.slice(0, at).trim(), decoded(pair.slice(at + 1).trim())];
    }),
  );
}

/** Values may be secret, so that the refusal shows none. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    const expected = 'values encoded as in a URL, where % is %25';
    throw unusable('OTEL_EXPORTER_OTLP_HEADERS', expected, 'a % without a code behind it');
  }
}

function shareOf(text: string): number {
  const share = Number(text);
  if (share >= 0 && share <= 1) return share;
  throw unusable('OTEL_TRACES_SAMPLER_ARG', 'a share from 0 to 1', text);
}

function unusable(where: string, expected: string, found: string): QianmoError {
  return new QianmoError({
    ...{ kind: 'usage', what: 'traces cannot be sent as the environment says', where },
    ...{ expected, found, cure: `correct ${where}, or unset it` },
  });
}
