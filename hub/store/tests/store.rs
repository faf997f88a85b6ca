//! The store's promises: exact round trips, idempotence, last write wins, pages, and no way to change the audit log.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bus_schema::*;
use hub_store::*;

const S1: &str = "01JD8Z2V9Q0000000000000001";
const S2: &str = "01JD8Z2V9Q0000000000000002";

fn workspace() -> WorkspaceId {
    WorkspaceId::new("default").unwrap()
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(1_795_380_000_000 + ms)
}

async fn memory() -> Store {
    Store::open(&StoreConfig::new(StoreLocation::Memory)).await.unwrap().store
}

fn message(session: &str, seq: u64, stream_seq: u64) -> MessageRow {
    let message = Message {
        message_id: MessageId::new(format!("m{seq}")).unwrap(),
        session_id: SessionId::new(session).unwrap(),
        seq,
        role: if seq.is_multiple_of(10) { Role::Operator } else { Role::Agent },
        content: format!("line {seq} \u{0} ü"),
        timestamp: at(i64::try_from(seq).unwrap()),
        kind: MessageKind::Text,
        metadata: serde_json::from_str(r#"{"source":"lines","n":18446744073709551615,"x":{"y":[null,1.5]}}"#).unwrap(),
    };
    MessageRow { workspace: workspace(), node: node("n1"), stream_seq, message }
}

fn batch(messages: Vec<MessageRow>) -> MessageBatch {
    MessageBatch { messages, ..MessageBatch::default() }
}

fn session(id: &str, rev: u64, status: Status) -> SessionRow {
    let json = serde_json::json!({
        "sessionId": id, "workspace": "default", "node": "n1", "provider": "pty", "status": status,
        "statusSource": "process", "statusSince": at(0), "spawnedAt": at(0), "rev": rev, "title": format!("rev {rev}"),
        "metadata": {"pid": 4711},
    });
    SessionRow { session: serde_json::from_value(json).unwrap() }
}

#[tokio::test]
async fn messages_come_back_as_they_went() {
    let store = memory().await;
    let sent: Vec<_> = (1..=5).map(|seq| message(S1, seq, 100 + seq)).collect();
    store.apply_messages(&batch(sent.clone())).await.unwrap();
    let id = SessionId::new(S1).unwrap();
    let page = store.messages(&id, PageOf::Newest, 10).await.unwrap();
    assert_eq!(page.messages, sent.iter().map(|r| r.message.clone()).collect::<Vec<_>>());
    assert!(!page.has_more);
    let head = store.head(&id).await.unwrap().unwrap();
    assert_eq!((head.first_seq, head.last_seq, head.stream_seq, head.last_at), (1, 5, 105, at(5)));
}

#[tokio::test]
async fn a_batch_twice_and_out_of_order_is_the_same() {
    let store = memory().await;
    let id = SessionId::new(S1).unwrap();
    let cursor =
        |seq| Some(Cursor { workspace: Some(workspace()), stream: "MESSAGES".into(), created: "c".into(), seq });
    for (order, seq) in [(vec![3, 2, 2], 4), (vec![1, 3], 6), (vec![3, 2, 2], 6)] {
        let messages = order.into_iter().map(|seq| message(S1, seq, seq)).collect();
        store.apply_messages(&MessageBatch { cursor: cursor(seq), ..batch(messages) }).await.unwrap();
    }
    let page = store.messages(&id, PageOf::Newest, 10).await.unwrap();
    assert_eq!(page.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.count_messages(&id).await.unwrap(), 3);
    assert_eq!(store.cursor(Some(&workspace()), "MESSAGES").await.unwrap().unwrap().seq, 6);
    assert_eq!(store.cursor(Some(&workspace()), "OTHER").await.unwrap(), None);
}

#[tokio::test]
async fn pages_follow_the_sequence() {
    let store = memory().await;
    let id = SessionId::new(S1).unwrap();
    store.apply_messages(&batch((1..=25).map(|seq| message(S1, seq, seq)).collect())).await.unwrap();
    store.apply_messages(&batch((1..=3).map(|seq| message(S2, seq, 25 + seq)).collect())).await.unwrap();
    for (page, limit, expected, more) in [
        (PageOf::Newest, 10, 16..=25, true),
        (PageOf::Before(16), 10, 6..=15, true),
        (PageOf::Before(6), 10, 1..=5, false),
        (PageOf::After(0), 10, 1..=10, true),
        (PageOf::After(10), 15, 11..=25, false),
        (PageOf::After(20), 500, 21..=25, false),
    ] {
        let found = store.messages(&id, page, limit).await.unwrap();
        assert_eq!(found.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{page:?}");
        assert_eq!(found.has_more, more, "{page:?}");
    }
    for page in [PageOf::Before(1), PageOf::Before(0), PageOf::After(25), PageOf::After(u64::MAX)] {
        assert!(store.messages(&id, page, 10).await.unwrap().messages.is_empty(), "{page:?}");
    }
    assert!(store.messages(&id, PageOf::Newest, 0).await.unwrap().messages.is_empty());
}

#[tokio::test]
async fn what_lies_behind_a_place_in_the_stream_is_found() {
    let store = memory().await;
    let id = SessionId::new(S1).unwrap();
    for from in (1..=3_000).step_by(500) {
        store.apply_messages(&batch((from..from + 500).map(|q| message(S1, q, q * 2)).collect())).await.unwrap();
    }
    assert_eq!(store.heads_behind(&workspace(), 6_000).await.unwrap(), []);
    let heads = store.heads_behind(&workspace(), 5_000).await.unwrap();
    assert_eq!(heads.len(), 1);
    let found = store.messages_behind(&heads[0], 5_000, None, 10_000).await.unwrap();
    let seqs = found.iter().map(|(m, _)| m.seq).collect::<Vec<_>>();
    assert_eq!(seqs, (2_501..=3_000).collect::<Vec<_>>());
    let more = store.messages_behind(&heads[0], 5_000, Some(2_990), 4).await.unwrap();
    assert_eq!(
        more.iter().map(|(m, at)| (m.seq, *at)).collect::<Vec<_>>(),
        [(2_991, 5_982), (2_992, 5_984), (2_993, 5_986), (2_994, 5_988)]
    );
    assert_eq!(store.count_messages(&id).await.unwrap(), 3_000);
}

#[tokio::test]
async fn a_delivery_only_gets_further() {
    let store = memory().await;
    let id = SessionId::new(S1).unwrap();
    store.apply_messages(&batch((9..=10).map(|seq| message(S1, seq, seq)).collect())).await.unwrap();
    // What nobody knows is more than that the node has it, and less than anything that is known.
    let states = [
        (Delivery::NotKnown, "unknown"),
        (Delivery::Delivered, "unknown"),
        (Delivery::NotKnown, "unknown"),
        (Delivery::Written, "written"),
        (Delivery::Delivered, "written"),
        (Delivery::NotKnown, "written"),
    ];
    for (state, stands) in [(Delivery::Delivered, "delivered")].into_iter().chain(states) {
        let receipt = Receipt {
            session_id: id.clone(),
            message_id: MessageId::new("m10").unwrap(),
            state,
            mode_asked: InjectMode::Queue,
            mode_obtained: Some(InjectMode::Steer),
            reason: Some("because".into()),
            timestamp: at(1),
        };
        let receipts = vec![ReceiptRow { receipt }];
        store.apply_messages(&MessageBatch { receipts, ..MessageBatch::default() }).await.unwrap();
        let page = store.messages(&id, PageOf::Newest, 10).await.unwrap();
        assert_eq!(page.messages[1].metadata["delivery"], stands);
    }
    let page = store.messages(&id, PageOf::Newest, 10).await.unwrap();
    assert_eq!(page.messages[1].metadata["delivery"], "written");
    assert_eq!(page.messages[1].metadata["modeObtained"], "steer");
    assert_eq!(page.messages[0].metadata.get("delivery"), None);
}

#[tokio::test]
async fn the_newest_snapshot_wins_and_an_end_stays() {
    let store = memory().await;
    let id = SessionId::new(S1).unwrap();
    let apply = |rows: Vec<SessionRow>| {
        let (store, batch) = (store.clone(), StateBatch { sessions: rows, ..StateBatch::default() });
        async move { store.apply_state(&batch).await.unwrap() }
    };
    apply(vec![session(S1, 3, Status::Running), session(S1, 2, Status::Spawning)]).await;
    assert_eq!(store.session(&id).await.unwrap().unwrap(), session(S1, 3, Status::Running).session);
    apply(vec![session(S1, 1, Status::Waiting), session(S2, 1, Status::Running)]).await;
    assert_eq!(store.session(&id).await.unwrap().unwrap().rev, 3);
    apply(vec![session(S1, 4, Status::Killed)]).await;
    apply(vec![session(S1, 5, Status::Running)]).await;
    assert_eq!(store.session(&id).await.unwrap().unwrap().status, Status::Killed);
    let ids = |sessions: Vec<Session>| sessions.into_iter().map(|s| s.session_id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(store.sessions(&workspace(), SessionFilter::Active, 10).await.unwrap()), [S2]);
    assert_eq!(ids(store.sessions(&workspace(), SessionFilter::All, 10).await.unwrap()), [S2, S1]);
    assert_eq!(ids(store.sessions(&workspace(), SessionFilter::All, 1).await.unwrap()), [S2]);
    let other = WorkspaceId::new("other").unwrap();
    assert!(store.sessions(&other, SessionFilter::All, 10).await.unwrap().is_empty());
    assert_eq!(store.owners(std::slice::from_ref(&id)).await.unwrap()[&id], (workspace(), node("n1")));
}

#[tokio::test]
async fn the_newest_state_of_a_node_wins() {
    let store = memory().await;
    let row = |name: &str, workspace: &str, seen| NodeRow {
        state: serde_json::from_value(serde_json::json!({
            "workspace": workspace, "node": name, "version": "1", "status": "up",
            "host": {"hostname": "h", "os": "linux", "arch": "x"}, "bootId": "b", "incarnation": "i",
            "startedAt": at(0), "timestamp": at(seen),
        }))
        .unwrap(),
        seen: at(seen),
    };
    let nodes =
        vec![row("n1", "default", 5), row("n1", "default", 3), row("n2", "default", 1), row("n3", "default2", 1)];
    store.apply_state(&StateBatch { nodes, ..StateBatch::default() }).await.unwrap();
    let found = store.nodes(&workspace()).await.unwrap();
    let seen = found.iter().map(|n| (n.state.node.as_str(), n.seen)).collect::<Vec<_>>();
    assert_eq!(seen, [("n1", at(5)), ("n2", at(1))]);
}

#[tokio::test]
async fn what_cannot_be_read_is_kept() {
    let store = memory().await;
    let row = |seq: u64, size: u64| ParkedRow {
        workspace: workspace(),
        stream: "MESSAGES".into(),
        seq,
        subject: "mosaic.v1.default.n1.message.x".into(),
        reason: "not MessagePack".into(),
        size,
        payload: vec![0xc1; usize::try_from(size).unwrap()],
        at: at(i64::try_from(seq).unwrap()),
    };
    let parked = vec![row(1, 3), row(2, 100_000), row(1, 3)];
    store.apply_messages(&MessageBatch { parked, ..MessageBatch::default() }).await.unwrap();
    let found = store.parked(&workspace(), 10).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].size, found[0].payload.len()), (100_000, 16 * 1024));
    assert_eq!(found[1], row(1, 3));
}

