import { FreshvecError } from '../db/errors.js';

/** A re-embedding cannot be done as asked. `reasons`: each with what to do about it. Code `reembed_refused`. */
export class ReembedRefused extends FreshvecError {
  constructor(
    readonly source: string,
    readonly reasons: readonly string[],
    options?: ErrorOptions,
  ) {
    const list = reasons.length === 1 ? ` ${reasons[0]}` : reasons.map((reason) => `\n  - ${reason}`).join('');
    super('reembed_refused', `"${source}" cannot be re-embedded like this:${list}`, options);
  }
}

/** The source has no migration to act on. Code `migration_missing`. */
export class MigrationMissing extends FreshvecError {
  constructor(readonly source: string) {
    super(
      'migration_missing',
      `"${source}" is not being re-embedded. Start with \`freshvec reembed start ${source} --model MODEL\`.`,
    );
  }
}

/** A command does not fit the migration's state. Code `migration_refused`. */
export class MigrationRefused extends FreshvecError {
  constructor(
    readonly source: string,
    readonly command: string,
    readonly state: string,
    readonly why: string,
  ) {
    super('migration_refused', `\`${command}\` of "${source}" is not possible while it is ${state}: ${why}.`);
  }
}
