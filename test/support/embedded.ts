import './provided.js';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { inject } from 'vitest';
import { openPglite, type PgliteDatabase } from '../../src/db/pglite.js';
import { EMBEDDED_TEMPLATE } from './template.js';

/** Makes a data directory as a new one is after it was opened and closed once; initdb takes seconds, a copy 0.2 s. */
export function copyEmbedded(dataDir: string): void {
  cpSync(path.join(inject('embeddedDirectory'), EMBEDDED_TEMPLATE), dataDir, { recursive: true });
}

/**
 * A data directory of a test's own, in a folder of its own that has room for its lock and socket. The run removes what
 * a test leaves.
 */
export function embeddedDirectory(): string {
  const dataDir = path.join(mkdtempSync(path.join(inject('embeddedDirectory'), 'db-')), 'data');
  copyEmbedded(dataDir);
  return dataDir;
}

/** Removes a directory that came from `embeddedDirectory`. */
export function removeEmbedded(dataDir: string): void {
  rmSync(path.dirname(dataDir), { recursive: true, force: true });
}

/** An embedded database of a test's own; to close it removes it. */
export async function freshEmbedded(): Promise<PgliteDatabase> {
  const dataDir = embeddedDirectory();
  const db = await openPglite({ dataDir });
  const close = db.close.bind(db);
  return Object.assign(db, { close: () => close().finally(() => removeEmbedded(dataDir)) });
}
