// Everything the page holds, put together: the stream feeds the stores, the stores feed the components.
//
// Called by `App.svelte`; components get it with `getMission`.

import { getContext, setContext } from 'svelte';
import { Admin } from '../api/admin.ts';
import { HubClient } from '../api/client.ts';
import { ApiError } from '../api/errors.ts';
import { HubStream, type Connection, type TerminalPiece } from '../api/stream.ts';
import type { Session, SpawnRequest, StreamEvent } from '../api/types.ts';
import { api } from '../routes.ts';
import { AccountStore } from './account.svelte.ts';
import { Activities } from './activity.svelte.ts';
import { AgentProviders } from './agent-providers.svelte.ts';
import { Actions } from './actions.ts';
import { Answers } from './answers.svelte.ts';
import { Clock } from './clock.svelte.ts';
import { Controls } from './controls.svelte.ts';
import { Confirm } from './confirm.svelte.ts';
import { Conversation } from './conversation.svelte.ts';
import { Fleet } from './fleet.svelte.ts';
import { Inbox } from './inbox.svelte.ts';
import { KillAlls } from './kill-alls.svelte.ts';
import { Notify } from './notify.svelte.ts';
import { LayoutStore, PANELS_MAX, type PanelView } from './layout.svelte.ts';
import { isEnded } from './status.ts';
import { Router } from './router.svelte.ts';
import { Shortcuts } from './shortcuts.svelte.ts';
import { Sends } from './sends.svelte.ts';
import { ThemeStore } from './theme.svelte.ts';
import { Toasts } from './toasts.svelte.ts';

/** A first visit opens this many sessions, so that the page is not empty. */
const FIRST_PANELS = 4;
/** How soon one window learns of a layout that was changed in another, beside the moment somebody looks at it. */
const LAYOUT_EVERY_MS = 10_000;

/** What is known of a session that a panel wants. */
export type Lookup =
  | { state: 'found' }
  | { state: 'notAsked' }
  | { state: 'loading' }
  | { state: 'unknown' }
  | { state: 'failed'; error: unknown };

export class Mission {
  connection = $state.raw<Connection>({ state: 'connecting' });
  readonly toasts = new Toasts();
  readonly confirm = new Confirm();
  readonly clock = new Clock();
  readonly theme = new ThemeStore();
  readonly router = new Router();
  readonly activities = new Activities();
  readonly inbox = new Inbox();
  readonly notify = new Notify();
  readonly shortcuts = new Shortcuts();
  readonly client: HubClient;
  readonly admin: Admin;
  readonly account: AccountStore;
  readonly fleet: Fleet;
  readonly layout: LayoutStore;
  readonly sends: Sends;
  readonly actions: Actions;
  readonly answers: Answers;
  readonly controls: Controls;
  readonly killAlls: KillAlls;
  readonly agentProviders: AgentProviders;
  #lookups = $state.raw<ReadonlyMap<string, Lookup>>(new Map());
  /** Sessions that were started here and whose terminal has not been shown yet. */
  readonly #started = new Set<string>();
  readonly #conversations = new Map<string, { conversation: Conversation; users: number }>();
  readonly #stream: HubStream;

  constructor() {
    this.client = new HubClient({ onSignedOut: () => this.#onSignedOut() });
    this.admin = new Admin(this.client);
    this.account = new AccountStore(this.client);
    this.fleet = new Fleet((session) => {
      this.#conversations.get(session.sessionId)?.conversation.onEnded();
      if (session.status === 'killed') this.killAlls.onKilled();
    });
    this.layout = new LayoutStore(this.client, (error) => this.toasts.error('Your layout could not be kept', error), globalThis.localStorage ?? null);
    this.sends = new Sends(this.client);
    this.actions = new Actions(this.client, this.fleet, this.toasts, this.confirm, () => this.account.userId);
    this.controls = new Controls(this.client, this.toasts, () => this.account.userId);
    this.killAlls = new KillAlls(this.client, () => this.account.userId, globalThis.sessionStorage ?? null);
    this.answers = new Answers(this.client, (session) => this.fleet.learn([session]));
    this.agentProviders = new AgentProviders(this.client);
    this.#stream = new HubStream({
      open: (path, signal) => this.client.openStream(path, signal),
      path: api.stream,
      onEvent: (event) => this.#onEvent(event),
      onConnection: (connection) => (this.connection = connection),
      onFresh: () => {
        this.fleet.onFresh();
        this.controls.onFresh();
      },
    });
  }

