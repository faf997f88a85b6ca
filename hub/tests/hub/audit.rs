//! The audit log as an outsider sees it: exported, checked, put back.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use testkit::Person;

use super::*;

/// What a file exported from the hub says of itself, signatures included.
fn verify(text: &str) -> AuditReport {
    let mut verifier = Verifier::new(|line| {
        let signature = URL_SAFE_NO_PAD.decode(&line.checkpoint.signature).unwrap();
        let key = nkeys::KeyPair::from_public_key(&line.checkpoint.key).unwrap();
        let holds = key.verify(&line.signed_bytes(), &signature).is_ok();
        if holds { SignatureCheck::Trusted } else { SignatureCheck::Bad }
    });
    text.lines().for_each(|line| verifier.push(AuditEntry::from_json(line).unwrap()));
    verifier.finish()
}

async fn export(person: &Person, format: &str) -> String {
    let path = format!("/api/mission-control/audit/export?format={format}");
    let answer = person.send(Method::GET, &path, None).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.unwrap()
}

async fn verified(person: &Person) -> Value {
    wait_until("all of it is verified", WAIT, async || {
        let page = person.get("/api/mission-control/audit?limit=500").await.unwrap();
        if page["verifiedTo"] == page["entries"][0]["n"] { Ok(page) } else { Err(page["verifiedTo"].clone()) }
    })
    .await
    .unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

#[tokio::test]
async fn an_exported_audit_log_proves_itself() {
    let stack = Stack::start().await;
    let (admin, observer) = (stack.sign_in("admin").await, stack.sign_in("observer").await);
    for _ in 0..40 {
        let body = json!({"confirm": "KILL ALL"});
        let refused = observer.send(Method::POST, "/api/mission-control/kill-all", Some(&body)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    }
    let refused = observer.send(Method::GET, "/api/mission-control/audit/export", None).await.unwrap();
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let wrong = admin.send(Method::GET, "/api/mission-control/audit/export?format=xml", None).await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);

    let log = admin.get("/api/mission-control/audit?action=refused&limit=500").await.unwrap();
    let rows = log["entries"].as_array().unwrap();
    assert_eq!(rows.len(), 30, "a flood of refusals is counted, not written");
    assert_eq!((&rows[0]["user"]["name"], &rows[0]["result"]), (&json!("OBSERVER"), &json!("refused")));
    assert_eq!(rows[0]["metadata"]["route"], "/api/mission-control/kill-all");

    let text = export(&admin, "jsonl").await;
    let report = verify(&text);
    assert_eq!((report.faults, report.unchained), (vec![], 0), "{text}");
    assert_eq!((report.signed_to, report.rows), (report.last, report.last), "signed to its last row");
    assert!(text.contains("exportAudit"), "that it was taken is in it");
    let page = verified(&admin).await;
    assert_eq!(page["entries"][0]["hash"].as_str().unwrap().len(), 64);
    assert!(text.contains(page["key"].as_str().unwrap()));

    let mut tampered: Vec<_> = text.lines().map(str::to_owned).collect();
    tampered[2] = tampered[2].replace("OBSERVER", "OPERATOR");
    let report = verify(&tampered.join("\n"));
    assert_eq!(report.faults.iter().map(|f| f.row).collect::<Vec<_>>(), [3]);

    let csv = export(&admin, "csv").await;
    assert!(csv.starts_with("n,timestamp,phase,action,result,user,"), "{csv}");
    assert_eq!(csv.lines().count() as u64, 1 + verify(&export(&admin, "jsonl").await).rows - 1);
}

#[tokio::test]
async fn a_store_of_yesterday_is_made_whole_and_told() {
    let mut stack = Stack::start().await;
    let admin = stack.sign_in("admin").await;
    verified(&admin).await;
    stack.stop_hub();
    let (store, kept) = (stack.dir.path().join("hub/store"), stack.dir.path().join("yesterday"));
    copy(&store, &kept);
    stack.start_hub().await;
    for _ in 0..5 {
        stack.sign_in("operator").await;
    }
    let admin = stack.sign_in("admin").await;
    let before = verified(&admin).await;
    stack.stop_hub();
    std::fs::remove_dir_all(&store).unwrap();
    copy(&kept, &store);
    stack.start_hub().await;
    let admin = stack.sign_in("admin").await;
    let after = verified(&admin).await;
    let rows = |page: &Value| page["entries"].as_array().unwrap().clone();
    let (before, after) = (rows(&before), rows(&after));
    assert!(after.ends_with(&before), "every row is back, as it was");
    assert_eq!(verify(&export(&admin, "jsonl").await).faults, vec![]);
}

#[tokio::test]
async fn an_outcome_that_comes_while_the_bus_is_away_is_written_once_it_is_back() {
    let mut stack = Stack::start().await;
    let node = stack.node("n1").await;
    let subject = Subject::Command(node.workspace.clone(), node.name.clone()).to_string();
    let mut commands = node.bus.client.subscribe(subject).await.unwrap();
    node.send_session(&node.session(S1, 1, "running")).await;
    let operator = stack.sign_in("operator").await;
    knows_session(&operator, S1).await;
    // The node has the command, and the bus goes away with its answer.
    let (path, asked) = (format!("/api/mission-control/sessions/{S1}/kill"), json!({}));
    let ((status, body), ()) = tokio::join!(async { operator.post(&path, asked).await.unwrap() }, async {
        commands.next().await.unwrap();
        stack.nats.kill9();
    });
    assert!(status >= 500, "{status} {body}");
    stack.nats.restart().unwrap();
    let rows = wait_until("the outcome is there", WAIT, async || {
        let page = operator.get("/api/mission-control/audit?action=kill").await.map_err(|e| e.to_string())?;
        let rows = page["entries"].as_array().unwrap().clone();
        if rows.len() > 1 { Ok(rows) } else { Err(page.to_string()) }
    })
    .await
    .unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["phase"], &rows[1]["phase"]),
        (2, &json!("outcome"), &json!("intent")),
        "{rows:?}"
    );
    assert_eq!(rows[0]["actionId"], rows[1]["actionId"]);
    let concluded = rows[0]["metadata"]["concludedAt"].as_str().unwrap();
    assert!(concluded <= rows[0]["timestamp"].as_str().unwrap(), "{rows:?}");
    let admin = stack.sign_in("admin").await;
    let report = verify(&export(&admin, "jsonl").await);
    assert_eq!((report.faults, report.unchained), (vec![], 0));
}
