import { describe, expect, it } from 'vitest';
import { outcome } from './actions.ts';
import { makeSession } from './testing.ts';

describe('the word after an action', () => {
  it('claims only what the session says', () => {
    const killed = makeSession('S', { status: 'killed', statusReason: 'killed by Ada' });
    expect(outcome({ session: killed }, 'kill')).toEqual({ tone: 'good', text: 'It is now killed (killed by Ada).' });
    const running = { session: makeSession('S') };
    expect(outcome(running, 'kill')).toEqual({ tone: 'info', text: 'Asked for; the session is still running.' });
    expect(outcome(running, 'terminate').tone).toBe('info');
    expect(outcome(running, 'pause').tone).toBe('info');
    expect(outcome(running, 'resume').tone).toBe('good');
  });

  it('counts what ended, and names what lives on', () => {
    const session = makeSession('S', { status: 'killed' });
    const ended = [{ pid: 1, name: 'bash' }, { pid: 2, name: 'sleep' }];
    expect(outcome({ session, report: { containment: 'cgroup', ended, survivors: [] } }, 'kill').text).toMatch(/2 processes ended/);
    const survivors = [{ pid: 7, name: 'stuck' }];
    const failed = outcome({ session, report: { containment: 'processTree', ended, survivors } }, 'kill');
    expect(failed).toMatchObject({ tone: "bad", text: expect.stringContaining("stuck (7)") });
  });
});