  /** Begins: who is signed in, and if somebody is, everything else. */
  async start(): Promise<void> {
    addEventListener('online', () => this.#stream.hurry());
    addEventListener('pagehide', () => {
      this.layout.saveNow();
      this.activities.keep();
    });
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') {
        this.#stream.hurry();
        void this.layout.refresh();
      } else this.layout.saveNow();
    });
    addEventListener('focus', () => void this.layout.refresh());
    setInterval(() => {
      if (document.visibilityState === 'visible' && this.account.account.state === 'signedIn') void this.layout.refresh();
    }, LAYOUT_EVERY_MS);
    await this.account.load();
    if (this.account.account.state === 'signedIn') await this.#begin();
  }

  async signIn(email: string, password: string): Promise<void> {
    await this.account.signIn(email, password);
    if (this.account.account.state === 'signedIn') await this.#begin();
  }

  async signOut(): Promise<void> {
    this.layout.saveNow();
    try {
      await this.account.signOut();
    } catch (error) {
      this.toasts.error('Signing out did not work', error);
      return;
    }
    this.sends.clear();
    // The next person starts with nothing of this one's in memory.
    location.assign(location.pathname);
  }

  /** Tries to connect at once. */
  reconnect(): void {
    this.#stream.hurry();
  }

  /** Starts a session and opens its panel. */
  async spawn(request: SpawnRequest): Promise<void> {
    const session = await this.client.spawn(request);
    this.#started.add(session.sessionId);
    this.fleet.learn([session]);
    this.openPanel(session.sessionId, this.defaultView(session));
  }

  /** Starts a session that goes on with the conversation of one that has ended, and opens it where that one was. */
  async continueSession(session: Session): Promise<void> {
    if (session.profile === undefined) return;
    const { node, profile, title, taskId, missionId, parentSessionId, taskSource, sessionId } = session;
    await this.spawn({
      node,
      profile,
      taskSource,
      resumeSessionId: sessionId,
      ...(title === undefined ? {} : { title }),
      ...(taskId === undefined ? {} : { taskId }),
      ...(missionId === undefined ? {} : { missionId }),
      ...(parentSessionId === undefined ? {} : { parentSessionId }),
    });
  }

  /** True once for a session that this person has just started: its terminal is theirs to size. */
  takeStarted(id: string): boolean {
    return this.#started.delete(id);
  }

  /** How a session is best seen at first: a terminal that has said nothing in messages, as a terminal. */
  defaultView(session: Session): PanelView {
    const profiles = this.fleet.nodes.get(session.node)?.profiles ?? [];
    const protocol = profiles.find((profile) => profile.name === session.profile)?.protocol;
    const isSilent = session.lastSeq === 0 && !isEnded(session.status);
    return isSilent && protocol === 'terminal' && session.provider === 'pty' ? 'terminal' : 'conversation';
  }

  /** Opens a panel for a session, if there is room, and shows the panels. */
  openPanel(id: string, view: PanelView): void {
    if (this.router.page.name === 'settings' || this.router.page.name === 'replay') this.router.go({ name: 'grid' });
    if (this.layout.open(id, view)) {
      this.activities.see(id, this.fleet.get(id)?.lastSeq ?? 0);
      return;
    }
    this.toasts.show('info', `${PANELS_MAX} panels are open`, 'Close one to open another.');
  }

  /** The conversation of a session, shared by all who show it; give it back with `leaveConversation`. */
  conversation(id: string): Conversation {
    const known = this.#conversations.get(id);
    if (known !== undefined) {
      known.users += 1;
      return known.conversation;
    }
    const conversation = new Conversation(this.client, id);
    this.#conversations.set(id, { conversation, users: 1 });
    return conversation;
  }

  leaveConversation(id: string): void {
    const known = this.#conversations.get(id);
    if (known === undefined) return;
    known.users -= 1;
    if (known.users > 0) return;
    known.conversation.dispose();
    this.#conversations.delete(id);
  }

  watchTerminal(id: string, onPiece: (piece: TerminalPiece) => void): () => void {
    return this.#stream.watchTerminal(id, onPiece);
  }

  refreshTerminal(id: string): void {
    this.#stream.refreshTerminal(id);
  }

  lookup(id: string): Lookup {
    return this.fleet.cell(id) !== null ? { state: 'found' } : (this.#lookups.get(id) ?? { state: 'notAsked' });
  }

  /** Asks for a session that the stream does not tell of: one that has ended. */
  async seek(id: string): Promise<void> {
    this.#setLookup(id, { state: 'loading' });
    try {
      this.fleet.learn([await this.client.session(id)]);
      this.#setLookup(id, { state: 'found' });
    } catch (error) {
      this.#setLookup(id, error instanceof ApiError && error.isNotFound ? { state: 'unknown' } : { state: 'failed', error });
    }
  }

  /** Brings sessions that ended before the page was opened into the roster. */
  async loadEnded(): Promise<void> {
    try {
      this.fleet.learn(await this.client.sessions({ all: true }));
    } catch (error) {
      this.toasts.error('The ended sessions could not be loaded', error);
    }
  }

  async #begin(): Promise<void> {
    this.clock.start();
    await this.layout.load();
    this.#stream.start();
    this.killAlls.begin();
    try {
      this.fleet.learnNodes(await this.client.nodes());
    } catch (error) {
      this.toasts.error('The nodes could not be loaded', error);
    }
  }

  #onEvent(event: StreamEvent): void {
    switch (event.type) {
      case 'session':
        this.fleet.onSession(event.data);
        break;
      case 'message': {
        const message = event.data;
        this.activities.onMessage(message);
        this.inbox.onMessage(message);
        if (message.role === 'operator') this.sends.onMessage(message.sessionId, message.messageId);
        this.#conversations.get(message.sessionId)?.conversation.onMessage(message);
        break;
      }
      case 'delta':
        this.#conversations.get(event.data.sessionId)?.conversation.onDelta(event.data);
        break;
      case 'receipt':
        this.#conversations.get(event.data.sessionId)?.conversation.onReceipt(event.data);
        break;
      case 'removed':
        this.fleet.onRemoved(event.data.sessionId);
        this.#setLookup(event.data.sessionId, { state: 'unknown' });
        break;
      case 'gap':
        for (const [id, { conversation }] of this.#conversations) {
          if (event.data.sessionId === undefined || event.data.sessionId === id) conversation.onGap(event.data);
        }
        if (event.data.sessionId === undefined) void this.#reconcile();
        break;
      case 'control':
        this.controls.onControl(event.data);
        break;
      case 'controls':
        this.controls.onControls(event.data.controls);
        break;
      case 'node':
        this.fleet.onNode(event.data);
        break;
      case 'ready':
        this.#onReady();
        break;
      case 'terminal':
        // Cut and handed out by the stream itself.
        break;
    }
  }

  #onReady(): void {
    void this.killAlls.load();
    for (const id of this.fleet.onReady()) void this.#seekEnded(id);
    this.activities.begin(this.fleet.active);
    if (this.layout.isFirstVisit && this.layout.layout.panels.length === 0) {
      this.layout.isFirstVisit = false;
      for (const session of this.fleet.active.slice(0, FIRST_PANELS)) {
        this.layout.open(session.sessionId, this.defaultView(session));
      }
    }
  }

  /** Something was lost, and not only of one session: compares what is shown with what there is. */
  async #reconcile(): Promise<void> {
    try {
      const sessions = await this.client.sessions();
      this.fleet.learn(sessions);
      const active = new Set(sessions.map((session) => session.sessionId));
      for (const { sessionId } of this.fleet.active) if (!active.has(sessionId)) void this.#seekEnded(sessionId);
    } catch (error) {
      this.toasts.error('Some changes were missed and could not be loaded', error);
    }
  }

  /** A session ended while nobody looked: how, only the store knows. */
  async #seekEnded(id: string): Promise<void> {
    try {
      this.fleet.learn([await this.client.session(id)]);
    } catch (error) {
      if (error instanceof ApiError && error.isNotFound) this.fleet.onRemoved(id);
    }
  }

  #onSignedOut(): void {
    this.account.onSignedOut();
    this.#stream.stop();
    this.killAlls.stop();
    this.clock.stop();
  }

  #setLookup(id: string, lookup: Lookup): void {
    this.#lookups = new Map(this.#lookups).set(id, lookup);
  }
}

const KEY = Symbol('mission');

export function provideMission(mission: Mission): void {
  setContext(KEY, mission);
}

export function getMission(): Mission {
  return getContext<Mission>(KEY);
}
