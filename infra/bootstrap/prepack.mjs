// `npm pack` and `npm publish` run this first. It compiles the packed code, so that users who
// install the package need no TypeScript. Type errors stop it.
import { buildProject } from './build.mjs';
import { writeDeclarations } from './declarations.mjs';
import { installNpmPackages } from './packages/npm-packages.mjs';
import { BootstrapError, failWith, runStep } from './base/progress.mjs';
import { checkNodeVersion } from './setup.mjs';
import { withSetupLock } from './setup-lock.mjs';

try {
  checkNodeVersion();
  // `npm pack --dry-run` packs nothing, but the files that it lists must exist.
  delete process.env['npm_config_dry_run'];
  await withSetupLock(async () => {
    await runStep('npm packages', installNpmPackages);
    await runStep('build', async (announce) => {
      const built = await buildProject(announce);
      if (built.errors.length === 0) return built;
      throw new BootstrapError('the sources have type errors', built.errors);
    });
    await runStep('types', writeDeclarations);
  });
} catch (error) {
  failWith(error);
}