fn audit(n: u64, user: &str, action: &str) -> AuditRow {
    AuditRow {
        n,
        workspace: workspace(),
        timestamp: at(0),
        action_id: format!("a{n}"),
        phase: AuditPhase::Intent,
        action: action.into(),
        user: Actor { id: Some(UserId::new(user).unwrap()), name: user.into(), email: None, role: None },
        session_id: Some(SessionId::new(S1).unwrap()),
        node: None,
        content: Some("stop \u{1b}[31m".into()),
        result: "pending".into(),
        detail: None,
        request_id: None,
        metadata: Metadata::new(),
        prev: None,
        hash: None,
    }
}

fn line(n: u64, user: &str, action: &str) -> AuditLine {
    AuditLine::of(audit(n, user, action))
}

#[tokio::test]
async fn the_audit_log_is_read_newest_first_and_filtered() {
    let store = memory().await;
    let rows: Vec<_> = (1..=9).map(|n| line(n, if n % 2 == 0 { "eve" } else { "ada" }, "kill")).collect();
    let cursor = Cursor { workspace: None, stream: "AUDIT".into(), created: "c".into(), seq: 9 };
    store.add_audit(&rows, Some(&cursor)).await.unwrap();
    store.add_audit(&rows[..3], None).await.unwrap();
    let numbers = |rows: &[AuditRow]| rows.iter().map(|r| r.n).collect::<Vec<_>>();
    let (page, more) = store.audit(&workspace(), &AuditFilter::default(), None, 3).await.unwrap();
    assert_eq!((numbers(&page), more), (vec![9, 8, 7], true));
    assert_eq!(page[0], audit(9, "ada", "kill"));
    let (page, more) = store.audit(&workspace(), &AuditFilter::default(), Some(4), 3).await.unwrap();
    assert_eq!((numbers(&page), more), (vec![3, 2, 1], false));
    let filter = AuditFilter { user: Some("eve".into()), session: Some(S1.into()), action: Some("kill".into()) };
    let (page, more) = store.audit(&workspace(), &filter, None, 10).await.unwrap();
    assert_eq!((numbers(&page), more), (vec![8, 6, 4, 2], false));
    let none = AuditFilter { action: Some("pause".into()), ..AuditFilter::default() };
    assert_eq!(store.audit(&workspace(), &none, None, 10).await.unwrap().0, []);
    assert_eq!(store.last_audit(&workspace()).await.unwrap(), 9);
    let texts = store.audit_texts(&workspace(), 2, 4).await.unwrap();
    assert_eq!(texts, rows[1..4].iter().map(|l| (l.row.n, l.text.clone())).collect::<Vec<_>>(), "word for word");
    assert_eq!(store.last_audit(&WorkspaceId::new("default2").unwrap()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_second_row_with_a_number_does_not_replace_the_first() {
    let store = memory().await;
    store.add_audit(&[line(1, "ada", "kill")], None).await.unwrap();
    store.add_audit(&[line(1, "eve", "pause")], None).await.unwrap();
    let (page, _) = store.audit(&workspace(), &AuditFilter::default(), None, 10).await.unwrap();
    assert_eq!(page, [audit(1, "ada", "kill")]);
}

#[tokio::test]
async fn the_hubs_own_records_are_whole_and_the_higher_number_wins() {
    let store = memory().await;
    let id = UserId::new("u1").unwrap();
    let user = |name: &str| {
        RecordBody::User(User {
            id: id.clone(),
            email: "ada@example.org".into(),
            name: name.into(),
            password: "$a".into(),
            identities: vec!["https://id.example 7".into()],
        })
    };
    let record = |rev, deleted, body| Record { rev, deleted, body };
    let membership = Membership { workspace: workspace(), user: id.clone(), role: "admin".into(), disabled: false };
    let sign_in = SignIn {
        token_hash: "ff".into(),
        user: id.clone(),
        created: at(0),
        expires: at(1),
        agent: None,
        address: None,
    };
    let layout = Layout { user: id.clone(), workspace: workspace(), document: serde_json::json!([1, {"a": null}]) };
    let records = [
        record(2, false, user("Ada")),
        record(1, false, user("old")),
        record(1, false, RecordBody::Membership(membership.clone())),
        record(1, false, RecordBody::SignIn(sign_in.clone())),
        record(7, false, RecordBody::Layout(layout.clone())),
    ];
    store.apply_records(&records, None).await.unwrap();
    store.apply_records(&records, None).await.unwrap();
    let (found, rev) = store.user_by_email("ada@example.org").await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), rev), ("Ada", 2));
    assert_eq!(store.user(&id).await.unwrap().unwrap().0, found);
    assert_eq!(store.user_by_identity("https://id.example 7").await.unwrap(), Some(found.clone()));
    assert_eq!(store.user_by_identity("https://id.example 8").await.unwrap(), None);
    assert_eq!(store.users(std::slice::from_ref(&id)).await.unwrap(), [found]);
    assert_eq!(store.memberships(&id).await.unwrap(), vec![membership.clone()]);
    assert_eq!(
        store.members(&workspace()).await.unwrap(),
        [MembershipRow { body: membership, rev: 1, deleted: false }]
    );
    assert_eq!(store.sign_ins(&id).await.unwrap(), vec![sign_in.clone()]);
    assert_eq!(store.sign_in("ff").await.unwrap(), Some((sign_in.clone(), 1)));
    assert_eq!(store.layout(&id, &workspace()).await.unwrap(), Some((layout.document, 7)));
    store.apply_records(&[record(2, true, RecordBody::SignIn(sign_in.clone()))], None).await.unwrap();
    store.apply_records(&[record(1, false, RecordBody::SignIn(sign_in))], None).await.unwrap();
    assert_eq!(store.sign_in("ff").await.unwrap(), None, "a replay does not bring back what was taken away");
    assert_eq!(store.user_by_email("eve@example.org").await.unwrap(), None);
}

