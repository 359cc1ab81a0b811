import { execFileSync } from 'node:child_process';
import { access, mkdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { asAdmin, createDatabase, databaseUrl, dropDatabase } from '../../support/admin.js';
import type { TestDatabase } from '../../support/database.js';
import { atExit } from '../../support/servers/cleanup.js';
import { treeDirectory } from '../../support/servers/tree.js';
import { type PostgresOptions, type PostgresServer, startPostgres } from '../../support/servers.js';

/** A place of the server's that is a file system of its own, so small that it fills up. */
export interface SmallDisk {
  /** As the server calls it. */
  readonly location: string;
  resize(kilobytes: number): void;
  remove(): void;
}

export interface DiskServer {
  readonly server: PostgresServer;
  database(name: string): Promise<TestDatabase>;
  /** `name`: under the data directory, or beside it as `../name`. What was in it is hidden meanwhile. */
  mount(name: string, kilobytes: number): Promise<SmallDisk>;
  stop(): Promise<void>;
}

/**
 * A private server on whose files this process may mount: one of the Debian tree, and root. Undefined where that is not
 * so (Docker): such a fault cannot be injected there.
 */
export async function startDiskServer(options: PostgresOptions = {}): Promise<DiskServer | undefined> {
  const server = await startPostgres(options);
  const { rows } = await asAdmin(server.url, (admin) =>
    admin.query<{ data: string }>(`SELECT current_setting('data_directory') AS data`),
  );
  const inside = rows[0]?.data ?? '';
  const data = path.join(treeDirectory(), inside);
  const reachable = await access(data).then(
    () => process.getuid?.() === 0,
    () => false,
  );
  if (!reachable) {
    await server.stop();
    return undefined;
  }
  const disks = new Set<SmallDisk>();
  return {
    server,
    async database(name) {
      await asAdmin(server.url, (admin) => createDatabase(admin, name, 'template0'));
      const url = databaseUrl(server.url, name);
      await asAdmin(url, (admin) => admin.query('CREATE EXTENSION vector'));
      return { url, name, drop: () => asAdmin(server.url, (admin) => dropDatabase(admin, name)) };
    },
    async mount(name, kilobytes) {
      const place = path.join(data, name);
      await mkdir(place, { recursive: true });
      const { uid, gid } = await stat(data);
      const options = `size=${kilobytes}k,mode=700,uid=${uid},gid=${gid}`;
      execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', place]);
      const unmount = () => execFileSync('umount', ['-l', place]);
      const forget = atExit(unmount);
      const disk: SmallDisk = {
        location: path.join(inside, name),
        resize: (now) => void execFileSync('mount', ['-o', `remount,size=${now}k`, place]),
        remove() {
          if (!disks.delete(disk)) return;
          forget();
          unmount();
        },
      };
      disks.add(disk);
      return disk;
    },
    async stop() {
      await server.down('immediate');
      for (const disk of disks) disk.remove();
      await server.stop();
    },
  };
}
