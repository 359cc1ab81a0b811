import pg, { type Connection, type Submittable } from 'pg';

/** COPY FROM STDIN in text format, one string a line, through node-postgres' extension point `Submittable`. */
class CopyIn implements Submittable {
  readonly done: Promise<void>;
  private resolve: () => void = () => undefined;
  private reject: (error: unknown) => void = () => undefined;

  constructor(
    private readonly sql: string,
    private readonly lines: readonly string[],
  ) {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  submit(connection: Connection): void {
    connection.query(this.sql);
  }

  handleCopyInResponse(connection: Connection & { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }): void {
    connection.sendCopyFromChunk(Buffer.from(this.lines.map((line) => `${line}\n`).join('')));
    connection.endCopyFrom();
  }

  handleError(error: unknown): void {
    this.reject(error);
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.resolve();
  }
}

/** Copies these lines (columns parted by tabs) into `target`, a table with its columns. */
export async function copyLines(url: string, target: string, lines: readonly string[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(new CopyIn(`COPY ${target} FROM STDIN`, lines)).done;
  } finally {
    await client.end();
  }
}
