/** The page of a run as a file that needs no server. */

import type { ObjectStore } from '../../../shared/storage/object-store.js';
import { readRunHistory } from '../../record/history/run-history.js';
import type { RecordPlace } from '../../record/record-place.js';
import type { RunStatus } from '../../record/run-status.js';
import { settingsOf } from '../catalog/run-settings.js';
import { filedPage } from './page.js';
import { runPage } from './run-page.js';
import { settingsHtml } from './run-settings-part.js';

export async function filedRunPage(
  status: RunStatus,
  place: RecordPlace,
  checkpoints: ObjectStore,
): Promise<string> {
  const settings = await settingsOf(checkpoints);
  const configHtml = settingsHtml({ path: '', settings, compared: null, others: [] });
  const history = await readRunHistory(place);
  return filedPage(runPage({ status, history }, { controlHtml: '', configHtml, links: [] }));
}
