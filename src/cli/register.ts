import type { Command } from 'commander';
import type { Cli } from './cli.js';

/** Adds a command to the program, or to its group. */
export type Register = (program: Command, act: Act) => void;

/** Gives a command's action its Cli; what the action throws is told by `run`. */
export type Act = <A extends unknown[]>(
  action: (cli: Cli, ...args: A) => Promise<void>,
) => (...args: A) => Promise<void>;