#[tokio::test]
async fn tokens_and_invitations_are_found_by_their_hash_until_they_are_taken_away() {
    let store = memory().await;
    let user = UserId::new("u1").unwrap();
    let token = ApiToken {
        token_hash: "aa".into(),
        workspace: workspace(),
        user: user.clone(),
        name: "deploy".into(),
        role: "observer".into(),
        sessions: None,
        created: at(0),
        expires: at(1),
        last_used: Some(at(1)),
    };
    let invitation = Invitation {
        token_hash: "bb".into(),
        workspace: workspace(),
        email: "eve@example.org".into(),
        role: "operator".into(),
        by: user.clone(),
        created: at(0),
        expires: at(1),
    };
    for (rev, deleted) in [(1, false), (2, true), (1, false)] {
        let records = [
            Record { rev, deleted, body: RecordBody::ApiToken(token.clone()) },
            Record { rev, deleted, body: RecordBody::Invitation(invitation.clone()) },
        ];
        store.apply_records(&records, None).await.unwrap();
        let there = if rev == 1 && store.api_token("aa").await.unwrap().is_some() { 1 } else { 0 };
        assert_eq!(store.api_tokens(&workspace(), &user).await.unwrap(), vec![token.clone(); there]);
        assert_eq!(store.invitations(&workspace()).await.unwrap(), vec![invitation.clone(); there]);
        assert_eq!(store.invitation("bb").await.unwrap().is_some(), there == 1);
    }
    assert_eq!(store.api_token("aa").await.unwrap(), None, "a replay does not bring back what was taken away");
}

