/** `qianmo runs`: lists the runs below folders. */

import { listRuns } from '../../../library/index.js';
import { callOptionsOf } from '../../command/command-context.js';
import { format } from '../../command/shared-options.js';
import { verb } from '../../command/verb.js';
import { printDocument } from '../../command/print-document.js';

const FOLDER_DEFAULT = 'runs';

export const runsVerb = verb({
  name: 'runs',
  description: 'list the runs below folders, the latest first',
  argument: { name: '[folder...]', description: 'where outputs of runs lie; by default `runs`' },
  options: { format },
  help: `
A run in a bucket is named by its whole s3:// prefix.
Example:
  qianmo runs runs s3://models/movielens`,
  run: async (folders, { format }, context) => {
    const request = { folders: folders.length === 0 ? [FOLDER_DEFAULT] : [...folders] };
    const { runs, isCut } = await listRuns(request, callOptionsOf(context));
    const { runsDocument } = await import('../../../../coordinator/reports/run-documents.js');
    printDocument(runsDocument(runs, isCut), format, context);
  },
});
