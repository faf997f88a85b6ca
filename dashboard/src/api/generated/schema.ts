// Made by `npm run gen` from the hub's OpenAPI document. Not edited by hand.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description What the invited person sends. */
        Accept: {
            /** @description How they want to be called; the part before the `@` if left out. */
            name?: string | null;
            /** @description A new password; the one they have, if they have a role on this hub already. */
            password: string;
            /** @description Out of the link. */
            token: string;
        };
        /** @description A session after an action. */
        Acted: {
            report?: components["schemas"]["EndReport"] | null;
            /** @description The session. */
            session: components["schemas"]["Session"];
        };
        /** @description Who acted. */
        Actor: {
            /** @description Their email, as given. */
            email?: string | null;
            id?: components["schemas"]["UserId"] | null;
            /** @description Their name. */
            name: string;
            /** @description Their role in the workspace at the time. */
            role?: string | null;
        };
        /** @description What is to change; what is absent stays. */
        AgentProviderChanges: {
            /** @description New ones in place of those that are kept; an empty text takes them away. */
            credentials?: string | null;
            /** @description `http`, `https`, `ws` or `wss`, without user, password or token. */
            gatewayUrl?: string | null;
            /** @description False: it is kept and not used. */
            isActive?: boolean | null;
            /** @description For people; unique in its workspace. */
            name?: string | null;
            /** @description The node that runs it. */
            node?: string | null;
            /** @description The runtime. */
            provider?: string | null;
        };
        /** @description Agent providers, by name. */
        AgentProviderList: {
            agentProviders: components["schemas"]["AgentProviderView"][];
        };
        /** @description An agent provider as the API tells it: never with its credentials. */
        AgentProviderView: {
            /** @description Since when it is kept. */
            createdAt: components["schemas"]["Timestamp"];
            /** @description `none`, `kept`, or `unreadable`: there were some, and the hub has lost the key to them. */
            credentialsState: string;
            /** @description Whether its node has it. */
            delivery: components["schemas"]["DeliveryState"];
            /** @description Why its node does not have it, and what to do. */
            deliveryDetail?: string | null;
            /** @description Where it is. */
            gatewayUrl: string;
            /** @description True if there are credentials that can be used. */
            hasCredentials: boolean;
            health?: components["schemas"]["Health"] | null;
            /** @description For ever. */
            id: string;
            /** @description False: it is kept and not used. */
            isActive: boolean;
            /** @description For people; unique in its workspace. */
            name: string;
            /** @description The node that runs it. */
            node: components["schemas"]["NodeId"];
            /** @description The runtime. */
            provider: components["schemas"]["ProviderName"];
            /**
             * Format: int64
             * @description Grows with every change.
             */
            rev: number;
            /** @description When it was changed last. */
            updatedAt: components["schemas"]["Timestamp"];
        };
        /** @description Agents: sessions that have not ended. */
        Agents: {
            agents: components["schemas"]["Session"][];
        };
        /** @description The answer to what a session asks. */
        AnswerBody: {
            /** @description One of the options it offers. */
            optionId?: string | null;
            /** @description The message that asks: `attention.request.requestId` of the session. */
            requestId: string;
            /** @description Words, where it takes some, or why not. At most 256 KiB. */
            text?: string | null;
        };
        /** @description One of the answers a request offers. */
        AnswerOption: {
            /** @description What it means. */
            kind: components["schemas"]["OptionKind"];
            /** @description For people, in the agent's own words. */
            label: string;
            /** @description The runtime's own name for it. */
            optionId: string;
        };
        /** @description What one person has asked for and a second one decides. */
        ApprovalView: {
            /** @description `kill`, `terminate`, `inject`, `answer`, `control`, `unmark`. */
            action: string;
            /** @description For ever. */
            approvalId: string;
            /** @description When. */
            askedAt: components["schemas"]["Timestamp"];
            /** @description When it was changed last. */
            at: components["schemas"]["Timestamp"];
            /** @description Who asked. */
            by: components["schemas"]["Operator"];
            /** @description The words, of a message or an answer. */
            content?: string | null;
            decidedBy?: components["schemas"]["Operator"] | null;
            /** @description Until when it can be decided. */
            expiresAt: components["schemas"]["Timestamp"];
            /** @description The option, of an answer. */
            optionId?: string | null;
            /** @description Why, or what became of it. */
            outcome?: string | null;
            /** @description On which session. */
            sessionId: components["schemas"]["SessionId"];
            /**
             * @description `open`; `approved` while it is carried out; then `done`, `failed`, `unknown`; or `refused`, `withdrawn`,
             *     `expired`.
             */
            state: string;
        };
        /** @description What waits for a second person, and what was decided in the last ten minutes; the oldest first. */
        Approvals: {
            /** @description The requests. */
            approvals: components["schemas"]["ApprovalView"][];
        };
        /** @description A request of an agent that waits for an answer: for leave, or for words. */
        Asked: {
            /** @description What can be chosen, in the agent's own words and order. */
            options?: components["schemas"]["AnswerOption"][];
            /** @description The message (kind `permission`) that asks: the answer names it. */
            requestId: components["schemas"]["MessageId"];
            /** @description True if it can be answered in words. */
            takesText?: boolean;
        };
        /** @description Somebody is needed. */
        Attention: {
            /** @description Why. */
            kind: components["schemas"]["AttentionKind"];
            request?: components["schemas"]["Asked"] | null;
            /** @description Since when. */
            since: components["schemas"]["Timestamp"];
            /** @description What the agent said, in its own words. */
            text?: string;
        };
        /** @enum {string} */
        AttentionKind: "question" | "permission" | "idle" | "error";
        /** @description Rows of the audit log, the newest first. */
        AuditPage: {
            /** @description The rows. */
            entries: components["schemas"]["AuditRow"][];
            /** @description True if there are older ones. */
            hasMore: boolean;
            /** @description Public key (nkey, `V…`) of the checkpoints that this hub signs: what `mosaic audit verify --key` wants. */
            key: string;
            /**
             * Format: int64
             * @description The hub has checked the log up to this row since it started: each row follows the one before it, and the store
             *     has the same as the bus.
             */
            verifiedTo: number;
        };
        /** @enum {string} */
        AuditPhase: "intent" | "outcome";
        /** @description One row of the audit log. */
        AuditRow: {
            /** @description What: `inject`, `pause`, `resume`, `terminate`, `kill`, `killAll`, `spawn`, `signIn`, … */
            action: string;
            /** @description Binds intent and outcome together. */
            actionId: string;
            /** @description What was sent, word for word. */
            content?: string | null;
            /** @description Why, in a few words. */
            detail?: string | null;
            /** @description Hash of this row, 64 hex digits. None in rows of older versions. */
            hash?: string | null;
            /** @description Further facts. */
            metadata?: Record<string, never>;
            /**
             * Format: int64
             * @description 1, 2, 3 … without gap within the workspace.
             */
            n: number;
            node?: components["schemas"]["NodeId"] | null;
            /** @description Intent or outcome. */
            phase: components["schemas"]["AuditPhase"];
            /** @description Hash of the row before, 64 hex digits; 64 zeros in the first row. None in rows of older versions. */
            prev?: string | null;
            /** @description The HTTP request that caused it. */
            requestId?: string | null;
            /** @description What became of it: `ok`, `refused`, `failed`, `unknown`; `pending` on an intent. */
            result: string;
            sessionId?: components["schemas"]["SessionId"] | null;
            /** @description When the row was written. */
            timestamp: components["schemas"]["Timestamp"];
            /** @description Who. */
            user: components["schemas"]["Actor"];
            /** @description The workspace. */
            workspace: components["schemas"]["WorkspaceId"];
        };
        /** @enum {string} */
        Capability: "inject" | "pause" | "resume" | "terminate" | "kill" | "terminal" | "input" | "resize" | "approve";
        /** @description How a trial of a connection went. */
        ConnectionTest: {
            /** @description For people: what was found and what to do. */
            message: string;
            /** @description For programs. */
            verdict: components["schemas"]["ConnectionVerdict"];
        };
        /** @enum {string} */
        ConnectionVerdict: "ok" | "unreachable" | "tls" | "notARuntime" | "unauthorized" | "forbidden" | "version" | "failed";
        /** @description Who may act on a session now. */
        ControlView: {
            fourEyes?: components["schemas"]["FourEyesView"] | null;
            /** @description What waits for a second person, and what was decided lately. */
            requests: components["schemas"]["ApprovalView"][];
            /** @description Which session. */
            sessionId: components["schemas"]["SessionId"];
            writer?: components["schemas"]["WriterView"] | null;
        };
        /** @description Who may act on what. */
        ControlsEvent: {
            /** @description Of every session of which there is something to say. */
            controls: components["schemas"]["ControlView"][];
        };
        /** @enum {string} */
        Delivery: "accepted" | "delivered" | "written" | "taken" | "refused" | "expired" | "unknown";
        /**
         * @description Whether a node has what is set up for it.
         * @enum {string}
         */
        DeliveryState: "applied" | "pending" | "upgrade" | "failed";
        /** @description The text so far of a message that is still being written. The message with the same `messageId` replaces it. */
        Delta: {
            /** @description All of the text so far, or its end where it is longer than a delta carries. */
            content: string;
            /** @description True if the beginning of the text is missing. */
            cut?: boolean;
            /** @description What kind of message it will be. */
            kind?: components["schemas"]["MessageKind"];
            /** @description The message that will replace it. */
            messageId: components["schemas"]["MessageId"];
            /** @description Who speaks. */
            role: components["schemas"]["Role"];
            /** @description The session it belongs to. */
            sessionId: components["schemas"]["SessionId"];
            /** @description When. */
            timestamp: components["schemas"]["Timestamp"];
        };
        /** @description How a session was brought to its end: the proof of a kill. */
        EndReport: {
            /** @description How the processes were found: `cgroup`, or `processTree` where there is none to be had. */
            containment: string;
            /** @description What was alive at the beginning and is dead. */
            ended: components["schemas"]["EndedProcess"][];
            /** @description What was done, in order. */
            steps: components["schemas"]["EndStep"][];
            /** @description What lives in spite of everything. Empty, or the kill has failed. */
            survivors?: components["schemas"]["EndedProcess"][];
        };
        /** @description One step of an end. */
        EndStep: {
            /** @description When. */
            at: components["schemas"]["Timestamp"];
            /** @description In a few words. */
            detail?: string;
            /** @description What was done: `thaw`, `leave` (the program's own way), `term`, `kill`, `reap`. */
            step: string;
        };
        /** @description A process of a session. */
        EndedProcess: {
            /** @description Its program's name, without arguments. */
            name: string;
            /**
             * Format: int32
             * @description Process id on the node's machine.
             */
            pid: number;
        };
        /** @description What a new node needs. It is told this once and kept nowhere: whoever has it is that node. */
        EnrolledNode: {
            /** @description Certificates of the authority of the bus, if it uses TLS. */
            ca?: string | null;
            /** @description Public keys whose commands it is to obey. */
            commandKeys: string[];
            /** @description The content of its credentials file. */
            credentials: string;
            /** @description What to say on the node's machine. */
            join: string;
            /** @description Addresses of the bus. */
            nats: string[];
            node: components["schemas"]["NodeId"];
            /** @description All of it as one text. */
            token: string;
            workspace: components["schemas"]["WorkspaceId"];
        };
        /** @description What an error looks like on the wire. */
        ErrorBody: {
            error: components["schemas"]["ErrorDetail"];
        };
        /** @description What went wrong. */
        ErrorDetail: {
            /** @description For programs. */
            code: string;
            /** @description For people: what is wrong and what to do. */
            message: string;
            /** @description The request, as the logs know it. */
            requestId: string;
        };
        /** @description Mark a session, or ask for its mark to be taken off. */
        FourEyesBody: {
            /**
             * @description True: kill, terminate, messages, answers and control of the terminal need two people from now on. False: a
             *     second person is asked whether they no longer do.
             */
            fourEyes: boolean;
            /** @description Why; needed to mark. */
            reason?: string;
        };
        /** @description Whether a session needs two. */
        FourEyesDoc: {
            by?: components["schemas"]["Operator"] | null;
            /** @description True if it does. */
            fourEyes: boolean;
            /** @description Why. */
            reason?: string | null;
            since?: components["schemas"]["Timestamp"] | null;
            through?: components["schemas"]["SessionId"] | null;
        };
        /** @description A mark: kill, terminate, messages, answers and control of the terminal need two. */
        FourEyesView: {
            /** @description Who marked it. */
            by: components["schemas"]["Operator"];
            /** @description Why. */
            reason: string;
            /** @description Since when. */
            since: components["schemas"]["Timestamp"];
        };
        /** @description `gap`: a part that nobody has any more. */
        GapEvent: {
            /**
             * Format: int64
             * @description First `seq` that is missing.
             */
            fromSeq?: number | null;
            /** @description Why. */
            reason: string;
            sessionId?: components["schemas"]["SessionId"] | null;
            /**
             * Format: int64
             * @description Last `seq` that is missing.
             */
            toSeq?: number | null;
        };
        /** @description How a runtime is on a node. */
        Health: {
            /** @description What is wrong and what to do. */
            error?: string | null;
            /** @description False if it cannot be used now. */
            healthy: boolean;
        };
        /** @description Hold a session, or let it go. */
        HoldBody: {
            /** @description True: its messages are kept whatever their age. */
            hold: boolean;
            /** @description Why; needed to hold. */
            reason?: string;
        };
        /** @description Whether a session is held. */
        HoldDoc: {
            by?: components["schemas"]["Operator"] | null;
            /** @description True if its messages are kept whatever their age. */
            hold: boolean;
            /** @description Why. */
            reason?: string | null;
            since?: components["schemas"]["Timestamp"] | null;
        };
        /** @description The machine of a node. */
        HostInfo: {
            /** @description Processor architecture, such as `x86_64`. */
            arch: string;
            /**
             * Format: int32
             * @description Number of processors.
             */
            cpus?: number;
            /** @description Its name. */
            hostname: string;
            /** @description Operating system, such as `linux`. */
            os: string;
        };
        /** @description A message to an agent. */
        InjectBody: {
            /** @description The text, at most 256 KiB. */
            content: string;
            /** @description The same key never injects twice. */
            idempotencyKey?: string | null;
            mode?: components["schemas"]["InjectMode"] | null;
            /** @description Freeze the session before, and leave it frozen. */
            pauseFirst?: boolean;
            /**
             * @description The message in whose place this one is sent: one that was refused, has expired or is unknown. Without a key of
             *     its own, the same message is sent again once.
             */
            retryOf?: string | null;
        };
        /** @enum {string} */
        InjectMode: "queue" | "steer" | "interrupt";
        /** @description A message on its way. */
        Injected: {
            approval?: components["schemas"]["ApprovalView"] | null;
            /** @description How far it has come; `awaitsApproval` where four eyes are needed: it is sent when a second person agrees. */
            delivery: components["schemas"]["Delivery"];
            /** @description Its id; receipts and the stream carry it. */
            messageId: components["schemas"]["MessageId"];
        };
        /** @description Bytes to type. */
        InputBody: {
            /** @description The bytes, base64. */
            data: string;
        };
        /** @description An open invitation. */
        InvitationView: {
            /** @description Since when. */
            createdAt: components["schemas"]["Timestamp"];
            /** @description Who is invited. */
            email: string;
            /** @description Until when. */
            expiresAt: components["schemas"]["Timestamp"];
            /** @description To take it back by. */
            invitationId: string;
            /** @description Who invited: a user id. */
            invitedBy: string;
            /** @description As what. */
            role: string;
        };
        /** @description Open invitations. */
        Invitations: {
            /** @description The newest first. */
            invitations: components["schemas"]["InvitationView"][];
        };
        /** @description Kill everything. */
        KillAllBody: {
            /** @description Literally `KILL ALL`. */
            confirm: string;
            /** @description Only sessions of this provider. */
            provider?: string | null;
        };
        /** @description What became of a kill-all. */
        KillReceipt: {
            /** @description When it was asked for. */
            at: components["schemas"]["Timestamp"];
            /** @description By whom. */
            by: components["schemas"]["Actor"];
            /** @description Until when nodes that are away carry it out on their return. */
            leaseUntil: components["schemas"]["Timestamp"];
            /** @description Its id, under which it is asked for again. */
            receiptId: string;
            /** @description One for each session. */
            results: components["schemas"]["KillResult"][];
            /** @description The provider, or `all`. */
            scope: string;
            /** @description `complete`, or `pending` while sessions are. */
            state: string;
        };
        /** @description The last kill-alls. */
        KillReceipts: {
            /** @description The newest first. */
            receipts: components["schemas"]["KillReceipt"][];
        };
        /** @description What became of one session. */
        KillResult: {
            /** @description The request that a second person has to agree to. */
            approvalId?: string | null;
            /** @description In a few words. */
            detail: string;
            /** @description On which node. */
            node: components["schemas"]["NodeId"];
            /**
             * @description `killed`; `ended` by itself; `pending`: its node is away, and is told when it is back; `expired`: it was not
             *     back in time; `survived`, `refused`, `failed`, `unknown`; `awaitsApproval` where four eyes are needed: it lives
             *     until a second person agrees.
             */
            outcome: string;
            report?: components["schemas"]["EndReport"] | null;
            /** @description Which session. */
            sessionId: components["schemas"]["SessionId"];
        };
        /** @description What the page wants to find again. */
        LayoutBody: {
            /** @description Anything; null for the page's own default. */
            layout: Record<string, never> | null;
        };
        /** @description What the page left here. */
        LayoutDoc: {
            /** @description What was put; null if nothing was. */
            layout: Record<string, never> | null;
            /**
             * Format: int64
             * @description Grows with every change.
             */
            rev: number;
        };
        /** @description How busy a node is. */
        Load: {
            /**
             * Format: int64
             * @description Messages that had to be dropped since the start, each told by a gap message in its session.
             */
            dropped?: number;
            /**
             * Format: double
             * @description Load average of the machine over one minute.
             */
            load1?: number;
            /**
             * Format: int64
             * @description Their size in bytes.
             */
            outboxBytes?: number;
            /**
             * Format: int64
             * @description Records on disk that the bus has not taken yet.
             */
            outboxRecords?: number;
            /**
             * Format: int64
             * @description Resident memory of the node agent, in bytes.
             */
            rssBytes?: number;
            /**
             * Format: int32
             * @description Sessions that have not ended.
             */
            sessions?: number;
        };
        /** @description Who wants in. */
        Login: {
            /** @description Email, in any case. */
            email: string;
            /** @description Password. */
            password: string;
        };
        /** @description A new invitation. What lets the person in is shown this once. */
        MadeInvitation: {
            /** @description The invitation. */
            invitation: components["schemas"]["InvitationView"];
            /** @description The page that takes it; without the host where `hub.public_url` is not set. */
            link: string;
            /** @description What lets the person in, once. */
            token: string;
        };
        /** @description A new token. Its text is shown this once. */
        MadeToken: {
            /** @description What is kept of it. */
            apiToken: components["schemas"]["TokenView"];
            /** @description For `Authorization: Bearer …`. */
            token: string;
        };
        /** @description Who you are. */
        Me: {
            /** @description Your role there: `admin`, `operator` or `observer`. */
            role: string;
            /** @description You. */
            user: components["schemas"]["MeUser"];
            /** @description The workspace this request was for. */
            workspace: string;
            /** @description All of your workspaces that this hub serves. */
            workspaces: components["schemas"]["MeWorkspace"][];
        };
        /** @description A person. */
        MeUser: {
            /** @description Email. */
            email: string;
            /** @description For ever. */
            id: string;
            /** @description For people. */
            name: string;
        };
        /** @description A workspace and your role in it. */
        MeWorkspace: {
            /** @description Its id. */
            id: string;
            /** @description `admin`, `operator` or `observer`. */
            role: string;
        };
        /** @description One complete message (contract section 4). */
        Message: {
            /** @description What is said: text, at most 256 KiB ([`MAX_CONTENT_BYTES`]). */
            content: string;
            /** @description What kind of message it is. */
            kind?: components["schemas"]["MessageKind"];
            /** @description Unique over all sessions. */
            messageId: components["schemas"]["MessageId"];
            /** @description Further facts: `source`, `truncated`, `operator`, `delivery`, the runtime's own. */
            metadata?: Record<string, never>;
            /** @description Who speaks. */
            role: components["schemas"]["Role"];
            /**
             * Format: int64
             * @description 1, 2, 3 … without gap within the session.
             */
            seq: number;
            /** @description The session it belongs to. */
            sessionId: components["schemas"]["SessionId"];
            /** @description When it was written. */
            timestamp: components["schemas"]["Timestamp"];
        };
        MessageId: string;
        /** @enum {string} */
        MessageKind: "text" | "toolCall" | "toolResult" | "reasoning" | "status" | "permission";
        /** @description Messages by ascending `seq`. */
        Messages: {
            /**
             * Format: int64
             * @description The first `seq` that is still kept; 0 if there is none. Above 1, retention has taken what was before.
             */
            firstSeq: number;
            /** @description True if there are more in the direction asked. */
            hasMore: boolean;
            /** @description The messages. */
            messages: components["schemas"]["Message"][];
        };
        /** @description A new agent provider. */
        NewAgentProvider: {
            /** @description What lets us in: kept sealed, never told again. */
            credentials?: string | null;
            /** @description `http`, `https`, `ws` or `wss`, without user, password or token. */
            gatewayUrl: string;
            /** @description False: it is kept and not used. True if absent. */
            isActive?: boolean | null;
            /** @description For people; unique in its workspace. */
            name: string;
            /** @description The node that runs it. */
            node: string;
            /** @description The runtime, such as `openclaw`. */
            provider: string;
        };
        /** @description Whom to invite. */
        NewInvitation: {
            /** @description Their email. */
            email: string;
            /** @description `admin`, `operator` or `observer`. */
            role: string;
        };
        /** @description A node that is to be let in. */
        NewNode: {
            /** @description Its name. */
            node: string;
        };
        /** @description A token to make. */
        NewTokenBody: {
            expiresAt?: components["schemas"]["Timestamp"] | null;
            /** @description What it is for. */
            name: string;
            /** @description `observer` (reads only), `operator` or `admin`; not above your own. */
            role: string;
            /** @description The only sessions it may touch, by the routes of those sessions; all if left out. */
            sessions?: components["schemas"]["SessionId"][] | null;
        };
        NodeId: string;
        /** @description State of a node agent. */
        NodeState: {
            /** @description Changes with every start of the machine. */
            bootId: string;
            /** @description Public command keys that it obeys. */
            commandKeys?: string[];
            /** @description The machine it runs on. */
            host: components["schemas"]["HostInfo"];
            /** @description Changes when the node's own disk state was lost or made anew. */
            incarnation: string;
            /** @description How busy it is. */
            load?: components["schemas"]["Load"];
            /** @description Its name. */
            node: components["schemas"]["NodeId"];
            /** @description What it may start. */
            profiles?: components["schemas"]["ProfileInfo"][];
            /** @description The runtimes it looks after. */
            providers?: components["schemas"]["ProviderState"][];
            /** @description Public curve key (nkeys, `X…`) for which what is secret is sealed before it is sent here. */
            sealKey?: string | null;
            /**
             * Format: int64
             * @description Number of the [`NodeSettings`](crate::NodeSettings) it has; 0 for none.
             */
            settingsRev?: number;
            /** @description When the program started. */
            startedAt: components["schemas"]["Timestamp"];
            /** @description Whether it is there. */
            status: components["schemas"]["NodeStatus"];
            /** @description When this was written. */
            timestamp: components["schemas"]["Timestamp"];
            /** @description Version of the program. */
            version: string;
            /** @description Its workspace. */
            workspace: components["schemas"]["WorkspaceId"];
        };
        /** @enum {string} */
        NodeStatus: "up" | "leaving";
        /** @description A node as the API tells it. */
        NodeView: components["schemas"]["NodeState"] & {
            /** @description When it was heard of last. */
            lastSeen: components["schemas"]["Timestamp"];
            /** @description True if it was heard of within the last 30 seconds and did not say good-bye. */
            online: boolean;
        };
        /** @description Nodes, by name. */
        Nodes: {
            nodes: components["schemas"]["NodeView"][];
        };
        /** @description One agent provider. */
        OneAgentProvider: {
            agentProvider: components["schemas"]["AgentProviderView"];
        };
        /** @description A request after it was decided. */
        OneApproval: {
            /** @description The request, with what became of it. */
            approval: components["schemas"]["ApprovalView"];
        };
        /** @description Who may act on a session now. */
        OneControl: {
            /** @description Who. */
            control: components["schemas"]["ControlView"];
        };
        /** @description One session. */
        OneSession: {
            control?: components["schemas"]["ControlView"] | null;
            /** @description The session. */
            session: components["schemas"]["Session"];
        };
        /** @description One person. */
        OneUser: {
            /** @description As they are now. */
            user: components["schemas"]["UserView"];
        };
        /** @description A person who acts through the mesh. */
        Operator: {
            /** @description Who, for ever. */
            id: components["schemas"]["UserId"];
            /** @description Their name at the time. */
            name: string;
        };
        /** @enum {string} */
        OptionKind: "allowOnce" | "allowAlways" | "rejectOnce" | "rejectAlways" | "choice";
        /** @description A payload that could not be read. */
        Parked: {
            /** @description Its first bytes, base64. */
            payload: string;
            /** @description Why it could not be read. */
            reason: string;
            /**
             * Format: int64
             * @description Its size in bytes.
             */
            size: number;
            /** @description The stream it is in. */
            stream: string;
            /**
             * Format: int64
             * @description Its sequence there.
             */
            streamSeq: number;
            /** @description Its subject. */
            subject: string;
            /** @description When the stream stored it. */
            timestamp: components["schemas"]["Timestamp"];
        };
        /** @description Payloads that could not be read. */
        ParkedList: {
            parked: components["schemas"]["Parked"][];
        };
        /** @description Another password. */
        PasswordBody: {
            /** @description The one to come. */
            new: string;
            /** @description The one that is good now. */
            old: string;
        };
        /** @description Something a node may start. */
        ProfileInfo: {
            /** @description What kind of agent it starts. */
            agentType?: string | null;
            /** @description Its name in the node's configuration. */
            name: string;
            /** @description The program it starts, without arguments: those may hold secrets. */
            program?: string | null;
            /** @description `terminal`, `lines`, `jsonl`, … */
            protocol?: string | null;
            /** @description The runtime that starts it. */
            provider: components["schemas"]["ProviderName"];
            /** @description A name for people. */
            title?: string | null;
        };
        ProviderName: string;
        /** @description State of one runtime on a node. */
        ProviderState: {
            /** @description What its sessions can do at best. */
            capabilities?: components["schemas"]["Capability"][];
            /** @description What is wrong and what to do. */
            error?: string | null;
            /** @description False if it cannot be used now; `error` says why. */
            healthy: boolean;
            /** @description Its name. */
            name: components["schemas"]["ProviderName"];
            /**
             * Format: int32
             * @description How many sessions that have not ended it has.
             */
            sessions?: number;
        };
        /** @description `ready`: from here on it is live. */
        ReadyEvent: {
            /** @description The cursor of this place. */
            cursor: string;
        };
        /** @description How far an operator message has come. */
        Receipt: {
            /** @description The operator message. */
            messageId: components["schemas"]["MessageId"];
            /** @description How the operator wanted it to arrive. */
            modeAsked: components["schemas"]["InjectMode"];
            modeObtained?: components["schemas"]["InjectMode"] | null;
            /** @description Why, in a few words: why refused, why unconfirmed. */
            reason?: string | null;
            /** @description The session it was sent to. */
            sessionId: components["schemas"]["SessionId"];
            /** @description How far it has come. */
            state: components["schemas"]["Delivery"];
            /** @description When. */
            timestamp: components["schemas"]["Timestamp"];
        };
        /** @description Why something is refused. */
        RefuseBody: {
            /** @description For whoever asked. */
            reason?: string;
        };
        /** @description `removed`: there is no such session. */
        RemovedEvent: {
            /** @description Which. */
            sessionId: components["schemas"]["SessionId"];
        };
        /** @description How long messages are kept. */
        RetentionDoc: {
            /**
             * Format: int64
             * @description Days, 1 to 3650; 30 if nobody has said otherwise. The bus itself keeps messages 7 days at most.
             */
            messageDays: number;
        };
        /** @enum {string} */
        Role: "agent" | "user" | "system" | "operator";
        /** @description A message in which the words are. */
        SearchHit: {
            /** @description What it is. */
            kind: components["schemas"]["MessageKind"];
            /** @description Its id. */
            messageId: components["schemas"]["MessageId"];
            /** @description Who said it. */
            role: components["schemas"]["Role"];
            /**
             * Format: int64
             * @description Its number there.
             */
            seq: number;
            /** @description Its session. */
            sessionId: components["schemas"]["SessionId"];
            /** @description What stands around the first match, in one line. */
            snippet: string;
            /** @description When. */
            timestamp: components["schemas"]["Timestamp"];
        };
        /** @description What was found. */
        SearchResults: {
            /** @description True if not all that is kept was looked at. */
            hasMore: boolean;
            /**
             * @description Sessions that run come first, then those that have ended; the newest first, and in each its newest message
             *     first. A session that ended between two pages may be told of twice.
             */
            hits: components["schemas"]["SearchHit"][];
            /**
             * Format: int64
             * @description How many messages were looked at for this page.
             */
            lookedAt: number;
            /** @description Where to go on; absent if all was looked at. A page may be empty and still have one: the time was over. */
            next?: string | null;
        };
        /** @description A whole snapshot of a session (contract section 4), sent on every change. */
        Session: {
            /** @description What kind of agent it is: `codex`, `claude`, … */
            agentType?: string | null;
            attention?: components["schemas"]["Attention"] | null;
            /** @description What can be done with it now; all else is refused. */
            capabilities?: components["schemas"]["Capability"][];
            completedAt?: components["schemas"]["Timestamp"] | null;
            /** @description What went wrong. */
            error?: string | null;
            /**
             * Format: int32
             * @description How its process ended; 128 + n for signal n.
             */
            exitCode?: number | null;
            lastMessageAt?: components["schemas"]["Timestamp"] | null;
            /**
             * Format: int64
             * @description `seq` of its last message; 0 before the first.
             */
            lastSeq?: number;
            /** @description Further facts: `containment`, `notCapable`, `pid`, the runtime's own. */
            metadata?: Record<string, never>;
            /** @description The mission it belongs to. */
            missionId?: string | null;
            /** @description The node that looks after it. */
            node: components["schemas"]["NodeId"];
            parentSessionId?: components["schemas"]["SessionId"] | null;
            /** @description The profile it was started from. */
            profile?: string | null;
            /** @description The runtime it lives in. */
            provider: components["schemas"]["ProviderName"];
            /**
             * Format: int64
             * @description Number of this snapshot, growing with every change.
             */
            rev?: number;
            /** @description Unique over all nodes and for ever. */
            sessionId: components["schemas"]["SessionId"];
            /** @description When its start was asked for. */
            spawnedAt: components["schemas"]["Timestamp"];
            /** @description Set by the hub while the session's node is away: the rest is what was known last. */
            stale?: boolean;
            staleSince?: components["schemas"]["Timestamp"] | null;
            startedAt?: components["schemas"]["Timestamp"] | null;
            /** @description Where it stands. */
            status: components["schemas"]["Status"];
            /** @description Why, in a few words. */
            statusReason?: string | null;
            /** @description Since when. */
            statusSince: components["schemas"]["Timestamp"];
            /** @description How we know. */
            statusSource: components["schemas"]["StatusSource"];
            /** @description The work item it is for. */
            taskId?: string | null;
            /** @description Where that work item comes from. */
            taskSource?: components["schemas"]["TaskSource"];
            /** @description A name for people. */
            title?: string | null;
            turn?: components["schemas"]["Turn"] | null;
            /** @description Its workspace. */
            workspace: components["schemas"]["WorkspaceId"];
        };
        SessionId: string;
        /** @description Sessions, the newest first. */
        Sessions: {
            /** @description The sessions. */
            sessions: components["schemas"]["Session"][];
        };
        /** @description A service to sign in with. */
        SignInService: {
            /** @description Its name. */
            name: string;
            /** @description Where the browser goes to sign in with it. */
            url: string;
        };
        /** @description Services to sign in with. */
        SignInServices: {
            /** @description In the order of the configuration. */
            services: components["schemas"]["SignInService"][];
        };
        /** @description A signed-in browser. */
        SignInView: {
            /** @description Where it signed in from. */
            address?: string | null;
            /** @description What the browser says it is. */
            agent?: string | null;
            /** @description Since when. */
            createdAt: components["schemas"]["Timestamp"];
            /** @description True for the one that asks. */
            current: boolean;
            /** @description Until when. */
            expiresAt: components["schemas"]["Timestamp"];
            /** @description To end it by. */
            sessionId: string;
        };
        /** @description Signed-in browsers. */
        SignIns: {
            /** @description The newest first. */
            sessions: components["schemas"]["SignInView"][];
        };
        /** @description What to start. */
        SpawnBody: {
            /** @description The mission it belongs to. */
            missionId?: string | null;
            /** @description On which node. */
            node: string;
            parentSessionId?: components["schemas"]["SessionId"] | null;
            /** @description From which of its profiles. */
            profile: string;
            /** @description First message to the agent. */
            prompt?: string | null;
            resumeSessionId?: components["schemas"]["SessionId"] | null;
            /** @description The work item it is for. */
            taskId?: string | null;
            taskSource?: components["schemas"]["TaskSource"] | null;
            /** @description A name for people. */
            title?: string | null;
        };
        /** @enum {string} */
        Status: "spawning" | "running" | "waiting" | "paused" | "completed" | "failed" | "killed";
        /** @enum {string} */
        StatusSource: "operator" | "runtime" | "terminal" | "screen" | "process";
        /** @enum {string} */
        TaskSource: "internal" | "mosaic-queue" | "external";
        /** @description A piece of terminal output, or a snapshot that paints all of it. */
        TerminalEvent: {
            /** @description The bytes, base64. */
            data: string;
            /**
             * Format: int64
             * @description Bytes of output before `data`; with `snapshot`, bytes of output that it covers.
             */
            offset: number;
            /** @description The session. */
            sessionId: components["schemas"]["SessionId"];
            size?: components["schemas"]["TerminalSize"] | null;
            /** @description True if the terminal is to be cleared first: `data` paints it. */
            snapshot?: boolean;
            /** @description When it was written. */
            timestamp: components["schemas"]["Timestamp"];
        };
        /** @description Size of a terminal in character cells. */
        TerminalSize: {
            /**
             * Format: int32
             * @description Columns.
             */
            cols: number;
            /**
             * Format: int32
             * @description Rows.
             */
            rows: number;
        };
        /** @description What is to be tried: a new one, or one that is kept, with changes. */
        TestBody: {
            /** @description What lets us in: used for the trial and not kept. */
            credentials?: string | null;
            /** @description `http`, `https`, `ws` or `wss`, without user, password or token. */
            gatewayUrl?: string | null;
            /** @description One that is kept: what is absent below is its own. */
            id?: string | null;
            /** @description Makes no difference to the trial. */
            isActive?: boolean | null;
            /** @description For people. */
            name?: string | null;
            /** @description The node that is to try it. */
            node?: string | null;
            /** @description The runtime. */
            provider?: string | null;
        };
        /** Format: date-time */
        Timestamp: string;
        /** @description A token, without what lets in. */
        TokenView: {
            /** @description Since when. */
            createdAt: components["schemas"]["Timestamp"];
            /** @description Until when. */
            expiresAt: components["schemas"]["Timestamp"];
            lastUsedAt?: components["schemas"]["Timestamp"] | null;
            /** @description What it is for. */
            name: string;
            /** @description The most it may do; never more than its person may. */
            role: string;
            /** @description The only sessions it may touch; all if absent. */
            sessions?: components["schemas"]["SessionId"][] | null;
            /** @description To take it away by. */
            tokenId: string;
        };
        /** @description Tokens. */
        Tokens: {
            /** @description The newest first. */
            tokens: components["schemas"]["TokenView"][];
        };
        /** @description All sessions as trees. */
        Tree: {
            /** @description Sessions without a parent that is known. */
            roots: components["schemas"]["TreeNode"][];
        };
        /** @description A session and those it started. */
        TreeNode: {
            /** @description The sessions it started. */
            children: components["schemas"]["TreeNode"][];
            /** @description The session. */
            session: components["schemas"]["Session"];
        };
        /** @enum {string} */
        Turn: "idle" | "active" | "blocked" | "error";
        UserId: string;
        /** @description What is to change of a person; what is left out stays. */
        UserPatch: {
            /** @description True keeps them out and signs them out; false lets them in again. */
            disabled?: boolean | null;
            /** @description Another name. */
            name?: string | null;
            /** @description `admin`, `operator` or `observer`. */
            role?: string | null;
        };
        /** @description A person with a role in this workspace. */
        UserView: {
            /** @description True while an admin keeps them out. */
            disabled: boolean;
            /** @description Email. */
            email: string;
            /** @description For people. */
            name: string;
            /** @description `admin`, `operator` or `observer`. */
            role: string;
            /** @description For ever. */
            userId: string;
        };
        /** @description People. */
        Users: {
            /** @description By email. */
            users: components["schemas"]["UserView"][];
        };
        /** @description It waits for a second person. */
        Waiting: {
            /** @description What they have to agree to. */
            approval: components["schemas"]["ApprovalView"];
        };
        WorkspaceId: string;
        /** @description Who writes on a terminal. */
        WriterView: {
            approvedBy?: components["schemas"]["Operator"] | null;
            /** @description Their name; of a script also the name of its token. */
            name: string;
            /** @description Since when. */
            since: components["schemas"]["Timestamp"];
            /** @description The id of the token, for a script. */
            tokenId?: string | null;
            /** @description Until when, if nothing more is typed. */
            until: components["schemas"]["Timestamp"];
            /** @description The person. */
            userId: components["schemas"]["UserId"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