#[tokio::test]
async fn what_is_set_up_for_runtimes_stays_where_it_belongs_also_when_it_is_deleted() {
    let store = memory().await;
    let made = |workspace: &str, id: &str, rev, deleted| {
        let body = AgentProvider {
            id: id.into(),
            workspace: WorkspaceId::new(workspace).unwrap(),
            name: format!("{id} {rev}"),
            provider: ProviderName::new("openclaw").unwrap(),
            node: node("n1"),
            gateway_url: "ws://127.0.0.1:1/".into(),
            is_active: true,
            sealed: Some(Sealed { key: "k1".into(), text: "AAEC".into() }),
            nodes: vec![node("n0"), node("n1")],
            created_at: at(0),
            updated_at: at(1),
        };
        Record { rev, deleted, body: RecordBody::AgentProvider(body) }
    };
    let records = [made("default", "b", 5, false), made("default", "a", 7, true), made("other", "c", 9, false)];
    for _ in 0..2 {
        store.apply_records(&records, None).await.unwrap();
        store.apply_records(&[made("default", "a", 6, false)], None).await.unwrap();
    }
    let found = store.agent_providers(&workspace()).await.unwrap();
    let brief: Vec<_> = found.iter().map(|r| (r.body.name.as_str(), r.rev, r.deleted)).collect();
    assert_eq!(brief, [("a 7", 7, true), ("b 5", 5, false)]);
    let RecordBody::AgentProvider(sent) = &records[0].body else { unreachable!() };
    assert_eq!(found[1].body, *sent);
    assert_eq!(records[0].place(), ("agent_provider", "default.b".to_owned()));
}

