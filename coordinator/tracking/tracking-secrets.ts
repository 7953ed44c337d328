/** Addresses, tokens and keys of trackers, from files that the config names or from the environment. */

import { createSecretKey, type KeyObject } from 'node:crypto';
import { QianmoError } from '../../shared/base/errors.js';
import { textOfNamedFile } from '../../shared/base/named-file.js';
import type { MlflowConfig, WebhookConfig } from '../../shared/config/tracking-config.js';
import type { MlflowServer } from './mlflow-client.js';

type Environment = Readonly<Record<string, string | undefined>>;

const SECRET_BYTE_COUNT_MAX = 8_192;
/** The secrets of Standard Webhooks: what follows is base64. */
const ENCODED_KEY_PREFIX = 'whsec_';

/** @throws QianmoError `usage` without an address, or with a user and no password; `environment` for an unreadable file. */
export async function mlflowServerOf(
  { url: configured, username, tokenFile, passwordFile }: MlflowConfig,
  environment: Environment,
): Promise<MlflowServer> {
  const url = configured ?? environment['MLFLOW_TRACKING_URI'];
  if (!isHttp(url)) throw missing('tracking.mlflow.url', 'http(s)://HOST', 'MLFLOW_TRACKING_URI');
  const token = await secretOf(
    tokenFile,
    'tracking.mlflow.tokenFile',
    environment['MLFLOW_TRACKING_TOKEN'],
  );
  const user = username ?? environment['MLFLOW_TRACKING_USERNAME'] ?? '';
  return {
    url: url.replace(/\/+$/, ''),
    authorization:
      token !== ''
        ? `Bearer ${token}`
        : user === ''
          ? null
          : `Basic ${Buffer.from(`${user}:${await passwordOf(passwordFile, environment)}`).toString('base64')}`,
  };
}

async function passwordOf(file: string | undefined, environment: Environment): Promise<string> {
  const field = 'tracking.mlflow.passwordFile';
  const password = await secretOf(file, field, environment['MLFLOW_TRACKING_PASSWORD']);
  if (password === '') throw missing(field, 'the password of the user', 'MLFLOW_TRACKING_PASSWORD');
  return password;
}

interface WebhookSecrets {
  readonly url: string;
  readonly key: KeyObject | null;
}

/** @throws QianmoError `usage` without an address; `environment` for an unreadable file. */
export async function webhookSecretsOf(
  { urlFile, secretFile }: WebhookConfig,
  environment: Environment,
): Promise<WebhookSecrets> {
  const url = await secretOf(
    urlFile,
    'tracking.webhook.urlFile',
    environment['QIANMO_WEBHOOK_URL'],
  );
  if (!isHttp(url))
    throw missing(
      'tracking.webhook.urlFile',
      'a file with http(s)://HOST/PATH',
      'QIANMO_WEBHOOK_URL',
    );
  const secret = await secretOf(
    secretFile,
    'tracking.webhook.secretFile',
    environment['QIANMO_WEBHOOK_SECRET'],
  );
  return { url, key: secret === '' ? null : webhookKeyOf(secret) };
}

/** As receivers read it, so that both sides sign with the same bytes. */
export function webhookKeyOf(secret: string): KeyObject {
  const isEncoded = secret.startsWith(ENCODED_KEY_PREFIX);
  return isEncoded
    ? createSecretKey(secret.slice(ENCODED_KEY_PREFIX.length), 'base64')
    : createSecretKey(secret, 'utf8');
}

/** A file that the config names comes before the environment. Empty if neither has it. */
async function secretOf(
  file: string | undefined,
  field: string,
  otherwise: string | undefined,
): Promise<string> {
  if (file === undefined) return (otherwise ?? '').trim();
  const named = { file, variable: field, what: 'a secret of a tracker' };
  return (await textOfNamedFile({ ...named, byteCountMax: SECRET_BYTE_COUNT_MAX })).trim();
}

function isHttp(url: string | undefined): url is string {
  return url !== undefined && URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

/** The value is not shown: it may be a secret in the wrong place. */
function missing(where: string, expected: string, variable: string): QianmoError {
  return new QianmoError({
    kind: 'usage',
    what: 'a tracker is not completely described',
    where,
    expected,
    cure: `set it, or the variable ${variable}`,
  });
}
