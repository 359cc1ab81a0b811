import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

const execFileAsync = promisify(execFile);

/** Runs a program and returns what it wrote to stdout; a failure carries its stderr in the message. */
export async function output(program: string, args: readonly string[], timeoutMs = 120_000): Promise<string> {
  const { stdout } = await execFileAsync(program, [...args], { timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}

export async function succeeds(program: string, args: readonly string[], timeoutMs: number): Promise<boolean> {
  try {
    await output(program, args, timeoutMs);
    return true;
  } catch {
    return false;
  }
}

/** Runs a program whose progress a person may want to see: all that it writes goes to our stderr. */
export async function runLoudly(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', process.stderr, process.stderr], env });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${program} ${args[0] ?? ''} failed (${signal ?? code})`)),
    );
  });
}