#[tokio::test]
async fn writers_of_the_same_rows_do_not_lose_anything() {
    let store = memory().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let store = store.clone();
        tasks.spawn(async move {
            for from in (1..=200).step_by(10) {
                let rows = (from..from + 10).map(|seq| message(S1, seq, seq + writer)).collect();
                store.apply_messages(&batch(rows)).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let head = store.head(&SessionId::new(S1).unwrap()).await.unwrap().unwrap();
    assert_eq!((head.first_seq, head.last_seq), (1, 200));
    assert_eq!(store.count_messages(&head.session_id).await.unwrap(), 200);
}

#[tokio::test]
async fn a_clean_end_is_told_from_an_unclean_one() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::new(StoreLocation::Embedded(folder.path().join("store")));
    let first = Store::open(&config).await.unwrap();
    assert!(!first.unclean);
    first.store.apply_messages(&batch(vec![message(S1, 1, 1)])).await.unwrap();
    first.store.close().await.unwrap();
    let second = Store::open(&config).await.unwrap();
    assert!(!second.unclean);
    assert_eq!(second.store.count_messages(&SessionId::new(S1).unwrap()).await.unwrap(), 1);
    second.store.close().await.unwrap();
    std::fs::write(folder.path().join("store.unclean"), b"").unwrap();
    let third = Store::open(&config).await.unwrap();
    assert!(third.unclean);
    third.store.close().await.unwrap();
}
