// The fake hub with the built page, for the measurements: tells its address and runs until it is ended.

import { join } from 'node:path';
import { emptyWorld } from '../mock/fleet.ts';
import { MockHub, serve } from '../mock/server.ts';

const dist = process.env['MOSAIC_BENCH_DIST'] ?? join(import.meta.dirname, '..', 'dist');
const { url } = await serve(new MockHub(emptyWorld), dist);
process.send?.(url);
process.once('disconnect', () => process.exit());
